//! Branches of the file's trees that were verified, and are kept in memory.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

use modelkeep::{ErrorKind, ModelKey, Store, admin::Filter};

use crate::support::{Folder, Weights, error, first_weight, key, weights};

/// A store of small models alone, whose trees have branches.
fn filled(folder: &Folder) -> Vec<ModelKey> {
    let keys: Vec<ModelKey> = (0..600).map(|i| key(&format!("m{i}"))).collect();
    let store = folder.open();
    let models = keys.iter().cloned().zip((0..600).map(|i| weights(f64::from(i))));
    store.publish_many(models).unwrap();
    keys
}

fn get_all(store: &Store, keys: &[ModelKey]) {
    store.evict_all();
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(first_weight(&store.get::<Weights>(key).unwrap().unwrap()), i as f64);
    }
}

/// Flips a bit in every branch of every tree, where the file lies. Says how many there were.
fn damage_branches(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let branches = bytes.chunks(4096).enumerate().skip(1).filter(|(_, page)| page[0] == 2 && page[1] == 0);
    branches.map(|(n, page)| file.write_all_at(&[page[20] ^ 1], n as u64 * 4096 + 20).unwrap()).count()
}

/// What is kept is what was verified, whatever becomes of the page; who reads all of the file reads all of it.
#[test]
fn damage_after_a_branch_was_verified_changes_no_answer_and_is_found() {
    let folder = Folder::new();
    let keys = filled(&folder);
    let store = folder.options().check_held(false).read_only(true).open(folder.path()).unwrap();
    get_all(&store, &keys);
    assert!(store.verify().unwrap().is_whole());
    assert!(damage_branches(&folder.path()) >= 3);
    get_all(&store, &keys);
    assert!(!store.verify().is_ok_and(|found| found.is_whole()), "a verification does not trust what is kept");
    assert!(store.list(Filter::all()).unwrap().any(|listed| listed.is_err()));
    drop(store);
    let store = folder.options().read_only(true).open(folder.path()).unwrap();
    assert_eq!(error(store.get::<Weights>(&keys[0])).kind(), ErrorKind::Corrupt);
}

/// Each commit has branches of its own, and none is taken for one of another.
#[test]
fn many_commits_share_what_is_kept_and_see_their_own_state() {
    let folder = Folder::new();
    let keys = filled(&folder);
    let store = folder.open();
    get_all(&store, &keys);
    for round in 0..200_u32 {
        let key = &keys[(round * 7) as usize % keys.len()];
        store.publish(key, weights(f64::from(1000 + round))).unwrap();
        store.evict_all();
        assert_eq!(first_weight(&store.get::<Weights>(key).unwrap().unwrap()), f64::from(1000 + round));
        let other = round as usize % keys.len();
        assert!(store.get::<Weights>(&keys[other]).unwrap().is_some());
        assert!(store.get::<Weights>(&key_of_nobody(round)).unwrap().is_none());
    }
}

fn key_of_nobody(round: u32) -> ModelKey {
    key(&format!("nobody{round}"))
}
