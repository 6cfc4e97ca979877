//! Pages of redb's B-trees: where they are, and what is in them.
//! (redb 4.5, `docs/design.md`, "B+tree pages".)
//!
//! A [`Branch`] or [`Leaf`] borrows the bytes of one page, or of the front of one: a large value need not be read for
//! its key. Every offset in it is checked when it is used.

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use twox_hash::XxHash3_128;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Broken,
    bytes::{array, offset_at, u16_at, u64_at, u128_at},
};

/// Pages that are hashed before it is asked what the processor can do. On a virtual machine the answer takes as long as
/// some hundred pages, and a process that opens a store for one model hashes a dozen.
const HASHED_UNASKED: u32 = 512;

/// redb's checksum of a page or a slot.
pub(super) fn checksum(bytes: &[u8]) -> u128 {
    static HASHED: AtomicU32 = AtomicU32::new(0);
    if HASHED.load(Ordering::Relaxed) < HASHED_UNASKED {
        HASHED.fetch_add(1, Ordering::Relaxed);
        return xxh3_128(bytes);
    }
    XxHash3_128::oneshot(bytes)
}

/// The sizes that are fixed when a file is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Geometry {
    page_bytes: u64,
    region_header_pages: u64,
    region_pages_max: u64,
}

impl Geometry {
    /// Bytes of the smallest page.
    pub(super) fn page_bytes(self) -> u64 {
        self.page_bytes
    }

    /// Bytes of a file with so many full regions, and so many pages in one more.
    pub(in crate::engine) fn file_bytes(self, full_regions: u32, trailing_pages: u32) -> u64 {
        // Each of them has at most 32 bits, so the sums fit; the products may not.
        let trailing = if trailing_pages > 0 { self.region_header_pages + u64::from(trailing_pages) } else { 0 };
        let region = self.region_header_pages + self.region_pages_max;
        u64::from(full_regions).saturating_mul(region).saturating_add(1 + trailing).saturating_mul(self.page_bytes)
    }
}

/// Pages of a region at most: their index has 20 bits.
const REGION_PAGES_MAX: u32 = 1 << 20;

impl Geometry {
    pub(super) fn new(page_bytes: u32, region_header_pages: u32, region_pages_max: u32) -> Result<Self, Broken> {
        let page_is_sound = page_bytes.is_power_of_two() && (512..=1 << 16).contains(&page_bytes);
        let region_is_sound = (1..=REGION_PAGES_MAX).contains(&region_pages_max);
        if !page_is_sound || !region_is_sound || region_header_pages > REGION_PAGES_MAX {
            return Err(Broken("the sizes of pages and regions are impossible"));
        }
        Ok(Self {
            page_bytes: page_bytes.into(),
            region_header_pages: region_header_pages.into(),
            region_pages_max: region_pages_max.into(),
        })
    }

    /// Where a page lies in the file.
    pub(in crate::engine) fn range(&self, page: PageNumber) -> Result<Range<u64>, Broken> {
        let outside = Broken("a page number points out of its region");
        // At most 2^20 pages of 2^16 bytes in a region and 2^20 regions: nothing below overflows 64 bits.
        let end =
            (page.index + 1).checked_shl(page.order).filter(|&end| end <= self.region_pages_max).ok_or(outside)?;
        let length = self.page_bytes << page.order;
        let region_bytes = (self.region_header_pages + self.region_pages_max) * self.page_bytes;
        let first_page = self.page_bytes + page.region * region_bytes + self.region_header_pages * self.page_bytes;
        let end = first_page + end * self.page_bytes;
        Ok(end - length..end)
    }
}

/// The number of a page: region, index in it, and size as a power of two of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct PageNumber {
    region: u64,
    index: u64,
    order: u32,
}

impl PageNumber {
    pub(super) fn new(number: u64) -> Result<Self, Broken> {
        let order = (number >> 59) as u32;
        if order > 20 {
            return Err(Broken("a page number has an impossible size"));
        }
        // Bits of the index that its order leaves no room for are reserved, and to be ignored.
        Ok(Self { region: number >> 20 & 0x000f_ffff, index: number & (0x000f_ffff >> order), order })
    }
}

/// A page and the checksum that its parent has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Root {
    pub(in crate::engine) page: PageNumber,
    pub(in crate::engine) checksum: u128,
}

