//! Blocks of 128 integers, bit-packed against a base, with patches for the few that are far from the others.
//!
//! ```text
//! varint   the base (zigzag): about the smallest value
//! u8       width w: bits of each packed value, 0 to 64
//! u8       patches p
//! w * 16   the lowest w bits of each value less the base: up to 32 bits in the layout of the bitpacking crate
//!          (4 lanes, SIMD), the bits above in the same layout behind them
//! p times  u8 position, varint what is above the lowest w bits, with its sign (zigzag)
//! ```
//!
//! The patches are what Zukowski et al. call exceptions ("Super-Scalar RAM-CPU Cache Compression", ICDE 2006, section
//! 3): one gap over a night does not widen the other 127 values. The last block of a column may be shorter; its values
//! are packed one after the other, bit by bit.

use bitpacking::{BitPacker, BitPacker4x};

use super::{Bytes, broken, put_varint, simd, unzigzag, zigzag};
use crate::types::{error::Result, invariant::Invariant};

/// Values in a block.
pub(crate) const BLOCK: usize = BitPacker4x::BLOCK_LEN;

/// One block of values in memory.
pub(super) type Block = [i64; BLOCK];

/// Appends up to [`BLOCK`] values as one block.
pub(super) fn encode(values: &[i64], out: &mut Vec<u8>) {
    let Form { base, width, .. } = best_form(values);
    // What is above and below adds up again whatever overflows, so all 64 bits survive.
    let offsets: Vec<u64> = values.iter().map(|value| value.wrapping_sub(base).cast_unsigned()).collect();
    let patches: Vec<(usize, i64)> = offsets
        .iter()
        .enumerate()
        .map(|(at, offset)| (at, above(*offset, width)))
        .filter(|(_, high)| *high != 0)
        .collect();
    put_varint(out, zigzag(base));
    out.push(width);
    out.extend(u8::try_from(patches.len()));
    if values.len() == BLOCK {
        pack_lanes(&offsets, width, out);
    } else {
        pack_bits(&offsets, width, out);
    }
    for (at, high) in patches {
        out.extend(u8::try_from(at));
        put_varint(out, zigzag(high));
    }
}

/// What is above the lowest `width` bits of a difference, with its sign.
fn above(offset: u64, width: u8) -> i64 {
    offset.cast_signed().checked_shr(width.into()).unwrap_or(0)
}

/// What a block is packed against, and the bits that it is packed in.
struct Form {
    base: i64,
    width: u8,
    bytes: usize,
}

/// The form that takes the fewest bytes. A few values may lie below the base as well as above the packed range: prices
/// fall over a night, too.
fn best_form(values: &[i64]) -> Form {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let forms = [0, 1, 2, 4].into_iter().filter_map(|skipped| sorted.get(skipped)).map(|base| form(&sorted, *base));
    forms.min_by_key(|form| form.bytes).unwrap_or(Form { base: 0, width: 0, bytes: 0 })
}

fn form(values: &[i64], base: i64) -> Form {
    // Bits that hold the value, and bytes of a patch that holds its sign and what is above them.
    let mut count = [0_usize; 65];
    let mut below = 0;
    let mut lowest = 0;
    for value in values {
        let offset = value.wrapping_sub(base);
        if offset < 0 {
            below += 1;
            lowest = lowest.max(64 - offset.unsigned_abs().leading_zeros() as usize);
        } else if let Some(count) = count.get_mut(64 - offset.leading_zeros() as usize) {
            *count += 1;
        }
    }
    let widest = count.iter().rposition(|count| *count > 0).unwrap_or(0);
    let patch_bytes = |bits: usize, width: usize| 1 + (bits.saturating_sub(width) + 1).div_ceil(7);
    let mut best = (widest, usize::MAX);
    let mut patches = 0;
    for width in (0..=widest).rev() {
        let bytes = (width * values.len()).div_ceil(8)
            + patches * patch_bytes(widest, width)
            + below * patch_bytes(lowest, width);
        if bytes < best.1 {
            best = (width, bytes);
        }
        patches += count.get(width).copied().unwrap_or(0);
    }
    Form { base, width: u8::try_from(best.0).unwrap_or(64), bytes: best.1 }
}

fn pack_lanes(offsets: &[u64], width: u8, out: &mut Vec<u8>) {
    let plane = |shift: u32, width: u8, out: &mut Vec<u8>| {
        let mut lane = [0_u32; BLOCK];
        let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
        for (slot, offset) in lane.iter_mut().zip(offsets) {
            *slot = low(offset >> shift) & mask;
        }
        let mut packed = [0; 4 * BLOCK];
        let len = BitPacker4x::new().compress(&lane, &mut packed, width);
        out.extend_from_slice(packed.get(..len).always("a block packs into its buffer"));
    };
    plane(0, width.min(32), out);
    if width > 32 {
        plane(32, width - 32, out);
    }
}

