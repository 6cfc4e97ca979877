//! The examples' indicators against published values.

#[path = "../../examples/common/indicators.rs"]
mod example;

use example::*;
use modelkeep::{
    Store,
    market::{BadRows, Bars, Levels, Timeframe},
};

use crate::market::{all_time, bar, data, days};

fn spy() -> Bars {
    let store = Store::in_memory().unwrap();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.import_csv(data("spy.csv"), BadRows::Refuse, |_| ()).unwrap();
    series.range(all_time()).unwrap()
}

#[test]
fn published_values_are_met() {
    let bars = spy();
    let close = bars.close();
    let [macd, signal] = macd(close, 12, 26, 9);
    for (name, found, published) in [
        ("RSI14[249]", rsi(close, 14)[249], 70.9368),
        ("RSI14[501]", rsi(close, 14)[501], 42.0773),
        ("SMA20[501]", rolling_mean(close, 20)[501], 251.8600),
        ("ATR14[14]", atr(&bars, 14)[14], 1.3364),
        ("MACD[249]", macd[249], 2.2353),
        ("signal[249]", signal[249], 2.3141),
        ("stdev10[9]", rolling_std(close, 10)[9], 0.5020),
        // Bands of 20 bars and two deviations, and the z-score of 10, from the same tests.
        ("upper[249]", bollinger(close, 20, 2.0)[2][249], 259.5642),
        ("lower[249]", bollinger(close, 20, 2.0)[0][249], 251.5358),
        ("zscore10[9]", zscore(close, 10)[9], (close[9] - rolling_mean(close, 10)[9]) / rolling_std(close, 10)[9]),
    ] {
        assert!((found - published).abs() < 5e-5, "{name}: {found}, published {published}");
    }
    assert!(rsi(close, 14)[13].is_nan() && !rsi(close, 14)[14].is_nan());
    assert!(rolling_mean(close, 20)[18].is_nan() && rolling_mean(&close[..5], 20).iter().all(|mean| mean.is_nan()));
    assert!(rsi(&close[..5], 14).iter().all(|rsi| rsi.is_nan()));
}

/// Values of TA-Lib 0.8.1 (C) by way of its Python package 0.8.2, with numpy 2.4.6, of `tests/data/spy.csv`:
/// `talib.MACD(close, 12, 26, 9)`, `talib.MACD(close, 5, 34, 7)`, `talib.RSI(close, 14)`, `talib.ATR(high, low, close, 14)`.
#[test]
fn what_has_a_memory_is_talibs_from_the_first_value_on() {
    let bars = spy();
    let close = bars.close();
    let near = |name: &str, found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-9, "{name}: {found}, TA-Lib {expected}");
    };
    let [line, signal] = macd(close, 12, 26, 9);
    assert!(line[..33].iter().chain(&signal[..33]).all(|value| value.is_nan()));
    assert_eq!((line.len(), signal.len()), (close.len(), close.len()));
    for (at, expected_line, expected_signal) in [
        (33, 2.244_479_390_749_916, 1.611_418_567_880_172_7),
        (34, 2.337_384_746_620_586, 1.756_611_803_628_255_4),
        (40, 2.597_723_944_510_392, 2.314_449_702_951_589_6),
        (60, 0.442_290_318_170_620_37, 0.730_596_068_115_472_1),
        (100, 0.995_376_325_537_449_7, 0.825_709_915_858_638_3),
        (249, 2.235_256_269_556_600_7, 2.314_106_528_549_805),
        (501, -6.219_770_256_202_707_5, -5.856_891_653_610_954),
    ] {
        near(&format!("MACD[{at}]"), line[at], expected_line);
        near(&format!("signal[{at}]"), signal[at], expected_signal);
    }
    let [line, signal] = macd(close, 5, 34, 7);
    assert!(line[38].is_nan() && signal[38].is_nan());
    near("MACD(5, 34, 7)[39]", line[39], 5.827_038_212_759_334);
    near("signal(5, 34, 7)[39]", signal[39], 5.633_283_819_011_085);
    let (rsi, atr) = (rsi(close, 14), atr(&bars, 14));
    for (at, expected_rsi, expected_atr) in [
        (14, 62.054_054_054_053_964, 1.336_428_571_428_568),
        (15, 68.808_531_000_068_21, 1.373_826_530_612_240_6),
        (50, 64.362_584_620_116_92, 1.354_637_528_331_535_3),
    ] {
        near(&format!("RSI[{at}]"), rsi[at], expected_rsi);
        near(&format!("ATR[{at}]"), atr[at], expected_atr);
    }
    // The line begins with its signal: the last bar that has neither, and too few bars.
    let [line, signal] = macd(&close[..33], 12, 26, 9);
    assert!(line.len() == 33 && line.iter().chain(&signal).all(|value| value.is_nan()));
    let [line, signal] = macd(&close[..34], 12, 26, 9);
    assert!(!line[33].is_nan() && !signal[33].is_nan());
}

#[test]
fn windows_do_not_depend_on_where_the_bars_begin() {
    let bars = spy();
    let later = bars.slice(100..bars.len());
    for (whole, cut) in [
        (zscore(bars.close(), 20), zscore(later.close(), 20)),
        (realised_volatility(bars.close(), 20), realised_volatility(later.close(), 20)),
        (rolling_beta(bars.close(), bars.open(), 30), rolling_beta(later.close(), later.open(), 30)),
    ] {
        assert_eq!(whole.len(), bars.len());
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&whole[140..]), bits(&cut[40..]));
    }
}

#[test]
fn beta_of_a_market_with_itself_is_one_and_levels_are_not_of_tomorrow() {
    let returns = returns(spy().close());
    assert!((rolling_beta(&returns[1..], &returns[1..], 60)[400] - 1.0).abs() < 1e-12);
    let week = days("2018-12-20", "2018-12-27");
    let levels: Levels = [("2018-12-21", 30.11), ("2018-12-24", 36.07)]
        .into_iter()
        .map(|(day, level)| (day.parse().unwrap(), level))
        .collect();
    let joined = join_levels(&week, &levels);
    assert!(joined[0].is_nan());
    assert_eq!(joined[1..], [30.11, 30.11, 30.11, 36.07, 36.07, 36.07]);
    assert!(join_levels(&[bar(week.timestamps()[0], 5)].into_iter().collect(), &levels)[0].is_nan());
}
