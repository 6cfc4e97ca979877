//! The stamp: one row that says "this is a store" and in which format, readable by every release.
//!
//! ```text
//! 0   16  "modelkeep store\0"
//! 16   4  format version (2)
//! 20  12  zero
//! 32  32  BLAKE3 of the 32 bytes above
//! ```
//!
//! It is the one value that is not sealed, because a seal may change with the format and this row never does.

use crate::types::{
    error::{Error, ErrorKind, Result},
    invariant::Invariant,
};

/// The key of the stamp in the table `store`.
pub(super) const KEY: &[u8] = b"stamp";

/// The format that this release writes, and the newest that it reads.
const FORMAT: u32 = 2;
const MAGIC: [u8; 16] = *b"modelkeep store\0";

/// Returns the stamp of a file in this release's format.
pub(super) fn write() -> [u8; 64] {
    encode(FORMAT)
}

fn encode(format: u32) -> [u8; 64] {
    let mut head = [0; 32];
    let fields = MAGIC.into_iter().chain(format.to_le_bytes());
    head.iter_mut().zip(fields).for_each(|(out, byte)| *out = byte);
    let hash: [u8; 32] = blake3::hash(&head).into();
    let mut stamp = [0; 64];
    stamp.iter_mut().zip(head.into_iter().chain(hash)).for_each(|(out, byte)| *out = byte);
    stamp
}

/// Whether these are the bytes of a stamp, of whatever format.
pub(super) fn is_whole(stamp: &[u8]) -> bool {
    stamp.split_first_chunk::<32>().is_some_and(|(head, hash)| {
        head.starts_with(&MAGIC) && stamp.len() == 64 && blake3::hash(head).as_bytes() == hash
    })
}

/// Whether a file has the format that this release writes, or an older one that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Current,
    Older,
}

/// Checks the stamp of the file `subject`.
pub(super) fn check(subject: &str, stamp: &[u8]) -> Result<Age> {
    let error = |kind, message: String| Err(Error::new(kind, "open", subject, message));
    let Some((head, hash)) = stamp.split_first_chunk::<32>() else {
        return error(ErrorKind::NotAStore, "it is a redb file of another program".into());
    };
    let Some((magic, rest)) = head.split_first_chunk::<16>() else {
        unreachable!("32 bytes hold 16");
    };
    if blake3::hash(head).as_bytes() != hash {
        return if *magic == MAGIC {
            error(ErrorKind::Corrupt, "the stamp that says which format it has is damaged".into())
        } else {
            error(ErrorKind::NotAStore, "it is a redb file of another program".into())
        };
    }
    let format = u32::from_le_bytes(*rest.first_chunk().always("the stamp was cut to its length above"));
    match format {
        _ if *magic != MAGIC => error(ErrorKind::NotAStore, "it is a redb file of another program".into()),
        FORMAT => Ok(Age::Current),
        // Small archives lay beside large ones, and losses were not noted.
        1 => Ok(Age::Older),
        0 => error(ErrorKind::Corrupt, "the stamp names format 0, which does not exist".into()),
        newer => error(
            ErrorKind::NewerFormat,
            format!("it has format {newer}, this release reads up to {FORMAT}; upgrade modelkeep"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_today_tomorrow_and_elsewhere_are_told_apart() {
        assert_eq!(check("f", &write()).unwrap(), Age::Current);
        assert_eq!(check("f", &encode(1)).unwrap(), Age::Older);
        assert_eq!(check("f", &encode(3)).unwrap_err().kind(), ErrorKind::NewerFormat);
        assert_eq!(check("f", b"").unwrap_err().kind(), ErrorKind::NotAStore);
        assert_eq!(check("f", &[7; 64]).unwrap_err().kind(), ErrorKind::NotAStore);
    }

    #[test]
    fn a_damaged_stamp_is_never_taken_for_another_format() {
        for bit in 0..512 {
            let mut stamp = write();
            stamp[bit / 8] ^= 1 << (bit % 8);
            let kind = check("f", &stamp).unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::NotAStore), "bit {bit}: {kind:?}");
        }
    }
}
