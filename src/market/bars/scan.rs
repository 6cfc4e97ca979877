//! Bars of many symbols, one after the other, from one state of the store: decoded ahead of whoever takes them.
//!
//! Which series there are is known from their facts. A few threads decode them in order, no further ahead than a
//! bounded number; what is skipped is not decoded, unless a thread is at it already.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use super::{
    columns::Bars,
    decoded,
    facts::filter::{FactsFilter, find},
    key::SeriesId,
};
use crate::{
    engine::{Snapshot, unless_expired},
    market::{Market, memory::Memory, timeframe::Timeframe},
    sync::panics::contained,
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        key::Symbol,
        time::Timestamp,
    },
};

/// Series that are decoded ahead for each thread: enough that none waits for the one that takes them.
const AHEAD_PER_THREAD: usize = 8;

/// What a scan goes through, and how.
///
/// ```
/// use modelkeep::{Day, Interval, market::{FactsFilter, ScanOptions}};
///
/// let year = Interval::<Day>::parse("2018-01-01", "2019-01-01")?.span();
/// let options = ScanOptions::default().filter(FactsFilter::all().last_close(5.0..)).interval(year).threads(2);
/// # let _ = options;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ScanOptions {
    filter: FactsFilter,
    symbols: Option<Vec<Symbol>>,
    interval: Interval<Timestamp>,
    threads: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { filter: FactsFilter::all(), symbols: None, interval: Interval::all_time(), threads }
    }
}

impl ScanOptions {
    /// Goes through the series that pass `filter`, whose timeframe is that of the scan. Default: all that were given
    /// and not aggregated.
    pub fn filter(mut self, filter: FactsFilter) -> Self {
        self.filter = filter.aggregates(false);
        self
    }

    /// Goes through these symbols alone, of those that pass the filter.
    pub fn symbols(mut self, symbols: impl IntoIterator<Item = Symbol>) -> Self {
        self.symbols = Some(symbols.into_iter().collect());
        self
    }

    /// Hands out the bars that begin in `interval`. Default: all there are. Chunks that lie outside are not read.
    pub fn interval(mut self, interval: Interval<Timestamp>) -> Self {
        self.interval = interval;
        self
    }

    /// Decodes on so many threads, besides the one that takes the bars; with 0 that one decodes, each series when it is
    /// taken. Default: as many as the machine has.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanProgress {
    /// Series that were handed out or skipped.
    pub done: u64,
    /// Series that the scan goes through.
    pub total: u64,
    /// Series that were decoded, those ahead of what was handed out included.
    pub decoded: u64,
    /// Bars that were handed out.
    pub bars: u64,
}

/// Bars of many symbols, in order of the symbols. What keeps one series from being read is handed out in its place, and
/// the next one follows.
///
/// A scan keeps the state that it reads, and with it the pages of the file that later commits free: drop it when it is
/// done with. After an I/O error elsewhere that took its state away it hands out `Expired`, once, and ends.
#[must_use]
pub struct BarScan {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    bars: u64,
}

struct Shared {
    snapshot: Snapshot,
    memory: Arc<Memory>,
    series: Vec<SeriesId>,
    /// Of series whose facts cannot be read: they are not decoded.
    unreadable: Mutex<BTreeMap<usize, Error>>,
    interval: Interval<Timestamp>,
    ahead: usize,
    state: Mutex<State>,
    /// Something was decoded.
    ready: Condvar,
    /// There is room for more, or no need for it.
    room: Condvar,
}

#[derive(Default)]
struct State {
    /// The next series that a thread takes.
    next: usize,
    /// The next one that is handed out.
    taken: usize,
    decoded: BTreeMap<usize, Result<Bars>>,
    count: u64,
    stop: bool,
}

