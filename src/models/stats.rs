//! Statistics: what the store saved, and where.

use std::time::Duration;

use super::Models;
use crate::sync::counters::Counter;

/// What a store did since it was opened.
///
/// Counted per thread and summed when asked for: exact once the counted calls have returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Searches of the hot tier.
    pub hot: TierStats,
    /// Searches of the file, after the hot tier had missed.
    pub disk: TierStats,
    /// Searches of the tiers of others, after the file had missed; all of them together.
    pub shared: TierStats,
    /// Models in the hot tier.
    pub hot_entries: u64,
    /// Bytes in the hot tier: what [`Options::hot_bytes`](crate::Options::hot_bytes) bounds.
    pub hot_bytes: u64,
    /// Those of them that lie in the map of the file, where the operating system can take them back and read them
    /// again.
    pub hot_mapped_bytes: u64,
    /// Models that were pushed out of the hot tier to make room.
    pub evictions: u64,
    /// Models that were older than `hot_max_age` when they were read from the hot tier.
    pub expirations: u64,
    /// Archives read from the file, or from a tier of others.
    pub loads: u64,
    /// Time spent on that, checks included.
    pub load_time: Duration,
    /// Models that were served although something spoke against it: see
    /// [`Verdict::ReuseWithWarning`](crate::Verdict::ReuseWithWarning). They are no hits.
    pub warnings: u64,
    /// Trainings.
    pub trainings: u64,
    /// Time spent on them.
    pub training_time: Duration,
    /// Models for which a publish left versions to be compressed or removed: see
    /// [`Maintenance`](crate::admin::Maintenance). A store that is opened read-only does not look: 0.
    pub maintenance_waiting: u64,
    /// What hits saved: the recorded training time of every model that was served, less the time to load it.
    pub time_saved: Duration,
}

/// Hits and misses of one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// Calls that were served from this tier.
    pub hits: u64,
    /// Calls that had to go on.
    pub misses: u64,
}

impl TierStats {
    /// Returns hits over hits and misses; `None` before the first call.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| self.hits as f64 / all as f64)
    }
}

impl Models {
    /// Returns what the store did since it was opened.
    pub(crate) fn stats(&self) -> Stats {
        let sum = |counter| self.counters.sum(counter);
        let time = |counter| Duration::from_nanos(sum(counter));
        let occupancy = self.tiers.occupancy();
        Stats {
            hot: TierStats { hits: sum(Counter::HotHits), misses: sum(Counter::HotMisses) },
            disk: TierStats { hits: sum(Counter::DiskHits), misses: sum(Counter::DiskMisses) },
            shared: TierStats { hits: sum(Counter::SharedHits), misses: sum(Counter::SharedMisses) },
            hot_entries: occupancy.entries,
            hot_bytes: occupancy.weight.bytes(),
            hot_mapped_bytes: occupancy.weight.mapped_bytes,
            evictions: sum(Counter::Evictions),
            expirations: sum(Counter::Expirations),
            loads: sum(Counter::Loads),
            load_time: time(Counter::LoadNanos),
            warnings: sum(Counter::Warnings),
            trainings: sum(Counter::Trainings),
            training_time: time(Counter::TrainingNanos),
            maintenance_waiting: self.backlog.len() as u64,
            time_saved: time(Counter::HitTrainingNanos).saturating_sub(time(Counter::HitLoadNanos)),
        }
    }
}
