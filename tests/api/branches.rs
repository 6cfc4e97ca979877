//! Branches of the file's trees that were verified, and are kept in memory.

use std::{fs, os::unix::fs::FileExt};

use modelkeep::{ModelKey, Store, admin::Filter};

use crate::support::{Folder, Weights, first_weight, key, weights};

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

/// What is kept answers reads of models; a verification, a list and a compaction read the file.
#[test]
fn a_verification_and_a_list_read_the_file_and_not_what_is_kept() {
    let folder = Folder::new();
    let keys = filled(&folder);
    let store = folder.open();
    get_all(&store, &keys);
    assert!(store.verify().unwrap().is_whole());
    let file = fs::OpenOptions::new().read(true).write(true).open(folder.path()).unwrap();
    let bytes = fs::read(folder.path()).unwrap();
    let branches = (1..bytes.len() / 4096).map(|page| page * 4096).filter(|at| bytes[*at] == 2);
    // The count of keys, which no walk gets past.
    for at in branches {
        file.write_all_at(&[bytes[at + 2] ^ 0x40], at as u64 + 2).unwrap();
    }
    assert!(!store.verify().unwrap().is_whole());
    assert!(store.list(Filter::all()).unwrap().any(|listed| listed.is_err()));
    assert!(store.compact().is_err() || store.list(Filter::all()).unwrap().any(|listed| listed.is_err()));
}
