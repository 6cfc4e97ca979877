//! Calls to the kernel about memory: maps of files, and memory that takes the place of a part of one.
//!
//! Addresses are numbers here, and become pointers where bytes are read ([`pointer`]).

#![allow(unsafe_code, reason = "each of these calls changes what addresses mean; see their comments")]

use std::{fs::File, io};

use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};

/// How a range is going to be read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Advice {
    /// A page here and a page there.
    Random,
    /// In order.
    Normal,
    /// All of it, soon.
    Populate,
}

/// The address as a pointer. What lies there was mapped by this module.
pub(super) fn pointer<T>(at: usize) -> *mut T {
    std::ptr::with_exposed_provenance_mut(at)
}

/// Bytes of a page of the system.
pub(super) fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Maps the first `len` bytes of a file for reading, shared with whoever writes it.
pub(super) fn map_file(file: &File, len: usize) -> io::Result<usize> {
    // SAFETY: the kernel chooses addresses that nothing else uses.
    let at = unsafe { mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
    Ok(at.expose_provenance())
}

/// Maps a part of a file over addresses that are mapped already, in one step.
///
/// # Safety
/// 1. The caller owns the addresses: they were part of a map of this very file, at this very offset.
/// 2. What lies in the file there is what is read there now, for those who read.
pub(super) unsafe fn map_over(at: usize, len: usize, file: &File, offset: u64) -> io::Result<()> {
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: by the contract nobody else's memory is replaced, and nobody's bytes change.
    unsafe { mm::mmap(pointer(at), len, ProtFlags::READ, flags, file, offset) }?;
    Ok(())
}

/// Gives addresses back.
///
/// # Safety
/// 1. The caller owns the addresses.
/// 2. Nobody reads there from here on.
pub(super) unsafe fn unmap(at: usize, len: usize) {
    if len == 0 {
        return;
    }
    // SAFETY: by the contract nobody meets the hole.
    if let Err(error) = unsafe { mm::munmap(pointer(at), len) } {
        // Addresses that stay mapped are harmless.
        tracing::warn!(%error, len, "a map is left to the end of the process");
    }
}

/// Tells the kernel how a range of a map is going to be read.
pub(super) fn advise(at: usize, len: usize, advice: Advice) -> io::Result<()> {
    let advice = match advice {
        Advice::Random => mm::Advice::Random,
        Advice::Normal => mm::Advice::Normal,
        #[cfg(target_os = "linux")]
        Advice::Populate => mm::Advice::LinuxPopulateRead,
        #[cfg(not(target_os = "linux"))]
        Advice::Populate => mm::Advice::WillNeed,
    };
    let start = at - at % page_bytes();
    // SAFETY: none of these changes what the bytes are.
    Ok(unsafe { mm::madvise(pointer(start), len + (at - start), advice) }?)
}

/// Bytes of a huge page, where there are any.
#[cfg(target_os = "linux")]
const HUGE_BYTES: usize = 2 << 20;

/// Puts private memory in the place of mapped pages, with the bytes that `fill` writes. `owner` is asked for right
/// before that, and kept until it is done: what it locks tells whose the addresses are.
///
/// The memory is moved there by `mremap(2)`, in one step. Fails where there is no such call; then, and whatever fails,
/// [`restore`] makes sure that the pages can still be read.
///
/// # Safety
/// 1. The caller owns the addresses: whole pages of a map.
/// 2. `fill` writes the very bytes that are read there, so that whoever reads there meanwhile does not notice.
#[cfg(target_os = "linux")]
pub(super) unsafe fn copy_over<G>(
    at: usize,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    owner: impl FnOnce() -> G,
) -> io::Result<G> {
    use rustix::mm::MremapFlags;
    // Huge pages can only be moved as such between addresses that are the same in their low bits.
    let spare = if len >= HUGE_BYTES { HUGE_BYTES } else { 0 };
    let mut whole = Scratch::new(len + spare)?;
    let skip = if spare == 0 { 0 } else { (at % HUGE_BYTES + HUGE_BYTES - whole.at % HUGE_BYTES) % HUGE_BYTES };
    let from = whole.at + skip;
    if spare > 0 {
        // SAFETY: advice does not change what the bytes are.
        let advised = unsafe { mm::madvise(pointer(from), len, mm::Advice::LinuxHugepage) };
        advised.unwrap_or_else(|error| tracing::debug!(%error, len, "no huge pages for this copy"));
    }
    // SAFETY: it is fresh memory, zeros, that nobody else knows of; the slice ends before it is moved.
    fill(unsafe { std::slice::from_raw_parts_mut(pointer(from), len) })?;
    // SAFETY: nobody writes to it from here on.
    unsafe { mm::mprotect(pointer(from), len, MprotectFlags::READ) }?;
    let (flags, end) = (MremapFlags::MAYMOVE, whole.at + whole.len);
    let owner = owner();
    // SAFETY: the source is the memory above; the target is the caller's, and holds the same bytes, by the contract: so
    // shared references to them stay good, because neither addresses nor bytes change.
    let moved = unsafe { mm::mremap_fixed(pointer(from), len, len, flags, pointer(at)) };
    if moved.is_ok() {
        // What was moved is not there any more; what lay around it is.
        // SAFETY: it is the rest of the memory above.
        unsafe { unmap(whole.at, from - whole.at) };
        // SAFETY: as above.
        unsafe { unmap(from + len, end - from - len) };
        whole.len = 0;
    }
    moved?;
    Ok(owner)
}

/// Elsewhere memory cannot be moved in one step.
///
/// # Safety
/// It touches nothing.
#[cfg(not(target_os = "linux"))]
pub(super) unsafe fn copy_over<G>(
    _: usize,
    _: usize,
    _: impl FnOnce(&mut [u8]) -> io::Result<()>,
    _: impl FnOnce() -> G,
) -> io::Result<G> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Maps the file again where a failed [`copy_over`] left a hole.
///
/// Linux looks at everything that can fail before it takes the target away, but for the memory of its own page tables;
/// without this a reader would then meet no memory at all.
///
/// # Safety
/// As for [`map_over`].
pub(super) unsafe fn restore(at: usize, len: usize, file: &File, offset: u64) {
    // SAFETY: it asks whether all of it is mapped, and changes nothing.
    if unsafe { mm::msync(pointer(at), len, mm::MsyncFlags::ASYNC) }.is_ok() {
        return;
    }
    // SAFETY: the contract is the same.
    match unsafe { map_over(at, len, file, offset) } {
        Ok(()) => tracing::error!("pages that were in use had to be mapped again"),
        Err(error) => tracing::error!(%error, "pages that are in use cannot be mapped again"),
    }
}

/// Fresh private memory, zeros.
#[cfg(target_os = "linux")]
struct Scratch {
    at: usize,
    len: usize,
}

#[cfg(target_os = "linux")]
impl Scratch {
    fn new(len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses addresses that nothing else uses.
        let at = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE) }?;
        Ok(Self { at: at.expose_provenance(), len })
    }
}

#[cfg(target_os = "linux")]
impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: nobody else knows of it.
        unsafe { unmap(self.at, self.len) };
    }
}
