//! A disk that is watched: a log of what reached it, and faults where a test wants them.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use modelkeep::disk::{Access, Disk, Fault};

/// Something that happened. Files are inodes here: one that is opened twice is one.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Write {
        inode: usize,
        offset: u64,
        data: Vec<u8>,
    },
    SetLen {
        inode: usize,
        bytes: u64,
    },
    Sync {
        inode: usize,
    },
    /// The kernel gave up on what was not synced: the file shows it, and the disk may not have it.
    FailedSync {
        inode: usize,
    },
    Name {
        path: PathBuf,
        inode: usize,
    },
    Remove {
        path: PathBuf,
    },
    SyncFolder,
    /// A call of the store returned: everything of this number, and of those before it, must survive.
    Acknowledged {
        step: u64,
    },
}

/// Says whether an access fails.
type Plan = Box<dyn FnMut(&Access<'_>) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    log: Vec<Event>,
    /// By the numbers of open files.
    inodes: HashMap<u64, usize>,
    names: HashMap<PathBuf, usize>,
    next_inode: usize,
    plan: Option<Plan>,
    accesses: u64,
}

/// A disk that keeps a log.
#[derive(Default)]
pub struct LoggedDisk {
    state: Mutex<State>,
}

impl std::fmt::Debug for LoggedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoggedDisk")
    }
}

impl LoggedDisk {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn log(&self) -> Vec<Event> {
        self.lock().log.clone()
    }

    pub fn acknowledge(&self, step: u64) {
        self.lock().log.push(Event::Acknowledged { step });
    }

    /// From here on `plan` says what fails.
    pub fn plan(&self, plan: impl FnMut(&Access<'_>) -> Option<Fault> + Send + 'static) {
        self.lock().plan = Some(Box::new(plan));
    }

    /// Of the accesses that are `wanted` the first so many go through, and the next so many fail. Counts those that
    /// failed.
    pub fn fail(&self, wanted: fn(&Access<'_>) -> bool, before: u64, times: u64) -> Arc<AtomicU64> {
        let (mut seen, failed) = (0, Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&failed);
        self.plan(move |access| {
            seen += u64::from(wanted(access));
            let fails = wanted(access) && seen > before && seen - before <= times;
            count.fetch_add(u64::from(fails), Ordering::Relaxed);
            fails.then(broken)
        });
        failed
    }

    pub fn heal(&self) {
        self.lock().plan = None;
    }

    /// There is a file at `path` already.
    pub fn knows(&self, path: &Path) {
        let mut state = self.lock();
        let inode = state.next_inode;
        state.next_inode += 1;
        state.names.insert(path.to_owned(), inode);
    }

    /// Accesses so far that could have failed.
    pub fn accesses(&self) -> u64 {
        self.lock().accesses
    }
}

/// The error of a disk that is broken.
pub fn broken() -> Fault {
    io::Error::from_raw_os_error(5).into()
}

/// The error of a disk that is full.
pub fn full() -> Fault {
    io::Error::from_raw_os_error(28).into()
}

/// Whether an access leaves the file as it is.
pub fn is_read(access: &Access<'_>) -> bool {
    matches!(access, Access::Read { .. } | Access::Open { .. } | Access::Map { .. } | Access::Detach { .. })
}

impl Disk for LoggedDisk {
    fn before(&self, access: &Access<'_>) -> Result<(), Fault> {
        let mut state = self.lock();
        if !is_read(access) {
            state.accesses += 1;
        }
        let mut plan = state.plan.take();
        let fault = plan.as_mut().and_then(|plan| plan(access));
        if state.plan.is_none() {
            state.plan = plan;
        }
        if let (Some(_), Access::Sync { file }) = (&fault, access) {
            let inode = state.inodes[file];
            state.log.push(Event::FailedSync { inode });
        }
        fault.map_or(Ok(()), Err)
    }

    fn after(&self, access: &Access<'_>) {
        let mut state = self.lock();
        let named = |path: &Path| path.to_owned();
        let event = match *access {
            Access::Read { .. } | Access::Map { .. } | Access::Detach { .. } => return,
            Access::Open { file, path } => {
                let inode = *state.names.get(path).expect("a file that the log knows");
                state.inodes.insert(file, inode);
                return;
            }
            Access::Create { file, path } => {
                let inode = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(file, inode);
                match path {
                    None => return,
                    Some(path) => {
                        state.names.insert(named(path), inode);
                        Event::Name { path: named(path), inode }
                    }
                }
            }
            Access::Link { file, path } | Access::Rename { file, to: path, .. } => {
                let inode = state.inodes[&file];
                state.names.insert(named(path), inode);
                if let Access::Rename { from, .. } = *access {
                    state.names.remove(from);
                }
                Event::Name { path: named(path), inode }
            }
            Access::Remove { path } => {
                state.names.remove(path);
                Event::Remove { path: named(path) }
            }
            Access::Write { file, offset, data } => {
                Event::Write { inode: state.inodes[&file], offset, data: data.to_vec() }
            }
            Access::Punch { file, offset, bytes } => {
                Event::Write { inode: state.inodes[&file], offset, data: vec![0; bytes as usize] }
            }
            Access::SetLen { file, bytes } => Event::SetLen { inode: state.inodes[&file], bytes },
            Access::Sync { file } => Event::Sync { inode: state.inodes[&file] },
            Access::SyncFolder { .. } => Event::SyncFolder,
            _ => panic!("an access that the log does not know: {access:?}"),
        };
        state.log.push(event);
    }
}
