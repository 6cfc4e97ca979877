//! Indicators as columns, one value per bar; NaN where there are not enough bars yet.
//!
//! Two kinds. Those over a *window* are computed for every bar from its window alone, so that they are the same to the
//! last bit wherever the bars begin: they look back `n - 1` bars (`n` for what is made of returns). Those with a
//! *memory* (RSI, ATR, MACD) are TA-Lib's; they depend on every bar before, and features made of them declare
//! `Lookback::All`. RSI and ATR come from the crate `kand`. Its MACD differs from TA-Lib's in the first hundred values,
//! and its windows are running sums, which depend on where they began: these are computed here.

use modelkeep::market::{Bars, Levels};

/// Sessions of a year.
const YEAR: f64 = 252.0;

/// Calls `of` with the `n` values that end at each row.
fn windows(values: &[f64], n: usize, of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let too_few = std::iter::repeat_n(f64::NAN, (n - 1).min(values.len()));
    too_few.chain(values.windows(n).map(of)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation of a whole population.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// The change from the bar before, as a share of it.
pub fn returns(close: &[f64]) -> Vec<f64> {
    windows(close, 2, |pair| pair[1] / pair[0] - 1.0)
}

/// Simple moving average.
pub fn rolling_mean(values: &[f64], n: usize) -> Vec<f64> {
    windows(values, n, mean)
}

/// Standard deviation (of a population) over a window.
pub fn rolling_std(values: &[f64], n: usize) -> Vec<f64> {
    windows(values, n, deviation)
}

/// How many standard deviations the last value lies above the mean of its window.
pub fn zscore(values: &[f64], n: usize) -> Vec<f64> {
    windows(values, n, |window| (window[n - 1] - mean(window)) / deviation(window))
}

/// Bollinger bands: the lower, the mean and the upper, `width` standard deviations apart.
pub fn bollinger(values: &[f64], n: usize, width: f64) -> [Vec<f64>; 3] {
    let band = |side: f64| windows(values, n, |window| mean(window) + side * width * deviation(window));
    [band(-1.0), rolling_mean(values, n), band(1.0)]
}

/// Standard deviation of the last `n` logarithmic returns, a year's worth.
pub fn realised_volatility(close: &[f64], n: usize) -> Vec<f64> {
    windows(close, n + 1, |window| {
        let returns: Vec<f64> = window.windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
        deviation(&returns) * YEAR.sqrt()
    })
}

/// How the last `n` returns move with those of a market, row by row.
pub fn rolling_beta(returns: &[f64], market: &[f64], n: usize) -> Vec<f64> {
    let rows = returns.len().min(market.len());
    let of = |end: usize| {
        let (own, market) = (&returns[end - n..end], &market[end - n..end]);
        let (own_mean, market_mean) = (mean(own), mean(market));
        let together =
            own.iter().zip(market).map(|(own, market)| (own - own_mean) * (market - market_mean)).sum::<f64>();
        together / market.iter().map(|market| (market - market_mean).powi(2)).sum::<f64>()
    };
    let too_few = std::iter::repeat_n(f64::NAN, (n - 1).min(rows));
    too_few.chain((n..=rows).map(of)).collect()
}

/// The last level of an index on or before the day of each bar: never a later one.
pub fn join_levels(bars: &Bars, levels: &Levels) -> Vec<f64> {
    bars.timestamps().iter().map(|at| levels.at(at.day()).unwrap_or(f64::NAN)).collect()
}

/// Relative strength index by Wilder's smoothing.
pub fn rsi(close: &[f64], n: usize) -> Vec<f64> {
    with_memory(close.len(), |out| {
        let mut spare = [vec![0.0; close.len()], vec![0.0; close.len()]];
        let [gain, loss] = &mut spare;
        kand::ohlcv::rsi::rsi(close, n, out, gain, loss)
    })
}

/// Average true range by Wilder's smoothing.
pub fn atr(bars: &Bars, n: usize) -> Vec<f64> {
    with_memory(bars.len(), |out| kand::ohlcv::atr::atr(bars.high(), bars.low(), bars.close(), n, out))
}

/// Moving average convergence and divergence, as TA-Lib has it to the first value: the line, and its signal. Both begin
/// at bar `slow + signal - 2`, and are NaN before.
pub fn macd(close: &[f64], fast: usize, slow: usize, signal: usize) -> [Vec<f64>; 2] {
    let nothing = || vec![f64::NAN; close.len()];
    let first = slow + signal - 2;
    if fast == 0 || slow < fast || signal == 0 || close.len() <= first {
        return [nothing(), nothing()];
    }
    // The fast mean begins late, so that both have their first value at the same bar.
    let (fast, slow) = (exponential_mean(&close[slow - fast..], fast), exponential_mean(close, slow));
    let line: Vec<f64> = fast.iter().zip(&slow).map(|(fast, slow)| fast - slow).collect();
    let signal = exponential_mean(&line, signal);
    let known = line[line.len() - signal.len()..].to_vec();
    let padded = |values: Vec<f64>| std::iter::repeat_n(f64::NAN, first).chain(values).collect();
    [padded(known), padded(signal)]
}

/// The exponential moving average from value `n - 1` on: the first is the mean of `n` values.
fn exponential_mean(values: &[f64], n: usize) -> Vec<f64> {
    let share = 2.0 / (n as f64 + 1.0);
    let (seed, rest) = values.split_at(n);
    let mut last = mean(seed);
    std::iter::once(last)
        .chain(rest.iter().map(|value| {
            last += share * (value - last);
            last
        }))
        .collect()
}

/// Fills a column, or leaves it without values when there are not enough bars.
fn with_memory(rows: usize, fill: impl FnOnce(&mut [f64]) -> Result<(), kand::error::KandError>) -> Vec<f64> {
    let mut out = vec![f64::NAN; rows];
    if fill(&mut out).is_err() {
        out.fill(f64::NAN);
    }
    out
}
