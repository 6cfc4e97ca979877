//! What the ledger may claim: missing is never called known, whatever a vendor answers, and whenever one asks.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use modelkeep::{
    Day, Interval, Store, Symbol, Timestamp,
    clock::{Clock, ManualClock},
    market::{Answer, Bar, BarFetcher, Bars, Calendar, Coverage, FetchError, FetchPolicy, Loaded, Timeframe},
};

use crate::{
    market::{MINUTE, at, bar, between},
    support::{HOUR, clock},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTES: Duration = Duration::from_secs(60);

/// A vendor with bars of every session, each of which can be had so long after it has ended.
struct Vendor {
    calendar: Calendar,
    clock: Arc<ManualClock>,
    delay: Duration,
    /// Rows of an answer at most.
    page: usize,
    calls: AtomicU32,
}

impl Vendor {
    fn new(clock: &Arc<ManualClock>, delay: Duration) -> Self {
        let (calendar, clock) = (Calendar::nyse(), Arc::clone(clock));
        Self { calendar, clock, delay, page: usize::MAX, calls: AtomicU32::new(0) }
    }

    fn calls(&self) -> u32 {
        self.calls.swap(0, Ordering::SeqCst)
    }

    /// The bars that begin in `asked`, with when they have ended.
    fn bars(&self, timeframe: Timeframe, asked: Interval<Timestamp>) -> Vec<(Bar, Timestamp)> {
        let days = Interval::new(asked.start().day().plus_days(-1).unwrap(), asked.end().day().next()).unwrap();
        let mut bars = Vec::new();
        for session in self.calendar.sessions(days) {
            if timeframe.is_daily() {
                bars.push((bar(session.day.start(), 5000), session.close));
                continue;
            }
            let mut begins = session.open;
            while begins < session.close {
                let ends = begins.after(timeframe.duration());
                bars.push((bar(begins, 5000), ends.min(session.close)));
                begins = ends;
            }
        }
        bars.retain(|(bar, _)| asked.contains(bar.at));
        bars
    }
}

impl BarFetcher for Vendor {
    fn fetch(&self, _: &Symbol, timeframe: Timeframe, asked: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.clock.now();
        let bars = self.bars(timeframe, asked).into_iter().filter(|(_, ended)| ended.after(self.delay) <= now);
        Ok(bars.map(|(bar, _)| bar).take(self.page).collect::<Bars>().into())
    }
}

fn store(clock: &Arc<ManualClock>) -> Store {
    Store::options().clock(Arc::clone(clock)).in_memory().unwrap()
}

fn load(store: &Store, timeframe: Timeframe, interval: Interval<Timestamp>, vendor: &impl BarFetcher) -> Loaded<Bars> {
    store.load_or_fetch("SPY", timeframe, interval, vendor).unwrap()
}

#[test]
fn a_daily_bar_that_is_published_late_is_there_whatever_the_polling() {
    for (delay, polling) in
        [(2 * HOUR, 20 * MINUTES), (2 * HOUR, 5 * MINUTES), (17 * HOUR, HOUR), (50 * HOUR, 3 * HOUR)]
    {
        let (clock, week) = (clock(), between("2018-12-17", "2018-12-22"));
        let (store, vendor) = (store(&clock), Vendor::new(&clock, delay));
        let close = at("2018-12-21T21:00:00Z");
        clock.set(close);
        for poll in 0..100 {
            let loaded = load(&store, Timeframe::DAY, week, &vendor);
            let is_out = clock.now() >= close.after(delay);
            let days = loaded.data.timestamps().last().map(|at| at.day().to_string());
            assert_eq!(days.as_deref() == Some("2018-12-21"), is_out, "{delay:?} {polling:?} poll {poll}");
            assert!(is_out || !loaded.is_complete());
            clock.advance(polling);
        }
    }
}

#[test]
fn levels_that_are_published_late_are_there_too() {
    let clock = clock();
    let store = store(&clock);
    let close = at("2018-12-21T21:00:00Z");
    let vendor = |_: &Symbol, days: Interval<Day>| {
        let is_out = |day: &Day| *day < close.day() || clock.now() >= close.after(17 * HOUR);
        let sessions = Calendar::nyse().sessions(days).map(|session| session.day);
        Ok::<_, FetchError>(sessions.filter(is_out).map(|day| (day, 20.0)).collect())
    };
    clock.set(close);
    let week = Interval::parse("2018-12-17", "2018-12-22").unwrap();
    for poll in 0..30 {
        let loaded = store.levels("VIX").unwrap().load_or_fetch(week, &vendor).unwrap();
        assert_eq!(loaded.data.len(), if poll >= 17 { 5 } else { 4 }, "hour {poll}");
        clock.advance(HOUR);
    }
}

#[test]
fn minutes_on_days_that_the_calendar_does_not_know_all_come_and_nobody_calls_them_complete() {
    let calendar = Calendar::from_json(
        r#"{"name":"old","version":1,"hours":"exchange","zone":"America/New_York","open":"09:30","close":"16:00",
            "first":"2010-01-01","end":"2018-01-01","weekend":["Sat","Sun"]}"#,
    )
    .unwrap();
    let clock = clock();
    let store = Store::options().clock(Arc::clone(&clock)).calendar(calendar).in_memory().unwrap();
    let vendor = Vendor::new(&clock, 15 * MINUTES);
    let day = between("2018-12-21", "2018-12-22");
    clock.set(at("2018-12-21T14:30:00Z"));
    while clock.now() < at("2018-12-22T02:00:00Z") {
        load(&store, Timeframe::MINUTE, day, &vendor);
        clock.advance(5 * MINUTES);
    }
    let loaded = load(&store, Timeframe::MINUTE, day, &vendor);
    assert_eq!(loaded.data.len(), 390);
    let unjudged = loaded.report.unjudged.clone().unwrap();
    assert_eq!((unjudged.calendar.as_str(), unjudged.known.end().to_string().as_str()), ("old v1", "2018-01-01"));
    let refused = loaded.clone().complete().unwrap_err();
    assert!(refused.message().contains("old v1") && refused.message().contains("2018-01-01"), "{refused}");
    assert_eq!(loaded.accept_unjudged().complete().unwrap().len(), 390);
}

