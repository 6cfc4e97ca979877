//! Sealed values in transactions: records in tables, blobs among the archives.
//!
//! This is where a value meets its place: the seal is made for the very table and key that it is stored under, and
//! checked against them.

use std::borrow::Cow;

use super::{
    batch::{Batch, Sealed},
    mapped::Lease,
    snapshot::{Reader, Snapshot, Value},
    tables::{ArchiveTable, LARGE_BYTES_MIN, LAST_ARCHIVE, Table},
};
use crate::{
    format::{
        buffer::{AlignedBuf, InPlace},
        codec::{self, Codec},
        envelope::{self, Envelope, HEADER_BYTES, Header, Kind, Place, Verify},
        record::{self, PageChecksum, Payload, Record},
        schema::{Schema, SchemaTag},
    },
    types::{
        error::{Error, ErrorKind, Result},
        hash::Digest,
        limits::ARCHIVE_BYTES_MAX,
    },
};

/// The row that counts archive ids. An id is never given out twice, so an old archive cannot pass for a newer one.
const NEXT_ARCHIVE: &[u8] = b"next_archive";

/// How far a damaged counter is set beyond the highest id in the file: further than anybody removed from the end.
const REBUILT_COUNTER_GAP: u64 = 1 << 32;

/// What the row that ends the table of large archives says that it is.
const LAST: Schema = Schema::new("modelkeep.last_archive", 1);

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CounterV1 {
    next: u64,
}

crate::format::record::schema!(CounterV1, "modelkeep.counter", 1);

/// Reads the sealed record under `key`.
pub(crate) fn record<R: Record>(reader: &impl Reader, table: Table, key: &[u8]) -> Result<Option<R>> {
    let place = table.place(key);
    reader.look(table, key, |value, page| record::open(place, value, page))?.transpose()
}

/// Looks at the sealed record under `key`, once it is verified.
pub(crate) fn look_at<R: Record, T>(
    reader: &impl Reader,
    table: Table,
    key: &[u8],
    look: impl FnOnce(&R::Archived) -> T,
) -> Result<Option<T>> {
    let place = table.place(key);
    reader.look(table, key, |value, page| record::look::<R, T>(place, value, page, look))?.transpose()
}

/// Opens a sealed record that was read as bytes already.
pub(crate) fn open_record<R: Record>(table: Table, key: &[u8], value: &[u8]) -> Result<R> {
    record::open(table.place(key), value, PageChecksum::Unverified)
}

/// Verifies a sealed record that was read as bytes already, and looks at it.
pub(crate) fn look<R: Record, T>(
    table: Table,
    key: &[u8],
    value: &[u8],
    page: PageChecksum,
    look: impl FnOnce(&R::Archived) -> T,
) -> Result<T> {
    record::look::<R, T>(table.place(key), value, page, look)
}

/// Verifies a sealed record that was read as bytes already.
pub(crate) fn payload<R: Record>(table: Table, key: &[u8], value: &[u8], page: PageChecksum) -> Result<Payload<R>> {
    record::payload(table.place(key), value, page)
}

/// Opens sealed columns that were read as bytes already, and checks all of them.
pub(crate) fn open_columns<'a>(table: Table, key: &[u8], value: &'a [u8], schema: &Schema) -> Result<&'a [u8]> {
    open_columns_of(PageChecksum::Unverified, table, key, value, schema)
}

/// The same for columns of a page whose checksum may be known to hold: then their own hash is left out.
pub(crate) fn open_columns_of<'a>(
    page: PageChecksum,
    table: Table,
    key: &[u8],
    value: &'a [u8],
    schema: &Schema,
) -> Result<&'a [u8]> {
    let place = table.place(key);
    let verify = match page {
        PageChecksum::Verified => Verify::Structure,
        PageChecksum::Unverified => Verify::Full,
    };
    let envelope = envelope::open(place, Kind::Columns, value, verify)?;
    if (envelope.header.schema_id, envelope.header.schema_version) == (schema.id(), schema.version()) {
        return Ok(envelope.payload);
    }
    let message = format!("expected {schema}, found other columns (version {})", envelope.header.schema_version);
    Err(Error::corrupt("read columns", place.to_string(), message))
}

/// Returns the value to store under `key` for columns.
pub(crate) fn seal_columns(table: Table, key: &[u8], schema: &Schema, columns: &[u8]) -> Vec<u8> {
    let header = Header {
        kind: Kind::Columns,
        codec: Codec::Raw,
        schema_id: schema.id(),
        schema_version: schema.version(),
        raw_len: columns.len() as u64,
    };
    let mut value = Vec::with_capacity(HEADER_BYTES + columns.len());
    value.extend_from_slice(&envelope::seal(table.place(key), &header, columns));
    value.extend_from_slice(columns);
    value
}

