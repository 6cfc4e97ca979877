//! Features, through the store.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    plan::{self, Segment},
    spec::{FeatureSpec, Lookback},
    stored::{self, Chunk},
    table::Features,
};
use crate::{
    engine::Snapshot,
    market::{
        Market,
        bars::{
            bar::Field,
            columns::Bars,
            decoded,
            key::SeriesId,
            read::{self, ChunkEntry},
            series::BarSeries,
        },
        fetch::load::LoadKey,
    },
    types::{
        error::{Error, ErrorKind, Result},
        hash::Digest,
        interval::Interval,
        invariant::Invariant,
        time::Timestamp,
    },
};

/// Features of one symbol: computed from its bars once, and again only where the bars changed.
///
/// Whatever else goes into them, such as levels of an index or bars of a market, belongs into the spec's parameters, by
/// a hash or a version: the store cannot see it change. What is stored are features of the bars as they are now;
/// [`compute_as_of`](Self::compute_as_of) computes those of the bars as they were known at a time.
#[derive(Clone, Debug)]
pub struct FeatureSet<'a> {
    pub(super) bars: BarSeries<'a>,
    market: &'a Market,
    series: SeriesId,
    pub(super) spec: FeatureSpec,
    /// What they are stored under.
    fingerprint: Digest,
}

impl Market {
    /// Returns the features of `symbol` that `spec` describes.
    pub(crate) fn features(&self, symbol: &str, spec: &FeatureSpec) -> Result<FeatureSet<'_>> {
        self.bars(symbol, spec.timeframe())?.features(spec)
    }
}

impl<'a> BarSeries<'a> {
    /// Returns features of these bars, which may be aggregates.
    ///
    /// ```
    /// # use modelkeep::{Store, market::{FeatureSpec, Lookback, Timeframe}};
    /// # let store = Store::in_memory()?;
    /// let spec = FeatureSpec::new("close", 1, Timeframe::DAY, Lookback::Bars(0), &["close"])?;
    /// assert!(store.bars("SPY", Timeframe::DAY)?.features(&spec).is_ok());
    /// assert!(store.bars("SPY", Timeframe::HOUR)?.features(&spec).is_err()); // the spec is about days
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when the spec is for bars of another timeframe.
    pub fn features(&self, spec: &FeatureSpec) -> Result<FeatureSet<'a>> {
        if spec.timeframe() != self.timeframe() {
            let message = format!("{} is for bars of {}", spec.name(), spec.timeframe());
            return Err(Error::invalid("read features", self.id.to_string(), message));
        }
        // Days made of minutes are not the days of a vendor.
        let fingerprint = self.id.source.map_or_else(
            || spec.fingerprint(),
            |source| Digest::of(&[&spec.fingerprint().as_bytes()[..], &source.as_nanos().to_le_bytes()].concat()),
        );
        let (bars, market, series) = (self.clone(), self.covered.market, self.id.clone());
        Ok(FeatureSet { bars, market, series, spec: spec.clone(), fingerprint })
    }
}

/// Features that were put together, and the chunks of them that are to be stored.
pub(crate) struct Gathered {
    features: Features,
    computed: BTreeMap<i64, (Chunk, Vec<Segment>)>,
}

impl Gathered {
    /// The features; what is to be stored stays.
    pub(crate) fn take_features(&mut self) -> Features {
        std::mem::take(&mut self.features)
    }

    /// Whether something was computed that is not stored.
    pub(crate) fn is_new(&self) -> bool {
        !self.computed.is_empty()
    }
}

/// A chunk of features on its way: what is stored of it, and whether that still holds.
struct Stale<'a> {
    entry: &'a ChunkEntry,
    stored: Arc<Chunk>,
}

