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
//!
//! [`days`] makes daily bars of many stocks in the same way, a day being one wide minute; [`thin`] the minutes of stocks
//! that are hardly traded.

use anyhow::{Context, Result, ensure};
use modelkeep::{
    Day, Interval, Timestamp,
    market::{Bar, Bars, Calendar, Session, Timeframe},
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
pub fn set(symbols: u32, years_count: u16) -> Result<Set> {
    let sessions: Vec<Session> = Calendar::nyse().sessions(years(years_count)?).collect();
    let series = (0..symbols)
        .map(|index| Series {
            symbol: format!("GEN{index:03}"),
            bars: Stock::new(u64::from(index)).trade(&sessions).into_iter().collect(),
        })
        .collect();
    Ok(Set { name: "generated".into(), kind: Kind::Generated, timeframe: Timeframe::MINUTE, series })
}

/// Makes daily bars of so many stocks: so many sessions of each.
pub fn days(symbols: u32, sessions: usize) -> Result<Vec<(String, Bars)>> {
    let range = years(u16::try_from(sessions / 250 + 1)?)?;
    let all: Vec<Session> = Calendar::nyse().sessions(range).take(sessions).collect();
    ensure!(all.len() == sessions, "{} sessions, and not {sessions}", all.len());
    let stock = |index: u32| {
        let mut stock = Stock::new(u64::from(index));
        // A day is 39 times as many trades as ten minutes are.
        stock.shares *= 390.0;
        let bars = all.iter().map(|session| {
            let mood = stock.lognormal(0.3);
            let at = session.day.start();
            Bar { at, ..stock.bar(at, 0.5, mood, (390.0 * TRADES).sqrt() / TRADES.sqrt()) }
        });
        (format!("DAY{index:04}"), bars.collect())
    };
    Ok((0..symbols).map(stock).collect())
}

/// Makes minutes of stocks that are hardly traded, over one year: the odds of a trade in a minute are between one in four
/// and two in three, three quarters of the minutes are at the price before, prices are on a grid of half a penny, and
/// the volume is of one to a few trades.
pub fn thin(symbols: u32) -> Result<Set> {
    let sessions: Vec<Session> = Calendar::nyse().sessions(years(1)?).collect();
    let series = (0..symbols)
        .map(|index| Series {
            symbol: format!("THIN{index:03}"),
            bars: Stock::new(u64::from(1000 + index)).trade_thinly(&sessions).into_iter().collect(),
        })
        .collect();
    Ok(Set { name: "generated-thin".into(), kind: Kind::Intraday, timeframe: Timeframe::MINUTE, series })
}

fn years(count: u16) -> Result<Interval<Day>> {
    let day = |year: u16| format!("{year}-01-01").parse::<Day>().context("a year begins with a day");
    Ok(Interval::new(day(FIRST_YEAR)?, day(FIRST_YEAR + count)?)?)
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
        self.bar(at, edge, mood, 1.0)
    }

    /// A bar whose steps are so many times as wide as those of a minute.
    fn bar(&mut self, at: Timestamp, edge: f64, mood: f64, wide: f64) -> Bar {
        let burst = self.lognormal(0.4);
        // The mean square of 1 + 1.5 edge is 2.45, so that a year moves as far as it should.
        let share = self.volatility / (MINUTES_PER_YEAR * TRADES * 2.45).sqrt();
        let width = self.cents as f64 * share * (1.0 + 1.5 * edge) * mood * burst * wide;
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

    fn trade_thinly(&mut self, sessions: &[Session]) -> Vec<Bar> {
        let odds = self.random.gen_range(0.25..0.67);
        let mut bars = Vec::new();
        for session in sessions {
            let (open, close) = (session.open.as_nanos(), session.close.as_nanos());
            for minute in 0..(close - open) / MINUTE_NANOS {
                if !self.random.gen_bool(odds) {
                    continue;
                }
                // In tenths of a penny, five at a time.
                let before = self.cents / 5 * 5;
                let moves = if self.random.gen_bool(0.25) { (2.0 * self.bell()).round() as i64 } else { 0 };
                self.cents = (before + 5 * moves).max(CENTS_MIN);
                let price = |tenths: i64| tenths as f64 / 10.0;
                let at = Timestamp::from_nanos(open + minute * MINUTE_NANOS);
                let (open, close) =
                    if self.random.gen_bool(0.7) { (self.cents, self.cents) } else { (before, self.cents) };
                let volume = (self.shares * 0.1 * self.lognormal(1.5)).round().max(1.0);
                let (high, low) = (price(open.max(close)), price(open.min(close)));
                bars.push(Bar { at, open: price(open), high, low, close: price(close), volume });
            }
        }
        bars
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
    fn thin_minutes_are_missing_and_days_are_all_there() {
        let thin = thin(2).unwrap();
        let minutes = 2 * (249 * 390 + 3 * 210);
        assert!((minutes / 5..minutes * 7 / 10).contains(&thin.rows()), "{}", thin.rows());
        let days = days(3, 501).unwrap();
        assert!(days.iter().all(|(_, bars)| bars.len() == 501));
        let all = thin.series.iter().map(|series| &series.bars).chain(days.iter().map(|(_, bars)| bars));
        for bars in all {
            assert!(bars.iter().all(|bar| bar.flaws().is_empty()) && bars.timestamps().is_sorted());
        }
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
