//! Closing after accesses that failed: what the store shows is durable, or the close says that it may not be.

use modelkeep::{ErrorKind, Store, Version, disk::Access};

use crate::{
    disk::{Event, LoggedDisk, broken, full, is_read},
    image::{State, Survives},
    support::{key, model, open, options},
};

/// Which version of the model a power cut leaves that lets nothing survive which was not synced.
fn left_by_a_cut(log: &[Event]) -> Option<Version> {
    let (folder, mut state) = (tempfile::tempdir().unwrap(), State::default());
    log.iter().for_each(|event| state.step(event));
    let path = state.cut(Survives::Nothing, 0, folder.path()).unwrap();
    options().open(path).unwrap().metadata(&key("page")).unwrap().and_then(|metadata| metadata.version)
}

/// A publish is in the file and could not be made durable, and the store shows it: then closing, or dropping, makes it
/// durable, or says that it is not. `close` once said that all was well, without a sync.
#[test]
fn closing_makes_durable_what_the_store_shows_or_says_that_it_is_not() {
    let mut in_doubt = 0;
    for (heals, closes) in [(true, true), (true, false), (false, true)] {
        for failing in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
            let store = open(&path, &disk).unwrap();
            store.publish(&key("page"), model(1, 700)).unwrap();
            let mut syncs = 0;
            disk.plan(move |access| {
                syncs += u32::from(matches!(access, Access::Sync { .. }));
                (syncs > failing && matches!(access, Access::Sync { .. })).then(broken)
            });
            let said = store.publish(&key("page"), model(2, 701)).map_err(|err| err.kind());
            let shown = store.metadata(&key("page")).unwrap().unwrap().version;
            if said != Err(ErrorKind::OutcomeUnknown) || shown != Version::new(2) {
                continue;
            }
            in_doubt += 1;
            if heals {
                disk.heal();
            }
            let closed = if closes {
                store.close().map_err(|err| err.kind())
            } else {
                drop(store);
                Ok(())
            };
            let expected = if heals { Ok(()) } else { Err(ErrorKind::OutcomeUnknown) };
            assert_eq!(closed, expected, "sync {failing}, healed: {heals}");
            assert!(!heals || left_by_a_cut(&disk.log()) == shown, "sync {failing}: what was shown is lost");
        }
    }
    assert!(in_doubt > 2, "{in_doubt}: nothing was in doubt");
}

/// A publish fails and nothing is in doubt: on a disk that is well again the file closes as always. `close` once said
/// that its last sync had failed.
#[test]
fn closing_after_a_write_that_failed_is_no_error_once_the_disk_is_well() {
    let mut failed = 0;
    for fault in [broken, full] {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let (path, disk) = (folder.path().join("models.redb"), LoggedDisk::new());
            let store =
                options().mapped(false).cache_bytes(0).disk(std::sync::Arc::clone(&disk) as _).open(&path).unwrap();
            store.publish(&key("page"), model(1, 3_000)).unwrap();
            let (mut seen, before) = (0, disk.accesses());
            disk.plan(move |access| {
                seen += u64::from(!is_read(access));
                (!is_read(access) && seen > at).then(fault)
            });
            let said = store.publish(&key("page"), model(2, 9_000)).map_err(|err| err.kind());
            disk.heal();
            if disk.accesses() - before <= at {
                break;
            }
            failed += u32::from(matches!(said, Err(ErrorKind::Io | ErrorKind::StorageFull)));
            let shown = store.metadata(&key("page")).unwrap().unwrap().version;
            store.close().unwrap_or_else(|err| panic!("access {at}, {said:?}: {err}"));
            let again = Store::options().read_only(true).open(&path).unwrap();
            assert_eq!(again.metadata(&key("page")).unwrap().unwrap().version, shown, "access {at}: {said:?}");
        }
    }
    assert!(failed > 5, "{failed} publishes failed");
}