impl Root {
    /// Reads a page number and the checksum behind it.
    pub(super) fn read(bytes: &[u8], at: usize) -> Result<Self, Broken> {
        let page = PageNumber::new(u64_at(bytes, at)?)?;
        Ok(Self { page, checksum: u128_at(bytes, at + NUMBER_BYTES)? })
    }
}

/// The width that all keys, or all values, have, if they have the same one.
pub(in crate::engine) type Width = Option<usize>;

/// A page of either kind.
pub(super) enum Node<'a> {
    Branch(Branch<'a>),
    Leaf(Leaf<'a>),
}

impl<'a> Node<'a> {
    /// Takes the bytes of a page of `page_bytes`, or of its front.
    #[inline]
    pub(super) fn new(page: &'a [u8], page_bytes: u64, key: Width, value: Width) -> Result<Self, Broken> {
        let count = usize::from(u16_at(page, 2)?);
        if count == 0 {
            return Err(Broken("a page is empty"));
        }
        match array(page, 0)? {
            [1] => Ok(Self::Leaf(Leaf { page, page_bytes, count, key, value })),
            [2] => Ok(Self::Branch(Branch { page, count, key })),
            _ => Err(Broken("a page is neither branch nor leaf")),
        }
    }

    /// How many bytes from the front on are needed, as far as these bytes can tell: for all keys, or for everything
    /// that the page's checksum covers.
    #[inline]
    pub(super) fn needed(&self, part: Part) -> Result<usize, Broken> {
        match (self, part) {
            (Self::Branch(branch), _) => {
                let table = branch.keys_start();
                if branch.page.len() < table { Ok(table) } else { branch.key_end(branch.count - 1) }
            }
            (Self::Leaf(leaf), _) if leaf.page.len() < leaf.keys_start() => Ok(leaf.keys_start()),
            (Self::Leaf(leaf), Part::Keys) => leaf.key_end(leaf.count - 1),
            (Self::Leaf(leaf), Part::All) => leaf.value_end(leaf.count - 1),
        }
    }

    /// The bytes that the checksum of this page covers.
    pub(super) fn covered(&self) -> Result<&'a [u8], Broken> {
        let page = match self {
            Self::Branch(branch) => branch.page,
            Self::Leaf(leaf) => leaf.page,
        };
        page.get(..self.needed(Part::All)?).ok_or(Broken("the last entry ends outside its page"))
    }
}

/// Which part of a page is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All keys, and where the values lie.
    Keys,
    /// Everything.
    All,
}

/// A branch: `count` keys and one child more.
pub(super) struct Branch<'a> {
    page: &'a [u8],
    count: usize,
    key: Width,
}

const BRANCH_HEAD: usize = 8;
const CHECKSUM_BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;

impl<'a> Branch<'a> {
    pub(super) fn keys(&self) -> usize {
        self.count
    }

    /// The child of this number, from 0 to the number of keys.
    #[inline]
    pub(super) fn child(&self, n: usize) -> Result<Root, Broken> {
        if n > self.count {
            return Err(Broken("a branch has no such child"));
        }
        let numbers = BRANCH_HEAD + CHECKSUM_BYTES * (self.count + 1);
        let page = PageNumber::new(u64_at(self.page, numbers + NUMBER_BYTES * n)?)?;
        Ok(Root { page, checksum: u128_at(self.page, BRANCH_HEAD + CHECKSUM_BYTES * n)? })
    }

    /// The key of this number: not below any key in the child before it.
    pub(super) fn key(&self, n: usize) -> Result<&'a [u8], Broken> {
        let start = match n.checked_sub(1) {
            None => self.keys_start(),
            Some(before) => self.key_end(before)?,
        };
        self.page.get(start..self.key_end(n)?).ok_or(Broken("a key lies outside its page"))
    }

    fn ends_start(&self) -> usize {
        BRANCH_HEAD + (CHECKSUM_BYTES + NUMBER_BYTES) * (self.count + 1)
    }

    fn keys_start(&self) -> usize {
        self.ends_start() + if self.key.is_none() { 4 * self.count } else { 0 }
    }

    fn key_end(&self, n: usize) -> Result<usize, Broken> {
        match self.key {
            Some(width) => Ok(self.keys_start() + width * (n + 1)),
            None => offset_at(self.page, self.ends_start() + 4 * n),
        }
    }
}

