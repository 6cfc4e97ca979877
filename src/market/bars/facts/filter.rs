//! Facts as they are handed out, and which of them are wanted.

use std::{
    collections::BTreeSet,
    ops::{Bound, RangeBounds},
    time::Duration,
};

use super::{list, record::Numbers};
use crate::{
    engine::Snapshot,
    market::{
        Market,
        bars::key::SeriesId,
        coverage::{self, covered::CoveredId},
        timeframe::Timeframe,
    },
    types::{
        error::{Error, Result},
        key::Symbol,
        time::Timestamp,
    },
};

/// What is known of a series of bars before any of them is decoded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BarFacts {
    /// The symbol.
    pub symbol: Symbol,
    /// How long a bar is.
    pub timeframe: Timeframe,
    /// The timeframe of the bars that these were aggregated from; `None` for bars as they were given.
    pub resampled_from: Option<Timeframe>,
    /// Bars.
    pub bars: u64,
    /// When the first and the last bar begin.
    pub span: (Timestamp, Timestamp),
    /// The last price of the last bar.
    pub last_close: f64,
    /// What was traded in the last bar.
    pub last_volume: f64,
    /// Chunks that the bars lie in.
    pub chunks: u64,
    /// Bytes of the chunks in the file, seals included.
    pub stored_bytes: u64,
    /// When bars of it were last changed, by the store's clock; `None` where only an older release wrote it.
    pub written_at: Option<Timestamp>,
    /// The end of the last stretch of time that the ledger knows to be stored; `None` when it knows of none.
    pub covered_until: Option<Timestamp>,
}

/// Which series are wanted, by their facts. Bounds are ranges: `..=5.0`, `100.0..`, `a..b`.
///
/// ```
/// use std::time::Duration;
/// use modelkeep::market::{FactsFilter, Timeframe};
///
/// let liquid = FactsFilter::all().timeframe(Timeframe::DAY).last_close(5.0..).last_volume(1e6..).bars(250..);
/// let fresh = liquid.age(..=Duration::from_secs(5 * 86_400));
/// # let _ = fresh;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct FactsFilter {
    timeframe: Option<Timeframe>,
    symbols: Option<BTreeSet<Symbol>>,
    aggregates: bool,
    bars: Limits<u64>,
    last_close: Limits<f64>,
    last_volume: Limits<f64>,
    covered_until: Limits<Timestamp>,
    age: Limits<Duration>,
}

/// A least and a greatest value, each of them wanted or not, or none.
type Limits<T> = (Bound<T>, Bound<T>);

