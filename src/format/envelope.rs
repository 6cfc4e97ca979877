//! The seal: a fixed header with two hashes in front of every stored payload.
//!
//! ```text
//! 0    4  magic "mkp\x1a"
//! 4    1  envelope version (1)
//! 5    1  kind: what the payload is for
//! 6    1  codec: raw or zstd frames
//! 7    1  zero
//! 8    8  schema id: the first 8 bytes of a BLAKE3 of the schema's name
//! 16   4  schema version
//! 20   4  rkyv layout (endianness, alignment, pointer width, rkyv format)
//! 24   8  raw length: bytes of the payload once decoded
//! 32   8  stored length: bytes that follow this header
//! 40   8  zero
//! 48  32  payload hash: BLAKE3 of the stored payload
//! 80  32  seal: BLAKE3 (derive_key) of table name, key and the 80 bytes above
//! 112     the payload
//! ```
//!
//! The seal covers the place as well as the bytes: a value that was moved to another key or table does not open. And
//! since the seal covers the payload through its hash, the header can be verified alone, in about a microsecond,
//! whatever the size of the payload. 112 bytes keep the payload on a 64-byte boundary when the value itself starts
//! 16 bytes into a page, which is where redb puts large values under fixed-width keys.

use std::{fmt, sync::OnceLock};

use blake3::{
    Hasher,
    hazmat::{ContextKey, HasherExt, hash_derive_key_context},
};

use super::{codec::Codec, schema::RKYV_LAYOUT};
use crate::types::{
    error::{Error, Result},
    hash::Digest,
    invariant::Invariant,
    key::row::{Field, describe},
    limits::ARCHIVE_BYTES_MAX,
};

/// Bytes in front of the payload.
pub(crate) const HEADER_BYTES: usize = 112;

const MAGIC: [u8; 4] = *b"mkp\x1a";
const VERSION: u8 = 1;
const SEALED_BYTES: usize = 80;
const SEAL_CONTEXT: &str = "modelkeep 2026 seal of a stored value v1";

/// What a payload is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A user's model, as rkyv wrote it.
    Model = 1,
    /// One symbol's training samples.
    Training = 2,
    /// A named artifact of a model version.
    Artifact = 3,
    /// A small rkyv record of this crate.
    Record = 4,
    /// Columns of bars or features.
    Columns = 5,
}

/// How much of a value is checked when it is loaded.
///
/// The policy is about archives. Metadata and all other small records are always checked whole: by their seals, and
/// under the other policies, where the file is mapped, by the 128-bit checksums that redb keeps of its pages, which
/// find the same damage and cost a tenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verify {
    /// Header, every byte of the payload, then rkyv's structure and the model's own `validate`. The default.
    #[default]
    Full,
    /// Header and structure before the model is handed out; every byte on another thread afterwards. A mismatch takes
    /// the model out of the hot tier, quarantines it and is reported through tracing.
    Background,
    /// Header and structure only. Flipped bits that leave the structure intact go unnoticed.
    Structure,
}

/// Where a value is stored. Part of its seal.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) table: &'a str,
    pub(crate) key: &'a [u8],
    /// What the keys of the table are made of, for messages.
    pub(crate) fields: &'static [Field],
}

impl fmt::Display for Place<'_> {
    /// `table/key`, the key as a person would say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table, describe(self.fields, self.key))
    }
}

/// What a header says of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) codec: Codec,
    pub(crate) schema_id: u64,
    pub(crate) schema_version: u32,
    pub(crate) raw_len: u64,
}

/// A value whose header was verified. The payload was, too, unless it was opened with another policy than `Full`.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    pub(crate) header: Header,
    pub(crate) payload_hash: Digest,
    pub(crate) payload: &'a [u8],
}

