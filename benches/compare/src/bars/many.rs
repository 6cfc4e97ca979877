//! A whole market of daily bars in one store: what does it take on the disk, and what does one more day of it cost?
//!
//! Every symbol has a chunk of its own, of some kilobytes, so this is about many small values where the other sets are
//! about few large ones.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use modelkeep::{
    Store, Symbol,
    market::{Bars, Timeframe},
};

use super::{
    generate,
    measure::{Figures, Stored},
};
use crate::{folder, stats::median};

/// Days of every symbol: two years of them and one more.
pub const DAYS: usize = 501;
/// Days that are appended, one after the other: symbol by symbol, and as many again all at once.
const APPENDED: usize = 3;

/// The last day of every symbol, as it is appended.
type Day = Vec<(String, Bars)>;

/// Measures so many symbols in an empty folder.
pub fn market(symbols: u32, folder: &Path) -> Result<Figures> {
    let all = generate::days(symbols, DAYS)?;
    let path = folder.join("market.redb");
    let store = Store::open(&path)?;
    for (symbol, bars) in &all {
        store.bars(symbol, Timeframe::DAY)?.write(&bars.slice(0..DAYS - 2 * APPENDED))?;
    }
    folder::settle();
    let (mut each, mut many) = (Vec::new(), Vec::new());
    for row in DAYS - 2 * APPENDED..DAYS {
        let day: Day = all.iter().map(|(symbol, bars)| (symbol.clone(), bars.slice(row..row + 1))).collect();
        if row < DAYS - APPENDED {
            each.push(append(&store, &day, one_by_one)?.as_secs_f64() * 1e3);
        } else {
            many.push(append(&store, &day, all_at_once)?.as_secs_f64() * 1e3);
        }
    }
    for (symbol, bars) in &all {
        let span = super::set::Series { symbol: symbol.clone(), bars: bars.clone() }.span()?;
        let found = store.bars(symbol, Timeframe::DAY)?.range(span)?;
        ensure!(found == *bars, "{symbol}: what was appended is not what is read");
    }
    let stored = Stored::of(&store)?;
    drop(store);
    let mut figures = Figures::new();
    figures.insert("append_each_ms".into(), median(&each));
    figures.insert("append_many_ms".into(), median(&many));
    figures.insert("bytes_per_bar".into(), stored.bytes as f64 / stored.rows as f64);
    stored.on_disk(&path, &mut figures)?;
    Ok(figures)
}

/// How long `write` takes to append a day for good.
fn append(store: &Store, day: &Day, write: impl Fn(&Store, &Day) -> Result<u64>) -> Result<Duration> {
    let started = Instant::now();
    let added = write(store, day)?;
    let took = started.elapsed();
    ensure!(added == day.len() as u64, "{added} of {} bars were added", day.len());
    Ok(took)
}

/// One durable write for all symbols.
fn all_at_once(store: &Store, day: &Day) -> Result<u64> {
    let rows = day.iter().map(|(symbol, bars)| Ok((Symbol::new(symbol)?, bars.clone()))).collect::<Result<Vec<_>>>()?;
    let written = store.write_many(Timeframe::DAY, &rows)?;
    Ok(written.iter().map(|written| written.added).sum())
}

/// A durable write for each symbol.
fn one_by_one(store: &Store, day: &Day) -> Result<u64> {
    let mut added = 0;
    for (symbol, bars) in day {
        let written = store.bars(symbol, Timeframe::DAY)?.write(bars);
        added += written.with_context(|| format!("{symbol} cannot be appended to"))?.added;
    }
    Ok(added)
}
