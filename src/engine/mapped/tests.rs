//! Leases of archives under commits that remove them, by the engine itself.

use std::{ops::Range, ptr, sync::Arc};

use super::{Map, MappedRange, pins::HeldBytes as _};

use crate::{
    engine::{Engine, EngineOptions, Watched, file::StoreFile, lock::Sharing, sealed::Blob},
    format::{codec::Codec, envelope::Kind, schema::Schema},
    types::{clock::SystemClock, error::ErrorKind},
};

pub(crate) fn options() -> EngineOptions {
    EngineOptions {
        create: true,
        read_only: false,
        cache_bytes: 1 << 20,
        file_bytes_max: u64::MAX,
        mapped: true,
        trusts_pages: false,
        checks_held: true,
        disk: Watched::default(),
    }
}

#[allow(unsafe_code, reason = "nothing writes to the file of these tests")]
fn held(map: &Arc<Map>, pages: Range<u64>) -> MappedRange {
    // SAFETY: as the reason says.
    unsafe { MappedRange::new(map, pages) }.unwrap()
}

/// Found by readers and a writer on a machine that was busy: who looked at the state before a commit, and took its
/// lease after it, was not known as a reader of what left. When the readers from before were gone, its pages were given
/// back.
#[test]
fn a_lease_taken_after_its_archive_left_keeps_the_pages() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(&folder.path().join("a.redb"), options(), Arc::new(SystemClock)).unwrap();
    let (schema, bytes) = (Schema::new("test.blob", 1).tag().unwrap(), vec![7_u8; 4 << 20]);
    let put = |remove: Option<u64>| {
        let batch = engine.write("test").unwrap();
        remove.map(|id| batch.remove_archive(id)).transpose().unwrap();
        let id = batch.put_blob(&Blob::encode(Kind::Artifact, &schema, Codec::Raw, &bytes).unwrap()).unwrap();
        batch.commit().unwrap().finish().unwrap();
        id
    };
    let id = put(None);
    let before = engine.read().unwrap();
    let early = before.blob(id).unwrap().into_payload().unwrap();
    let next = put(Some(id));
    let late = before.blob(id).unwrap().into_payload().unwrap();
    drop(before);
    drop(early);
    assert!(late.iter().all(|byte| *byte == 7), "its pages were given back");
    put(None);
    assert!(late.iter().all(|byte| *byte == 7), "its pages were written to");
    let before = engine.read().unwrap();
    let early = before.blob(next).unwrap().into_payload().unwrap();
    put(Some(next));
    drop(early);
    let later = before.blob(next).unwrap().into_payload().unwrap();
    drop(before);
    for _ in 0..4 {
        put(None);
    }
    assert!(late.iter().chain(later.iter()).all(|byte| *byte == 7), "its pages were written to by a later commit");
}

/// A byte of it is written to by somebody else: the next commit says so.
#[test]
fn what_has_changed_under_a_lease_is_reported_by_the_next_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let engine = Engine::open(&path, options(), Arc::new(SystemClock)).unwrap();
    let (schema, bytes) = (Schema::new("test.blob", 1).tag().unwrap(), vec![7_u8; 1 << 20]);
    let put = || {
        let batch = engine.write("test")?;
        let id = batch.put_blob(&Blob::encode(Kind::Artifact, &schema, Codec::Raw, &bytes)?)?;
        batch.commit()?.finish().map(|()| id)
    };
    let id = put().unwrap();
    let held = engine.read().unwrap().blob(id).unwrap().into_payload().unwrap();
    put().unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let stored = std::fs::read(&path).unwrap();
    // Both archives are the same bytes; which of them is held does not matter.
    for at in stored.windows(64).enumerate().filter(|(_, some)| *some == [7; 64]).map(|(at, _)| at).step_by(1 << 18) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[8], at as u64).unwrap();
    }
    assert!(held.contains(&8));
    let failed = put().unwrap_err();
    assert!(failed.kind() == ErrorKind::Corrupt && failed.to_string().contains("has changed"), "{failed}");
}

/// A map of a file of pages that say which they are, and two of its pages.
fn mapped() -> (tempfile::TempDir, Arc<StoreFile>, Arc<Map>, Range<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let pages: Vec<u8> = (0..16_u8).flat_map(|page| [page; 4096]).collect();
    std::fs::write(&path, &pages).unwrap();
    let file = Arc::new(StoreFile::open(&path, Sharing::Exclusive, &Watched::default()).unwrap().unwrap());
    let map = Arc::new(Map::new(&file, pages.len() as u64).unwrap());
    (folder, file, map, 4096..3 * 4096)
}

fn is_whole(held: &MappedRange) -> bool {
    held.bytes().chunks(4096).zip(1..).all(|(page, number)| page.iter().all(|byte| *byte == number))
}

/// Somebody was slow to let go of detached pages, and somebody else, who still read the commit that had them, took them
/// anew and had them detached as well: the one who was slow took the memory of the other away.
#[test]
fn memory_that_took_the_place_of_other_memory_is_not_taken_away_with_it() {
    for map_goes_first in [false, true] {
        let (_folder, file, map, pages) = mapped();
        let hold = || held(&map, pages.clone());
        let slow = hold();
        slow.detach(&pages).unwrap();
        let later = hold();
        later.detach(&pages).unwrap();
        file.write_at(pages.start, &[9; 2 * 4096]).unwrap();
        if map_goes_first {
            drop(map);
            drop(slow);
            assert!(is_whole(&later));
        } else {
            drop(slow);
            assert!(is_whole(&later));
            drop(later);
            // What nobody holds is the file's again.
            let now = held(&map, pages);
            assert!(now.bytes().iter().all(|byte| *byte == 9));
        }
    }
}

/// What is detached stays what it was, in the file's map and without it.
#[test]
fn what_is_detached_has_its_bytes_to_itself() {
    let (_folder, file, map, pages) = mapped();
    let held = held(&map, pages.clone());
    let at = held.bytes().as_ptr();
    held.detach(&pages).unwrap();
    held.detach(&pages).unwrap();
    assert!(ptr::eq(at, held.bytes().as_ptr()), "at the same addresses");
    file.write_at(pages.start, &[9; 2 * 4096]).unwrap();
    assert!(is_whole(&held) && !map.serves(&file, 16 * 4096), "and later commits are looked at elsewhere");
    drop((map, file));
    assert!(is_whole(&held));
}
