//! Which store a file is: an id of its own and the time of its creation, written once.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::{batch::Batch, sealed, snapshot::Reader, tables::Table};
use crate::{
    format::record,
    types::{
        error::{Error, ErrorKind, Result},
        hash::hex,
        time::Timestamp,
    },
};

/// The key of the identity in the table `store`.
pub(super) const KEY: &[u8] = b"identity";

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct IdentityV1 {
    id: [u8; 16],
    created: i64,
}

crate::format::record::schema!(IdentityV1, "modelkeep.identity", 1);

/// Which store a file is. A copy of a file has the identity of its original.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// 32 hex digits, drawn at random when the store was created.
    pub id: String,
    /// When the store was created, by its clock.
    pub created: Timestamp,
}

/// Returns the sealed identity of a store that is created at `now`.
pub(super) fn draw(now: Timestamp) -> Result<Vec<u8>> {
    // Each `RandomState` has keys from the operating system's generator.
    let random = || RandomState::new().build_hasher().finish().to_le_bytes();
    let (low, high) = (random(), random());
    let mut id = [0; 16];
    id.iter_mut().zip(low.into_iter().chain(high)).for_each(|(out, byte)| *out = byte);
    let place = Table::Store.place(KEY);
    record::seal(place, &IdentityV1 { id, created: now.as_nanos() })
}

/// Gives a store that has lost its identity another one.
pub(crate) fn renew(batch: &Batch, now: Timestamp) -> Result<()> {
    match read(batch) {
        Err(err) if err.kind() == ErrorKind::Corrupt => {
            tracing::error!(error = %err, "the store gets another identity");
            batch.put(Table::Store, KEY, &draw(now)?)
        }
        read => read.map(drop),
    }
}

/// Reads the identity.
pub(crate) fn read(reader: &impl Reader) -> Result<Identity> {
    match sealed::record::<IdentityV1>(reader, Table::Store, KEY)? {
        Some(record) => Ok(Identity { id: hex(&record.id), created: Timestamp::from_nanos(record.created) }),
        None => Err(Error::corrupt("read identity", "store", "the store does not say which one it is")),
    }
}
