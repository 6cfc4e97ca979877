//! Sessions of built-in calendars and of calendars from JSON.

use super::*;

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn session(calendar: &Calendar, text: &str) -> Session {
    calendar.session(day(text)).unwrap_or_else(|| panic!("{calendar} has no session on {text}"))
}

/// Open, close and breaks, to the minute.
fn shown(session: Session) -> String {
    let short = |at: Timestamp| at.to_string()[..16].to_owned();
    let breaks: Vec<_> =
        session.breaks().map(|pause| format!(" but {} {}", short(pause.start()), short(pause.end()))).collect();
    format!("{} {}{}", short(session.open), short(session.close), breaks.concat())
}

fn exchange(fields: &str) -> Calendar {
    let known = r#""name":"x","version":1,"hours":"exchange","first":"2020-01-01","end":"2027-01-01""#;
    Calendar::from_json(&format!("{{{known},{fields}}}")).unwrap()
}

#[test]
fn the_last_open_is_that_of_the_session_going_on_or_of_the_one_before() {
    let nyse = Calendar::nyse();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    for (now, open) in [
        ("2018-12-24T14:29:59Z", "2018-12-21T14:30:00Z"),
        ("2018-12-24T14:30:00Z", "2018-12-24T14:30:00Z"),
        ("2018-12-24T23:00:00Z", "2018-12-24T14:30:00Z"),
        ("2018-12-26T01:00:00Z", "2018-12-24T14:30:00Z"),
        ("2018-12-29T12:00:00Z", "2018-12-28T14:30:00Z"),
    ] {
        assert_eq!(nyse.last_open(at(now)), Some(at(open)), "{now}");
    }
    assert_eq!(nyse.last_open(Timestamp::from_nanos(i64::MAX)), None, "the calendar ends before");
}

#[test]
fn days_that_were_closed_have_no_session() {
    let nyse = Calendar::nyse();
    for text in [
        "2001-09-11",
        "2001-09-12",
        "2001-09-13",
        "2001-09-14",
        "2004-06-11",
        "2007-01-02",
        "2012-10-29",
        "2012-10-30",
        "2018-12-05",
        "2025-01-09",
        "2022-06-20",
        "2021-12-24",
        "1999-04-02",
        "2030-11-28",
    ] {
        assert_eq!(nyse.session(day(text)), None, "{text}");
    }
    // Not on a Friday before a New Year's Day on a Saturday; no Juneteenth before 2022.
    for text in ["1999-12-31", "2010-12-31", "2021-12-31", "2021-06-18", "2001-09-17", "2018-12-06"] {
        assert!(nyse.session(day(text)).is_some(), "{text}");
    }
}

#[test]
fn half_days_close_at_one() {
    let nyse = Calendar::nyse();
    for text in
        ["1999-11-26", "2002-07-05", "2003-12-26", "2013-07-03", "2018-07-03", "2018-11-23", "2018-12-24", "2024-07-03"]
    {
        let session = nyse.session(day(text)).unwrap();
        assert!(session.early_close, "{text}");
        assert_eq!(session.close.since(session.open).as_secs(), 3 * 3600 + 1800);
    }
    for text in ["2002-07-03", "2013-07-05", "2020-07-02", "2020-07-06", "2015-07-02"] {
        assert!(!nyse.session(day(text)).unwrap().early_close, "{text}");
    }
}

#[test]
fn hours_follow_the_clocks_of_new_york() {
    let nyse = Calendar::nyse();
    // The second Sunday of March since 2007, the first of April before; November since 2007, October before.
    for (text, open) in [
        ("2006-03-31", "14:30"),
        ("2006-04-03", "13:30"),
        ("2006-10-27", "13:30"),
        ("2006-10-30", "14:30"),
        ("2018-03-09", "14:30"),
        ("2018-03-12", "13:30"),
        ("2018-11-02", "13:30"),
        ("2018-11-05", "14:30"),
    ] {
        let session = nyse.session(day(text)).unwrap();
        assert_eq!(session.open.to_string(), format!("{text}T{open}:00Z"));
        assert_eq!(session.close.since(session.open).as_secs(), 6 * 3600 + 1800);
    }
}

