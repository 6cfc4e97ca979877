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
    let pieces = bytes.chunks(DIGEST_SUBTREE_BYTES).enumerate();
    let hashed = parallel::map(pieces, threads, |(index, piece)| HashedPiece::of(index, DIGEST_SUBTREE_BYTES, piece));
    // At least two subtrees, since PARALLEL_BYTES_MIN holds several.
    root(&hashed)
}

/// The hash of one of the pieces that some bytes are cut into.
pub(crate) struct HashedPiece(ChainingValue);

impl HashedPiece {
    /// Hashes the piece with this index. All pieces have `piece_bytes`, a power of two of BLAKE3's chunks, but for the
    /// last one, which may have fewer; and there are at least two.
    pub(crate) fn of(index: usize, piece_bytes: usize, piece: &[u8]) -> Self {
        debug_assert!(piece_bytes.is_power_of_two() && piece_bytes >= blake3::CHUNK_LEN);
        debug_assert!((1..=piece_bytes).contains(&piece.len()));
        let offset = (index as u64) * (piece_bytes as u64);
        Self(Hasher::new().set_input_offset(offset).update(piece).finalize_non_root())
    }

    /// The hash of all bytes: the standard one.
    pub(crate) fn all(pieces: &[Self]) -> Digest {
        Digest::from_bytes(root(pieces))
    }
}

/// The root over at least two subtrees.
fn root(pieces: &[HashedPiece]) -> [u8; 32] {
    let (left, right) = pieces.split_at(left_len(pieces.len()));
    *merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).as_bytes()
}

/// The subtrees in the left half of a BLAKE3 tree over `n > 1` subtrees: the largest power of two below `n`.
fn left_len(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn merge(pieces: &[HashedPiece]) -> ChainingValue {
    match pieces {
        [HashedPiece(value)] => *value,
        _ => {
            let (left, right) = pieces.split_at(left_len(pieces.len()));
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the sizes of the pieces and of the last one.
        #[test]
        fn the_hash_of_pieces_is_the_standard_hash(
            piece_log2 in 10_u32..15,
            pieces in 1_usize..40,
            last in any::<prop::sample::Index>(),
            seed in any::<u8>(),
        ) {
            let piece_bytes = 1_usize << piece_log2;
            let len = piece_bytes * pieces + 1 + last.index(piece_bytes);
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8 ^ seed).collect();
            let hashed: Vec<HashedPiece> =
                bytes.chunks(piece_bytes).enumerate().map(|(i, piece)| HashedPiece::of(i, piece_bytes, piece)).collect();
            let expected: [u8; 32] = blake3::hash(&bytes).into();
            prop_assert_eq!(HashedPiece::all(&hashed), Digest::from_bytes(expected));
        }
    }

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
