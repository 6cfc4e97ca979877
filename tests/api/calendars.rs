//! The calendars against what happened.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use modelkeep::{
    Day, Interval, Store, Symbol, Timestamp,
    market::{Bars, Calendar, FetchError, Session, Timeframe},
};

use crate::{
    market::{MINUTE, at, bar, between, data},
    support::clock,
};

#[test]
fn every_day_of_the_index_is_a_session_and_every_session_has_a_day() {
    let text = std::fs::read_to_string(data("spx_days.csv")).unwrap();
    let days: BTreeSet<Day> = text.lines().skip(1).map(|line| line.parse().unwrap()).collect();
    assert_eq!(days.len(), 5031);
    let range = Interval::parse("1999-01-01", "2019-01-01").unwrap();
    let sessions: BTreeSet<Day> = Calendar::nyse().sessions(range).map(|session| session.day).collect();
    assert_eq!(sessions, days);
}

#[test]
fn every_year_until_2030_has_its_sessions() {
    let count = |year: i32| {
        let range = Interval::parse(&format!("{year}-01-01"), &format!("{}-01-01", year + 1)).unwrap();
        let sessions: Vec<_> = Calendar::nasdaq().sessions(range).collect();
        (sessions.len(), sessions.iter().filter(|session| session.early_close).count())
    };
    // As the exchange counted them: 2001 without four days in September, 2012 without two in October.
    for (year, sessions) in [(2001, 248), (2012, 250), (2018, 251), (2024, 252), (2025, 250)] {
        assert_eq!(count(year).0, sessions, "{year}");
    }
    for year in 1999..=2030 {
        let (sessions, early) = count(year);
        assert!((248..=253).contains(&sessions) && (1..=4).contains(&early), "{year}: {sessions} {early}");
    }
    assert_eq!(count(2031), (0, 0));
}

/// Name, first year, sessions of each year: counted in the references that `scripts/calendars.py` names.
const SESSIONS: [(&str, i32, &[usize]); 9] = [
    ("cme_equity_futures", 2016, &[258, 257, 258, 258, 259, 259, 258, 258, 260, 259, 259, 259]),
    (
        "forex",
        2000,
        &[
            260, 261, 261, 261, 262, 260, 260, 261, 262, 261, 261, 260, 261, 261, 261, 261, 261, 260, 261, 261, 262,
            261, 260, 260, 262, 261, 261, 261,
        ],
    ),
    (
        "hong_kong",
        2005,
        &[
            247, 247, 246, 245, 249, 249, 246, 247, 244, 247, 247, 245, 246, 246, 246, 248, 247, 246, 243, 246, 246,
            247, 248,
        ],
    ),
    (
        "lse",
        2001,
        &[
            253, 252, 253, 254, 252, 252, 253, 254, 253, 253, 251, 252, 253, 253, 253, 253, 252, 253, 253, 254, 253,
            250, 251, 254, 253, 253, 253,
        ],
    ),
    ("nasdaq", 1999, &NEW_YORK),
    ("nyse", 1999, &NEW_YORK),
    ("sydney", 2011, &[252, 253, 253, 253, 254, 253, 252, 253, 253, 255, 254, 251, 252, 254, 253, 254, 254]),
    ("tokyo", 2012, &[248, 245, 244, 244, 245, 247, 245, 241, 242, 245, 244, 246, 245, 243, 242, 244]),
    ("xetra", 2010, &[256, 257, 254, 253, 252, 253, 255, 252, 251, 251, 254, 255, 257, 255, 254, 253, 254, 256]),
];

const NEW_YORK: [usize; 29] = [
    252, 252, 248, 252, 252, 252, 252, 251, 251, 253, 252, 252, 252, 250, 252, 252, 252, 252, 251, 251, 252, 253, 252,
    251, 250, 252, 250, 251, 251,
];

