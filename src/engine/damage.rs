//! What can still be said of a page that is damaged, and what a store remembers of rows that were lost.
//!
//! A leaf that does not have the checksum its parent knows may still have rows in their place: seals that hold for
//! their keys, which lie in order where the leaf lies. If all of them are, the damage is in their values, and nothing
//! is missing. If one is not, the others still are what was written, and that is all that can be said: how many rows
//! there were, and where, are numbers in the page, too. So all that lies between the keys that bound the leaf is a
//! *gap*: rows may be missing there, and "there is no such row" is not an answer.
//!
//! A page in which every row is whole, and which still has another checksum, is not damaged: it is another page, such
//! as the one that was there before a write that the disk lost. Of that no row is taken.
//!
//! A write gives the page a new checksum, damage and all. So before redb writes to a damaged page, its gaps are written
//! down ([`Losses`]), and absence stays unproved in them until somebody accepts the loss; and its damaged rows are
//! [spoiled](spoil), so that nobody takes them for whole because their page is.

use std::collections::BTreeMap;

use super::{
    layout::{Bounds, Keys, Leaf},
    sealed, stamp,
    tables::{ArchiveTable, Table},
};
use crate::{
    format::{envelope, record},
    types::{
        error::{Error, Result},
        key::row::RowKey,
        time::Timestamp,
    },
};

/// Keys between which rows may be missing, both not included. `None` where there is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) after: Option<Vec<u8>>,
    pub(super) before: Option<Vec<u8>>,
}

impl Gap {
    /// Everything.
    pub(super) fn everywhere() -> Self {
        Self::default()
    }

    pub(super) fn of(bounds: &Bounds) -> Self {
        let before = bounds.up_to.as_ref().map(|last| after(last));
        Self { after: bounds.above.clone(), before }
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.after.as_deref().is_none_or(|after| after < key)
            && self.before.as_deref().is_none_or(|before| key < before)
    }

    /// Whether a key from `start` up to `end`, not included, may be missing.
    pub(super) fn touches(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        let begins = end.is_none_or(|end| self.after.as_ref().is_none_or(|last| after(last).as_slice() < end));
        begins && self.before.as_deref().is_none_or(|before| start < before)
    }

    /// The error for asking about a key in it.
    pub(super) fn error(&self, operation: &'static str, table: Table) -> Error {
        let name = |key: &Option<Vec<u8>>, end: &str| key.as_deref().map_or(end.to_owned(), |key| table.describe(key));
        let which = match (&self.after, &self.before) {
            (None, None) => "any row may be missing".to_owned(),
            (after, before) => {
                let (after, before) = (name(after, "the beginning"), name(before, "the end"));
                format!("rows between {after} and {before} may be missing")
            }
        };
        let message = format!(
            "{which}, because a page is damaged or was; `Store::compact`, and then `Store::accept_losses`, make an end of it"
        );
        Error::corrupt(operation, table.name(), message)
    }
}

/// The smallest key that is greater.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// What a damaged leaf still has.
pub(super) struct Salvaged {
    /// Where rows may be missing, if any may be.
    pub(super) gap: Option<Gap>,
    /// Rows that are in their place, in order; a value may be damaged.
    pub(super) rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Rows that are not as they were written, or not where, with what is to stand there once the page is written anew.
    pub(super) spoiled: Vec<(Vec<u8>, Vec<u8>)>,
    /// redb finds its way in it.
    pub(super) can_be_written: bool,
}

/// Whether redb finds its way in a leaf that is damaged: every row can be read, the keys are in order as they stand,
/// and belong where they are. Otherwise a write would spread the damage to what is whole.
pub(super) fn can_be_written(leaf: &Leaf<'_>, keys: Keys, bounds: &Bounds) -> bool {
    let mut before = bounds.above.as_deref();
    (0..leaf.pairs()).all(|n| {
        let Ok((key, _)) = leaf.key(n).and_then(|key| Ok((key, leaf.value_range(n)?))) else {
            return false;
        };
        let ascends = before.is_none_or(|before| keys.compare(before, key).is_lt());
        before = Some(key);
        ascends && bounds.up_to.as_deref().is_none_or(|up_to| keys.compare(key, up_to).is_le())
    })
}

/// Looks at a leaf that does not have its checksum; `None` for a page that is none. Its keys lie between `bounds`.
pub(super) fn salvage(table: Table, leaf: Option<&Leaf<'_>>, bounds: &Bounds) -> Salvaged {
    let all = Gap::of(bounds);
    let can_be_written = leaf.is_some_and(|leaf| can_be_written(leaf, Keys::Bytes, bounds));
    let pairs = leaf.map_or(0, Leaf::pairs);
    let (mut rows, mut spoiled) = (Vec::<(Vec<u8>, Vec<u8>)>::new(), Vec::new());
    let mut is_another = leaf.is_some();
    for n in 0..pairs {
        let row = leaf.map(|leaf| leaf.key(n).and_then(|key| Ok((key, leaf.value(n)?))));
        let Some(Ok((key, value))) = row else {
            is_another = false;
            continue;
        };
        if sealed::check_row(table, key, value).is_err() {
            is_another = false;
            spoiled.push((key.to_vec(), spoil(value)));
        }
        let ascends = rows.last().is_none_or(|(last, _)| last.as_slice() < key);
        if ascends && all.contains(key) && is_in_its_place(table, key, value) {
            rows.push((key.to_vec(), value.to_vec()));
        }
    }
    if is_another {
        return Salvaged { gap: Some(all), rows: Vec::new(), spoiled, can_be_written: false };
    }
    let has_all = pairs > 0 && rows.len() == pairs;
    Salvaged { gap: (!has_all).then_some(all), rows, spoiled, can_be_written }
}