#[test]
fn what_a_live_feed_missed_is_fetched() {
    let clock = clock();
    let (store, vendor) = (store(&clock), Vendor::new(&clock, Duration::ZERO));
    let minutes = store.bars("SPY", Timeframe::MINUTE).unwrap();
    // The first minute of one day, and the last of the next; between them the feed was down.
    for begins in ["2018-12-20T14:30:00Z", "2018-12-21T20:59:00Z"] {
        clock.set(at(begins).after(MINUTES));
        minutes.write(&[bar(at(begins), 5000)].into_iter().collect()).unwrap();
    }
    clock.set(at("2018-12-22"));
    let loaded = load(&store, Timeframe::MINUTE, between("2018-12-20", "2018-12-22"), &vendor);
    assert_eq!((loaded.data.len(), loaded.is_complete()), (780, true));
    assert!(vendor.calls() > 0);
}

#[test]
fn a_writer_who_knows_says_so() {
    let clock = clock();
    let (store, vendor) = (store(&clock), Vendor::new(&clock, Duration::ZERO));
    clock.set(at("2019-06-01"));
    let (minutes, day) = (store.bars("SPY", Timeframe::MINUTE).unwrap(), between("2018-12-20", "2018-12-21"));
    let thin: Bars =
        ["2018-12-20T14:30:00Z", "2018-12-20T19:00:00Z"].map(|begins| bar(at(begins), 5000)).into_iter().collect();
    minutes.write_covering(&thin, day).unwrap();
    let loaded = load(&store, Timeframe::MINUTE, day, &vendor);
    assert_eq!((loaded.data.len(), loaded.is_complete(), vendor.calls()), (2, true, 0));
    let outside = minutes.write_covering(&thin, between("2018-12-20T15:00:00Z", "2018-12-21")).unwrap_err();
    assert!(outside.message().contains("2018-12-20T14:30:00Z lies outside"), "{outside}");
}