impl FeatureSet<'_> {
    /// Returns the features of the bars that begin in `interval` and have ended by now: those on disk whose bars are
    /// what they were, and the others computed, and stored in one durable transaction.
    ///
    /// `compute` is called with bars in order of time, and returns one column for each of the spec's names, as long as
    /// the bars; the first [`Lookback`] bars of them are there to look back at, and what comes out for them is left
    /// out. It is called once for each run of months that changed, and not at all if none did. It may be called with
    /// fewer bars in front only where there are no others. So the result is that of computing everything anew, bit for
    /// bit, if what is computed for a bar depends on that bar and its lookback alone.
    ///
    /// ```
    /// use modelkeep::{Day, Interval, Store, market::{Bar, Bars, FeatureSpec, Lookback, Timeframe}};
    ///
    /// let store = Store::in_memory()?;
    /// let first: Day = "2018-01-01".parse()?;
    /// let bar = |n: i32| {
    ///     let close = 100.0 + f64::from(n);
    ///     let at = first.plus_days(n).unwrap().start();
    ///     Bar { at, open: close, high: close + 1.0, low: close - 1.0, close, volume: 10.0 }
    /// };
    /// store.bars("SPY", Timeframe::DAY)?.write(&(0..100).map(bar).collect::<Bars>())?;
    ///
    /// let spec = FeatureSpec::new("returns", 1, Timeframe::DAY, Lookback::Bars(1), &["return"])?;
    /// let returns = |bars: &Bars| {
    ///     let change = bars.close().windows(2).map(|pair| pair[1] / pair[0] - 1.0);
    ///     vec![[f64::NAN].into_iter().chain(change).take(bars.len()).collect()]
    /// };
    /// let features = store.features("SPY", &spec)?;
    /// let spring = Interval::<Day>::parse("2018-02-01", "2018-04-01")?.span();
    /// assert_eq!(features.get_or_compute(spring, returns)?.rows_computed, 59);
    /// assert_eq!(features.get_or_compute(spring, returns)?.rows_reused, 59);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when what `compute` returns has another shape. `Corrupt` when bars are damaged; damaged features
    /// are computed again. Otherwise [what a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn get_or_compute(
        &self,
        interval: Interval<Timestamp>,
        mut compute: impl FnMut(&Bars) -> Vec<Vec<f64>>,
    ) -> Result<Features> {
        // Until it is stored, so that who waits finds it.
        let load = self.load();
        let _flight = self.market.loads.acquire(&load)?;
        let gathered = self.gather(interval, &mut compute)?;
        // A store that is only read hands out what it computed, and computes it again the next time.
        if gathered.is_new() && !self.market.core.is_read_only() {
            self.market.core.commit("write features", |batch| self.write(batch, &gathered))?;
        }
        Ok(gathered.features)
    }

    /// What one computes at a time.
    pub(crate) fn load(&self) -> LoadKey {
        LoadKey::Features(self.series.symbol.clone(), self.fingerprint)
    }

    /// Stores what was computed, in a transaction.
    pub(crate) fn write(&self, batch: &crate::engine::Batch, gathered: &Gathered) -> Result<()> {
        gathered.computed.iter().try_for_each(|(period, (chunk, _))| {
            stored::write(batch, &stored::row_key(&self.series.symbol, self.fingerprint, *period), chunk)
        })
    }

    /// Features of an interval, those that are missing computed and not stored yet.
    pub(crate) fn gather(
        &self,
        interval: Interval<Timestamp>,
        compute: &mut impl FnMut(&Bars) -> Vec<Vec<f64>>,
    ) -> Result<Gathered> {
        let snapshot = self.market.core.snapshot()?;
        let interval = self.bars.ended_part(&snapshot, interval, self.market.core.now())?;
        let entries = self.entries(&snapshot, interval)?;
        let from_start = match entries.first() {
            Some(first) => self.begins_with(&snapshot, first)?,
            None => true,
        };
        let (mut fresh, mut stale) = (BTreeMap::new(), Vec::new());
        let periods = self.series.period().indices(interval);
        for (n, entry) in entries.iter().enumerate().filter(|(_, entry)| periods.contains(&entry.period)) {
            let stored = self.stored(&snapshot, entry.period)?;
            let before = self.before(&entries, n, from_start);
            let holds = stored.bars == Some(entry.hash) && stored.before == Some(before);
            if holds && self.has_all(&snapshot, &stored, entry, interval)? {
                fresh.insert(entry.period, stored);
            } else {
                stale.push((n, Stale { entry, stored }));
            }
        }
        let mut computed = BTreeMap::new();
        if !stale.is_empty() {
            self.refresh(&snapshot, interval, &entries, stale, &mut computed, compute)?;
        }
        let mut all = Features::empty(&self.spec);
        for entry in entries.iter().filter(|entry| periods.contains(&entry.period)) {
            if let Some(chunk) = fresh.get(&entry.period) {
                all.rows_reused += all.take(&chunk.at, &chunk.columns, interval);
            } else if let Some((chunk, reused)) = computed.get(&entry.period) {
                let rows = all.take(&chunk.at, &chunk.columns, interval);
                let reused = within(chunk, reused, interval);
                all.rows_reused += reused;
                all.rows_computed += rows - reused;
            }
        }
        Ok(Gathered { features: all, computed })
    }

    /// Removes what is stored of these features, in one durable transaction; returns its bytes.
    ///
    /// ```
    /// # use modelkeep::{Store, market::{FeatureSpec, Lookback, Timeframe}};
    /// # let spec = FeatureSpec::new("close", 1, Timeframe::DAY, Lookback::Bars(0), &["close"])?;
    /// # let store = Store::in_memory()?;
    /// assert_eq!(store.features("SPY", &spec)?.remove()?, 0); // nothing was computed yet
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [What a write can fail with](crate::Store#what-a-write-can-fail-with).
    pub fn remove(&self) -> Result<u64> {
        let remove = |batch: &crate::engine::Batch| {
            batch.frees_room();
            stored::remove(batch, &self.series.symbol, self.fingerprint)
        };
        self.market.core.commit("remove features", remove)
    }

    /// The chunks of bars in `interval`, and those before it as far as the lookback reaches.
    fn entries(&self, snapshot: &Snapshot, interval: Interval<Timestamp>) -> Result<Vec<ChunkEntry>> {
        let period = self.series.period();
        let first = period.index(interval.start());
        let from = |periods: i64| {
            let start = if periods == i64::MAX {
                Interval::all_time().start()
            } else {
                period.start(first.saturating_sub(periods))
            };
            decoded::chunks(
                &self.market.memory,
                snapshot,
                &self.series,
                Interval::new(start.min(interval.start()), interval.end())?,
            )
        };
        let Lookback::Bars(bars) = self.spec.lookback() else {
            return from(i64::MAX);
        };
        let mut periods = 1;
        loop {
            let entries = from(periods)?;
            let before: usize = entries.iter().filter(|entry| entry.period < first).map(|entry| entry.rows).sum();
            if before >= bars || periods > 1 << 8 {
                return if before >= bars { Ok(entries) } else { from(i64::MAX) };
            }
            periods *= 4;
        }
    }

    /// The hash of the bars before chunk `n` that it depends on.
    fn before(&self, entries: &[ChunkEntry], n: usize, from_start: bool) -> Digest {
        let before = entries.iter().take(n).rev().map(|entry| (entry.rows, entry.hash));
        plan::before(before, self.spec.lookback(), from_start)
    }

    /// What is stored of a period; nothing when it is damaged.
    fn stored(&self, snapshot: &Snapshot, period: i64) -> Result<Arc<Chunk>> {
        let row = stored::row_key(&self.series.symbol, self.fingerprint, period);
        match stored::read(&self.market.memory, snapshot, &row, self.spec.columns().len()) {
            Ok(chunk) => Ok(chunk.unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(symbol = %self.series.symbol, %error, "damaged features are computed again");
                Ok(Arc::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether all bars of `interval` have features in a chunk whose bars are what they were.
    fn has_all(
        &self,
        snapshot: &Snapshot,
        chunk: &Chunk,
        entry: &ChunkEntry,
        interval: Interval<Timestamp>,
    ) -> Result<bool> {
        if chunk.at.len() == entry.rows {
            return Ok(true);
        }
        let (start, end) = self.series.period().span(entry.period);
        let part =
            Interval::new(start.max(interval.start()), end.min(interval.end()).max(start.max(interval.start())))?;
        let memory = &self.market.memory;
        let bars = decoded::field(memory, snapshot, &self.series, part, Field::Volume)?.0.len();
        let there = chunk.at.partition_point(|at| *at < part.end()) - chunk.at.partition_point(|at| *at < part.start());
        Ok(there == bars)
    }

    /// Computes what is missing in the stale chunks.
    fn refresh(
        &self,
        snapshot: &Snapshot,
        interval: Interval<Timestamp>,
        entries: &[ChunkEntry],
        stale: Vec<(usize, Stale<'_>)>,
        computed: &mut BTreeMap<i64, (Chunk, Vec<Segment>)>,
        compute: &mut impl FnMut(&Bars) -> Vec<Vec<f64>>,
    ) -> Result<()> {
        let period = self.series.period();
        let (Some(first), Some((_, last))) = (entries.first(), stale.last()) else {
            return Ok(());
        };
        let (start, end) = (period.start(first.period), period.span(last.entry.period).1);
        let bars = decoded::range(&self.market.memory, snapshot, &self.series, Interval::new(start, end)?)?;
        let from_start = self.begins_with(snapshot, first)?;
        let segments = plan::segments(&bars, period.segment(), self.spec.lookback(), from_start);
        let mut wanted: Vec<(&Segment, i64)> = Vec::new();
        for (n, Stale { entry, stored }) in stale {
            let (start, end) = period.span(entry.period);
            let mut chunk = Chunk {
                bars: Some(entry.hash),
                before: Some(self.before(entries, n, from_start)),
                columns: vec![Vec::new(); self.spec.columns().len()],
                ..Chunk::default()
            };
            let mut reused = Vec::new();
            for segment in segments.iter().filter(|segment| bars_lie_in(&bars, segment, start, end)) {
                let same = |old: &&Segment| old.index == segment.index && old.depends_on == segment.depends_on;
                if let Some(old) = stored.segments.iter().find(same).filter(|old| old.rows.len() == segment.rows.len())
                {
                    let kept = append(&mut chunk, segment, &stored.at, &stored.columns, old.rows.clone());
                    reused.push(kept);
                } else if overlaps(&bars, segment, interval) {
                    wanted.push((segment, entry.period));
                }
            }
            computed.insert(entry.period, (chunk, reused));
        }
        for run in wanted.chunk_by(|(a, _), (b, _)| a.rows.end == b.rows.start) {
            self.compute_run(&bars, run, computed, compute)?;
        }
        Ok(())
    }

    /// Whether nothing lies before the first of these chunks.
    fn begins_with(&self, snapshot: &Snapshot, first: &ChunkEntry) -> Result<bool> {
        Ok(read::first_period(snapshot, &self.series)? == Some(first.period))
    }

    /// Computes columns, and looks at their shape.
    pub(super) fn columns_of(
        &self,
        bars: &Bars,
        compute: &mut impl FnMut(&Bars) -> Vec<Vec<f64>>,
    ) -> Result<Vec<Vec<f64>>> {
        let columns = compute(bars);
        let expected = (self.spec.columns().len(), bars.len());
        if columns.len() != expected.0 || columns.iter().any(|column| column.len() != expected.1) {
            let lengths: Vec<usize> = columns.iter().map(Vec::len).collect();
            let message =
                format!("{} columns of {} rows were wanted, and columns of {lengths:?} came", expected.0, expected.1);
            return Err(Error::invalid("compute features", self.spec.name().to_string(), message));
        }
        Ok(columns)
    }

    /// Computes segments that follow each other.
    fn compute_run(
        &self,
        bars: &Bars,
        run: &[(&Segment, i64)],
        computed: &mut BTreeMap<i64, (Chunk, Vec<Segment>)>,
        compute: &mut impl FnMut(&Bars) -> Vec<Vec<f64>>,
    ) -> Result<()> {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else {
            return Ok(());
        };
        let start = match self.spec.lookback() {
            Lookback::Bars(bars) => first.rows.start.saturating_sub(bars),
            Lookback::All => 0,
        };
        let part = bars.slice(start..last.rows.end);
        let columns = self.columns_of(&part, compute)?;
        for (segment, period) in run {
            if let Some((chunk, _)) = computed.get_mut(period) {
                let rows = segment.rows.start - start..segment.rows.end - start;
                append(chunk, segment, part.timestamps(), &columns, rows);
            }
        }
        Ok(())
    }
}

/// Puts a segment into its place in a chunk, and returns it as it lies there.
fn append(
    chunk: &mut Chunk,
    segment: &Segment,
    at: &[Timestamp],
    columns: &[Vec<f64>],
    rows: std::ops::Range<usize>,
) -> Segment {
    let place = chunk.segments.partition_point(|other| other.index < segment.index);
    let start = chunk
        .segments
        .get(..place)
        .always("a partition point lies in what is partitioned")
        .last()
        .map_or(0, |before| before.rows.end);
    let len = rows.len();
    for later in chunk.segments.iter_mut().skip(place) {
        later.rows = later.rows.start + len..later.rows.end + len;
    }
    let new = Segment { index: segment.index, rows: start..start + len, depends_on: segment.depends_on };
    chunk.segments.insert(place, new.clone());
    chunk.at.splice(start..start, at.get(rows.clone()).always("rows lie in the columns").iter().copied());
    for (column, from) in chunk.columns.iter_mut().zip(columns) {
        column.splice(
            start..start,
            from.get(rows.clone()).always("each column has a value for each row").iter().copied(),
        );
    }
    new
}

fn bars_lie_in(bars: &Bars, segment: &Segment, start: Timestamp, end: Timestamp) -> bool {
    bars.timestamps().get(segment.rows.start).is_some_and(|at| start <= *at && *at < end)
}

fn overlaps(bars: &Bars, segment: &Segment, interval: Interval<Timestamp>) -> bool {
    let at = bars.timestamps().get(segment.rows.clone()).always("a segment is of these bars");
    at.first().is_some_and(|first| *first < interval.end()) && at.last().is_some_and(|last| *last >= interval.start())
}

/// How many rows of a chunk that lie in `interval` belong to segments that were reused.
fn within(chunk: &Chunk, reused: &[Segment], interval: Interval<Timestamp>) -> u64 {
    let is_reused = |segment: &&Segment| reused.iter().any(|old| old.index == segment.index);
    let rows = chunk.segments.iter().filter(is_reused).flat_map(|segment| segment.rows.clone());
    rows.filter(|row| chunk.at.get(*row).is_some_and(|at| interval.contains(*at))).count() as u64
}
