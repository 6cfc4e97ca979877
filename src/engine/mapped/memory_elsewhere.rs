//! Where files are not mapped: everything is refused, and copied instead.

use std::{fs::File, io};

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

fn unsupported() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

pub(super) fn pointer<T>(at: usize) -> *mut T {
    std::ptr::with_exposed_provenance_mut(at)
}

pub(super) fn page_bytes() -> usize {
    usize::MAX
}

pub(super) fn map_file(_: &File, _: usize) -> io::Result<usize> {
    Err(unsupported())
}

/// # Safety
/// It touches nothing.
pub(super) unsafe fn map_over(_: usize, _: usize, _: &File, _: u64) -> io::Result<()> {
    Err(unsupported())
}

/// # Safety
/// It touches nothing.
pub(super) unsafe fn unmap(_: usize, _: usize) {}

pub(super) fn advise(_: usize, _: usize, _: Advice) -> io::Result<()> {
    Err(unsupported())
}

/// # Safety
/// It touches nothing.
pub(super) unsafe fn copy_over<G>(
    _: usize,
    _: usize,
    _: impl FnOnce(&mut [u8]) -> io::Result<()>,
    _: impl FnOnce() -> G,
) -> io::Result<G> {
    Err(unsupported())
}

/// # Safety
/// It touches nothing.
pub(super) unsafe fn restore(_: usize, _: usize, _: &File, _: u64) {}
