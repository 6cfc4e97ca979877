//! What is measured of one data set: bytes, reads and appends, of ours and of Parquet.
//!
//! Everything that is read, inside the clock or outside, is compared with the bars that were given, bit for bit.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use modelkeep::{
    Store,
    market::{BarCodec, Bars},
};

use super::{
    parquet::{self, Columns, Form, Reader},
    set::{Kind, Series, Set},
};
use crate::{affinity, folder, stats::median};

/// Figures by name.
pub type Figures = BTreeMap<String, f64>;

/// A way to keep the set: the prefix of its figures, how many bytes it takes, and how a piece is read.
struct Way<'a> {
    prefix: &'static str,
    bytes: u64,
    read: Box<dyn Fn(usize) -> Result<Read> + Send + Sync + 'a>,
}

/// What was read, in the vectors that it was read into.
enum Read {
    Ours(Bars),
    Parquet(Columns),
}

impl Read {
    fn is(&self, bars: &Bars) -> bool {
        match self {
            Self::Ours(found) => found == bars,
            Self::Parquet(found) => found.are(bars),
        }
    }
}

/// The ways of which reads are a figure of every set; the others are of the generated one.
const READ_EVERYWHERE: [&str; 3] = ["", "parquet_", "reference_"];

/// Measures the set in an empty folder.
pub fn set(set: &Set, folder: &Path, samples: u32, with_reference: bool) -> Result<Figures> {
    let mut figures = Figures::new();
    let is_generated = set.kind == Kind::Generated;
    let pieces: Vec<Series> = set.series.iter().flat_map(|series| set.pieces(series)).collect();
    let store = folder.join("auto.redb");
    let mut ways = vec![
        ours(set, &pieces, &store, "", BarCodec::Auto)?,
        ours(set, &pieces, &folder.join("packed.redb"), "packed_", BarCodec::Packed)?,
        ours(set, &pieces, &folder.join("pco.redb"), "pco_", BarCodec::Pco)?,
        in_parquet(&pieces, &folder::make(folder.join("parquet"))?, "parquet_", Form::Default)?,
    ];
    if is_generated {
        ways.push(in_parquet(&pieces, &folder::make(folder.join("delta"))?, "parquet_delta_", Form::Deltas)?);
    }
    if with_reference {
        ways.push(in_parquet(&pieces, &folder::make(folder.join("reference"))?, "reference_", Form::Reference)?);
    }
    folder::settle();
    let times = reads(set, &ways, &pieces, samples)?;
    let chunk_bytes = ways.first().map_or(0, |way| way.bytes);
    for (way, times) in ways.iter().zip(times) {
        figures.insert(format!("{}bytes_per_bar", way.prefix), way.bytes as f64 / set.rows() as f64);
        if is_generated || READ_EVERYWHERE.contains(&way.prefix) {
            figures.insert(format!("{}read_us", way.prefix), median(&times));
        }
    }
    // The store is closed, and has given back what it does not need.
    drop(ways);
    if is_generated {
        Stored { bytes: chunk_bytes, rows: set.rows() }.on_disk(&store, &mut figures)?;
        figures.insert("file_bytes_per_bar".into(), folder::allocated(&store)? as f64 / set.rows() as f64);
    }
    let (ours, parquet) = appends(set, &folder::make(folder.join("append"))?, samples)?;
    figures.insert("append_us".into(), median(&ours));
    figures.insert("parquet_append_us".into(), median(&parquet));
    Ok(figures)
}

/// What the chunks of a store take.
pub struct Stored {
    pub bytes: u64,
    pub rows: u64,
}

impl Stored {
    pub fn of(store: &Store) -> Result<Self> {
        let mut stored = Self { bytes: 0, rows: 0 };
        for (_, summary) in store.bar_series()? {
            let summary = summary?;
            stored.bytes += summary.stored_bytes;
            stored.rows += summary.bars;
        }
        Ok(stored)
    }

    /// What the file at `path`, which is closed, takes for each byte of the chunks.
    pub fn on_disk(&self, path: &Path, figures: &mut Figures) -> Result<()> {
        let per_byte = |bytes: u64| bytes as f64 / self.bytes as f64;
        figures.insert("allocated_per_chunk_byte".into(), per_byte(folder::allocated(path)?));
        figures.insert("length_per_chunk_byte".into(), per_byte(fs::metadata(path)?.len()));
        Ok(())
    }
}

/// One file for the whole set, and one write for each symbol.
fn ours<'a>(set: &'a Set, pieces: &'a [Series], path: &Path, prefix: &'static str, codec: BarCodec) -> Result<Way<'a>> {
    // From the file each time, as everybody else.
    let store = Store::options().bar_codec(codec).market_memory(0).open(path)?;
    for series in &set.series {
        store.bars(&series.symbol, set.timeframe)?.write(&series.bars)?;
    }
    let Stored { bytes, rows } = Stored::of(&store)?;
    ensure!(rows == set.rows(), "{rows} bars of {} are in the store", set.rows());
    let read = move |piece: usize| {
        let piece = pieces.get(piece).context("a piece")?;
        Ok(Read::Ours(store.bars(&piece.symbol, set.timeframe)?.range(piece.span()?)?))
    };
    Ok(Way { prefix, bytes, read: Box::new(read) })
}