fn limits<T: Copy>(range: &impl RangeBounds<T>) -> Limits<T> {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

fn is_any<T>(limits: &Limits<T>) -> bool {
    matches!(limits, (Bound::Unbounded, Bound::Unbounded))
}

impl FactsFilter {
    /// Returns the filter that every series passes which was given and not aggregated.
    pub fn all() -> Self {
        Self {
            timeframe: None,
            symbols: None,
            aggregates: false,
            bars: limits(&(..)),
            last_close: limits(&(..)),
            last_volume: limits(&(..)),
            covered_until: limits(&(..)),
            age: limits(&(..)),
        }
    }

    /// Wants bars of one timeframe.
    pub fn timeframe(mut self, timeframe: Timeframe) -> Self {
        self.timeframe = Some(timeframe);
        self
    }

    /// Wants these symbols alone.
    pub fn symbols(mut self, symbols: impl IntoIterator<Item = Symbol>) -> Self {
        self.symbols = Some(symbols.into_iter().collect());
        self
    }

    /// Says whether aggregated series are wanted, too. Default: no.
    pub fn aggregates(mut self, wanted: bool) -> Self {
        self.aggregates = wanted;
        self
    }

    /// Wants series with so many bars.
    pub fn bars(mut self, range: impl RangeBounds<u64>) -> Self {
        self.bars = limits(&range);
        self
    }

    /// Wants series whose last bar closed in this range. A close that is no number is in none.
    pub fn last_close(mut self, range: impl RangeBounds<f64>) -> Self {
        self.last_close = limits(&range);
        self
    }

    /// Wants series whose last bar has a volume in this range.
    pub fn last_volume(mut self, range: impl RangeBounds<f64>) -> Self {
        self.last_volume = limits(&range);
        self
    }

    /// Wants series whose last stretch that is known ends at a time in this range. Holes before it do not count: what
    /// is missing, a load says.
    pub fn covered_until(mut self, range: impl RangeBounds<Timestamp>) -> Self {
        self.covered_until = limits(&range);
        self
    }

    /// Wants series whose last bar began so long ago, by the store's clock.
    pub fn age(mut self, range: impl RangeBounds<Duration>) -> Self {
        self.age = limits(&range);
        self
    }

    pub(crate) fn wants(&self, series: &SeriesId) -> bool {
        self.timeframe.is_none_or(|timeframe| timeframe == series.timeframe)
            && (self.aggregates || series.source.is_none())
            && self.symbols.as_ref().is_none_or(|symbols| symbols.contains(&series.symbol))
    }

    /// Whether the numbers pass; what the ledger knows is asked for only if the rest passes.
    fn passes(
        &self,
        facts: &BarFacts,
        now: Timestamp,
        covered_until: impl FnOnce() -> Result<Option<Timestamp>>,
    ) -> Result<bool> {
        let passes = self.bars.contains(&facts.bars)
            && (is_any(&self.last_close) || self.last_close.contains(&facts.last_close))
            && (is_any(&self.last_volume) || self.last_volume.contains(&facts.last_volume))
            && self.age.contains(&now.since(facts.span.1));
        if !passes || is_any(&self.covered_until) {
            return Ok(passes);
        }
        Ok(covered_until()?.is_some_and(|until| self.covered_until.contains(&until)))
    }
}

impl Market {
    /// Returns the facts of the series that pass `filter`, or the error that keeps one from being read, under its name.
    pub(crate) fn bar_facts(&self, filter: &FactsFilter) -> Result<Vec<(String, Result<BarFacts>)>> {
        let (found, unnamed) = self.core.look(|snapshot| find(snapshot, filter, self.core.now(), true))?;
        let named = found.into_iter().map(|(series, facts)| (series.to_string(), facts));
        Ok(named.chain(unnamed.into_iter().map(|err| (err.subject().to_owned(), Err(err)))).collect())
    }
}

/// The series that pass `filter`, in order, with their facts or what keeps them from being read; and what names no
/// series.
pub(crate) type Found = (Vec<(SeriesId, Result<BarFacts>)>, Vec<Error>);

/// Looks for the series that pass `filter`. The ledger is another row, which may be damaged where the bars are not: it
/// is read for who wants it, and where the filter asks about it.
pub(crate) fn find(snapshot: &Snapshot, filter: &FactsFilter, now: Timestamp, with_coverage: bool) -> Result<Found> {
    let list = list::list(snapshot, |series| filter.wants(series))?;
    let mut found = Vec::with_capacity(list.series.len());
    for (series, known) in list.series {
        let facts = known.and_then(|known| passing((snapshot, now), filter, &series, known, with_coverage));
        if let Some(facts) = facts.transpose() {
            found.push((series, facts));
        }
    }
    Ok((found, list.unnamed))
}

/// The facts of one series, if they pass.
fn passing(
    (snapshot, now): (&Snapshot, Timestamp),
    filter: &FactsFilter,
    series: &SeriesId,
    (numbers, written_at): list::Known,
    with_coverage: bool,
) -> Result<Option<BarFacts>> {
    let Numbers { bars, chunks, stored_bytes, edges } = numbers;
    let none = || Error::corrupt("read bars", series.to_string(), "it has no bars");
    let (first, last) = edges.ok_or_else(none)?;
    let mut facts = BarFacts {
        symbol: series.symbol.clone(),
        timeframe: series.timeframe,
        resampled_from: series.source,
        bars,
        span: (first.at, last.at),
        last_close: last.close,
        last_volume: last.volume,
        chunks,
        stored_bytes,
        written_at,
        covered_until: None,
    };
    let ledger = CoveredId::Bars(series.clone());
    let covered_until = || coverage::covered_until(snapshot, &ledger.key());
    if !filter.passes(&facts, now, covered_until)? {
        return Ok(None);
    }
    if with_coverage {
        facts.covered_until = covered_until()?;
    }
    Ok(Some(facts))
}
