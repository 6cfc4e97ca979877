//! Prices as integers: how many decimals a series has, and whether it went through single precision on its way.
//!
//! A price is a decimal number that a `f64` is next to. Where every price of a chunk is some integer over the same
//! power of ten, and dividing gives the very same double, the integers are stored. Many vendors keep prices in 32 bits
//! and print six decimals: 256.88 comes as 256.880005. Such a price is a function of 25688: divided, rounded to single
//! precision, and to six decimals; where that gives every price back to the last bit, it is 25688 that is stored.

/// How integers stand for doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// The integer over 10^decimals.
    Decimal(u8),
    /// The same, rounded to a `f32`, and then to six decimals.
    Single(u8),
}

/// More decimals than that are no prices.
const DECIMALS_MAX: u8 = 9;

/// Decimals of what vendors print of a number in 32 bits.
const SINGLE_DECIMALS: u8 = 6;

/// 2^50: doubles up to this size round to integers by adding and subtracting [`ROUND`].
const TICK_MAX: f64 = 1_125_899_906_842_624.0;

/// 1.5 * 2^52: doubles near it are integers.
const ROUND: f64 = 6_755_399_441_055_744.0;

fn power(decimals: u8) -> f64 {
    const POWERS: [f64; DECIMALS_MAX as usize + 1] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
    POWERS.get(usize::from(decimals)).copied().unwrap_or(f64::NAN)
}

/// Rounds to the nearest integer; to the even one halfway.
#[inline]
fn round(value: f64) -> f64 {
    (value + ROUND) - ROUND
}

/// A scale with its powers looked up.
#[derive(Clone, Copy)]
pub(crate) struct Ticks {
    power: f64,
    single: bool,
}

impl Ticks {
    pub(crate) fn new(scale: Scale) -> Self {
        match scale {
            Scale::Decimal(decimals) => Self { power: power(decimals), single: false },
            Scale::Single(decimals) => Self { power: power(decimals), single: true },
        }
    }

    /// The double that an integer stands for.
    pub(crate) fn value(self, tick: i64) -> f64 {
        self.of(exact(tick) / self.power)
    }

    /// The value whose decimal is known.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "it is compiled once for each kind of processor")]
    #[allow(clippy::cast_possible_truncation, reason = "rounding to single precision is the point")]
    fn of(self, decimal: f64) -> f64 {
        if !self.single {
            return decimal;
        }
        let printed = power(SINGLE_DECIMALS);
        round(f64::from(decimal as f32) * printed) / printed
    }

    /// Puts the doubles in place of integers. Where products can be fused with sums (`FUSED`), the quotient is made of
    /// them: it takes a third of a division's time.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "it is compiled once for each kind of processor")]
    pub(crate) fn fill<const FUSED: bool>(self, ticks: &[i64], out: &mut [f64]) {
        // Several loops, so that each is one that the compiler can make vectors of.
        let rows = out.iter_mut().zip(ticks);
        if self.single {
            rows.for_each(|(out, tick)| *out = self.of(exact(*tick) / self.power));
        } else if self.power.to_bits() == 1.0_f64.to_bits() {
            rows.for_each(|(out, tick)| *out = exact(*tick));
        } else if FUSED {
            let inverse = 1.0 / self.power;
            rows.for_each(|(out, tick)| *out = quotient(exact(*tick), self.power, inverse));
        } else {
            rows.for_each(|(out, tick)| *out = exact(*tick) / self.power);
        }
    }

    /// The integer that stands for `value`, if there is one.
    pub(crate) fn tick(self, value: f64) -> Option<i64> {
        let near = round(value * self.power);
        if near.abs() >= TICK_MAX || near.is_nan() {
            return None;
        }
        let tick = whole(near);
        (self.value(tick).to_bits() == value.to_bits()).then_some(tick)
    }
}

/// An integer below 2^51 as a double: by its bits, which a compiler can do for several at once, unlike a conversion.
#[inline]
fn exact(tick: i64) -> f64 {
    f64::from_bits(ROUND.to_bits().wrapping_add(tick.cast_unsigned())) - ROUND
}

/// `a / b`, correctly rounded, where `inverse` is `1.0 / b`: the last step of Markstein ("Computation of elementary
/// functions on the IBM RISC System/6000 processor", IBM J. Res. Dev. 34, 1990, theorem 8.1) gives the rounded quotient
/// when what it begins with is off by no more than one unit in the last place. `a * inverse` may be off by two; the
/// first step brings it there.
#[inline(always)]
#[allow(clippy::inline_always, reason = "it is compiled once for each kind of processor")]
fn quotient(a: f64, b: f64, inverse: f64) -> f64 {
    let first = a * inverse;
    let second = (-first).mul_add(b, a).mul_add(inverse, first);
    (-second).mul_add(b, a).mul_add(inverse, second)
}