/// A leaf: `count` pairs, keys first.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Leaf<'a> {
    page: &'a [u8],
    page_bytes: u64,
    count: usize,
    key: Width,
    value: Width,
}

const LEAF_HEAD: usize = 4;

impl<'a> Leaf<'a> {
    pub(in crate::engine) fn pairs(&self) -> usize {
        self.count
    }

    /// Bytes of all keys and values.
    pub(in crate::engine) fn bytes(&self) -> Result<usize, Broken> {
        Ok(self.value_end(self.count - 1)?.saturating_sub(self.keys_start()))
    }

    #[inline]
    pub(in crate::engine) fn key(&self, n: usize) -> Result<&'a [u8], Broken> {
        let start = match n.checked_sub(1) {
            None => self.keys_start(),
            Some(before) => self.key_end(before)?,
        };
        self.page.get(start..self.key_end(n)?).ok_or(Broken("a key lies outside its page"))
    }

    /// Where the value of this number lies in the page.
    #[inline]
    pub(in crate::engine) fn value_range(&self, n: usize) -> Result<Range<usize>, Broken> {
        let start = match n.checked_sub(1) {
            None => self.key_end(self.count - 1)?,
            Some(before) => self.value_end(before)?,
        };
        let end = self.value_end(n)?;
        if start > end || end as u64 > self.page_bytes {
            return Err(Broken("a value lies outside its page"));
        }
        Ok(start..end)
    }

    /// The value of this number.
    #[inline]
    pub(in crate::engine) fn value(&self, n: usize) -> Result<&'a [u8], Broken> {
        self.page.get(self.value_range(n)?).ok_or(Broken("a value lies outside its page"))
    }

    fn keys_start(&self) -> usize {
        let ends = usize::from(self.key.is_none()) + usize::from(self.value.is_none());
        LEAF_HEAD + 4 * self.count * ends
    }

    fn key_end(&self, n: usize) -> Result<usize, Broken> {
        match self.key {
            Some(width) => Ok(self.keys_start() + width * (n + 1)),
            None => offset_at(self.page, LEAF_HEAD + 4 * n),
        }
    }

    fn value_end(&self, n: usize) -> Result<usize, Broken> {
        match self.value {
            Some(width) => Ok(self.key_end(self.count - 1)? + width * (n + 1)),
            None => {
                let ends = LEAF_HEAD + if self.key.is_none() { 4 * self.count } else { 0 };
                offset_at(self.page, ends + 4 * n)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lie_where_redb_puts_them() {
        let geometry = Geometry::new(4096, 1, 1000).unwrap();
        let range = |region: u64, index: u64, order: u64| {
            geometry.range(PageNumber::new(order << 59 | region << 20 | index).unwrap())
        };
        // The super-header takes a page, the region's header another.
        assert_eq!(range(0, 0, 0).unwrap(), 2 * 4096..3 * 4096);
        assert_eq!(range(0, 3, 1).unwrap(), 8 * 4096..10 * 4096);
        assert_eq!(range(2, 5, 0).unwrap(), (1 + 2 * 1001 + 1 + 5) * 4096..(1 + 2 * 1001 + 1 + 6) * 4096);
        assert!(range(0, 999, 0).is_ok());
        assert!(range(0, 1000, 0).is_err() && range(0, 500, 1).is_err());
    }

    #[test]
    fn a_page_has_one_checksum_however_it_is_computed() {
        let bytes: Vec<u8> = (0..9000_u32).map(|i| (i * 7 % 251) as u8).collect();
        for len in (0..600).chain([1023, 1024, 1025, 4096, 8999]) {
            assert_eq!(xxh3_128(&bytes[..len]), XxHash3_128::oneshot(&bytes[..len]), "{len} bytes");
        }
    }

    #[test]
    fn impossible_geometries_and_numbers_are_refused() {
        assert!(Geometry::new(4095, 0, 10).is_err());
        assert!(Geometry::new(256, 0, 10).is_err());
        assert!(Geometry::new(4096, 0, 0).is_err());
        assert!(Geometry::new(4096, u32::MAX, 10).is_err());
        assert!(Geometry::new(4096, 0, u32::MAX).is_err());
        assert!(PageNumber::new(21 << 59).is_err());
        let widest = Geometry::new(1 << 16, 1 << 20, 1 << 20).unwrap();
        assert!(widest.range(PageNumber::new(0x000f_ffff << 20 | 0x000f_ffff).unwrap()).is_ok());
    }
}
