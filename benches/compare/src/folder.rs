//! Where the files of a measurement live, how much they take on the disk, and how the OS forgets them.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise, sync};
use tempfile::TempDir;

/// Makes a folder inside `parent`, or inside the system's folder for temporary files; it is removed in the end.
pub fn temporary(parent: Option<&Path>) -> Result<TempDir> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
    if !parent.is_dir() {
        bail!("{} is not a folder", parent.display());
    }
    let named = tempfile::Builder::new().prefix("compare-").tempdir_in(&parent);
    named.with_context(|| format!("no folder can be made in {}", parent.display()))
}

/// Makes a folder and returns its path.
pub fn make(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    Ok(path)
}

/// All files at or below `path`.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        found.extend(files(&entry?.path())?);
    }
    Ok(found)
}

/// Bytes that the file system has allocated for everything at or below `path`.
pub fn allocated(path: &Path) -> Result<u64> {
    // POSIX counts blocks of 512 bytes, whatever the file system's own block size is.
    files(path)?.iter().map(|file| Ok(fs::metadata(file)?.blocks() * 512)).sum()
}

/// Writes a file, syncs it, gives it its name, and syncs the folder: the least that a durable publish can do.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("temporary");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    File::open(path.parent().context("a file is in a folder")?)?.sync_all()?;
    Ok(())
}

/// Writes everything that is still in memory alone to the disk, so that no later sample pays for it.
pub fn settle() {
    sync();
}

/// How the OS cache was emptied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DroppedBy {
    /// `/proc/sys/vm/drop_caches`: everything, names and inodes included.
    Kernel,
    /// `posix_fadvise(DONTNEED)` on every file.
    Advice,
}

impl DroppedBy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "drop_caches",
            Self::Advice => "fadvise",
        }
    }
}

/// Makes the OS forget the files below `folder`. The program's own file stays: what is measured is the data.
pub fn drop_cache(folder: &Path) -> Result<DroppedBy> {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    sync();
    if !REFUSED.load(Ordering::Relaxed) {
        if fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
            fs::read(std::env::current_exe()?)?;
            return Ok(DroppedBy::Kernel);
        }
        REFUSED.store(true, Ordering::Relaxed);
    }
    for path in files(folder)? {
        fadvise(File::open(&path)?, 0, None, Advice::DontNeed)
            .with_context(|| format!("{} cannot be dropped from the cache", path.display()))?;
    }
    Ok(DroppedBy::Advice)
}
