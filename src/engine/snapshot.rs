//! Reading one committed state.

use std::{iter, ops::Deref, sync::Arc};

use super::{
    mapped::{Lease, Location, PinRegistry},
    scan::{Rows, Scan},
    tables::{ArchiveTable, Table, TableUsage},
    view::View,
};
use crate::{
    engine::tables::archive_id,
    format::{
        buffer::{ALIGNMENT, AlignedBuf},
        envelope::HEADER_BYTES,
        record::PageChecksum,
    },
    types::{
        error::{Error, Result},
        invariant::Invariant,
        limits::{ARCHIVE_BYTES_MAX, MAPPED_BYTES_MIN},
    },
};

/// What both a snapshot and a batch can read: small rows, as owned bytes.
pub(crate) trait Reader {
    /// Returns the row under `key`, and whether its page is known to be whole.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, PageChecksum)>>;

    /// Calls `look` with the row under `key`, where it lies if that is possible. It must not read anything.
    fn look<T>(&self, table: Table, key: &[u8], look: impl FnOnce(&[u8], PageChecksum) -> T) -> Result<Option<T>> {
        Ok(self.get(table, key)?.map(|(row, page)| look(&row, page)))
    }

    /// Returns all rows whose keys begin with `prefix`, in order.
    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;

    /// Returns the keys that begin with `prefix`, in order: no value is copied.
    fn keys(&self, table: Table, prefix: &[u8]) -> Result<Vec<Vec<u8>>>;
}

/// The smallest key that is greater than every key which begins with `prefix`; `None` when there is none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// One committed state of the store; later commits do not show in it.
pub(crate) struct Snapshot {
    view: Arc<View>,
    pins: Arc<PinRegistry<View>>,
    /// Whether the checksum of a page is as good as the seals of its rows.
    trusts_pages: bool,
}

/// Bytes in front of a large value in its page. A copy has as many in front of it, so that its payload is as aligned.
const PAGE_HEAD: usize = 16;
const _: () = assert!((PAGE_HEAD + HEADER_BYTES).is_multiple_of(ALIGNMENT), "payloads begin on a cache line");

/// An archive, with its envelope: where it lies, or one copy.
pub(crate) enum Value {
    Leased(Lease),
    /// With some bytes in front.
    Copied(AlignedBuf),
}

impl Value {
    /// Says that all of it is going to be read, in order.
    pub(super) fn expect_order(&self) {
        if let Self::Leased(lease) = self {
            lease.expect_order();
        }
    }

    /// The payload behind the envelope's header, in memory that is aligned for it; `None` if it is not.
    pub(super) fn into_payload(self) -> Option<AlignedBuf> {
        match self {
            Self::Leased(lease) => AlignedBuf::borrowed(Box::new(lease.skip(HEADER_BYTES))),
            Self::Copied(copy) => copy.skip(PAGE_HEAD + HEADER_BYTES),
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Leased(lease) => lease.bytes(),
            Self::Copied(copy) => copy.get(PAGE_HEAD..).always("a copy has room for the head of its page"),
        }
    }
}

impl Snapshot {
    pub(super) fn new(view: Arc<View>, pins: &Arc<PinRegistry<View>>, trusts_pages: bool) -> Self {
        Self { view, pins: Arc::clone(pins), trusts_pages }
    }

    /// Fails when this state was given up after an I/O error, so that nothing more can be read of it.
    pub(crate) fn check_in_force(&self) -> Result<()> {
        self.view.hold().map(drop)
    }

    /// Returns the archive under `id`: where it lies, if it lies there alone and is worth it, and otherwise a copy.
    pub(crate) fn archive(&self, id: u64) -> Result<Option<Value>> {
        let view = &self.view;
        let _held = view.hold()?;
        let Some(found) = view.locate_archive(id)? else {
            return Ok(None);
        };
        let bytes = found.range.end - found.range.start;
        if let Some(pages) = found.pages.filter(|_| bytes >= (HEADER_BYTES + MAPPED_BYTES_MIN) as u64) {
            let location = Location { id, range: found.range.clone(), pages };
            // SAFETY: the registry takes it under the pin of this view, which is held here, and keeps a pin that covers
            // the place until it is detached or let go of.
            #[allow(unsafe_code, reason = "the registry vouches for what it keeps")]
            let held = || unsafe { view.mapped_range(found.range.clone()) };
            if let Some(place) = self.pins.register(view, &location, held, |held| view.is_mapped_alike(held)) {
                return Ok(Some(Value::Leased(Lease::new(place, &self.pins))));
            }
        }
        let name = ArchiveTable::of(id).name();
        if bytes > ARCHIVE_BYTES_MAX + HEADER_BYTES as u64 {
            return Err(Error::corrupt("read", name, format!("archive {id} has {bytes} bytes, which is too many")));
        }
        let len = PAGE_HEAD + usize::try_from(bytes).unwrap_or(usize::MAX);
        let copy = AlignedBuf::filled(len, |out| {
            let (_, out) = out.split_at_mut(PAGE_HEAD);
            view.extent.read_into(&found.range, out)
        });
        match copy {
            Ok(Ok(copy)) => Ok(Some(Value::Copied(copy))),
            Ok(Err(err)) => Err(err.error("read", name)),
            Err(err) => Err(Error::no_memory("read", name, err)),
        }
    }

