//! Data of many symbols: from disk, and from a fetcher only what is missing, several symbols in one call.
//!
//! What is missing of each symbol is what a load of it alone would ask for. Symbols that lack the same interval are
//! asked for together, and what a call brought is committed in one transaction, with what it says of each of them. All
//! the series are taken before the first call, in order, so that two loads never wait for each other.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    answer::Answer,
    fetcher::BarFetcher,
    load::LoadKey,
    need::{Content, Need, Noted, check_calls, normalise_bars},
    policy::FetchPolicy,
    report::{FetchReport, Loaded, LoadedMany, ManyReport},
    requests::{self, FetchError, Response},
};
use crate::{
    engine::Snapshot,
    format::parallel,
    market::{
        Market,
        bars::{
            columns::{Bars, Columns},
            plan::{PLANNED_MAX, Plan, Planned},
            series::BarSeries,
            write::Incoming,
        },
        coverage::covered::Judged,
        timeframe::Timeframe,
    },
    sync::single_flight::{self, Caller},
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        invariant::Invariant,
        key::Symbol,
        row_changes::RowChanges,
        time::Timestamp,
    },
};

/// Brings bars of many symbols from elsewhere in one call: the whole market of one day, say. Closures that return
/// symbols and [`Bars`] are fetchers, too; a [`BarFetcher`] becomes one by [`OneByOne`].
///
/// Called from several threads at a time, as many as [`FetchPolicy::concurrency`] says.
pub trait ManyBarFetcher: Sync {
    /// Returns the bars of `symbols` that begin in `interval`, in any order: for each symbol what
    /// [`BarFetcher::fetch`] would. A symbol that is left out was asked for, and nothing came: it is due, and asked for
    /// again. Symbols that were not asked for are left out and counted.
    ///
    /// # Errors
    /// As for [`BarFetcher::fetch`]; an error is one for each of the symbols.
    fn fetch(
        &self,
        symbols: &[Symbol],
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
    ) -> std::result::Result<Vec<(Symbol, Answer<Bars>)>, FetchError>;

    /// Returns how many symbols one call can ask for, where [`FetchPolicy::symbols_per_call`] allows as many. Default:
    /// any number.
    fn symbols_max(&self) -> usize {
        usize::MAX
    }
}

impl<F> ManyBarFetcher for F
where
    F: Fn(&[Symbol], Timeframe, Interval<Timestamp>) -> std::result::Result<Vec<(Symbol, Bars)>, FetchError> + Sync,
{
    fn fetch(
        &self,
        symbols: &[Symbol],
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
    ) -> std::result::Result<Vec<(Symbol, Answer<Bars>)>, FetchError> {
        let rows = self(symbols, timeframe, interval)?;
        Ok(rows.into_iter().map(|(symbol, bars)| (symbol, Answer::new(bars))).collect())
    }
}

/// Asks a fetcher of single symbols for many of them: one call, and one commit, for each.
#[derive(Clone, Debug)]
pub struct OneByOne<F>(pub F);

impl<F: BarFetcher> ManyBarFetcher for OneByOne<F> {
    fn fetch(
        &self,
        symbols: &[Symbol],
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
    ) -> std::result::Result<Vec<(Symbol, Answer<Bars>)>, FetchError> {
        symbols.iter().map(|symbol| Ok((symbol.clone(), self.0.fetch(symbol, timeframe, interval)?))).collect()
    }

    fn symbols_max(&self) -> usize {
        1
    }
}

/// One of the series that are loaded.
struct One<'a> {
    series: BarSeries<'a>,
    /// What it needs, or what keeps it from being loaded.
    need: Result<Need>,
    /// What to ask for next.
    wanted: Vec<Interval<Timestamp>>,
    /// Calls that asked for it.
    made: u64,
}

/// One call.
struct Call {
    asked: Interval<Timestamp>,
    /// Which series it is for, and their symbols.
    of: Vec<usize>,
    symbols: Vec<Symbol>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} symbols in {}", self.symbols.len(), self.asked)
    }
}

/// What a call brought for one series.
struct Part {
    of: usize,
    content: Content<Columns>,
    /// Rows of the report that were left out before.
    left_out: usize,
    off_days: u64,
}