#[test]
fn a_run_of_sessions_is_never_closed_by_empty_answers_alone() {
    let clock = clock();
    let store = store(&clock);
    clock.set(at("2019-06-01"));
    let (broken, vendor) = (Mutex::new(true), Vendor::new(&clock, Duration::ZERO));
    let repaired = |symbol: &Symbol, timeframe: Timeframe, asked: Interval<Timestamp>| {
        if *broken.lock().unwrap() {
            Ok(Bars::default())
        } else {
            Ok(vendor.bars(timeframe, asked).into_iter().map(|(bar, _)| bar).collect())
        }
        .inspect(|_: &Bars| {
            assert_eq!(symbol.as_str(), "SPY");
        })
    };
    let all = between("1999-01-01", "2019-06-01");
    for _ in 0..5 {
        let loaded = load(&store, Timeframe::DAY, all, &repaired);
        assert!(loaded.data.is_empty() && !loaded.is_complete());
        assert!(loaded.complete().is_err());
        clock.advance(40 * DAY);
    }
    *broken.lock().unwrap() = false;
    let loaded = load(&store, Timeframe::DAY, all, &repaired);
    let sessions = Calendar::nyse().sessions(all.days()).count();
    assert_eq!((loaded.data.len(), loaded.is_complete()), (sessions, true));
}

#[test]
fn the_vendor_can_say_that_there_is_nothing_for_good() {
    struct Delisted(AtomicU32);
    impl BarFetcher for Delisted {
        fn fetch(&self, _: &Symbol, _: Timeframe, _: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Answer::nothing_for_good())
        }
    }
    let clock = clock();
    let store = store(&clock);
    clock.set(at("2019-06-01"));
    let (vendor, year) = (Delisted(AtomicU32::new(0)), between("2018-01-01", "2019-01-01"));
    for _ in 0..3 {
        assert!(load(&store, Timeframe::DAY, year, &vendor).is_complete());
        clock.advance(100 * DAY);
    }
    assert_eq!(vendor.0.into_inner(), 1);
    let known = store.bars("SPY", Timeframe::DAY).unwrap().coverage(year).unwrap();
    assert_eq!((known.len(), &known[0].coverage), (1, &Coverage::Empty));
}

#[test]
fn the_tail_of_each_day_comes_however_late_the_vendor_is() {
    for delay in [16, 20, 30, 90].map(|minutes| minutes * MINUTES) {
        for polling in [MINUTES, 7 * MINUTES, 60 * MINUTES] {
            let clock = clock();
            let (store, vendor) = (store(&clock), Vendor::new(&clock, delay));
            let week = between("2018-12-17", "2018-12-22");
            clock.set(at("2018-12-17T14:30:00Z"));
            while clock.now() < at("2018-12-22T03:00:00Z") {
                load(&store, Timeframe::MINUTE, week, &vendor);
                clock.advance(polling);
            }
            clock.advance(DAY);
            let loaded = load(&store, Timeframe::MINUTE, week, &vendor);
            assert_eq!((loaded.data.len(), loaded.is_complete()), (5 * 390, true), "{delay:?} {polling:?}");
        }
    }
}

