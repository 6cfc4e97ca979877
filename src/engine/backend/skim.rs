//! Reading no more of a page than redb needs.
//!
//! To remove a large archive, or to insert one beside it, redb reads the page that the old one lies in: as much as the
//! archive has, for the few bytes in front that say which key it is and where it ends. While a [`Skim`] lives, such a
//! page is read as far as that, and zeros stand for the rest.
//!
//! That is sound for a page that redb neither copies nor keeps. It copies no leaf that holds one value of a page or
//! more, when it removes it or inserts beside it; and it keeps no page that is larger than its cache.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The front of a page that is read in any case: head, end of the value, and key lie in it.
const FRONT_BYTES: usize = 4096;
/// What the first byte of a leaf is.
const LEAF: u8 = 1;

/// How many callers want no more than the fronts.
#[derive(Debug, Default)]
pub(super) struct Skims(AtomicUsize);

/// As long as it lives, large leaves are read in part.
#[must_use]
pub(in crate::engine) struct Skim<'a>(&'a Skims);

impl Skims {
    pub(super) fn begin(&self) -> Skim<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        Skim(self)
    }

    /// Reads `out.len()` bytes at `offset` with `read`, or as much of them as matters. redb keeps up to `kept_bytes`.
    pub(super) fn read(
        &self,
        kept_bytes: usize,
        offset: u64,
        out: &mut [u8],
        read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) == 0 || out.len() <= kept_bytes.max(FRONT_BYTES) {
            return read(offset, out);
        }
        let (front, rest) = out.split_at_mut(FRONT_BYTES);
        read(offset, front)?;
        // Its pairs are counted in the third and the fourth byte.
        match front {
            [LEAF, _, 1, 0, ..] => {
                rest.fill(0);
                Ok(())
            }
            _ => read(offset + FRONT_BYTES as u64, rest),
        }
    }
}

impl Drop for Skim<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Bytes that are read, at which offsets, of a page with this front; and whether the rest of it came.
    fn read(skims: &Skims, front: [u8; 4], kept_bytes: usize, len: usize) -> (Vec<(u64, usize)>, bool) {
        let (read, mut out) = (RefCell::new(Vec::new()), vec![9; len]);
        let page = |offset: u64, out: &mut [u8]| {
            read.borrow_mut().push((offset, out.len()));
            out.fill(7);
            if offset == 100 {
                out[..4].copy_from_slice(&front);
            }
            Ok(())
        };
        skims.read(kept_bytes, 100, &mut out, page).unwrap();
        let rest = out.last() == Some(&7);
        assert!(rest || out[FRONT_BYTES..].iter().all(|&byte| byte == 0), "what is not read is zero");
        (read.into_inner(), rest)
    }

    #[test]
    fn only_a_large_leaf_with_one_value_is_read_in_part_and_only_while_that_is_asked_for() {
        let (skims, large, one) = (Skims::default(), 1 << 20, [LEAF, 0, 1, 0]);
        let whole = (vec![(100, large)], true);
        let in_two = (vec![(100, FRONT_BYTES), (100 + FRONT_BYTES as u64, large - FRONT_BYTES)], true);
        assert_eq!(read(&skims, one, 0, large), whole, "nobody asked for less");
        let skim = skims.begin();
        assert_eq!(read(&skims, one, 8192, large), (vec![(100, FRONT_BYTES)], false));
        assert_eq!(read(&skims, [LEAF, 0, 2, 0], 8192, large), in_two, "two values");
        assert_eq!(read(&skims, [LEAF, 0, 1, 1], 8192, large), in_two, "257 values");
        assert_eq!(read(&skims, [2, 0, 1, 0], 8192, large), in_two, "a branch");
        assert_eq!(read(&skims, one, large, large), whole, "redb would keep it");
        assert_eq!(read(&skims, one, 0, FRONT_BYTES), (vec![(100, FRONT_BYTES)], true), "there is no more of it");
        drop(skim);
        assert_eq!(read(&skims, one, 0, large), whole, "it is over");
    }
}
