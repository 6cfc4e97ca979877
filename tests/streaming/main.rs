//! What memory a stream of bars takes on its way into a store. A process of its own, because the kernel remembers the
//! most that a process ever had.
#![cfg(all(target_os = "linux", feature = "market"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(missing_docs, reason = "tests have no public API")]

use modelkeep::{
    Interval, Store, Timestamp,
    market::{Bar, Timeframe},
};

const ROWS: i64 = 1_500_000;
const SECOND: i64 = 1_000_000_000;

/// The most that this process ever had in memory, in bytes.
fn most() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_stream_takes_a_fraction_of_the_memory_of_its_bars() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store.redb")).unwrap();
    let series = store.bars("BTC-USD", Timeframe::seconds(1).unwrap()).unwrap();
    let bar = |n: i64| {
        let price = |cents: i64| f64::from(i32::try_from(cents).unwrap()) / 100.0;
        let close = 10_000 + n * 7919 % 57;
        let (open, high, low) = (price(close - 3), price(close + 4), price(close - 9));
        Bar { at: Timestamp::from_nanos(n * SECOND), open, high, low, close: price(close), volume: price(n % 4100) }
    };
    let before = most();
    let written = series.write_iter((0..ROWS).map(bar)).unwrap();
    let grown = most() - before;
    assert_eq!(written.added, ROWS.unsigned_abs());
    // As bars they take 48 bytes each, 72 MB, and what writes them at once needs them twice. Packed they are some bytes,
    // twice as well; a day of seconds is unpacked at a time, and redb has its buffers.
    assert!(grown < 40 << 20, "{grown} bytes");
    let day = Interval::new(Timestamp::from_nanos(0), Timestamp::from_nanos(86_400 * SECOND)).unwrap();
    let first = series.range(day).unwrap();
    assert!(first.iter().eq((0..86_400).map(bar)));
}
