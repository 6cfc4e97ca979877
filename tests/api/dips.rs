//! The main example's features look at nothing that was not known yet.

#[path = "../../examples/bounce/dips.rs"]
#[allow(dead_code, clippy::cast_precision_loss, reason = "as in the example, of which a part is tested")]
mod example;
#[path = "../../examples/common/market.rs"]
pub mod market;

use std::path::Path;

use example::{Rules, find};
use market::Bars;
use modelkeep::market::Levels;

const RULES: Rules = Rules { zscore_below: -1.0, rsi2_below: 20.0, horizon_days: 5, rebound_pct: 2.0, stop_pct: 3.0 };

fn data() -> (Bars, Levels) {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"));
    (market::read_bars(dir, "AAPL").unwrap(), market::read_vix(dir).unwrap().into_iter().collect())
}

/// Cuts everything after session `t`.
fn known_at(bars: &Bars, vix: &Levels, t: usize) -> (Bars, Levels) {
    let until = t + 1;
    let bars = Bars {
        symbol: bars.symbol.clone(),
        days: bars.days[..until].to_vec(),
        open: bars.open[..until].to_vec(),
        high: bars.high[..until].to_vec(),
        low: bars.low[..until].to_vec(),
        close: bars.close[..until].to_vec(),
        volume: bars.volume[..until].to_vec(),
    };
    let vix = vix.iter().filter(|(day, _)| *day <= bars.days[t]).collect();
    (bars, vix)
}

#[test]
fn a_signal_is_the_same_when_the_future_is_cut_off() {
    let (bars, vix) = data();
    let dips = find(&bars, &vix, &RULES, 0);
    assert!(dips.len() > 50, "{} dips", dips.len());
    for dip in &dips {
        let t = bars.days.binary_search(&dip.day).unwrap();
        let (past, past_vix) = known_at(&bars, &vix, t);
        let again = find(&past, &past_vix, &RULES, t);
        assert_eq!(again.len(), 1, "{}", dip.day);
        assert_eq!(again[0].features, dip.features, "{}", dip.day);
        assert_eq!(again[0].bounced, None, "the outcome of {} was not known yet", dip.day);
    }
}

#[test]
fn a_label_needs_its_whole_horizon_and_no_more() {
    let (bars, vix) = data();
    for dip in find(&bars, &vix, &RULES, 0).iter().filter(|dip| dip.bounced.is_some()) {
        let t = bars.days.binary_search(&dip.day).unwrap();
        let (enough, enough_vix) = known_at(&bars, &vix, t + RULES.horizon_days);
        assert_eq!(find(&enough, &enough_vix, &RULES, t)[0].bounced, dip.bounced, "{}", dip.day);
        let (short, short_vix) = known_at(&bars, &vix, t + RULES.horizon_days - 1);
        assert_eq!(find(&short, &short_vix, &RULES, t)[0].bounced, None, "{}", dip.day);
    }
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("daily")).unwrap();
    let path = folder.path().join("daily").join("X.csv");
    let header = "date,open,high,low,close,volume\n2018-01-02,2,3,1,2,10\n";
    for (row, reason) in [
        ("2018-01-03,2,3,1,2", "found record with 5 fields"),
        ("2018-01-03,2,3,1,two,10", "\"two\" is no finite number"),
        ("2018-01-03,2,3,1,NaN,10", "\"NaN\" is no finite number"),
        ("2018-13-03,2,3,1,2,10", "\"2018-13-03\" is no date"),
        ("2018-01-02,2,3,1,2,10", "is not after the row before it"),
        ("2018-01-03,2,1,1,2,10", "does not hold"),
        ("2018-01-03,2,3,-1,2,10", "is not possible"),
    ] {
        std::fs::write(&path, format!("{header}{row}\n")).unwrap();
        let text = market::read_bars(folder.path(), "X").unwrap_err().to_string();
        assert!(text.contains("X.csv:3: ") && text.contains(reason), "{row}: {text}");
    }
    std::fs::write(&path, "day,open\n").unwrap();
    assert!(market::read_bars(folder.path(), "X").unwrap_err().to_string().contains("X.csv:1: expected the header"));
    assert!(market::read_bars(folder.path(), "Y").unwrap_err().to_string().contains("Y.csv"));
    assert!(market::symbols(&folder.path().join("nowhere")).is_err());
}
