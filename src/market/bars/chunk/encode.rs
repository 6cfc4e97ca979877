//! From bars to the bytes of a chunk.

use super::{
    CLOSE, EXCEPTIONS, FLAWS, HEAD, HIGH, Head, LOW, ODD_ROWS_MAX, OPEN, RECORDED_AT, Rows, SUPERSEDED_AT, TIME, VOLUME,
};
use crate::{
    format::columns::{
        floats,
        frame::FrameWriter,
        ints::{self, IntCodec},
        put_varint,
        ticks::{Scale, Ticks},
    },
    market::bars::columns::Columns,
    types::{error::Result, hash::Digest, invariant::Invariant, time::Timestamp},
};

/// Returns the bytes of a chunk.
pub(crate) fn encode(rows: &Rows, codec: IntCodec) -> Result<Vec<u8>> {
    let bars = &rows.bars;
    let mut frame = FrameWriter::new(bars.len())?;
    let exceptions = odd_rows(bars);
    let mut content: Vec<(u8, Vec<u8>)> = Vec::with_capacity(8);
    let (time, first, step) = encode_time(&bars.at, codec)?;
    content.push((TIME, time));
    let (price, base) = encode_prices(bars, &exceptions, codec, &mut content)?;
    let (volume, volume_unit) = encode_volume(bars, &exceptions, codec, &mut content)?;
    if !bars.flaws.is_empty() {
        let flaws: Vec<i64> = bars.flaws.iter().map(|flaws| flaws.bits().into()).collect();
        content.push((FLAWS, encode_ints(&flaws, codec)?));
    }
    if !exceptions.is_empty() && (price.is_some() || volume.is_some()) {
        content.push((EXCEPTIONS, encode_odd(bars, &exceptions)));
    }
    let mut head = Head { price, volume, base, volume_unit, first, step }.to_bytes();
    let hash = hash(bars.len(), &head, &content);
    head.extend_from_slice(hash.as_bytes());
    frame.column(HEAD, head);
    content.into_iter().for_each(|(name, bytes)| frame.column(name, bytes));
    frame.column(RECORDED_AT, encode_ints(&rows.recorded_at, codec)?);
    if !rows.superseded_at.is_empty() {
        frame.column(SUPERSEDED_AT, encode_ints(&rows.superseded_at, codec)?);
    }
    frame.finish()
}

/// The hash of what the bars are: when they were stored is not part of it.
fn hash(rows: usize, head: &[u8], content: &[(u8, Vec<u8>)]) -> Digest {
    let mut all = (rows as u64).to_le_bytes().to_vec();
    all.extend_from_slice(head);
    for (name, bytes) in content {
        all.push(*name);
        all.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        all.extend_from_slice(bytes);
    }
    Digest::of(&all)
}

fn encode_ints(values: &[i64], codec: IntCodec) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    ints::encode(values, codec, &mut out)?;
    Ok(out)
}

/// Rows with a value that no integer stands for; none at all when they are too many to be exceptions.
fn odd_rows(bars: &Columns) -> Vec<usize> {
    let exceptions = |value: f64| !value.is_finite() || value.to_bits() == (-0.0_f64).to_bits();
    let is_odd =
        |row: &usize| bars.values.iter().any(|column| column.get(*row).is_some_and(|value| exceptions(*value)));
    // Most chunks have none, and a sum per column says so.
    if bars.values.iter().all(|column| !column.iter().any(|value| exceptions(*value))) {
        return Vec::new();
    }
    let rows: Vec<usize> = (0..bars.len()).filter(is_odd).collect();
    if rows.len() * ODD_ROWS_MAX <= bars.len() { rows } else { Vec::new() }
}

fn encode_time(at: &[Timestamp], codec: IntCodec) -> Result<(Vec<u8>, i64, i64)> {
    let first = at.first().map_or(0, |at| at.as_nanos());
    let mut steps: Vec<i64> = at
        .windows(2)
        .map(|pair| match pair {
            [a, b] => b.as_nanos().wrapping_sub(a.as_nanos()),
            _ => 0,
        })
        .collect();
    let step = unit(&steps);
    steps.iter_mut().for_each(|value| *value /= step);
    // One step per row, so that all columns have as many values: none leads to the first.
    steps.insert(0, *steps.first().unwrap_or(&0));
    if at.is_empty() {
        steps.clear();
    }
    Ok((encode_ints(&steps, codec)?, first, step))
}

