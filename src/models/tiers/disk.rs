//! The file as a tier: one version, read and checked as the policy says; and what becomes of a damaged one.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{
    super::{
        Models,
        archive::ValidatedBytes,
        catalog::{
            metadata::{self, Stored},
            quarantine,
        },
        entry::{Entry, check_hash, compare_hash, whole_but_other},
        model_ref::Tier,
    },
    change::Change,
    find::{Found, Located, Wanted},
};
use crate::{
    engine::{Batch, Snapshot, sealed},
    format::{
        codec::{self, Codec},
        envelope::{Header, Kind, Verify},
    },
    models::catalog::head,
    types::{
        error::{Error, ErrorKind, Result},
        key::ModelKey,
        version::Version,
    },
};

/// Which version is to be read, as what, and what of it is to be checked.
#[derive(Clone, Copy)]
pub(super) struct Load<'a> {
    pub(super) key: &'a ModelKey,
    pub(super) version: Version,
    pub(super) wanted: &'a Wanted,
    pub(super) verify: Verify,
}

impl Models {
    /// Reads one version from the file and checks it as the policy says.
    pub(in super::super) fn load(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        key: &ModelKey,
        version: Version,
        wanted: &Wanted,
    ) -> Found<Located> {
        let load = Load { key, version, wanted, verify: self.settings.verify };
        let started = self.core.clock().monotonic();
        let stored = match self.find_stored(snapshot, &load) {
            Ok(stored) => stored,
            Err(found) => return found,
        };
        let found = self.load_stored(snapshot, &load, stored, started);
        if let Found::Model((entry, _)) = &found {
            self.finish_later(key, version, entry);
        }
        found
    }

    /// Finds what is known of a version; how the search ended, if that is not to be read.
    pub(super) fn find_stored(&self, snapshot: &Snapshot, load: &Load<'_>) -> Result<Stored, Found<Located>> {
        let Load { key, version, wanted, .. } = *load;
        let stored = self.refuse_quarantined(snapshot, key, version);
        match stored.and_then(|()| metadata::read(snapshot, key, version)) {
            Ok(Some(stored)) if stored.metadata.schema.is(&wanted.schema) => Ok(stored),
            Ok(Some(stored)) => Err(wanted.refuse(&stored.metadata.schema)),
            Ok(None) => Err(Found::Missing),
            Err(err) => Err(Found::Failed(err)),
        }
    }

    /// Reads the archive of a version that was found, and checks it. The load began at `started`.
    pub(super) fn load_stored(
        &self,
        snapshot: &Snapshot,
        load: &Load<'_>,
        stored: Stored,
        started: Duration,
    ) -> Found<Located> {
        let Load { key, version, .. } = *load;
        match Self::read_archive(snapshot, load, &stored) {
            Ok(checked) => {
                let load_time = self.count_load(started);
                tracing::debug!(%key, %version, ?load_time, "loaded from disk");
                let entry = Entry::new(Arc::new(checked), stored.metadata, Arc::clone(self.core.clock()));
                Found::Model((Arc::new(entry.loaded_in(load_time)), Tier::Disk))
            }
            Err(err) if err.kind() == ErrorKind::Corrupt => Found::Damaged(version, err),
            Err(err) => Found::Failed(err),
        }
    }

