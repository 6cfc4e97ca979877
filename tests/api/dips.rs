//! The main example's features look at nothing that was not known yet.

#[path = "../../examples/bounce/dips.rs"]
#[allow(dead_code, clippy::cast_precision_loss, reason = "as in the example, of which a part is tested")]
mod example;
#[path = "../../examples/common/market.rs"]
pub mod market;

use std::{path::Path, time::Duration};

use example::{FEATURES, Rules, find};
use modelkeep::{
    Error, Interval, Store,
    audit::{Audit, Emitted},
    market::{Bars, Levels, Timeframe},
};

const RULES: Rules = Rules { zscore_below: -1.0, rsi2_below: 20.0, horizon_days: 5, rebound_pct: 2.0, stop_pct: 3.0 };

fn data() -> (Bars, Levels) {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"));
    let store = Store::in_memory().unwrap();
    (market::import_bars(&store, dir, "AAPL").unwrap(), market::read_vix(dir).unwrap().into_iter().collect())
}

/// Cuts everything after session `t`.
fn known_at(bars: &Bars, vix: &Levels, t: usize) -> (Bars, Levels) {
    let last = bars.timestamps()[t].day();
    (bars.slice(0..t + 1), vix.iter().filter(|(day, _)| *day <= last).collect())
}

fn session(bars: &Bars, day: modelkeep::Day) -> usize {
    bars.timestamps().binary_search(&day.start()).unwrap()
}

#[test]
fn a_signal_is_the_same_when_the_future_is_cut_off() {
    let (bars, vix) = data();
    let dips = find(&bars, &vix, &RULES, 0);
    assert!(dips.len() > 50, "{} dips", dips.len());
    for dip in &dips {
        let t = session(&bars, dip.day);
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
        let t = session(&bars, dip.day);
        let (enough, enough_vix) = known_at(&bars, &vix, t + RULES.horizon_days);
        assert_eq!(find(&enough, &enough_vix, &RULES, t)[0].bounced, dip.bounced, "{}", dip.day);
        let (short, short_vix) = known_at(&bars, &vix, t + RULES.horizon_days - 1);
        assert_eq!(find(&short, &short_vix, &RULES, t)[0].bounced, None, "{}", dip.day);
    }
}

#[test]
fn a_bad_row_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("daily")).unwrap();
    let path = folder.path().join("daily").join("X.csv");
    let header = "date,open,high,low,close,volume\n2018-01-02,2,3,1,2,10\n";
    let import = |symbol| {
        let store = Store::in_memory().unwrap();
        let text = market::import_bars(&store, folder.path(), symbol).unwrap_err().to_string();
        assert!(store.bar_series().unwrap().is_empty(), "nothing was written");
        text
    };
    for (row, reason) in [
        ("2018-01-03,2,3,1,2", "line 3: it has 5 fields, and the header 6"),
        ("2018-01-03,2,3,1,two,10", "line 3: close \"two\" is no number"),
        ("2018-01-03,2,3,1,NaN,10", "line 3: close is missing"),
        ("2018-13-03,2,3,1,2,10", "line 3: \"2018-13-03\" is no time"),
        ("2018-01-02,2,3,1,2,10", "line 3 at 2018-01-02T00:00:00Z: it has the timestamp of the row before it"),
        ("2018-01-03,2,1,1,2,10", "does not hold"),
        ("2018-01-03,2,3,-1,2,10", "negative"),
    ] {
        std::fs::write(&path, format!("{header}{row}\n")).unwrap();
        let text = import("X");
        assert!(text.contains("X.csv: ") && text.contains(reason), "{row}: {text}");
    }
    std::fs::write(&path, "day,open\n").unwrap();
    assert!(import("X").contains("X.csv: line 1: there is no column"));
    std::fs::write(&path, "date,open,high,low,close,volume\n").unwrap();
    assert!(import("X").contains("X.csv: it has no rows"));
    assert!(import("Y").contains("Y.csv: "));
    assert!(market::symbols(&folder.path().join("nowhere")).is_err());
}

#[test]
fn a_bad_level_is_named_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    for (rows, reason) in [
        ("2018-01-02,10\n2018-01-03,ten", ":3: "),
        ("2018-01-02,10\n2018-01-03,-1", ":3: -1 is no positive level"),
        ("2018-01-02,10\n2018-01-02,11", ":3: 2018-01-02 is not after"),
        ("2018-02-30,10", ":2: \"2018-02-30\" is no date"),
        ("", ": it has no rows"),
    ] {
        std::fs::write(folder.path().join("vix.csv"), format!("date,close\n{rows}\n")).unwrap();
        let text = market::read_vix(folder.path()).unwrap_err().to_string();
        assert!(text.contains("vix.csv") && text.contains(reason), "{rows}: {text}");
    }
}

/// The VIX is computed until a quarter of an hour after the close.
const VIX_DELAY: Duration = Duration::from_secs(15 * 60);

/// What the example computes from a store, and when it claims to know it: features when the VIX of their day is known,
/// outcomes when their horizon is over.
fn pipeline(store: &Store) -> Result<Vec<Emitted>, Error> {
    let series = store.bars("AAPL", Timeframe::DAY)?;
    let bars = series.range(Interval::all_time())?;
    let ends = series.available_at(&bars)?;
    let vix = store.levels("VIX")?.range(Interval::<modelkeep::Timestamp>::all_time().days())?;
    let mut emitted = Vec::new();
    for dip in find(&bars, &vix, &RULES, 0) {
        let t = session(&bars, dip.day);
        let known = ends[t].after(VIX_DELAY);
        emitted.extend(FEATURES.iter().zip(dip.features).map(|(name, value)| Emitted::new(known, *name, value)));
        if let Some(bounced) = dip.bounced {
            let over = ends[t + RULES.horizon_days].after(VIX_DELAY);
            emitted.push(Emitted::new(over, format!("outcome of {}", dip.day), f64::from(u8::from(bounced))));
        }
    }
    Ok(emitted)
}

#[test]
fn an_audit_of_the_example_finds_nothing_from_the_future() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"));
    let store = Store::in_memory().unwrap();
    market::import_bars(&store, dir, "AAPL").unwrap();
    store.levels("VIX").unwrap().write(&market::read_vix(dir).unwrap()).unwrap();
    let audit = Audit::default().cuts(30).levels_available_after(VIX_DELAY);
    let report = store.audit_look_ahead(&audit, pipeline).unwrap();
    assert!(report.is_clean() && report.compared > 1_000, "{:?}", report.found.first());
    assert!(!report.as_known, "restatements were not looked for, and the report says so");
    // One that reads another store than the one that it is given would always be clean.
    let elsewhere = store.audit_look_ahead(&audit, |_| pipeline(&store)).unwrap_err();
    assert!(elsewhere.message().contains("did not read the store"), "{elsewhere}");
    // Of who says that the VIX is known at the close, the audit says no.
    let hasty = |store: &Store| {
        let hasty = |value: Emitted| Emitted { at: value.at.before(VIX_DELAY), ..value };
        Ok::<_, Error>(pipeline(store)?.into_iter().map(hasty).collect())
    };
    let report = store.audit_look_ahead(&audit, hasty).unwrap();
    assert!(!report.is_clean() && report.found.iter().all(|found| found.name.starts_with("vix")), "{:?}", report.found);
}
