//! What rows that somebody wrote say of the time around them, and what they do not say.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use modelkeep::{
    Day, Interval, Store, Symbol, Timestamp,
    market::{Bar, Bars, Calendar, Coverage, FetchError, KnownAt, Loaded, Timeframe},
};

use crate::{
    market::{all_time, at, bar, between, days},
    support::{HOUR, clock},
};

const MINUTES: Duration = Duration::from_secs(60);

/// Loads from a vendor who has these bars; returns also how often it was asked.
fn load(store: &Store, timeframe: Timeframe, interval: Interval<Timestamp>, has: &[Bar]) -> (Loaded<Bars>, u32) {
    let calls = AtomicU32::new(0);
    let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        calls.fetch_add(1, Ordering::SeqCst);
        Ok::<Bars, FetchError>(has.iter().filter(|bar| asked.contains(bar.at)).copied().collect())
    };
    let loaded = store.bars("X", timeframe).unwrap().load_or_fetch(interval, &vendor).unwrap();
    (loaded, calls.into_inner())
}

/// A row that was known once, and was deleted or corrected since, says nothing of what there is now.
#[test]
fn what_was_known_once_is_not_present() {
    let clock = clock();
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("X", Timeframe::DAY).unwrap();
    let (week, rows) = (between("2018-12-17", "2018-12-22"), days("2018-12-17", "2018-12-22"));
    clock.set(at("2018-12-23T12:00:00Z"));
    series.write(&rows).unwrap();
    clock.set(at("2018-12-24T12:00:00Z"));
    series.remove(week).unwrap();
    let known = |rows: &Bars| series.write_known_at(rows, KnownAt::Ended { delay: Duration::from_secs(60) }).unwrap();
    assert_eq!(known(&rows).backdated, 5);
    assert_eq!(series.range(week).unwrap().len(), 0);
    let vendor: Vec<Bar> = rows.iter().collect();
    let (loaded, calls) = load(&store, Timeframe::DAY, week, &vendor);
    assert_eq!((loaded.data.len(), loaded.is_complete(), calls), (5, true, 1));
    // What is stored, and is to be fetched again, is so still after an older value of it was written.
    series.mark_missing(week).unwrap();
    let older: Bars = rows.iter().map(|bar| Bar { volume: 7.0, ..bar }).collect();
    assert_eq!(known(&older).backdated, 5);
    assert_eq!(load(&store, Timeframe::DAY, week, &vendor).1, 1);
    // Nor does it help that it was the same then.
    series.mark_missing(week).unwrap();
    series.write_known_at(&rows, KnownAt::Ended { delay: Duration::from_secs(30) }).unwrap();
    assert_eq!(load(&store, Timeframe::DAY, week, &vendor).1, 1);
    // What becomes the current row is present.
    let fresh = store.bars("Y", Timeframe::DAY).unwrap();
    fresh.write_known_at(&rows, KnownAt::Ended { delay: Duration::ZERO }).unwrap();
    assert!(fresh.gaps(week).unwrap().is_empty());

    let vix = store.levels("VIX").unwrap();
    let levels: Vec<(Day, f64)> = rows.timestamps().iter().map(|at| (at.day(), 20.0)).collect();
    vix.write(&levels).unwrap();
    vix.remove(week.days()).unwrap();
    vix.write_known_at(&levels, KnownAt::Ended { delay: HOUR }).unwrap();
    let calls = AtomicU32::new(0);
    let vendor = |_: &Symbol, asked: Interval<Day>| {
        calls.fetch_add(1, Ordering::SeqCst);
        Ok::<_, FetchError>(levels.iter().filter(|(day, _)| asked.contains(*day)).copied().collect::<Vec<_>>())
    };
    let loaded = vix.load_or_fetch(week.days(), &vendor).unwrap();
    assert_eq!((loaded.data.len(), calls.into_inner()), (5, 1));
}

/// A feed writes minutes; the bar of the closing auction comes to the vendor alone. The first row of the next morning
/// covers the night, and not that bar.
#[test]
fn the_next_morning_does_not_cover_the_bar_at_the_close() {
    let nyse = Calendar::nyse();
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-19").unwrap();
    let sessions: Vec<_> = nyse.sessions(days).collect();
    let minutes = |from: Timestamp, until: Timestamp| {
        let count = until.since(from).as_secs() / 60;
        (0..count).map(move |n| bar(from.after(MINUTES * u32::try_from(n).unwrap()), 5000)).collect::<Vec<Bar>>()
    };
    for asks_between in [false, true] {
        let clock = clock();
        let store = Store::options().clock(clock.clone()).in_memory().unwrap();
        let series = store.bars("X", Timeframe::MINUTE).unwrap();
        let (mut has, mut written) = (Vec::new(), Vec::new());
        for session in &sessions {
            for row in minutes(session.open, session.close) {
                clock.set(row.at.after(MINUTES));
                series.write(&Bars::from_iter([row])).unwrap();
                written.push(row);
                if asks_between && row.at == sessions[0].close.before(MINUTES) {
                    clock.set(sessions[0].close.after(2 * MINUTES));
                    load(&store, Timeframe::MINUTE, days.span(), &written);
                }
            }
            has.extend(minutes(session.open, session.close));
            has.push(bar(session.close, 5000));
        }
        clock.set(at("2018-12-21T12:00:00Z"));
        let (loaded, calls) = load(&store, Timeframe::MINUTE, days.span(), &has);
        assert!(loaded.data.timestamps().contains(&sessions[0].close), "asked between: {asks_between}");
        assert_eq!((loaded.data.len(), loaded.is_complete()), (782, true));
        assert!(calls <= 2, "{calls} calls");
        assert_eq!(load(&store, Timeframe::MINUTE, days.span(), &has).1, 0, "and that is that");
    }
}

