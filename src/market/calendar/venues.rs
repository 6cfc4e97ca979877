//! The calendars that are built in: which there are, and what each knows.
//!
//! The data of most of them are files in `venues/`, which `scripts/calendars.py` writes and checks; the NYSE's are
//! rules, in `nyse.rs`.

use std::sync::{Arc, OnceLock};

use super::{Calendar, Hours, Inner, nyse};
use crate::types::{invariant::Invariant, key::Label};

/// A calendar that is made once.
macro_rules! once {
    ($make:expr) => {{
        static CALENDAR: OnceLock<Calendar> = OnceLock::new();
        CALENDAR.get_or_init(|| $make).clone()
    }};
}

impl Calendar {
    /// The names of the calendars that are built in; see [`named`](Self::named).
    pub const NAMES: [&'static str; 11] = [
        "always_open",
        "cme_equity_futures",
        "forex",
        "hong_kong",
        "lse",
        "nasdaq",
        "nyse",
        "sydney",
        "tokyo",
        "weekdays",
        "xetra",
    ];

    /// Returns the built-in calendar of this name; `None` when there is none.
    ///
    /// ```
    /// use modelkeep::market::Calendar;
    ///
    /// assert_eq!(Calendar::named("tokyo"), Some(Calendar::tokyo()));
    /// assert_eq!(Calendar::named("mars"), None);
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "always_open" => Self::always_open(),
            "cme_equity_futures" => Self::cme_equity_futures(),
            "forex" => Self::forex(),
            "hong_kong" => Self::hong_kong(),
            "lse" => Self::lse(),
            "nasdaq" => Self::nasdaq(),
            "nyse" => Self::nyse(),
            "sydney" => Self::sydney(),
            "tokyo" => Self::tokyo(),
            "weekdays" => Self::weekdays(),
            "xetra" => Self::xetra(),
            _ => return None,
        })
    }

    /// Returns the calendar of a market that never closes, as those of cryptocurrencies: each day in UTC is a session.
    #[doc(alias = "crypto")]
    #[must_use]
    pub fn always_open() -> Self {
        Self::built_in("always_open", 1, Hours::Always)
    }

    /// Returns the calendar of a market that is open from Monday to Friday, in UTC, without holidays.
    #[must_use]
    pub fn weekdays() -> Self {
        Self::built_in("weekdays", 1, Hours::Weekdays)
    }

    /// Returns the calendar of the New York Stock Exchange, 1999 to 2030: 9:30 to 16:00 in New York.
    ///
    /// It knows the holidays and early closes; the days closed for mourning, attacks and storms; six late opens; and
    /// 2005-06-01, when systems failed four minutes before the close. It does not know halts within a session
    /// (2015-07-08, circuit breakers of March 2020). Version 2 knows the late opens and that failure.
    #[must_use]
    pub fn nyse() -> Self {
        once!(Self::built_in("nyse", 2, Hours::Exchange(nyse::nyse())))
    }

    /// Returns the calendar of Nasdaq, 1999 to 2030: the days, early closes and usual hours of the NYSE.
    ///
    /// It does not know late opens and halts.
    #[must_use]
    pub fn nasdaq() -> Self {
        once!(Self::built_in("nasdaq", 1, Hours::Exchange(nyse::nasdaq())))
    }

    /// Returns the calendar of Xetra in Frankfurt, 2010 to 2027: 9:00 to 17:30, and to 14:00 on the last trading day
    /// when it is December 30.
    ///
    /// It does not know the closing auction after 17:30, and failures of the system.
    #[must_use]
    pub fn xetra() -> Self {
        once!(read(include_str!("venues/xetra.json")))
    }

    /// Returns the calendar of the London Stock Exchange, 2001 to 2027: 8:00 to 16:30, and to 12:30 on the last trading
    /// days before Christmas and New Year.
    ///
    /// It does not know the closing auction after 16:30, and failures of the system (2008-09-08, 2019-08-16).
    #[must_use]
    pub fn lse() -> Self {
        once!(read(include_str!("venues/lse.json")))
    }

    /// Returns the calendar of the Australian Securities Exchange in Sydney, 2011 to 2027: 10:00 to 16:00, and to 14:10
    /// on the last trading days before Christmas and New Year.
    ///
    /// It does not know that shares open in groups until 10:09, the closing auction at 16:10 (the early close is that of
    /// the auction), and failures of the system (2020-11-16).
    #[must_use]
    pub fn sydney() -> Self {
        once!(read(include_str!("venues/sydney.json")))
    }

    /// Returns the calendar of the Stock Exchange of Hong Kong, 2005 to 2027: 9:30 to 16:00 with lunch from 12:00 to
    /// 13:00. Until 2012-03-02 lunch ended at 13:30; until 2011-03-04 hours were 10:00 to 12:30 and 14:30 to 16:00.
    ///
    /// On the eves of Christmas, New Year and Lunar New Year there is a morning only. It knows the days that typhoons and
    /// rainstorms closed it for, but not those on which they did for a part of the day, and not the closing auction.
    #[must_use]
    pub fn hong_kong() -> Self {
        once!(read(include_str!("venues/hong_kong.json")))
    }

    /// Returns the calendar of the Tokyo Stock Exchange, 2012 to 2027: 9:00 to 15:00, since 2024-11-05 to 15:30, with
    /// lunch from 11:30 to 12:30.
    ///
    /// It knows 2020-10-01, when the system failed for all of the day.
    #[must_use]
    pub fn tokyo() -> Self {
        once!(read(include_str!("venues/tokyo.json")))
    }

    /// Returns the calendar of equity index futures at the Chicago Mercantile Exchange (Globex), 2016 to 2027: from
    /// 17:00 in Chicago on the day before to 16:00, until 2021-06-25 with a halt from 15:15 to 15:30.
    ///
    /// It knows holidays, and the early closes at 8:15, 12:00 and 12:15, and at 8:30 on two days of mourning. On a holiday
    /// that ends at noon the exchange counts the session to the next trade date; here it is one of its own. It does not
    /// know limit halts.
    #[must_use]
    pub fn cme_equity_futures() -> Self {
        once!(read(include_str!("venues/cme_equity_futures.json")))
    }

    /// Returns the calendar of the currency market, 2000 to 2040: from Sunday, 17:00 in New York, to Friday, 17:00. Each
    /// session lasts from 17:00 to 17:00 and belongs to the day on which it ends: Monday to Friday.
    ///
    /// It has no holidays: there is little trading on Christmas and New Year, and some vendors have no bars then.
    #[doc(alias = "fx")]
    #[must_use]
    pub fn forex() -> Self {
        once!(read(include_str!("venues/forex.json")))
    }

    fn built_in(name: &str, version: u32, hours: Hours) -> Self {
        let name = Label::new(name).always("names of calendars here are labels");
        Self(Arc::new(Inner::new(name, version, hours)))
    }
}

fn read(json: &str) -> Calendar {
    Calendar::from_json(json).always("a test reads every file")
}
