//! Asking the processor for memory that is going to be read soon.

#![allow(unsafe_code, reason = "a hint about an address; see `line`")]

/// Bytes of a cache line.
pub(crate) const LINE_BYTES: usize = 64;

/// Has the processor fetch the cache line at an address, where there is a way to ask for it. Nothing else happens: an
/// address that is not mapped, or not in memory, is left alone.
#[inline(always)]
#[allow(clippy::inline_always, reason = "a part of the hot path")]
pub(crate) fn line(at: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::{
            arch::x86_64::{_MM_HINT_T0, _mm_prefetch},
            ptr,
        };
        // SAFETY: a prefetch reads nothing as far as the program can tell, so that the address may be any.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::without_provenance(at)) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _: usize = at;
}
