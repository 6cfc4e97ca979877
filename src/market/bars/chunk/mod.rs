//! A chunk of bars as bytes: timestamps, prices and volume in columns, each in the form that is short for it.
//!
//! Prices are integers (see [`ticks`](crate::format::columns::ticks)): the close less the close before, the open less
//! the close before, the high above the body of the bar and the low below it, all of them small numbers. So a close
//! needs the closes before it, an open the closes, and high and low all three. Rows that no integer can stand for,
//! because a value is not finite or a negative zero, are kept beside as they are; a chunk whose prices are no decimals
//! keeps doubles.
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

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(crate) use decode::{append, append_field, decode};
pub(crate) use encode::encode;

use crate::{
    format::columns::{Bytes, frame::Frame, ticks::Scale},
    market::bars::columns::Columns,
    types::{
        error::{Error, Result},
        hash::Digest,
    },
};

/// Rows of a chunk, in order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) bars: Columns,
    /// When each row was stored, nanoseconds.
    pub(crate) recorded_at: Vec<i64>,
    /// When each row was superseded; none in a chunk that is current.
    pub(crate) superseded_at: Vec<i64>,
}

const HEAD: u8 = 0;
const TIME: u8 = 1;
const OPEN: u8 = 2;
const HIGH: u8 = 3;
const LOW: u8 = 4;
const CLOSE: u8 = 5;
const VOLUME: u8 = 6;
const RECORDED_AT: u8 = 7;
const FLAWS: u8 = 8;
const SUPERSEDED_AT: u8 = 9;
const EXCEPTIONS: u8 = 10;

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
