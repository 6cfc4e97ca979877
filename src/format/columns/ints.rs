//! A column of integers in the form that fits it: one value, runs, packed blocks, or pco.
//!
//! Packed blocks decode at memory speed and suit what is read often; [pco](https://docs.rs/pco) takes fewer bytes and
//! more time.

use pco::{
    ChunkConfig, DeltaSpec,
    standalone::{simple_compress, simple_decompress_into},
};

use super::{
    Bytes, broken,
    pack::{self, BLOCK, Block},
    put_varint, unzigzag, zigzag,
};
use crate::types::error::{Error, ErrorKind, Result};

/// How to encode values that are neither one nor a few runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntCodec {
    /// Blocks of 128, packed.
    Packed,
    /// pco, at the level where it finds common divisors and the best of its modes.
    Pco,
    /// Packed, or pco where that is smaller by more than [`PCO_GAIN_MIN`]: both are made.
    Shorter,
}

const CONSTANT: u8 = 0;
const RUNS: u8 = 1;
const PACKED: u8 = 2;
const PCO: u8 = 3;

/// Rows per run from which runs are the shorter form of anything.
const ROWS_PER_RUN_MIN: usize = 16;

/// pco has to save one byte in so many, or the column stays packed, which is read several times as fast.
const PCO_GAIN_MIN: usize = 16;

/// Appends `values`.
pub(crate) fn encode(values: &[i64], codec: IntCodec, out: &mut Vec<u8>) -> Result<()> {
    let runs = 1 + values.windows(2).filter(|pair| pair.first() != pair.last()).count();
    match (values.first(), codec) {
        (None, _) => out.push(PACKED),
        (Some(first), _) if runs == 1 => {
            out.push(CONSTANT);
            out.extend_from_slice(&first.to_le_bytes());
        }
        _ if runs * ROWS_PER_RUN_MIN <= values.len() => {
            out.push(RUNS);
            let mut before = 0_i64;
            for run in values.chunk_by(|a, b| a == b) {
                put_varint(out, run.len() as u64);
                let value = run.first().copied().unwrap_or(0);
                put_varint(out, zigzag(value.wrapping_sub(before)));
                before = value;
            }
        }
        (_, IntCodec::Packed) => encode_packed(values, out),
        (_, IntCodec::Pco) => encode_pco(values, out)?,
        (_, IntCodec::Shorter) => {
            let (start, mut other) = (out.len(), Vec::new());
            encode_packed(values, out);
            encode_pco(values, &mut other)?;
            let packed_bytes = out.len() - start;
            if other.len() < packed_bytes - packed_bytes / PCO_GAIN_MIN {
                out.truncate(start);
                out.append(&mut other);
            }
        }
    }
    Ok(())
}

fn encode_packed(values: &[i64], out: &mut Vec<u8>) {
    out.push(PACKED);
    values.chunks(BLOCK).for_each(|block| pack::encode(block, out));
}

fn encode_pco(values: &[i64], out: &mut Vec<u8>) -> Result<()> {
    let encoded = simple_compress(values, &config(values))
        .map_err(|err| Error::new(ErrorKind::Io, "encode columns", "column", "pco failed").with_source(err))?;
    out.push(PCO);
    out.extend_from_slice(&encoded);
    Ok(())
}

/// How pco goes about a column. Most are differences already, and pco's own search for better ones takes three quarters
/// of its time and finds none: it is left to columns that ascend, whose steps are all much alike.
fn config(values: &[i64]) -> ChunkConfig {
    let spread = |least: i64, most: i64| most.abs_diff(least);
    let of_values = values.iter().min().zip(values.iter().max()).map_or(0, |(least, most)| spread(*least, *most));
    let steps = || values.iter().zip(values.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let of_steps = steps().min().zip(steps().max()).map_or(0, |(least, most)| spread(least, most));
    let is_smooth = of_steps < of_values / 2;
    let config = ChunkConfig::default();
    if is_smooth { config } else { config.with_delta_spec(DeltaSpec::NoOp) }
}

/// Returns all of a column's `rows` values.
pub(crate) fn decode(bytes: &[u8], rows: usize) -> Result<Vec<i64>> {
    let mut reader = IntReader::new(bytes, rows)?;
    let mut values = Vec::with_capacity(rows);
    while let Some(block) = reader.next()? {
        values.extend_from_slice(block);
    }
    Ok(values)
}

/// Reads a column block by block.
pub(crate) struct IntReader<'a> {
    source: Source<'a>,
    block: Block,
    rows_left: usize,
}

enum Source<'a> {
    Constant,
    Packed(Bytes<'a>),
    /// Decoded as a whole, and the rows that were handed out.
    Whole(Vec<i64>, usize),
}

