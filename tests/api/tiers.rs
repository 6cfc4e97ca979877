//! Tiers of models, and what leaves them alone.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use modelkeep::{
    Interval, NewModel, Tier, Timestamp, Version,
    market::{Bar, Bars, FeatureSpec, Lookback, Timeframe},
};

use crate::support::{Folder, Weights, key, weights};

/// A model of 16 MB.
fn sixteen_mb() -> NewModel<Weights> {
    NewModel::new(Weights { weights: (0..2_000_000).map(f64::from).collect() })
}

/// A load takes milliseconds, and bars were written every one: none of 200 loads was admitted to memory.
#[test]
fn writes_of_market_data_and_pins_leave_models_alone() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("large"), sixteen_mb()).unwrap();
    let other = store.publish(&key("other"), weights(1.0)).unwrap();
    let (done, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let minutes = store.bars("SPY", Timeframe::MINUTE).unwrap();
            let vix = store.levels("VIX").unwrap();
            let spec = FeatureSpec::new("closes", 1, Timeframe::MINUTE, Lookback::Bars(1), &["close"]).unwrap();
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                let at = Timestamp::from_nanos(n * 60_000_000_000);
                let bar = Bar { at, open: 1.0, high: 2.0, low: 0.5, close: 1.5, volume: 1.0 };
                minutes.write(&std::iter::once(bar).collect::<Bars>()).unwrap();
                match n % 10 {
                    0 => drop(vix.write(&[(at.day(), 20.0 + f64::from(n as i32))]).unwrap()),
                    3 => drop(minutes.features(&spec).unwrap().get_or_compute(Interval::all_time(), closes).unwrap()),
                    6 => store.pin(&key("other"), other).unwrap(),
                    9 => store.unpin(&key("other"), other).unwrap(),
                    _ => {}
                }
                n += 1;
                writes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut admitted = 0;
        for _ in 0..200 {
            store.evict_all();
            let loaded = store.get::<Weights>(&key("large")).unwrap().unwrap();
            assert_eq!((loaded.tier(), loaded.version()), (Tier::Disk, Version::new(1)));
            let again = store.get::<Weights>(&key("large")).unwrap().unwrap();
            admitted += u32::from(again.tier() == Tier::Hot);
        }
        let during = writes.load(Ordering::Relaxed);
        done.store(true, Ordering::Relaxed);
        assert_eq!(admitted, 200, "{during} writes meanwhile");
        assert!(during > 50, "the loads had company: {during}");
    });
}

fn closes(bars: &Bars) -> Vec<Vec<f64>> {
    vec![bars.close().to_vec()]
}
