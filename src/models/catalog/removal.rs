//! Deleting versions, and nothing that another version needs.

use std::collections::BTreeSet;

use super::{aliases, artifacts, head::Head, metadata, quarantine, versioned};
use crate::{
    engine::{Batch, Reader, Table},
    types::{
        error::{ErrorKind, Result},
        key::ModelKey,
        version::Version,
    },
};

/// Removes one version: metadata, archive, artifacts, quarantine note. Returns the bytes of keys and values.
pub(crate) fn remove_version(batch: &Batch, key: &ModelKey, version: Version) -> Result<u64> {
    let mut bytes = 0;
    match metadata::read(batch, key, version) {
        Ok(Some(stored)) => bytes += batch.remove_archive(stored.archive_id)?,
        Ok(None) => {}
        Err(err) if err.kind() == ErrorKind::Corrupt => {
            tracing::error!(%key, %version, error = %err, "its archive cannot be found from damaged metadata and stays");
        }
        Err(err) => return Err(err),
    }
    bytes += artifacts::remove(batch, key, version)?;
    bytes += quarantine::remove(batch, key, version)?;
    bytes += batch.remove(Table::Metadata, &versioned(key, version))?;
    Ok(bytes)
}

/// The versions that nothing deletes: those that are pinned, and those that an alias leads to.
pub(crate) fn protected(reader: &impl Reader, key: &ModelKey, head: &Head) -> Result<BTreeSet<Version>> {
    let mut protected = aliases::targets(reader, key)?;
    protected.extend(&head.pins);
    Ok(protected)
}

/// The versions that keeping the newest `keep` would delete: not the current one, not a protected one, and not the one
/// that a rollback leads to when more than one is to be kept.
pub(crate) fn beyond(versions: &[Version], head: &Head, protected: &BTreeSet<Version>, keep: usize) -> Vec<Version> {
    let newest_first = versions.iter().rev().copied();
    newest_first
        .enumerate()
        .filter(|&(rank, version)| rank >= keep && head.current != Some(version) && !protected.contains(&version))
        .filter(|&(_, version)| keep < 2 || head.previous != Some(version))
        .map(|(_, version)| version)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_spares_the_newest_the_current_the_previous_and_the_protected() {
        let versions: Vec<Version> = (1..=6).filter_map(Version::new).collect();
        let head = Head { current: Version::new(3), previous: Version::new(2), ..Head::default() };
        let protected = [Version::FIRST].into();
        let numbers = |keep| beyond(&versions, &head, &protected, keep).iter().map(|v| v.get()).collect::<Vec<_>>();
        assert_eq!(numbers(2), [4]);
        assert_eq!(numbers(1), [5, 4, 2]);
        assert_eq!(numbers(0), [6, 5, 4, 2]);
        assert_eq!(numbers(9), [0; 0]);
    }
}