/// What is to be written of one series.
struct Ready {
    planned: Planned,
    judged: Judged,
    rest: Option<Interval<Timestamp>>,
    written: RowChanges,
}

impl Market {
    /// Returns the bars of `symbols`: from disk, and from the fetcher what is missing.
    pub(crate) fn load_or_fetch_many(
        &self,
        symbols: &[Symbol],
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
        fetcher: &impl ManyBarFetcher,
    ) -> Result<LoadedMany> {
        let start = self.core.clock().monotonic();
        let order = in_order(symbols, timeframe)?;
        let all = order.iter().map(|symbol| self.bars(symbol.as_str(), timeframe)).collect::<Result<Vec<_>>>()?;
        all.first().map_or(Ok(()), |series| series.check_sessions("load"))?;
        let keys: Vec<LoadKey> = all.iter().map(|series| LoadKey::Bars(series.id.clone())).collect();
        let _flights = keys.iter().map(|key| self.loads.acquire(key)).collect::<Result<Vec<_>>>()?;
        let now = self.core.now();
        let threads = parallel::threads_for(usize::MAX);
        let mut all = parallel::map(all.into_iter(), threads, |series| One::of(series, interval, now));
        let mut report = ManyReport::default();
        let policy = &self.settings.fetch;
        let per_call = policy.symbols_per_call.min(fetcher.symbols_max()).max(1);
        let (mut made, me) = (0_u64, Caller::here());
        loop {
            let calls = calls(&mut all, per_call);
            if calls.is_empty() {
                break;
            }
            made = made.saturating_add(calls.len() as u64);
            keys.first().map_or(Ok(()), |load| check_calls(made, load))?;
            // Fail before fetching when the answers could not be stored.
            self.core.check_writable("load")?;
            requests::run(
                calls.iter().collect(),
                policy,
                &**self.core.clock(),
                |call: &Call| single_flight::on_behalf_of(&me, || fetcher.fetch(&call.symbols, timeframe, call.asked)),
                |response| self.commit_call(&mut all, response, &mut report),
            )?;
            all.iter_mut().for_each(|one| one.look_again(now));
        }
        let time = self.core.clock().monotonic().saturating_sub(start);
        let done = parallel::map(all.into_iter(), threads, |one| one.finish(now, time));
        Ok(in_all(symbols, &order, done, ManyReport { time, ..report }))
    }

    /// Commits what a call brought, in one transaction.
    fn commit_call(
        &self,
        all: &mut [One<'_>],
        response: Response<Vec<(Symbol, Answer<Bars>)>, &Call>,
        report: &mut ManyReport,
    ) -> Result<()> {
        let Response { asked: call, result, attempts, asked_at, time } = response;
        // What a vendor says is of when it was asked; how long it is left alone counts from when it failed.
        let now = if result.is_ok() { asked_at } else { self.core.now() };
        report.calls += u64::from(attempts);
        let share = time / u32::try_from(call.of.len()).unwrap_or(u32::MAX).max(1);
        let mut answers = match result {
            Ok(answers) => {
                let (answers, unasked) = by_symbol(answers, call);
                report.unasked += unasked;
                Ok(answers)
            }
            Err(error) => {
                tracing::warn!(%call, %error, "could not be fetched");
                Err(error)
            }
        };
        let mut parts = Vec::with_capacity(call.of.len());
        for (of, symbol) in call.of.iter().zip(&call.symbols) {
            let Some(one) = all.get_mut(*of) else { continue };
            let answer = match &mut answers {
                Ok(answers) => Ok(answers.remove(symbol).unwrap_or_default()),
                Err(error) => Err(&*error),
            };
            parts.extend(one.take(*of, answer, call.asked, attempts, now));
        }
        let threads = parallel::threads_for(usize::MAX).min(parts.len());
        let done = self.core.commit("load", |batch| {
            let mut done = Vec::with_capacity(parts.len());
            for block in parts.chunks(PLANNED_MAX) {
                let snapshot = batch.before();
                let plan = |part: &Part| one_of(all, part.of).plan(part, call.asked, attempts, share, now, snapshot);
                for (part, ready) in block.iter().zip(parallel::map(block.iter(), threads, plan)) {
                    // A series that is damaged does not keep the others from being written.
                    match ready {
                        Err(err) if err.kind() != ErrorKind::Corrupt => return Err(err),
                        Err(err) => done.push(Err(err)),
                        Ok(Ready { mut planned, judged, rest, written }) => {
                            let series = &one_of(all, part.of).series;
                            series.write_planned(batch, &mut planned)?;
                            series.covered.write_judged(batch, &judged)?;
                            done.push(Ok((rest, written)));
                        }
                    }
                }
            }
            Ok(done)
        })?;
        report.commits += 1;
        for (part, done) in parts.iter().zip(done) {
            if let Some(one) = all.get_mut(part.of) {
                one.note(part, done);
            }
        }
        Ok(())
    }
}

fn one_of<'a, 'b>(all: &'a [One<'b>], of: usize) -> &'a One<'b> {
    all.get(of).always("calls are made of these series")
}