/// The columns of a sealed value, if it looks like one; nothing is checked.
pub(crate) fn unverified_columns(value: &[u8]) -> Option<&[u8]> {
    value.get(HEADER_BYTES..)
}

/// What is sealed of an archive, whatever its place.
pub(crate) struct BlobHead {
    header: Header,
    payload_hash: Digest,
    payload_bytes: usize,
}

impl BlobHead {
    /// Describes bytes that are stored as they are, and whose hash is known.
    pub(crate) fn raw(kind: Kind, schema: &SchemaTag, raw: &[u8], payload_hash: Digest) -> Result<Self> {
        check_size(raw)?;
        Ok(Self { header: header(kind, schema, Codec::Raw, raw.len()), payload_hash, payload_bytes: raw.len() })
    }

    /// The bytes to store in front of the payload under `id`.
    pub(crate) fn seal_for(&self, id: u64) -> [u8; HEADER_BYTES] {
        let key = id.to_le_bytes();
        let place = ArchiveTable::of(id).place(&key);
        envelope::seal_hashed(place, &self.header, self.payload_bytes as u64, self.payload_hash)
    }

    /// Bytes that it takes in the file, with its payload.
    pub(crate) fn stored_bytes(&self) -> u64 {
        (HEADER_BYTES + self.payload_bytes) as u64
    }
}

/// An archive, encoded and hashed, ready to be written: the slow part of a write, done before the transaction.
pub(crate) struct Blob<'a> {
    head: BlobHead,
    payload: Cow<'a, [u8]>,
}

impl<'a> Blob<'a> {
    /// Encodes `raw`. Compression that gains nothing is not kept.
    pub(crate) fn encode(kind: Kind, schema: &SchemaTag, codec: Codec, raw: &'a [u8]) -> Result<Self> {
        check_size(raw)?;
        let compressed = match codec {
            Codec::Raw => None,
            Codec::Zstd => Blob::compress(kind, schema, raw)?,
        };
        Ok(compressed.unwrap_or_else(|| Self::hashed(kind, schema, Codec::Raw, raw.len(), Cow::Borrowed(raw))))
    }

    /// Compresses `raw`; `None` when that gains nothing.
    pub(crate) fn compress(kind: Kind, schema: &SchemaTag, raw: &[u8]) -> Result<Option<Blob<'static>>> {
        check_size(raw)?;
        let packed = codec::compress(raw)?;
        let gained = packed.len() < raw.len();
        Ok(gained.then(|| Blob::hashed(kind, schema, Codec::Zstd, raw.len(), Cow::Owned(packed))))
    }

    fn hashed(kind: Kind, schema: &SchemaTag, codec: Codec, raw_len: usize, payload: Cow<'a, [u8]>) -> Self {
        let head = BlobHead {
            header: header(kind, schema, codec, raw_len),
            payload_hash: Digest::of(&payload),
            payload_bytes: payload.len(),
        };
        Self { head, payload }
    }

    /// The same content for an id in `table`, which was given to it in another encoding; `None` when it will do as it
    /// is.
    ///
    /// A model that is a page or more raw, and less packed, is filled up with zeros: among large archives no small one
    /// may be.
    fn fit_for(&self, table: ArchiveTable) -> Result<Option<Blob<'static>>> {
        if ArchiveTable::for_bytes(self.stored_bytes()) == table {
            return Ok(None);
        }
        if table != ArchiveTable::Large || self.head.header.codec != Codec::Zstd {
            let message = format!("{} bytes do not belong into the table {}", self.stored_bytes(), table.name());
            return Err(Error::invalid("write archive", "payload", message));
        }
        let mut payload = self.payload.to_vec();
        payload.resize(LARGE_BYTES_MIN - HEADER_BYTES, 0);
        let head =
            BlobHead { header: self.head.header, payload_hash: Digest::of(&payload), payload_bytes: payload.len() };
        Ok(Some(Blob { head, payload: Cow::Owned(payload) }))
    }

    /// Bytes that it takes in the file.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.head.stored_bytes()
    }
}

impl Batch {
    /// Writes a sealed record.
    pub(crate) fn put_record<R: Record>(&self, table: Table, key: &[u8], record: &R) -> Result<()> {
        let value = record::seal(table.place(key), record)?;
        self.put(table, key, &value)
    }

    /// Writes sealed columns.
    pub(crate) fn put_columns(&self, table: Table, key: &[u8], schema: &Schema, columns: &[u8]) -> Result<()> {
        self.put(table, key, &seal_columns(table, key, schema, columns))
    }

