//! Does a pipeline use what it cannot know? It is run again with the future cut off, and what it says of the past has
//! to stay the same.
//!
//! A copy of the market data is made in memory, as far as it was available at a time, and the pipeline runs on it. A
//! value that differs from the one that it has with all data was made with data from after that time. The store itself
//! is only read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    market::{BadRows, KnownAt},
    store::Store,
    types::{
        clock::ManualClock,
        error::{Error, Result},
        interval::Interval,
        time::{Day, Timestamp},
    },
};

/// Values that are reported at most.
const FOUND_MAX: usize = 1000;

/// One value of a pipeline, and when it claims to be known.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "who emits values makes them")]
pub struct Emitted {
    /// When it claims to be known.
    pub at: Timestamp,
    /// What it is called: a feature, and of which symbol, where there are several.
    pub name: String,
    /// The value.
    pub value: f64,
}

impl Emitted {
    /// Returns the value `value` of what is called `name`, known at `at`: for features of a bar, when the bar has ended
    /// ([`BarSeries::available_at`](crate::market::BarSeries::available_at)), and not when it begins.
    pub fn new(at: Timestamp, name: impl Into<String>, value: f64) -> Self {
        Self { at, name: name.into(), value }
    }
}

/// How to look for values from the future.
///
/// ```
/// use modelkeep::audit::Audit;
///
/// let audit = Audit::default().cuts(50).seed(7).symbols(["SPY"]);
/// # let _ = audit;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Audit {
    cuts: usize,
    seed: u64,
    symbols: Option<Vec<String>>,
    levels_after: Duration,
    as_known: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self { cuts: 20, seed: 1, symbols: None, levels_after: Duration::ZERO, as_known: false }
    }
}

impl Audit {
    /// How often the future is cut off, each time at another time. Default: 20. More find what happens rarely; each
    /// runs the pipeline once.
    pub fn cuts(mut self, cuts: usize) -> Self {
        self.cuts = cuts;
        self
    }

    /// What the times are drawn from. Default: 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Copies bars of these symbols alone, and all levels. Default: bars of all symbols.
    pub fn symbols<S: Into<String>>(mut self, symbols: impl IntoIterator<Item = S>) -> Self {
        self.symbols = Some(symbols.into_iter().map(Into::into).collect());
        self
    }

    /// How long after the close of their session levels are available:
    /// [`LevelSeries::available_after`](crate::market::LevelSeries::available_after). Default: zero.
    pub fn levels_available_after(mut self, delay: Duration) -> Self {
        self.levels_after = delay;
        self
    }

    /// Cuts off what was stored later, too, so that corrections count: for data that was stored as it came, or by
    /// [`write_known_at`](crate::market::BarSeries::write_known_at). Default: what had ended counts, with the values
    /// that it has now.
    pub fn as_known(mut self) -> Self {
        self.as_known = true;
        self
    }
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AuditReport {
    /// When the future was cut off.
    pub cuts: Vec<Timestamp>,
    /// Values that were compared.
    pub compared: u64,
    /// Whether corrections counted: see [`Audit::as_known`]. If not, a value that was made with a later correction of
    /// what had ended is in no list here.
    pub as_known: bool,
    /// Values that were made with what came later, in order of time: the first thousand that were found.
    pub found: Vec<LookAhead>,
}

impl AuditReport {
    /// Returns whether no value was made with what came later, as far as was looked: without
    /// [`as_known`](Self::as_known), corrections are not looked for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
    }
}

/// A value that was made with what came later.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LookAhead {
    /// When it claims to be known.
    pub at: Timestamp,
    /// What it is called.
    pub name: String,
    /// When the future was cut off.
    pub cut: Timestamp,
    /// Its value with all data; `None` when there was none.
    pub with_all: Option<f64>,
    /// Its value without what came after the cut; `None` when there was none.
    pub without_future: Option<f64>,
}

/// Values by time and name.
type Values = BTreeMap<(Timestamp, String), f64>;