/// The symbols in order, each once.
fn in_order(symbols: &[Symbol], timeframe: Timeframe) -> Result<Vec<Symbol>> {
    let mut order = symbols.to_vec();
    order.sort_unstable();
    if let Some([twice, ..]) = order.windows(2).find(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(Error::invalid("load", format!("{twice} {timeframe}"), "the symbol is there twice"));
    }
    Ok(order)
}

/// The answers by symbol, and how many are for symbols that the call is not about. Where a symbol is there twice, its
/// rows are taken together.
fn by_symbol(answers: Vec<(Symbol, Answer<Bars>)>, call: &Call) -> (BTreeMap<Symbol, Answer<Bars>>, u64) {
    let mut found: BTreeMap<Symbol, Answer<Bars>> = BTreeMap::new();
    let mut unasked = 0;
    for (symbol, answer) in answers {
        if call.symbols.binary_search(&symbol).is_err() {
            unasked += 1;
            continue;
        }
        let Some(before) = found.remove(&symbol) else {
            found.insert(symbol, answer);
            continue;
        };
        let more_from = [before.more_from, answer.more_from].into_iter().flatten().min();
        let is_final = before.is_final && answer.is_final;
        let rows = before.rows.iter().chain(answer.rows.iter()).collect();
        found.insert(symbol, Answer { rows, more_from, is_final });
    }
    (found, unasked)
}

