//! Minutes of made-up stocks that are as hard to store as real ones, and can be made anywhere.
//!
//! Sessions are those of the NYSE from 2014 on, half days included; the years to 2016 have 252 each. A stock starts
//! between 20 and 500 dollars and moves by 15 to 45 percent a year. A minute is 8 to 12 trades on a grid of cents, each
//! a step from the one before: of some cents for most stocks, of half a cent for the cheapest, of ten for the dearest.
//! The first trade opens the minute one step away from the last close; over night the price jumps.
//!
//! What makes bars hard to pack is not left out. Steps are 2.5 times as wide at the open and the close as at noon, they
//! differ from day to day and from minute to minute, so that a block of bars has to make room for its wildest one
//! (minutes of real stocks have a kurtosis of six and more, and so have these), and all four prices use every cent. The
//! volume is lognormal around a few thousand shares in units of one share, three times as high at the open and the
//! close, and higher in wild minutes. No minute is missing: in a liquid stock none is.

use anyhow::{Context, Result};
use modelkeep::{
    Day, Interval, Timestamp,
    market::{Bar, Calendar, Session, Timeframe},
};
use rand::{Rng, RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::set::{Kind, Series, Set};

/// Stock `n` has this seed and `n`.
const SEED: u64 = 0x0ba5_0000;
/// Three years of 252 sessions begin here.
const FIRST_YEAR: u16 = 2014;
const MINUTE_NANOS: i64 = 60_000_000_000;
/// Minutes of trading in a year, about.
const MINUTES_PER_YEAR: f64 = 252.0 * 390.0;
/// Trades of a minute, on average.
const TRADES: f64 = 10.0;
const CENTS_MIN: i64 = 100;

/// Makes the set: so many stocks over so many years.
pub fn set(symbols: u32, years: u16) -> Result<Set> {
    let day = |year: u16| format!("{year}-01-01").parse::<Day>().context("a year begins with a day");
    let range = Interval::new(day(FIRST_YEAR)?, day(FIRST_YEAR + years)?)?;
    let sessions: Vec<Session> = Calendar::nyse().sessions(range).collect();
    let series = (0..symbols)
        .map(|index| Series {
            symbol: format!("GEN{index:03}"),
            bars: Stock::new(u64::from(index)).trade(&sessions).into_iter().collect(),
        })
        .collect();
    Ok(Set { name: "generated".into(), kind: Kind::Generated, timeframe: Timeframe::MINUTE, series })
}

/// A stock at some time.
struct Stock {
    random: Xoshiro256PlusPlus,
    cents: i64,
    /// How far a price moves in a year, as a share of itself.
    volatility: f64,
    /// Shares in a calm minute at noon.
    shares: f64,
}

impl Stock {
    fn new(index: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED + index);
        let dollars = 20.0 * 25.0_f64.powf(random.gen_range(0.0..1.0));
        let volatility = random.gen_range(0.15..0.45);
        let shares = random.gen_range(1500.0..6000.0);
        Self { random, cents: (dollars * 100.0) as i64, volatility, shares }
    }

    fn trade(&mut self, sessions: &[Session]) -> Vec<Bar> {
        let mut bars = Vec::new();
        for session in sessions {
            let (open, close) = (session.open.as_nanos(), session.close.as_nanos());
            let minutes = (close - open) / MINUTE_NANOS;
            let mood = self.lognormal(0.3);
            let night = 0.5 * self.volatility / 252.0_f64.sqrt() * mood;
            self.step(self.cents as f64 * night);
            for minute in 0..minutes {
                // 1 at the open and at the close, 0 at noon.
                let edge = (2.0 * minute as f64 / (minutes - 1) as f64 - 1.0).powi(2);
                bars.push(self.minute(Timestamp::from_nanos(open + minute * MINUTE_NANOS), edge, mood));
            }
        }
        bars
    }

    fn minute(&mut self, at: Timestamp, edge: f64, mood: f64) -> Bar {
        let burst = self.lognormal(0.4);
        // The mean square of 1 + 1.5 edge is 2.45, so that a year moves as far as it should.
        let share = self.volatility / (MINUTES_PER_YEAR * TRADES * 2.45).sqrt();
        let width = self.cents as f64 * share * (1.0 + 1.5 * edge) * mood * burst;
        self.step(width);
        let open = self.cents;
        let (mut high, mut low) = (open, open);
        for _ in 1..self.random.gen_range(8..=12) {
            self.step(width);
            high = high.max(self.cents);
            low = low.min(self.cents);
        }
        let volume = self.shares * (1.0 + 2.0 * edge) * burst * self.lognormal(0.6);
        let [open, high, low, close] = [open, high, low, self.cents].map(|cents| cents as f64 / 100.0);
        Bar { at, open, high, low, close, volume: volume.round().max(1.0) }
    }

    fn step(&mut self, width: f64) {
        self.cents = (self.cents + (width * self.bell()).round() as i64).max(CENTS_MIN);
    }

    fn lognormal(&mut self, sigma: f64) -> f64 {
        (sigma * self.bell()).exp()
    }

    /// About normal, with a variance of 1: the sum of the four numbers below 2^16 that one draw consists of.
    fn bell(&mut self) -> f64 {
        let bits = self.random.next_u64();
        let sum: u64 = (0..4).map(|n| (bits >> (16 * n)) & 0xffff).sum();
        (sum as f64 / 65_536.0 - 2.0) * 3.0_f64.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_has_its_sessions_and_no_flaws() {
        let set = set(2, 1).unwrap();
        // 252 sessions in 2014, three of which were half days.
        assert_eq!(set.rows(), 2 * (249 * 390 + 3 * 210));
        for series in &set.series {
            assert!(series.bars.iter().all(|bar| bar.flaws().is_empty()));
            assert!(series.bars.timestamps().is_sorted());
            let volumes = series.bars.volume();
            let mean = volumes.iter().sum::<f64>() / volumes.len() as f64;
            assert!((2000.0..20_000.0).contains(&mean), "{mean}");
        }
        let [a, b] = set.series.as_slice() else { panic!("two series") };
        assert!(a.bars != b.bars);
    }

    #[test]
    fn prices_move_as_those_of_stocks_do() {
        let bars: Vec<Bar> =
            set(1, 1).unwrap().series.into_iter().flat_map(|s| s.bars.iter().collect::<Vec<_>>()).collect();
        let returns: Vec<f64> = bars.windows(2).map(|pair| (pair[1].close / pair[0].close).ln()).collect();
        let moment = |n: i32| returns.iter().map(|r| r.powi(n)).sum::<f64>() / returns.len() as f64;
        let yearly = (moment(2) * MINUTES_PER_YEAR).sqrt();
        assert!((0.1..0.8).contains(&yearly), "{yearly}");
        let kurtosis = moment(4) / moment(2).powi(2);
        assert!(kurtosis > 5.0, "{kurtosis}");
    }
}
