//! What is held never changes, whatever lies beside it in the file and whatever happens to that.

use modelkeep::{NewModel, Store};

use crate::support::{Folder, Weights, first_weight, is_copied, key, weights};

/// A model of the 800 KB in which the neighbours of an archive were first seen to move it.
fn eight_hundred(first: f64) -> NewModel<Weights> {
    NewModel::new(Weights { weights: std::iter::once(first).chain((1..100_000).map(f64::from)).collect() })
}

fn mapped_bytes(store: &Store) -> u64 {
    store.stats().hot_mapped_bytes
}

/// Two versions, each with an artifact of 132 bytes. The model's id was drawn before its artifact's and inserted after
/// it, so that the tree put `[old artifact, MODEL] | [new artifact]` into its leaves: the model lay on a cache line by
/// chance and was read in place, the removal of its neighbour moved it, and its pages were written to while it was
/// held.
#[test]
fn removing_what_lay_beside_a_held_model_does_not_change_it() {
    for artifact in (4..640).step_by(64).chain([0, 1, 63, 64, 4000, 4095, 4096, 4097]) {
        let folder = Folder::new();
        let store = folder.options().compress_superseded(false).open(folder.path()).unwrap();
        for version in [1.0, 2.0] {
            let bytes = vec![u8::try_from(artifact % 251).unwrap(); artifact];
            store.publish(&key("m"), eight_hundred(version).artifact("scaler", bytes)).unwrap();
        }
        drop(store);
        let store = folder.options().compress_superseded(false).open(folder.path()).unwrap();
        let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
        let before = held.archive_bytes().to_vec();
        store.prune(&key("m"), 1).run().unwrap();
        for i in 0..3 {
            store.publish(&key(&format!("other{i}")), eight_hundred(f64::from(i) + 7.0)).unwrap();
            assert!(held.archive_bytes() == before, "a held model changed; its artifact has {artifact} bytes");
        }
        let again = store.get::<Weights>(&key("m")).unwrap().unwrap();
        assert_eq!((first_weight(&held), first_weight(&again)), (2.0, 2.0), "artifact of {artifact} bytes");
    }
}

#[test]
fn a_model_with_artifacts_is_read_in_place_as_one_without() {
    if is_copied() {
        return;
    }
    let folder = Folder::new();
    let options = || folder.options().compress_superseded(false).retention(8).hot_bytes(1 << 30);
    let store = options().open(folder.path()).unwrap();
    for i in 0..64 {
        for version in 0..6 {
            let artifact = vec![b'a'; 20 + 37 * i];
            let model = NewModel::new(Weights { weights: vec![f64::from(version); 20_000] });
            store.publish(&key(&format!("m{i}")), model.artifact("report", artifact)).unwrap();
        }
    }
    drop(store);
    let store = options().open(folder.path()).unwrap();
    for i in 0..64u64 {
        store.get::<Weights>(&key(&format!("m{i}"))).unwrap().unwrap();
        assert!(mapped_bytes(&store) >= (i + 1) * 160_000, "m{i} is a copy");
    }
}

/// A small compressed archive becomes a large raw one when a rollback makes it current again, and back.
#[test]
fn a_rollback_between_small_and_large_leaves_what_is_held_as_it_is() {
    let folder = Folder::new();
    let store = folder.options().hot_bytes(0).open(folder.path()).unwrap();
    // A constant packs into a few hundred bytes.
    let constant = |value: f64| NewModel::new(Weights { weights: vec![value; 50_000] });
    for version in 1..=4 {
        store.publish(&key("m"), constant(f64::from(version)).artifact("a", vec![1; 100])).unwrap();
        store.publish(&key("n"), weights(f64::from(version))).unwrap();
    }
    let mut held = Vec::new();
    for round in 0..12u32 {
        let versions = store.versions(&key("m")).unwrap();
        let to = versions[round as usize % versions.len()].version;
        store.rollback_to(&key("m"), to).unwrap();
        let model = store.get::<Weights>(&key("m")).unwrap().unwrap();
        assert_eq!(first_weight(&model), to.get() as f64);
        held.push((model.archive_bytes().to_vec(), model));
        store.publish(&key("n"), weights(f64::from(round))).unwrap();
        for (bytes, model) in &held {
            assert!(model.archive_bytes() == bytes, "round {round}");
        }
    }
    assert!(store.verify().unwrap().is_whole());
}

/// An inner type that wants more than archives are aligned to could be published, and was read only when it lay well by
/// chance: 12 of 60 were not.
#[test]
fn a_part_that_wants_to_be_aligned_too_widely_is_refused_by_name() {
    #[derive(rkyv::Archive, rkyv::Serialize)]
    #[rkyv(attr(repr(align(128))))]
    struct Block([f32; 16]);
    #[derive(rkyv::Archive, rkyv::Serialize)]
    struct Blocks {
        blocks: Vec<Block>,
    }
    impl modelkeep::Model for Blocks {
        const SCHEMA: modelkeep::Schema = modelkeep::Schema::new("test.blocks", 1);
    }
    let store = Store::in_memory().unwrap();
    for n in 0..60u8 {
        let model = Blocks { blocks: (0..n).map(|i| Block([f32::from(i); 16])).collect() };
        match store.publish(&key("m"), NewModel::new(model)) {
            // Nothing in it wants anything.
            Ok(_) => assert_eq!(n, 0),
            Err(err) => {
                assert_eq!(err.kind(), modelkeep::ErrorKind::InvalidInput);
                assert!(err.message().contains("aligned to 128 bytes"), "{err}");
            }
        }
    }
}
