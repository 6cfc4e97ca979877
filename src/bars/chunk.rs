//! A chunk of bars as bytes: timestamps, prices and volume in columns, each in the form that is short for it.
//!
//! Prices are integers (see [`ticks`](super::ticks)): the close less the close before, the open less the close before,
//! the high above the body of the bar and the low below it, all of them small numbers. So a close needs the closes
//! before it, an open the closes, and high and low all three. Rows that no integer can stand for, because a value is not
//! finite or a negative zero, are kept beside as they are; a chunk whose prices are no decimals keeps doubles.
//!
//! | column | what |
//! |---|---|
//! | 0 | head: scales, bases, units, and the hash of the content |
//! | 1 | timestamps: steps in units of their greatest common divisor |
//! | 2 to 5 | open, high, low, close |
//! | 6 | volume in units of its greatest common divisor |
//! | 7 | when each row was stored |
//! | 8 | flaws, if there are any |
//! | 9 | when each row was superseded, in a chunk of history |
//! | 10 | rows that no integers stand for |

use super::{
    lanes::{self, BLOCK, Deltas, PriceBlock},
    ticks::{Scale, Ticks},
};
use crate::{
    bar::{Columns, Field, Flaws},
    error::{Error, Result},
    format::{
        columns::{
            Bytes, floats,
            frame::{Frame, FrameWriter},
            ints::{self, IntCodec, IntReader},
            put_varint,
        },
        digest::Digest,
    },
    time::Timestamp,
};

/// Rows of a chunk, in order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) bars: Columns,
    /// When each row was stored, nanoseconds.
    pub(crate) known: Vec<i64>,
    /// When each row was superseded; none in a chunk that is current.
    pub(crate) until: Vec<i64>,
}

const HEAD: u8 = 0;
const TIME: u8 = 1;
const OPEN: u8 = 2;
const HIGH: u8 = 3;
const LOW: u8 = 4;
const CLOSE: u8 = 5;
const VOLUME: u8 = 6;
const KNOWN: u8 = 7;
const FLAWS: u8 = 8;
const UNTIL: u8 = 9;
const ODD: u8 = 10;

const RAW: [u8; 2] = [2, 0];

/// One row in so many may be one that no integers stand for.
const ODD_ROWS_MAX: usize = 16;

/// What stands in front of the columns.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// `None` where prices are doubles.
    price: Option<Scale>,
    volume: Option<Scale>,
    /// The close before the first, in ticks.
    base: i64,
    volume_unit: i64,
    first: i64,
    step: i64,
}

