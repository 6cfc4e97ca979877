//! A calendar as JSON: for calendars of one's own, and for keeping what judged the data.

use std::collections::BTreeMap;

use chrono::{NaiveTime, Weekday};
use serde::Deserialize;
use serde_json::Value;

use super::{Calendar, Exchange, Hours, Inner};
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
        let mut fields = serde_json::Map::new();
        let mut set = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
        set("name", name.as_str().into());
        set("version", (*version).into());
        match hours {
            Hours::Always => set("hours", "always".into()),
            Hours::Weekdays => set("hours", "weekdays".into()),
            Hours::Exchange(exchange) => {
                set("hours", "exchange".into());
                set("zone", exchange.zone.name().into());
                set("open", hour(exchange.open).into());
                set("close", hour(exchange.close).into());
                set("first", exchange.known.start().to_string().into());
                set("end", exchange.known.end().to_string().into());
                set("weekend", exchange.weekend.iter().map(ToString::to_string).collect::<Vec<_>>().into());
                set("closed", exchange.closed.iter().map(ToString::to_string).collect::<Vec<_>>().into());
                let early = exchange.early.iter().map(|(day, close)| (day.to_string(), hour(*close).into()));
                set("early", Value::Object(early.collect()));
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
    /// the days from `first` up to `end`. Times are local to `zone`, a name of the IANA database.
    ///
    /// # Errors
    /// `InvalidInput`, naming the field, for what is missing, unknown or impossible.
    pub fn from_json(text: &str) -> Result<Self> {
        let file: File = serde_json::from_str(text)
            .map_err(|err| Error::invalid(OPERATION, "json", err.to_string()).with_source(err))?;
        let name = Label::new(&file.name)?;
        let refuse = |message: String| Error::invalid(OPERATION, name.to_string(), message);
        let hours = match file.hours {
            HoursFile::Always {} => Hours::Always,
            HoursFile::Weekdays {} => Hours::Weekdays,
            HoursFile::Exchange(exchange) => {
                let exchange = exchange.read(&refuse)?;
                exchange.check(&name)?;
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
    Exchange(ExchangeFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExchangeFile {
    zone: String,
    open: String,
    close: String,
    first: String,
    end: String,
    #[serde(default)]
    weekend: Vec<String>,
    #[serde(default)]
    closed: Vec<String>,
    #[serde(default)]
    early: BTreeMap<String, String>,
}

impl ExchangeFile {
    fn read(self, refuse: &impl Fn(String) -> Error) -> Result<Exchange> {
        let day = |text: &str| text.parse::<Day>().map_err(|_| refuse(format!("{text:?} is no date YYYY-MM-DD")));
        let time = |text: &str| {
            NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| refuse(format!("{text:?} is no time HH:MM")))
        };
        let weekday =
            |text: &String| text.parse::<Weekday>().map_err(|_| refuse(format!("{text:?} is no day of the week")));
        let zone = self.zone.parse().map_err(|_| refuse(format!("{:?} is no time zone", self.zone)))?;
        Ok(Exchange {
            zone,
            open: time(&self.open)?,
            close: time(&self.close)?,
            known: Interval::new(day(&self.first)?, day(&self.end)?)?,
            weekend: self.weekend.iter().map(weekday).collect::<Result<_>>()?,
            closed: self.closed.iter().map(|text| day(text)).collect::<Result<_>>()?,
            early: self.early.iter().map(|(text, close)| Ok((day(text)?, time(close)?))).collect::<Result<_>>()?,
        })
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
        for calendar in [Calendar::nyse(), Calendar::nasdaq(), Calendar::always_open(), Calendar::weekdays()] {
            let json = calendar.to_json();
            let read = Calendar::from_json(&json).unwrap();
            assert_eq!(read.to_json(), json);
            assert_eq!(read, calendar);
        }
        assert_ne!(Calendar::nyse(), Calendar::nasdaq());
    }

    #[test]
    fn what_is_wrong_with_a_calendar_is_named() {
        let base = r#""name":"x","version":1,"hours":"exchange","zone":"Europe/Berlin","open":"09:00","close":"17:30","first":"2020-01-01","end":"2021-01-01""#;
        for (fields, part) in [
            (r#""name":"x","version":1,"hours":"sometimes""#.to_owned(), "sometimes"),
            (r#""name":"x","hours":"always""#.to_owned(), "version"),
            (r#""name":"x","version":1,"hours":"exchange""#.to_owned(), "zone"),
            (base.replace("Berlin", "Bielefeld"), "Bielefeld"),
            (base.replace("17:30", "08:30"), "closes at"),
            (format!(r#"{base},"closed":["2022-01-01"]"#), "2022-01-01"),
            (format!(r#"{base},"early":{{"2020-12-30":"18:00"}}"#), "18:00"),
            (format!(r#"{base},"clsoed":[]"#), "clsoed"),
        ] {
            let err = Calendar::from_json(&format!("{{{fields}}}")).unwrap_err();
            assert!(err.message().contains(part), "{err}");
        }
    }
}