/// Returns the 112 bytes to store in front of `payload` at `place`.
pub(crate) fn seal(place: Place<'_>, header: &Header, payload: &[u8]) -> [u8; HEADER_BYTES] {
    seal_hashed(place, header, payload.len() as u64, Digest::of(payload))
}

/// The same for a payload whose hash is known already.
pub(crate) fn seal_hashed(
    place: Place<'_>,
    header: &Header,
    stored_len: u64,
    payload_hash: Digest,
) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    let fields: [&[u8]; 9] = [
        &MAGIC,
        &[VERSION, header.kind as u8, header.codec.id(), 0],
        &header.schema_id.to_le_bytes(),
        &header.schema_version.to_le_bytes(),
        &RKYV_LAYOUT.to_le_bytes(),
        &header.raw_len.to_le_bytes(),
        &stored_len.to_le_bytes(),
        &[0; 8],
        payload_hash.as_bytes(),
    ];
    let mut rest = &mut out[..];
    for field in fields {
        rest = put(rest, field);
    }
    let sealed: [u8; SEALED_BYTES] = *out.first_chunk().always("the sealed bytes lie in the header");
    if let Some(tail) = out.last_chunk_mut::<32>() {
        *tail = seal_hash(place, &sealed);
    }
    out
}

/// Copies `field` to the front of `out` and returns what follows it.
fn put<'a>(out: &'a mut [u8], field: &[u8]) -> &'a mut [u8] {
    let (front, rest) = out.split_at_mut(field.len());
    front.copy_from_slice(field);
    rest
}

fn seal_hash(place: Place<'_>, sealed: &[u8; SEALED_BYTES]) -> [u8; 32] {
    // The hash of the context, which is the same for every seal.
    static CONTEXT_KEY: OnceLock<ContextKey> = OnceLock::new();
    let context = CONTEXT_KEY.get_or_init(|| hash_derive_key_context(SEAL_CONTEXT));
    let mut hasher = Hasher::new_from_context_key(context);
    for part in [place.table.as_bytes(), place.key] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(sealed);
    hasher.finalize().into()
}

/// Opens the value stored at `place`, which must be of `kind`; checks the payload's hash under [`Verify::Full`].
pub(crate) fn open<'a>(place: Place<'_>, kind: Kind, value: &'a [u8], verify: Verify) -> Result<Envelope<'a>> {
    let envelope = open_any(place, value)?;
    check_kind(place, kind, &envelope)?;
    if verify == Verify::Full {
        check_payload(place, &envelope)?;
    }
    Ok(envelope)
}

fn check_kind(place: Place<'_>, kind: Kind, envelope: &Envelope<'_>) -> Result<()> {
    if envelope.header.kind == kind {
        return Ok(());
    }
    Err(broken(place, format!("it is sealed as {:?}, expected {kind:?}", envelope.header.kind)))
}

/// Opens a value of any kind and checks its header and its seal, but not the payload.
pub(crate) fn open_any<'a>(place: Place<'_>, value: &'a [u8]) -> Result<Envelope<'a>> {
    // The seal first: once it holds, every header field is what was written, so a wrong one is another release's.
    let parsed = unseal(place, value);
    let cut = || broken(place, format!("{} bytes are too few for a sealed value", value.len()));
    let (sealed, rest) = value.split_first_chunk::<SEALED_BYTES>().ok_or_else(cut)?;
    let seal = rest.first_chunk::<32>().ok_or_else(cut)?;
    if sealed.first_chunk() == Some(&MAGIC) && seal_hash(place, sealed) != *seal {
        return Err(broken(place, "the seal does not match: header bytes changed, or the value was moved here"));
    }
    parsed
}

/// Whether a value was written at `place`: its seal holds. The payload may be damaged, or cut.
pub(crate) fn is_in_its_place(place: Place<'_>, value: &[u8]) -> bool {
    let sealed = value.split_first_chunk::<SEALED_BYTES>();
    sealed.is_some_and(|(sealed, rest)| {
        sealed.first_chunk() == Some(&MAGIC) && rest.first_chunk() == Some(&seal_hash(place, sealed))
    })
}