    fn read_archive(snapshot: &Snapshot, load: &Load<'_>, stored: &Stored) -> Result<ValidatedBytes> {
        let Load { key, version, wanted, verify } = *load;
        let blob = snapshot.blob(stored.archive_id)?;
        let mut envelope = blob.open_known(Kind::Model, stored.metadata.model_hash)?;
        let raw = envelope.header.codec == Codec::Raw;
        if !raw {
            // All of it is decoded. What comes out is compared with the model's own hash, so what goes in need not be.
            blob.expect_order();
        } else if verify == Verify::Full {
            envelope = blob.open(Kind::Model, verify)?;
        }
        sealed::check_schema(stored.archive_id, &envelope.header, &stored.metadata.schema)?;
        // The seal binds these bytes to their id; this binds the id to the version that names it.
        if raw && envelope.payload_hash != stored.metadata.model_hash {
            let message = format!("its archive is not the one that was published as {version}");
            return Err(Error::corrupt("read archive", key.to_string(), message));
        }
        let bytes = if raw {
            blob.into_payload()?
        } else {
            let Header { codec, raw_len, .. } = envelope.header;
            if verify == Verify::Full {
                let (bytes, found) = codec::decode_and_hash(codec, envelope.payload, raw_len)?;
                compare_hash(&format!("{key} {version}"), &stored.metadata, found)?;
                bytes
            } else {
                codec::decode(codec, envelope.payload, raw_len)?
            }
        };
        (wanted.check)(bytes).map_err(|err| {
            let whole =
                snapshot.blob(stored.archive_id).and_then(|blob| blob.open(Kind::Model, Verify::Full).map(drop));
            if whole.is_err() { err } else { whole_but_other(&wanted.schema, key, err) }
        })
    }

    /// Has done on another thread what need not be done before a model is used: the pages that were not touched yet are
    /// read, so that the second prediction is not slow either, and the bytes are hashed, if the policy says so.
    fn finish_later(self: &Arc<Self>, key: &ModelKey, version: Version, entry: &Arc<Entry>) {
        let verify = self.settings.verify == Verify::Background;
        let populate = self.settings.verify != Verify::Full && !entry.checked.is_at_hand();
        if !verify && !populate {
            return;
        }
        let (models, gate) = (Arc::downgrade(self), Arc::clone(self.core.gate()));
        let (key, weak) = (key.clone(), Arc::downgrade(entry));
        // What nobody holds any more need not be read in advance; but damage is to be found all the same.
        let strong = verify.then(|| Arc::clone(entry));
        self.core.run_later(move |stop| {
            let Some(entry) = strong.or_else(|| weak.upgrade()) else {
                return;
            };
            entry.checked.populate(|| stop.is_set());
            if verify && let Err(err) = check_hash(&format!("{key} {version}"), &entry.metadata, entry.checked.bytes())
            {
                gate.with(&models, |models| models.quarantine(&key, version, &err.to_string()));
            }
        });
    }

    fn refuse_quarantined(&self, snapshot: &Snapshot, key: &ModelKey, version: Version) -> Result<()> {
        let remembered = self.quarantined.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = match remembered.get(&(key.clone(), version)) {
            Some(reason) => Some(reason.clone()),
            None => quarantine::reason(snapshot, key, version)?,
        };
        match reason {
            None => Ok(()),
            Some(reason) => Err(Error::corrupt("read", format!("{key} {version}"), format!("quarantined: {reason}"))),
        }
    }

    /// Takes a damaged version out of service, and writes that down if the store can be written.
    pub(in super::super) fn quarantine(self: &Arc<Self>, key: &ModelKey, version: Version, reason: &str) {
        tracing::error!(%key, %version, reason, "quarantined a damaged model");
        let mut remembered = self.quarantined.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.insert((key.clone(), version), reason.to_owned()).is_some() {
            return;
        }
        drop(remembered);
        let now = self.core.now();
        let change = Change::Quarantined { key: key.clone(), version };
        let write = |batch: &Batch| {
            quarantine::write(batch, key, version, reason, now)?;
            // Where another version is known to be current, that one stays what it is.
            let is_other = head::read(batch, key).is_ok_and(|head| head.and_then(|head| head.current) != Some(version));
            Ok(((), if is_other { Vec::new() } else { vec![change.clone()] }))
        };
        if let Err(err) = self.commit("quarantine", write) {
            let turn = self.core.turn();
            if self.current_version(key).is_ok_and(|current| current != Some(version)) {
                tracing::debug!(%key, %version, "another version is current");
            } else {
                self.show_uncommitted(&turn, change);
            }
            drop(turn);
            tracing::warn!(%key, %version, error = %err, "the quarantine is in this process alone");
        }
    }
}
