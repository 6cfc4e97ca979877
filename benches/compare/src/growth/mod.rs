//! Growth: how do time and memory of each operation grow with what is stored?
//!
//! Five things grow, each by two steps of ten: models, rows of metadata, the file, one model, versions of one key.
//! Nothing is held in the memory tier. An exponent says how a time grows over the last step: 0 not at all, 1 in
//! proportion.

mod axes;
mod meter;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Map, Value, json};

use self::meter::{Meter, Operation};
use crate::{
    folder,
    report::{Report, Wanted::AtMost, human_bytes, human_us, rounded},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// 100,000 models, 1,000,000 rows, a file of 20 GB, a model of 2 GB, 10,000 versions: needs as much room on the disk
    #[arg(long, conflicts_with_all = ["models", "rows", "file_mb", "model_mb", "versions"])]
    full: bool,
    /// Models of the largest store of many models
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    models: u32,
    /// Rows of metadata of the largest store of ten versions of each model
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    rows: u32,
    /// Megabytes of the largest file
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    file_mb: u32,
    /// Megabytes of the largest model
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    model_mb: u32,
    /// Versions of the key that has the most
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    versions: u32,
    /// Measure this alone
    #[arg(long, value_parser = axes::NAMES)]
    only: Option<String>,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The largest size of each axis, in the order of [`axes::AXES`].
    fn largest(&self) -> [u32; 5] {
        if self.full {
            return [100_000, 1_000_000, 20_000, 2000, 10_000];
        }
        [self.models, self.rows, self.file_mb, self.model_mb, self.versions]
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let header = ["operation", "at 1/100", "at 1/10", "at 1", "exponent", "memory 1/100", "memory 1/10", "memory 1"];
    let mut report = Report::new("growth", folder.path(), &header);
    let (mut series, mut bounds) = (Map::new(), Vec::new());
    for (axis, largest) in axes::AXES.iter().zip(arguments.largest()) {
        if arguments.only.as_ref().is_some_and(|only| only != axis.name) {
            continue;
        }
        let mut meter = Meter::default();
        for share in [100, 10, 1] {
            let size = (largest / share).max(1);
            eprintln!("{}: {size} {}", axis.name, axis.unit);
            meter.at(size.into());
            let folder = folder::make(folder.path().join(axis.name))?;
            (axis.measure)(&folder, size, &mut meter)?;
            // The next one is ten times as large.
            std::fs::remove_dir_all(&folder)?;
            folder::settle();
        }
        report.set(format!("{}_largest", axis.name), largest);
        for operation in meter.operations() {
            let name = format!("{}/{}", axis.name, operation.name);
            report.row(row(&name, operation));
            let key = format!("{}_{}_exponent", axis.name, operation.name);
            if let Some(exponent) = operation.exponent() {
                report.figure(&key, exponent);
                bounds.push(key);
            }
            let points = operation.points.iter().map(|point| json!([point.size, rounded(point.us), point.memory]));
            series.insert(name, points.collect());
        }
    }
    report.set("series", Value::Object(series));
    for key in bounds {
        report.bound(&key, AtMost(1.15));
    }
    report.print(arguments.json);
    Ok(())
}

fn row(name: &str, operation: &Operation) -> Vec<String> {
    let cells = |show: &dyn Fn(&meter::Point) -> String| -> Vec<String> {
        (0..3).map(|n| operation.points.get(n).map_or_else(|| "-".to_owned(), show)).collect()
    };
    let mut row = vec![name.to_owned()];
    row.extend(cells(&|point| human_us(point.us)));
    row.push(operation.exponent().map_or_else(|| "-".to_owned(), |exponent| format!("{exponent:.2}")));
    row.extend(cells(&|point| human_bytes(point.memory)));
    row
}
