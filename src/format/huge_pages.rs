//! Asking the kernel for huge pages under memory that is about to be used: their first touch runs several times faster,
//! and a processor knows the places of more of them.

#![allow(unsafe_code, reason = "advice about memory; see `advise`")]

/// Asks for huge pages under `bytes` from `start` on, which need be nobody's: it is an address. Where there are none,
/// everything works the same, only slower.
pub(crate) fn advise(start: *mut u8, bytes: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        /// Bytes of a huge page.
        const HUGE_BYTES: usize = 2 << 20;

        if bytes < HUGE_BYTES {
            return;
        }
        // Whole pages: an allocator that has memory of this size from the kernel puts a few bytes before it.
        let before = start.addr() & (rustix::param::page_size() - 1);
        let (start, bytes) = (start.map_addr(|at| at - before), bytes + before);
        // SAFETY: the advice changes neither what is mapped nor what is in it, whosever memory this is.
        let advised = unsafe { rustix::mm::madvise(start.cast(), bytes, rustix::mm::Advice::LinuxHugepage) };
        // Nothing is said when there are none: callers hold locks here, and what must not unwind.
        let _: rustix::io::Result<()> = advised;
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _: (*mut u8, usize) = (start, bytes);
}
