//! The order in which keys are asked for: some models are asked for all the time, most hardly ever.

/// Draws `draws` of `n` indices by Zipf's law with exponent 1: the most popular index is drawn twice as often as the
/// second, three times as often as the third. Which index is how popular is shuffled. The same for the same seed.
pub fn draws(n: usize, draws: usize, seed: u64) -> Vec<usize> {
    let mut random = random(seed);
    let mut cumulative = Vec::with_capacity(n);
    let mut sum = 0.0;
    for rank in 1..=n {
        sum += 1.0 / rank as f64;
        cumulative.push(sum);
    }
    let index_of_rank = shuffled(n);
    let draw = |_| {
        let at = random() * sum;
        let rank = cumulative.partition_point(|&edge| edge <= at).min(n - 1);
        index_of_rank.get(rank).copied().unwrap_or(0)
    };
    (0..draws).map(draw).collect()
}

/// The same permutation whatever the seed of the draws, so that threads agree on what is popular.
fn shuffled(n: usize) -> Vec<usize> {
    let mut random = random(0x5eed);
    let mut indices: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        indices.swap(last, (random() * (last + 1) as f64) as usize);
    }
    indices
}

/// Numbers in `0.0..1.0` by `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_drawn_twice_as_often_as_the_second() {
        let mut counts = vec![0u32; 100];
        for index in draws(100, 200_000, 1) {
            counts[index] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    }

    #[test]
    fn every_index_has_a_rank() {
        let mut indices = shuffled(1000);
        indices.sort_unstable();
        assert!(indices.into_iter().eq(0..1000));
    }
}
