//! A disk with storms: for some milliseconds at a time, some of the accesses that change something fail.

use std::{
    fmt, io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use modelkeep::disk::{Access, Disk, Fault};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// When the sky clears, and how many of a hundred accesses fail until then.
struct Sky {
    chance: StdRng,
    changes: Instant,
    percent: u32,
}

pub(super) struct Weather {
    sky: Mutex<Sky>,
    faults: AtomicU64,
    /// Whether there are storms at all.
    storms: AtomicBool,
}

impl fmt::Debug for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Weather")
    }
}

impl Weather {
    pub(super) fn new(seed: u64) -> Self {
        let sky = Sky { chance: StdRng::seed_from_u64(seed), changes: Instant::now(), percent: 0 };
        Self { sky: Mutex::new(sky), faults: AtomicU64::new(0), storms: AtomicBool::new(false) }
    }

    /// How many accesses were made to fail.
    pub(super) fn faults(&self) -> u64 {
        self.faults.load(Ordering::SeqCst)
    }

    /// Whether there are storms from here on.
    pub(super) fn set_storms(&self, storms: bool) {
        // Whoever is in an access already is through it first.
        let _sky = self.sky.lock().unwrap_or_else(PoisonError::into_inner);
        self.storms.store(storms, Ordering::SeqCst);
    }
}

impl Disk for Weather {
    fn before(&self, access: &Access<'_>) -> Result<(), Fault> {
        let mut sky = self.sky.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.storms.load(Ordering::SeqCst) {
            return Ok(());
        }
        if Instant::now() >= sky.changes {
            let (calm, percent) =
                if sky.percent > 0 { (true, 0) } else { (false, [3, 30, 100][sky.chance.gen_range(0..3)]) };
            let millis = if calm { sky.chance.gen_range(20..200) } else { sky.chance.gen_range(1..40) };
            (sky.percent, sky.changes) = (percent, Instant::now() + Duration::from_millis(millis));
        }
        // What was written can be read: that is what the run asks for.
        if matches!(access, Access::Read { .. } | Access::Open { .. }) || sky.chance.gen_range(0..100) >= sky.percent {
            return Ok(());
        }
        self.faults.fetch_add(1, Ordering::SeqCst);
        let full = sky.chance.gen_bool(0.3) && matches!(access, Access::Write { .. } | Access::SetLen { .. });
        let error = io::Error::from_raw_os_error(if full { 28 } else { 5 });
        let written = match access {
            Access::Write { data, .. } if sky.chance.gen_bool(0.5) => sky.chance.gen_range(0..=data.len()),
            _ => 0,
        };
        Err(Fault { written, error })
    }

    fn after(&self, _: &Access<'_>) {}
}
