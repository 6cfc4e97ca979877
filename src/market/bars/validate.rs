//! What is wrong with rows that are to be written, and what is done about it.

use super::key::SeriesId;
use crate::{
    market::bars::{
        bar::{BadRows, Bar, Flaws},
        columns::{Bars, Columns},
    },
    types::{
        error::{Error, Result},
        time::Timestamp,
    },
};

/// Half-open intervals end before it at the latest.
const LAST: Timestamp = Timestamp::from_nanos(i64::MAX);

/// What the rows of a series have to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) series: &'a SeriesId,
    /// Whether prices below zero are as good as others.
    pub(crate) negative_prices: bool,
}

impl Rules<'_> {
    /// What is wrong with a bar taken alone.
    fn flaws(self, bar: &Bar) -> Flaws {
        let mut flaws = bar.flaws();
        if self.negative_prices && bar.volume >= 0.0 {
            flaws = flaws.without(Flaws::NEGATIVE);
        }
        if !self.series.timeframe.can_begin(bar.at) {
            flaws |= Flaws::OFF_GRID;
        }
        flaws
    }
}

/// Checks rows one after the other, in the order in which they are given.
pub(super) struct Checker<'a> {
    rules: Rules<'a>,
    bad_rows: BadRows,
    /// Rows that were looked at.
    row: usize,
    /// When the last row begins that was not left out.
    before: Option<Timestamp>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(rules: Rules<'a>, bad_rows: BadRows) -> Self {
        Self { rules, bad_rows, row: 0, before: None }
    }

    /// Returns the flaws of the next row, but for that of being repeated; `None` when it is to be left out.
    pub(super) fn check(&mut self, bar: &Bar) -> Result<Option<Flaws>> {
        let row = self.row;
        self.check_named(bar, || format!("row {row}"))
    }

    /// The same, for a row that has a name of its own.
    pub(super) fn check_named(&mut self, bar: &Bar, name: impl Fn() -> String) -> Result<Option<Flaws>> {
        let rules = self.rules;
        self.row += 1;
        if self.bad_rows == BadRows::LeaveOut && flaw(rules, bar).is_some() {
            return Ok(None);
        }
        let refuse = |what: String| {
            let message = format!("{} at {}: {what}", name(), bar.at);
            Err(Error::invalid("write bars", rules.series.to_string(), message))
        };
        if bar.at == LAST {
            return refuse("no interval holds the last moment of time".into());
        }
        let mut flaws = rules.flaws(bar);
        if self.before.is_some_and(|before| bar.at < before) {
            flaws |= Flaws::UNSORTED;
        }
        if self.bad_rows == BadRows::Refuse {
            if self.before == Some(bar.at) {
                return refuse("it has the timestamp of the row before it".into());
            }
            if let Some(before) = self.before.filter(|_| flaws.contains(Flaws::UNSORTED)) {
                return refuse(format!("it lies before the row before it, at {before}"));
            }
            if !flaws.is_empty() {
                return refuse(describe(bar, flaws, rules));
            }
        }
        self.before = Some(bar.at);
        Ok(Some(flaws))
    }
}

/// Returns the rows in order of time, each timestamp once, with their flaws.
pub(crate) fn prepare(rules: Rules<'_>, bars: &Bars, bad: BadRows) -> Result<Columns> {
    let mut checker = Checker::new(rules, bad);
    let mut rows: Vec<(Bar, Flaws)> = Vec::with_capacity(bars.len());
    for bar in bars.iter() {
        if let Some(flaws) = checker.check(&bar)? {
            rows.push((bar, flaws));
        }
    }
    let mut columns = Columns::with_capacity(rows.len());
    if bad != BadRows::Refuse {
        // Stable: of rows with the same timestamp the one that came last stays last.
        rows.sort_by_key(|(bar, _)| bar.at);
    }
    for same in rows.chunk_by(|(a, _), (b, _)| a.at == b.at) {
        if let Some((bar, flaws)) = same.last() {
            let repeated = if same.len() > 1 { Flaws::DUPLICATE } else { Flaws::NONE };
            columns.push(bar, *flaws | repeated);
        }
    }
    Ok(columns)
}

/// What is wrong with a bar taken alone, in words.
pub(crate) fn flaw(rules: Rules<'_>, bar: &Bar) -> Option<String> {
    if bar.at == LAST {
        return Some("no interval holds the last moment of time".to_owned());
    }
    let flaws = rules.flaws(bar);
    (!flaws.is_empty()).then(|| format!("{}: {}", bar.at, describe(bar, flaws, rules)))
}

/// What kind of flaw a bar taken alone has: many bars may have the same.
pub(crate) fn kind_of_flaw(rules: Rules<'_>, bar: &Bar) -> Option<String> {
    let flaws = rules.flaws(bar);
    match bar.at {
        LAST => Some("at the last moment of time".to_owned()),
        _ => (!flaws.is_empty()).then(|| flaws.to_string()),
    }
}

