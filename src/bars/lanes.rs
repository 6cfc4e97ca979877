//! Blocks of prices out of blocks of differences: the inner loop of reading bars.
//!
//! The loops are plain ones, written so that a compiler makes vectors of them. They are compiled twice: for any processor,
//! and for those with AVX2, which this file vouches for by asking first. The results are the same to the last bit: every
//! lane adds, compares and divides as IEEE 754 says.

#![allow(unsafe_code, reason = "code for a processor that was asked what it can do")]

use super::ticks::Ticks;

/// Rows in a block.
pub(super) const BLOCK: usize = 128;

/// A block of prices.
#[derive(Debug)]
pub(super) struct PriceBlock {
    pub(super) open: [f64; BLOCK],
    pub(super) high: [f64; BLOCK],
    pub(super) low: [f64; BLOCK],
    pub(super) close: [f64; BLOCK],
}

impl Default for PriceBlock {
    fn default() -> Self {
        Self { open: [0.0; BLOCK], high: [0.0; BLOCK], low: [0.0; BLOCK], close: [0.0; BLOCK] }
    }
}

/// Blocks of open, high and low as they are stored, of those that are wanted; high and low need the open.
type Parts<'a> = [Option<&'a [i64]>; 3];

/// Fills in closes, and of the other prices those that there are `parts` of. `before` is the close before the block.
/// Returns the last close. No block is longer than [`BLOCK`].
pub(super) fn prices(ticks: Ticks, closes: &[i64], parts: Parts<'_>, before: i64, out: &mut PriceBlock) -> i64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has just said that it has AVX2.
        return unsafe { prices_avx2(ticks, closes, parts, before, out) };
    }
    prices_anywhere(ticks, closes, parts, before, out)
}

/// Puts the doubles that integers stand for in their place.
pub(super) fn fill(ticks: Ticks, values: &[i64], out: &mut [f64; BLOCK]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has just said that it has AVX2.
        return unsafe { fill_avx2(ticks, values, out) };
    }
    ticks.fill(values, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn prices_avx2(ticks: Ticks, closes: &[i64], parts: Parts<'_>, before: i64, out: &mut PriceBlock) -> i64 {
    prices_anywhere(ticks, closes, parts, before, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fill_avx2(ticks: Ticks, values: &[i64], out: &mut [f64; BLOCK]) {
    ticks.fill(values, out);
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "it is compiled once for each kind of processor")]
fn prices_anywhere(ticks: Ticks, closes: &[i64], parts: Parts<'_>, before: i64, out: &mut PriceBlock) -> i64 {
    let [opens, highs, lows] = parts;
    let (mut close, mut open) = ([0_i64; BLOCK], [0_i64; BLOCK]);
    let mut last = before;
    for ((delta, close), open) in closes.iter().zip(&mut close).zip(&mut open) {
        *open = last;
        last = last.wrapping_add(*delta);
        *close = last;
    }
    ticks.fill(&close, &mut out.close);
    let Some(opens) = opens else { return last };
    open.iter_mut().zip(opens).for_each(|(open, delta)| *open = open.wrapping_add(*delta));
    ticks.fill(&open, &mut out.open);
    let mut price = [0_i64; BLOCK];
    if let Some(highs) = highs {
        for (((price, open), close), above) in price.iter_mut().zip(&open).zip(&close).zip(highs) {
            *price = open.max(close).wrapping_add(*above);
        }
        ticks.fill(&price, &mut out.high);
    }
    if let Some(lows) = lows {
        for (((price, open), close), below) in price.iter_mut().zip(&open).zip(&close).zip(lows) {
            *price = open.min(close).wrapping_sub(*below);
        }
        ticks.fill(&price, &mut out.low);
    }
    last
}
