//! The file as a tier: one version, read and checked as the policy says; and what becomes of a damaged one.

use std::sync::{Arc, PoisonError};

use super::{
    super::{
        Models,
        archive::ValidatedBytes,
        catalog::{metadata, quarantine},
        entry::{Entry, check_hash, whole_but_other},
        model_ref::Tier,
    },
    change::Change,
    find::{Found, Located, Wanted},
};
use crate::{
    engine::{Batch, Snapshot, sealed},
    format::{
        codec::{self, Codec},
        envelope::{Kind, Verify},
    },
    models::catalog::head,
    types::{
        error::{Error, ErrorKind, Result},
        key::ModelKey,
        version::Version,
    },
};

impl Models {
    /// Reads one version from the file and checks it as the policy says.
    pub(in super::super) fn load(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        key: &ModelKey,
        version: Version,
        wanted: &Wanted,
    ) -> Found<Located> {
        let started = self.core.clock().monotonic();
        let stored =
            match self.refuse_quarantined(snapshot, key, version).and_then(|()| metadata::read(snapshot, key, version))
            {
                Ok(Some(stored)) => stored,
                Ok(None) => return Found::Missing,
                Err(err) => return Found::Failed(err),
            };
        if !stored.metadata.schema.is(&wanted.schema) {
            return wanted.refuse(&stored.metadata.schema);
        }
        match self.read_archive(snapshot, key, version, &stored, wanted) {
            Ok(checked) => {
                let load_time = self.count_load(started);
                tracing::debug!(%key, %version, ?load_time, "loaded from disk");
                let entry =
                    Entry::new(Arc::new(checked), stored.metadata, Arc::clone(self.core.clock())).loaded_in(load_time);
                let entry = Arc::new(entry);
                self.finish_later(key, version, &entry);
                Found::Model((entry, Tier::Disk))
            }
            Err(err) if err.kind() == ErrorKind::Corrupt => Found::Damaged(version, err),
            Err(err) => Found::Failed(err),
        }
    }

    fn read_archive(
        &self,
        snapshot: &Snapshot,
        key: &ModelKey,
        version: Version,
        stored: &metadata::Stored,
        wanted: &Wanted,
    ) -> Result<ValidatedBytes> {
        let verify = self.settings.verify;
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
            let bytes = codec::decode(envelope.header.codec, envelope.payload, envelope.header.raw_len)?;
            if verify == Verify::Full {
                check_hash(&format!("{key} {version}"), &stored.metadata, &bytes)?;
            }
            bytes
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
        let populate = self.settings.verify != Verify::Full && !entry.checked.is_resident();
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
