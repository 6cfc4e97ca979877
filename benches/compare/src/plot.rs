//! Plot: draws the results as SVG.

use std::path::PathBuf;

use anyhow::Result;

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long)]
    out: PathBuf,
}

pub fn run(_: &Arguments) -> Result<()> {
    Ok(())
}