    /// Returns all rows of `table` whose keys begin with `prefix`, in order, one at a time.
    pub(crate) fn scan(&self, table: Table, prefix: &[u8]) -> Rows {
        self.scan_between(table, prefix, after_prefix(prefix))
    }

    /// The same without the rows whose keys begin with `passed`, or come before it: they are not read.
    pub(crate) fn scan_behind(&self, table: Table, prefix: &[u8], passed: &[u8]) -> Rows {
        let start = after_prefix(passed).filter(|start| start.as_slice() > prefix);
        self.scan_between(table, start.as_deref().unwrap_or(prefix), after_prefix(prefix))
    }

    /// Returns the rows of `table` from `start` up to `end`, or to the last, in order, one at a time.
    pub(crate) fn scan_between(&self, table: Table, start: &[u8], end: Option<Vec<u8>>) -> Rows {
        Rows::new(&self.view, Scan::new(&self.view, table, start, end))
    }

    /// Calls `visit` with the id and the bytes of every archive of `table`; with what keeps some from being read.
    pub(crate) fn for_each_archive(&self, table: ArchiveTable, mut visit: impl FnMut(Result<(u64, &[u8])>)) {
        let mut rows = Rows::new(&self.view, Scan::of_archives(&self.view, table));
        while let Some(row) = rows.next_with(|key, value, _| visit(archive_id(key).map(|id| (id, value)))) {
            if let Err(err) = row {
                visit(Err(err));
            }
        }
    }

    /// Returns what every table takes up.
    pub(crate) fn usage(&self) -> Result<Vec<TableUsage>> {
        let view = &self.view;
        let measure = |table: &'static str, scan: Scan| {
            let mut rows = Rows::new(view, scan);
            let mut usage = TableUsage { table, rows: 0, stored_bytes: 0, overhead_bytes: 0 };
            while let Some(bytes) = rows.next_with(|key, value, _| (key.len() + value.len()) as u64) {
                usage.rows += 1;
                usage.stored_bytes += bytes?;
            }
            usage.overhead_bytes = rows.page_bytes().saturating_sub(usage.stored_bytes);
            Ok(usage)
        };
        let small = Table::ALL.into_iter().filter(|&table| view.tables().small(table).is_some());
        let archives = ArchiveTable::ALL.into_iter().filter(|&table| view.tables().archives(table).is_some());
        let small = small.map(|table| measure(table.name(), Scan::of_table(view, table)));
        small.chain(archives.map(|table| measure(table.name(), Scan::of_archives(view, table)))).collect()
    }

    /// Whether rows of `table` may have been lost to damage.
    pub(crate) fn has_losses(&self, table: Table) -> bool {
        !self.view.losses().in_table(table).is_empty()
    }

    /// The commit that is read.
    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }
}

impl Snapshot {
    /// What the checksum of a page says of its rows, by the policy.
    pub(crate) fn trusted(&self, page: PageChecksum) -> PageChecksum {
        if self.trusts_pages { page } else { PageChecksum::Unverified }
    }
}

impl Reader for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, PageChecksum)>> {
        self.look(table, key, |row, page| (row.to_vec(), page))
    }

    fn look<T>(&self, table: Table, key: &[u8], look: impl FnOnce(&[u8], PageChecksum) -> T) -> Result<Option<T>> {
        self.view.row(table, key, |row, page| look(row, self.trusted(page)))
    }

    fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.scan(table, prefix).collect()
    }

    fn keys(&self, table: Table, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut rows = self.scan(table, prefix);
        iter::from_fn(|| rows.next_sealed(|key, _| key.to_vec())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_right_after_it() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
        assert_eq!(after_prefix(b""), None);
    }
}