impl Head {
    fn to_bytes(self) -> Vec<u8> {
        let scale = |scale: Option<Scale>| scale.map_or(RAW, Scale::to_bytes);
        let mut out = Vec::with_capacity(68);
        out.extend_from_slice(&scale(self.price));
        out.extend_from_slice(&scale(self.volume));
        for number in [self.base, self.volume_unit, self.first, self.step] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// Reads the head and the hash behind it.
    fn parse(bytes: &[u8]) -> Result<(Self, Digest)> {
        let mut bytes = Bytes(bytes);
        let scale = |two: [u8; 2]| match Scale::from_bytes(two) {
            None if two != RAW => Err(broken("its scale is not known to this release")),
            scale => Ok(scale),
        };
        let (price, volume) = (scale(bytes.take()?)?, scale(bytes.take()?)?);
        let head = Self {
            price,
            volume,
            base: bytes.i64()?,
            volume_unit: bytes.i64()?,
            first: bytes.i64()?,
            step: bytes.i64()?,
        };
        Ok((head, Digest::from_bytes(bytes.take()?)))
    }
}

fn broken(message: &str) -> Error {
    Error::corrupt("decode bars", "chunk", message)
}

/// Returns the bytes of a chunk.
pub(crate) fn encode(rows: &Rows, codec: IntCodec) -> Result<Vec<u8>> {
    let bars = &rows.bars;
    let mut frame = FrameWriter::new(bars.len())?;
    let odd = odd_rows(bars);
    let mut content: Vec<(u8, Vec<u8>)> = Vec::with_capacity(8);
    let (time, first, step) = encode_time(&bars.at, codec)?;
    content.push((TIME, time));
    let (price, base) = encode_prices(bars, &odd, codec, &mut content)?;
    let (volume, volume_unit) = encode_volume(bars, &odd, codec, &mut content)?;
    if !bars.flaws.is_empty() {
        let flaws: Vec<i64> = bars.flaws.iter().map(|flaws| flaws.bits().into()).collect();
        content.push((FLAWS, encode_ints(&flaws, codec)?));
    }
    if !odd.is_empty() && (price.is_some() || volume.is_some()) {
        content.push((ODD, encode_odd(bars, &odd)));
    }
    let mut head = Head { price, volume, base, volume_unit, first, step }.to_bytes();
    let hash = hash(bars.len(), &head, &content);
    head.extend_from_slice(hash.as_bytes());
    frame.column(HEAD, head);
    content.into_iter().for_each(|(name, bytes)| frame.column(name, bytes));
    frame.column(KNOWN, encode_ints(&rows.known, codec)?);
    if !rows.until.is_empty() {
        frame.column(UNTIL, encode_ints(&rows.until, codec)?);
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
    let odd = |value: f64| !value.is_finite() || value.to_bits() == (-0.0_f64).to_bits();
    let is_odd = |row: &usize| bars.values.iter().any(|column| column.get(*row).is_some_and(|value| odd(*value)));
    // Most chunks have none, and a sum per column says so.
    if bars.values.iter().all(|column| !column.iter().any(|value| odd(*value))) {
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
    odd: &[usize],
    codec: IntCodec,
    content: &mut Vec<(u8, Vec<u8>)>,
) -> Result<(Option<Scale>, i64)> {
    let [open, high, low, close, _] = &bars.values;
    let prices = [open, high, low, close];
    let is_odd = |row: &usize| odd.binary_search(row).is_ok();
    let plain = prices.into_iter().flat_map(|column| {
        column.iter().enumerate().filter(|(row, _)| odd.is_empty() || !is_odd(row)).map(|(_, value)| *value)
    });
    let names = [OPEN, HIGH, LOW, CLOSE];
    let Some(scale) = Scale::find(plain) else {
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
    odd: &[usize],
    codec: IntCodec,
    content: &mut Vec<(u8, Vec<u8>)>,
) -> Result<(Option<Scale>, i64)> {
    let [.., volume] = &bars.values;
    let plain = volume.iter().enumerate().filter(|(row, _)| odd.binary_search(row).is_err()).map(|(_, value)| *value);
    let Some(scale) = Scale::find(plain) else {
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

fn encode_odd(bars: &Columns, odd: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, odd.len() as u64);
    for row in odd {
        put_varint(&mut out, *row as u64);
        for column in &bars.values {
            out.extend_from_slice(&column.get(*row).copied().unwrap_or_default().to_le_bytes());
        }
    }
    out
}

/// What can be said of a chunk without decoding it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) rows: usize,
    /// The hash of what the bars are.
    pub(crate) hash: Digest,
}

/// Reads the front of a chunk.
pub(crate) fn summary(bytes: &[u8]) -> Result<Summary> {
    let frame = Frame::parse(bytes)?;
    let (_, hash) = Head::parse(frame.column(HEAD)?)?;
    Ok(Summary { rows: frame.rows, hash })
}

/// Decodes a whole chunk.
pub(crate) fn decode(bytes: &[u8]) -> Result<Rows> {
    let frame = Frame::parse(bytes)?;
    let mut rows = Rows { bars: Columns::with_capacity(frame.rows), ..Rows::default() };
    decode_bars(&frame, &mut rows.bars)?;
    rows.known = ints::decode(frame.column(KNOWN)?, frame.rows)?;
    if let Some(until) = frame.find(UNTIL) {
        rows.until = ints::decode(until, frame.rows)?;
    }
    Ok(rows)
}

/// Decodes the bars of a chunk behind those that are in `out`.
pub(crate) fn append(bytes: &[u8], out: &mut Columns) -> Result<()> {
    decode_bars(&Frame::parse(bytes)?, out)
}

/// Decodes one column of values and the timestamps, and only what they need.
pub(crate) fn append_field(bytes: &[u8], field: Field, at: &mut Vec<Timestamp>, out: &mut Vec<f64>) -> Result<()> {
    let frame = Frame::parse(bytes)?;
    let (head, _) = Head::parse(frame.column(HEAD)?)?;
    let start = out.len();
    decode_time(&frame, &head, at)?;
    let column = match field {
        Field::Volume => return decode_volume(&frame, &head, start, out),
        Field::Open => OPEN,
        Field::High => HIGH,
        Field::Low => LOW,
        Field::Close => CLOSE,
    };
    let Some(scale) = head.price else {
        return floats::decode(frame.column(column)?, frame.rows, out);
    };
    let mut prices = Prices::new(&frame, &head, scale, &[field])?;
    while let Some((PriceBlock { open, high, low, close }, rows)) = prices.next()? {
        let wanted = match field {
            Field::Open => open,
            Field::High => high,
            Field::Low => low,
            _ => close,
        };
        out.extend_from_slice(wanted.get(..rows).unwrap_or_default());
    }
    put_odd(&frame, start, |position, values| {
        if let (Some(slot), Some(value)) = (out.get_mut(position), values.get(field as usize)) {
            *slot = *value;
        }
    })
}

fn decode_bars(frame: &Frame<'_>, out: &mut Columns) -> Result<()> {
    let (head, _) = Head::parse(frame.column(HEAD)?)?;
    let start = out.len();
    decode_time(frame, &head, &mut out.at)?;
    let [open, high, low, close, volume] = &mut out.values;
    match head.price {
        Some(scale) => {
            let mut prices = Prices::new(frame, &head, scale, &[Field::High, Field::Low])?;
            while let Some((block, rows)) = prices.next()? {
                let parts = [(&mut *open, &block.open), (high, &block.high), (low, &block.low), (close, &block.close)];
                for (column, part) in parts {
                    column.extend_from_slice(part.get(..rows).unwrap_or_default());
                }
            }
        }
        None => {
            for (name, column) in [(OPEN, open), (HIGH, high), (LOW, low), (CLOSE, close)] {
                floats::decode(frame.column(name)?, frame.rows, column)?;
            }
        }
    }
    match head.volume {
        Some(scale) => decode_ticks_volume(frame, &head, scale, volume)?,
        None => floats::decode(frame.column(VOLUME)?, frame.rows, volume)?,
    }
    if head.price.is_some() || head.volume.is_some() {
        put_odd(frame, start, |position, values| {
            for (column, value) in out.values.iter_mut().zip(values) {
                if let Some(slot) = column.get_mut(position) {
                    *slot = value;
                }
            }
        })?;
    }
    decode_flaws(frame, start, out)
}

fn decode_flaws(frame: &Frame<'_>, start: usize, out: &mut Columns) -> Result<()> {
    if let Some(flaws) = frame.find(FLAWS) {
        out.flaws.resize(start, Flaws::NONE);
        let flaws = ints::decode(flaws, frame.rows)?;
        out.flaws.extend(flaws.into_iter().map(|bits| Flaws::from_bits(u8::try_from(bits).unwrap_or(0))));
    } else if !out.flaws.is_empty() {
        out.flaws.resize(start + frame.rows, Flaws::NONE);
    }
    Ok(())
}

fn decode_time(frame: &Frame<'_>, head: &Head, out: &mut Vec<Timestamp>) -> Result<()> {
    let mut steps = IntReader::new(frame.column(TIME)?, frame.rows)?;
    let mut times = [0; 128];
    let (mut at, mut ascending, mut is_first) = (head.first, true, true);
    while let Some(block) = steps.next()? {
        for (time, step) in times.iter_mut().zip(block) {
            let next = if is_first { at } else { at.wrapping_add(step.wrapping_mul(head.step)) };
            is_first = false;
            ascending &= next >= at;
            at = next;
            *time = next;
        }
        out.extend(times.iter().take(block.len()).map(|time| Timestamp::from_nanos(*time)));
    }
    if ascending { Ok(()) } else { Err(broken("its rows are not in order")) }
}

fn decode_volume(frame: &Frame<'_>, head: &Head, start: usize, out: &mut Vec<f64>) -> Result<()> {
    let Some(scale) = head.volume else {
        return floats::decode(frame.column(VOLUME)?, frame.rows, out);
    };
    decode_ticks_volume(frame, head, scale, out)?;
    put_odd(frame, start, |position, [.., volume]| {
        if let Some(slot) = out.get_mut(position) {
            *slot = volume;
        }
    })
}

fn decode_ticks_volume(frame: &Frame<'_>, head: &Head, scale: Scale, out: &mut Vec<f64>) -> Result<()> {
    let ticks = Ticks::new(scale);
    let mut values = IntReader::new(frame.column(VOLUME)?, frame.rows)?;
    let (mut whole, mut doubles) = ([0; BLOCK], [0.0; BLOCK]);
    while let Some(block) = values.next()? {
        whole.iter_mut().zip(block).for_each(|(slot, value)| *slot = value.wrapping_mul(head.volume_unit));
        let rows = block.len();
        lanes::fill(ticks, &whole, &mut doubles);
        out.extend_from_slice(doubles.get(..rows).unwrap_or_default());
    }
    Ok(())
}

/// Hands out the rows that no integers stand for, with their positions behind `start`.
fn put_odd(frame: &Frame<'_>, start: usize, mut put: impl FnMut(usize, [f64; 5])) -> Result<()> {
    let Some(odd) = frame.find(ODD) else {
        return Ok(());
    };
    let mut bytes = Bytes(odd);
    for _ in 0..bytes.varint()? {
        let row = usize::try_from(bytes.varint()?).unwrap_or(usize::MAX);
        if row >= frame.rows {
            return Err(broken("an exception lies behind the last row"));
        }
        let mut values = [0.0; 5];
        for value in &mut values {
            *value = f64::from_le_bytes(bytes.take()?);
        }
        put(start + row, values);
    }
    Ok(())
}

/// The four prices, a block at a time.
struct Prices<'a> {
    ticks: Ticks,
    closes: IntReader<'a>,
    opens: Option<IntReader<'a>>,
    highs: Option<IntReader<'a>>,
    lows: Option<IntReader<'a>>,
    before: i64,
    block: PriceBlock,
}

impl<'a> Prices<'a> {
    /// Reads what `last` needs: the close alone, the open and the close, or, for high and low, these and their own.
    fn new(frame: &Frame<'a>, head: &Head, scale: Scale, wanted: &[Field]) -> Result<Self> {
        let reader = |name| IntReader::new(frame.column(name)?, frame.rows);
        let opens = if wanted == [Field::Close] { None } else { Some(reader(OPEN)?) };
        let highs = if wanted.contains(&Field::High) { Some(reader(HIGH)?) } else { None };
        let lows = if wanted.contains(&Field::Low) { Some(reader(LOW)?) } else { None };
        let (ticks, closes) = (Ticks::new(scale), reader(CLOSE)?);
        Ok(Self { ticks, closes, opens, highs, lows, before: head.base, block: PriceBlock::default() })
    }

    /// Fills in the next block and returns it with the rows that it has; `None` after the last.
    fn next(&mut self) -> Result<Option<(&PriceBlock, usize)>> {
        let Some(closes) = self.closes.next()? else {
            return Ok(None);
        };
        let other = |reader: &mut Option<IntReader<'a>>, out: &mut Deltas| -> Result<bool> {
            let Some(block) = reader.as_mut().map(IntReader::next).transpose()?.flatten() else {
                return Ok(false);
            };
            out.iter_mut().zip(block).for_each(|(out, delta)| *out = *delta);
            Ok(true)
        };
        let rows = closes.len();
        let mut deltas = [[0; BLOCK]; 4];
        let [open, high, low, close] = &mut deltas;
        close.iter_mut().zip(closes).for_each(|(out, delta)| *out = *delta);
        let wanted = [other(&mut self.opens, open)?, other(&mut self.highs, high)?, other(&mut self.lows, low)?];
        self.before = lanes::prices(self.ticks, &deltas, wanted, self.before, &mut self.block);
        Ok(Some((&self.block, rows)))
    }
}
