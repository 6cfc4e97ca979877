//! A calendar as JSON: for calendars of one's own, and for keeping what judged the data.

use std::collections::BTreeMap;

use chrono::{NaiveTime, Weekday};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Calendar, Hours, Inner,
    exchange::{Exchange, UsualHours},
};
use crate::types::{
    error::{Error, Result},
    interval::Interval,
    key::Label,
    time::Day,
};

const OPERATION: &str = "read calendar";

impl Calendar {
    /// Returns the calendar as JSON, in a form that depends on its content alone.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.json().to_owned()
    }

    /// The same, without a copy.
    pub(crate) fn json(&self) -> &str {
        self.0.json.get_or_init(|| self.make_json())
    }

    fn make_json(&self) -> String {
        let Inner { name, version, hours, .. } = &*self.0;
        let mut fields = Map::new();
        let mut set = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
        set("name", name.as_str().into());
        set("version", (*version).into());
        match hours {
            Hours::Always => set("hours", "always".into()),
            Hours::Weekdays => set("hours", "weekdays".into()),
            Hours::Exchange(exchange) => {
                set("hours", "exchange".into());
                write_exchange(exchange, &mut set);
            }
        }
        // The map sorts its keys.
        Value::Object(fields).to_string()
    }

    /// Returns the calendar that a JSON text describes:
    ///
    /// ```
    /// let calendar = modelkeep::market::Calendar::from_json(r#"{
    ///     "name": "hkex", "version": 1, "hours": "exchange", "zone": "Asia/Hong_Kong",
    ///     "open": "09:30", "close": "16:00", "first": "2020-01-01", "end": "2023-01-01",
    ///     "weekend": ["Sat", "Sun"], "closed": ["2020-10-01"], "early": {"2020-12-24": "12:00"}
    /// }"#)?;
    /// assert!(calendar.session("2020-10-01".parse()?).is_none());
    /// assert_eq!(modelkeep::market::Calendar::from_json(&calendar.to_json())?, calendar);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// `"hours"` is `always`, `weekdays` or `exchange`; the fields after it belong to an exchange. The calendar knows
    /// the days from `first` up to `end`. Times are local to `zone`, a name of the IANA database, to the minute.
    ///
    /// These fields may be left out:
    ///
    /// | field | what it says | example |
    /// |---|---|---|
    /// | `weekend` | days of the week without a session | `["Sat", "Sun"]` |
    /// | `closed` | days without a session | `["2020-10-01"]` |
    /// | `early` | days that close before the usual time | `{"2020-12-24": "12:00"}` |
    /// | `late` | days that open after the usual time | `{"2002-09-11": "12:00"}` |
    /// | `breaks` | up to four stretches without trading within every session that reaches beyond them | `[["12:00", "13:00"]]` |
    /// | `opens_day_before` | whether a session opens on the calendar day before its own: times from `open` on, in `late` and `breaks` too, are of that day. It lasts 24 hours at most. | `true` |
    /// | `closing_auction` | whether a bar that begins at the close belongs to the session; `true` unless it says otherwise | `false` |
    /// | `changes` | hours that replaced `open`, `close`, `breaks` and `opens_day_before`, from a day on | `{"2024-11-05": {"open": "09:00", "close": "15:30"}}` |
    ///
    /// # Errors
    /// `InvalidInput`, naming the field, for what is missing, unknown or impossible.
    pub fn from_json(text: &str) -> Result<Self> {
        let file: File = serde_json::from_str(text)
            .map_err(|err| Error::invalid(OPERATION, "json", err.to_string()).with_source(err))?;
        let name = Label::new(&file.name)?;
        let refuse =
            |field: &str, message: String| Error::invalid(OPERATION, name.to_string(), format!("{field}: {message}"));
        let hours = match file.hours {
            HoursFile::Always {} => Hours::Always,
            HoursFile::Weekdays {} => Hours::Weekdays,
            HoursFile::Exchange(exchange) => {
                let exchange = exchange.read(&refuse)?;
                exchange.check(&refuse)?;
                Hours::Exchange(exchange)
            }
        };
        Ok(Self(std::sync::Arc::new(Inner::new(name, file.version, hours))))
    }
}

#[derive(Deserialize)]
struct File {
    name: String,
    version: u32,
    #[serde(flatten)]
    hours: HoursFile,
}

