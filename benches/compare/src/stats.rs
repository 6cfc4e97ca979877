//! Medians, percentiles, and a histogram for latencies that are too many to keep.

use std::time::Duration;

/// Sub-buckets of an octave: a value is known to within 1/64 of itself.
const STEPS: usize = 64;
const STEPS_LOG2: u32 = STEPS.ilog2();

/// The value that a share `q` of the samples does not exceed; NaN when there are none.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * q).ceil() as usize).max(1) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The median; of an even number of samples the mean of the middle two; NaN when there are none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.get(middle.wrapping_sub(1))) {
        (Some(high), Some(low)) if sorted.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (Some(high), _) => *high,
        _ => f64::NAN,
    }
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Counts of nanoseconds, exact below 64 and to within 1/64 above; the largest is kept exactly.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], total: 0, max: 0 }
    }
}

impl Histogram {
    #[inline]
    pub fn add(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// The lower edge of the bucket that holds the quantile.
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = (self.total as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return lower_edge(index);
            }
        }
        self.max
    }
}

/// Values below `STEPS` have a bucket each; every octave above has `STEPS`.
fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let octave = value.ilog2() - STEPS_LOG2;
    (octave as usize) * STEPS + (value >> octave) as usize
}

fn lower_edge(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let octave = bucket / STEPS - 1;
    ((bucket - octave * STEPS) as u64) << octave
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!(median(&[]).is_nan());
        assert!((quantile(&[4.0, 1.0, 2.0, 3.0], 0.9) - 4.0).abs() < 1e-12);
    }

    #[test]
    fn a_bucket_holds_what_lies_between_its_edges() {
        for value in (0..1000).chain([u64::from(u32::MAX), 1 << 40, u64::MAX]) {
            let edge = lower_edge(bucket(value));
            assert!(edge <= value && value - edge <= value / STEPS as u64, "{value}: {edge}");
        }
    }

    #[test]
    fn a_histogram_finds_its_quantiles() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|nanos| histogram.add(nanos));
        assert_eq!((histogram.total(), histogram.max()), (1000, 1000));
        assert!(histogram.quantile(0.5).abs_diff(500) <= 8, "{}", histogram.quantile(0.5));
        assert!(histogram.quantile(0.99).abs_diff(990) <= 16, "{}", histogram.quantile(0.99));
    }
}