#[test]
fn a_bar_that_was_fetched_a_second_after_the_close_is_asked_for_once_more() {
    let clock = clock();
    let store = store(&clock);
    let (calls, close) = (AtomicU32::new(0), at("2018-12-21T21:00:00Z"));
    let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        calls.fetch_add(1, Ordering::SeqCst);
        let is_final = clock.now() >= close.after(10 * MINUTES);
        let price = if is_final { 5100 } else { 5000 };
        let bars: Bars =
            Calendar::nyse().sessions(asked.days()).map(|session| bar(session.day.start(), price)).collect();
        Ok::<_, FetchError>(bars)
    };
    let day = between("2018-12-21", "2018-12-22");
    let closes = |time: Timestamp| {
        clock.set(time);
        let loaded = load(&store, Timeframe::DAY, day, &vendor);
        assert!(loaded.is_complete());
        (loaded.data.close()[0], calls.swap(0, Ordering::SeqCst))
    };
    assert_eq!(closes(close.after(Duration::from_secs(1))), (50.02, 1));
    assert_eq!(closes(close.after(5 * MINUTES)), (50.02, 0));
    assert_eq!(closes(close.after(15 * MINUTES)), (51.02, 1));
    assert_eq!(closes(close.after(DAY)), (51.02, 0));
    // What it was before is history.
    let bars = store.bars("SPY", Timeframe::DAY).unwrap();
    assert_eq!(bars.range_as_of(day, close.after(5 * MINUTES)).unwrap().close(), [50.02]);
}

#[test]
fn a_load_is_complete_exactly_when_every_ended_bar_is_there() {
    for calendar in [Calendar::nyse(), Calendar::always_open()] {
        for timeframe in ["1h", "2h", "45m", "5m"].map(|text| text.parse::<Timeframe>().unwrap()) {
            let clock = clock();
            let store = Store::options().clock(Arc::clone(&clock)).calendar(calendar.clone()).in_memory().unwrap();
            let vendor = Vendor { calendar: calendar.clone(), ..Vendor::new(&clock, Duration::ZERO) };
            clock.set(at("2018-12-19T14:30:00Z"));
            for poll in 0..200 {
                // The interval ends wherever it ends, inside a bar too.
                let interval = Interval::new(at("2018-12-19"), clock.now().after(7 * MINUTES * (poll % 3))).unwrap();
                let loaded = load(&store, timeframe, interval, &vendor);
                let ended =
                    vendor.bars(timeframe, interval).into_iter().filter(|(_, ends)| *ends <= clock.now()).count();
                assert_eq!(loaded.data.len(), ended, "{calendar} {timeframe} {}", clock.now());
                // One bar alone does not show whether the next one begins by the clock.
                let shows_grid = ended > 1 || timeframe <= Timeframe::minutes(30).unwrap();
                let gaps = &loaded.report.gaps;
                assert!(loaded.is_complete() || !shows_grid, "{calendar} {timeframe} {}: {gaps:?}", clock.now());
                clock.advance(15 * MINUTES);
            }
        }
    }
}

/// A vendor who answers a day at a time, and says so.
struct Says(Vendor);
impl BarFetcher for Says {
    fn fetch(
        &self,
        symbol: &Symbol,
        timeframe: Timeframe,
        asked: Interval<Timestamp>,
    ) -> Result<Answer<Bars>, FetchError> {
        let page = Interval::new(asked.start(), asked.start().after(DAY).min(asked.end())).unwrap();
        Ok(Answer::new(self.0.fetch(symbol, timeframe, page)?.into_rows()).more_from(page.end()))
    }
}

#[test]
fn a_vendor_with_pages_is_asked_for_the_rest() {
    let clock = clock();
    let store = store(&clock);
    clock.set(at("2019-06-01"));
    let vendor = Vendor { page: 1000, ..Vendor::new(&clock, Duration::ZERO) };
    let month = between("2018-11-24", "2018-12-22");
    let loaded = load(&store, Timeframe::MINUTE, month, &vendor);
    let all = vendor.bars(Timeframe::MINUTE, month).len();
    assert_eq!((loaded.data.len(), loaded.is_complete(), vendor.calls()), (all, true, 8));
    assert_eq!(all, 19 * 390);

    let says = Says(Vendor::new(&clock, Duration::ZERO));
    let week = between("2018-03-05", "2018-03-10");
    let loaded = store.load_or_fetch("QQQ", Timeframe::MINUTE, week, &says).unwrap();
    assert_eq!((loaded.data.len(), loaded.is_complete(), says.0.calls()), (5 * 390, true, 5));
}

