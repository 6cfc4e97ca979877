//! Chunks: what goes in comes out, and what real files take.

use proptest::prelude::*;

use super::*;
use crate::{
    format::columns::ints::IntCodec,
    market::bars::{
        bar::{Bar, Field, Flaws},
        columns::Columns,
    },
    types::time::Timestamp,
};

fn rows(bars: impl IntoIterator<Item = Bar>) -> Rows {
    let mut rows = Rows::default();
    for bar in bars {
        rows.bars.push(&bar, bar.flaws());
        rows.recorded_at.push(1_700_000_000_000_000_000);
    }
    rows
}

fn check(rows: &Rows, codec: IntCodec) -> usize {
    let bytes = encode(rows, codec).unwrap();
    let back = decode(&bytes).unwrap();
    assert_eq!(back.bars.at, rows.bars.at);
    assert_eq!((&back.recorded_at, &back.superseded_at), (&rows.recorded_at, &rows.superseded_at));
    for row in 0..rows.bars.len() {
        assert!(rows.bars.same(row, &back.bars, row), "row {row}: {:?} {:?}", rows.bars.bar(row), back.bars.bar(row));
    }
    for (field, column) in Field::ALL.into_iter().zip(&rows.bars.values) {
        let (mut at, mut values) = (Vec::new(), Vec::new());
        append_field(&bytes, field, &mut at, &mut values).unwrap();
        assert_eq!(at, rows.bars.at);
        assert!(values.iter().map(|v| v.to_bits()).eq(column.iter().map(|v| v.to_bits())), "{field:?}");
    }
    assert_eq!(summary(&bytes).unwrap().rows, rows.bars.len());
    bytes.len()
}

fn walk(n: i64) -> impl Iterator<Item = Bar> {
    (0..n).map(|row| {
        let close = 10_000 + (row * 7919) % 57;
        let cents = |cents: i64| cents as f64 / 100.0;
        Bar {
            at: Timestamp::from_nanos(row * 60_000_000_000),
            open: cents(close - 3),
            high: cents(close + 4),
            low: cents(close - 9),
            close: cents(close),
            volume: (100 * (row % 41)) as f64,
        }
    })
}

#[test]
fn bars_on_a_grid_take_few_bytes() {
    for codec in [IntCodec::Packed, IntCodec::Pco] {
        for n in [0, 1, 2, 127, 128, 129, 3000] {
            check(&rows(walk(n)), codec);
        }
        assert!(check(&rows(walk(8190)), codec) < 4 * 8190);
    }
}

#[test]
fn prices_below_zero_are_ticks_like_others() {
    // Crude oil on 2020-04-20, and a spread that lies about zero.
    for (from, step) in [(1783, -1), (-4032, 1), (-50, 1), (-1_000_000, 3)] {
        let price = |cents: i64| cents as f64 / 100.0;
        let bars = (0..6000).map(|row| {
            let close = from + step * (row % 5815) + (row * 7919) % 7;
            let [open, high, low, close] = [close - 3, close + 4, close - 9, close].map(price);
            let at = Timestamp::from_nanos(row * 60_000_000_000);
            Bar { at, open, high, low, close, volume: (100 * (row % 41)) as f64 }
        });
        let mut rows = rows(bars);
        rows.bars.flaws.clear();
        for codec in [IntCodec::Packed, IntCodec::Pco] {
            assert!(check(&rows, codec) < 4 * 6000, "{from} {step} {codec:?}: {}", check(&rows, codec));
        }
    }
}

#[test]
fn a_few_odd_rows_do_not_cost_the_others_their_form() {
    let plain = check(&rows(walk(4000)), IntCodec::Packed);
    let mut bars: Vec<Bar> = walk(4000).collect();
    bars[17].open = f64::NAN;
    bars[18].volume = f64::from_bits(0xfff8_dead_beef_0001);
    bars[3999].low = -0.0;
    bars[0].close = f64::INFINITY;
    assert!(check(&rows(bars.iter().copied()), IntCodec::Packed) < plain + 1000);
    bars.iter_mut().for_each(|bar| bar.high = f64::NAN);
    check(&rows(bars), IntCodec::Packed);
}

#[test]
fn the_hash_is_of_the_bars_and_not_of_when_they_came() {
    let hash = |rows: &Rows| summary(&encode(rows, IntCodec::Packed).unwrap()).unwrap().hash;
    let one = rows(walk(100));
    let later = Rows { recorded_at: vec![7; 100], ..one.clone() };
    assert_eq!(hash(&one), hash(&later));
    let mut other = one.clone();
    other.bars.values[4][99] += 1.0;
    assert_ne!(hash(&one), hash(&other));
}

#[test]
fn history_keeps_both_times() {
    let mut history = rows(walk(50));
    history.superseded_at = (0..50).collect();
    history.bars.flaws = vec![Flaws::DUPLICATE; 50];
    check(&history, IntCodec::Packed);
    let mut out = Columns::default();
    append(&encode(&history, IntCodec::Packed).unwrap(), &mut out).unwrap();
    append(&encode(&rows(walk(3)), IntCodec::Pco).unwrap(), &mut out).unwrap();
    assert_eq!((out.len(), out.flaws.len(), out.flaws_of(52)), (53, 53, Flaws::NONE));
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0i64..1_000_000).prop_map(|cents| cents as f64 / 100.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(-0.0),
    ]
}

proptest! {
    #[test]
    fn any_doubles_come_back(
        values in prop::collection::vec((1i64..100_000, prop::array::uniform5(any_value())), 0..300),
        clean in any::<bool>(),
        pco in any::<bool>(),
    ) {
        let mut at = -5_000;
        let bars = values.into_iter().map(|(step, [open, high, low, close, volume])| {
            at += step;
            let fix = |value: f64| if clean { 12.25 } else { value };
            Bar { at: Timestamp::from_nanos(at), open: fix(open), high: fix(high), low: fix(low), close: fix(close), volume }
        });
        check(&rows(bars), if pco { IntCodec::Pco } else { IntCodec::Packed });
    }

    #[test]
    fn damaged_chunks_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), pco in any::<bool>()) {
        let mut bytes = encode(&rows(walk(300)), if pco { IntCodec::Pco } else { IntCodec::Packed }).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        drop(decode(&bytes));
        for field in Field::ALL {
            drop(append_field(&bytes, field, &mut Vec::new(), &mut Vec::new()));
        }
        drop(decode(&bytes[..at]));
    }
}