/// Reads the header, without its seal.
fn unseal<'a>(place: Place<'_>, value: &'a [u8]) -> Result<Envelope<'a>> {
    let cut = || broken(place, format!("{} bytes are too few for a sealed value", value.len()));
    let (head, payload) = value.split_at_checked(HEADER_BYTES).ok_or_else(cut)?;
    let sealed = head.first_chunk::<SEALED_BYTES>().ok_or_else(cut)?;
    if sealed.first_chunk() != Some(&MAGIC) {
        return Err(broken(place, "it does not start with the magic number"));
    }
    let (header, stored_len, payload_hash) = parse(sealed).map_err(|message| broken(place, message))?;
    if payload.len() as u64 != stored_len {
        let message = format!("{} payload bytes are stored where {stored_len} were written", payload.len());
        return Err(broken(place, message));
    }
    Ok(Envelope { header, payload_hash, payload })
}

/// Opens a value whose bytes are known to be whole by another proof, a checksum of all of its page: the seal, which
/// also says that it was not moved here, is not checked.
pub(crate) fn open_whole<'a>(place: Place<'_>, kind: Kind, value: &'a [u8]) -> Result<Envelope<'a>> {
    let envelope = unseal(place, value)?;
    check_kind(place, kind, &envelope)?;
    Ok(envelope)
}

/// Opens a value that is known by the hash of its payload, which is not read: an envelope with this hash in it is the
/// one that was written, or somebody took pains.
pub(crate) fn open_known<'a>(place: Place<'_>, kind: Kind, value: &'a [u8], hash: Digest) -> Result<Envelope<'a>> {
    let envelope = unseal(place, value)?;
    if envelope.payload_hash != hash || envelope.header.codec != Codec::Raw {
        return open(place, kind, value, Verify::Structure);
    }
    check_kind(place, kind, &envelope)?;
    Ok(envelope)
}

/// Compares the payload with the hash in its header.
pub(crate) fn check_payload(place: Place<'_>, envelope: &Envelope<'_>) -> Result<()> {
    let found = Digest::of(envelope.payload);
    if found == envelope.payload_hash {
        return Ok(());
    }
    let expected = envelope.payload_hash.short();
    Err(broken(place, format!("the payload hashes to {}, expected {expected}", found.short())))
}

fn parse(sealed: &[u8; SEALED_BYTES]) -> Result<(Header, u64, Digest), String> {
    let mut at = Fields(sealed);
    let [_, _, _, _, version, kind, codec, zero] = at.take::<8>();
    if version != VERSION {
        return Err(format!("envelope version {version} is not known to this release"));
    }
    let kind = match kind {
        1 => Kind::Model,
        2 => Kind::Training,
        3 => Kind::Artifact,
        4 => Kind::Record,
        5 => Kind::Columns,
        other => return Err(format!("kind {other} is not known to this release")),
    };
    let codec = Codec::from_id(codec).ok_or_else(|| format!("codec {codec} is not known to this release"))?;
    let schema_id = u64::from_le_bytes(at.take());
    let schema_version = u32::from_le_bytes(at.take());
    let layout = u32::from_le_bytes(at.take());
    if layout != RKYV_LAYOUT {
        return Err(format!("rkyv layout {layout:#010x} is not this build's {RKYV_LAYOUT:#010x}"));
    }
    let raw_len = u64::from_le_bytes(at.take());
    let stored_len = u64::from_le_bytes(at.take());
    if zero != 0 || at.take() != [0; 8] {
        return Err("reserved bytes are not zero".into());
    }
    if raw_len > ARCHIVE_BYTES_MAX {
        return Err(format!("{raw_len} bytes exceed the limit of {ARCHIVE_BYTES_MAX}"));
    }
    let header = Header { kind, codec, schema_id, schema_version, raw_len };
    Ok((header, stored_len, Digest::from_bytes(at.take())))
}