/// A double that is an integer below 2^51.
fn whole(value: f64) -> i64 {
    (value + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed()
}

impl Scale {
    /// The scale with the fewest decimals in which every one of `values` is an integer.
    pub(crate) fn find(values: &(impl Iterator<Item = f64> + Clone)) -> Option<Self> {
        let holds = |scale| {
            let ticks = Ticks::new(scale);
            values.clone().all(|value| ticks.tick(value).is_some())
        };
        (0..=DECIMALS_MAX).find_map(|decimals| {
            let single = decimals <= SINGLE_DECIMALS;
            let scales = [Some(Self::Decimal(decimals)), single.then_some(Self::Single(decimals))];
            scales.into_iter().flatten().find(|scale| holds(*scale))
        })
    }

    /// Two bytes that say which it is.
    pub(crate) fn to_bytes(self) -> [u8; 2] {
        match self {
            Self::Decimal(decimals) => [0, decimals],
            Self::Single(decimals) => [1, decimals],
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; 2]) -> Option<Self> {
        match bytes {
            [0, decimals] if decimals <= DECIMALS_MAX => Some(Self::Decimal(decimals)),
            [1, decimals] if decimals <= SINGLE_DECIMALS => Some(Self::Single(decimals)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_scale_of_real_prices_is_found() {
        let find = |values: &[f64]| Scale::find(&values.iter().copied());
        assert_eq!(find(&[256.88, 257.08, 19.0]), Some(Scale::Decimal(2)));
        // As printed of single precision: 256.88, 257.08, 256.86, 257.035.
        assert_eq!(find(&[256.880_005, 257.079_987, 256.859_985, 257.035_004]), Some(Scale::Single(3)));
        assert_eq!(find(&[1.05236, 1.05253]), Some(Scale::Decimal(5)));
        assert_eq!(find(&[19.779_285, 19.821_428]), Some(Scale::Decimal(6)));
        for none in [f64::NAN, -0.0, f64::INFINITY, 1e300, f64::MIN_POSITIVE, std::f64::consts::PI] {
            assert_eq!(find(&[1.0, none]), None, "{none}");
        }
        assert_eq!(find(&[]), Some(Scale::Decimal(0)));
    }

    #[test]
    fn quotients_without_a_division_are_the_same_to_the_last_bit() {
        for decimals in 0..=DECIMALS_MAX {
            let (b, inverse) = (power(decimals), 1.0 / power(decimals));
            // All small ticks, and of the larger ones those around powers of two and of ten, and many between.
            let around = (0..50).flat_map(|bits| (-300..300).map(move |off| (1_i64 << bits) + off));
            let tens = (0..15).flat_map(|digits| (-300..300).map(move |off| 10_i64.pow(digits) * 7 + off));
            let between = (0..200_000_i64).map(|n| n.wrapping_mul(5_629_499_534_213) & ((1 << 50) - 1));
            for tick in (0..300_000).chain(around).chain(tens).chain(between) {
                for a in [exact(tick), -exact(tick)] {
                    let (found, expected) = (quotient(a, b, inverse), a / b);
                    assert!(found.to_bits() == expected.to_bits() || a == 0.0, "{a} / {b}: {found} {expected}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_has_a_tick_comes_back(value in any::<f64>(), decimals in 0u8..=9, single in any::<bool>()) {
            let ticks = Ticks::new(if single { Scale::Single(decimals.min(6)) } else { Scale::Decimal(decimals) });
            if let Some(tick) = ticks.tick(value) {
                prop_assert_eq!(ticks.value(tick).to_bits(), value.to_bits());
            }
        }

        #[test]
        fn decimals_have_ticks(tick in -(1i64 << 49)..(1i64 << 49), decimals in 0u8..=9) {
            let value: f64 = format!("{tick}e-{decimals}").parse().unwrap();
            let found = Ticks::new(Scale::Decimal(decimals)).tick(value);
            // Beyond 53 bits of product the rounding may miss; what is found is right.
            prop_assert_eq!(found, (value.to_bits() != (-0.0f64).to_bits()).then_some(tick));
        }
    }
}