#[test]
fn a_session_is_found_by_a_time_within() {
    let nyse = Calendar::nyse();
    let session = nyse.session(day("2018-12-24")).unwrap();
    assert_eq!(nyse.session_at(session.open), Some(session));
    assert_eq!(nyse.session_at(session.close), None);
    let saturday = Calendar::always_open().session_at(day("2018-12-22").start()).unwrap();
    assert_eq!(saturday.day, day("2018-12-22"));
    assert_eq!(Calendar::weekdays().session_at(day("2018-12-22").start()), None);
}

#[test]
fn what_is_expected_depends_on_the_length_of_the_bars() {
    let nyse = Calendar::nyse();
    let day_of = |text: &str| Interval::new(day(text), day(text).next()).unwrap().span();
    let count = |text: &str, timeframe| nyse.expected(day_of(text), timeframe).count();
    assert_eq!((count("2018-12-24", Timeframe::DAY), count("2018-12-25", Timeframe::DAY)), (1, 0));
    assert_eq!(count("2018-12-24", Timeframe::MINUTE), 1);
}

#[test]
fn lunch_is_no_trading_and_belongs_to_the_session() {
    let hong_kong = Calendar::hong_kong();
    let today = session(&hong_kong, "2024-06-03");
    assert_eq!(shown(today), "2024-06-03T01:30 2024-06-03T08:00 but 2024-06-03T04:00 2024-06-03T05:00");
    let (morning, afternoon) = (at("2024-06-03T03:59:59Z"), at("2024-06-03T05:00:00Z"));
    for (time, trading) in [
        (morning, Some((today.open, at("2024-06-03T04:00:00Z")))),
        (at("2024-06-03T04:00:00Z"), None),
        (at("2024-06-03T04:59:59Z"), None),
        (afternoon, Some((afternoon, today.close))),
    ] {
        assert_eq!(hong_kong.session_at(time), Some(today), "{time}");
        assert_eq!(today.trading_at(time).map(|stretch| (stretch.start(), stretch.end())), trading, "{time}");
    }
    assert_eq!(today.trading_at(today.close), None);
    assert_eq!(today.trading().count(), 2);
    let nyse = session(&Calendar::nyse(), "2024-06-03");
    assert_eq!(nyse.trading().collect::<Vec<_>>(), [Interval::between(nyse.open, nyse.close)]);
}

#[test]
fn a_half_day_before_lunch_has_no_lunch() {
    let eve = session(&Calendar::hong_kong(), "2024-12-24");
    assert_eq!((shown(eve).as_str(), eve.early_close), ("2024-12-24T01:30 2024-12-24T04:00", true));
    // With the hours of then.
    let eve = session(&Calendar::hong_kong(), "2010-12-24");
    assert_eq!((shown(eve).as_str(), eve.early_close), ("2010-12-24T02:00 2010-12-24T04:30", true));
    let late = exchange(
        r#""zone":"UTC","open":"09:00","close":"16:00","breaks":[["12:00","13:00"]],"late":{"2024-06-03":"13:00","2024-06-04":"11:00"}"#,
    );
    assert_eq!(shown(session(&late, "2024-06-03")), "2024-06-03T13:00 2024-06-03T16:00");
    let second = session(&late, "2024-06-04");
    assert_eq!(shown(second), "2024-06-04T11:00 2024-06-04T16:00 but 2024-06-04T12:00 2024-06-04T13:00");
    assert!(second.late_open && !session(&late, "2024-06-05").late_open);
}

