//! A folder of pickles of numpy arrays, loaded by Python: skipped where there is no Python with numpy.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub const EXPLAINED: &str = "Python, a pickle of numpy arrays each, one thread, nothing verified";

const SCRIPT: &str = include_str!("pickles.py");

/// A folder of pickles.
pub struct Pickles {
    folder: PathBuf,
    models: usize,
    versions: Value,
}

/// Makes a folder of pickles; says why there is none.
pub fn prepare(folder: &Path, models: usize, bytes: usize) -> Result<Result<Pickles, &'static str>> {
    let Ok(version) = python(&["versions"]).output() else {
        return Ok(Err("there is no python3"));
    };
    if !version.status.success() {
        return Ok(Err("python3 has no numpy"));
    }
    let versions = serde_json::from_slice(&version.stdout).context("python3 said something else than its versions")?;
    let folder = crate::folder::make(folder.join("pickles"))?;
    call(&["write", text(&folder)?, &models.to_string(), &bytes.to_string()])?;
    eprintln!("prepared {models} pickles");
    Ok(Ok(Pickles { folder, models, versions }))
}

impl Pickles {
    /// Loads all of them in a fresh process, and returns the microseconds that took.
    pub fn load(&self) -> Result<f64> {
        let printed = call(&["load", text(&self.folder)?, &self.models.to_string()])?;
        let (seconds, loaded) = printed.trim().split_once(' ').context("python3 printed something else")?;
        ensure!(loaded.parse::<usize>()? == self.models, "python3 loaded {loaded} of {} pickles", self.models);
        Ok(seconds.parse::<f64>()? * 1e6)
    }

    /// The versions of Python and numpy.
    pub fn versions(&self) -> Value {
        self.versions.clone()
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the folder has a name that is no text")
}

fn python(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]).args(arguments);
    command
}

fn call(arguments: &[&str]) -> Result<String> {
    let output = python(arguments).output().context("python3 cannot be run")?;
    ensure!(output.status.success(), "python3 failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}
