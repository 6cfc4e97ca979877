//! Small sealed records: rkyv values of this crate's own, always verified in full and read into owned values.

use std::marker::PhantomData;

use rkyv::{
    Archive, Deserialize, Serialize,
    api::high::{HighDeserializer, HighSerializer, HighValidator},
    bytecheck::CheckBytes,
    rancor,
    ser::allocator::ArenaHandle,
    util::AlignedVec,
};

use super::{
    codec::Codec,
    envelope::{self, Header, Kind, Place, Verify},
    schema::Schema,
};
use crate::types::{
    error::{Error, ErrorKind, Result},
    invariant::Invariant,
    limits::RECORD_BYTES_MAX,
};

/// A type that is stored as a sealed record. Frozen once released: a change is a new type with a new version.
pub(crate) trait Record:
    Sized
    + Archive<
        Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
                      + Deserialize<Self, HighDeserializer<rancor::Error>>,
    > + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>
{
    /// The record's schema.
    const SCHEMA: Schema;

    /// The schema's name as it stands in envelopes. Computed once: it is a hash, and compared for every row.
    fn schema_id() -> u64;
}

/// Says which schema a record has.
macro_rules! schema {
    ($record:ty, $name:literal, $version:literal) => {
        impl $crate::format::record::Record for $record {
            const SCHEMA: $crate::format::schema::Schema = $crate::format::schema::Schema::new($name, $version);

            fn schema_id() -> u64 {
                static ID: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
                *ID.get_or_init(|| Self::SCHEMA.id())
            }
        }
    };
}

pub(crate) use schema;

/// Returns the bytes to store at `place` for `record`.
pub(crate) fn seal<R: Record>(place: Place<'_>, record: &R) -> Result<Vec<u8>> {
    let payload = rkyv::to_bytes::<rancor::Error>(record).map_err(|err| {
        Error::new(ErrorKind::Io, "write record", place.to_string(), "it cannot be serialised").with_source(err)
    })?;
    if payload.len() > RECORD_BYTES_MAX {
        let message = format!("{} bytes exceed the limit of {RECORD_BYTES_MAX}", payload.len());
        return Err(Error::new(ErrorKind::LimitExceeded, "write record", place.to_string(), message));
    }
    let header = Header {
        kind: Kind::Record,
        codec: Codec::Raw,
        schema_id: R::schema_id(),
        schema_version: R::SCHEMA.version(),
        raw_len: payload.len() as u64,
    };
    let mut value = Vec::with_capacity(envelope::HEADER_BYTES + payload.len());
    value.extend_from_slice(&envelope::seal(place, &header, &payload));
    value.extend_from_slice(&payload);
    Ok(value)
}

/// A record as it is stored: verified, and not read yet.
pub(crate) struct Payload<R> {
    bytes: AlignedVec<16>,
    of: PhantomData<fn() -> R>,
}

impl<R> Clone for Payload<R> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), of: PhantomData }
    }
}

impl<R: Record> Payload<R> {
    /// The record in its archived form; checks the structure.
    pub(crate) fn archived(&self) -> Result<&R::Archived> {
        rkyv::access::<R::Archived, rancor::Error>(&self.bytes).map_err(misshapen::<R>)
    }

    /// Bytes of a field, from `offset` in the archived form on, where they lie. What the rest of the structure is like
    /// is not asked: so a scan of many records pays for it where it is read, in [`archived`](Self::archived).
    pub(crate) fn field<const N: usize>(&self, offset: usize) -> Result<[u8; N]> {
        // rkyv writes the root last.
        let root = self.bytes.len().checked_sub(size_of::<R::Archived>());
        let field = root.and_then(|root| self.bytes.get(root..)?.get(offset..)?.first_chunk());
        field.copied().ok_or_else(|| {
            Error::corrupt("read record", R::SCHEMA.to_string(), "it is shorter than what is in every such record")
        })
    }

    /// The record itself.
    pub(crate) fn read(&self) -> Result<R> {
        rkyv::from_bytes::<R, rancor::Error>(&self.bytes).map_err(misshapen::<R>)
    }
}

fn misshapen<R: Record>(err: rancor::Error) -> Error {
    Error::corrupt("read record", R::SCHEMA.to_string(), "its structure is broken").with_source(err)
}

/// Whether a value is known to be what redb wrote, by the checksum of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageChecksum {
    /// It was compared with what the page above says.
    Verified,
    /// It was not.
    Unverified,
}

/// Reads the record stored at `place` as `value`.
pub(crate) fn open<R: Record>(place: Place<'_>, value: &[u8], page: PageChecksum) -> Result<R> {
    payload::<R>(place, value, page)?.read().map_err(|err| err.about(place.to_string()))
}