#[test]
fn every_venue_has_the_sessions_of_its_reference() {
    for (name, first, counts) in SESSIONS {
        let calendar = Calendar::named(name).unwrap();
        assert_eq!(calendar.known().start(), format!("{first}-01-01").parse::<Day>().unwrap(), "{name}");
        let until = (first..).zip(counts).last().unwrap().0 + 1;
        assert!(until == 2028 && calendar.known().end() >= "2028-01-01".parse::<Day>().unwrap(), "{name}");
        for (year, count) in (first..).zip(counts) {
            let range = Interval::parse(&format!("{year}-01-01"), &format!("{}-01-01", year + 1)).unwrap();
            assert_eq!(calendar.sessions(range).count(), *count, "{name} {year}");
        }
    }
    // Those that are left have no holidays.
    let venues: BTreeSet<_> = SESSIONS.iter().map(|(name, ..)| *name).chain(["always_open", "weekdays"]).collect();
    assert_eq!(venues.into_iter().collect::<Vec<_>>(), Calendar::NAMES);
}

/// Of every session: what follows what, and that each of its times leads to it.
#[test]
fn sessions_of_all_venues_are_in_order_and_found() {
    for name in Calendar::NAMES {
        let calendar = Calendar::named(name).unwrap();
        let mut before: Option<Session> = None;
        for session in calendar.sessions(Interval::parse("2012-01-01", "2028-01-01").unwrap()) {
            let trading: Vec<_> = session.trading().collect();
            assert_eq!((trading[0].start(), trading[trading.len() - 1].end()), (session.open, session.close));
            assert!(trading.iter().all(|stretch| stretch.start() < stretch.end()), "{session:?}");
            assert!(trading.windows(2).all(|pair| pair[0].end() < pair[1].start()), "{session:?}");
            assert!(before.is_none_or(|before| before.close <= session.open), "{session:?}");
            assert!(session.close.since(session.open) <= Duration::from_secs(24 * 3600), "{session:?}");
            for stretch in trading {
                let last = Timestamp::from_nanos(stretch.end().as_nanos() - 1);
                for time in [stretch.start(), last] {
                    assert_eq!(calendar.session_at(time), Some(session), "{name} {time}");
                    assert_eq!(session.trading_at(time), Some(stretch), "{name} {time}");
                }
            }
            before = Some(session);
        }
        assert!(before.is_some(), "{name}");
    }
}

#[test]
fn lunch_is_no_gap() {
    let store = Store::in_memory().unwrap();
    let series = store.bars("0700.HK", Timeframe::MINUTE).unwrap().calendar(Calendar::hong_kong());
    let session = Calendar::hong_kong().session("2024-06-03".parse().unwrap()).unwrap();
    let minute = |n: i64| Timestamp::from_nanos(session.open.as_nanos() + n * MINUTE);
    // From 9:30 to 12:00 and from 13:10 to 16:00.
    let there = (0..390).filter(|n| !(150..220).contains(n));
    series.write(&there.map(|n| bar(minute(n), 5000)).collect()).unwrap();
    let day = between("2024-06-03", "2024-06-04");
    let found = series.intraday_gaps(day, Duration::from_secs(60)).unwrap();
    assert_eq!(found, [Interval::new(at("2024-06-03T05:00:00Z"), at("2024-06-03T05:10:00Z")).unwrap()]);
    assert!(series.gaps(day).unwrap().is_empty());
}

#[test]
fn an_older_version_of_a_calendar_judges_nothing_anew() {
    let store = Store::options().clock(clock()).in_memory().unwrap();
    let newer = Calendar::from_json(&Calendar::nyse().to_json().replace("\"version\":2", "\"version\":3")).unwrap();
    assert_eq!(newer.version(), 3, "{}", &Calendar::nyse().to_json()[..120]);
    let calls = AtomicU32::new(0);
    let vendor = |_: &Symbol, _: Timeframe, asked: Interval<Timestamp>| {
        calls.fetch_add(1, Ordering::SeqCst);
        let sessions = Calendar::nyse().sessions(asked.days());
        Ok::<Bars, FetchError>(sessions.map(|session| bar(session.day.start(), 5000)).collect())
    };
    let load = |calendar: &Calendar| {
        let series = store.bars("X", Timeframe::DAY).unwrap().calendar(calendar.clone());
        series.load_or_fetch(between("2018-12-01", "2018-12-22"), &vendor).unwrap();
    };
    load(&newer);
    load(&Calendar::nyse());
    calls.store(0, Ordering::SeqCst);
    for calendar in [&newer, &Calendar::nyse(), &newer] {
        load(calendar);
    }
    assert_eq!(calls.into_inner(), 0);
    let series = store.bars("X", Timeframe::DAY).unwrap();
    assert_eq!(series.stored_calendar().unwrap().unwrap().version(), 3);
}
