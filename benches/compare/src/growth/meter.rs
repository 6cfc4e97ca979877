//! What an operation takes at each size: its time, and the memory that it asks for.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::stats::median;

/// How often memory is looked at while an operation runs.
const LOOK: Duration = Duration::from_millis(2);

/// An operation at one size.
pub struct Point {
    pub size: f64,
    /// The median, in microseconds.
    pub us: f64,
    /// Bytes of private memory above what there was before: pages of the mapped file are not among them.
    pub memory: u64,
}

/// An operation at all sizes.
pub struct Operation {
    pub name: &'static str,
    pub points: Vec<Point>,
}

impl Operation {
    /// By which power of the size its time grows over the last step.
    pub fn exponent(&self) -> Option<f64> {
        match self.points.as_slice() {
            [.., before, last] if last.size > before.size => {
                Some((last.us / before.us).ln() / (last.size / before.size).ln())
            }
            _ => None,
        }
    }
}

/// Operations, in the order in which they were first measured.
#[derive(Default)]
pub struct Meter {
    size: f64,
    operations: Vec<Operation>,
}

impl Meter {
    /// What follows is measured at this size.
    pub fn at(&mut self, size: f64) {
        self.size = size;
    }

    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Runs an operation so often, and keeps the median of its times. `run` is told how often it ran before.
    pub fn time<T>(&mut self, name: &'static str, times: u32, mut run: impl FnMut(u32) -> Result<T>) -> Result<()> {
        let (samples, memory) = watched(|_| {
            let sample = |n: u32| {
                let started = Instant::now();
                let kept = run(n).with_context(|| format!("{name} failed"))?;
                let us = started.elapsed().as_secs_f64() * 1e6;
                drop(kept);
                Ok(us)
            };
            (0..times).map(sample).collect::<Result<Vec<f64>>>()
        })?;
        let point = Point { size: self.size, us: median(&samples?), memory };
        match self.operations.iter_mut().find(|operation| operation.name == name) {
            Some(operation) => operation.points.push(point),
            None => self.operations.push(Operation { name, points: vec![point] }),
        }
        Ok(())
    }
}

/// Runs something, and says how much private memory the process had more than before, whenever it was looked at; `run`
/// is told how often that was. Memory that the allocator kept from before, and gives out again, is not seen.
fn watched<T>(run: impl FnOnce(&AtomicU64) -> T) -> Result<(T, u64)> {
    let before = private_bytes()?;
    let (most, looks, is_over) = (AtomicU64::new(before), AtomicU64::new(0), AtomicBool::new(false));
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(private_bytes().unwrap_or(0), Ordering::Relaxed);
                looks.fetch_add(1, Ordering::Release);
                thread::sleep(LOOK);
            }
        });
        let done = run(&looks);
        is_over.store(true, Ordering::Relaxed);
        done
    });
    let most = most.into_inner().max(private_bytes()?);
    Ok((done, most.saturating_sub(before)))
}

/// Private memory of this process. Pages of files that are mapped are the kernel's to give and to take.
fn private_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("the kernel does not say what memory is used")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon is not known")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_of_the_last_step() {
        let point = |size: f64, us: f64| Point { size, us, memory: 0 };
        let exponent = |points| Operation { name: "list", points }.exponent();
        let growing = exponent(vec![point(1.0, 50.0), point(10.0, 5.0), point(100.0, 500.0)]);
        assert!((growing.unwrap() - 2.0).abs() < 1e-9);
        assert!(exponent(vec![point(1.0, 50.0)]).is_none());
    }

    #[test]
    fn memory_that_is_taken_and_given_back_is_seen() {
        let fill = |looks: &AtomicU64| {
            // Far more than what the other tests of this process give back meanwhile.
            let bytes = std::hint::black_box(vec![1u8; 256 << 20]);
            // The look that is going on may have begun before.
            let wanted = looks.load(Ordering::Acquire) + 2;
            while looks.load(Ordering::Acquire) < wanted {
                thread::sleep(LOOK);
            }
            drop(bytes);
        };
        let ((), memory) = watched(fill).unwrap();
        assert!(memory >= 128 << 20, "{memory} bytes");
    }
}