/// Takes fixed-width fields off the front of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => unreachable!("the fields of a header add up to {SEALED_BYTES} bytes"),
        }
    }
}

fn broken(place: Place<'_>, message: impl Into<String>) -> Error {
    Error::corrupt("open sealed value", place.to_string(), message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'static> = Place { table: "metadata", key: b"bounce", fields: &[Field::Tail] };

    fn header(raw_len: usize) -> Header {
        Header { kind: Kind::Model, codec: Codec::Raw, schema_id: 42, schema_version: 3, raw_len: raw_len as u64 }
    }

    fn sealed(payload: &[u8]) -> Vec<u8> {
        let mut value = seal(PLACE, &header(payload.len()), payload).to_vec();
        value.extend_from_slice(payload);
        value
    }

    #[test]
    fn a_seal_is_what_derive_key_says() {
        let value = sealed(b"weights");
        let mut hasher = Hasher::new_derive_key(SEAL_CONTEXT);
        for part in [PLACE.table.as_bytes(), PLACE.key] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hasher.update(&value[..SEALED_BYTES]);
        assert_eq!(value[SEALED_BYTES..HEADER_BYTES], *hasher.finalize().as_bytes());
    }

    #[test]
    fn what_was_sealed_opens() {
        let value = sealed(b"twenty bytes of model");
        let envelope = open(PLACE, Kind::Model, &value, Verify::Full).unwrap();
        assert_eq!(envelope.payload, b"twenty bytes of model");
        assert_eq!(envelope.header, header(21));
    }

    #[test]
    fn every_single_bit_flip_is_detected() {
        let value = sealed(b"weights");
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(PLACE, Kind::Model, &flipped, Verify::Full).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flip_in_the_header_is_detected_without_reading_the_payload() {
        let value = sealed(b"weights");
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(PLACE, Kind::Model, &flipped, Verify::Structure).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_value_does_not_open_under_another_key_table_or_kind() {
        let value = sealed(b"weights");
        let other_key = Place { key: b"bouncf", ..PLACE };
        let other_table = Place { table: "metadatb", ..PLACE };
        // The boundary between table and key is part of the seal, too.
        let shifted = Place { table: "metadatab", key: b"ounce", fields: &[Field::Tail] };
        for place in [other_key, other_table, shifted] {
            let err = open(place, Kind::Model, &value, Verify::Structure).unwrap_err();
            assert!(err.message().contains("seal"), "{err}");
        }
        assert!(open(PLACE, Kind::Artifact, &value, Verify::Full).is_err());
    }

    #[test]
    fn cut_and_extended_values_are_refused() {
        let value = sealed(b"weights");
        for len in 0..value.len() {
            assert!(open(PLACE, Kind::Model, &value[..len], Verify::Structure).is_err(), "{len} bytes");
        }
        let mut longer = value;
        longer.push(0);
        assert!(open(PLACE, Kind::Model, &longer, Verify::Structure).is_err());
    }

    #[test]
    fn a_large_payload_keeps_its_cache_line() {
        assert_eq!((16 + HEADER_BYTES) % 64, 0);
    }

    proptest! {
        #[test]
        fn round_trip(payload in prop::collection::vec(any::<u8>(), 0..2000), key in prop::collection::vec(any::<u8>(), 0..80)) {
            let place = Place { table: "t", key: &key, fields: &[Field::Tail] };
            let mut value = seal(place, &header(payload.len()), &payload).to_vec();
            value.extend_from_slice(&payload);
            let envelope = open(place, Kind::Model, &value, Verify::Full).unwrap();
            prop_assert_eq!(envelope.payload, &payload[..]);
        }

        #[test]
        fn no_bytes_make_it_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(PLACE, Kind::Model, &value, Verify::Full).is_err());
        }
    }
}