/// Verifies the record stored at `place` as `value`: by its seal, unless its page is known to be whole.
pub(crate) fn payload<R: Record>(place: Place<'_>, value: &[u8], page: PageChecksum) -> Result<Payload<R>> {
    let stored = verified::<R>(place, value, page)?;
    // rkyv reads in place and needs alignment, which a slice of a page does not promise.
    let mut bytes = AlignedVec::<16>::with_capacity(stored.len());
    bytes.extend_from_slice(stored);
    Ok(Payload { bytes, of: PhantomData })
}

/// Bytes of a record up to which it is looked at without memory of its own.
const SMALL_BYTES: usize = 256;

/// The same, for a head without pins: less has to be filled with zeros first.
const TINY_BYTES: usize = 64;

#[repr(align(16))]
struct Small<const N: usize>([u8; N]);

fn look_at_copy<R: Record, T, const N: usize>(stored: &[u8], look: impl FnOnce(&R::Archived) -> T) -> Result<T> {
    let mut small = Small([0; N]);
    let bytes = small.0.get_mut(..stored.len()).always("it was looked whether there is room");
    bytes.copy_from_slice(stored);
    rkyv::access::<R::Archived, rancor::Error>(bytes).map(look).map_err(misshapen::<R>)
}

/// Verifies the record stored at `place` as `value`, and looks at it in its archived form.
pub(crate) fn look<R: Record, T>(
    place: Place<'_>,
    value: &[u8],
    page: PageChecksum,
    look: impl FnOnce(&R::Archived) -> T,
) -> Result<T> {
    let stored = verified::<R>(place, value, page)?;
    if stored.len() <= TINY_BYTES {
        return look_at_copy::<R, T, TINY_BYTES>(stored, look);
    }
    if stored.len() <= SMALL_BYTES {
        return look_at_copy::<R, T, SMALL_BYTES>(stored, look);
    }
    payload::<R>(place, value, page)?.archived().map(look)
}

/// The payload's bytes, as they were written.
fn verified<'a, R: Record>(place: Place<'_>, value: &'a [u8], page: PageChecksum) -> Result<&'a [u8]> {
    let envelope = match page {
        PageChecksum::Verified => envelope::open_whole(place, Kind::Record, value)?,
        PageChecksum::Unverified => envelope::open(place, Kind::Record, value, Verify::Full)?,
    };
    let Header { schema_id, schema_version, .. } = envelope.header;
    let broken = |message: String| Error::corrupt("read record", place.to_string(), message);
    if (schema_id, schema_version) != (R::schema_id(), R::SCHEMA.version()) {
        let expected = R::SCHEMA;
        return Err(broken(format!("expected a {expected}, found another record (version {schema_version})")));
    }
    Ok(envelope.payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::key::row::Field;

    #[derive(Archive, Serialize, Deserialize, Debug, PartialEq)]
    struct Pair {
        name: String,
        values: Vec<f64>,
    }

    schema!(Pair, "test.pair", 1);

    #[derive(Archive, Serialize, Deserialize, Debug, PartialEq)]
    struct PairTwo {
        name: String,
        values: Vec<f64>,
    }

    schema!(PairTwo, "test.pair", 2);

    const PLACE: Place<'static> = Place { table: "t", key: b"k", fields: &[Field::Tail] };

    #[test]
    fn a_record_comes_back_and_no_flipped_bit_survives() {
        let pair = Pair { name: "vix".into(), values: vec![1.5, f64::NEG_INFINITY] };
        let value = seal(PLACE, &pair).unwrap();
        assert_eq!(open::<Pair>(PLACE, &value, PageChecksum::Unverified).unwrap(), pair);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<Pair>(PLACE, &flipped, PageChecksum::Unverified).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_is_looked_at_whatever_its_size_and_its_fields_are_where_they_are_said_to_be() {
        for length in [0, 3, 30, 3000] {
            let pair = Pair { name: "vix".into(), values: vec![0.5; length] };
            let value = seal(PLACE, &pair).unwrap();
            // Wherever it lies.
            for shift in 0..16 {
                let moved = [vec![0; shift], value.clone()].concat();
                let looked = look::<Pair, _>(PLACE, &moved[shift..], PageChecksum::Verified, |pair| pair.values.len());
                assert_eq!(looked.unwrap(), length);
            }
            let payload = payload::<Pair>(PLACE, &value, PageChecksum::Unverified).unwrap();
            let values = std::mem::offset_of!(ArchivedPair, values);
            // Of a vector in its archived form, the second half is its length.
            assert_eq!(u32::from_le_bytes(payload.field(values + 4).unwrap()) as usize, length);
            assert!(payload.field::<8>(size_of::<ArchivedPair>() - 7).is_err());
        }
    }

    #[test]
    fn another_version_of_a_record_is_refused_by_name() {
        let value = seal(PLACE, &Pair { name: "vix".into(), values: vec![] }).unwrap();
        let err = open::<PairTwo>(PLACE, &value, PageChecksum::Unverified).unwrap_err();
        assert!(err.message().contains("test.pair v2"), "{err}");
    }
}
