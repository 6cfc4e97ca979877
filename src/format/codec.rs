//! How a payload is encoded: as it is, or as independent zstd frames.
//!
//! A compressed payload is a table of frames and then the frames:
//!
//! ```text
//! 0   u32  number of frames n
//! 4   u32  raw bytes of every frame but the last
//! 8   u32  stored bytes of frame 0 .. n-1
//! 8+4n     the frames, one after the other, no gaps
//! ```
//!
//! Frames are independent so that several threads can decode them straight into the final buffer. Nothing is
//! allocated by what a frame claims: the raw length comes from the sealed envelope and is checked against a limit.

use std::{fmt, io};

use zstd::bulk::Decompressor;

use super::{
    buffer::AlignedBuf,
    digest::HashedPiece,
    parallel::{self, threads_for},
};
use crate::types::{
    error::{Error, ErrorKind, Result},
    hash::Digest,
    limits::{ARCHIVE_BYTES_MAX, FRAME_BYTES},
};

/// How the bytes of a stored value are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// As they are in memory.
    Raw,
    /// Independent zstd frames of 512 KiB each.
    Zstd,
}

/// zstd's fastest level of the regular kind: what is stored compressed here is written once and read rarely.
const LEVEL: i32 = 1;

impl Codec {
    pub(crate) fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
        })
    }
}

/// Returns `raw` as zstd frames behind their table.
pub(crate) fn compress(raw: &[u8]) -> Result<Vec<u8>> {
    let compress_frame = |chunk: &[u8]| {
        zstd::bulk::compress(chunk, LEVEL)
            .map_err(|err| Error::new(ErrorKind::Io, "compress", "payload", "zstd failed").with_source(err))
    };
    let frames: Vec<Vec<u8>> = parallel::map(raw.chunks(FRAME_BYTES), threads_for(raw.len()), compress_frame)
        .into_iter()
        .collect::<Result<_>>()?;
    let stored: usize = frames.iter().map(Vec::len).sum();
    let mut out = Vec::with_capacity(8 + 4 * frames.len() + stored);
    for number in [frames.len(), FRAME_BYTES].into_iter().chain(frames.iter().map(Vec::len)) {
        let number = u32::try_from(number).map_err(|_| too_large(raw.len() as u64))?;
        out.extend_from_slice(&number.to_le_bytes());
    }
    frames.iter().for_each(|frame| out.extend_from_slice(frame));
    Ok(out)
}

/// Decodes a stored payload of `raw_len` bytes into an aligned buffer.
pub(crate) fn decode(codec: Codec, stored: &[u8], raw_len: u64) -> Result<AlignedBuf> {
    match codec {
        Codec::Raw => copy(stored, raw_len),
        Codec::Zstd => decode_frames(stored, raw_len, |_, _| ()).map(|(decoded, _)| decoded),
    }
}

/// The same, and returns the hash of what was decoded. A frame is hashed by the thread that decoded it, while it is in
/// the processor's cache.
pub(crate) fn decode_and_hash(codec: Codec, stored: &[u8], raw_len: u64) -> Result<(AlignedBuf, Digest)> {
    let (decoded, pieces) = match codec {
        Codec::Raw => (copy(stored, raw_len)?, Vec::new()),
        Codec::Zstd => decode_frames(stored, raw_len, |index, frame| HashedPiece::of(index, FRAME_BYTES, frame))?,
    };
    // One piece alone is its own root, and no part of a tree.
    let hash = if pieces.len() < 2 { Digest::of(&decoded) } else { HashedPiece::all(&pieces) };
    Ok((decoded, hash))
}

fn copy(stored: &[u8], raw_len: u64) -> Result<AlignedBuf> {
    let len = checked_len(raw_len)?;
    if stored.len() != len {
        return Err(broken(&format!("{} bytes are stored where {len} were written", stored.len())));
    }
    AlignedBuf::copy_of(stored).map_err(|err| no_memory(raw_len, err))
}

/// Decodes all frames, and calls `after` with the index and the bytes of each, on the thread that decoded it.
fn decode_frames<T: Send>(
    stored: &[u8],
    raw_len: u64,
    after: impl Fn(usize, &[u8]) -> T + Sync,
) -> Result<(AlignedBuf, Vec<T>)> {
    let len = checked_len(raw_len)?;
    let frames = split_frames(stored, len)?;
    let mut found = Vec::new();
    let fill = |out: &mut [u8]| {
        let work = frames.into_iter().zip(out.chunks_mut(FRAME_BYTES)).enumerate();
        // A decoder has tables of its own, which are not made anew for each frame.
        let decode = |decoder: &mut Option<Decompressor<'_>>, (index, (frame, out)): (usize, (&[u8], &mut [u8]))| {
            decode_frame(decoder, frame, out)?;
            Ok(after(index, out))
        };
        let done = parallel::map_with(work, threads_for(len), || None, decode);
        found = done.into_iter().collect::<Result<Vec<T>>>()?;
        Ok(())
    };
    let decoded = AlignedBuf::filled(len, fill).map_err(|err| no_memory(raw_len, err))??;
    Ok((decoded, found))
}