#[test]
fn bars_in_and_out_of_sessions_are_the_same_whenever_one_asks() {
    let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        // From 4:00 to 20:00 in New York, and one bar more at the close.
        let session = Calendar::nyse().session("2018-12-20".parse().unwrap()).unwrap();
        let start = session.open.as_nanos() - 330 * MINUTE;
        let minutes =
            (0..960).map(|n| Timestamp::from_nanos(start + n * MINUTE)).filter(|begins| asked.contains(*begins));
        Ok::<_, FetchError>(minutes.map(|begins| bar(begins, 5000)).collect::<Bars>())
    };
    for (extended, expected) in [(false, 391), (true, 960)] {
        for times in [
            &["2018-12-20T18:00:00Z", "2018-12-22"][..],
            &["2018-12-22"],
            &["2018-12-20T13:00:00Z", "2018-12-20T23:00:00Z", "2018-12-23"],
        ] {
            let clock = clock();
            let policy = FetchPolicy::default().extended_hours(extended);
            let store = Store::options().clock(Arc::clone(&clock)).fetch(policy).in_memory().unwrap();
            let mut count = 0;
            for time in times {
                clock.set(at(time));
                count =
                    load(&store, Timeframe::MINUTE, between("2018-12-20", "2018-12-21T05:00:00Z"), &vendor).data.len();
            }
            assert_eq!(count, expected, "extended {extended}, asked at {times:?}");
        }
    }
}

#[test]
fn years_before_the_calendar_begins_take_a_call_or_two() {
    let clock = clock();
    let store = store(&clock);
    clock.set(at("2019-06-01"));
    let (calls, bars) = (AtomicU32::new(0), store.bars("SPY", Timeframe::DAY).unwrap());
    let weekdays = |days: Interval<Day>| -> Bars {
        Calendar::weekdays().sessions(days).map(|session| bar(session.day.start(), 5000)).collect()
    };
    let decade = between("1990-01-01", "1999-01-01");
    bars.write(&weekdays(decade.days())).unwrap();
    let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        calls.fetch_add(1, Ordering::SeqCst);
        Ok::<_, FetchError>(weekdays(asked.days()))
    };
    for _ in 0..3 {
        load(&store, Timeframe::DAY, decade, &vendor);
    }
    assert!(calls.load(Ordering::SeqCst) <= 2, "{calls:?}");
}

#[test]
fn the_last_hour_of_a_session_is_asked_for_when_it_has_ended() {
    let clock = clock();
    let (store, vendor) = (store(&clock), Vendor::new(&clock, Duration::ZERO));
    let day = between("2018-12-21", "2018-12-22");
    clock.set(at("2018-12-21T20:45:00Z"));
    assert_eq!(load(&store, Timeframe::HOUR, day, &vendor).data.len(), 6);
    clock.set(at("2018-12-21T21:00:00Z"));
    let loaded = load(&store, Timeframe::HOUR, day, &vendor);
    assert_eq!((loaded.data.len(), loaded.is_complete()), (7, true));
}

#[test]
fn an_empty_answer_proves_nothing_about_a_session_that_has_a_bar() {
    let clock = clock();
    let empty = |_: &Symbol, _: Timeframe, _: Interval<Timestamp>| Ok::<_, FetchError>(Bars::default());
    let day = between("2018-12-20", "2018-12-21");
    for (written, asked_at) in [
        (&["2018-12-20T14:30:00Z"][..], "2019-06-01"),
        (&["2018-12-20T14:30:00Z", "2018-12-20T20:59:00Z"], "2018-12-20T22:00:00Z"),
        (&["2018-12-20T14:30:00Z", "2018-12-20T20:59:00Z"], "2019-06-01"),
    ] {
        let store = store(&clock);
        clock.set(at("2018-12-20T21:00:00Z"));
        let bars: Bars = written.iter().map(|begins| bar(at(begins), 5000)).collect();
        store.bars("SPY", Timeframe::MINUTE).unwrap().write(&bars).unwrap();
        clock.set(at(asked_at));
        let loaded = load(&store, Timeframe::MINUTE, day, &empty);
        assert!(!loaded.is_complete(), "{written:?} {asked_at}: {:?}", loaded.report);
    }
}

