//! The calendar against what happened.

use std::collections::BTreeSet;

use modelkeep::{Day, Interval, market::Calendar};

use crate::market::data;

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
