//! Numbers out of bytes that may be too few.

use super::Broken;

/// Returns `N` bytes from `at`.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Broken> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Broken("a page is cut short"))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Broken> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Broken> {
    array(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Broken> {
    array(bytes, at).map(u64::from_le_bytes)
}

pub(super) fn u128_at(bytes: &[u8], at: usize) -> Result<u128, Broken> {
    array(bytes, at).map(u128::from_le_bytes)
}

/// Returns a 32-bit offset as an index.
pub(super) fn offset_at(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    usize::try_from(u32_at(bytes, at)?).map_err(|_| Broken("an offset does not fit this machine"))
}
