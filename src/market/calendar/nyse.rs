//! The sessions of the New York Stock Exchange from 1999 to 2030: rules, and the days that follow none.
//!
//! Holidays are those of NYSE Rule 7.2, early closes as the exchange announces them each year. Sources and the check
//! against other calendars are named at [`Calendar`](super::Calendar). Nasdaq has the same days, early closes and usual
//! hours; what delayed or stopped trading at the NYSE alone is not part of its calendar.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, Days, NaiveDate, NaiveTime, Weekday};

use super::exchange::{Exchange, UsualHours};
use crate::types::{interval::Interval, invariant::Invariant, time::Day};

const FIRST_YEAR: i32 = 1999;
const LAST_YEAR: i32 = 2030;

/// Closed for attacks, mourning and storms.
const CLOSED: [(i32, u32, u32); 10] = [
    (2001, 9, 11), // attacks
    (2001, 9, 12),
    (2001, 9, 13),
    (2001, 9, 14),
    (2004, 6, 11),  // funeral of Ronald Reagan
    (2007, 1, 2),   // funeral of Gerald Ford
    (2012, 10, 29), // hurricane Sandy
    (2012, 10, 30),
    (2018, 12, 5), // funeral of George H. W. Bush
    (2025, 1, 9),  // funeral of Jimmy Carter
];

/// Closed early without a rule.
const EARLY: [(i32, u32, u32); 3] = [(1999, 12, 31), (2003, 12, 26), (2013, 7, 3)];

/// Opened late: month and day, hour and minute.
const LATE: [(i32, u32, u32, u32, u32); 6] = [
    (2001, 9, 17, 9, 33),  // the first session after the attacks
    (2001, 10, 8, 9, 31),  // Afghanistan
    (2002, 9, 11, 12, 0),  // a year after the attacks
    (2003, 3, 20, 9, 32),  // Iraq
    (2004, 6, 7, 9, 32),   // death of Ronald Reagan
    (2006, 12, 27, 9, 32), // death of Gerald Ford
];

/// Closed at 15:56 on 2005-06-01, when its systems failed.
const FAILURE: (i32, u32, u32, u32, u32) = (2005, 6, 1, 15, 56);

/// The sessions of the NYSE.
pub(super) fn nyse() -> Exchange {
    let at = |(year, month, day, hour, minute)| {
        let date = NaiveDate::from_ymd_opt(year, month, day)?;
        Some((Day::try_from(date).ok()?, time(hour, minute)))
    };
    let mut exchange = nasdaq();
    exchange.late.extend(LATE.into_iter().filter_map(at));
    exchange.early.extend(at(FAILURE));
    exchange
}

/// The sessions of Nasdaq.
pub(super) fn nasdaq() -> Exchange {
    let years = FIRST_YEAR..=LAST_YEAR;
    let dates = |list: &[(i32, u32, u32)]| -> Vec<NaiveDate> {
        list.iter().filter_map(|&(year, month, day)| NaiveDate::from_ymd_opt(year, month, day)).collect()
    };
    let closed: BTreeSet<Day> =
        years.clone().flat_map(holidays).chain(dates(&CLOSED)).filter_map(|date| Day::try_from(date).ok()).collect();
    let early: BTreeMap<Day, NaiveTime> = years
        .flat_map(early_closes)
        .chain(dates(&EARLY))
        .filter_map(|date| Some((Day::try_from(date).ok()?, time(13, 0))))
        .filter(|(day, _)| !day.is_weekend() && !closed.contains(day))
        .collect();
    let known = Interval::parse(&format!("{FIRST_YEAR}-01-01"), &format!("{}-01-01", LAST_YEAR + 1));
    Exchange {
        zone: chrono_tz::America::New_York,
        usual: UsualHours { open: time(9, 30), opens_day_before: false, close: time(16, 0), breaks: Vec::new() },
        changes: BTreeMap::new(),
        known: known.always("the years are in order"),
        weekend: vec![Weekday::Sat, Weekday::Sun],
        closed,
        early,
        late: BTreeMap::new(),
        closing_auction: true,
    }
}

