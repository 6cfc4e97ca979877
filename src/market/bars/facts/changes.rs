//! States of the market data of a store, and what changed since one of them.

use std::{fmt, str::FromStr};

use super::record::{Facts, HEAD, Head, series_of};
use crate::{
    engine::{Snapshot, Table, identity},
    market::{Market, timeframe::Timeframe},
    types::{
        error::{Error, ErrorKind, Result},
        interval::Interval,
        key::Symbol,
        time::Timestamp,
    },
};

/// Which state the bars of a store were in: to be kept, as text, beside what was computed from them. Equal states of
/// one store have equal bars. Survives restarts and compaction.
///
/// ```
/// use modelkeep::{Store, market::MarketState};
///
/// let store = Store::in_memory()?;
/// let state = store.market_state()?;
/// assert_eq!(state.to_string().parse::<MarketState>()?, state);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MarketState {
    store: String,
    /// Who made the last change: a number drawn anew each time that the store is opened for writing. Copies of a file
    /// that went their own ways are told apart by it. `None` before the first change.
    writer: Option<u64>,
    change: u64,
}

impl MarketState {
    /// Returns how many transactions changed bars up to this state, as far as they were counted.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.change
    }
}

impl fmt::Display for MarketState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{}", self.store, self.writer.unwrap_or_default(), self.change)
    }
}

impl FromStr for MarketState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::invalid("read market state", text, "expected the text that a state is printed as");
        let mut parts = text.split('-');
        let (Some(store), Some(writer), Some(change), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse());
        };
        let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex(store, 32) || !is_hex(writer, 16) {
            return Err(refuse());
        }
        let change: u64 = change.parse().map_err(|_| refuse())?;
        let writer = u64::from_str_radix(writer, 16).map_err(|_| refuse())?;
        Ok(Self { store: store.to_owned(), writer: (change > 0).then_some(writer), change })
    }
}

impl serde::Serialize for MarketState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for MarketState {
    fn deserialize<D: serde::Deserializer<'de>>(text: D) -> std::result::Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(text)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A series whose bars changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changed {
    /// The symbol.
    pub symbol: Symbol,
    /// How long a bar is.
    pub timeframe: Timeframe,
    /// The timeframe of the bars that these were aggregated from; `None` for bars as they were given.
    pub resampled_from: Option<Timeframe>,
    /// Where rows were added, replaced or removed, in order, without overlaps: every row that is not what it was begins
    /// in one of them. They reach from a row that changed to the end of another; rows between the two may be what they
    /// were, and the older a change is the more of them.
    pub intervals: Vec<Interval<Timestamp>>,
}

/// What changed since a state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Changes {
    /// These series, in order, and no others.
    Series(Vec<Changed>),
    /// Any bar of any series may have changed: the state is of another store, of a copy that went its own way, of a
    /// time that this file does not reach back to, or what was written down is damaged.
    Everything {
        /// Why nobody can say more.
        reason: String,
    },
}

impl Market {
    /// Returns the state of the bars.
    pub(crate) fn market_state(&self) -> Result<MarketState> {
        self.core.look(state)
    }

    /// Returns what changed since `state`.
    pub(crate) fn changed_since(&self, since: &MarketState) -> Result<Changes> {
        self.core.look(|snapshot| changed_since(snapshot, since))
    }
}

/// The state that a snapshot shows.
fn state(snapshot: &Snapshot) -> Result<MarketState> {
    let store = identity::read(snapshot)?.id;
    Ok(match Head::read(snapshot)?.and_then(|head| head.last()) {
        Some(last) => MarketState { store, writer: Some(last.id), change: last.last },
        None => MarketState { store, writer: None, change: u64::from(has_bars(snapshot)) },
    })
}

/// Whether there are bars, readable or not: a file that does not count its changes has them if an older release wrote
/// them, or if losses were accepted.
fn has_bars(snapshot: &Snapshot) -> bool {
    snapshot.scan(Table::Bars, b"").next_sealed(|_, _| ()).is_some()
}

fn changed_since(snapshot: &Snapshot, since: &MarketState) -> Result<Changes> {
    match known_changes(snapshot, since) {
        Ok(Ok(changed)) => Ok(Changes::Series(changed)),
        Ok(Err(reason)) => Ok(Changes::Everything { reason: reason.to_owned() }),
        Err(err) if err.kind() == ErrorKind::Corrupt => Ok(Changes::Everything { reason: err.to_string() }),
        Err(err) => Err(err),
    }
}

/// The series that changed, or why nobody can say.
fn known_changes(snapshot: &Snapshot, since: &MarketState) -> Result<std::result::Result<Vec<Changed>, &'static str>> {
    if identity::read(snapshot)?.id != since.store {
        return Ok(Err("the state is of another store"));
    }
    if snapshot.has_losses(Table::Bars) || snapshot.has_losses(Table::BarFacts) {
        return Ok(Err("rows may have been lost to damage"));
    }
    let Some(head) = Head::read(snapshot)? else {
        let is_before_all = since.writer.is_none() && since.change == u64::from(has_bars(snapshot));
        return Ok(if is_before_all { Ok(Vec::new()) } else { Err("the file does not know of that state") });
    };
    let Some(writer) = since.writer else {
        return Ok(Err("the state is from before the first change that was written down"));
    };
    let made = |by: &&super::record::Writer| by.id == writer && (by.first..=by.last).contains(&since.change);
    if !head.writers.iter().any(|by| made(&by)) {
        return Ok(Err("the file does not know of that state: it is of a copy, or too old"));
    }
    let mut changed = Vec::new();
    let mut rows = snapshot.scan(Table::BarFacts, b"");
    while let Some(row) = rows.next_sealed(|key, value| {
        if key == HEAD {
            return Ok(None);
        }
        let broken = || Error::corrupt("read facts", Table::BarFacts.describe(key), "the row's key names no series");
        let series = series_of(key).ok_or_else(broken)?;
        // Whatever is damaged may have changed.
        let intervals =
            Facts::open(key, value).map_or_else(|_| vec![Interval::all_time()], |facts| facts.log.since(since.change));
        Ok((!intervals.is_empty()).then_some((series, intervals)))
    }) {
        let Some((series, intervals)) = row?? else { continue };
        let (symbol, timeframe, resampled_from) = (series.symbol, series.timeframe, series.source);
        changed.push(Changed { symbol, timeframe, resampled_from, intervals });
    }
    Ok(Ok(changed))
}
