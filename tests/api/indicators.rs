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
