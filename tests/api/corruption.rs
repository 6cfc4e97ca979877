//! Damage: found, never served, never fatal.

use std::{fs, panic::AssertUnwindSafe, time::Duration};

use modelkeep::{ErrorKind, Freshness, Reason, Tier, Verify, Version};

use crate::support::{
    Folder, Weights, damage, damage_row, error, first_weight, flip_first_bit, key, large, samples, small, weights,
};

/// A weight that no other byte of the file looks like.
const MARK: f64 = 123_456.789_012_345;

fn marked() -> [u8; 8] {
    MARK.to_le_bytes()
}

fn damaged_folder() -> Folder {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(MARK)).unwrap();
    damage(&folder.path(), &marked(), flip_first_bit);
    folder
}

#[test]
fn a_flipped_bit_in_a_model_is_an_error_and_quarantines_it() {
    let folder = damaged_folder();
    let store = folder.open();
    let err = error(store.get::<Weights>(&key("m")));
    assert_eq!(err.kind(), ErrorKind::Corrupt);
    assert!(err.message().contains("hashes to"), "{err}");
    let found = store.quarantined().unwrap();
    assert_eq!((found.len(), &found[0].key, found[0].version), (1, &key("m"), Version::FIRST));
    drop(store);
    // The note is in the file: the archive is not read again.
    let err = error(folder.open().get::<Weights>(&key("m")));
    assert!(err.message().contains("quarantined"), "{err}");
}

#[test]
fn training_takes_over_from_a_damaged_model() {
    let folder = damaged_folder();
    let store = folder.open();
    let held = store
        .get_or_train(&key("m"), &Freshness::any_age(), |prior| {
            assert!(prior.is_none());
            Ok::<_, String>(weights(2.0))
        })
        .unwrap();
    match held.decision().reasons() {
        [Reason::Corrupt { reason }] => assert!(reason.contains("hashes to"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!((held.tier(), held.version().unwrap().get()), (Tier::Trained, 2));
    drop(store);
    let store = folder.open();
    assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 2.0);
    let versions = store.versions(&key("m")).unwrap();
    assert!(versions[0].quarantined.is_some() && versions[1].quarantined.is_none());
    assert_eq!(error(store.rollback(&key("m"))).kind(), ErrorKind::Corrupt);
    store.prune(&key("m"), 1).run().unwrap();
    assert!(store.verify().unwrap().is_whole() && store.quarantined().unwrap().is_empty());
}

#[test]
fn a_reader_that_cannot_write_quarantines_for_itself() {
    let folder = damaged_folder();
    let before = fs::read(folder.path()).unwrap();
    let store = folder.open_read_only();
    assert_eq!(error(store.get::<Weights>(&key("m"))).kind(), ErrorKind::Corrupt);
    let err = error(store.get::<Weights>(&key("m")));
    assert!(err.message().contains("quarantined"), "{err}");
    drop(store);
    assert!(fs::read(folder.path()).unwrap() == before);
}

#[test]
fn a_damaged_compressed_version_is_found() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("m"), large(1.0)).unwrap();
    store.publish(&key("m"), large(2.0)).unwrap();
    store.close().unwrap();
    // The magic number of a zstd frame.
    damage(&folder.path(), &[0x28, 0xb5, 0x2f, 0xfd], flip_first_bit);
    let store = folder.open();
    assert_eq!(error(store.get_version::<Weights>(&key("m"), Version::FIRST)).kind(), ErrorKind::Corrupt);
    assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 2.0);
}

#[test]
fn the_background_check_takes_a_damaged_model_out_of_service() {
    let folder = damaged_folder();
    let store = folder.options().verify(Verify::Background).open(folder.path()).unwrap();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    assert_eq!(held.tier(), Tier::Disk);
    // The check runs on a thread of its own; wait for what it does.
    let waited = (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        !store.quarantined().unwrap().is_empty()
    });
    assert!(waited, "the background check did not find the damage");
    assert_eq!(error(store.get::<Weights>(&key("m"))).kind(), ErrorKind::Corrupt);
}

#[test]
fn a_structural_check_serves_what_a_full_one_refuses() {
    let folder = damaged_folder();
    let store = folder.options().verify(Verify::Structure).open(folder.path()).unwrap();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    assert_ne!(first_weight(&held), MARK, "this is what the policy gives up");
    assert!(!store.verify().unwrap().is_whole());
}