    /// Writes an archive under a new id and returns the id.
    pub(crate) fn put_blob(&self, blob: &Blob<'_>) -> Result<u64> {
        let id = self.new_blob_id(&blob.head)?;
        self.write_blob(id, blob)?;
        Ok(id)
    }

    /// The number that the next archive gets; `None` before the first one. Where the counter is damaged, or gone, it
    /// goes on above every number in the file.
    fn next_archive_number(&self) -> Result<Option<u64>> {
        let damaged = match record::<CounterV1>(self, Table::Store, NEXT_ARCHIVE) {
            Ok(Some(counter)) => return Ok(Some(counter.next)),
            Ok(None) => None,
            Err(err) if err.kind() == ErrorKind::Corrupt => Some(err),
            Err(err) => return Err(err),
        };
        // Reads the last archive: not to be asked for each time.
        let last = self.last_archive_number()?;
        if damaged.is_none() && last.is_none() {
            return Ok(None);
        }
        let rebuilt = last.unwrap_or(0) + REBUILT_COUNTER_GAP;
        tracing::error!(error = ?damaged, rebuilt, "the counter of archives is damaged");
        Ok(Some(rebuilt))
    }

    /// Returns an id for an archive that none had before, for [`write_archive`](Self::write_archive). Archives are
    /// written in the order of their ids.
    pub(crate) fn new_blob_id(&self, blob: &BlobHead) -> Result<u64> {
        let number = self.next_archive_number()?.unwrap_or(1);
        self.put_record(Table::Store, NEXT_ARCHIVE, &CounterV1 { next: number + 1 })?;
        Ok(ArchiveTable::for_bytes(blob.stored_bytes()).id(number))
    }

    /// Writes an archive under an id that holds the same content in another encoding.
    pub(crate) fn put_blob_at(&self, id: u64, blob: &Blob<'_>) -> Result<()> {
        match blob.fit_for(ArchiveTable::of(id))? {
            Some(padded) => self.write_blob(id, &padded),
            None => self.write_blob(id, blob),
        }
    }

    fn write_blob(&self, id: u64, blob: &Blob<'_>) -> Result<()> {
        self.write_archive(id, &Sealed::Apart { header: &blob.head.seal_for(id), payload: &blob.payload })
    }

    /// Writes an archive that was sealed for `id`; see [`put_archive`](Self::put_archive).
    pub(crate) fn write_archive(&self, id: u64, archive: &Sealed<'_>) -> Result<()> {
        if ArchiveTable::of(id) == ArchiveTable::Large && !self.has_last_archive()? {
            let blob = Blob::encode(Kind::Artifact, &LAST.tag()?, Codec::Raw, &[0; LARGE_BYTES_MIN - HEADER_BYTES])?;
            let header = blob.head.seal_for(LAST_ARCHIVE);
            self.put_archive(LAST_ARCHIVE, &Sealed::Apart { header: &header, payload: &blob.payload })?;
            self.note_last_archive();
        }
        self.put_archive(id, archive)
    }
}

/// An archive as it lies in the file, or a copy of it.
pub(crate) struct StoredBlob {
    id: u64,
    value: Value,
}

impl Snapshot {
    /// Returns the archive under `id`, or an error that names the id when there is none.
    pub(crate) fn blob(&self, id: u64) -> Result<StoredBlob> {
        match self.archive(id)? {
            Some(value) => Ok(StoredBlob { id, value }),
            None => Err(missing(id)),
        }
    }
}

impl StoredBlob {
    /// Opens the envelope; checks all bytes of the payload under [`Verify::Full`].
    pub(crate) fn open(&self, kind: Kind, verify: Verify) -> Result<Envelope<'_>> {
        if verify == Verify::Full {
            self.expect_order();
        }
        let key = self.id.to_le_bytes();
        envelope::open(place(self.id, &key), kind, &self.value, verify)
    }

    /// Says that all of it is going to be read, in order.
    pub(crate) fn expect_order(&self) {
        self.value.expect_order();
    }

    /// Opens the envelope of a payload whose hash is known, without checking the payload.
    pub(crate) fn open_known(&self, kind: Kind, hash: Digest) -> Result<Envelope<'_>> {
        let key = self.id.to_le_bytes();
        envelope::open_known(place(self.id, &key), kind, &self.value, hash)
    }

    /// Opens, checks in full and decodes.
    pub(crate) fn read(&self, kind: Kind, schema: &SchemaTag) -> Result<AlignedBuf> {
        let envelope = self.open(kind, Verify::Full)?;
        check_schema(self.id, &envelope.header, schema)?;
        codec::decode(envelope.header.codec, envelope.payload, envelope.header.raw_len)
    }
}