fn checked_len(raw_len: u64) -> Result<usize> {
    let len = usize::try_from(raw_len).ok().filter(|_| raw_len <= ARCHIVE_BYTES_MAX);
    len.ok_or_else(|| too_large(raw_len))
}

fn no_memory(raw_len: u64, err: io::Error) -> Error {
    Error::new(ErrorKind::Io, "decode", "payload", format!("no memory for {raw_len} bytes")).with_source(err)
}

fn decode_frame(decoder: &mut Option<Decompressor<'_>>, frame: &[u8], out: &mut [u8]) -> Result<()> {
    let expected = out.len();
    let undecodable = |err: io::Error| broken("a zstd frame cannot be decoded").with_source(err);
    let decoder = match decoder {
        Some(decoder) => decoder,
        None => decoder.insert(Decompressor::new().map_err(undecodable)?),
    };
    match decoder.decompress_to_buffer(frame, out) {
        Ok(found) if found == expected => Ok(()),
        Ok(found) => Err(broken(&format!("a frame holds {found} bytes, expected {expected}"))),
        Err(err) => Err(undecodable(err)),
    }
}

/// Reads the table in front of the frames and cuts them apart.
fn split_frames(stored: &[u8], raw_len: usize) -> Result<Vec<&[u8]>> {
    let cut = || broken("the table of frames is cut short");
    let (count, rest) = stored.split_first_chunk().ok_or_else(cut)?;
    let (frame_raw, rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let count = u32::from_le_bytes(*count) as usize;
    let frame_raw = u32::from_le_bytes(*frame_raw) as usize;
    if frame_raw != FRAME_BYTES || count != raw_len.div_ceil(FRAME_BYTES) {
        return Err(broken(&format!("{count} frames of {frame_raw} bytes do not make {raw_len}")));
    }
    let (sizes, mut rest) = rest.split_at_checked(4 * count).ok_or_else(cut)?;
    let mut frames = Vec::with_capacity(count);
    for size in sizes.as_chunks().0 {
        let (frame, after) = rest.split_at_checked(u32::from_le_bytes(*size) as usize).ok_or_else(cut)?;
        frames.push(frame);
        rest = after;
    }
    // Zeros fill a payload up to the size that its place wants.
    if rest.iter().all(|&byte| byte == 0) { Ok(frames) } else { Err(broken("bytes follow the last frame")) }
}

fn too_large(bytes: u64) -> Error {
    let message = format!("{bytes} bytes exceed the limit of {ARCHIVE_BYTES_MAX}");
    Error::new(ErrorKind::LimitExceeded, "encode", "payload", message)
}

fn broken(message: &str) -> Error {
    Error::corrupt("decode", "payload", message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::limits::PARALLEL_BYTES_MIN;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| ((i / 7) % 251) as u8).collect()
    }

    #[test]
    fn frames_come_back_on_one_thread_and_on_several() {
        for len in [0, 1, FRAME_BYTES, FRAME_BYTES + 1, PARALLEL_BYTES_MIN - 1, PARALLEL_BYTES_MIN + 17] {
            let raw = sample(len);
            let stored = compress(&raw).unwrap();
            assert_eq!(&*decode(Codec::Zstd, &stored, len as u64).unwrap(), &raw[..], "{len} bytes");
            assert_eq!(&*decode(Codec::Raw, &raw, len as u64).unwrap(), &raw[..]);
            for (codec, stored) in [(Codec::Zstd, &stored), (Codec::Raw, &raw)] {
                let (decoded, hash) = decode_and_hash(codec, stored, len as u64).unwrap();
                assert_eq!((&*decoded, hash), (&raw[..], Digest::of(&raw)), "{len} bytes");
            }
        }
    }

    #[test]
    fn a_payload_that_lies_about_its_length_is_refused() {
        let raw = sample(FRAME_BYTES + 100);
        let stored = compress(&raw).unwrap();
        for raw_len in [0, 1, raw.len() - 1, raw.len() + 1, 3 * FRAME_BYTES] {
            assert!(decode(Codec::Zstd, &stored, raw_len as u64).is_err(), "{raw_len}");
        }
        assert_eq!(decode(Codec::Raw, &raw, u64::MAX).unwrap_err().kind(), ErrorKind::LimitExceeded);
        for cut in [0, 3, 7, 9, 15, stored.len() - 1] {
            assert!(decode(Codec::Zstd, &stored[..cut], raw.len() as u64).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn an_error_in_one_of_many_frames_is_reported() {
        let raw = sample(PARALLEL_BYTES_MIN + FRAME_BYTES);
        let mut stored = compress(&raw).unwrap();
        let last = stored.len() - 10;
        stored.truncate(last);
        stored.extend_from_slice(&[0xff; 10]);
        // Either the frame fails or it decodes to other bytes; the envelope's hash catches the second case.
        if let Ok(out) = decode(Codec::Zstd, &stored, raw.len() as u64) {
            assert_ne!(&*out, &raw[..]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0u64..4096) {
            drop(decode(Codec::Zstd, &bytes, len));
        }
    }
}
