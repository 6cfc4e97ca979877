//! Branches that were verified, kept in memory: walks to many keys go through the same few of them.
//!
//! A branch is known by its page *and* its checksum, as its parent names it. What is kept is a copy, and it is the copy
//! that had this checksum: so it is the branch of every commit that names it, whatever becomes of the page in the file.
//! Nothing is ever replaced. Later commits share what was kept until it is half full, which begins anew: most of it is
//! of commits long gone by then.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use super::page::Root;

/// Branches that are kept at most; a power of two.
const SLOTS: usize = 1024;
/// Slots in which a branch may be.
const PROBES: usize = 4;
/// Branches that are read before any is kept: to make the slots takes as long as reading some, and a process that gets
/// one model reads a few.
const READ_FIRST: usize = 16;
/// Bytes of a branch that is kept at most. Those of keys of usual length have a page of 4 KiB.
const BYTES_MAX: usize = 8 << 10;

struct Branch {
    root: Root,
    bytes: Box<[u8]>,
}

/// The place of a branch that is not kept yet.
pub(super) struct Vacancy<'a> {
    slot: &'a OnceLock<Branch>,
    taken: &'a AtomicUsize,
}

/// What is kept. The slots are made when some branches were read: a small store has none.
#[derive(Default)]
pub(in crate::engine) struct Branches {
    slots: OnceLock<Box<[OnceLock<Branch>]>>,
    taken: AtomicUsize,
    /// Up to as many as are read first.
    read: AtomicUsize,
}

impl Branches {
    /// Whether there is little room left.
    pub(in crate::engine) fn is_crowded(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > SLOTS / 2
    }

    /// The bytes of a branch, as far as its checksum covers them.
    pub(super) fn get(&self, root: Root) -> Option<&[u8]> {
        let kept = probes(self.slots.get()?, root).map_while(OnceLock::get);
        kept.into_iter().find(|kept| kept.root == root).map(|kept| &*kept.bytes)
    }

    /// Where a branch of so many bytes can be kept, if there is room for it.
    pub(super) fn vacancy(&self, root: Root, bytes: usize) -> Option<Vacancy<'_>> {
        if bytes > BYTES_MAX {
            return None;
        }
        if self.read.load(Ordering::Relaxed) < READ_FIRST {
            self.read.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| OnceLock::new()).collect());
        let slot = probes(slots, root).find(|slot| slot.get().is_none())?;
        Some(Vacancy { slot, taken: &self.taken })
    }
}

impl Vacancy<'_> {
    /// Keeps the bytes of a branch, which were verified.
    pub(super) fn keep(self, root: Root, bytes: Box<[u8]>) {
        if self.slot.set(Branch { root, bytes }).is_ok() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The slots of a branch, in the order in which they are taken. A checksum is as good as a hash.
fn probes(slots: &[OnceLock<Branch>], root: Root) -> impl Iterator<Item = &OnceLock<Branch>> {
    let home = usize::try_from(root.checksum % SLOTS as u128).unwrap_or(0);
    (home..home + PROBES).filter_map(|at| slots.get(at % SLOTS))
}

#[cfg(test)]
mod tests {
    use super::{super::page::PageNumber, *};

    fn root(page: u64, checksum: u128) -> Root {
        Root { page: PageNumber::new(page).unwrap(), checksum }
    }

    /// Of which some were read.
    fn begun() -> Branches {
        let branches = Branches::default();
        assert!((0..READ_FIRST).all(|_| branches.vacancy(root(1, 1), 1).is_none()), "nothing is kept at first");
        branches
    }

    fn keep(branches: &Branches, root: Root, byte: u8) -> bool {
        let vacancy = branches.vacancy(root, 1);
        vacancy.map(|vacancy| vacancy.keep(root, [byte].into())).is_some()
    }

    #[test]
    fn a_branch_is_known_by_its_page_and_its_checksum() {
        let branches = begun();
        assert!(branches.get(root(1, 7)).is_none());
        assert!(keep(&branches, root(1, 7), 1) && keep(&branches, root(2, 7), 2));
        assert!(keep(&branches, root(1, 7 + SLOTS as u128), 3));
        assert_eq!(branches.get(root(1, 7)), Some(&[1][..]));
        assert_eq!(branches.get(root(2, 7)), Some(&[2][..]));
        assert_eq!(branches.get(root(1, 7 + SLOTS as u128)), Some(&[3][..]));
        assert!(branches.get(root(1, 7 + 2 * SLOTS as u128)).is_none() && branches.get(root(3, 7)).is_none());
    }

    #[test]
    fn what_finds_no_room_is_not_kept_and_nothing_goes_for_it() {
        let branches = begun();
        assert!((0..PROBES as u64).all(|page| keep(&branches, root(page, 9), page as u8)));
        assert!(!keep(&branches, root(99, 9), 99) && branches.vacancy(root(5, 500), BYTES_MAX + 1).is_none());
        assert!((0..PROBES as u64).all(|page| branches.get(root(page, 9)) == Some(&[page as u8][..])));
        assert!(!branches.is_crowded());
        let more = (0..SLOTS as u64).filter(|&n| keep(&branches, root(n, u128::from(n)), 0)).count();
        assert!(more >= SLOTS - PROBES);
        assert!(branches.is_crowded());
    }
}