#[test]
fn damaged_metadata_is_found_and_trained_over() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(1.0).tag("note", "find-me-in-the-file")).unwrap();
    damage(&folder.path(), b"find-me-in-the-file", flip_first_bit);
    let store = folder.open();
    assert_eq!(error(store.metadata(&key("m"))).kind(), ErrorKind::Corrupt);
    let held = store.get_or_train(&key("m"), &Freshness::any_age(), |_| Ok::<_, String>(weights(2.0))).unwrap();
    assert!(matches!(held.decision().reasons(), [Reason::Corrupt { .. }]), "{:?}", held.decision());
    assert!(held.publish_error().is_none(), "{:?}", held.publish_error());
    assert_eq!(held.version().unwrap().get(), 2);
}

#[test]
fn damaged_training_data_is_an_error_that_names_the_symbol_and_can_be_replaced() {
    let folder = Folder::new();
    let data = samples("KO", &[(1, 0.1), (2, MARK)]);
    folder.open().publish(&key("m"), weights(1.0).training_data(data.clone())).unwrap();
    damage(&folder.path(), &marked(), flip_first_bit);
    let store = folder.open();
    let err = error(store.training_data(&key("m")));
    assert_eq!(err.kind(), ErrorKind::Corrupt);
    let update = store.update(&key("m"), &data, |_, _| Ok::<_, String>(weights(2.0)));
    assert!(update.is_err());
    assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 1.0, "the model itself is whole");
    store.publish(&key("m"), weights(3.0).training_data(samples("KO", &[(1, 0.5)]))).unwrap();
    assert_eq!(store.training_data(&key("m")).unwrap().unwrap().len(), 1);
}

#[test]
fn damaged_index_levels_are_not_read() {
    let folder = Folder::new();
    folder.open().levels("VIX").unwrap().write(&[("2018-12-24".parse().unwrap(), MARK)]).unwrap();
    damage(&folder.path(), &marked(), flip_first_bit);
    let store = folder.open();
    let range = modelkeep::Interval::parse("2018-01-01", "2019-01-01").unwrap();
    let vix = store.levels("VIX").unwrap();
    assert_eq!(error(vix.range(range)).kind(), ErrorKind::Corrupt);
    assert!(store.level_series().unwrap()[0].1.is_err());
    // The damaged year can be taken out, as a whole and not in part, and written anew.
    let part = modelkeep::Interval::parse("2018-06-01", "2019-01-01").unwrap();
    assert_eq!(error(vix.remove(part)).kind(), ErrorKind::Corrupt);
    assert_eq!(vix.remove(range).unwrap().removed, 0);
    vix.write(&[("2018-12-24".parse().unwrap(), 36.07)]).unwrap();
    assert_eq!(vix.range(range).unwrap().levels, [36.07]);
}

#[test]
fn with_a_damaged_head_nothing_is_pruned_and_a_publish_makes_a_new_one() {
    let folder = Folder::new();
    let store = folder.open();
    for i in 1..=4u32 {
        store.publish(&key("m"), weights(f64::from(i))).unwrap();
    }
    store.pin(&key("m"), Version::FIRST).unwrap();
    store.publish(&key("whole"), weights(1.0)).unwrap();
    store.publish(&key("whole"), weights(2.0)).unwrap();
    drop(store);
    damage_row(&folder, "heads", b"m\0");
    let store = folder.options().retention(1).open(folder.path()).unwrap();
    assert_eq!(error(store.get::<Weights>(&key("m"))).kind(), ErrorKind::Corrupt);
    for removal in [store.prune(&key("m"), 1), store.remove(&key("m"))] {
        assert_eq!(error(removal.run()).kind(), ErrorKind::Corrupt);
    }
    let gone: Vec<_> = store.prune_all(1).run().unwrap().versions.into_iter().map(|gone| gone.key).collect();
    assert_eq!(gone, [key("whole")], "the damaged one is left alone");
    assert_eq!(error(store.publish_if(&key("m"), None, weights(9.0))).kind(), ErrorKind::Corrupt);
    let version = store.publish(&key("m"), weights(9.0)).unwrap();
    assert!(version > Version::new(4).unwrap(), "{version} was given out before");
    assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 9.0);
    assert_eq!(store.versions(&key("m")).unwrap().len(), 5, "retention waits until pins are known again");
}

