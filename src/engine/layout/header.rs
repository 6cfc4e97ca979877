//! The first page of redb's file: geometry, the god byte and the two commit slots.
//! (redb 4.5, `docs/design.md`, "Database super-header", file format 3.)
//!
//! Parsing trusts nothing: what is returned is consistent in itself, and the published slot has passed its checksum.

use std::io;

use super::{
    Broken, Unreadable,
    bytes::{array, u32_at, u64_at, u128_at},
    page::{Geometry, Root, checksum},
};

/// Bytes of the header and both slots.
pub(in crate::engine) const HEADER_BYTES: usize = 320;

pub(in crate::engine) const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// The file format that is read here.
pub(in crate::engine) const FORMAT: u8 = 3;
const SLOT_BYTES: usize = 128;
const SLOTS_START: usize = 64;

/// Where the flags are.
pub(in crate::engine) const GOD_BYTE: usize = 9;
const PRIMARY_IS_SLOT_1: u8 = 1;
const RECOVERY_REQUIRED: u8 = 2;
const TWO_PHASE: u8 = 4;
/// The primary slot is written and not flushed: the secondary is the published one. Only processes that share a file
/// set it.
const PRIMARY_UNFLUSHED: u8 = 8;

/// How often the header is read before a writer in the way is taken for damage. Each writer's commit spoils one read.
const READS_MAX: usize = 1000;

/// Whether a header may be one that a crash tore: its file was not closed, and its commits are not synced before they
/// are published.
pub(in crate::engine) fn may_be_torn(header: &[u8]) -> bool {
    array(header, GOD_BYTE).is_ok_and(|[flags]| flags & RECOVERY_REQUIRED != 0 && flags & TWO_PHASE == 0)
}

/// What the first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Header {
    pub(in crate::engine) geometry: Geometry,
    /// The number of the published commit. Later commits have higher ones.
    pub(in crate::engine) commit: u64,
    /// The tree of tables, in that commit; `None` when there is no table.
    pub(in crate::engine) tables: Option<Root>,
    /// The tree of redb's own tables: free pages, and pages to be freed.
    pub(in crate::engine) system: Option<Root>,
    /// The file was not closed, or is open.
    pub(in crate::engine) recovery_required: bool,
    /// The published commit was synced before it was published: it is whole even in a file that was not closed.
    pub(in crate::engine) two_phase: bool,
    /// Bytes that the file must have, as far as its header says: not checked by any checksum.
    pub(in crate::engine) file_bytes: u64,
}

struct Slot {
    bytes: [u8; SLOT_BYTES],
    commit: u64,
}

impl Slot {
    fn read(header: &[u8], number: usize) -> Result<Self, Broken> {
        let bytes: [u8; SLOT_BYTES] = array(header, SLOTS_START + SLOT_BYTES * number)?;
        let (sealed, _) = bytes.split_at(SLOT_BYTES - 16);
        if u128_at(&bytes, SLOT_BYTES - 16)? != checksum(sealed) {
            return Err(Broken("the checksum of the current commit does not match"));
        }
        let commit = u64_at(&bytes, 104)?;
        Ok(Self { bytes, commit })
    }

    /// The root whose presence the byte at `flag` tells, and which lies at `at`.
    fn root(&self, flag: usize, at: usize) -> Result<Option<Root>, Broken> {
        match array(&self.bytes, flag)? {
            [0] => Ok(None),
            [_] => Ok(Some(Root::read(&self.bytes, at)?)),
        }
    }
}

impl Header {
    /// Reads the header until it is the same twice. A commit that goes on meanwhile changes it in place: a slot that is
    /// read before it is written, and the byte that names it after, make a header without a flaw, of a commit long
    /// gone.
    pub(in crate::engine) fn read(read: impl Fn(&mut [u8]) -> io::Result<()>) -> Result<Self, Unreadable> {
        let mut last = [0; HEADER_BYTES];
        let mut broken = Broken("the header does not hold still");
        for _ in 0..READS_MAX {
            let mut bytes = [0; HEADER_BYTES];
            read(&mut bytes).map_err(Unreadable::Io)?;
            if bytes == last {
                match Self::parse(&bytes) {
                    Ok(header) => return Ok(header),
                    Err(found) if found == broken => break,
                    // Once more: a torn header is not torn for long.
                    Err(found) => broken = found,
                }
            }
            last = bytes;
        }
        Err(broken.into())
    }

