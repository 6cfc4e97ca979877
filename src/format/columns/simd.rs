//! The inner loops of reading bars: blocks of integers, and blocks of prices out of them.
//!
//! The loops are plain ones, written so that a compiler makes vectors of them. They are compiled twice: for any
//! processor, and for those with AVX2 and FMA, which this file vouches for by asking first. The results are the same to
//! the last bit: integers add and compare as they do everywhere, and quotients are correctly rounded either way.

#![allow(unsafe_code, reason = "code for a processor that was asked what it can do")]

use super::{pack::BLOCK, ticks::Ticks};

/// A block of prices.
#[derive(Debug)]
pub(crate) struct PriceBlock {
    pub(crate) open: [f64; BLOCK],
    pub(crate) high: [f64; BLOCK],
    pub(crate) low: [f64; BLOCK],
    pub(crate) close: [f64; BLOCK],
    /// Ticks on their way to be prices: closes, opens, and high or low.
    ticks: [[i64; BLOCK]; 3],
}

impl Default for PriceBlock {
    fn default() -> Self {
        let zeros = [0.0; BLOCK];
        Self { open: zeros, high: zeros, low: zeros, close: zeros, ticks: [[0; BLOCK]; 3] }
    }
}

/// Blocks of open, high and low as they are stored, of those that are wanted; high and low need the open.
type Parts<'a> = [Option<&'a [i64]>; 3];

/// Whether the processor has AVX2, and fuses products with sums.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Fills in closes, and of the other prices those that there are `parts` of. `before` is the close before the block.
/// Returns the last close. No block is longer than [`BLOCK`].
pub(crate) fn prices(ticks: Ticks, closes: &[i64], parts: Parts<'_>, before: i64, out: &mut PriceBlock) -> i64 {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has just said that it has AVX2 and FMA.
        return unsafe { prices_avx2(ticks, closes, parts, before, out) };
    }
    prices_anywhere::<false>(ticks, closes, parts, before, out)
}

/// Puts the doubles that integers stand for in their place.
pub(crate) fn fill(ticks: Ticks, values: &[i64], out: &mut [f64; BLOCK]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has just said that it has AVX2 and FMA.
        return unsafe { fill_avx2(ticks, values, out) };
    }
    ticks.fill::<false>(values, out);
}

/// Adds `base` to offsets of 32 bits.
pub(super) fn widen(offsets: &[u32; BLOCK], base: i64, out: &mut [i64; BLOCK]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has just said that it has AVX2 and FMA.
        return unsafe { widen_avx2(offsets, base, out) };
    }
    widen_anywhere(offsets, base, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn prices_avx2(ticks: Ticks, closes: &[i64], parts: Parts<'_>, before: i64, out: &mut PriceBlock) -> i64 {
    prices_anywhere::<true>(ticks, closes, parts, before, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fill_avx2(ticks: Ticks, values: &[i64], out: &mut [f64; BLOCK]) {
    ticks.fill::<true>(values, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn widen_avx2(offsets: &[u32; BLOCK], base: i64, out: &mut [i64; BLOCK]) {
    widen_anywhere(offsets, base, out);
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "it is compiled once for each kind of processor")]
fn widen_anywhere(offsets: &[u32; BLOCK], base: i64, out: &mut [i64; BLOCK]) {
    out.iter_mut().zip(offsets).for_each(|(out, offset)| *out = base.wrapping_add(i64::from(*offset)));
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "it is compiled once for each kind of processor")]
fn prices_anywhere<const FUSED: bool>(
    ticks: Ticks,
    closes: &[i64],
    parts: Parts<'_>,
    before: i64,
    out: &mut PriceBlock,
) -> i64 {
    let [opens, highs, lows] = parts;
    let [close, open, price] = &mut out.ticks;
    let mut last = before;
    for ((delta, close), open) in closes.iter().zip(&mut *close).zip(&mut *open) {
        *open = last;
        last = last.wrapping_add(*delta);
        *close = last;
    }
    ticks.fill::<FUSED>(close, &mut out.close);
    let Some(opens) = opens else { return last };
    open.iter_mut().zip(opens).for_each(|(open, delta)| *open = open.wrapping_add(*delta));
    ticks.fill::<FUSED>(open, &mut out.open);
    if let Some(highs) = highs {
        for (((price, open), close), above) in price.iter_mut().zip(&*open).zip(&*close).zip(highs) {
            *price = open.max(close).wrapping_add(*above);
        }
        ticks.fill::<FUSED>(price, &mut out.high);
    }
    if let Some(lows) = lows {
        for (((price, open), close), below) in price.iter_mut().zip(&*open).zip(&*close).zip(lows) {
            *price = open.min(close).wrapping_sub(*below);
        }
        ticks.fill::<FUSED>(price, &mut out.low);
    }
    last
}