/// The calls for what is wanted: symbols that want the same interval together, as many as a call may ask for.
fn calls(all: &mut [One<'_>], per_call: usize) -> Vec<Call> {
    let mut by_interval: BTreeMap<(Timestamp, Timestamp), Vec<usize>> = BTreeMap::new();
    for (n, one) in all.iter_mut().enumerate() {
        for asked in one.wanted.drain(..) {
            one.made += 1;
            by_interval.entry((asked.start(), asked.end())).or_default().push(n);
        }
    }
    let mut calls = Vec::new();
    for ((start, end), of) in by_interval {
        for of in of.chunks(per_call) {
            let symbols = of.iter().filter_map(|n| Some(all.get(*n)?.series.symbol().clone())).collect();
            calls.push(Call { asked: Interval::between(start, end), of: of.to_vec(), symbols });
        }
    }
    calls
}

impl<'a> One<'a> {
    fn of(series: BarSeries<'a>, interval: Interval<Timestamp>, now: Timestamp) -> Self {
        let need = Need::of(&series.covered, interval, now);
        let mut one = Self { series, need, wanted: Vec::new(), made: 0 };
        if let Ok(need) = &one.need {
            match need.first_calls(&one.series.covered, now) {
                Ok(wanted) => one.wanted = wanted,
                Err(err) => one.need = Err(err),
            }
        }
        one
    }

    /// Looks at what came for it; nothing for a series that failed already.
    fn take(
        &mut self,
        of: usize,
        answer: std::result::Result<Answer<Bars>, &FetchError>,
        asked: Interval<Timestamp>,
        attempts: u32,
        now: Timestamp,
    ) -> Option<Part> {
        let Ok(Need { report, judged, .. }) = &mut self.need else { return None };
        let (series, left_out, off_days) = (&self.series, report.left_out.len(), report.off_days);
        report.calls += u64::from(attempts);
        let content = match answer {
            Ok(answer) => {
                let judge = series.covered.judge(judged, now);
                let normalise = |rows| normalise_bars(series, &rows, asked, &|at| judge.place_of(at), report);
                Content::of(answer, asked, series.timeframe(), normalise)
            }
            Err(error) => Content::failed(error, attempts),
        };
        Some(Part { of, content, left_out, off_days: report.off_days - off_days })
    }

    /// What is to be written of it.
    fn plan(
        &self,
        part: &Part,
        asked: Interval<Timestamp>,
        attempts: u32,
        time: Duration,
        now: Timestamp,
        snapshot: &Snapshot,
    ) -> Result<Ready> {
        let Ok(need) = &self.need else {
            return Err(Error::corrupt("load", self.series.id.to_string(), "it could not be read"));
        };
        let plan = Plan::new(snapshot, snapshot);
        let written = match &part.content.rows {
            Ok(rows) => self.series.plan(&plan, Incoming { rows, known_at: None }, None)?,
            Err(_) => RowChanges::default(),
        };
        let noted = Noted {
            asked,
            due: &need.due,
            times: part.content.rows.as_ref().map(|rows| rows.at.as_slice()).map_err(String::as_str),
            more_from: part.content.more_from,
            is_final: part.content.is_final,
            pause: part.content.pause,
            attempts,
            time,
            left_out: need.report.left_out.get(part.left_out..).unwrap_or_default(),
            off_days: part.off_days,
            now,
            generation: need.judged.record.generation,
        };
        let (judged, rest) = noted.judge(&self.series.covered, snapshot, snapshot)?;
        Ok(Ready { planned: plan.finish(), judged, rest, written })
    }

    /// Takes note of what was committed of it.
    fn note(&mut self, part: &Part, done: Result<(Option<Interval<Timestamp>>, RowChanges)>) {
        match (done, &mut self.need) {
            (Err(err), need) => *need = Err(err),
            (Ok((rest, written)), Ok(need)) => {
                need.report.note_rescaled(&self.series.id, &written);
                self.wanted.extend(rest);
                need.report.fetched += part.content.rows.as_ref().map_or(0, |rows| rows.at.len() as u64);
            }
            (Ok(_), Err(_)) => {}
        }
    }

    /// What is known of it after a round of calls, and what to ask for in the next one.
    fn look_again(&mut self, now: Timestamp) {
        if self.made == 0 {
            return;
        }
        let Ok(need) = &mut self.need else {
            self.wanted.clear();
            return;
        };
        let mut rest = std::mem::take(&mut self.wanted);
        rest.sort_unstable_by_key(Interval::start);
        let covered = &self.series.covered;
        let wanted = covered.judged().and_then(|judged| {
            need.judged = judged;
            need.calls(covered, &rest, now)
        });
        match wanted {
            Ok(wanted) => self.wanted = wanted,
            Err(err) => self.need = Err(err),
        }
    }

    /// Its bars, and what it took to have them.
    fn finish(self, now: Timestamp, time: Duration) -> Result<Loaded<Bars>> {
        let need = self.need?;
        let data = self.series.range(need.over)?;
        let mut report: FetchReport = need.finish(&self.series.covered, now, self.made, time);
        report.from_disk = (data.len() as u64).saturating_sub(report.fetched);
        Ok(Loaded { subject: self.series.id.to_string(), data, report })
    }
}

/// Everything in the order in which it was asked for, and added up.
fn in_all(symbols: &[Symbol], order: &[Symbol], done: Vec<Result<Loaded<Bars>>>, mut report: ManyReport) -> LoadedMany {
    for loaded in done.iter().flatten() {
        report.from_disk += loaded.report.from_disk;
        report.fetched += loaded.report.fetched;
    }
    let mut done: BTreeMap<&Symbol, Result<Loaded<Bars>>> = order.iter().zip(done).collect();
    let loaded = symbols.iter().filter_map(|symbol| Some((symbol.clone(), done.remove(symbol)?)));
    LoadedMany { symbols: loaded.collect(), report }
}

impl FetchPolicy {
    /// Symbols that one call of [`Store::load_or_fetch_many`](crate::Store::load_or_fetch_many) may ask for; one at
    /// least. Default: no limit. Fewer symbols are more calls and more commits; what a call brought is in memory until it
    /// is committed.
    pub fn symbols_per_call(mut self, symbols: usize) -> Self {
        self.symbols_per_call = symbols.max(1);
        self
    }
}
