//! From the bytes of a chunk to bars, block by block.

use super::{
    CLOSE, EXCEPTIONS, FLAWS, HEAD, HIGH, Head, LOW, OPEN, RECORDED_AT, Rows, SUPERSEDED_AT, TIME, VOLUME, broken,
};
use crate::{
    format::columns::{
        Bytes, floats,
        frame::Frame,
        ints::{self, IntReader},
        pack::BLOCK,
        simd::{self, PriceBlock},
        ticks::{Scale, Ticks},
    },
    market::bars::{
        bar::{Field, Flaws},
        columns::Columns,
    },
    types::{error::Result, invariant::Invariant, time::Timestamp},
};

/// Decodes a whole chunk.
pub(crate) fn decode(bytes: &[u8]) -> Result<Rows> {
    let frame = Frame::parse(bytes)?;
    let mut rows = Rows { bars: Columns::with_capacity(frame.rows), ..Rows::default() };
    decode_bars(&frame, &mut rows.bars)?;
    rows.recorded_at = ints::decode(frame.column(RECORDED_AT)?, frame.rows)?;
    if let Some(until) = frame.find(SUPERSEDED_AT) {
        rows.superseded_at = ints::decode(until, frame.rows)?;
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
    while let Some((PriceBlock { open, high, low, close, .. }, rows)) = prices.next()? {
        let wanted = match field {
            Field::Open => open,
            Field::High => high,
            Field::Low => low,
            _ => close,
        };
        out.extend_from_slice(wanted.get(..rows).always("a block holds so many rows"));
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
                    column.extend_from_slice(part.get(..rows).always("a block holds so many rows"));
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
        for bits in flaws {
            let bits = u8::try_from(bits).map_err(|_| broken("a row has flaws that there are not"))?;
            out.flaws.push(Flaws::from_bits(bits));
        }
    } else if !out.flaws.is_empty() {
        out.flaws.resize(start + frame.rows, Flaws::NONE);
    }
    Ok(())
}

fn decode_time(frame: &Frame<'_>, head: &Head, out: &mut Vec<Timestamp>) -> Result<()> {
    let mut steps = IntReader::new(frame.column(TIME)?, frame.rows)?;
    // The first row's step leads to it, too, from where no row is.
    let mut at: Option<i64> = None;
    let mut ascending = head.step > 0;
    while let Some(block) = steps.next()? {
        let lead = block.first().map_or(0, |step| step.wrapping_mul(head.step));
        let mut now = at.unwrap_or_else(|| head.first.wrapping_sub(lead));
        let before = now;
        let first = block.first().copied().unwrap_or(0);
        // Most blocks of a session are bars at equal distances.
        if block.iter().fold(0, |differs, step| differs | (step ^ first)) == 0 {
            out.extend(block.iter().map(|_| {
                now = now.wrapping_add(lead);
                Timestamp::from_nanos(now)
            }));
            ascending &= first >= 0 && (at.is_none() || now >= before);
            at = Some(now);
            continue;
        }
        out.extend(block.iter().map(|step| {
            now = now.wrapping_add(step.wrapping_mul(head.step));
            Timestamp::from_nanos(now)
        }));
        let all_forward = block.iter().fold(0, |signs, step| signs | step) >= 0;
        ascending &= all_forward && (at.is_none() || now >= before);
        at = Some(now);
    }
    if ascending || frame.rows == 0 { Ok(()) } else { Err(broken("its rows are not in order")) }
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
        let rows = block.len();
        if head.volume_unit == 1 {
            simd::fill(ticks, block, &mut doubles);
        } else {
            whole.iter_mut().zip(block).for_each(|(slot, value)| *slot = value.wrapping_mul(head.volume_unit));
            simd::fill(ticks, whole.get(..rows).always("a block holds so many rows"), &mut doubles);
        }
        out.extend_from_slice(doubles.get(..rows).always("a block holds so many rows"));
    }
    Ok(())
}

/// Hands out the rows that no integers stand for, with their positions behind `start`.
fn put_odd(frame: &Frame<'_>, start: usize, mut put: impl FnMut(usize, [f64; 5])) -> Result<()> {
    let Some(exceptions) = frame.find(EXCEPTIONS) else {
        return Ok(());
    };
    let mut bytes = Bytes(exceptions);
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
    /// Reads what `wanted` needs: the close alone, the open and the close, or, for high and low, these and their own.
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
        let rows = closes.len();
        let deltas = [part(&mut self.opens)?, part(&mut self.highs)?, part(&mut self.lows)?];
        self.before = simd::prices(self.ticks, closes, deltas, self.before, &mut self.block);
        Ok(Some((&self.block, rows)))
    }
}

/// The next block of a column that may not be wanted.
fn part<'a>(reader: &'a mut Option<IntReader<'_>>) -> Result<Option<&'a [i64]>> {
    Ok(reader.as_mut().map(IntReader::next).transpose()?.flatten())
}