impl Store {
    /// Runs `pipeline` on copies of the market data whose future is cut off at random times, and reports every value
    /// that is not what it is with all data. A clean report is evidence and no proof: a time that was not drawn may
    /// show something.
    ///
    /// The copies are in memory, with a clock that stands at the cut. They have the bars that had ended by then and the
    /// levels whose session had closed, of every series with the calendar that it has; no aggregates, features or
    /// models, and no history: in a copy every row was known since its end, so what a pipeline reads by `range_as_of`
    /// is not audited.
    ///
    /// ```
    /// use modelkeep::{Day, Interval, Store, audit::{Audit, Emitted}, market::{Bar, Bars, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let first: Day = "2018-01-01".parse()?;
    /// let bar = |n: i32| {
    ///     let (at, close) = (first.plus_days(n).unwrap().start(), 100.0 + f64::from(n % 7));
    ///     Bar { at, open: close, high: close, low: close, close, volume: 1.0 }
    /// };
    /// store.bars("SPY", Timeframe::DAY)?.write(&(0..60).map(bar).collect::<Bars>())?;
    ///
    /// // The close less the mean, which is of all closes, also of later ones.
    /// let pipeline = |store: &Store| {
    ///     let series = store.bars("SPY", Timeframe::DAY)?;
    ///     let bars = series.range(Interval::all_time())?;
    ///     let mean = bars.close().iter().sum::<f64>() / bars.len() as f64;
    ///     let ends = series.available_at(&bars)?.into_iter();
    ///     Ok::<_, modelkeep::Error>(ends.zip(bars.close()).map(|(at, close)| Emitted::new(at, "x", close - mean)).collect())
    /// };
    /// assert!(!store.audit_look_ahead(&Audit::default(), pipeline)?.is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What `pipeline` fails with. `InvalidInput` when it emits nothing, when it does not read the store that it is
    /// called with (but another one that it has from elsewhere), or when it emits two values of one name at one time;
    /// `Corrupt` or `Io` when the market data cannot be read.
    pub fn audit_look_ahead<E: From<Error>>(
        &self,
        audit: &Audit,
        mut pipeline: impl FnMut(&Store) -> Result<Vec<Emitted>, E>,
    ) -> Result<AuditReport, E> {
        let mut run = |until: Timestamp| -> Result<Values, E> {
            let copy = self.copy_until(audit, until)?;
            copy.forget_reads();
            let values = values(pipeline(&copy)?)?;
            if !copy.was_read() && !values.is_empty() {
                let message = "it did not read the store that it was called with: what it emits says nothing of that";
                return Err(Error::invalid("audit", "pipeline", message).into());
            }
            Ok(values)
        };
        let all = run(self.clock_now())?;
        let times: Vec<Timestamp> = {
            let mut times: Vec<_> = all.keys().map(|(at, _)| *at).collect();
            times.dedup();
            times
        };
        if times.is_empty() {
            return Err(Error::invalid("audit", "pipeline", "it emitted nothing that could be compared").into());
        }
        let mut report = AuditReport { as_known: audit.as_known, ..AuditReport::default() };
        let mut found: BTreeMap<(Timestamp, String), LookAhead> = BTreeMap::new();
        let mut random = Random(audit.seed);
        for _ in 0..audit.cuts {
            let cut = random.cut(&times);
            let without = run(cut)?;
            let known = (Timestamp::from_nanos(i64::MIN), String::new())..=(cut, String::from(char::MAX));
            let (all, without) = (all.range(known.clone()), without.range(known));
            let mut both: BTreeMap<_, (Option<f64>, Option<f64>)> = BTreeMap::new();
            all.for_each(|(key, value)| both.entry(key.clone()).or_default().0 = Some(*value));
            without.for_each(|(key, value)| both.entry(key.clone()).or_default().1 = Some(*value));
            report.compared += both.len() as u64;
            for (key, (with_all, without_future)) in both {
                if !is_same(with_all, without_future) && found.len() < FOUND_MAX {
                    let (at, name) = key.clone();
                    found.entry(key).or_insert(LookAhead { at, name, cut, with_all, without_future });
                }
            }
            report.cuts.push(cut);
        }
        report.found = found.into_values().collect();
        Ok(report)
    }

    /// A store in memory that has the market data which was available at a time.
    fn copy_until(&self, audit: &Audit, until: Timestamp) -> Result<Self> {
        let clock = Arc::new(ManualClock::at(until));
        let copy = Self::options().with_market(self.market_settings()).clock(clock).in_memory()?;
        for (_, summary) in self.bar_series()? {
            let summary = summary?;
            let symbol = summary.symbol.as_str();
            let is_wanted = audit.symbols.as_ref().is_none_or(|symbols| symbols.iter().any(|wanted| wanted == symbol));
            if summary.resampled_from.is_some() || !is_wanted {
                continue;
            }
            let (series, mut target) = (self.bars(symbol, summary.timeframe)?, copy.bars(symbol, summary.timeframe)?);
            let bars = if audit.as_known {
                series.ended_by(series.range_as_of(Interval::all_time(), until)?, until)?
            } else {
                series.ended_by(series.range(Interval::all_time())?, until)?
            };
            target = target.calendar(series.covered.calendar()?);
            target.write_known(&bars, BadRows::Keep, KnownAt::Ended { delay: Duration::ZERO })?;
        }
        for (name, levels) in self.level_series()? {
            let series = self.levels(name.as_str())?.available_after(audit.levels_after);
            let levels = if audit.as_known { series.range_as_of(all_days(), until)? } else { levels? };
            let rows: Vec<(Day, f64)> = series.ended_by(levels, until)?.iter().collect();
            let mut target = copy.levels(name.as_str())?.available_after(audit.levels_after);
            target = target.calendar(series.covered.calendar()?);
            target.write_known_at(&rows, KnownAt::Ended { delay: Duration::ZERO })?;
        }
        Ok(copy)
    }
}

fn all_days() -> Interval<Day> {
    Interval::<Timestamp>::all_time().days()
}

fn values(emitted: Vec<Emitted>) -> Result<Values> {
    let mut values = Values::new();
    for Emitted { at, name, value } in emitted {
        if values.insert((at, name.clone()), value).is_some() {
            return Err(Error::invalid("audit", name, format!("the pipeline emitted two values of it at {at}")));
        }
    }
    Ok(values)
}

/// Bit by bit, but for the kinds of NaN.
fn is_same(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (None, None) => true,
        _ => false,
    }
}

/// Numbers from a seed: splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A time at which something claims to be known, or, as often, one between it and the next.
    fn cut(&mut self, times: &[Timestamp]) -> Timestamp {
        let at = usize::try_from(self.next() % times.len() as u64).unwrap_or(0);
        let here = times.get(at).copied().unwrap_or(Timestamp::from_nanos(0));
        match times.get(at + 1) {
            Some(next) if self.next().is_multiple_of(2) => {
                let between = u64::try_from(next.since(here).as_nanos()).unwrap_or(u64::MAX).max(1);
                here.after(Duration::from_nanos(self.next() % between))
            }
            _ => here,
        }
    }
}
