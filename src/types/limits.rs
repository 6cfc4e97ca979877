//! Bounds of what is read and written: sizes, counts, depths. Bounds of one algorithm stand beside it.
//!
//! A bound is checked before memory is allocated for the thing that it bounds, on the way in and on the way out.

/// A text of others as it is kept: what is longer than so many bytes ends in dots.
pub(crate) fn shortened(text: &str, bytes_max: usize) -> String {
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > bytes_max) {
        Some((end, _)) => format!("{} ...", text.split_at(end).0),
        None => text.to_owned(),
    }
}

/// Bytes of a model name.
pub(crate) const MODEL_NAME_BYTES_MAX: usize = 128;
/// Bytes of a symbol or of an index series name.
pub(crate) const SYMBOL_BYTES_MAX: usize = 64;
/// Bytes of an artifact name, a tag, or a metric name.
pub(crate) const LABEL_BYTES_MAX: usize = 128;
/// Bytes of a tag's value.
pub(crate) const TAG_VALUE_BYTES_MAX: usize = 1024;
/// Entries of metrics, of tags, and of artifacts in one publication.
pub(crate) const LABELS_MAX: usize = 256;
/// Bytes of a canonical configuration.
pub(crate) const CONFIG_BYTES_MAX: usize = 256 << 10;
/// Bytes of one archive before compression: rkyv's relative pointers are 32 bits wide and signed.
pub(crate) const ARCHIVE_BYTES_MAX: u64 = (2 << 30) - 1;
/// Levels of nesting that an archive may have; rkyv's validator recurses once per level.
pub(crate) const ARCHIVE_DEPTH_MAX: usize = 64;
/// Bytes of one sealed record (head, metadata, row of a collection).
pub(crate) const RECORD_BYTES_MAX: usize = 4 << 20;
/// Feature columns of a training sample.
pub(crate) const FEATURES_MAX: usize = 4096;
/// Symbols of one training set.
pub(crate) const SYMBOLS_MAX: usize = 65_536;
/// Pinned versions of one model key.
pub(crate) const PINS_MAX: usize = 1024;
/// Moves of an alias that are remembered; the oldest go first.
pub(crate) const ALIAS_MOVES_MAX: usize = 1024;
/// Bytes of one reason of a decision that is kept: a caller's error may print anything.
pub(crate) const DECISION_REASON_BYTES_MAX: usize = 1024;
/// Decisions that are kept; the oldest go first.
pub(crate) const DECISIONS_MAX: usize = 10_000;
/// Bytes of raw data in one zstd frame: small enough to share a large value among threads.
pub(crate) const FRAME_BYTES: usize = 512 << 10;
/// Bytes that one thread hashes at a time; a power of two of BLAKE3 chunks, as its subtrees demand.
pub(crate) const DIGEST_SUBTREE_BYTES: usize = 1 << 20;
/// Bytes below which starting a second thread costs more than it saves.
pub(crate) const PARALLEL_BYTES_MIN: usize = 4 << 20;
/// Bytes from which a buffer is mapped with huge pages instead of taken from the allocator.
pub(crate) const HUGE_BUFFER_BYTES_MIN: usize = 4 << 20;
/// Bytes of large values that a commit frees from which the pages are taken back at once, by a commit of their own.
pub(crate) const RECLAIM_BYTES_MIN: u64 = 128 << 10;
/// Bytes of rows in one transaction from which their old pages are taken back at once: a commit of its own costs as
/// much as writing them does.
pub(crate) const RECLAIM_ROW_BYTES_MIN: u64 = 4 << 20;
/// Bytes of an archive below which it is copied: a copy costs no more than the page faults, and holds nothing open.
pub(crate) const MAPPED_BYTES_MIN: usize = 64 << 10;
/// Bytes of a map that are read in advance at a time: large enough for the disk, small enough to be interrupted.
pub(crate) const POPULATE_BYTES: usize = 4 << 20;
/// Rows of one chunk of bars or features.
pub(crate) const CHUNK_ROWS_MAX: usize = 1 << 20;
/// Rows that are decoded by one thread alone.
pub(crate) const PARALLEL_ROWS_MIN: usize = 200_000;
/// Superseded rows that are kept beside one chunk of bars; the oldest go first.
pub(crate) const HISTORY_ROWS_MAX: usize = 1 << 16;
/// Calls that one load makes at most.
pub(crate) const LOAD_CALLS_MAX: u64 = 100_000;
/// Bytes of the reason that a ledger keeps of a failure.
pub(crate) const REASON_BYTES_MAX: usize = 256;
/// Archives that have memory of their own because they left the file while held: each takes up to two of the memory
/// maps that the kernel allows a process, 65,530 by default. What is beyond keeps its pages in the file.
pub(crate) const DETACHED_MAX: usize = 8192;
/// How far a clock may have gone back without anybody having set it wrong, in nanoseconds. Within it, what is known of
/// a row does not go back either; beyond it, the time that was recorded was wrong.
pub(crate) const CLOCK_STEP_MAX: i64 = 24 * 3600 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!((shortened("four", 4), shortened("fives", 4)), ("four".into(), "five ...".into()));
        assert_eq!(shortened("a\u{20ac}\u{20ac}", 5), "a\u{20ac} ...", "not within one");
    }
}