/// The greatest common divisor of all values, at least 1.
fn unit(values: &[i64]) -> i64 {
    let mut unit = 0_u64;
    for value in values {
        let mut rest = value.unsigned_abs();
        while rest != 0 {
            (unit, rest) = (rest, unit % rest);
        }
        if unit == 1 {
            return 1;
        }
    }
    i64::try_from(unit).unwrap_or(1).max(1)
}

fn encode_prices(
    bars: &Columns,
    exceptions: &[usize],
    codec: IntCodec,
    content: &mut Vec<(u8, Vec<u8>)>,
) -> Result<(Option<Scale>, i64)> {
    let [open, high, low, close, _] = &bars.values;
    let prices = [open, high, low, close];
    let is_odd = |row: &usize| exceptions.binary_search(row).is_ok();
    let plain = prices.into_iter().flat_map(|column| {
        column.iter().enumerate().filter(|(row, _)| exceptions.is_empty() || !is_odd(row)).map(|(_, value)| *value)
    });
    let names = [OPEN, HIGH, LOW, CLOSE];
    let Some(scale) = Scale::find(&plain) else {
        for (name, column) in names.into_iter().zip(prices) {
            let mut out = Vec::new();
            floats::encode(column, &mut out);
            content.push((name, out));
        }
        return Ok((None, 0));
    };
    let ticks = Ticks::new(scale);
    let first = (0..bars.len()).find(|row| !is_odd(row));
    let base = first.and_then(|row| ticks.tick(*close.get(row)?)).unwrap_or(0);
    let mut parts = [(); 4].map(|()| Vec::with_capacity(bars.len()));
    let mut before = base;
    for (((o, h), l), c) in open.iter().zip(high).zip(low).zip(close) {
        let tick = |value: &f64| ticks.tick(*value);
        // A row without ticks stands on the close before, and is put right by its exception.
        let (o, h, l, c) = match (tick(o), tick(h), tick(l), tick(c)) {
            (Some(o), Some(h), Some(l), Some(c)) => (o, h, l, c),
            _ => (before, before, before, before),
        };
        let [opens, highs, lows, closes] = &mut parts;
        opens.push(o - before);
        highs.push(h - o.max(c));
        lows.push(o.min(c) - l);
        closes.push(c - before);
        before = c;
    }
    for (name, part) in names.into_iter().zip(&parts) {
        content.push((name, encode_ints(part, codec)?));
    }
    Ok((Some(scale), base))
}

fn encode_volume(
    bars: &Columns,
    exceptions: &[usize],
    codec: IntCodec,
    content: &mut Vec<(u8, Vec<u8>)>,
) -> Result<(Option<Scale>, i64)> {
    let [.., volume] = &bars.values;
    let plain =
        volume.iter().enumerate().filter(|(row, _)| exceptions.binary_search(row).is_err()).map(|(_, value)| *value);
    let Some(scale) = Scale::find(&plain) else {
        let mut out = Vec::new();
        floats::encode(volume, &mut out);
        content.push((VOLUME, out));
        return Ok((None, 1));
    };
    let ticks = Ticks::new(scale);
    let mut values: Vec<i64> = volume.iter().map(|value| ticks.tick(*value).unwrap_or(0)).collect();
    let unit = unit(&values);
    values.iter_mut().for_each(|value| *value /= unit);
    content.push((VOLUME, encode_ints(&values, codec)?));
    Ok((Some(scale), unit))
}

fn encode_odd(bars: &Columns, exceptions: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, exceptions.len() as u64);
    for row in exceptions {
        put_varint(&mut out, *row as u64);
        for column in &bars.values {
            out.extend_from_slice(&column.get(*row).always("rows lie in the columns").to_le_bytes());
        }
    }
    out
}
