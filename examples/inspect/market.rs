//! What there is of market data: series of bars, what is known of which day, and what is missing.

use modelkeep::{
    Day, Interval, Store,
    market::{BarSeries, BarSummary, Calendar, Coverage, Timeframe},
};
use serde_json::json;

use super::{
    show::{Outcome, print},
    table::{human_bytes, table},
};

/// A day of the strip, for people and for programs.
const SIGNS: [(char, &str); 5] =
    [('#', "present"), ('o', "empty, or assumed so"), ('!', "failed, or due"), ('?', "missing"), ('.', "no session")];

pub fn bars(store: &Store, as_json: bool) -> Outcome {
    let mut rows = table(
        &["symbol", "bars of", "made of", "bars", "first", "last", "chunks", "stored", "bytes per bar"],
        &[3, 6, 7, 8],
    );
    let (mut all, mut unreadable) = (Vec::new(), Vec::new());
    for (name, summary) in store.bar_series()? {
        let BarSummary { symbol, timeframe, resampled_from, bars, span, chunks, stored_bytes, .. } = match summary {
            Ok(summary) => summary,
            Err(err) => {
                unreadable.push(format!("{name}: {err}"));
                continue;
            }
        };
        let per_bar = stored_bytes as f64 / bars.max(1) as f64;
        let source = resampled_from.map(|source| source.to_string());
        all.push(json!({
            "symbol": symbol.as_str(), "timeframe": timeframe.to_string(), "made_of": source, "bars": bars,
            "first": span.0.to_string(), "last": span.1.to_string(), "chunks": chunks, "stored_bytes": stored_bytes,
        }));
        rows.add_row([
            symbol.to_string(),
            timeframe.to_string(),
            source.unwrap_or_else(|| "-".into()),
            bars.to_string(),
            span.0.to_string(),
            span.1.to_string(),
            chunks.to_string(),
            human_bytes(stored_bytes),
            format!("{per_bar:.1}"),
        ]);
    }
    print(as_json, &json!(all), || format!("{rows}\n{} series", all.len()))?;
    if unreadable.is_empty() { Ok(()) } else { Err(unreadable.join("\n").into()) }
}

/// The series of a symbol that is meant, and the days from its first bar to its last.
fn series<'a>(
    store: &'a Store,
    symbol: &str,
    timeframe: Timeframe,
) -> Outcome<(BarSeries<'a>, Calendar, Interval<Day>)> {
    let series = store.bars(symbol, timeframe)?;
    let judge = series.stored_calendar()?.unwrap_or_else(Calendar::nyse);
    let is_meant = |summary: &BarSummary| {
        summary.symbol == *series.symbol() && summary.timeframe == timeframe && summary.resampled_from.is_none()
    };
    let mut all = store.bar_series()?.into_iter().filter_map(|(_, summary)| summary.ok());
    let (first, last) =
        all.find(is_meant).ok_or_else(|| format!("there are no bars of {symbol} {timeframe}; see `bars`"))?.span;
    let days = Interval::new(first.day(), last.day().next())?;
    Ok((series.calendar(judge.clone()), judge, days))
}

/// What is known of each day, in one character; a line a month.
pub fn coverage(store: &Store, symbol: &str, timeframe: Timeframe, as_json: bool) -> Outcome {
    let (series, judge, days) = series(store, symbol, timeframe)?;
    let stretches = series.coverage(days.span())?;
    let sign = |day: Day| {
        let Some(session) = judge.session(day) else { return '.' };
        let window = session.window(timeframe);
        let known = stretches
            .iter()
            .filter(|stretch| stretch.interval.start() < window.end() && window.start() < stretch.interval.end());
        // The worst of what is known of any part of the day.
        let rank = |coverage: &Coverage| match coverage {
            Coverage::Present | Coverage::Provisional { .. } => 0,
            Coverage::Empty | Coverage::AssumedEmpty { .. } => 1,
            Coverage::Failed { .. } | Coverage::Due { .. } | Coverage::Unjudged { .. } => 2,
            _ => 3,
        };
        known.map(|stretch| rank(&stretch.coverage)).max().map_or('?', |rank| SIGNS[rank].0)
    };
    let (mut lines, mut count) = (Vec::new(), [0; SIGNS.len()]);
    let mut day = days.start();
    while day < days.end() {
        let text = day.to_string();
        let (month, number) = (text[..7].to_owned(), text[8..].parse::<usize>()?);
        if lines.last().is_none_or(|(last, _): &(String, String)| *last != month) {
            lines.push((month, " ".repeat(number - 1)));
        }
        let sign = sign(day);
        count[SIGNS.iter().position(|(known, _)| *known == sign).unwrap_or(3)] += 1;
        if let Some((_, line)) = lines.last_mut() {
            line.push(sign);
        }
        day = day.next();
    }
    let value = json!({
        "symbol": symbol, "timeframe": timeframe.to_string(), "calendar": judge.to_string(),
        "months": lines.iter().map(|(month, line)| (month.clone(), json!(line))).collect::<serde_json::Map<_, _>>(),
        "days": SIGNS.iter().zip(count).map(|((_, name), days)| ((*name).to_owned(), json!(days))).collect::<serde_json::Map<_, _>>(),
    });
    print(as_json, &value, || {
        let head = "        1       8       15      22      29".replace("       ", "      ");
        let months: Vec<String> = lines.iter().map(|(month, line)| format!("{month} {line}")).collect();
        let legend: Vec<String> =
            SIGNS.iter().zip(count).map(|((sign, name), days)| format!("{sign} {name} {days}")).collect();
        format!("{symbol} {timeframe}, judged by {judge}\n{head}\n{}\n{}", months.join("\n"), legend.join("   "))
    })
}

/// The sessions that have no bars, though the calendar expects some.
pub fn gaps(store: &Store, symbol: Option<&str>, as_json: bool) -> Outcome {
    let mut rows = table(&["symbol", "bars of", "sessions without bars", "which"], &[2]);
    let mut all = Vec::new();
    for (_, summary) in store.bar_series()? {
        let summary = summary?;
        if summary.resampled_from.is_some() || symbol.is_some_and(|symbol| summary.symbol.as_str() != symbol) {
            continue;
        }
        let (series, _, days) = series(store, summary.symbol.as_str(), summary.timeframe)?;
        let gaps: Vec<String> = series.gaps(days.span())?.iter().map(|session| session.day.to_string()).collect();
        let shown = match gaps.len() {
            0 => "-".to_owned(),
            1..=6 => gaps.join(" "),
            more => format!("{} and {} more", gaps[..5].join(" "), more - 5),
        };
        rows.add_row([summary.symbol.to_string(), summary.timeframe.to_string(), gaps.len().to_string(), shown]);
        all.push(
            json!({ "symbol": summary.symbol.as_str(), "timeframe": summary.timeframe.to_string(), "gaps": gaps }),
        );
    }
    if all.is_empty()
        && let Some(symbol) = symbol
    {
        return Err(format!("there are no bars of {symbol}; see `bars`").into());
    }
    print(as_json, &json!(all), || rows.to_string())
}
