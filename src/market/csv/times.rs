//! Times as files write them: with an offset, without one, or as days.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::types::time::{Day, OutOfRange, Timestamp, local_time};

/// What a text says.
enum Written {
    Day(Day),
    Instant(Timestamp),
    Local(NaiveDateTime),
}

/// Reads a text, or says what is wrong with it.
fn written(text: &str) -> Result<Written, String> {
    let no_time = |_| format!("{text:?} is no time like 2018-12-24T14:30:00Z, 2018-12-24 09:30 or 2018-12-24");
    if let Ok(day) = text.parse::<Day>() {
        return Ok(Written::Day(day));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return at.to_utc().try_into().map(Written::Instant).map_err(no_time);
    }
    local_time(text).map(Written::Local).ok_or(OutOfRange).map_err(no_time)
}

/// When a bar begins that has this text for a time. A bar of days has midnight UTC of its day.
pub(crate) fn timestamp(text: &str, zone: Option<Tz>, is_daily: bool) -> Result<Timestamp, String> {
    let at = match written(text)? {
        Written::Day(day) if is_daily || zone.is_none() => {
            // Nanoseconds reach from 1677 to 2262.
            let start = Some(day.start()).filter(|start| start.day() == day);
            return start.ok_or_else(|| format!("{text:?} is no time that can be kept: before 1678, or after 2261"));
        }
        Written::Day(day) => instant(text, day.to_date().and_time(NaiveTime::MIN), zone)?,
        Written::Local(local) => instant(text, local, zone)?,
        Written::Instant(at) => at,
    };
    match zone.map(|zone| at.to_datetime().with_timezone(&zone).naive_local()) {
        // Files of days have the midnight of the exchange.
        Some(local) if is_daily && local.time() == NaiveTime::MIN => {
            Day::try_from(local.date()).map(Day::start).map_err(|err| err.to_string())
        }
        _ => Ok(at),
    }
}

/// The day that a level is of.
pub(crate) fn day(text: &str, zone: Option<Tz>) -> Result<Day, String> {
    let date = match (written(text)?, zone) {
        (Written::Day(day), _) => return Ok(day),
        (Written::Local(local), _) => local.date(),
        (Written::Instant(at), Some(zone)) => at.to_datetime().with_timezone(&zone).date_naive(),
        (Written::Instant(at), None) => return Ok(at.day()),
    };
    date.try_into().map_err(|err: OutOfRange| format!("{text:?}: {err}"))
}

/// The one instant that a local time is of.
fn instant(text: &str, local: NaiveDateTime, zone: Option<Tz>) -> Result<Timestamp, String> {
    let at = match zone {
        None => local.and_utc(),
        Some(zone) => match zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) => at.to_utc(),
            MappedLocalTime::Ambiguous(first, second) => {
                return Err(format!(
                    "{text:?} occurs twice in {zone}, when clocks go back: write it as {} or {}",
                    first.to_rfc3339(),
                    second.to_rfc3339()
                ));
            }
            MappedLocalTime::None => {
                return Err(format!("{text:?} does not exist in {zone}: clocks go forward over it"));
            }
        },
    };
    at.try_into().map_err(|err| format!("{text:?}: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YORK: Option<Tz> = Some(Tz::America__New_York);

    #[test]
    fn a_time_is_of_the_zone_that_the_caller_names() {
        for (text, zone, expected) in [
            ("2018-12-24 09:30:00", NEW_YORK, "2018-12-24T14:30:00Z"),
            ("2018-07-02 09:30:00", NEW_YORK, "2018-07-02T13:30:00Z"),
            ("2018-07-02T09:30:00.5", NEW_YORK, "2018-07-02T13:30:00.500Z"),
            ("2018-12-24 09:30:00", None, "2018-12-24T09:30:00Z"),
            // An offset says more than a zone.
            ("2018-12-24T09:30:00-08:00", NEW_YORK, "2018-12-24T17:30:00Z"),
            ("2018-12-24 09:30:00-05:00", None, "2018-12-24T14:30:00Z"),
            ("2018-12-24", NEW_YORK, "2018-12-24T05:00:00Z"),
            ("2018-12-24", None, "2018-12-24T00:00:00Z"),
        ] {
            assert_eq!(timestamp(text, zone, false).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn days_stay_days_in_every_zone() {
        for text in ["2018-12-24", "2018-12-24 00:00:00", "2018-12-24T00:00:00-05:00", "2018-12-24T05:00:00Z"] {
            let at = timestamp(text, NEW_YORK, true).unwrap();
            assert_eq!(at.to_string(), "2018-12-24T00:00:00Z", "{text}");
            assert_eq!(day(text, NEW_YORK).unwrap().to_string(), "2018-12-24", "{text}");
        }
        assert_eq!(timestamp("2018-12-24 16:00:00", NEW_YORK, true).unwrap().to_string(), "2018-12-24T21:00:00Z");
        assert_eq!(day("2018-12-24T23:00:00-05:00", NEW_YORK).unwrap().to_string(), "2018-12-24");
        assert_eq!(day("2018-12-24T23:00:00-05:00", None).unwrap().to_string(), "2018-12-25");
    }

    #[test]
    fn a_local_time_that_is_not_one_instant_is_refused() {
        let refused = |text| timestamp(text, NEW_YORK, false).unwrap_err();
        assert!(refused("2019-03-10 02:30:00").contains("does not exist in America/New_York"));
        let twice = refused("2018-11-04 01:30:00");
        assert!(twice.contains("occurs twice in America/New_York"), "{twice}");
        assert!(twice.ends_with("2018-11-04T01:30:00-04:00 or 2018-11-04T01:30:00-05:00"), "{twice}");
        assert!(timestamp("2018-11-04 01:30:00-05:00", NEW_YORK, false).is_ok());
        for text in ["", "someday", "24.12.2018", "12/24/2018", "1200-01-01", "2018-02-30"] {
            assert!(timestamp(text, NEW_YORK, true).unwrap_err().contains("is no time"), "{text}");
        }
    }
}
