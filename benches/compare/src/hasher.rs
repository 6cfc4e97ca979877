//! The hasher that every map peer gets, so that nobody is handicapped by `SipHash`.
//!
//! A `ModelKey` hashes one 64-bit number, which is uniform already: that is the hash.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`FirstWord`] hashers.
pub type FastHash = BuildHasherDefault<FirstWord>;

/// Takes the first eight bytes that it is given, in the machine's order, and ignores the rest.
#[derive(Default)]
pub struct FirstWord(Option<u64>);

impl Hasher for FirstWord {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        if self.0.is_none()
            && let Some(word) = bytes.first_chunk::<8>()
        {
            self.0 = Some(u64::from_le_bytes(*word));
        }
    }

    /// The length in front of the bytes.
    #[inline]
    fn write_usize(&mut self, _: usize) {}

    /// The end mark of a string.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use modelkeep::ModelKey;

    use super::*;

    #[test]
    fn equal_keys_have_equal_hashes_and_others_differ() {
        let hash = |name: &str, config: u32| FastHash::default().hash_one(ModelKey::new(name, &config).unwrap());
        assert_eq!(hash("m", 7), hash("m", 7));
        let hashes: std::collections::HashSet<u64> = (0..1000).map(|i| hash("m", i)).chain([hash("n", 7)]).collect();
        assert_eq!(hashes.len(), 1001, "and none of them is the zero of a key that hashed nothing");
        assert!(!hashes.contains(&0));
    }
}
