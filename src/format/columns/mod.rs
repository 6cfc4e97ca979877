//! Columns of numbers as bytes, without loss: integers bit-packed or in pco's form, doubles, and the frame that holds
//! several columns of the same length.
//!
//! Everything here is read from sealed values, so wrong bytes mean damage or another release; they give errors, take no
//! more memory than the number of rows allows, and never panic.

pub(crate) mod floats;
pub(crate) mod frame;
pub(crate) mod ints;
pub(crate) mod pack;
pub(crate) mod simd;
pub(crate) mod ticks;

use crate::types::error::Error;

fn broken(message: impl Into<String>) -> Error {
    Error::corrupt("decode columns", "column", message)
}

/// Takes fields off the front of a column.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self.0.split_first_chunk().ok_or_else(cut)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (front, rest) = self.0.split_at_checked(len).ok_or_else(cut)?;
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Error> {
        let [byte] = self.take()?;
        Ok(byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        self.take().map(i64::from_le_bytes)
    }

    /// An unsigned number of seven bits a byte, the lowest first (LEB128).
    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken("a number has too many bytes"))
    }
}

fn cut() -> Error {
    broken("it is cut short")
}

/// Writes what [`Bytes::varint`] reads.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes().first().unwrap_or(&0) | 0x80);
        value >>= 7;
    }
    out.extend(value.to_le_bytes().first());
}

/// Small numbers of either sign as small numbers without one.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
