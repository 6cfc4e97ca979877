//! Metadata: what does it cost to list many models?
//!
//! Ours reads each model's name, version and last update through `Store::list`, seals checked. LMDB and redb scan as
//! many rows of the same size and add their bytes up: they check nothing, decode nothing, and have no heads to follow.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use modelkeep::{ModelKey, NewModel, Store, admin::Filter};

use crate::{
    folder,
    model::{self},
    peers::{heed::Heed, redb},
    report::{Report, Wanted::AtMost, human_us},
    stats::{median, millis, quantile},
};

/// Bytes of each model's archive, about: this is not about archives.
const ARCHIVE_BYTES: usize = 160;
/// Rows of one transaction of a peer.
const BATCH: usize = 10_000;

#[derive(clap::Args)]
pub struct Arguments {
    /// Models, and rows of each peer
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rows: u32,
    /// Scans of everybody
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let rows = arguments.rows as usize;
    let path = folder.path().join("ours.redb");
    let row_bytes = publish(&path, rows)?;
    // Two files, since a store that is open for writing may not be open for reading as well.
    let writable = folder.path().join("ours_rw.redb");
    std::fs::copy(&path, &writable)?;
    eprintln!("writing {rows} rows of {row_bytes} bytes to each peer");
    let (heed, redb) = fill(folder.path(), rows, row_bytes)?;
    folder::settle();

    let ours = Store::options().create(false).read_only(true).open(&path)?;
    let ours_rw = Store::options().create(false).open(&writable)?;
    let scans: [(&str, &str, Scan<'_>); 4] = [
        ("ours", "opened read-only", Box::new(|| list(&ours, rows))),
        ("ours_rw", "opened for writing", Box::new(|| list(&ours_rw, rows))),
        ("heed", "LMDB, cursor over the map", Box::new(|| heed_scan(&heed, rows))),
        ("redb", "iterator", Box::new(|| redb_scan(&redb, rows))),
    ];
    let mut times = vec![Vec::new(); scans.len()];
    // The first round only fills caches.
    for round in 0..=arguments.samples {
        for ((_, _, scan), times) in scans.iter().zip(&mut times) {
            let started = Instant::now();
            std::hint::black_box(scan()?);
            if round > 0 {
                times.push(millis(started.elapsed()));
            }
        }
    }
    let mut report = Report::new("metadata", folder.path(), &["all rows", "median", "lowest", "p90", "per row"]);
    report.set("rows", rows);
    report.set("row_bytes", row_bytes);
    report.set("samples", arguments.samples);
    println!("{rows} rows; our metadata has {row_bytes} bytes a row on average, and so have the peers' rows");
    for ((name, explained, _), times) in scans.iter().zip(&times) {
        report.figure(format!("{name}_ms"), median(times));
        let mut row = vec![format!("{name}: {explained}")];
        let us = [median(times), quantile(times, 0.0), quantile(times, 0.9), median(times) / rows as f64];
        row.extend(us.map(|ms| human_us(ms * 1e3)));
        report.row(row);
    }
    report.ratio("ratio_heed", "ours_ms", "heed_ms", AtMost(4.0));
    report.ratio("ratio_rw_heed", "ours_rw_ms", "heed_ms", AtMost(4.0));
    report.print(arguments.json);
    Ok(())
}

/// Reads every row, and fails when there are not as many as there should be.
type Scan<'a> = Box<dyn Fn() -> Result<u64> + 'a>;

/// Publishes small models with a good deal of metadata; returns the average size of a stored row of it.
fn publish(path: &Path, rows: usize) -> Result<usize> {
    let store = Store::options().hot_bytes(0).open(path)?;
    for index in 0..rows {
        let mut trained = NewModel::new(model::mixed(ARCHIVE_BYTES, index as u64));
        for n in 0..8 {
            trained = trained.metric(format!("metric.{n}"), index as f64 + f64::from(n));
            trained = trained.tag(format!("tag.{n}"), format!("{index:0>72}"));
        }
        store.publish(&key(index)?, trained)?;
        if index % 5000 == 4999 {
            eprintln!("published {} of {rows}", index + 1);
        }
    }
    let usage = store.usage()?;
    let table = usage.tables.iter().find(|table| table.table == "metadata").context("a table of metadata")?;
    ensure!(table.rows == rows as u64, "{} rows of metadata, and not {rows}", table.rows);
    Ok((table.stored_bytes / table.rows) as usize)
}

/// A name of its own and a configuration of some length for each model.
fn key(index: usize) -> Result<ModelKey> {
    let symbols: Vec<String> = (0..52).map(|n| format!("S{:05}", index + n)).collect();
    Ok(ModelKey::new(&format!("model.{index:08}"), &symbols)?)
}

fn fill(folder: &Path, rows: usize, row_bytes: usize) -> Result<(Heed, ::redb::Database)> {
    let heed =
        Heed::create(&folder::make(folder.join("heed"))?, rows * row_bytes.next_multiple_of(4096) * 2 + (64 << 20))?;
    let redb = redb::create(&folder.join("peer.redb"))?;
    let keys: Vec<String> = (0..rows).map(|index| format!("model.{index:08}")).collect();
    // The key is a part of what our row takes.
    let value = |index: usize| vec![(index % 251) as u8; row_bytes.saturating_sub(14)];
    for (batch, keys) in keys.chunks(BATCH).enumerate() {
        let rows: Vec<(&str, Vec<u8>)> =
            keys.iter().enumerate().map(|(at, key)| (key.as_str(), value(batch * BATCH + at))).collect();
        heed.put(rows.iter().map(|(key, value)| (key.as_bytes(), value.as_slice())))?;
        redb::put(&redb, redb::Phases::One, rows.iter().map(|(key, value)| (*key, value.as_slice())))?;
    }
    Ok((heed, redb))
}

fn list(store: &Store, rows: usize) -> Result<u64> {
    let (mut count, mut sum) = (0, 0u64);
    for listed in store.list(Filter::all())? {
        let listed = listed?;
        let (version, name) = (listed.version().get(), listed.name().as_str().len() as u64);
        sum = sum.wrapping_add(version + name).wrapping_add(listed.last_updated().as_nanos() as u64);
        count += 1;
    }
    ensure!(count == rows, "{count} models listed, and not {rows}");
    Ok(sum)
}

fn heed_scan(heed: &Heed, rows: usize) -> Result<u64> {
    let (mut count, mut sum) = (0, 0u64);
    heed.scan(|value| {
        count += 1;
        sum = sum.wrapping_add(model::sum(value));
    })?;
    ensure!(count == rows, "{count} rows in LMDB, and not {rows}");
    Ok(sum)
}

fn redb_scan(db: &::redb::Database, rows: usize) -> Result<u64> {
    let (mut count, mut sum) = (0, 0u64);
    redb::scan(db, |value| {
        count += 1;
        sum = sum.wrapping_add(model::sum(value));
    })?;
    ensure!(count == rows, "{count} rows in redb, and not {rows}");
    Ok(sum)
}