#[test]
fn a_damaged_counter_is_rebuilt() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(1.0)).unwrap();
    damage_row(&folder, "store", b"next_archive");
    let store = folder.open();
    store.publish(&key("m"), weights(2.0)).unwrap();
    assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), 2.0);
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn damaged_training_data_is_written_again_even_if_it_did_not_change() {
    let folder = Folder::new();
    let data = samples("KO", &[(1, 0.1), (2, MARK)]);
    folder.open().publish(&key("m"), weights(1.0).training_data(data.clone())).unwrap();
    damage(&folder.path(), &marked(), flip_first_bit);
    let store = folder.open();
    store.publish(&key("m"), weights(2.0).training_data(data.clone())).unwrap();
    assert_eq!(store.training_data(&key("m")).unwrap().unwrap(), data);
    drop(store);
    // The row itself, and not the columns.
    damage_row(&folder, "training_data", b"m\0");
    let store = folder.open();
    assert_eq!(error(store.training_data(&key("m"))).kind(), ErrorKind::Corrupt);
    store.publish(&key("m"), weights(3.0).training_data(data.clone())).unwrap();
    assert_eq!(store.training_data(&key("m")).unwrap().unwrap(), data);
}

#[test]
fn a_type_that_changed_without_a_new_schema_does_not_quarantine_what_is_whole() {
    #[derive(rkyv::Archive, rkyv::Serialize)]
    struct Other {
        names: Vec<String>,
        more: u64,
    }
    impl modelkeep::Model for Other {
        const SCHEMA: modelkeep::Schema = <Weights as modelkeep::Model>::SCHEMA;
    }
    for verify in [Verify::Full, Verify::Structure] {
        let folder = Folder::new();
        folder.open().publish(&key("m"), weights(MARK)).unwrap();
        let store = folder.options().verify(verify).open(folder.path()).unwrap();
        assert_eq!(error(store.get::<Other>(&key("m"))).kind(), ErrorKind::SchemaMismatch);
        assert!(store.quarantined().unwrap().is_empty());
        assert_eq!(first_weight(&store.get(&key("m")).unwrap().unwrap()), MARK);
        // And from the hot tier, where it was checked for the other type.
        assert_eq!(error(store.get::<Other>(&key("m"))).kind(), ErrorKind::SchemaMismatch);
    }
}

#[test]
fn a_head_without_its_metadata_is_damage_and_not_absence() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(1.0)).unwrap();
    let db = redb::Database::create(folder.path()).unwrap();
    let transaction = db.begin_write().unwrap();
    let definition: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("metadata");
    transaction.open_table(definition).unwrap().retain(|_, _| false).unwrap();
    transaction.commit().unwrap();
    drop(db);
    assert_eq!(error(folder.open().get::<Weights>(&key("m"))).kind(), ErrorKind::Corrupt);
}

