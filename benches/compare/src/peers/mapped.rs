//! A plain file in a map of memory: the limit of what any store can do, without being one.

#![allow(unsafe_code, reason = "a map of a file is unsafe by nature")]

use std::{fs::File, path::Path};

use anyhow::{Context, Result};
use memmap2::Mmap;

/// Opens and maps a file.
pub fn open(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    // SAFETY: the file is in a temporary folder of this program, which does not change it once it is written.
    let map = unsafe { Mmap::map(&file) };
    map.with_context(|| format!("{} cannot be mapped", path.display()))
}
