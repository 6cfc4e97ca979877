//! Threads on cores of their own: two threads that share a core look like one slow thread.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this process may use.
pub fn cores() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).context("which cores may be used is not known")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect())
}

/// The cores of one and of two pinned threads: the last one, since the first serves most interrupts, and both.
pub fn one_and_two() -> Result<([usize; 1], [usize; 2])> {
    match cores()?.as_slice() {
        [.., other, last] => Ok(([*last], [*last, *other])),
        _ => bail!("two cores are needed to compare one thread with two; this process may use one"),
    }
}

/// Keeps the calling thread on this core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("this thread cannot be kept on core {core}"))
}