/// The lowest 32 bits.
#[allow(clippy::cast_possible_truncation, reason = "the lowest bits are what is asked for")]
fn low(value: u64) -> u32 {
    value as u32
}

fn pack_bits(offsets: &[u64], width: u8, out: &mut Vec<u8>) {
    let width = u32::from(width);
    let mask = u128::from(u64::MAX.checked_shr(64 - width).unwrap_or(0));
    let (mut pending, mut bits) = (0_u128, 0);
    for offset in offsets {
        pending |= (u128::from(*offset) & mask) << bits;
        bits += width;
        while bits >= 8 {
            out.extend(pending.to_le_bytes().first());
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.extend(pending.to_le_bytes().first());
    }
}

/// Reads the next block of `len` values into the front of `block`.
pub(super) fn decode(bytes: &mut Bytes<'_>, len: usize, block: &mut Block) -> Result<()> {
    let base = unzigzag(bytes.varint()?);
    let width = bytes.byte()?;
    let patches = bytes.byte()?;
    if width > 64 {
        return Err(broken(format!("values of {width} bits")));
    }
    if len == BLOCK {
        unpack_lanes(bytes, base, width, block)?;
    } else {
        unpack_bits(bytes, base, width, block.get_mut(..len).always("the last block is no longer than a block"))?;
    }
    for _ in 0..patches {
        let at = usize::from(bytes.byte()?);
        let high = unzigzag(bytes.varint()?).checked_shl(width.into()).unwrap_or(0);
        let slot = block.get_mut(at).ok_or_else(|| broken("a patch lies outside of its block"))?;
        *slot = slot.wrapping_add(high);
    }
    Ok(())
}

fn unpack_lanes(bytes: &mut Bytes<'_>, base: i64, width: u8, block: &mut Block) -> Result<()> {
    if width == 0 {
        block.fill(base);
        return Ok(());
    }
    let packer = BitPacker4x::new();
    let mut lane = [0_u32; BLOCK];
    let low = width.min(32);
    packer.decompress(bytes.slice(usize::from(low) * BLOCK / 8)?, &mut lane, low);
    simd::widen(&lane, base, block);
    if width > 32 {
        packer.decompress(bytes.slice(usize::from(width - 32) * BLOCK / 8)?, &mut lane, width - 32);
        for (slot, offset) in block.iter_mut().zip(&lane) {
            *slot = slot.wrapping_add(i64::from(*offset) << 32);
        }
    }
    Ok(())
}

fn unpack_bits(bytes: &mut Bytes<'_>, base: i64, width: u8, out: &mut [i64]) -> Result<()> {
    let width = u32::from(width);
    let packed = bytes.slice((width as usize * out.len()).div_ceil(8))?;
    let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
    let mut packed = packed.iter();
    let (mut pending, mut bits) = (0_u128, 0);
    for slot in out {
        while bits < width {
            pending |= u128::from(*packed.next().unwrap_or(&0)) << bits;
            bits += 8;
        }
        let low = pending & u128::from(mask);
        *slot = base.wrapping_add(u64::try_from(low).always("the mask keeps 64 bits").cast_signed());
        pending >>= width;
        bits -= width;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[i64]) -> usize {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut block = [7; BLOCK];
        let mut bytes = Bytes(&out);
        decode(&mut bytes, values.len(), &mut block).unwrap();
        assert!(bytes.0.is_empty());
        assert_eq!(&block[..values.len()], values);
        out.len()
    }

    #[test]
    fn one_gap_does_not_widen_a_block() {
        let mut values: Vec<i64> = (0..128).map(|i| i % 7).collect();
        let narrow = round_trip(&values);
        values[40] = -90_000;
        values[41] = 90_000;
        assert!(round_trip(&values) < narrow + 12);
        assert_eq!(round_trip(&[5; 128]), 3);
    }

    #[test]
    fn the_ends_of_the_range_survive() {
        let mut values = vec![i64::MAX; 128];
        values[3] = i64::MIN;
        round_trip(&values);
        round_trip(&values[..17]);
        round_trip(&[]);
    }

    proptest! {
        #[test]
        fn blocks_come_back(values in prop::collection::vec(any::<i64>(), 0..=128), shift in 0u32..64) {
            round_trip(&values.iter().map(|value| value >> shift).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), len in 0usize..=128) {
            let mut block = [0; BLOCK];
            drop(decode(&mut Bytes(&bytes), len, &mut block));
        }
    }
}
