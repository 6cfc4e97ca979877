//! Heads: which version of a model is current. The only reference that moves.

use std::collections::BTreeSet;

use crate::{
    engine::{Batch, Reader, Table, sealed},
    format::record::PageChecksum,
    types::{
        error::{Error, ErrorKind, Result},
        key::ModelKey,
        limits::PINS_MAX,
        version::Version,
    },
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct HeadV1 {
    current: u64,
    previous: u64,
    last: u64,
    pins: Vec<u64>,
}

crate::format::record::schema!(HeadV1, "modelkeep.head", 1);

/// The head of a model key. It stays when the last version is removed, so that no version number is used twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The version that is served.
    pub(crate) current: Option<Version>,
    /// The version that was current before, where a rollback leads.
    pub(crate) previous: Option<Version>,
    /// The highest version number that was ever given out.
    pub(crate) last: Option<Version>,
    /// Versions that must not be deleted.
    pub(crate) pins: BTreeSet<Version>,
}

impl Head {
    /// The number of the next version.
    pub(crate) fn next_version(&self) -> Version {
        self.last.map_or(Version::FIRST, Version::next)
    }

    /// Makes `version` current.
    pub(crate) fn advance(&mut self, version: Version) {
        if self.current != Some(version) {
            self.previous = self.current;
        }
        self.current = Some(version);
        self.last = self.last.max(Some(version));
    }

    /// Forgets a version that was deleted.
    pub(crate) fn forget(&mut self, version: Version) {
        self.current.take_if(|current| *current == version);
        self.previous.take_if(|previous| *previous == version);
        self.pins.remove(&version);
    }

    /// Adds or removes a pin.
    pub(crate) fn set_pin(&mut self, key: &ModelKey, version: Version, pinned: bool) -> Result<()> {
        if !pinned {
            self.pins.remove(&version);
            return Ok(());
        }
        if self.pins.len() >= PINS_MAX {
            let message = format!("at most {PINS_MAX} versions can be pinned");
            return Err(Error::new(ErrorKind::LimitExceeded, "pin", key.to_string(), message));
        }
        self.pins.insert(version);
        Ok(())
    }
}

/// Returns the head of `key`; `None` when nothing was ever published under it.
pub(crate) fn read(reader: &impl Reader, key: &ModelKey) -> Result<Option<Head>> {
    Ok(sealed::record::<HeadV1>(reader, Table::Heads, &key.to_bytes())?.map(Head::from))
}

/// Returns the version that is current under `key`; `None` when there is none.
pub(crate) fn current(reader: &impl Reader, key: &ModelKey) -> Result<Option<Version>> {
    let current = |head: &ArchivedHeadV1| Version::new(head.current.to_native());
    Ok(sealed::look_at::<HeadV1, _>(reader, Table::Heads, &key.to_bytes(), current)?.flatten())
}

/// Reads a head that a scan of the table found.
pub(crate) fn from_row(key: &[u8], value: &[u8]) -> Result<(ModelKey, Head)> {
    let model = ModelKey::from_bytes(key)?;
    Ok((model, sealed::open_record::<HeadV1>(Table::Heads, key, value)?.into()))
}

/// A head as a listing needs it: the current version and the pins.
pub(crate) fn listed(key: &[u8], value: &[u8], page: PageChecksum) -> Result<(Option<Version>, BTreeSet<Version>)> {
    sealed::look::<HeadV1, _>(Table::Heads, key, value, page, |head| {
        if head.pins.is_empty() {
            return (Version::new(head.current.to_native()), BTreeSet::new());
        }
        let pins = head.pins.iter().filter_map(|pin| Version::new(pin.to_native())).collect();
        (Version::new(head.current.to_native()), pins)
    })
}

/// Returns the head of `key` for a publish, and whether it is the stored one. When the row is damaged, a head without a
/// current version and without pins takes its place; it numbers on from a bound that no version can have passed.
pub(crate) fn read_or_rebuild(batch: &Batch, key: &ModelKey) -> Result<(Head, bool)> {
    match read(batch, key) {
        Ok(Some(head)) => Ok((head, true)),
        Ok(None) => Ok((begun(batch)?, true)),
        Err(err) if err.kind() == ErrorKind::Corrupt => {
            let last = Version::new(sealed::archives_ever(batch)?);
            tracing::error!(%key, error = %err, rebuilt_at = ?last, "the head is damaged; its pins are lost");
            Ok((Head { last, ..Head::default() }, false))
        }
        Err(err) => Err(err),
    }
}

/// Returns the stored head of `key`, or the one that it begins with.
pub(crate) fn read_or_begin(batch: &Batch, key: &ModelKey) -> Result<Head> {
    read(batch, key)?.map_or_else(|| begun(batch), Ok)
}

/// The head of a key that has none. There may have been one before losses were accepted.
fn begun(batch: &Batch) -> Result<Head> {
    Ok(Head { last: floor(batch)?, ..Head::default() })
}

/// The row of the floor in the table `store`.
const FLOOR: &[u8] = b"version_floor";

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct FloorV1 {
    last: u64,
}

crate::format::record::schema!(FloorV1, "modelkeep.version_floor", 1);

/// The highest number that a model may have had whose head was lost.
fn floor(batch: &Batch) -> Result<Option<Version>> {
    Ok(sealed::record::<FloorV1>(batch, Table::Store, FLOOR)?.and_then(|floor| Version::new(floor.last)))
}

/// Has every model without a head numbered on from above all that can have been given out.
pub(crate) fn raise_floor(batch: &Batch) -> Result<()> {
    let before = match floor(batch) {
        Ok(before) => before.map_or(0, Version::get),
        // The new one is above everything.
        Err(err) if err.kind() == ErrorKind::Corrupt => 0,
        Err(err) => return Err(err),
    };
    batch.put_record(Table::Store, FLOOR, &FloorV1 { last: before.max(sealed::archives_ever(batch)?) })
}

/// Writes the head of `key`.
pub(crate) fn write(batch: &Batch, key: &ModelKey, head: &Head) -> Result<()> {
    let number = |version: Option<Version>| version.map_or(0, Version::get);
    let record = HeadV1 {
        current: number(head.current),
        previous: number(head.previous),
        last: number(head.last),
        pins: head.pins.iter().map(|pin| pin.get()).collect(),
    };
    batch.put_record(Table::Heads, &key.to_bytes(), &record)
}

impl From<HeadV1> for Head {
    fn from(record: HeadV1) -> Self {
        Self {
            current: Version::new(record.current),
            previous: Version::new(record.previous),
            last: Version::new(record.last),
            pins: record.pins.into_iter().filter_map(Version::new).collect(),
        }
    }
}
