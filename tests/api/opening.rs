//! Opening: what is a store, what is not, and that nothing else is ever written to.

use std::{fs, process::Command, time::Duration};

use modelkeep::{ErrorKind, Store};
use redb::TableDefinition;

use crate::support::{Folder, Weights, error, is_copied, key, large, weights};

const HELD: &str = "MODELKEEP_TEST_HELD_STORE";

#[test]
fn what_was_published_is_there_after_a_reopen() {
    let folder = Folder::new();
    let version = folder.open().publish(&key("m"), weights(1.5)).unwrap();
    let store = folder.open();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    assert_eq!((held.version(), held.weights[0].to_native()), (Some(version), 1.5));
    assert_eq!(store.path(), Some(folder.path().as_path()));
}

#[test]
fn a_store_knows_which_one_it_is() {
    let (one, other) = (Folder::new(), Folder::new());
    let identity = one.open().identity().unwrap();
    assert_eq!((identity.id.len(), identity.created), (32, crate::support::noon()));
    one.clock.advance(crate::support::HOUR);
    assert_eq!(one.open().identity().unwrap(), identity);
    assert_ne!(other.open().identity().unwrap().id, identity.id);
}

#[test]
fn a_second_opener_is_told_who_holds_which_file() {
    let folder = Folder::new();
    let store = folder.open();
    for read_only in [false, true] {
        let err = error(folder.options().read_only(read_only).open(folder.path()));
        assert_eq!(err.kind(), ErrorKind::InUse);
        let text = err.to_string();
        assert!(text.contains(&folder.path().display().to_string()) && text.contains("of this process"), "{text}");
    }
    // And from another process, by way of the test below.
    let test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opening::in_another_process", "--ignored", "--nocapture"])
        .env(HELD, folder.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&test.stdout).into_owned();
    assert!(test.status.success() && output.contains("the other process was refused"), "{output}");
    drop(store);
    folder.open();
}

#[test]
#[ignore = "a child of the test above: alone it has no store to try"]
fn in_another_process() {
    let err = error(Store::open(std::env::var_os(HELD).unwrap()));
    assert_eq!(err.kind(), ErrorKind::InUse, "{err}");
    assert!(err.to_string().contains("another process"), "{err}");
    println!("the other process was refused");
}

#[test]
fn readers_share_a_file_and_keep_writers_out() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(1.0)).unwrap();
    let (one, two) = (folder.open_read_only(), folder.open_read_only());
    assert!(one.get::<Weights>(&key("m")).unwrap().is_some());
    assert!(two.get::<Weights>(&key("m")).unwrap().is_some());
    assert_eq!(error(folder.options().open(folder.path())).kind(), ErrorKind::InUse);
    assert_eq!(error(one.publish(&key("m"), weights(2.0))).kind(), ErrorKind::ReadOnly);
    assert_eq!(error(one.remove(&key("m")).run()).kind(), ErrorKind::ReadOnly);
}

/// Opens a file in every way, expects the same refusal each time, and that the file is as it was.
fn refused(folder: &Folder, kind: ErrorKind) {
    let before = fs::read(folder.path()).unwrap();
    for (read_only, create) in [(false, true), (false, false), (true, false)] {
        let err = error(folder.options().read_only(read_only).create(create).open(folder.path()));
        assert_eq!(err.kind(), kind, "{err}");
        assert!(err.to_string().contains(&folder.path().display().to_string()), "{err}");
        assert!(fs::read(folder.path()).unwrap() == before, "the file was changed");
    }
}

#[test]
fn files_of_other_programs_are_refused_and_left_alone() {
    let folder = Folder::new();
    for content in [b"date,open,high\n".to_vec(), vec![0; 4096], b"redb".to_vec().repeat(2000), b"r".to_vec()] {
        fs::write(folder.path(), &content).unwrap();
        let kind = if content == b"r" { ErrorKind::Truncated } else { ErrorKind::NotAStore };
        refused(&folder, kind);
    }
    let path = folder.path();
    fs::remove_file(&path).unwrap();
    // redb files of other programs: with tables of their own, and with a table of the same name as one of ours.
    for name in ["accounts", "store"] {
        let db = redb::Database::create(&path).unwrap();
        let transaction = db.begin_write().unwrap();
        let table: TableDefinition<'_, &str, u64> = TableDefinition::new(name);
        transaction.open_table(table).unwrap().insert("alice", 7).unwrap();
        transaction.commit().unwrap();
        drop(db);
        refused(&folder, ErrorKind::NotAStore);
        fs::remove_file(&path).unwrap();
    }
}

/// Writes the stamp of a store as the format describes it, with another format version.
fn stamp(folder: &Folder, format: u32, spoil: bool) {
    drop(folder.open());
    let mut stamp = b"modelkeep store\0".to_vec();
    stamp.extend_from_slice(&format.to_le_bytes());
    stamp.resize(32, 0);
    stamp.extend_from_slice(blake3::hash(&stamp).as_bytes());
    stamp[40] ^= u8::from(spoil);
    let db = redb::Database::create(folder.path()).unwrap();
    let transaction = db.begin_write().unwrap();
    let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("store");
    transaction.open_table(table).unwrap().insert(b"stamp".as_slice(), stamp.as_slice()).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = Folder::new();
    stamp(&folder, 3, false);
    refused(&folder, ErrorKind::NewerFormat);
    stamp_again(&folder);
}

