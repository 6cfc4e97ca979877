//! A column of doubles that are no multiples of anything: as they are, or in pco's form where that is shorter.

use pco::{
    ChunkConfig,
    standalone::{simple_compress, simple_decompress_into},
};

use super::{Bytes, broken};
use crate::types::{error::Result, invariant::Invariant};

const CONSTANT: u8 = 0;
const RAW: u8 = 1;
const PCO: u8 = 2;

/// Appends `values`, whatever their bits.
pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let bits = |value: &f64| value.to_bits();
    match values.first() {
        Some(first) if values.iter().all(|value| bits(value) == bits(first)) => {
            out.push(CONSTANT);
            out.extend_from_slice(&first.to_le_bytes());
            return;
        }
        _ => {}
    }
    // pco is asked to decode what it encoded: a value that does not come back bit for bit costs space, not truth.
    let packed = simple_compress(values, &ChunkConfig::default()).ok().filter(|packed| {
        let mut back = vec![0.0; values.len()];
        packed.len() < 7 * values.len()
            && simple_decompress_into(packed, &mut back).is_ok()
            && back.iter().map(bits).eq(values.iter().map(bits))
    });
    match packed {
        Some(packed) => {
            out.push(PCO);
            out.extend_from_slice(&packed);
        }
        None => {
            out.push(RAW);
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        }
    }
}

/// Appends a column's `rows` values to `out`.
pub(crate) fn decode(bytes: &[u8], rows: usize, out: &mut Vec<f64>) -> Result<()> {
    let mut bytes = Bytes(bytes);
    match bytes.byte()? {
        CONSTANT => out.resize(out.len() + rows, f64::from_le_bytes(bytes.take()?)),
        RAW => {
            let (values, rest) = bytes.0.as_chunks();
            if values.len() != rows || !rest.is_empty() {
                return Err(broken(format!("{} bytes do not make {rows} doubles", bytes.0.len())));
            }
            out.extend(values.iter().map(|value| f64::from_le_bytes(*value)));
        }
        PCO => {
            let start = out.len();
            out.resize(start + rows, 0.0);
            let progress =
                simple_decompress_into(bytes.0, out.get_mut(start..).always("it was made longer by the rows"))
                    .map_err(|err| broken("pco cannot decode it").with_source(err))?;
            if progress.n_processed != rows || !progress.finished {
                return Err(broken(format!("it does not hold {rows} values")));
            }
        }
        other => return Err(broken(format!("encoding {other} of doubles is not known to this release"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_bits_come_back(bits in prop::collection::vec(any::<u64>(), 0..400), decimal in any::<bool>()) {
            let number = |bits: u64| if decimal { (bits % 100_000) as f64 / 100.0 } else { f64::from_bits(bits) };
            let values: Vec<f64> = bits.into_iter().map(number).collect();
            let mut out = Vec::new();
            encode(&values, &mut out);
            let mut back = Vec::new();
            decode(&out, values.len(), &mut back).unwrap();
            prop_assert!(back.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), rows in 0usize..1000) {
            drop(decode(&bytes, rows, &mut Vec::new()));
        }
    }
}
