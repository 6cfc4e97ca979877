//! Dips, their features, and whether they bounced.
//!
//! A feature of day `t` uses bars up to the close of `t` and VIX closes up to that day, and nothing later; a label uses
//! the days after `t`. Both say so in one place each, so that it can be checked by reading.

use modelkeep::{
    Day,
    market::{Bars, Levels},
    training::Samples,
};
use serde::Serialize;

/// What makes a dip, and what makes a bounce. Part of the hashed configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Rules {
    /// A dip has a z-score of its 5-day return below this ...
    pub zscore_below: f64,
    /// ... and a 2-day RSI below this.
    pub rsi2_below: f64,
    /// Sessions in which it must bounce.
    pub horizon_days: usize,
    /// It bounced when a high is this far above the close of the signal day, in percent ...
    pub rebound_pct: f64,
    /// ... before a low was this far below it, in percent. A day that does both counts as stopped.
    pub stop_pct: f64,
}

pub const FEATURES: [&str; 9] =
    ["zscore5", "rsi2", "dist20", "dist200", "gap", "vol20", "volume_ratio", "vix", "vix_percentile"];

/// Days that the longest feature looks back on, the day itself included.
const LOOKBACK: usize = 200;
/// 5-day returns that a z-score compares with.
const ZSCORE_WINDOW: usize = 60;
/// VIX closes of one year.
const VIX_YEAR: usize = 252;
/// A VIX close older than this many days is not used.
const VIX_STALE_DAYS: i32 = 5;

/// A dip: when, what it looked like, and how it ended if that is known.
pub struct Dip {
    pub day: Day,
    pub features: [f64; 9],
    pub bounced: Option<bool>,
}

/// Finds the dips among the bars from index `from` on.
pub fn find(bars: &Bars, vix: &Levels, rules: &Rules, from: usize) -> Vec<Dip> {
    let rsi = rsi2(bars.close());
    (from.max(LOOKBACK)..bars.len())
        .filter_map(|t| {
            let zscore = zscore5(bars.close(), t)?;
            if zscore >= rules.zscore_below || rsi[t] >= rules.rsi2_below {
                return None;
            }
            let features = features(bars, vix, t, zscore, rsi[t])?;
            Some(Dip { day: bars.timestamps()[t].day(), features, bounced: bounced(bars, t, rules) })
        })
        .collect()
}

/// The dips whose outcome is known, as training samples.
pub fn samples(symbol: &str, bars: &Bars, vix: &Levels, rules: &Rules) -> modelkeep::error::Result<Samples> {
    let mut samples = Samples::new(symbol, &FEATURES)?;
    for dip in find(bars, vix, rules, 0) {
        if let Some(bounced) = dip.bounced {
            samples.push(dip.day.start(), &dip.features, f64::from(u8::from(bounced)))?;
        }
    }
    Ok(samples)
}

/// Everything that is known at the close of day `t`; `None` where a window or a VIX close is missing.
fn features(bars: &Bars, vix: &Levels, t: usize, zscore: f64, rsi2: f64) -> Option<[f64; 9]> {
    let (day, close) = (bars.timestamps()[t].day(), &bars.close()[..=t]);
    let volume = mean(&bars.volume()[t - 19..=t]);
    let returns: Vec<f64> = close[t - 20..].windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
    let known = vix.days.partition_point(|&known| known <= day);
    let year = vix.levels.get(known.checked_sub(VIX_YEAR)?..known)?;
    let (&last_day, &level) = (vix.days.get(known - 1)?, year.last()?);
    if day.epoch_days() - last_day.epoch_days() > VIX_STALE_DAYS || volume <= 0.0 {
        return None;
    }
    let features = [
        zscore,
        rsi2,
        close[t] / mean(&close[t - 19..]) - 1.0,
        close[t] / mean(&close[t + 1 - LOOKBACK..]) - 1.0,
        bars.open()[t] / close[t - 1] - 1.0,
        deviation(&returns) * 252f64.sqrt(),
        bars.volume()[t] / volume,
        level,
        year.iter().filter(|&&other| other <= level).count() as f64 / year.len() as f64,
    ];
    features.iter().all(|x| x.is_finite()).then_some(features)
}

/// Whether the price rebounded before it was stopped; `None` while the horizon is not over and neither happened.
fn bounced(bars: &Bars, t: usize, rules: &Rules) -> Option<bool> {
    let target = bars.close()[t] * (1.0 + rules.rebound_pct / 100.0);
    let stop = bars.close()[t] * (1.0 - rules.stop_pct / 100.0);
    let horizon = t + rules.horizon_days;
    // A label is only given once its whole horizon is there, or quick outcomes would be over-represented at the end.
    if horizon >= bars.len() {
        return None;
    }
    for day in t + 1..=horizon {
        if bars.low()[day] <= stop {
            return Some(false);
        }
        if bars.high()[day] >= target {
            return Some(true);
        }
    }
    Some(false)
}

/// The z-score of the 5-day return that ends at `t`, among those that end in the 60 sessions up to `t`.
fn zscore5(close: &[f64], t: usize) -> Option<f64> {
    let first = (t + 1).checked_sub(ZSCORE_WINDOW)?.checked_sub(5)?;
    let returns: Vec<f64> = close[first..=t].windows(6).map(|week| week[5] / week[0] - 1.0).collect();
    let deviation = deviation(&returns);
    (deviation > 0.0).then(|| (returns[returns.len() - 1] - mean(&returns)) / deviation)
}

/// Wilder's relative strength index over two sessions, for every day; 50 before there are two changes.
fn rsi2(close: &[f64]) -> Vec<f64> {
    let (mut gain, mut loss) = (0.0, 0.0);
    let mut rsi = vec![50.0; close.len()];
    for t in 1..close.len() {
        let change = close[t] - close[t - 1];
        gain = (gain + change.max(0.0)) / 2.0;
        loss = (loss + (-change).max(0.0)) / 2.0;
        if t >= 2 && gain + loss > 0.0 {
            rsi[t] = 100.0 * gain / (gain + loss);
        }
    }
    rsi
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample standard deviation.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)).sqrt()
}