/// A file for each piece, so that only what is needed is read.
fn in_parquet<'a>(pieces: &[Series], folder: &Path, prefix: &'static str, form: Form) -> Result<Way<'a>> {
    let (mut bytes, mut readers) = (0, Vec::new());
    for (index, piece) in pieces.iter().enumerate() {
        let path = folder.join(format!("{index}.parquet"));
        let encoded = parquet::encode(&Columns::of(&piece.bars), form)?;
        fs::write(&path, &encoded)?;
        bytes += encoded.len() as u64;
        readers.push(Reader::open(&path)?);
    }
    let read = move |piece: usize| Ok(Read::Parquet(readers.get(piece).context("a piece")?.read()?));
    Ok(Way { prefix, bytes, read: Box::new(read) })
}

/// Microseconds of each read, by way. One thread on one core reads; the ways take turns to go first.
fn reads(set: &Set, ways: &[Way<'_>], pieces: &[Series], samples: u32) -> Result<Vec<Vec<f64>>> {
    let core = *affinity::cores()?.last().context("there is a core")?;
    // From one sample to the next another symbol, and another year.
    let stride = pieces.len() / set.series.len() + 1;
    let measure = || {
        affinity::pin(core)?;
        let mut times = vec![Vec::new(); ways.len()];
        for round in 0..=samples as usize {
            let piece = round * stride % pieces.len();
            let order = ways.iter().zip(0..).cycle().skip(round % ways.len()).take(ways.len());
            for (way, index) in order {
                let took = read(way, piece, pieces)?;
                // The first round only warms up.
                if let Some(times) = times.get_mut(index).filter(|_: &&mut Vec<f64>| round > 0) {
                    times.push(micros(took));
                }
            }
        }
        Ok(times)
    };
    let times = thread::scope(|scope| scope.spawn(measure).join().unwrap_or_else(|_| bail!("a read panicked")))?;
    // What no sample has read is read and compared as well.
    for way in ways {
        for piece in 0..pieces.len() {
            read(way, piece, pieces)?;
        }
    }
    Ok(times)
}

/// Reads a piece, compares it, and returns how long the reading took.
fn read(way: &Way<'_>, piece: usize, pieces: &[Series]) -> Result<Duration> {
    let started = Instant::now();
    let found = (way.read)(piece)?;
    let took = started.elapsed();
    let expected = pieces.get(piece).context("a piece")?;
    ensure!(found.is(&expected.bars), "{}{}: what was read is not what was written", way.prefix, expected.symbol);
    Ok(took)
}

/// A series that one more day is appended to.
struct Appending {
    whole: Series,
    /// Our rows of that day.
    day: Bars,
    /// The Parquet file of the last piece, and what will be in it.
    file: PathBuf,
    last: Bars,
}

/// Microseconds of each durable append, ours and in Parquet: every sample has a series of its own.
fn appends(set: &Set, folder: &Path, samples: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    let store = Store::open(folder.join("append.redb"))?;
    let mut series = Vec::new();
    for (index, copied) in set.series.iter().cycle().take(samples as usize + 1).enumerate() {
        let appended = set.appended(copied);
        let before = |bars: &Bars| bars.slice(0..bars.len().saturating_sub(appended));
        let whole = Series { symbol: format!("{}.{index}", copied.symbol), bars: copied.bars.clone() };
        let last = set.pieces(copied).pop().context("there are bars")?.bars;
        ensure!(last.len() > appended, "{} has no more than one day", set.name);
        let file = folder.join(format!("{index}.parquet"));
        store.bars(&whole.symbol, set.timeframe)?.write(&before(&whole.bars))?;
        fs::write(&file, parquet::encode(&Columns::of(&before(&last)), Form::Default)?)?;
        let day = whole.bars.slice(whole.bars.len() - appended..whole.bars.len());
        series.push(Appending { whole, day, file, last });
    }
    folder::settle();
    let (mut ours, mut in_parquet) = (Vec::new(), Vec::new());
    for (round, appending) in series.iter().enumerate() {
        let ours_first = round % 2 == 0;
        for is_ours in [ours_first, !ours_first] {
            let took = if is_ours { append(&store, set, appending)? } else { append_in_parquet(appending)? };
            if round > 0 {
                if is_ours { &mut ours } else { &mut in_parquet }.push(micros(took));
            }
        }
    }
    for Appending { whole, file, last, .. } in &series {
        let found = store.bars(&whole.symbol, set.timeframe)?.range(whole.span()?)?;
        ensure!(found == whole.bars, "{}: what was appended is not what is read", whole.symbol);
        ensure!(Reader::open(file)?.read()?.are(last), "{}: Parquet reads other bars", whole.symbol);
    }
    Ok((ours, in_parquet))
}

fn append(store: &Store, set: &Set, appending: &Appending) -> Result<Duration> {
    let bars = store.bars(&appending.whole.symbol, set.timeframe)?;
    let started = Instant::now();
    let written = bars.write(&appending.day)?;
    let took = started.elapsed();
    ensure!(written.added == appending.day.len() as u64, "{}: {written:?}", appending.whole.symbol);
    Ok(took)
}

fn append_in_parquet(appending: &Appending) -> Result<Duration> {
    let day = Columns::of(&appending.day);
    let started = Instant::now();
    parquet::append(&appending.file, &day)?;
    Ok(started.elapsed())
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