/// A model that was moved, seal and all, to another place in the file is not taken for the one that belongs there.
#[test]
fn a_sealed_value_that_was_moved_is_refused() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("a"), weights(1.0)).unwrap();
    store.publish(&key("b"), weights(2.0)).unwrap();
    drop(store);
    let db = redb::Database::create(folder.path()).unwrap();
    let transaction = db.begin_write().unwrap();
    {
        let definition: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("small_archives");
        let mut table = transaction.open_table(definition).unwrap();
        let other = redb::ReadableTable::get(&table, small(2)).unwrap().unwrap().value().to_vec();
        table.insert(small(1), other.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(db);
    let store = folder.open();
    let err = error(store.get::<Weights>(&key("a")));
    assert!(err.kind() == ErrorKind::Corrupt && err.message().contains("moved"), "{err}");
    assert_eq!(first_weight(&store.get(&key("b")).unwrap().unwrap()), 2.0);
}

/// A branch page in the place of a leaf below it makes a tree with a cycle, which has no end for who walks it by
/// recursion. An overflowing stack would take this whole process down.
#[test]
fn a_tree_with_a_cycle_is_damage_and_not_the_end() {
    let folder = Folder::new();
    let store = folder.open();
    for i in 0..60u32 {
        store.publish(&key(&format!("m{i}")), weights(f64::from(i)).tag("note", "x".repeat(300))).unwrap();
    }
    store.compact().unwrap();
    drop(store);
    let whole = fs::read(folder.path()).unwrap();
    let of_type =
        |wanted: u8| -> Vec<usize> { (1..whole.len() / 4096).filter(|page| whole[page * 4096] == wanted).collect() };
    let (leaves, branches) = (of_type(1), of_type(2));
    assert!(!branches.is_empty() && leaves.len() > 10, "{} branches, {} leaves", branches.len(), leaves.len());
    let mut damaged = 0;
    for (branch, leaf) in branches.iter().flat_map(|branch| leaves.iter().map(move |leaf| (branch, leaf))) {
        let mut bytes = whole.clone();
        bytes.copy_within(branch * 4096..(branch + 1) * 4096, leaf * 4096);
        fs::write(folder.path(), &bytes).unwrap();
        if let Ok(store) = folder.options().read_only(true).open(folder.path()) {
            damaged += u32::from(store.usage().is_err());
            drop(store.verify());
            drop(store.list(modelkeep::admin::Filter::all()).map(Iterator::count));
        }
    }
    assert!(damaged > 0, "no cycle was made");
}

/// After redb met a broken page, writing is refused at once instead of waiting for a transaction that nobody ends.
#[test]
fn a_broken_page_stops_writing_and_not_reading() {
    let folder = Folder::new();
    let store = folder.open();
    for i in 0..40u32 {
        store.publish(&key(&format!("m{i}")), weights(f64::from(i))).unwrap();
    }
    drop(store);
    let whole = fs::read(folder.path()).unwrap();
    let (mut refused, mut read_on) = (0, 0);
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        // The count of entries in a page of a tree.
        bytes[page * 4096 + 2] ^= 0x40;
        // redb keeps the lock of a file that it panicked on, so each page gets a file of its own.
        let path = folder.path().with_extension(page.to_string());
        fs::write(&path, &bytes).unwrap();
        let Ok(store) = folder.options().open(&path) else {
            continue;
        };
        let reads: Vec<bool> = (0..40).map(|i| store.get::<Weights>(&key(&format!("m{i}"))).is_ok()).collect();
        drop(store.prune_all(5).dry_run());
        let written = store.publish(&key("m0"), weights(1.0));
        if let Err(err) = written {
            assert_eq!(err.kind(), ErrorKind::Corrupt, "{err}");
            refused += 1;
            read_on += u32::from(reads.iter().any(|&ok| ok));
        }
    }
    assert!(refused > 0 && read_on > 0, "{refused} refusals, {read_on} with models that could be read");
}

/// Every byte of a small store is damaged in turn, and the store read as far as it goes: nothing wrong is served.
///
/// The bytes are sampled, and only read-only opens are tried, because redb repairs what it opens for writing.
#[test]
fn whatever_byte_is_damaged_no_wrong_model_is_served() {
    let folder = Folder::new();
    let store = folder.open();
    for i in 1..=3u32 {
        let trained = weights(f64::from(i)).tag("i", i.to_string()).artifact("a", vec![7; 50]);
        store.publish(&key(&format!("m{i}")), trained.training_data(samples("KO", &[(1, f64::from(i))]))).unwrap();
    }
    store.compact().unwrap();
    drop(store);
    let whole = fs::read(folder.path()).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] != 0).collect();
    let mut served = 0;
    for at in used.iter().step_by(7) {
        let mut bytes = whole.clone();
        bytes[*at] ^= 0x10;
        fs::write(folder.path(), &bytes).unwrap();
        // redb panics on some broken pages; the store turns that into errors, and nothing may escape.
        let escaped = std::panic::catch_unwind(AssertUnwindSafe(|| read_all(&folder)));
        served += escaped.unwrap_or_else(|_| panic!("a panic escaped after the damage at byte {at}"));
    }
    assert!(served > 0, "most damage leaves most models readable");
}

/// Reads every model that can be read; returns how many.
fn read_all(folder: &Folder) -> u32 {
    let Ok(store) = folder.options().read_only(true).open(folder.path()) else {
        return 0;
    };
    let mut served = 0;
    for i in 1..=3u32 {
        let key = key(&format!("m{i}"));
        if let Ok(Some(held)) = store.get::<Weights>(&key) {
            assert_eq!(first_weight(&held), f64::from(i), "a wrong model was served");
            served += 1;
        }
        if let Ok(Some(data)) = store.training_data(&key) {
            assert_eq!(data, samples("KO", &[(1, f64::from(i))]));
        }
        drop(store.artifact(&key, Version::FIRST, "a"));
    }
    drop(store.verify());
    served
}
