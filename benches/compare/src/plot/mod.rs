//! Plot: draws the results of `cold`, `hot` and `growth` as SVG.
//!
//! Reads what those subcommands printed with `--json`; figures that are not there are not drawn.

mod bars;
mod canvas;
mod cold;
mod growth;
mod lines;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("results").required(true).multiple(true)))]
pub struct Arguments {
    /// What `cold --sizes 1,5,20,50 --json` printed; becomes cold.svg
    #[arg(long, group = "results")]
    cold: Option<PathBuf>,
    /// What `hot --json` printed; becomes hot.svg
    #[arg(long, group = "results")]
    hot: Option<PathBuf>,
    /// What `growth --json` printed; becomes growth.svg
    #[arg(long, group = "results")]
    growth: Option<PathBuf>,
    /// The folder for the pictures
    #[arg(long)]
    out: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.out.is_dir() {
        bail!("{} is not a folder", arguments.out.display());
    }
    if let Some(path) = &arguments.cold {
        let to = arguments.out.join("cold.svg");
        lines::draw(&cold::chart(&result(path, "cold")?), &to)?;
        println!("{}", to.display());
    }
    if let Some(path) = &arguments.hot {
        let to = arguments.out.join("hot.svg");
        bars::draw(&result(path, "hot")?, &to)?;
        println!("{}", to.display());
    }
    if let Some(path) = &arguments.growth {
        let to = arguments.out.join("growth.svg");
        lines::draw(&growth::chart(&result(path, "growth")?), &to)?;
        println!("{}", to.display());
    }
    Ok(())
}

/// Reads the JSON object on the last line of what a subcommand printed.
fn result(path: &Path, command: &str) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let value: Value =
        serde_json::from_str(last).with_context(|| format!("the last line of {} is not JSON", path.display()))?;
    match value.get("command").and_then(Value::as_str) {
        Some(found) if found == command => Ok(value),
        found => bail!("{} is a result of {}, and not of {command}", path.display(), found.unwrap_or("nothing known")),
    }
}

/// The machine and what else a reader must know, on one line.
fn subtitle(result: &Value, rest: &str) -> String {
    let fact = |name: &str| match result.get("machine").and_then(|machine| machine.get(name)) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    };
    let kernel: String = fact("kernel").split(['.', '-']).take(2).collect::<Vec<_>>().join(".");
    format!("{rest}. {} cores of {}, Linux {kernel}", fact("cores"), fact("cpu"))
}