fn describe(bar: &Bar, flaws: Flaws, rules: Rules<'_>) -> String {
    let series = rules.series;
    let Bar { open, high, low, close, volume, .. } = bar;
    if flaws.contains(Flaws::NOT_FINITE) || flaws.contains(Flaws::NEGATIVE) {
        let allowed = flaws == Flaws::NEGATIVE && *volume >= 0.0;
        let hint = if allowed { "; a series has such prices after `BarSeries::allow_negative_prices`" } else { "" };
        return format!("{flaws}: open {open}, high {high}, low {low}, close {close}, volume {volume}{hint}");
    }
    if flaws.contains(Flaws::OFF_GRID) {
        let day = if series.timeframe.is_daily() { "; bars of days begin at midnight UTC of their day" } else { "" };
        return format!("no bar of {} begins then{day}", series.timeframe);
    }
    format!("low {low} <= open {open}, close {close} <= high {high} does not hold")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        market::timeframe::Timeframe,
        types::{key::Symbol, time::Timestamp},
    };

    fn bar(at: i64, close: f64) -> Bar {
        Bar { at: Timestamp::from_nanos(at), open: 2.0, high: 3.0, low: 1.0, close, volume: 5.0 }
    }

    fn rules(series: &SeriesId) -> Rules<'_> {
        Rules { series, negative_prices: false }
    }

    fn series() -> SeriesId {
        SeriesId { symbol: Symbol::new("AAPL").unwrap(), timeframe: Timeframe::hours(3).unwrap(), source: None }
    }

    #[test]
    fn bars_begin_when_bars_begin() {
        let refused = |timeframe: &str, at: &str| {
            let series = SeriesId { timeframe: timeframe.parse().unwrap(), ..series() };
            let bar = Bar { at: at.parse().unwrap(), ..bar(0, 2.0) };
            prepare(rules(&series), &[bar].into_iter().collect(), BadRows::Refuse)
                .err()
                .map(|err| err.message().to_owned())
        };
        for (timeframe, at) in
            [("1d", "2018-12-24T14:30:00Z"), ("1m", "2018-12-24T14:30:07Z"), ("7d", "2018-12-24T01:00:00Z")]
        {
            assert!(refused(timeframe, at).unwrap().contains(&format!("no bar of {timeframe} begins then")));
        }
        for (timeframe, at) in
            [("1d", "2018-12-24T00:00:00Z"), ("1h", "2018-12-24T14:30:00Z"), ("90s", "2018-12-24T14:31:30Z")]
        {
            assert_eq!(refused(timeframe, at), None);
        }
    }

    #[test]
    fn the_first_bad_row_is_named() {
        let cases: [(&[Bar], &str); 5] = [
            (&[bar(1, 2.0), bar(1, 2.0)], "row 1 at 1970-01-01T00:00:00.000000001Z: it has the timestamp"),
            (&[bar(1, 2.0), bar(5, 2.0), bar(4, 2.0)], "row 2"),
            (&[bar(1, f64::NAN)], "not finite"),
            (&[bar(1, 2.0), bar(2, -2.0)], "negative"),
            (&[bar(1, 9.0)], "low 1 <= open 2, close 9 <= high 3"),
        ];
        for (rows, part) in cases {
            let err = prepare(rules(&series()), &rows.iter().copied().collect(), BadRows::Refuse).unwrap_err();
            assert!(err.message().contains(part), "{err}");
        }
    }

    #[test]
    fn prices_below_zero_are_a_flaw_unless_they_are_allowed() {
        let oil = Bar { open: -13.47, high: 1.0, low: -40.32, close: -37.63, ..bar(1, 0.0) };
        let series = series();
        let refused = prepare(rules(&series), &[oil].into_iter().collect(), BadRows::Refuse).unwrap_err();
        assert!(refused.message().ends_with("after `BarSeries::allow_negative_prices`"), "{refused}");
        let allowed = Rules { negative_prices: true, ..rules(&series) };
        let kept = prepare(allowed, &[oil].into_iter().collect(), BadRows::Refuse).unwrap();
        assert!(kept.flaws.is_empty());
        // A volume below zero is as wrong as before, and so is a high below the low.
        for (wrong, part) in [
            (Bar { volume: -1.0, ..oil }, "negative"),
            (Bar { high: -50.0, ..oil }, "does not hold"),
            (Bar { volume: f64::NAN, ..oil }, "not finite"),
        ] {
            let message = flaw(allowed, &wrong).unwrap();
            assert!(message.contains(part) && !message.contains("allow_negative_prices"), "{message}");
        }
        assert_eq!(kind_of_flaw(rules(&series), &oil).as_deref(), Some("negative"));
        // Zero is no flaw.
        let zero = Bar { open: 0.0, high: 0.0, low: 0.0, close: 0.0, ..bar(1, 0.0) };
        assert_eq!(flaw(rules(&series), &zero), None);
    }

    #[test]
    fn what_is_kept_is_flagged() {
        let rows: Bars = [bar(9, 2.0), bar(5, 9.0), bar(9, 1.0), bar(7, f64::NAN)].into_iter().collect();
        let kept: Bars = prepare(rules(&series()), &rows, BadRows::Keep).unwrap().into();
        let found: Vec<_> = (0..kept.len()).map(|row| (kept.timestamps()[row].as_nanos(), kept.flaws(row))).collect();
        let unsorted = Flaws::UNSORTED;
        assert_eq!(
            found,
            [(5, unsorted | Flaws::INCONSISTENT), (7, unsorted | Flaws::NOT_FINITE), (9, Flaws::DUPLICATE)]
        );
        assert_eq!(kept.close()[2], 1.0);
    }
}
