//! Bars: what do bars of prices and volumes take on the disk, and what does it cost to read them and to append a day,
//! beside Parquet?
//!
//! Data sets are CSV files of real bars, one symbol each, and minutes of made-up stocks (see [`generate`]). A read is
//! of all bars of a file, or of a symbol and year of the generated set, into one vector for each column, on one core,
//! from a store that is open and files that are in the OS cache. Ours checks the seal of every chunk, and Parquet no
//! checksum. An append is durable when it returns: ours is one write of the new rows, after which the last chunk, which
//! is as full as it gets at the end of a month, has been encoded again. Parquet's is the file of the symbol (of the
//! generated set: of its last year) read, encoded with the new rows, synced, and renamed.

mod generate;
mod many;
mod measure;
mod parquet;
mod set;
pub mod stream;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value};

use self::{
    measure::Figures,
    set::{Kind, Set},
};
use crate::{
    folder,
    report::{
        Report,
        Wanted::{AtLeast, AtMost},
        human_us, rounded,
    },
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The folder with intraday/*.csv and daily/*.csv; a name like `MSFT_5min` says the timeframe
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data"))]
    data: PathBuf,
    /// Symbols of the generated set
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1000))]
    symbols: u32,
    /// Years of the generated set
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=15))]
    years: u16,
    /// Reads and appends of everybody that are measured
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=200))]
    samples: u32,
    /// Symbols that have two years of daily bars in one store; 0 leaves that out
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    market: u32,
    /// Write Parquet at its smallest, too: timestamps as deltas, doubles by streams of bytes, zstd of level 19
    #[arg(long)]
    reference: bool,
    /// Where the stores and the Parquet files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// The columns of the table and the figures in them.
const COLUMNS: [(&str, &str); 10] = [
    ("B/bar", "bytes_per_bar"),
    ("packed", "packed_bytes_per_bar"),
    ("pco", "pco_bytes_per_bar"),
    ("Parquet", "parquet_bytes_per_bar"),
    ("reference", "reference_bytes_per_bar"),
    ("read", "read_us"),
    ("Parquet", "parquet_read_us"),
    ("reference", "reference_read_us"),
    ("append", "append_us"),
    ("Parquet", "parquet_append_us"),
];

/// What the generated set has besides, and what it is called.
const BESIDES: [(&str, &str); 7] = [
    ("the whole file, as allocated", "file_bytes_per_bar"),
    ("allocated for a byte of chunks", "allocated_per_chunk_byte"),
    ("length of the file for a byte of chunks", "length_per_chunk_byte"),
    ("a read, packed", "packed_read_us"),
    ("a read, pco", "pco_read_us"),
    ("Parquet with timestamps as deltas", "parquet_delta_bytes_per_bar"),
    ("a read of it", "parquet_delta_read_us"),
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let mut sets = set::files(&arguments.data)?;
    eprintln!("generating {} symbols", arguments.symbols);
    sets.push(generate::thin(4)?);
    sets.push(generate::set(arguments.symbols, arguments.years)?);

    let mut header = vec!["data set", "rows"];
    header.extend(COLUMNS.map(|(title, _)| title));
    let mut report = Report::new("bars", folder.path(), &header);
    report.set("symbols", arguments.symbols);
    report.set("years", arguments.years);
    report.set("samples", arguments.samples);
    let mut all = Map::new();
    for set in sets {
        eprintln!("measuring {}", set.name);
        let figures = measured(&set, folder.path(), arguments)?;
        let mut row = vec![set.name.clone(), set.rows().to_string()];
        row.extend(COLUMNS.map(|(_, key)| shown(&figures, key)));
        report.row(row);
        all.insert(set.name.clone(), object(&set, &figures));
        judge(&mut report, &set, &figures);
    }
    report.set("sets", all);
    if arguments.market > 0 {
        eprintln!("measuring {} symbols of daily bars", arguments.market);
        let folder = folder::temporary(Some(folder.path()))?;
        let figures = many::market(arguments.market, folder.path())?;
        report_market(&mut report, arguments.market, &figures);
    }
    report.print(arguments.json);
    Ok(())
}

/// A market of daily bars: its figures in the JSON object have names of their own.
fn report_market(report: &mut Report, symbols: u32, figures: &Figures) {
    println!("{symbols} symbols of {} daily bars:", many::DAYS);
    report.set("market_symbols", symbols);
    for (key, value) in figures {
        println!("  {key}: {value:.2}");
        report.figure(if key.starts_with("append_") { key.clone() } else { format!("market.{key}") }, *value);
    }
    report.bound("market.allocated_per_chunk_byte", AtMost(1.25));
    report.bound("market.length_per_chunk_byte", AtMost(1.6));
}

/// Measures a set in a folder that is removed behind it.
fn measured(set: &Set, parent: &Path, arguments: &Arguments) -> Result<Figures> {
    let folder = folder::temporary(Some(parent))?;
    let figures = measure::set(set, folder.path(), arguments.samples, arguments.reference)?;
    if set.kind == Kind::Generated {
        let besides = BESIDES.map(|(title, key)| format!("{title}: {}", shown(&figures, key)));
        println!("{}: {}", set.name, besides.join("; "));
    }
    Ok(figures)
}

/// A figure as people read it, with its unit where the title of its column does not say it.
fn shown(figures: &Figures, key: &str) -> String {
    match figures.get(key) {
        None => "-".into(),
        Some(us) if key.ends_with("_us") => human_us(*us),
        Some(bytes) => format!("{bytes:.2}"),
    }
}

/// The figures of a set for the JSON object. What Parquet does with other settings than its defaults is not among them.
fn object(set: &Set, figures: &Figures) -> Value {
    let mut object = Map::new();
    object.insert("rows".into(), set.rows().into());
    let figures = figures.iter().filter(|(key, _)| !key.starts_with("parquet_delta_"));
    object.extend(figures.map(|(key, value)| (key.clone(), rounded(*value).into())));
    object.into()
}

/// Judges a set. What is judged, and what is not among the figures of every set, stands in the JSON object by itself.
fn judge(report: &mut Report, set: &Set, figures: &Figures) {
    let name = &set.name;
    let put = |report: &mut Report, key: &str| {
        let flat = format!("{name}.{key}");
        if let Some(value) = figures.get(key) {
            report.figure(&flat, *value);
        }
        flat
    };
    let (bytes, parquet) = (put(report, "bytes_per_bar"), put(report, "parquet_bytes_per_bar"));
    let wanted = match set.kind {
        Kind::Generated => 0.25,
        Kind::Intraday => 0.4,
        Kind::Daily => 0.45,
    };
    if set.kind == Kind::Generated {
        let (read, parquet_read, append) =
            (put(report, "read_us"), put(report, "parquet_read_us"), put(report, "append_us"));
        put(report, "parquet_delta_bytes_per_bar");
        put(report, "parquet_delta_read_us");
        report.ratio("ratio_read_generated", &parquet_read, &read, AtLeast(6.0));
        report.bound(&append, AtMost(3000.0));
        for (key, wanted) in [("allocated_per_chunk_byte", 1.25), ("length_per_chunk_byte", 1.6)] {
            let flat = put(report, key);
            report.bound(&flat, AtMost(wanted));
        }
    }
    report.ratio(&format!("ratio_bytes_{name}"), &bytes, &parquet, AtMost(wanted));
    if figures.contains_key("reference_bytes_per_bar") && set.kind != Kind::Daily {
        let reference = put(report, "reference_bytes_per_bar");
        report.ratio(&format!("ratio_reference_{name}"), &bytes, &reference, AtMost(1.0));
    }
    if set.kind == Kind::Daily {
        let (append, parquet_append) = (put(report, "append_us"), put(report, "parquet_append_us"));
        report.ratio(&format!("ratio_append_{name}"), &append, &parquet_append, AtMost(1.0));
    }
}