impl StoredBlob {
    /// The payload of an archive that is stored as it is, in memory that is aligned for it: where it lies in the file,
    /// or a copy.
    ///
    /// What is used at once, a page here and a page there, is to be populated when it has been used for the first time.
    pub(crate) fn into_payload(self) -> Result<AlignedBuf> {
        let id = self.id;
        let misplaced = || Error::corrupt("read archive", subject(id), "its payload is not aligned");
        self.value.into_payload().ok_or_else(misplaced)
    }
}

fn place(id: u64, key: &[u8; 8]) -> Place<'_> {
    ArchiveTable::of(id).place(key)
}

impl InPlace for Lease {
    fn bytes(&self) -> &[u8] {
        Self::bytes(self)
    }

    fn is_at_hand(&self) -> bool {
        Self::is_at_hand(self)
    }

    fn populate(&self, from: usize) -> Option<usize> {
        Self::populate(self, from)
    }
}

fn header(kind: Kind, schema: &SchemaTag, codec: Codec, raw_len: usize) -> Header {
    Header { kind, codec, schema_id: schema.id(), schema_version: schema.version(), raw_len: raw_len as u64 }
}

/// How many archives were ever written here, at least: no version number is higher.
pub(crate) fn archives_ever(batch: &Batch) -> Result<u64> {
    Ok(batch.next_archive_number()?.unwrap_or(0))
}

fn check_size(raw: &[u8]) -> Result<()> {
    if raw.len() as u64 > ARCHIVE_BYTES_MAX {
        let message = format!("{} bytes exceed the limit of {ARCHIVE_BYTES_MAX}", raw.len());
        return Err(Error::new(ErrorKind::LimitExceeded, "write archive", "payload", message));
    }
    Ok(())
}

/// Checks that a blob is of the schema that its owner says it is of.
pub(crate) fn check_schema(id: u64, header: &Header, expected: &SchemaTag) -> Result<()> {
    if (header.schema_id, header.schema_version) == (expected.id(), expected.version()) {
        return Ok(());
    }
    let message = format!("it is of another schema than its owner's, {expected}");
    Err(Error::corrupt("read archive", subject(id), message))
}

/// The error for a reference to an archive that is not there.
pub(crate) fn missing(id: u64) -> Error {
    Error::corrupt("read archive", subject(id), "it is referred to and not in the file")
}

/// Opens any sealed value of a table of archives and checks all of it.
pub(crate) fn check_blob(table: ArchiveTable, id: u64, value: &[u8]) -> Result<()> {
    let key = id.to_le_bytes();
    let place = table.place(&key);
    let envelope = envelope::open_any(place, value)?;
    envelope::check_payload(place, &envelope)
}

/// Opens any sealed value of a table and checks all of it. The stamp, which is not sealed, is checked when the file
/// is opened.
pub(crate) fn check_row(table: Table, key: &[u8], value: &[u8]) -> Result<()> {
    if table == Table::Store && key == super::stamp::KEY {
        return Ok(());
    }
    let place = table.place(key);
    let envelope = envelope::open_any(place, value)?;
    let columns = matches!(table, Table::Bars | Table::BarHistory | Table::Features);
    let expected = if columns { Kind::Columns } else { Kind::Record };
    if envelope.header.kind != expected {
        let message = format!("it is sealed as {:?}, expected {expected:?}", envelope.header.kind);
        return Err(Error::corrupt("verify", place.to_string(), message));
    }
    envelope::check_payload(place, &envelope)
}

fn subject(id: u64) -> String {
    format!("{}/{}", ArchiveTable::of(id).name(), ArchiveTable::number(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_whole_page_are_not_hashed_again() {
        const SCHEMA: Schema = Schema::new("columns", 1);
        let (table, key, columns) = (Table::Bars, b"key".as_slice(), [7; 100]);
        let header = header(Kind::Columns, &SCHEMA.tag().unwrap(), Codec::Raw, columns.len());
        let mut value = envelope::seal(table.place(key), &header, &columns).to_vec();
        value.extend_from_slice(&columns);
        let open = |value: &[u8]| {
            [PageChecksum::Unverified, PageChecksum::Verified]
                .map(|page| open_columns_of(page, table, key, value, &SCHEMA).is_ok())
        };
        assert_eq!(open(&value), [true, true]);
        value[HEADER_BYTES + 5] ^= 1;
        assert_eq!(open(&value), [false, true]);
        value[50] ^= 1;
        assert_eq!(open(&value), [false, false], "the seal is checked whatever the page says");
    }
}
