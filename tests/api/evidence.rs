//! What an answer proves, where bars are short, begin at a close, go on, come slowly or are restated.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use modelkeep::{
    Day, Interval, Store, Symbol, Timestamp,
    clock::{Clock, ManualClock},
    market::{Bar, Bars, Calendar, Coverage, FetchError, Loaded, Timeframe},
};

use crate::{
    market::{at, bar, between},
    support::{HOUR, clock},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTES: Duration = Duration::from_secs(60);
const SECONDS: Duration = Duration::from_secs(1);

/// One bar that a vendor has: when it begins and ends, and when it can be had.
#[derive(Clone, Copy)]
struct Row {
    at: Timestamp,
    ends: Timestamp,
    out: Timestamp,
}

/// A vendor with these rows. Volumes say how much of a bar there was when it was asked for, in seconds.
struct Feed {
    clock: Arc<ManualClock>,
    rows: Vec<Row>,
    /// Whether bars that go on are handed out as far as they are.
    shows_running: bool,
    /// How long after its end a bar gets its last value.
    restates: Duration,
    page: usize,
    calls: AtomicU32,
}

impl Feed {
    fn new(clock: &Arc<ManualClock>, rows: Vec<Row>) -> Self {
        let clock = Arc::clone(clock);
        Self { clock, rows, shows_running: false, restates: Duration::ZERO, page: usize::MAX, calls: AtomicU32::new(0) }
    }

    fn calls(&self) -> u32 {
        self.calls.swap(0, Ordering::SeqCst)
    }

    fn value(&self, row: &Row, now: Timestamp) -> Bar {
        let of = now.min(row.ends).since(row.at).as_secs_f64();
        let volume = if now < row.ends.after(self.restates) && now >= row.ends { of - 0.5 } else { of };
        Bar { volume, ..bar(row.at, 5000) }
    }

    fn answer(&self, asked: Interval<Timestamp>) -> Bars {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.clock.now();
        let is_out = |row: &&Row| row.out <= now || (self.shows_running && row.at < now);
        let rows = self.rows.iter().filter(|row| asked.contains(row.at)).filter(is_out);
        rows.take(self.page).map(|row| self.value(row, now)).collect()
    }

    fn load(
        &self,
        store: &Store,
        timeframe: Timeframe,
        interval: Interval<Timestamp>,
        calendar: &Calendar,
    ) -> Loaded<Bars> {
        let fetch = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| Ok::<_, FetchError>(self.answer(asked));
        store.bars("X", timeframe).unwrap().calendar(calendar.clone()).load_or_fetch(interval, &fetch).unwrap()
    }

    /// The rows that are out and over, as they are for good.
    fn all(&self, interval: Interval<Timestamp>) -> Bars {
        let now = self.clock.now();
        let is_out = |row: &&Row| row.ends <= now && (self.shows_running || row.out <= now);
        let rows = self.rows.iter().filter(|row| interval.contains(row.at)).filter(is_out);
        rows.map(|row| self.value(row, Timestamp::from_nanos(i64::MAX))).collect()
    }
}

fn store(clock: &Arc<ManualClock>) -> Store {
    Store::options().clock(Arc::clone(clock)).in_memory().unwrap()
}

/// Minutes of sessions, and one that begins at each close, so long after their ends.
fn minutes_and_closing(calendar: &Calendar, days: Interval<Day>, late: Duration) -> Vec<Row> {
    let mut rows = Vec::new();
    for session in calendar.sessions(days) {
        let mut at = session.open;
        while at <= session.close {
            let ends = at.after(MINUTES);
            rows.push(Row { at, ends, out: ends.after(late) });
            at = ends;
        }
    }
    rows
}

/// Bars by the clock, with a short one first where trading begins between two of them.
fn by_the_clock(calendar: &Calendar, days: Interval<Day>, length: Duration, late: Duration) -> Vec<Row> {
    let step = i64::try_from(length.as_nanos()).unwrap();
    let mut rows = Vec::new();
    for stretch in calendar.sessions(days).flat_map(|session| session.trading().collect::<Vec<_>>()) {
        let mut at = stretch.start();
        while at < stretch.end() {
            let next = Timestamp::from_nanos((at.as_nanos().div_euclid(step) + 1) * step);
            let ends = next.min(stretch.end());
            rows.push(Row { at, ends, out: ends.after(late) });
            at = next;
        }
    }
    rows
}

#[test]
fn a_bar_that_begins_at_the_close_is_not_lost() {
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-22").unwrap();
    for (late, first_look) in
        [(Duration::ZERO, 30 * SECONDS), (2 * SECONDS, MINUTES + SECONDS), (35 * SECONDS, 90 * SECONDS), (HOUR, HOUR)]
    {
        let clock = clock();
        let (store, calendar) = (store(&clock), Calendar::nyse());
        let feed = Feed::new(&clock, minutes_and_closing(&calendar, days, late));
        for session in calendar.sessions(days) {
            clock.set(session.close.after(first_look));
            let day = Interval::new(session.day.start(), session.day.next().start()).unwrap();
            feed.load(&store, Timeframe::MINUTE, day, &calendar);
        }
        for _ in 0..10 {
            clock.advance(DAY);
            feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
        }
        let loaded = feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
        assert_eq!(loaded.data.len(), 5 * 391, "{late:?}");
        assert!(loaded.is_complete());
        feed.calls();
        feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
        assert_eq!(feed.calls(), 0, "{late:?}");
    }
}

#[test]
fn who_has_no_bars_at_the_close_is_asked_little_for_them() {
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-22").unwrap();
    let clock = clock();
    let (store, calendar) = (store(&clock), Calendar::nyse());
    let rows: Vec<Row> = minutes_and_closing(&calendar, days, SECONDS)
        .into_iter()
        .filter(|row| calendar.session_at(row.at).is_some())
        .collect();
    let feed = Feed::new(&clock, rows);
    clock.set(at("2018-12-21T21:00:05Z"));
    let loaded = feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
    assert!(loaded.is_complete() && loaded.data.len() == 5 * 390, "{:?}", loaded.report);
    feed.calls();
    for _ in 0..60 {
        clock.advance(MINUTES);
        assert!(feed.load(&store, Timeframe::MINUTE, days.span(), &calendar).is_complete());
    }
    // One look when all has been published, which also confirms the last minutes.
    assert!(feed.calls() <= 3);
}

#[test]
fn a_short_first_bar_does_not_hide_the_one_behind_it() {
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-19").unwrap();
    let (nyse, tokyo) = (Calendar::nyse(), Calendar::tokyo());
    for (calendar, length) in [(&nyse, HOUR), (&nyse, 2 * HOUR), (&tokyo, 2 * HOUR)] {
        let timeframe = Timeframe::hours(u32::try_from(length.as_secs() / 3600).unwrap()).unwrap();
        let clock = clock();
        let store = store(&clock);
        let feed = Feed::new(&clock, by_the_clock(calendar, days, length, 5 * SECONDS));
        clock.set(days.start().start().after(SECONDS));
        while clock.now() < days.end().start().after(DAY) {
            feed.load(&store, timeframe, days.span(), calendar);
            clock.advance(30 * MINUTES);
        }
        let loaded = feed.load(&store, timeframe, days.span(), calendar);
        assert_eq!(loaded.data, feed.all(days.span()), "{timeframe}");
        assert!(loaded.is_complete());
    }
}

#[test]
fn a_page_that_ends_with_a_short_bar_goes_on_behind_it() {
    let days = Interval::<Day>::parse("2018-06-01", "2018-12-01").unwrap();
    for page in [50, 71, 100] {
        let clock = clock();
        let (store, calendar) = (store(&clock), Calendar::nyse());
        let mut feed = Feed::new(&clock, by_the_clock(&calendar, days, HOUR, SECONDS));
        feed.page = page;
        let loaded = feed.load(&store, Timeframe::HOUR, days.span(), &calendar);
        assert_eq!(loaded.data.len(), feed.all(days.span()).len(), "{page}");
    }
}

#[test]
fn a_short_bar_that_is_written_covers_no_other_one() {
    let (nyse, tokyo, clock) = (Calendar::nyse(), Calendar::tokyo(), clock());
    // 9:30 and, missed by the feed, 10:00; 11:00 before lunch, and 12:30 behind it.
    let cases = [
        (&nyse, Timeframe::HOUR, "2018-12-17T14:30:00Z", "2018-12-17T15:00:00Z"),
        (&tokyo, Timeframe::hours(2).unwrap(), "2018-12-17T02:00:00Z", "2018-12-17T03:30:00Z"),
    ];
    for (calendar, timeframe, written, missed) in cases {
        let store = store(&clock);
        let days = Interval::<Day>::parse("2018-12-17", "2018-12-18").unwrap();
        let feed = Feed::new(&clock, by_the_clock(calendar, days, timeframe.duration(), SECONDS));
        let series = store.bars("X", timeframe).unwrap().calendar(calendar.clone());
        series.write(&[bar(at(written), 5000)].into_iter().collect()).unwrap();
        let moment = Interval::new(at(missed), at(missed).after(SECONDS)).unwrap();
        assert_eq!(series.coverage(moment).unwrap()[0].coverage, Coverage::Missing, "{timeframe}");
        let loaded = feed.load(&store, timeframe, days.span(), calendar);
        assert!(loaded.data.timestamps().contains(&at(missed)), "{timeframe}: {:?}", loaded.data.timestamps());
        assert_eq!(loaded.data.len(), feed.all(days.span()).len());
    }
}

#[test]
fn a_bar_that_goes_on_is_not_kept_for_whole() {
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-21").unwrap();
    for calendar in [Calendar::tokyo(), Calendar::hong_kong()] {
        let clock = clock();
        let store = store(&clock);
        let mut feed = Feed::new(&clock, by_the_clock(&calendar, days, HOUR, SECONDS));
        feed.shows_running = true;
        clock.set(days.start().start());
        while clock.now() < days.end().start() {
            let loaded = feed.load(&store, Timeframe::HOUR, days.span(), &calendar);
            let whole = feed.all(days.span());
            assert!(
                loaded.data.iter().all(|bar| whole.iter().any(|other| other == bar)),
                "{} {}",
                calendar,
                clock.now()
            );
            clock.advance(5 * MINUTES);
        }
        clock.advance(DAY);
        assert_eq!(feed.load(&store, Timeframe::HOUR, days.span(), &calendar).data, feed.all(days.span()));
    }
}

/// By the clock a bar of two or four hours goes on over lunch; whoever asks meanwhile gets none of it.
#[test]
fn a_bar_that_goes_on_over_lunch_is_not_kept_for_whole() {
    for (calendar, hours) in [(Calendar::tokyo(), 2), (Calendar::tokyo(), 4), (Calendar::hong_kong(), 2)] {
        let timeframe = Timeframe::hours(hours).unwrap();
        let days = Interval::<Day>::parse("2018-12-17", "2018-12-20").unwrap();
        let clock = clock();
        let store = store(&clock);
        let step = i64::try_from(timeframe.as_nanos()).unwrap();
        let mut rows: Vec<Row> = Vec::new();
        for session in calendar.sessions(days) {
            let mut at = session.open;
            while at < session.close {
                let next = Timestamp::from_nanos((at.as_nanos().div_euclid(step) + 1) * step);
                let ends = calendar.bar_end(at, timeframe).min(next);
                if session.trading().any(|stretch| stretch.contains(at)) {
                    rows.push(Row { at, ends, out: ends.after(SECONDS) });
                }
                at = next;
            }
        }
        let mut feed = Feed::new(&clock, rows);
        feed.shows_running = true;
        clock.set(days.start().start());
        while clock.now() < days.end().start() {
            let loaded = feed.load(&store, timeframe, days.span(), &calendar);
            let is_whole = |bar: &Bar| feed.all(days.span()).iter().any(|other| other == *bar);
            assert!(loaded.data.iter().all(|bar| is_whole(&bar)), "{calendar} {timeframe} {}", clock.now());
            clock.advance(7 * MINUTES);
        }
        clock.advance(DAY);
        assert_eq!(feed.load(&store, timeframe, days.span(), &calendar).data, feed.all(days.span()), "{timeframe}");
    }
}

/// A part of an hour in which a bar by the clock would begin, and no bar from the open on: nothing is known of it.
#[test]
fn a_part_of_which_nothing_is_known_is_not_complete() {
    let (clock, calendar) = (clock(), Calendar::nyse());
    clock.set(at("2018-12-18T12:00:00Z"));
    let part = Interval::new(at("2018-12-17T15:00:00Z"), at("2018-12-17T15:30:00Z")).unwrap();
    for is_down in [true, false] {
        let store = store(&clock);
        let vendor = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| {
            if is_down { Err(FetchError::permanent("down")) } else { Ok(Bars::default()) }
        };
        let series = store.bars("X", Timeframe::HOUR).unwrap().calendar(calendar.clone());
        let loaded = series.load_or_fetch(part, &vendor).unwrap();
        assert!(!loaded.is_complete(), "down: {is_down}; {:?}", loaded.report);
    }
}

#[test]
fn a_part_that_failed_is_a_gap_where_a_bar_can_begin() {
    let (clock, calendar) = (clock(), Calendar::tokyo());
    let store = store(&clock);
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-18").unwrap();
    let feed = Feed::new(&clock, by_the_clock(&calendar, days, HOUR, SECONDS));
    feed.load(&store, Timeframe::HOUR, Interval::new(at("2018-12-17"), at("2018-12-17T01:45:00Z")).unwrap(), &calendar);
    let fails = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Err::<Bars, _>(FetchError::permanent("down"));
    let series = store.bars("X", Timeframe::HOUR).unwrap().calendar(calendar);
    let part = Interval::new(at("2018-12-17T01:45:00Z"), at("2018-12-17T02:15:00Z")).unwrap();
    let loaded = series.load_or_fetch(part, &fails).unwrap();
    assert!(!loaded.is_complete(), "{:?}", loaded.report);
}

#[test]
fn minutes_that_came_at_once_are_confirmed_once() {
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-18").unwrap();
    let clock = clock();
    let (store, calendar) = (store(&clock), Calendar::nyse());
    let rows = minutes_and_closing(&calendar, days, Duration::ZERO);
    let mut feed = Feed::new(&clock, rows.into_iter().filter(|row| calendar.session_at(row.at).is_some()).collect());
    feed.restates = 30 * SECONDS;
    clock.set(at("2018-12-17T14:31:02Z"));
    while clock.now() < at("2018-12-17T21:05:00Z") {
        feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
        clock.advance(MINUTES);
    }
    feed.calls();
    clock.set(at("2018-12-17T21:30:00Z"));
    let loaded = feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
    assert_eq!(loaded.data, feed.all(days.span()));
    clock.advance(DAY);
    feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
    assert_eq!(feed.calls(), 1);
}

#[test]
fn a_clock_that_was_far_ahead_puts_nothing_off_for_ever() {
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-22").unwrap();
    let clock = clock();
    let (store, calendar) = (store(&clock), Calendar::nyse());
    let rows = calendar.sessions(days).map(|session| {
        let out = session.close.after(SECONDS);
        Row { at: session.day.start(), ends: session.close, out }
    });
    let mut feed = Feed::new(&clock, rows.collect());
    let nothing = std::mem::take(&mut feed.rows);
    clock.set(at("2099-01-02"));
    let loaded = feed.load(&store, Timeframe::DAY, days.span(), &calendar);
    assert!(!loaded.is_complete());
    feed.rows = nothing;
    clock.set(at("2018-12-22"));
    let loaded = feed.load(&store, Timeframe::DAY, days.span(), &calendar);
    assert_eq!(loaded.data.len(), 5);
    assert!(loaded.report.judged_later.is_some());
}

#[test]
fn an_answer_is_judged_by_when_it_was_asked_for() {
    let clock = clock();
    let store = store(&clock);
    let close = at("2018-12-21T21:00:00Z");
    let is_slow = AtomicBool::new(true);
    let day = between("2018-12-21", "2018-12-22");
    // The last value is out 14 minutes after the close. A call that began before that is 6 minutes on its way.
    let vendor = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| {
        let volume = if clock.now() >= close.after(14 * MINUTES) { 2.0 } else { 1.0 };
        if is_slow.load(Ordering::SeqCst) {
            clock.advance(6 * MINUTES);
        }
        Ok::<_, FetchError>(Bars::from_iter([Bar { volume, ..bar(at("2018-12-21"), 5000) }]))
    };
    clock.set(close.after(10 * MINUTES));
    let series = store.bars("X", Timeframe::DAY).unwrap();
    assert_eq!(series.load_or_fetch(day, &vendor).unwrap().data.volume(), [1.0]);
    is_slow.store(false, Ordering::SeqCst);
    clock.advance(HOUR);
    assert_eq!(series.load_or_fetch(day, &vendor).unwrap().data.volume(), [2.0]);
}

#[test]
fn an_answer_that_was_under_way_when_all_was_forgotten_says_nothing() {
    let clock = clock();
    let store = store(&clock);
    let days = between("2018-12-10", "2018-12-22");
    let forgets = AtomicBool::new(true);
    let calls = AtomicU32::new(0);
    let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        calls.fetch_add(1, Ordering::SeqCst);
        if forgets.swap(false, Ordering::SeqCst) {
            store.bars("X", Timeframe::DAY).unwrap().mark_missing(days).unwrap();
        }
        Ok::<_, FetchError>(
            Calendar::nyse().sessions(asked.days()).map(|session| bar(session.day.start(), 5000)).collect(),
        )
    };
    let series = store.bars("X", Timeframe::DAY).unwrap();
    let loaded = series.load_or_fetch(days, &vendor).unwrap();
    assert!(!loaded.is_complete() && loaded.data.len() == 10);
    assert!(series.load_or_fetch(days, &vendor).unwrap().is_complete());
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_part_in_which_no_bar_can_begin_is_not_asked_for_and_not_missed() {
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-18").unwrap();
    let clock = clock();
    let (store, calendar) = (store(&clock), Calendar::nyse());
    let feed = Feed::new(&clock, minutes_and_closing(&calendar, days, SECONDS));
    let part = Interval::new(at("2018-12-17T14:40:10Z"), at("2018-12-17T14:40:50Z")).unwrap();
    assert!(feed.load(&store, Timeframe::MINUTE, part, &calendar).is_complete());
    assert_eq!(feed.calls(), 0);
    // A part without a row is looked at again with the rest of its session.
    let mut thin = Feed::new(&clock, minutes_and_closing(&calendar, days, SECONDS));
    thin.rows.retain(|row| row.at != at("2018-12-17T14:40:00Z"));
    clock.advance(30 * DAY);
    let minute = Interval::new(at("2018-12-17T14:40:00Z"), at("2018-12-17T14:41:00Z")).unwrap();
    thin.load(&store, Timeframe::MINUTE, minute, &calendar);
    let loaded = thin.load(&store, Timeframe::MINUTE, days.span(), &calendar);
    assert!(loaded.is_complete() && loaded.data.len() == 390, "{:?}", loaded.report);
}

#[test]
fn gaps_are_not_hidden_by_bars_of_the_session_before() {
    let clock = clock();
    let store = store(&clock);
    let coins = store.bars("X", "7m".parse().unwrap()).unwrap().calendar(Calendar::always_open());
    // The last bar of the 3rd reaches into the 4th, which has none.
    coins.write(&[bar(at("2018-12-03T23:58:00Z"), 5000)].into_iter().collect()).unwrap();
    let gaps = coins.gaps(between("2018-12-03", "2018-12-06")).unwrap();
    assert_eq!(gaps.iter().map(|session| session.day.to_string()).collect::<Vec<_>>(), ["2018-12-04", "2018-12-05"]);
    // A bar that goes on when an interval begins covers a part of it.
    let hours = store.bars("X", Timeframe::HOUR).unwrap();
    hours.write(&[bar(at("2018-12-17T14:30:00Z"), 5000)].into_iter().collect()).unwrap();
    let part = Interval::new(at("2018-12-17T15:00:00Z"), at("2018-12-17T16:00:00Z")).unwrap();
    let gaps = hours.intraday_gaps(part, MINUTES).unwrap();
    assert_eq!(gaps, [Interval::new(at("2018-12-17T15:30:00Z"), at("2018-12-17T16:00:00Z")).unwrap()]);
}

#[test]
fn an_answer_without_it_does_not_make_a_stored_bar_missing() {
    let clock = clock();
    let store = store(&clock);
    let day = between("2018-12-21", "2018-12-22");
    clock.set(at("2018-12-21T21:00:01Z"));
    let is_there = AtomicBool::new(true);
    let vendor = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| {
        let there = is_there.load(Ordering::SeqCst);
        Ok::<Bars, FetchError>(there.then(|| bar(at("2018-12-21"), 5000)).into_iter().collect())
    };
    let series = store.bars("X", Timeframe::DAY).unwrap();
    assert!(series.load_or_fetch(day, &vendor).unwrap().is_complete());
    is_there.store(false, Ordering::SeqCst);
    for _ in 0..30 {
        clock.advance(DAY);
        let loaded = series.load_or_fetch(day, &vendor).unwrap();
        assert!(loaded.is_complete() && loaded.data.len() == 1, "{:?}", loaded.report);
    }
    assert!(series.coverage(day).unwrap().iter().any(|span| span.coverage == Coverage::Present));
}

#[test]
fn a_symbol_that_is_dead_takes_a_call_a_day() {
    let clock = clock();
    let store = store(&clock);
    let feed = Feed::new(&clock, Vec::new());
    clock.set(at("2016-01-01"));
    for day in 0..800 {
        clock.advance(DAY);
        feed.load(&store, Timeframe::DAY, between("2016-01-01", "2018-12-31"), &Calendar::nyse());
        assert!(feed.calls() <= 1, "day {day}");
    }
}

#[test]
fn minutes_without_a_trade_are_asked_for_once_when_all_has_been_published() {
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-18").unwrap();
    let clock = clock();
    let (store, calendar) = (store(&clock), Calendar::nyse());
    let mut rows = minutes_and_closing(&calendar, days, SECONDS);
    rows.retain(|row| row.at.as_nanos() / 60_000_000_000 % 30 != 7 && calendar.session_at(row.at).is_some());
    let feed = Feed::new(&clock, rows);
    clock.set(at("2018-12-17T14:31:02Z"));
    while clock.now() < at("2018-12-17T21:10:00Z") {
        feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
        clock.advance(MINUTES);
    }
    feed.calls();
    while clock.now() < at("2018-12-17T22:00:00Z") {
        feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
        clock.advance(MINUTES);
    }
    let loaded = feed.load(&store, Timeframe::MINUTE, days.span(), &calendar);
    assert!(loaded.is_complete() && loaded.data == feed.all(days.span()), "{:?}", loaded.report);
    assert!(feed.calls() <= 4);
}