#[derive(Deserialize)]
#[serde(tag = "hours", rename_all = "lowercase", deny_unknown_fields)]
enum HoursFile {
    Always {},
    Weekdays {},
    Exchange(Box<ExchangeFile>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExchangeFile {
    zone: String,
    open: String,
    close: String,
    #[serde(default)]
    breaks: Vec<(String, String)>,
    #[serde(default)]
    opens_day_before: bool,
    #[serde(default)]
    changes: BTreeMap<String, HoursOfFile>,
    first: String,
    end: String,
    #[serde(default)]
    weekend: Vec<String>,
    #[serde(default)]
    closed: Vec<String>,
    #[serde(default)]
    early: BTreeMap<String, String>,
    #[serde(default)]
    late: BTreeMap<String, String>,
    #[serde(default = "has_closing_auction")]
    closing_auction: bool,
}

fn has_closing_auction() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoursOfFile {
    open: String,
    close: String,
    #[serde(default)]
    breaks: Vec<(String, String)>,
    #[serde(default)]
    opens_day_before: bool,
}

/// What makes an error of the name of a field and a message.
type Refuse<'a> = &'a dyn Fn(&str, String) -> Error;

impl ExchangeFile {
    fn read(self, refuse: Refuse<'_>) -> Result<Exchange> {
        let weekday = |text: &String| {
            text.parse::<Weekday>().map_err(|_| refuse("weekend", format!("{text:?} is no day of the week")))
        };
        let times = |field: &str, days: &BTreeMap<String, String>| -> Result<BTreeMap<Day, NaiveTime>> {
            days.iter().map(|(text, at)| Ok((day(field, text, refuse)?, time(field, at, refuse)?))).collect()
        };
        let (first, end) = (day("first", &self.first, refuse)?, day("end", &self.end, refuse)?);
        let usual = HoursOfFile {
            open: self.open,
            close: self.close,
            breaks: self.breaks,
            opens_day_before: self.opens_day_before,
        };
        let changes = self.changes.iter().map(|(text, hours)| {
            let refuse_change = |field: &str, message| refuse("changes", format!("{text}: {field}: {message}"));
            Ok((day("changes", text, refuse)?, hours.read(&refuse_change)?))
        });
        Ok(Exchange {
            zone: self.zone.parse().map_err(|_| refuse("zone", format!("{:?} is no time zone", self.zone)))?,
            known: Interval::new(first, end).map_err(|_| refuse("end", format!("{end} lies before {first}")))?,
            usual: usual.read(refuse)?,
            changes: changes.collect::<Result<_>>()?,
            weekend: self.weekend.iter().map(weekday).collect::<Result<_>>()?,
            closed: self.closed.iter().map(|text| day("closed", text, refuse)).collect::<Result<_>>()?,
            early: times("early", &self.early)?,
            late: times("late", &self.late)?,
            closing_auction: self.closing_auction,
        })
    }
}

impl HoursOfFile {
    fn read(&self, refuse: Refuse<'_>) -> Result<UsualHours> {
        let breaks = self
            .breaks
            .iter()
            .map(|(start, end)| Ok((time("breaks", start, refuse)?, time("breaks", end, refuse)?)))
            .collect::<Result<_>>()?;
        let (open, close) = (time("open", &self.open, refuse)?, time("close", &self.close, refuse)?);
        Ok(UsualHours { open, opens_day_before: self.opens_day_before, close, breaks })
    }
}

fn day(field: &str, text: &str, refuse: Refuse<'_>) -> Result<Day> {
    text.parse().map_err(|_| refuse(field, format!("{text:?} is no date YYYY-MM-DD")))
}

fn time(field: &str, text: &str, refuse: Refuse<'_>) -> Result<NaiveTime> {
    NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| refuse(field, format!("{text:?} is no time HH:MM")))
}

/// What an exchange does not have is left out: the text is compared, and there are texts from before such fields.
fn write_exchange(exchange: &Exchange, set: &mut impl FnMut(&str, Value)) {
    let times = |days: &BTreeMap<Day, NaiveTime>| {
        Value::Object(days.iter().map(|(day, time)| (day.to_string(), hour(*time).into())).collect())
    };
    set("zone", exchange.zone.name().into());
    write_hours(&exchange.usual, set);
    set("first", exchange.known.start().to_string().into());
    set("end", exchange.known.end().to_string().into());
    set("weekend", exchange.weekend.iter().map(ToString::to_string).collect::<Vec<_>>().into());
    set("closed", exchange.closed.iter().map(ToString::to_string).collect::<Vec<_>>().into());
    set("early", times(&exchange.early));
    if !exchange.late.is_empty() {
        set("late", times(&exchange.late));
    }
    if !exchange.closing_auction {
        set("closing_auction", false.into());
    }
    if !exchange.changes.is_empty() {
        let changes = exchange.changes.iter().map(|(day, hours)| {
            let mut fields = Map::new();
            write_hours(hours, &mut |key, value| drop(fields.insert(key.to_owned(), value)));
            (day.to_string(), Value::Object(fields))
        });
        set("changes", Value::Object(changes.collect()));
    }
}

fn write_hours(hours: &UsualHours, set: &mut impl FnMut(&str, Value)) {
    set("open", hour(hours.open).into());
    set("close", hour(hours.close).into());
    if hours.opens_day_before {
        set("opens_day_before", true.into());
    }
    if !hours.breaks.is_empty() {
        set(
            "breaks",
            hours.breaks.iter().map(|(start, end)| vec![hour(*start), hour(*end)]).collect::<Vec<_>>().into(),
        );
    }
}

fn hour(time: NaiveTime) -> String {
    time.format("%H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars_survive_their_json() {
        for calendar in Calendar::NAMES.into_iter().filter_map(Calendar::named) {
            let json = calendar.to_json();
            let read = Calendar::from_json(&json).unwrap();
            assert_eq!(read.to_json(), json);
            assert_eq!(read, calendar);
        }
        assert_ne!(Calendar::nyse(), Calendar::nasdaq());
    }

    /// Texts are compared, and stored: fields that came later are left out where they say nothing.
    #[test]
    fn a_calendar_without_the_later_fields_is_written_as_before() {
        let text = r#"{"close":"17:30","closed":["2020-05-01"],"early":{"2020-12-30":"14:00"},"end":"2021-01-01","first":"2020-01-01","hours":"exchange","name":"x","open":"09:00","version":1,"weekend":["Sat","Sun"],"zone":"Europe/Berlin"}"#;
        assert_eq!(Calendar::from_json(text).unwrap().to_json(), text);
        for field in ["breaks", "changes", "late", "opens_day_before"] {
            assert!(!Calendar::nasdaq().to_json().contains(field), "{field}");
        }
    }

    #[test]
    fn all_fields_survive() {
        let text = r#"{"breaks":[["20:00","20:15"],["02:00","09:00"]],"changes":{"2020-06-01":{"breaks":[["12:00","13:00"]],"close":"16:00","open":"09:30"},"2020-07-01":{"close":"15:30","open":"17:00","opens_day_before":true}},"close":"15:00","closed":["2020-05-01"],"early":{"2020-12-30":"14:00"},"end":"2021-01-01","first":"2020-01-01","hours":"exchange","late":{"2020-03-03":"23:30"},"name":"x","open":"17:00","opens_day_before":true,"version":1,"weekend":["Sat","Sun"],"zone":"Asia/Shanghai"}"#;
        let calendar = Calendar::from_json(text).unwrap();
        assert_eq!(calendar.to_json(), text);
        // Late on the evening before, behind its first break.
        let late = calendar.session("2020-03-03".parse().unwrap()).unwrap();
        assert_eq!((late.open.to_string().as_str(), late.breaks().count()), ("2020-03-02T15:30:00Z", 1));
    }

    #[test]
    fn what_is_wrong_with_a_calendar_is_named() {
        let base = r#""name":"x","version":1,"hours":"exchange","zone":"Europe/Berlin","open":"09:00","close":"17:30","first":"2020-01-01","end":"2021-01-01""#;
        let breaks = r#""breaks":[["12:00","13:00"]]"#;
        for (fields, part) in [
            (r#""name":"x","version":1,"hours":"sometimes""#.to_owned(), "sometimes"),
            (r#""name":"x","hours":"always""#.to_owned(), "version"),
            (r#""name":"x","version":1,"hours":"exchange""#.to_owned(), "zone"),
            (base.replace("Berlin", "Bielefeld"), "zone: \"Europe/Bielefeld"),
            (base.replace("17:30", "08:30"), "close: it closes at"),
            (base.replace("17:30", "25:30"), "close: \"25:30\""),
            (base.replace("09:00", "noon"), "open: \"noon\""),
            (base.replace("2021-01-01", "2019-01-01"), "end: 2019-01-01"),
            (base.replace("2020-01-01", "soon"), "first: \"soon\""),
            (format!(r#"{base},"weekend":["Caturday"]"#), "weekend: \"Caturday\""),
            (format!(r#"{base},"closed":["2022-01-01"]"#), "closed: 2022-01-01"),
            (format!(r#"{base},"early":{{"2020-12-30":"18:00"}}"#), "early: 2020-12-30 closes at 18:00"),
            (format!(r#"{base},"early":{{"2020-12-30":"09:00"}}"#), "early: 2020-12-30"),
            (format!(r#"{base},"early":{{"2020-12-30":"12:30"}},{breaks}"#), "early: 2020-12-30 closes in the break"),
            (format!(r#"{base},"early":{{"2020-12-30":"13:00"}},{breaks}"#), "early: 2020-12-30 closes in the break"),
            (format!(r#"{base},"late":{{"2020-12-30":"08:00"}}"#), "late: 2020-12-30 opens at 08:00"),
            (format!(r#"{base},"late":{{"2020-12-30":"17:30"}}"#), "late: 2020-12-30"),
            (format!(r#"{base},"late":{{"2022-12-30":"10:00"}}"#), "late: 2022-12-30"),
            (format!(r#"{base},"late":{{"2020-12-30":"12:00"}},{breaks}"#), "late: 2020-12-30 opens in the break"),
            (
                format!(r#"{base},"late":{{"2020-12-30":"14:00"}},"early":{{"2020-12-30":"13:30"}}"#),
                "late: 2020-12-30 opens at 14:00",
            ),
            (format!(r#"{base},"breaks":[["12:00"]]"#), "length"),
            (format!(r#"{base},"breaks":[["12:00","lunch"]]"#), "breaks: \"lunch\""),
            (format!(r#"{base},"breaks":[["12:00","12:00"]]"#), "breaks: 12:00:00 to 12:00:00"),
            (format!(r#"{base},"breaks":[["09:00","10:00"]]"#), "breaks: 09:00"),
            (format!(r#"{base},"breaks":[["17:00","17:30"]]"#), "breaks: 17:00"),
            (format!(r#"{base},"breaks":[["14:00","15:00"],["12:00","13:00"]]"#), "breaks: 12:00"),
            (format!(r#"{base},"breaks":[["12:00","13:00"],["13:00","14:00"]]"#), "breaks: 13:00"),
            (
                format!(
                    r#"{base},"breaks":[["10:00","10:01"],["11:00","11:01"],["12:00","12:01"],["13:00","13:01"],["14:00","14:01"]]"#
                ),
                "breaks: a session has at most 4",
            ),
            (format!(r#"{base},"opens_day_before":true"#), "close: it closes at 17:30:00, more than 24 hours"),
            (format!(r#"{base},"opens_day_before":"yes""#), "boolean"),
            (format!(r#"{base},"changes":{{"2020-06-01":{{"open":"09:00"}}}}"#), "close"),
            (
                format!(r#"{base},"changes":{{"2020-06-01":{{"open":"09:00","close":"08:00"}}}}"#),
                "changes: 2020-06-01: close: it closes at 08:00",
            ),
            (
                format!(r#"{base},"changes":{{"2020-06-01":{{"open":"09:00","close":"late"}}}}"#),
                "changes: 2020-06-01: close: \"late\"",
            ),
            (format!(r#"{base},"changes":{{"2020-06-01":{{"open":"09:00","close":"17:00","early":{{}}}}}}"#), "early"),
            (format!(r#"{base},"changes":{{"2021-06-01":{{"open":"09:00","close":"17:00"}}}}"#), "changes: 2021-06-01"),
            (
                format!(
                    r#"{base},"changes":{{"2020-06-02":{{"open":"17:00","close":"16:00","opens_day_before":true}}}}"#
                ),
                "changes: 2020-06-02 opens at 17:00:00 on the day before, which closes at 17:30",
            ),
            (format!(r#"{base},"clsoed":[]"#), "clsoed"),
        ] {
            let err = Calendar::from_json(&format!("{{{fields}}}")).unwrap_err();
            assert_eq!(err.kind(), crate::types::error::ErrorKind::InvalidInput);
            assert!(err.message().contains(part), "{part}: {err}");
        }
        // New hours may begin on a day whose day before has no session.
        let monday = r#""weekend":["Sat","Sun"],"changes":{"2020-06-01":{"open":"17:00","close":"16:00","opens_day_before":true}}"#;
        Calendar::from_json(&format!("{{{base},{monday}}}")).unwrap();
    }
}