fn time(hour: u32, minute: u32) -> NaiveTime {
    NaiveTime::from_hms_opt(hour, minute, 0).always("the tables name times of a day")
}

/// The days of `year` without trading, weekends apart.
fn holidays(year: i32) -> Vec<NaiveDate> {
    let date = |month, day| NaiveDate::from_ymd_opt(year, month, day);
    let weekday = |month, weekday, n| NaiveDate::from_weekday_of_month_opt(year, month, weekday, n);
    let all = [
        date(1, 1).and_then(observed_after),
        weekday(1, Weekday::Mon, 3), // Martin Luther King Jr. Day
        weekday(2, Weekday::Mon, 3), // Washington's Birthday
        easter(year).checked_sub_days(Days::new(2)),
        last_monday_of_may(year),
        if year >= 2022 { date(6, 19).and_then(observed) } else { None },
        date(7, 4).and_then(observed),
        weekday(9, Weekday::Mon, 1),
        weekday(11, Weekday::Thu, 4),
        date(12, 25).and_then(observed),
    ];
    all.into_iter().flatten().collect()
}

/// The days of `year` on which trading ends at 13:00, holidays apart.
fn early_closes(year: i32) -> Vec<NaiveDate> {
    let date = |month, day| NaiveDate::from_ymd_opt(year, month, day);
    let july_3 = date(7, 3).filter(|date| match date.weekday() {
        Weekday::Mon | Weekday::Tue | Weekday::Thu => true,
        Weekday::Wed => year >= 2013,
        _ => false,
    });
    // Until 2012 a Friday after the Fourth, not the Wednesday before it.
    let july_5 = date(7, 5).filter(|date| year < 2013 && date.weekday() == Weekday::Fri);
    let black_friday = NaiveDate::from_weekday_of_month_opt(year, 11, Weekday::Thu, 4).and_then(|date| date.succ_opt());
    let christmas_eve = date(12, 24).filter(|date| date.weekday() != Weekday::Fri);
    [july_3, july_5, black_friday, christmas_eve].into_iter().flatten().collect()
}

/// A holiday on a Saturday is kept on Friday, one on a Sunday on Monday.
fn observed(date: NaiveDate) -> Option<NaiveDate> {
    match date.weekday() {
        Weekday::Sat => date.pred_opt(),
        Weekday::Sun => date.succ_opt(),
        _ => Some(date),
    }
}

/// New Year's Day on a Saturday is not kept: the Friday before ends a year of accounts.
fn observed_after(date: NaiveDate) -> Option<NaiveDate> {
    if date.weekday() == Weekday::Sat { None } else { observed(date) }
}

fn last_monday_of_may(year: i32) -> Option<NaiveDate> {
    let last = NaiveDate::from_ymd_opt(year, 5, 31)?;
    last.checked_sub_days(Days::new(u64::from(last.weekday().num_days_from_monday())))
}

/// Easter Sunday in the Gregorian calendar, by the anonymous algorithm that J. Meeus gives (Astronomical Algorithms,
/// 2nd ed., chapter 8).
fn easter(year: i32) -> NaiveDate {
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let (d, e, f) = (b / 4, b % 4, (b + 8) / 25);
    let g = (b - f + 1) / 3;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let month_day = h + l - 7 * m + 114;
    let part = |n: i32| u32::try_from(n).always("months and days are positive");
    NaiveDate::from_ymd_opt(year, part(month_day / 31), part(month_day % 31) + 1)
        .always("Easter is a day of March or April")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn easter_is_where_the_tables_have_it() {
        for (year, date) in [
            (1999, "1999-04-04"),
            (2000, "2000-04-23"),
            (2008, "2008-03-23"),
            (2019, "2019-04-21"),
            (2030, "2030-04-21"),
        ] {
            assert_eq!(easter(year).to_string(), date);
        }
    }
}