impl<'a> IntReader<'a> {
    /// Begins to read a column of `rows` values, which are at most as many as the caller has room for.
    pub(crate) fn new(bytes: &'a [u8], rows: usize) -> Result<Self> {
        let mut bytes = Bytes(bytes);
        let mut block = [0; BLOCK];
        let source = match bytes.byte()? {
            CONSTANT => {
                block.fill(bytes.i64()?);
                Source::Constant
            }
            RUNS => Source::Whole(read_runs(&mut bytes, rows)?, 0),
            PACKED => Source::Packed(bytes),
            PCO => {
                let mut values = vec![0; rows];
                let progress = simple_decompress_into(bytes.0, &mut values)
                    .map_err(|err| broken("pco cannot decode it").with_source(err))?;
                if progress.n_processed != rows || !progress.finished {
                    return Err(broken(format!("it does not hold {rows} values")));
                }
                Source::Whole(values, 0)
            }
            other => return Err(broken(format!("encoding {other} of integers is not known to this release"))),
        };
        Ok(Self { source, block, rows_left: rows })
    }

    /// Returns the next values, 128 of them but at the end; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<&[i64]>> {
        let len = self.rows_left.min(BLOCK);
        if len == 0 {
            return Ok(None);
        }
        self.rows_left -= len;
        match &mut self.source {
            Source::Constant => {}
            Source::Packed(bytes) => pack::decode(bytes, len, &mut self.block)?,
            Source::Whole(values, done) => {
                let block = values.get(*done..*done + len);
                *done += len;
                return Ok(block);
            }
        }
        Ok(self.block.get(..len))
    }
}

fn read_runs(bytes: &mut Bytes<'_>, rows: usize) -> Result<Vec<i64>> {
    let mut values: Vec<i64> = Vec::with_capacity(rows);
    let mut value = 0_i64;
    while values.len() < rows {
        let len = usize::try_from(bytes.varint()?).unwrap_or(usize::MAX);
        value = value.wrapping_add(unzigzag(bytes.varint()?));
        if len == 0 || len > rows - values.len() {
            return Err(broken("its runs do not add up"));
        }
        values.resize(values.len() + len, value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[i64], codec: IntCodec) -> usize {
        let mut out = Vec::new();
        encode(values, codec, &mut out).unwrap();
        assert_eq!(decode(&out, values.len()).unwrap(), values);
        out.len()
    }

    #[test]
    fn each_form_is_used_where_it_is_short() {
        for codec in [IntCodec::Packed, IntCodec::Pco, IntCodec::Shorter] {
            assert_eq!(round_trip(&vec![42; 10_000], codec), 9);
            let runs: Vec<i64> =
                (0..10_000).map(|row| 1_700_000_000_000_000_000 + row / 390 * 86_400_000_000_000).collect();
            assert!(round_trip(&runs, codec) < 300);
            assert_eq!(round_trip(&[], codec), 1);
        }
        let noise: Vec<i64> = (0..1000_i64).map(|row| (row * 7919) % 101).collect();
        assert!(round_trip(&noise, IntCodec::Packed) < 1000);
    }

    #[test]
    fn the_shorter_form_is_packed_unless_pco_pays() {
        let form = |values: &[i64]| {
            let mut out = Vec::new();
            encode(values, IntCodec::Shorter, &mut out).unwrap();
            out[0]
        };
        // Evenly spread over a power of two, packed bits waste nothing; in steps of five, most of them.
        let spread = |row: i64| {
            let mixed = row.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56).cast_signed()
        };
        let even: Vec<i64> = (0..4096).map(spread).collect();
        let steps: Vec<i64> = (0..4096).map(|row| 5000 * (spread(row) / 32)).collect();
        assert_eq!((form(&even), form(&steps)), (PACKED, PCO));
        round_trip(&even, IntCodec::Shorter);
        let (packed, pco) = (round_trip(&steps, IntCodec::Packed), round_trip(&steps, IntCodec::Pco));
        assert!(2 * pco < packed);
        assert_eq!(round_trip(&steps, IntCodec::Shorter), pco);
    }

    proptest! {
        #[test]
        fn any_integers_come_back(
            values in prop::collection::vec(any::<i64>(), 0..600),
            shift in 0u32..64,
            codec in prop::sample::select(vec![IntCodec::Packed, IntCodec::Pco, IntCodec::Shorter]),
        ) {
            round_trip(&values.iter().map(|value| value >> shift).collect::<Vec<_>>(), codec);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), rows in 0usize..1000) {
            drop(decode(&bytes, rows));
        }
    }
}