#[test]
fn what_another_calendar_or_other_hours_expect_is_asked_for() {
    let clock = clock();
    let store = store(&clock);
    clock.set(at("2019-06-01"));
    let week = between("2018-12-17", "2018-12-24");
    let always = Vendor { calendar: Calendar::always_open(), ..Vendor::new(&clock, Duration::ZERO) };
    let coin = store.bars("BTC-USD", Timeframe::DAY).unwrap();
    let judged = coin.load_or_fetch(week, &always).unwrap();
    assert_eq!(judged.accept_off_days().complete().unwrap().len(), 5);
    coin.set_calendar(Calendar::always_open()).unwrap();
    assert_eq!(coin.load_or_fetch(week, &always).unwrap().complete().unwrap().len(), 7);

    let day = between("2018-12-20", "2018-12-21T05:00:00Z");
    let minutes = store.bars("QQQ", Timeframe::MINUTE).unwrap();
    let plain = minutes.load_or_fetch(day, &always).unwrap();
    assert!(plain.is_complete());
    let extended = minutes.policy(FetchPolicy::default().extended_hours(true)).load_or_fetch(day, &always).unwrap();
    assert_eq!((plain.data.len(), extended.data.len()), (391, 29 * 60));
}

#[test]
fn a_vendor_who_always_has_more_comes_to_an_end() {
    struct Endless(AtomicU32);
    impl BarFetcher for Endless {
        fn fetch(&self, _: &Symbol, _: Timeframe, asked: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Answer::new(Bars::default()).more_from(asked.start().after(Duration::from_nanos(1))))
        }
    }
    let clock = clock();
    let store = store(&clock);
    clock.set(at("2019-06-01"));
    let vendor = Endless(AtomicU32::new(0));
    assert!(!load(&store, Timeframe::DAY, between("2018-12-17", "2018-12-22"), &vendor).is_complete());
    assert_eq!(vendor.0.into_inner(), 5);
}

#[test]
fn gaps_believe_a_writer_who_knows() {
    let clock = clock();
    let store = store(&clock);
    clock.set(at("2019-06-01"));
    let (bars, week) = (store.bars("SPY", Timeframe::DAY).unwrap(), between("2018-12-17", "2018-12-22"));
    assert_eq!(bars.gaps(week).unwrap().len(), 5);
    bars.write_covering(&[bar(at("2018-12-17"), 5000)].into_iter().collect(), week).unwrap();
    assert!(bars.gaps(week).unwrap().is_empty());
}

#[test]
fn a_row_that_stays_wrong_is_asked_for_less_and_less_often() {
    let clock = clock();
    let store = store(&clock);
    clock.set(at("2019-06-01"));
    let vendor = Vendor::new(&clock, Duration::ZERO);
    // Every minute of the month begins half a minute late.
    let shifted = |_: &Symbol, timeframe: Timeframe, asked: Interval<Timestamp>| {
        let late = |bar: Bar| Bar { at: bar.at.after(Duration::from_secs(30)), ..bar };
        let bars = vendor.bars(timeframe, asked).into_iter().map(|(bar, _)| late(bar));
        Ok::<_, FetchError>(bars.filter(|bar| asked.contains(bar.at)).collect::<Bars>())
    };
    let month = between("2018-11-01", "2018-12-01");
    let mut asked = 0;
    for _ in 0..4 * 48 {
        let loaded = load(&store, Timeframe::MINUTE, month, &shifted);
        assert!(!loaded.is_complete());
        asked += u32::from(loaded.report.calls > 0);
        clock.advance(15 * MINUTES);
    }
    // At once, and after a quarter of an hour, half an hour, an hour ... a day.
    assert!(asked < 20, "{asked} of 192 loads");
}
