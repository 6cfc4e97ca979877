//! A vendor who is late, fails, answers in pages and restates, polled at random by many threads over months: in the end
//! nothing is lost, nothing is shown early, and what is called complete is complete.
//!
//! A hundred seeds; `MODELKEEP_SEEDS=2000 cargo test --release --test simulation` tries more, and `MODELKEEP_FIRST_SEED`
//! says which is the first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a test that cannot go on fails, and exact numbers are what it is about"
)]
#![allow(missing_docs, missing_debug_implementations, reason = "tests have no public API")]

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use modelkeep::{
    Day, Interval, Store, Symbol, Timestamp,
    clock::{Clock, ManualClock},
    market::{Answer, Bar, BarFetcher, Bars, Calendar, FetchError, FetchPolicy, Loaded, Session, Timeframe},
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Seeds that found something.
const FOUND: [u64; 1] = [1998];

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A number that depends on nothing but its arguments.
fn hash(seed: u64, at: Timestamp, salt: u64) -> u64 {
    let mut x = seed ^ at.as_nanos().cast_unsigned().rotate_left(17) ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ (x >> 29)
}

/// What the vendor will have in the end, and when each bar, and each restatement of it, can be had.
struct Vendor {
    seed: u64,
    clock: Arc<ManualClock>,
    /// By when they begin: when they can be had.
    bars: BTreeMap<Timestamp, Timestamp>,
    /// One bar in so many is restated, later.
    restated: u64,
    page: usize,
    says_more: bool,
    /// One call in so many fails.
    faults: u64,
}

impl Vendor {
    /// A bar as it stands at `now`; `None` when it cannot be had yet.
    fn bar(&self, at: Timestamp, now: Timestamp) -> Option<Bar> {
        let out = *self.bars.get(&at)?;
        if out > now {
            return None;
        }
        let is_restated = hash(self.seed, at, 1).is_multiple_of(self.restated) && now >= out.after(5 * DAY);
        let price = 100.0 + (hash(self.seed, at, 2) % 1000) as f64 / 100.0 + if is_restated { 50.0 } else { 0.0 };
        Some(Bar { at, open: price, high: price + 1.0, low: price - 1.0, close: price + 0.5, volume: 10.0 })
    }
}

impl BarFetcher for Vendor {
    fn fetch(&self, _: &Symbol, _: Timeframe, asked: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
        let now = self.clock.now();
        if hash(self.seed, now, asked.start().as_nanos().cast_unsigned()).is_multiple_of(self.faults) {
            return Err(FetchError::transient("busy"));
        }
        let there = self.bars.range(asked.start()..asked.end()).filter_map(|(at, _)| self.bar(*at, now));
        let page: Vec<Bar> = there.take(self.page.saturating_add(1)).collect();
        let more = page.get(self.page).map(|bar| bar.at);
        let answer = Answer::new(page.into_iter().take(self.page).collect::<Bars>());
        Ok(match more {
            Some(at) if self.says_more => answer.more_from(at),
            _ => answer,
        })
    }
}

struct Case {
    calendar: Calendar,
    timeframe: Timeframe,
    all: Interval<Timestamp>,
    /// Sessions in which the symbol does not trade at all.
    halted: u64,
}

fn case(random: &mut Xoshiro256PlusPlus) -> Case {
    let calendars = [
        Calendar::nyse(),
        Calendar::always_open(),
        Calendar::tokyo(),
        Calendar::cme_equity_futures(),
        Calendar::xetra(),
    ];
    let calendar = calendars[random.gen_range(0..calendars.len())].clone();
    let (timeframe, days) = [("1d", 365), ("1h", 90), ("45m", 60), ("5m", 15), ("1m", 6)][random.gen_range(0..5)];
    let start: Day = "2018-03-01".parse().unwrap();
    let start = start.plus_days(random.gen_range(0..200)).unwrap();
    let all = Interval::new(start, start.plus_days(days).unwrap()).unwrap().span();
    Case { calendar, timeframe: timeframe.parse().unwrap(), all, halted: random.gen_range(15..60) }
}

fn vendor(seed: u64, case: &Case, clock: &Arc<ManualClock>, random: &mut Xoshiro256PlusPlus) -> Vendor {
    // From seconds to days, and up to half as much again for single sessions.
    let delay = 10.0 * 10_f64.powf(random.gen_range(0.0..4.5));
    let thin = if random.gen_bool(0.5) { 4 } else { u64::MAX };
    let by_clock = hash(seed, case.all.start(), 6).is_multiple_of(2);
    let mut bars = BTreeMap::new();
    for session in case.calendar.sessions(case.all.days()) {
        if hash(seed, session.open, 3).is_multiple_of(case.halted) {
            continue;
        }
        let late = Duration::from_secs_f64(delay * (1.0 + (hash(seed, session.open, 4) % 50) as f64 / 100.0));
        if case.timeframe.is_daily() {
            bars.insert(session.day.start(), session.close.after(late));
            continue;
        }
        for bar in
            if by_clock { by_the_clock(&session, case.timeframe) } else { from_the_open(&session, case.timeframe) }
        {
            if !hash(seed, bar.start(), 5).is_multiple_of(thin) {
                bars.insert(bar.start(), bar.end().after(late));
            }
        }
    }
    bars.retain(|at, _| case.all.contains(*at));
    let page = if random.gen_bool(0.5) { usize::MAX } else { random.gen_range(60..2000) };
    // A page that does not say so is known by its length alone.
    let says_more = page < 500 || random.gen_bool(0.5);
    let faults = random.gen_range(3..20);
    Vendor { seed, clock: Arc::clone(clock), bars, restated: random.gen_range(2..50), page, says_more, faults }
}

/// Bars that are counted from the start of each stretch of trading, and end with it.
fn from_the_open(session: &Session, timeframe: Timeframe) -> Vec<Interval<Timestamp>> {
    let mut bars = Vec::new();
    for stretch in session.trading() {
        let mut begins = stretch.start();
        while begins < stretch.end() {
            let ends = begins.after(timeframe.duration()).min(stretch.end());
            bars.push(Interval::new(begins, ends).unwrap());
            begins = ends;
        }
    }
    bars
}

/// Bars that begin at multiples of their length: the first one is shorter, and one that a break lies in goes on behind
/// it.
fn by_the_clock(session: &Session, timeframe: Timeframe) -> Vec<Interval<Timestamp>> {
    let step = i64::try_from(timeframe.as_nanos()).unwrap();
    let mut bars = Vec::new();
    let mut from = session.open;
    while from < session.close {
        let next = Timestamp::from_nanos((from.as_nanos().div_euclid(step) + 1) * step);
        let traded = session.trading().map(|part| (part.start().max(from), part.end().min(next)));
        let traded: Vec<_> = traded.filter(|(start, end)| start < end).collect();
        if let (Some((begins, _)), Some((_, ends))) = (traded.first(), traded.last()) {
            bars.push(Interval::new(*begins, *ends).unwrap());
        }
        from = next;
    }
    bars
}

/// Checks one answer of the store against the truth.
fn check(
    case: &Case,
    vendor: &Vendor,
    interval: Interval<Timestamp>,
    loaded: &Loaded<Bars>,
    now: Timestamp,
    what: &str,
) {
    for bar in loaded.data.iter() {
        let out = vendor.bars.get(&bar.at).unwrap_or_else(|| panic!("{what}: a bar at {} that never was", bar.at));
        assert!(*out <= now, "{what}: the bar at {} is shown before it can be had", bar.at);
    }
    if loaded.is_complete() {
        // Every bar that has ended is there: what can go on behind a break, does so for all that the store knows.
        let ended = |at: &Timestamp| case.calendar.bar_end(*at, case.timeframe) <= now;
        let there: Vec<Timestamp> = loaded.data.timestamps().to_vec();
        for (at, out) in vendor.bars.range(interval.start()..interval.end()) {
            let is_there = there.binary_search(at).is_ok();
            let message = "called complete without the bar at";
            let report = &loaded.report;
            assert!(
                is_there || !ended(at),
                "{what}: {message} {at}, which can be had from {out} on; it is {now}; {interval}: {report:?}"
            );
        }
    }
}

fn simulate(seed: u64) -> (u64, u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let case = case(&mut random);
    let clock = Arc::new(ManualClock::at(case.all.start()));
    let mut vendor = vendor(seed, &case, &clock, &mut random);
    let policy = FetchPolicy::default().retries(0).concurrency(1 + seed as usize % 3);
    let store =
        Store::options().clock(Arc::clone(&clock)).calendar(case.calendar.clone()).fetch(policy).in_memory().unwrap();
    let what = format!("seed {seed}, {} {}", case.calendar, case.timeframe);
    let longest = 10_f64.powf(random.gen_range(1.0..3.5));
    let (mut loads, mut polls) = (0, 0);
    while clock.now() < case.all.end().after(2 * DAY) && polls < 150 {
        let threads = if random.gen_bool(0.8) { 1 } else { random.gen_range(2..=16) };
        let intervals: Vec<Interval<Timestamp>> = (0..threads)
            .map(|_| {
                let span = case.all.end().since(case.all.start()).as_secs();
                let start = case.all.start().after(Duration::from_secs(random.gen_range(0..span)));
                let end = start.after(Duration::from_secs(random.gen_range(0..=span))).min(case.all.end());
                if random.gen_bool(0.5) { case.all } else { Interval::new(start, end).unwrap() }
            })
            .collect();
        let now = clock.now();
        thread::scope(|scope| {
            for interval in intervals {
                let (store, vendor, case, what) = (&store, &vendor, &case, &what);
                scope.spawn(move || {
                    let loaded = store.load_or_fetch("X", case.timeframe, interval, vendor).unwrap();
                    check(case, vendor, interval, &loaded, now, what);
                });
                loads += 1;
            }
        });
        let step = Duration::from_secs_f64(random.gen_range(1.0..longest) * 60.0);
        clock.advance(if random.gen_bool(0.05) { random.gen_range(1..10) * DAY } else { step });
        polls += 1;
    }
    // In the end the vendor answers, everything can be had, and nothing is missing.
    vendor.faults = u64::MAX;
    clock.set(case.all.end().after(60 * DAY));
    for _ in 0..12 {
        let loaded = store.load_or_fetch("X", case.timeframe, case.all, &vendor).unwrap();
        check(&case, &vendor, case.all, &loaded, clock.now(), &what);
        clock.advance(31 * DAY);
        loads += 1;
    }
    let stored = store.bars("X", case.timeframe).unwrap().range(case.all).unwrap();
    let lost: Vec<_> = vendor.bars.keys().filter(|at| stored.timestamps().binary_search(at).is_err()).collect();
    assert!(lost.is_empty(), "{what}: {} of {} bars are lost, the first at {}", lost.len(), vendor.bars.len(), lost[0]);
    assert_eq!(stored.len(), vendor.bars.len(), "{what}");
    (loads, stored.len() as u64)
}

#[test]
fn nothing_is_lost_and_nothing_is_shown_early() {
    let seeds = std::env::var("MODELKEEP_SEEDS").map_or(100, |seeds| seeds.parse().unwrap());
    let (mut loads, mut bars) = (0, 0);
    let first = std::env::var("MODELKEEP_FIRST_SEED").map_or(0, |seed| seed.parse().unwrap());
    for seed in (first..first + seeds).chain(FOUND) {
        let (more_loads, more_bars) = simulate(seed);
        (loads, bars) = (loads + more_loads, bars + more_bars);
    }
    assert!(loads > seeds * 10 && bars > seeds * 100, "{loads} loads, {bars} bars");
}

/// The detector detects: a vendor who takes a bar back is found.
#[test]
#[should_panic(expected = "that never was")]
fn a_bar_that_never_was_is_found() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let case = case(&mut random);
    let clock = Arc::new(ManualClock::at(case.all.end().after(60 * DAY)));
    let mut vendor = vendor(1, &case, &clock, &mut random);
    vendor.faults = u64::MAX;
    let store = Store::options().clock(Arc::clone(&clock)).calendar(case.calendar.clone()).in_memory().unwrap();
    let loaded = store.load_or_fetch("X", case.timeframe, case.all, &vendor).unwrap();
    vendor.bars.pop_first();
    check(&case, &vendor, case.all, &loaded, clock.now().after(MINUTE), "");
}
