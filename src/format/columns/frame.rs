//! Columns of the same number of rows behind a directory, so that one can be read without the others.
//!
//! ```text
//! 0   u8   layout (1)
//! 1   u8   columns c
//! 2   u16  zero
//! 4   u32  rows
//! 8   c times: u8 name, three zero bytes, u32 bytes
//! ..  the columns in this order, no gaps
//! ```

use super::{Bytes, broken};
use crate::types::{
    error::{Error, ErrorKind, Result},
    limits::CHUNK_ROWS_MAX,
};

const LAYOUT: u8 = 1;

/// A frame in the making.
pub(crate) struct FrameWriter {
    rows: usize,
    columns: Vec<(u8, Vec<u8>)>,
}

impl FrameWriter {
    pub(crate) fn new(rows: usize) -> Result<Self> {
        if rows > CHUNK_ROWS_MAX {
            let message = format!("{rows} rows in one chunk exceed the limit of {CHUNK_ROWS_MAX}");
            return Err(Error::new(ErrorKind::LimitExceeded, "encode columns", "chunk", message));
        }
        Ok(Self { rows, columns: Vec::new() })
    }

    /// Adds a column under a name that the frame does not have yet.
    pub(crate) fn column(&mut self, name: u8, bytes: Vec<u8>) {
        self.columns.push((name, bytes));
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        let large = || Error::new(ErrorKind::LimitExceeded, "encode columns", "chunk", "a column exceeds 4 GiB");
        let total: usize = self.columns.iter().map(|(_, bytes)| 8 + bytes.len()).sum();
        let mut out = Vec::with_capacity(8 + total);
        out.extend_from_slice(&[LAYOUT, u8::try_from(self.columns.len()).map_err(|_| large())?, 0, 0]);
        out.extend_from_slice(&u32::try_from(self.rows).map_err(|_| large())?.to_le_bytes());
        for (name, bytes) in &self.columns {
            out.extend_from_slice(&[*name, 0, 0, 0]);
            out.extend_from_slice(&u32::try_from(bytes.len()).map_err(|_| large())?.to_le_bytes());
        }
        self.columns.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
        Ok(out)
    }
}

/// A frame in bytes.
pub(crate) struct Frame<'a> {
    pub(crate) rows: usize,
    columns: Vec<(u8, &'a [u8])>,
}

impl<'a> Frame<'a> {
    /// Reads the directory.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut bytes = Bytes(bytes);
        let [layout, count, zero, reserved] = bytes.take()?;
        if layout != LAYOUT || zero != 0 || reserved != 0 {
            return Err(broken(format!("layout {layout} of columns is not known to this release")));
        }
        let rows = bytes.u32()? as usize;
        if rows > CHUNK_ROWS_MAX {
            return Err(broken(format!("{rows} rows exceed the limit of {CHUNK_ROWS_MAX}")));
        }
        let mut directory = Vec::with_capacity(count.into());
        for _ in 0..count {
            let [name, _, _, _] = bytes.take()?;
            directory.push((name, bytes.u32()? as usize));
        }
        let columns = directory.into_iter().map(|(name, len)| Ok((name, bytes.slice(len)?))).collect::<Result<_>>()?;
        if !bytes.0.is_empty() {
            return Err(broken("bytes follow the last column"));
        }
        Ok(Self { rows, columns })
    }

    /// The bytes of a column that may not be there.
    pub(crate) fn find(&self, name: u8) -> Option<&'a [u8]> {
        self.columns.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
    }

    /// The bytes of a column that must be there.
    pub(crate) fn column(&self, name: u8) -> Result<&'a [u8]> {
        self.find(name).ok_or_else(|| broken(format!("column {name} is missing")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let mut writer = FrameWriter::new(3).unwrap();
        writer.column(7, vec![1, 2, 3]);
        writer.column(2, vec![]);
        let bytes = writer.finish().unwrap();
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!((frame.rows, frame.column(7).unwrap(), frame.find(2)), (3, &[1, 2, 3][..], Some(&[][..])));
        assert!(frame.column(1).is_err());
        for cut in 0..bytes.len() {
            assert!(Frame::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(FrameWriter::new(CHUNK_ROWS_MAX + 1).is_err());
    }

    #[test]
    fn more_rows_than_a_chunk_may_have_are_refused() {
        let with_rows = |rows: usize| [&[LAYOUT, 0, 0, 0][..], &u32::try_from(rows).unwrap().to_le_bytes()].concat();
        assert_eq!(Frame::parse(&with_rows(CHUNK_ROWS_MAX)).unwrap().rows, CHUNK_ROWS_MAX);
        assert!(Frame::parse(&with_rows(CHUNK_ROWS_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            drop(Frame::parse(&bytes));
        }
    }
}
