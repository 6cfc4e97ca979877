//! Writing: a file appears under its name when it is whole, and on the disk.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use crate::types::error::{Error, ErrorKind, Result};

/// Writes a file by way of another one, which takes its name in the end.
pub(crate) fn write_whole(
    operation: &'static str,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let temporary = temporary(path);
    let written = File::create_new(&temporary).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, path)
    });
    written.map_err(|err| {
        // A file of another name that was there before is not ours to remove.
        if err.kind() != io::ErrorKind::AlreadyExists {
            drop(fs::remove_file(&temporary));
        }
        failed(operation, path, err)
    })
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

/// The error for what the operating system says.
pub(super) fn failed(operation: &'static str, path: &Path, err: io::Error) -> Error {
    let kind = match err.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::StorageFull => ErrorKind::StorageFull,
        _ => ErrorKind::Io,
    };
    Error::new(kind, operation, path.display().to_string(), err.to_string()).with_source(err)
}
