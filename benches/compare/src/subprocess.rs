//! This program in a process of its own, for one part of a measurement, and the names of the parts.

use std::{ffi::OsStr, process::Command};

use anyhow::{Result, bail};
use clap::ValueEnum;

/// Runs a subcommand of this program in a fresh process, and returns what it printed. `what` names it when it fails.
pub fn run<A: AsRef<OsStr>>(what: &str, arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    if !output.status.success() {
        bail!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One of several ways to do the same, as an argument of a child.
pub trait Named: ValueEnum {
    /// The name in arguments and in JSON.
    fn name(&self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it does, for the table.
    fn explained(&self) -> String {
        self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }
}

impl<T: ValueEnum> Named for T {}
