//! Data sets: series of bars, read from CSV files or generated.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use modelkeep::{
    Day, Interval, Timestamp,
    market::{Bar, Bars, Timeframe},
};

/// One data set.
pub struct Set {
    pub name: String,
    pub kind: Kind,
    pub timeframe: Timeframe,
    pub series: Vec<Series>,
}

/// Where the bars of a set come from, which says what is read and appended at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Generated,
    Intraday,
    Daily,
}

/// Bars of one symbol: all of them, or a piece.
#[derive(Clone)]
pub struct Series {
    pub symbol: String,
    pub bars: Bars,
}

impl Series {
    /// From the first bar to just behind the last.
    pub fn span(&self) -> Result<Interval<Timestamp>> {
        let (first, last) = self.bars.get(0).zip(self.bars.last()).context("there are bars")?;
        Ok(Interval::new(first.at, Timestamp::from_nanos(last.at.as_nanos() + 1))?)
    }

    /// How many bars, counted from the last, have what `of` finds in common with it.
    fn last_with<T: PartialEq>(&self, of: impl Fn(Timestamp) -> T) -> usize {
        let last = self.bars.last().map(|bar| of(bar.at));
        self.bars.timestamps().iter().rev().take_while(|at| Some(of(**at)) == last).count()
    }

    fn slice(&self, rows: std::ops::Range<usize>) -> Self {
        Self { symbol: self.symbol.clone(), bars: self.bars.slice(rows) }
    }
}

impl Set {
    pub fn rows(&self) -> u64 {
        self.series.iter().map(|series| series.bars.len() as u64).sum()
    }

    /// What is read at once, and what a Parquet file of its own holds, in order: a year of a symbol of the generated
    /// set, and all bars of a file.
    pub fn pieces(&self, series: &Series) -> Vec<Series> {
        let mut pieces = Vec::new();
        let mut rest = series.clone();
        while !rest.bars.is_empty() {
            let rows = match self.kind {
                Kind::Generated => rest.last_with(|at| at.day().year()),
                Kind::Intraday | Kind::Daily => rest.bars.len(),
            };
            let start = rest.bars.len() - rows;
            pieces.push(rest.slice(start..rest.bars.len()));
            rest = rest.slice(0..start);
        }
        pieces.reverse();
        pieces
    }

    /// How many bars one more day brings: those of the last day, or, of daily bars, the last hundredth.
    pub fn appended(&self, series: &Series) -> usize {
        match self.kind {
            Kind::Generated | Kind::Intraday => series.last_with(Timestamp::day),
            Kind::Daily => (series.bars.len() / 100).max(1),
        }
    }
}

/// The files of `folder`: `intraday/*.csv` and `daily/*.csv`, in order of their names.
pub fn files(folder: &Path) -> Result<Vec<Set>> {
    let mut sets = Vec::new();
    for (name, kind) in [("intraday", Kind::Intraday), ("daily", Kind::Daily)] {
        let inside = folder.join(name);
        if !inside.is_dir() {
            continue;
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(&inside)? {
            paths.push(entry?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
        paths.sort();
        for path in paths {
            sets.push(read(&path, name, kind)?);
        }
    }
    ensure!(!sets.is_empty(), "{} has neither intraday/*.csv nor daily/*.csv", folder.display());
    Ok(sets)
}

fn read(path: &Path, folder: &str, kind: Kind) -> Result<Set> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).context("a file name is text")?;
    let (symbol, timeframe) = match kind {
        Kind::Daily => (stem.to_owned(), Timeframe::DAY),
        Kind::Generated | Kind::Intraday => named(stem)?,
    };
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let bars = parse(&text).with_context(|| format!("{} is not as expected", path.display()))?;
    Ok(Set { name: format!("{folder}/{stem}"), kind, timeframe, series: vec![Series { symbol, bars }] })
}

/// The symbol and the timeframe that a name like `MSFT_15min` is made of.
fn named(stem: &str) -> Result<(String, Timeframe)> {
    let (symbol, timeframe) =
        stem.rsplit_once('_').with_context(|| format!("{stem} is not a symbol, an underscore and a timeframe"))?;
    Ok((symbol.to_owned(), timeframe.replace("min", "m").parse()?))
}

/// Reads the rows of a file by itself: what the store reads is compared with this.
fn parse(text: &str) -> Result<Bars> {
    let mut lines = text.lines().enumerate();
    match lines.next() {
        Some((_, "timestamp,open,high,low,close,volume" | "date,open,high,low,close,volume")) => {}
        _ => bail!("the first line must name a timestamp or date, open, high, low, close and volume"),
    }
    lines.map(|(at, line)| bar(line).with_context(|| format!("line {}", at + 1))).collect()
}

fn bar(line: &str) -> Result<Bar> {
    let (at, values) = line.split_once(',').context("there is no comma")?;
    let at = match at.parse::<Day>() {
        Ok(day) => day.start(),
        Err(_) => at.parse()?,
    };
    let values = values.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let [open, high, low, close, volume] = *values.as_slice() else { bail!("{} values, and not 5", values.len()) };
    Ok(Bar { at, open, high, low, close, volume })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let (symbol, timeframe) = named("BTC-USD_15min").unwrap();
        assert_eq!((symbol.as_str(), timeframe), ("BTC-USD", Timeframe::minutes(15).unwrap()));
        assert_eq!(named("9988.HK_1h").unwrap().1, Timeframe::HOUR);
        assert!(named("MSFT").is_err());
    }

    #[test]
    fn rows_are_read_and_bad_ones_named() {
        let header = "timestamp,open,high,low,close,volume\n";
        let bars = parse(&format!("{header}2022-05-18T16:00:00Z,256.88,257.08,256.86,257.035,36494\n")).unwrap();
        assert_eq!((bars.len(), bars.close(), bars.volume()), (1, &[257.035][..], &[36494.0][..]));
        let err = parse(&format!("{header}2022-05-18,1,2,3\n")).unwrap_err();
        assert_eq!(format!("{err:#}"), "line 2: 3 values, and not 5");
        assert!(parse("2022-05-18,1,2,3,4,5\n").is_err());
    }

    #[test]
    fn a_generated_series_is_cut_into_years_and_a_file_is_not() {
        let day = |text: &str| text.parse::<Day>().unwrap().start();
        let bar = |at| Bar { at, open: 1.0, high: 1.0, low: 1.0, close: 1.0, volume: 1.0 };
        let bars: Bars =
            ["2014-01-02", "2014-12-31", "2015-01-02", "2016-01-04"].iter().map(|text| bar(day(text))).collect();
        let series = Series { symbol: "A".into(), bars };
        let mut set = Set { name: "a".into(), kind: Kind::Generated, timeframe: Timeframe::DAY, series: Vec::new() };
        let lengths = |set: &Set| set.pieces(&series).iter().map(|piece| piece.bars.len()).collect::<Vec<_>>();
        assert_eq!((lengths(&set), set.appended(&series)), (vec![2, 1, 1], 1));
        set.kind = Kind::Daily;
        assert_eq!((lengths(&set), set.appended(&series)), (vec![4], 1));
    }
}