fn stamp_again(folder: &Folder) {
    fs::remove_file(folder.path()).unwrap();
    stamp(folder, 1, true);
    refused(folder, ErrorKind::Corrupt);
}

#[test]
fn a_truncated_file_is_refused_and_left_alone() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(1.0)).unwrap();
    let whole = fs::read(folder.path()).unwrap();
    for len in [1, 9, 100, 319, 320, 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(folder.path(), &whole[..len]).unwrap();
        refused(&folder, ErrorKind::Truncated);
    }
    fs::write(folder.path(), &whole).unwrap();
    assert!(folder.open().get::<Weights>(&key("m")).unwrap().is_some());
}

#[test]
fn what_does_not_exist_is_created_only_on_demand() {
    let folder = Folder::new();
    for options in [folder.options().create(false), folder.options().read_only(true)] {
        assert_eq!(error(options.open(folder.path())).kind(), ErrorKind::NotFound);
        assert!(!folder.path().exists());
    }
    let nowhere = folder.path().join("no").join("such").join("folder");
    assert_eq!(error(Store::open(nowhere)).kind(), ErrorKind::Io);
    assert_eq!(error(Store::open(folder.path().parent().unwrap())).kind(), ErrorKind::InvalidInput);
    // An empty file is what a crash right after the creation leaves.
    fs::write(folder.path(), b"").unwrap();
    assert_eq!(error(folder.options().read_only(true).open(folder.path())).kind(), ErrorKind::NotAStore);
    folder.open();
}

#[test]
fn reading_does_not_change_the_file() {
    let folder = Folder::new();
    folder.open().publish(&key("m"), weights(1.0)).unwrap();
    let before = fs::read(folder.path()).unwrap();
    let store = folder.open_read_only();
    store.get::<Weights>(&key("m")).unwrap().unwrap();
    store.verify().unwrap();
    drop(store);
    assert!(fs::read(folder.path()).unwrap() == before);
}

#[test]
fn a_file_of_another_program_that_was_not_closed_is_left_alone_too() {
    let folder = Folder::new();
    let theirs = folder.path().with_extension("theirs");
    let db = redb::Database::create(&theirs).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(TableDefinition::<&str, u64>::new("accounts")).unwrap().insert("alice", 7).unwrap();
    transaction.commit().unwrap();
    // As a crash would leave it: the header still says that somebody is at work.
    fs::copy(&theirs, folder.path()).unwrap();
    let before = fs::read(folder.path()).unwrap();
    assert_eq!(error(folder.options().open(folder.path())).kind(), ErrorKind::NotAStore);
    assert!(fs::read(folder.path()).unwrap() == before, "the file was repaired");
    assert_eq!(error(folder.options().read_only(true).open(folder.path())).kind(), ErrorKind::NeedsRecovery);
}

#[test]
fn many_that_create_the_same_store_at_once_make_one() {
    let folder = Folder::new();
    let start = std::sync::Barrier::new(8);
    let opened = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let result = folder.options().open(folder.path());
                    start.wait();
                    result.map(|store| store.identity().unwrap().id).map_err(|err| err.kind())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(opened.iter().filter(|result| result.is_ok()).count(), 1, "{opened:?}");
    assert!(opened.iter().all(|result| result.is_ok() || *result == Err(ErrorKind::InUse)), "{opened:?}");
    let names: Vec<_> =
        fs::read_dir(folder.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["models.redb"], "nothing is left behind");
}

#[test]
fn who_is_in_the_way_is_named() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("m"), large(1.0)).unwrap();
    let said = |found: modelkeep::error::Result<Store>| {
        let err = error(found);
        assert_eq!(err.kind(), ErrorKind::InUse);
        err.to_string()
    };
    assert!(said(Store::open(folder.path())).contains("another `Store` of this process"));
    store.evict_all();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    store.close().unwrap();
    if is_copied() {
        folder.open();
        return;
    }
    assert!(said(Store::open(folder.path())).contains("still held"), "{held}");
    drop(held);
    folder.open();
}

#[test]
fn an_open_waits_for_the_lock_if_it_is_told_to() {
    let folder = Folder::new();
    let store = folder.open();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| folder.options().wait_for_lock(Duration::from_secs(60)).open(folder.path()));
        assert_eq!(
            error(folder.options().wait_for_lock(Duration::from_millis(20)).open(folder.path())).kind(),
            ErrorKind::InUse
        );
        store.close().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn closing_says_who_else_has_the_store() {
    let folder = Folder::new();
    let store = folder.open();
    let other = store.clone();
    let err = error(store.close());
    assert_eq!((err.kind(), err.to_string().contains("1 more")), (ErrorKind::InUse, true), "{err}");
    other.publish(&key("m"), weights(1.0)).unwrap();
    other.close().unwrap();
    assert!(folder.open().get::<Weights>(&key("m")).unwrap().is_some());
}

/// A listing reads the file as it goes: it outlives its store, as models do, and says so.
#[test]
fn a_listing_keeps_the_file_open_and_is_named() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("m"), weights(1.0)).unwrap();
    let listing = store.list(modelkeep::admin::Filter::all()).unwrap();
    store.close().unwrap();
    let err = error(folder.options().open(folder.path()));
    assert_eq!(err.kind(), ErrorKind::InUse);
    assert!(err.message().contains("listings"), "{err}");
    assert!(listing.map(|listed| listed.unwrap().version()).eq([modelkeep::Version::FIRST]));
    folder.open();
}