/// Old bars are written one by one, by the clock, and one is missing: no row showed before it where bars begin.
#[test]
fn a_bar_that_is_missing_among_old_ones_is_asked_for() {
    let tokyo = Calendar::tokyo();
    let days = Interval::<Day>::parse("2018-12-17", "2018-12-21").unwrap();
    let timeframe = Timeframe::hours(4).unwrap();
    let has: Vec<Bar> = tokyo
        .sessions(days)
        .flat_map(|session| session.trading().collect::<Vec<_>>())
        .flat_map(|stretch| {
            let four = Duration::from_secs(4 * 3600);
            let by_clock = at("2018-12-01");
            let clock = (0..200).map(move |n| by_clock.after(four * n)).filter(move |at| stretch.contains(*at));
            let first = [stretch.start()].into_iter().chain(clock.filter(move |at| *at > stretch.start()));
            first.collect::<Vec<_>>()
        })
        .map(|at| bar(at, 5000))
        .collect();
    for missing in 0..has.len() {
        let clock = clock();
        clock.set(at("2019-03-01"));
        let store = Store::options().clock(clock.clone()).in_memory().unwrap();
        let series = store.bars("X", timeframe).unwrap().calendar(tokyo.clone());
        for (_, row) in has.iter().enumerate().filter(|(n, _)| *n != missing) {
            series.write(&Bars::from_iter([*row])).unwrap();
        }
        let (loaded, _) = load(&store, timeframe, days.span(), &has);
        assert_eq!(loaded.data.len(), has.len(), "without {}: {:?}", has[missing].at, series.coverage(days.span()));
    }
}

/// Rows of a long history that somebody imports cost no call for each close.
#[test]
fn a_long_history_is_not_asked_for_its_closes() {
    let clock = clock();
    clock.set(at("2019-03-01"));
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("X", Timeframe::minutes(30).unwrap()).unwrap();
    let days = Interval::<Day>::parse("2018-06-01", "2018-12-01").unwrap();
    let mut rows = Vec::new();
    for session in Calendar::nyse().sessions(days) {
        let mut at = session.open;
        while at < session.close {
            rows.push(bar(at, 5000));
            at = at.after(30 * MINUTES);
        }
    }
    for day in rows.chunks(13) {
        series.write(&day.iter().copied().collect()).unwrap();
    }
    let (loaded, calls) = load(&store, Timeframe::minutes(30).unwrap(), days.span(), &rows);
    assert!(loaded.is_complete() && calls <= 1, "{calls} calls");
    assert!(series.coverage(all_time()).unwrap().iter().any(|span| span.coverage == Coverage::Present));
    // Nor are those of a feed that wrote for half a year, but for the last days.
    let store = Store::options().clock(clock.clone()).in_memory().unwrap();
    let series = store.bars("X", Timeframe::minutes(30).unwrap()).unwrap();
    for row in &rows {
        clock.set(row.at.after(30 * MINUTES));
        series.write(&Bars::from_iter([*row])).unwrap();
    }
    clock.advance(2 * HOUR);
    let (loaded, calls) = load(&store, Timeframe::minutes(30).unwrap(), days.span(), &rows);
    assert!(loaded.is_complete() && loaded.data.len() == rows.len() && calls <= 8, "{calls} calls");
}

/// Bars so long that all of them begin where trading does: nothing but their number shows that none begins by the clock.
#[test]
fn sessions_with_their_first_bars_alone_are_whole() {
    let days = Interval::<Day>::parse("2018-10-01", "2018-12-01").unwrap();
    for (calendar, hours) in [(Calendar::tokyo(), 4), (Calendar::nyse(), 8), (Calendar::hong_kong(), 4)] {
        let timeframe = Timeframe::hours(hours).unwrap();
        let sessions = calendar.sessions(days);
        let starts = sessions.flat_map(|session| session.trading().map(|part| part.start()).collect::<Vec<_>>());
        let has: Vec<Bar> = starts.map(|at| bar(at, 5000)).collect();
        let store_at = |clock: &std::sync::Arc<modelkeep::clock::ManualClock>| {
            Store::options().clock(clock.clone()).calendar(calendar.clone()).in_memory().unwrap()
        };
        // Loaded every night.
        let clock = clock();
        let store = store_at(&clock);
        for session in calendar.sessions(days) {
            clock.set(session.close.after(2 * HOUR));
            let (loaded, _) = load(&store, timeframe, days.span(), &has);
            let is_settled = session.day >= "2018-10-08".parse().unwrap();
            assert!(loaded.is_complete() || !is_settled, "{calendar} {timeframe} {}: {:?}", session.day, loaded.report);
        }
        // Written when they are old.
        clock.set(at("2019-03-01"));
        let store = store_at(&clock);
        store.bars("X", timeframe).unwrap().write(&has.iter().copied().collect()).unwrap();
        let (loaded, calls) = load(&store, timeframe, days.span(), &has);
        assert!(loaded.is_complete() && calls <= 1, "{calendar} {timeframe}: {calls} calls, {:?}", loaded.report);
    }
}
