//! Content hashes: plain BLAKE3, computed on several threads when the bytes are many.
//!
//! BLAKE3 is a tree: subtrees of a power of two of 1 KiB chunks can be hashed apart and merged. Large inputs are cut
//! into 1 MiB subtrees that the available cores take in turn, so that the result is the standard hash, which `b3sum`
//! prints for an exported archive, and not one of our own making.
//! (BLAKE3 specification, section 2.1, <https://github.com/BLAKE3-team/BLAKE3-specs>.)

use blake3::{
    Hasher,
    hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};

use super::parallel::{self, threads_for};
use crate::types::{
    hash::Digest,
    limits::{DIGEST_SUBTREE_BYTES, PARALLEL_BYTES_MIN},
};

impl Digest {
    /// Returns the hash of `bytes`, computed on the available cores when there are many.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.len() < PARALLEL_BYTES_MIN {
            return Self::from_bytes(blake3::hash(bytes).into());
        }
        Self::from_bytes(tree(bytes, threads_for(bytes.len())))
    }
}

fn tree(bytes: &[u8], threads: usize) -> [u8; 32] {
    let values: Vec<ChainingValue> =
        parallel::map(bytes.chunks(DIGEST_SUBTREE_BYTES).enumerate(), threads, |(index, subtree)| {
            let offset = (index as u64) * (DIGEST_SUBTREE_BYTES as u64);
            Hasher::new().set_input_offset(offset).update(subtree).finalize_non_root()
        });
    // At least two subtrees, since PARALLEL_BYTES_MIN holds several.
    let (left, right) = values.split_at(left_len(values.len()));
    *merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).as_bytes()
}

/// The subtrees in the left half of a BLAKE3 tree over `n > 1` subtrees: the largest power of two below `n`.
fn left_len(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn merge(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [value] => *value,
        _ => {
            let (left, right) = values.split_at(left_len(values.len()));
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parallel_hash_is_the_standard_hash() {
        let bytes: Vec<u8> = (0..9 * DIGEST_SUBTREE_BYTES + 4321).map(|i| (i % 251) as u8).collect();
        let mut lengths = vec![2 * DIGEST_SUBTREE_BYTES, bytes.len()];
        for n in 2..10 {
            lengths.extend([-1025, -1, 1, 1024].map(|d| (n * DIGEST_SUBTREE_BYTES).wrapping_add_signed(d)));
        }
        for len in lengths {
            let bytes = &bytes[..len];
            let expected: [u8; 32] = blake3::hash(bytes).into();
            for threads in [1, 2, 3] {
                assert_eq!(tree(bytes, threads), expected, "{len} bytes, {threads} threads");
            }
        }
    }
}
