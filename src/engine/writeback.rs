//! Having the kernel begin to write to the disk what was written to a file, before a sync waits for it.

#![allow(unsafe_code, reason = "a system call that no crate makes safe; see `begin`")]

use std::{fs::File, io};

/// Has the kernel begin to write a part of the file to the disk. Nothing is durable by that: a sync has less to do.
///
/// An error of the disk is the sync's to report as well, whoever saw it first.
#[cfg(target_os = "linux")]
pub(super) fn begin(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(bytes)) = (offset.try_into(), bytes.try_into()) else {
        return Ok(());
    };
    // SAFETY: the call takes no memory, and the descriptor is open while `file` is borrowed.
    let answer = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE) };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The file system does not know of it: then the sync does all.
        Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn begin(_: &File, _: u64, _: u64) -> io::Result<()> {
    Ok(())
}