#[test]
fn usual_hours_change_over_the_years() {
    let (hong_kong, tokyo) = (Calendar::hong_kong(), Calendar::tokyo());
    for (calendar, text, hours) in [
        (&hong_kong, "2011-03-04", "2011-03-04T02:00 2011-03-04T08:00 but 2011-03-04T04:30 2011-03-04T06:30"),
        (&hong_kong, "2011-03-07", "2011-03-07T01:30 2011-03-07T08:00 but 2011-03-07T04:00 2011-03-07T05:30"),
        (&hong_kong, "2012-03-02", "2012-03-02T01:30 2012-03-02T08:00 but 2012-03-02T04:00 2012-03-02T05:30"),
        (&hong_kong, "2012-03-05", "2012-03-05T01:30 2012-03-05T08:00 but 2012-03-05T04:00 2012-03-05T05:00"),
        (&tokyo, "2024-11-01", "2024-11-01T00:00 2024-11-01T06:00 but 2024-11-01T02:30 2024-11-01T03:30"),
        (&tokyo, "2024-11-05", "2024-11-05T00:00 2024-11-05T06:30 but 2024-11-05T02:30 2024-11-05T03:30"),
    ] {
        let session = session(calendar, text);
        assert_eq!(shown(session), hours);
        assert!(!session.early_close && !session.late_open);
    }
}

#[test]
fn a_session_that_opens_on_the_day_before_belongs_to_the_day_it_closes_on() {
    let futures = Calendar::cme_equity_futures();
    // Sunday evening is Monday's; with the halt that there was until June 2021.
    let monday = session(&futures, "2021-06-21");
    assert_eq!(shown(monday), "2021-06-20T22:00 2021-06-21T21:00 but 2021-06-21T20:15 2021-06-21T20:30");
    assert_eq!(shown(session(&futures, "2021-06-28")), "2021-06-27T22:00 2021-06-28T21:00");
    assert_eq!(futures.session(day("2021-06-20")), None);
    assert_eq!(futures.session_at(at("2021-06-20T23:30:00Z")), Some(monday));
    // The pause of an hour, and the weekend.
    for time in ["2021-06-21T21:30:00Z", "2021-06-25T22:30:00Z", "2021-06-26T12:00:00Z"] {
        assert_eq!(futures.session_at(at(time)), None, "{time}");
    }
    // Closed on Christmas from the evening before on, and open again in the evening.
    assert_eq!(futures.session(day("2024-12-25")), None);
    assert_eq!(shown(session(&futures, "2024-12-26")), "2024-12-25T23:00 2024-12-26T22:00");
    assert_eq!(shown(session(&futures, "2025-01-09")), "2025-01-08T23:00 2025-01-09T14:30");
}

#[test]
fn currencies_are_traded_from_sunday_to_friday_without_a_pause() {
    let forex = Calendar::forex();
    let week: Vec<_> = forex.sessions(Interval::between(day("2024-06-02"), day("2024-06-09"))).collect();
    let days: Vec<_> = week.iter().map(|session| session.day.to_string()).collect();
    assert_eq!(days, ["2024-06-03", "2024-06-04", "2024-06-05", "2024-06-06", "2024-06-07"]);
    assert!(week.windows(2).all(|pair| pair[0].close == pair[1].open));
    assert_eq!((week[0].open, week[4].close), (at("2024-06-02T21:00:00Z"), at("2024-06-07T21:00:00Z")));
    for (time, day) in [
        ("2024-06-02T20:59:59Z", None),
        ("2024-06-02T21:00:00Z", Some("2024-06-03")),
        ("2024-06-05T20:59:59Z", Some("2024-06-05")),
        ("2024-06-05T21:00:00Z", Some("2024-06-06")),
        ("2024-06-07T21:00:00Z", None),
    ] {
        assert_eq!(forex.session_at(at(time)).map(|session| session.day.to_string()).as_deref(), day, "{time}");
    }
}