    /// Reads the header. Not a torn one: that has a wrong checksum.
    pub(in crate::engine) fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        if array::<9>(bytes, 0)? != MAGIC {
            return Err(Broken("it does not begin as a redb file"));
        }
        let [flags] = array(bytes, GOD_BYTE)?;
        let primary = usize::from(flags & PRIMARY_IS_SLOT_1);
        Self::with_slot(bytes, flags, primary ^ usize::from(flags & PRIMARY_UNFLUSHED != 0))
    }

    /// The commit that is newer than the one which the header publishes, of a file that was closed; `None` when there
    /// is none.
    ///
    /// No checksum covers the byte that chooses between the slots. A file that was closed publishes the newer one,
    /// unless that byte is damaged, or a repair was cut short that had given up on a commit.
    pub(in crate::engine) fn newer(bytes: &[u8]) -> Option<Self> {
        let published = Self::parse(bytes).ok()?;
        let [flags] = array(bytes, GOD_BYTE).ok()?;
        let others = [0, 1].into_iter().filter_map(|slot| Self::with_slot(bytes, flags, slot).ok());
        let newer = others.max_by_key(|other| other.commit)?;
        (newer.commit > published.commit && !published.recovery_required).then_some(newer)
    }

    /// The byte at [`GOD_BYTE`] that publishes the newer one of two commits of a file that was closed.
    pub(in crate::engine) fn publishing(bytes: &[u8], commit: u64) -> Option<u8> {
        let [flags] = array(bytes, GOD_BYTE).ok()?;
        let slot = (0..2).find(|&slot| Slot::read(bytes, slot).is_ok_and(|slot| slot.commit == commit))?;
        let kept = flags & !(PRIMARY_IS_SLOT_1 | PRIMARY_UNFLUSHED);
        Some(kept | if slot == 1 { PRIMARY_IS_SLOT_1 } else { 0 })
    }

    fn with_slot(bytes: &[u8], flags: u8, slot: usize) -> Result<Self, Broken> {
        let geometry = Geometry::new(u32_at(bytes, 12)?, u32_at(bytes, 16)?, u32_at(bytes, 20)?)?;
        let slot = Slot::read(bytes, slot)?;
        if slot.bytes.first() != Some(&FORMAT) {
            return Err(Broken("the current commit has another file format"));
        }
        Ok(Self {
            geometry,
            commit: slot.commit,
            tables: slot.root(1, 8)?,
            system: slot.root(2, 40)?,
            recovery_required: flags & RECOVERY_REQUIRED != 0,
            two_phase: flags & TWO_PHASE != 0,
            file_bytes: geometry.file_bytes(u32_at(bytes, 24)?, u32_at(bytes, 28)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use redb::{Database, TableDefinition};

    use super::*;

    const ROWS: TableDefinition<'static, u64, u64> = TableDefinition::new("rows");

    /// The header after each of some commits.
    fn headers() -> Vec<[u8; HEADER_BYTES]> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.redb");
        let db = Database::create(&path).unwrap();
        (0..4u64)
            .map(|row| {
                let mut transaction = db.begin_write().unwrap();
                transaction.set_quick_repair(true);
                transaction.open_table(ROWS).unwrap().insert(row, row).unwrap();
                transaction.commit().unwrap();
                *std::fs::read(&path).unwrap().first_chunk().unwrap()
            })
            .collect()
    }

    fn read(reads: &[[u8; HEADER_BYTES]]) -> Result<Header, Unreadable> {
        let reads = RefCell::new(reads.iter());
        Header::read(|out| {
            let next = reads.borrow_mut().next();
            next.map(|bytes| out.copy_from_slice(bytes)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })
    }

    #[test]
    fn a_header_that_changes_under_the_read_is_read_again() {
        let headers = headers();
        let commits: Vec<u64> = headers.iter().map(|bytes| Header::parse(bytes).unwrap().commit).collect();
        assert!(commits.is_sorted_by(|a, b| a < b), "{commits:?}");
        // What was read before the commit, up to the slots or up to one of them, and the rest after it.
        let mut torn = headers[2];
        torn[..SLOTS_START].copy_from_slice(&headers[3][..SLOTS_START]);
        assert_eq!(Header::parse(&torn).unwrap().commit, commits[1], "it has no flaw, and is of a commit long gone");
        for last in [torn, headers[1], headers[2]] {
            assert_eq!(read(&[last, headers[3], headers[3]]).unwrap().commit, commits[3]);
        }
        assert_eq!(read(&[torn, headers[2], torn, headers[3], headers[3]]).unwrap().commit, commits[3]);
        // One that stays as it is, is broken.
        let mut broken = headers[3];
        broken[SLOTS_START..].fill(7);
        assert!(matches!(read(&[broken; 8]), Err(Unreadable::Broken(_))));
        assert!(matches!(read(&[headers[3]]), Err(Unreadable::Io(_))));
    }
}
