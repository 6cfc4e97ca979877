//! How bars are encoded: by what they are, and by whether their chunk still grows.

use modelkeep::{
    ErrorKind, Store, Timestamp,
    market::{BadRows, Bar, BarCodec, Bars, Calendar, Timeframe},
};

use crate::{
    market::{MINUTE, all_time, at, bar, data, days, minutes},
    support::{Folder, HOUR},
};

fn in_memory(codec: BarCodec) -> Store {
    Store::options().bar_codec(codec).in_memory().unwrap()
}

fn stored_bytes(store: &Store) -> u64 {
    store.bar_series().unwrap().remove(0).1.unwrap().stored_bytes
}

/// Bytes that `bars` take, written at once.
fn bytes(bars: &Bars, timeframe: Timeframe, codec: BarCodec) -> u64 {
    let store = in_memory(codec);
    let series = store.bars("A", timeframe).unwrap();
    series.write(bars).unwrap();
    assert_eq!(series.range(all_time()).unwrap(), *bars);
    stored_bytes(&store)
}

/// Numbers that look random and are the same each time.
fn noise(n: i64) -> i64 {
    let n = n.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((n ^ (n >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33).cast_signed()
}

/// A stock that is hardly traded, in London: half of its minutes are missing, most of the others are one trade at the
/// price before, prices are on a grid of half a penny, and one trade in twenty is a large one.
fn thin(count: i64) -> Bars {
    let start = at("2018-01-02T08:00:00Z").as_nanos();
    let mut half_pence = 2469;
    let traded = (0..count).filter(|minute| noise(*minute) % 2 == 0 && minute % 1440 < 510);
    traded
        .map(|minute| {
            let before = half_pence;
            half_pence += if noise(minute + 1) % 4 == 0 { 5 * (noise(minute + 2) % 5 - 2) } else { 0 };
            let price = |halves: i64| halves as f64 / 2.0;
            Bar {
                at: Timestamp::from_nanos(start + minute * MINUTE),
                open: price(before),
                high: price(before.max(half_pence)),
                low: price(before.min(half_pence)),
                close: price(half_pence),
                volume: (noise(minute + 3) % if noise(minute + 4) % 20 == 0 { 200_000 } else { 900 } + 1) as f64,
            }
        })
        .collect()
}

#[test]
fn thin_minutes_take_pco_and_dense_ones_stay_packed() {
    let (thin, dense) = (thin(60 * 24 * 90), minutes("2018-01-01", 60 * 24 * 90));
    let of = |bars: &Bars, codec| bytes(bars, Timeframe::MINUTE, codec);
    let (auto, packed, pco) = (of(&thin, BarCodec::Auto), of(&thin, BarCodec::Packed), of(&thin, BarCodec::Pco));
    assert!(4 * packed > 5 * pco, "{packed} {pco}: too easy to pack");
    // A column that pco makes little shorter stays packed, so that it is a little more than pco alone.
    assert!(10 * auto < 11 * pco && 5 * auto < 4 * packed, "{auto} {pco}");
    let real = {
        let store = in_memory(BarCodec::Auto);
        store
            .bars("MSFT", Timeframe::MINUTE)
            .unwrap()
            .import_csv(data("msft_1min.csv"), BadRows::Refuse, |_| ())
            .unwrap();
        store.bars("MSFT", Timeframe::MINUTE).unwrap().range(all_time()).unwrap()
    };
    assert_eq!(of(&real, BarCodec::Auto), of(&real, BarCodec::Packed));
    assert!(of(&dense, BarCodec::Auto) <= of(&dense, BarCodec::Packed));
}

#[test]
fn the_newest_days_are_packed_until_the_next_period_begins() {
    let store = in_memory(BarCodec::Auto);
    let series = store.bars("A", Timeframe::DAY).unwrap();
    let all = days("2002-01-01", "2020-01-10");
    let until = |end: &str| all.slice(0..all.timestamps().partition_point(|day| *day < at(end)));
    let of = |bars: &Bars, codec| bytes(bars, Timeframe::DAY, codec);
    // An import is at rest.
    series.write(&until("2019-12-20")).unwrap();
    let at_rest = stored_bytes(&store);
    assert_eq!(at_rest, of(&until("2019-12-20"), BarCodec::Auto));
    assert!(at_rest < of(&until("2019-12-20"), BarCodec::Packed));
    // What is appended to is not.
    series.write(&until("2019-12-21").slice(6500..6563)).unwrap();
    // Two runs of the time of writing in place of one.
    assert!(stored_bytes(&store).abs_diff(of(&until("2019-12-21"), BarCodec::Packed)) < 30);
    for end in ["2019-12-30", "2020-01-01"] {
        series.write(&until(end)).unwrap();
    }
    // Twenty years end with 2019.
    series.write(&until("2020-01-02")).unwrap();
    assert_eq!(series.range(all_time()).unwrap(), until("2020-01-02"));
    let whole = of(&until("2020-01-02"), BarCodec::Auto);
    assert!(stored_bytes(&store) <= whole + 200, "{} {whole}", stored_bytes(&store));
    // A bar that is restated later does not wake the old chunk.
    let old = all.get(100).unwrap();
    let restated = Bar { close: old.high, ..old };
    assert_eq!(series.write(&Bars::from_iter([restated])).unwrap().replaced, 1);
    assert!(stored_bytes(&store) <= whole + 400, "{} {whole}", stored_bytes(&store));
}

#[test]
fn bars_that_come_one_by_one_are_written_as_bars_that_come_together() {
    let (at_once, streamed) = (in_memory(BarCodec::Auto), in_memory(BarCodec::Auto));
    let all = minutes("2018-10-20", 60 * 24 * 80);
    let one_by_one = streamed.bars("BTC-USD", Timeframe::MINUTE).unwrap();
    let together = at_once.bars("BTC-USD", Timeframe::MINUTE).unwrap();
    for part in [0..70_000, 60_000..all.len()] {
        let bars = all.slice(part);
        assert_eq!(one_by_one.write_iter(bars.iter()).unwrap(), together.write(&bars).unwrap());
        assert_eq!(one_by_one.range(all_time()).unwrap(), together.range(all_time()).unwrap());
        assert_eq!(one_by_one.coverage(all_time()).unwrap(), together.coverage(all_time()).unwrap());
    }
    // When they were written differs.
    assert!(stored_bytes(&streamed).abs_diff(stored_bytes(&at_once)) < 30);
}

#[test]
fn a_stream_with_a_bad_bar_writes_nothing() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.bars("BTC-USD", Timeframe::MINUTE).unwrap();
    let all = minutes("2018-10-20", 100_000);
    for (wrong, part) in [
        (Bar { high: 0.0, ..all.get(99_999).unwrap() }, "row 99999 at"),
        (all.get(99_998).unwrap(), "it has the timestamp of the row before it"),
        (all.get(5).unwrap(), "it lies before the row before it"),
    ] {
        let bars = all.slice(0..99_999);
        // What is written meanwhile is in nobody's way.
        let meanwhile = bars.iter().inspect(|bar| {
            if bar.at == all.timestamps()[7] {
                store.bars("OTHER", Timeframe::DAY).unwrap().write(&days("2018-01-01", "2018-01-05")).unwrap();
            }
        });
        let err = series.write_iter(meanwhile.chain([wrong])).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidInput);
        assert!(err.message().contains(part), "{err}");
        let as_write = series.write(&bars.iter().chain([wrong]).collect()).unwrap_err();
        assert_eq!(err.to_string(), as_write.to_string());
    }
    assert_eq!(series.latest().unwrap(), None);
    // More rows than a chunk may have.
    let tiny = store.bars("X", Timeframe::hours(5).unwrap()).unwrap();
    let many = (0..=1 << 20).map(|n| bar(Timestamp::from_nanos(n * MINUTE / 60_000), 10_000));
    assert_eq!(tiny.write_iter(many).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(series.write_iter([]).unwrap(), modelkeep::training::RowChanges::default());
}

/// One write that goes on with the newest chunk and begins the next one: each of the two is what the write says.
#[test]
fn a_write_over_the_end_of_a_period_keeps_both_sides_of_it() {
    let folder = Folder::new();
    folder.clock.advance(HOUR * 24 * 800);
    let store = folder.open();
    let daily = store.bars("D", Timeframe::DAY).unwrap();
    let days = days("2019-06-01", "2020-02-01");
    let minutely = store.bars("M", Timeframe::MINUTE).unwrap().calendar(Calendar::always_open());
    let dense = minutes("2018-11-30T00:00:00Z", 3 * 24 * 60);
    // Twenty years are shorter at rest than packed, so that the write also encodes them anew; others lie before them.
    let long = store.bars("L", Timeframe::DAY).unwrap();
    let years = crate::market::days("1995-01-01", "2020-01-10");
    let december = years.timestamps().partition_point(|day| *day < at("2019-12-20"));
    for (series, rows, split) in [(&daily, &days, 200), (&minutely, &dense, 1000), (&long, &years, december)] {
        series.write(&rows.slice(0..split)).unwrap();
        assert_eq!(series.write(&rows.slice(split..rows.len())).unwrap().added, (rows.len() - split) as u64);
        assert_eq!(series.range(all_time()).unwrap(), *rows);
    }
    let found = store.verify().unwrap();
    assert!(found.is_whole(), "{:?}", found.damage);
}