#[test]
fn sessions_follow_the_clocks_over_midnight() {
    let forex = Calendar::forex();
    assert_eq!(shown(session(&forex, "2024-03-08")), "2024-03-07T22:00 2024-03-08T22:00");
    assert_eq!(shown(session(&forex, "2024-03-11")), "2024-03-10T21:00 2024-03-11T21:00");
    assert_eq!(shown(session(&forex, "2024-11-01")), "2024-10-31T21:00 2024-11-01T21:00");
    assert_eq!(shown(session(&forex, "2024-11-04")), "2024-11-03T22:00 2024-11-04T22:00");
    // Sundays too: 23 hours and 25.
    let always = exchange(r#""zone":"America/New_York","open":"17:00","close":"17:00","opens_day_before":true"#);
    assert_eq!(shown(session(&always, "2024-03-10")), "2024-03-09T22:00 2024-03-10T21:00");
    assert_eq!(shown(session(&always, "2024-11-03")), "2024-11-02T21:00 2024-11-03T22:00");
    // 02:30 is skipped in March, and there twice in November.
    let night = exchange(r#""zone":"Europe/Berlin","open":"02:30","close":"17:30","breaks":[["02:45","03:00"]]"#);
    assert_eq!(shown(session(&night, "2024-03-31")), "2024-03-31T01:30 2024-03-31T15:30");
    assert_eq!(
        shown(session(&night, "2024-10-27")),
        "2024-10-27T00:30 2024-10-27T16:30 but 2024-10-27T00:45 2024-10-27T02:00"
    );
}

#[test]
fn a_session_is_found_wherever_its_zone_lies() {
    for (zone, open) in [("Pacific/Kiritimati", "00:00"), ("Australia/Sydney", "07:00"), ("Etc/GMT+12", "23:30")] {
        let fields = format!(r#""zone":"{zone}","open":"{open}","close":"{open}","opens_day_before":true"#);
        let calendar = exchange(&fields);
        for session in calendar.sessions(Interval::between(day("2024-01-01"), day("2025-01-01"))) {
            let last = Timestamp::from_nanos(session.close.as_nanos() - 1);
            for time in [session.open, last] {
                assert_eq!(calendar.session_at(time), Some(session), "{zone}");
                let moment = Interval::between(time, Timestamp::from_nanos(time.as_nanos() + 1));
                let found: Vec<_> = calendar.expected(moment, Timeframe::MINUTE).collect();
                assert_eq!(found, [session], "{zone}");
            }
        }
    }
}

#[test]
fn the_late_opens_of_the_nyse_are_its_own() {
    let (nyse, nasdaq) = (Calendar::nyse(), Calendar::nasdaq());
    let all = Interval::between(day("1999-01-01"), day("2031-01-01"));
    let late: Vec<_> = nyse.sessions(all).filter(|session| session.late_open).map(shown).collect();
    let opens: Vec<_> = late.iter().map(|text| &text[..16]).collect();
    assert_eq!(
        opens,
        [
            "2001-09-17T13:33",
            "2001-10-08T13:31",
            "2002-09-11T16:00",
            "2003-03-20T14:32",
            "2004-06-07T13:32",
            "2006-12-27T14:32",
        ]
    );
    assert_eq!(shown(session(&nyse, "2005-06-01")), "2005-06-01T13:30 2005-06-01T19:56");
    assert!(nasdaq.sessions(all).all(|session| !session.late_open));
    let differ = nyse.sessions(all).zip(nasdaq.sessions(all)).filter(|(a, b)| a != b).count();
    assert_eq!((differ, nyse.version(), nasdaq.version()), (7, 2, 1));
}

#[test]
fn nothing_is_expected_over_lunch() {
    let tokyo = Calendar::tokyo();
    let count =
        |from: &str, to: &str, timeframe| tokyo.expected(Interval::between(at(from), at(to)), timeframe).count();
    let (start, end) = ("2024-06-03T02:30:00Z", "2024-06-03T03:30:00Z");
    assert_eq!(count(start, end, Timeframe::MINUTE), 0);
    assert_eq!(count("2024-06-03T02:29:00Z", end, Timeframe::MINUTE), 1);
    assert_eq!(count(start, "2024-06-03T03:30:01Z", Timeframe::MINUTE), 1);
    // Bars of a day are of the whole day.
    assert_eq!(count(start, end, Timeframe::DAY), 1);
}

#[test]
fn built_in_calendars_are_found_by_name() {
    for name in Calendar::NAMES {
        let calendar = Calendar::named(name).unwrap_or_else(|| panic!("{name} is not there"));
        assert_eq!(calendar.name().as_str(), name);
        assert!(Calendar::from_json(&calendar.to_json()).unwrap() == calendar);
    }
    assert!(Calendar::NAMES.is_sorted());
}