/// A damaged value as it is written anew: with another length than its seal says, which no policy takes for whole.
/// Where a page has its checksum the seals in it are not always asked, and redb gives the page that it writes a
/// checksum, damage and all.
pub(super) fn spoil(value: &[u8]) -> Vec<u8> {
    [value, b"?"].concat()
}

/// The archives that can still be told in a leaf in which redb would lose its way: those whose seals hold for their
/// ids, which lie between `bounds`, in order.
pub(super) fn salvage_archives(
    table: ArchiveTable,
    leaf: Option<&Leaf<'_>>,
    keys: Keys,
    bounds: &Bounds,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Some(leaf) = leaf else {
        return Vec::new();
    };
    let rows = (0..leaf.pairs()).filter_map(|n| Some((leaf.key(n).ok()?, leaf.value(n).ok()?)));
    let is_between = |key: &[u8]| {
        bounds.above.as_deref().is_none_or(|above| keys.compare(above, key).is_lt())
            && bounds.up_to.as_deref().is_none_or(|up_to| keys.compare(key, up_to).is_le())
    };
    let is_sealed = |key, value| envelope::is_in_its_place(table.place(key), value);
    let mut found: Vec<_> = rows
        .filter(|(key, value)| is_between(key) && is_sealed(key, value))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    found.sort_by(|(a, _), (b, _)| keys.compare(a, b));
    found.dedup_by(|(a, _), (b, _)| a == b);
    found
}

/// Whether a row's key is the one that its value was written under.
pub(super) fn is_in_its_place(table: Table, key: &[u8], value: &[u8]) -> bool {
    if table == Table::Store && key == stamp::KEY {
        return stamp::is_whole(value);
    }
    envelope::is_in_its_place(table.place(key), value)
}

impl Salvaged {
    /// The value under `wanted`; an error when nobody can say whether there is one.
    pub(super) fn find(self, table: Table, wanted: &[u8]) -> Result<Option<Vec<u8>>> {
        match (self.rows.into_iter().find(|(key, _)| key == wanted), self.gap) {
            (Some((_, value)), _) => Ok(Some(value)),
            (None, Some(gap)) => Err(gap.error("read", table)),
            (None, None) => Ok(None),
        }
    }
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct LossV1 {
    table: String,
    after: Option<Vec<u8>>,
    before: Option<Vec<u8>>,
    found: i64,
}

crate::format::record::schema!(LossV1, "modelkeep.loss", 1);

/// Rows that may be missing since a damaged page was written to, by table.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(BTreeMap<&'static str, Vec<Gap>>);

impl Losses {
    /// Nothing can be said to be absent.
    pub(super) fn everything() -> Self {
        // Of the losses themselves nobody asks whether one is absent.
        let others = Table::ALL.into_iter().filter(|table| *table != Table::Losses);
        Self(others.map(|table| (table.name(), vec![Gap::everywhere()])).collect())
    }

    pub(super) fn in_table(&self, table: Table) -> &[Gap] {
        self.0.get(table.name()).map_or(&[], Vec::as_slice)
    }

    pub(super) fn add(&mut self, table: Table, gap: Gap) {
        let gaps = self.0.entry(table.name()).or_default();
        if !gaps.contains(&gap) {
            tracing::error!(table = table.name(), ?gap, "rows may have been lost");
            gaps.push(gap);
        }
    }

    /// Takes a row of the table of losses.
    pub(super) fn read(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let place = Table::Losses.place(key);
        let record: LossV1 = record::open(place, value, record::PageChecksum::Unverified)?;
        match Table::ALL.into_iter().find(|table| table.name() == record.table) {
            Some(table) => self.add(table, Gap { after: record.after, before: record.before }),
            None => return Err(Error::corrupt("read", place.to_string(), "it names no table")),
        }
        Ok(())
    }

    /// Whether the row under `key` may have been lost.
    pub(super) fn gap_at(&self, table: Table, key: &[u8]) -> Option<&Gap> {
        self.in_table(table).iter().find(|gap| gap.contains(key))
    }
}

/// The row for a loss: its key and its value.
pub(super) fn row(table: Table, gap: &Gap, found: Timestamp) -> Result<(Vec<u8>, Vec<u8>)> {
    // Two losses that begin after the same row are one, unless they end differently.
    let (after, before) = (gap.after.as_deref().unwrap_or_default(), gap.before.as_deref().unwrap_or_default());
    let key = RowKey::new().text(table.name()).bytes(after).bytes(&[0]).bytes(before).into_bytes();
    let place = Table::Losses.place(&key);
    let record = LossV1 {
        table: table.name().to_owned(),
        after: gap.after.clone(),
        before: gap.before.clone(),
        found: found.as_nanos(),
    };
    let value = record::seal(place, &record)?;
    Ok((key, value))
}
