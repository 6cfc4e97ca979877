//! The tiers of others: asked for what neither memory nor the file has, and told of every change.
//!
//! Their code is not of this crate. It may panic, which comes between nobody and what he waits for; and it may use the
//! store when it is asked, but for what would ask it again and again.

use std::{cell::RefCell, sync::Arc, time::Duration};

use super::{
    super::{
        Models,
        entry::{Entry, check_hash, whole_but_other},
        model_ref::Tier,
    },
    change::{Change, ModelTier, TierModel},
    find::{Found, Located, Wanted},
};
use crate::{
    format::buffer::AlignedBuf,
    sync::panics::contained,
    types::{
        error::{Error, ErrorKind, Result},
        key::ModelKey,
    },
};

/// How many models a thread asks tiers for at a time, each while it is being asked for the one before.
const ASKED_MAX: usize = 16;

thread_local! {
    /// What this thread is asking tiers for, and the store that asks.
    static ASKED: RefCell<Vec<(usize, ModelKey)>> = const { RefCell::new(Vec::new()) };
}

/// A model that tiers are being asked for, by this thread.
struct Asked;

impl Asked {
    /// Refuses a model that this thread is asking for already: a tier would be asked again until the stack is full.
    fn begin(models: &Models, key: &ModelKey) -> Result<Self> {
        let asked = (std::ptr::from_ref(models).addr(), key.clone());
        ASKED.with_borrow_mut(|all| {
            if all.contains(&asked) {
                let message = "a tier that is being asked for this model asks for it";
                return Err(Error::invalid("get", key.to_string(), message));
            }
            if all.len() >= ASKED_MAX {
                let message = format!("tiers ask for one model after the other, {ASKED_MAX} deep");
                return Err(Error::invalid("get", key.to_string(), message));
            }
            all.push(asked);
            Ok(Self)
        })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        ASKED.with_borrow_mut(|all| drop(all.pop()));
    }
}

impl Models {
    /// Asks the tiers of others in turn. One that cannot be asked is an error only if no other has the model.
    pub(super) fn find_in_others(&self, key: &ModelKey, wanted: &Wanted) -> Found<Located> {
        if self.tiers.others.is_empty() {
            return Found::Missing;
        }
        let _asked = match Asked::begin(self, key) {
            Ok(asked) => asked,
            Err(err) => return Found::Failed(err),
        };
        let mut found = Found::Missing;
        for tier in &self.tiers.others {
            match self.find_in_one(&**tier, key, wanted) {
                Found::Missing => {}
                Found::Failed(error) => {
                    tracing::warn!(%key, %error, "a tier cannot be asked, or has what does not hold");
                    found = Found::Failed(error);
                }
                found => return found,
            }
        }
        found
    }

    fn find_in_one(&self, tier: &dyn ModelTier, key: &ModelKey, wanted: &Wanted) -> Found<Located> {
        let started = self.core.clock().monotonic();
        let failed = |message| Error::new(ErrorKind::Io, "get", key.to_string(), message);
        match contained(|| tier.find(key)) {
            Ok(Ok(None)) => Found::Missing,
            Ok(Ok(Some(model))) => self.check_foreign(key, model, wanted, started),
            Ok(Err(error)) => Found::Failed(failed(format!("a tier cannot be asked: {error}")).with_source(error)),
            Err(panic) => Found::Failed(failed(format!("a tier panicked when it was asked: {panic}"))),
        }
    }

    /// Checks what another tier handed out: whose it is, its schema, its hash, and all of its structure.
    fn check_foreign(&self, key: &ModelKey, model: TierModel, wanted: &Wanted, started: Duration) -> Found<Located> {
        let TierModel { metadata, archive } = model;
        if metadata.model != *key.name() || metadata.config_hash != key.config_hash() {
            let message = format!("a tier answered with {}@{}", metadata.model, metadata.config_hash);
            return Found::Failed(Error::corrupt("get", key.to_string(), message));
        }
        if !metadata.schema.is(&wanted.schema) {
            return wanted.refuse(&metadata.schema);
        }
        let checked = check_hash(&key.to_string(), &metadata, &archive)
            .and_then(|()| AlignedBuf::copied(&archive).map_err(|err| Error::no_memory("get", key.to_string(), err)))
            .and_then(|bytes| (wanted.check)(bytes).map_err(|err| whole_but_other(&wanted.schema, key, err)));
        match checked {
            Ok(checked) => {
                let entry = Entry::new(Arc::new(checked), metadata, Arc::clone(self.core.clock()));
                Found::Model((Arc::new(entry.loaded_in(self.count_load(started))), Tier::Shared))
            }
            Err(err) => Found::Failed(err),
        }
    }

    /// Tells the tiers of others.
    pub(super) fn tell(&self, change: &Change) {
        for tier in &self.tiers.others {
            if let Err(panic) = contained(|| tier.apply(change)) {
                tracing::error!(panic, ?change, "a tier panicked when it was told of a change");
            }
        }
    }
}
