//! The first page of redb's file: geometry, the god byte and the two commit slots.
//! (redb 4.4, `docs/design.md`, "Database super-header", file format 3.)
//!
//! Parsing trusts nothing: what is returned is consistent in itself, and the primary slot has passed its checksum.

use super::{
    Broken,
    bytes::{array, u32_at, u128_at},
    page::{Geometry, Root, checksum},
};

/// Bytes of the header and both slots.
pub(crate) const HEADER_BYTES: usize = 320;

pub(crate) const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// The file format that is read here.
pub(crate) const FORMAT: u8 = 3;
const SLOT_BYTES: usize = 128;
const SLOTS_START: usize = 64;

const PRIMARY_IS_SLOT_1: u8 = 1;
/// The bit of the god byte that says that the file was not closed.
pub(crate) const RECOVERY_REQUIRED: u8 = 2;
const TWO_PHASE: u8 = 4;

/// What the first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(super) geometry: Geometry,
    /// The tree of tables, in the commit that is current; `None` when there is no table.
    pub(super) tables: Option<Root>,
    /// The file was not closed, or is open.
    pub(crate) recovery_required: bool,
    /// The current commit was synced before it became current: it is whole even in a file that was not closed.
    pub(crate) two_phase: bool,
}

impl Header {
    /// Reads the header. Not a torn one: that has a wrong checksum.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        if array::<9>(bytes, 0)? != MAGIC {
            return Err(Broken("it does not begin as a redb file"));
        }
        let [flags] = array(bytes, 9)?;
        let geometry = Geometry::new(u32_at(bytes, 12)?, u32_at(bytes, 16)?, u32_at(bytes, 20)?)?;
        let start = SLOTS_START + SLOT_BYTES * usize::from(flags & PRIMARY_IS_SLOT_1);
        let slot: [u8; SLOT_BYTES] = array(bytes, start)?;
        let [version, has_tables, ..] = slot;
        if version != FORMAT {
            return Err(Broken("the current commit has another file format"));
        }
        let (sealed, _) = slot.split_at(SLOT_BYTES - 16);
        if u128_at(&slot, SLOT_BYTES - 16)? != checksum(sealed) {
            return Err(Broken("the checksum of the current commit does not match"));
        }
        let tables = match has_tables {
            0 => None,
            _ => Some(Root::read(&slot, 8)?),
        };
        let (recovery_required, two_phase) = (flags & RECOVERY_REQUIRED != 0, flags & TWO_PHASE != 0);
        Ok(Self { geometry, tables, recovery_required, two_phase })
    }
}