impl Market {
    /// Begins to go through the bars of many symbols.
    pub(crate) fn scan_bars(&self, timeframe: Timeframe, options: ScanOptions) -> Result<BarScan> {
        let ScanOptions { filter, symbols, interval, threads } = options;
        let filter = match symbols {
            Some(symbols) => filter.symbols(symbols),
            None => filter,
        };
        let filter = filter.timeframe(timeframe);
        let (snapshot, (found, mut unnamed)) = unless_expired(|| {
            let snapshot = self.core.snapshot()?;
            let found = find(&snapshot, &filter, self.core.now(), false)?;
            Ok((snapshot, found))
        })?;
        if let Some(err) = unnamed.pop() {
            return Err(err);
        }
        let (mut series, mut unreadable) = (Vec::with_capacity(found.len()), BTreeMap::new());
        for (n, (id, facts)) in found.into_iter().enumerate() {
            unreadable.extend(facts.err().map(|err| (n, err)));
            series.push(id);
        }
        let threads = threads.min(series.len());
        let shared = Arc::new(Shared {
            snapshot,
            memory: Arc::clone(&self.memory),
            series,
            unreadable: Mutex::new(unreadable),
            interval,
            ahead: threads * AHEAD_PER_THREAD,
            state: Mutex::default(),
            ready: Condvar::new(),
            room: Condvar::new(),
        });
        let workers = (0..threads).map_while(|_| {
            let shared = Arc::clone(&shared);
            // Without threads whoever takes the bars decodes them.
            thread::Builder::new().name("modelkeep scan".to_owned()).spawn(move || shared.work()).ok()
        });
        let workers = workers.collect();
        Ok(BarScan { shared, workers, bars: 0 })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decodes one series after the other, as long as there is room.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let n = loop {
                if state.stop || state.next >= self.series.len() {
                    return;
                }
                if state.next < state.taken + self.ahead {
                    break state.next;
                }
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.next += 1;
            drop(state);
            let bars = self.decode(n);
            let mut state = self.lock();
            state.count += 1;
            // Nobody waits for what was skipped meanwhile.
            if n >= state.taken {
                state.decoded.insert(n, bars);
            }
            drop(state);
            self.ready.notify_all();
        }
    }

    fn decode(&self, n: usize) -> Result<Bars> {
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).remove(&n);
        if let Some(err) = unreadable {
            return Err(err);
        }
        let Some(series) = self.series.get(n) else { return Ok(Bars::default()) };
        // A thread that panics would be waited for for ever.
        let read = contained(|| decoded::range(&self.memory, &self.snapshot, series, self.interval));
        read.unwrap_or_else(|panic| Err(Error::corrupt("scan bars", series.to_string(), format!("panicked: {panic}"))))
    }
}

impl BarScan {
    /// Returns how far the scan is.
    #[must_use]
    pub fn progress(&self) -> ScanProgress {
        let state = self.shared.lock();
        let (done, total) = (state.taken as u64, self.shared.series.len() as u64);
        ScanProgress { done, total, decoded: state.count, bars: self.bars }
    }

    /// Skips so many series; says whether there is one behind them.
    fn skip_series(&self, count: usize) -> bool {
        let mut state = self.shared.lock();
        state.taken = state.taken.saturating_add(count).min(self.shared.series.len());
        state.next = state.next.max(state.taken);
        let taken = state.taken;
        state.decoded.retain(|n, _| *n >= taken);
        drop(state);
        self.shared.room.notify_all();
        taken < self.shared.series.len()
    }

    /// The bars of the next series, waited for or decoded here.
    fn next_bars(&self) -> (usize, Result<Bars>) {
        let mut state = self.shared.lock();
        let n = state.taken;
        if self.workers.is_empty() {
            state.next = n + 1;
            state.count += 1;
            state.taken += 1;
            drop(state);
            return (n, self.shared.decode(n));
        }
        let bars = loop {
            if let Some(bars) = state.decoded.remove(&n) {
                break bars;
            }
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.taken += 1;
        drop(state);
        self.shared.room.notify_all();
        (n, bars)
    }
}

impl Iterator for BarScan {
    type Item = Result<(Symbol, Bars)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.nth(0)
    }

    /// Skips without decoding.
    fn nth(&mut self, count: usize) -> Option<Self::Item> {
        if !self.skip_series(count) {
            return None;
        }
        let (n, bars) = self.next_bars();
        let series = self.shared.series.get(n)?;
        match bars {
            Ok(bars) => {
                self.bars += bars.len() as u64;
                Some(Ok((series.symbol.clone(), bars)))
            }
            Err(err) => {
                if err.kind() == ErrorKind::Expired {
                    self.skip_series(usize::MAX);
                }
                Some(Err(err))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.shared.series.len() - self.shared.lock().taken;
        // It ends early when its state is given up.
        (0, Some(left))
    }
}

impl Drop for BarScan {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // What it panicked with was handed out.
            drop(worker.join());
        }
    }
}

impl fmt::Debug for BarScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarScan").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
