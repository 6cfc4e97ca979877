//! The power is cut, at every access to the disk.

use std::{fs, path::Path};

use modelkeep::{
    ErrorKind, Store,
    disk::{Access, Fault},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    disk::{Event, LoggedDisk, broken},
    image::{State, Survives},
    support::{WORKLOAD, key, model, open, options, summary},
};

/// What may be said of a store after each step; more than one thing after a call that could not tell.
type Expected = Vec<Vec<String>>;

/// Runs the workload under a disk that fails as `plan` says.
fn run(folder: &Path, plan: impl FnMut(&Access<'_>) -> Option<Fault> + Send + 'static) -> (Vec<Event>, Expected) {
    let disk = LoggedDisk::new();
    let store = open(&folder.join("models.redb"), &disk).unwrap();
    let mut expected = vec![vec![summary(&store)]];
    disk.acknowledge(0);
    disk.plan(plan);
    for (step, call) in (1..).zip(WORKLOAD) {
        let before = summary(&store);
        let result = call(&store);
        let now = summary(&store);
        expected.push(match result {
            Ok(()) => vec![now],
            Err(err) if err.kind() == ErrorKind::OutcomeUnknown => vec![before, now],
            Err(err) => {
                assert_eq!(now, before, "step {step}: {err:?}");
                vec![now]
            }
        });
        disk.acknowledge(step);
    }
    disk.heal();
    drop(store);
    (disk.log(), expected)
}

/// Makes sure that a file that a cut left is whole, can be read at once, and says what it said after the last call that
/// returned, or after the one that was under way.
fn check(path: &Path, acknowledged: u64, expected: &Expected, what: &str) {
    let store = options().read_only(true).open(path);
    let store = store.unwrap_or_else(|err| panic!("{what}: it cannot be read at once: {err:?}"));
    let found = summary(&store);
    let step = acknowledged as usize;
    let allowed: Vec<&String> = expected.iter().skip(step).take(2).flatten().collect();
    assert!(
        allowed.contains(&&found),
        "{what}:\n{found}after step {step}, where one of these was expected:\n{allowed:#?}"
    );
    let verified = store.verify().unwrap();
    assert!(verified.is_whole() && verified.unreferenced.is_empty(), "{what}: {verified:?}");
    drop(store);
    // A repair that goes through the whole file ends with a commit of its own.
    let disk = LoggedDisk::new();
    let store = open_known(path, &disk).unwrap_or_else(|err| panic!("{what}: {err:?}"));
    assert!(syncs(&disk) <= SYNCS_OF_AN_OPEN, "{what}: the file was repaired");
    assert_eq!(summary(&store), found, "{what}");
    store.publish(&key("small"), model(99, 5)).unwrap();
}

/// Syncs while a store is opened: of a length that a cut changed, and of the header, which says from then on that it is
/// open.
const SYNCS_OF_AN_OPEN: usize = 2;

fn syncs(disk: &LoggedDisk) -> usize {
    disk.log().iter().filter(|event| matches!(event, Event::Sync { .. })).count()
}

/// Opens a file whose name the log has not seen.
fn open_known(path: &Path, disk: &std::sync::Arc<LoggedDisk>) -> Result<Store, modelkeep::Error> {
    disk.knows(path);
    open(path, disk)
}

/// Cuts the power after each event of `log`, in several ways, and checks what is left. Returns how many images there
/// were.
fn sweep(log: &[Event], expected: &Expected, every: usize) -> usize {
    // In memory, if there is such a folder: they are many, and nobody needs them to be durable.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let (mut state, mut images) = (State::default(), 0);
    for (at, event) in log.iter().enumerate() {
        state.step(event);
        if at % every != 0 {
            continue;
        }
        let share = [0.1, 0.5, 0.9][at / every % 3];
        for survives in [Survives::Nothing, Survives::Everything, Survives::Sectors(share)] {
            let image = folder.path().join("image");
            fs::create_dir_all(&image).unwrap();
            let what = format!("cut after access {at} ({survives:?})");
            match state.cut(survives, at as u64, &image) {
                Some(path) => check(&path, state.acknowledged, expected, &what),
                // Before the store was there for the first time.
                None => assert_eq!(state.acknowledged, 0, "{what}: the file has no name"),
            }
            fs::remove_dir_all(&image).unwrap();
            images += 1;
        }
    }
    images
}

#[test]
fn whatever_was_acknowledged_survives_a_cut_at_every_access() {
    let folder = tempfile::tempdir().unwrap();
    let (log, expected) = run(folder.path(), |_| None);
    let images = sweep(&log, &expected, 1);
    println!("{} accesses, {images} images", log.len());
    assert!(images > 500);
}

/// A store that was opened is there after a cut, though nothing was written to it yet.
#[test]
fn a_store_that_was_created_is_there_after_a_cut() {
    let (folder, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = LoggedDisk::new();
    let store = open(&folder.path().join("models.redb"), &disk).unwrap();
    let (log, expected) = (disk.log(), vec![vec![summary(&store)]]);
    let mut state = State::default();
    log.iter().for_each(|event| state.step(event));
    let path = state.cut(Survives::Nothing, 0, left.path()).expect("a file with its name");
    check(&path, 0, &expected, "created");
}

/// A sync fails now and then, in a commit, in the attempt to open the file again, in a compaction; the store goes on,
/// and then the power is cut. Whatever the kernel forgot to write at the sync that failed is gone for good.
#[test]
fn whatever_was_acknowledged_survives_failed_syncs_and_a_cut_after_them() {
    let (mut failed, mut images) = (0, 0);
    for seed in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let mut chance = StdRng::seed_from_u64(seed);
        let plan =
            move |access: &Access<'_>| (matches!(access, Access::Sync { .. }) && chance.gen_bool(0.2)).then(broken);
        let (log, expected) = run(folder.path(), plan);
        failed += log.iter().filter(|event| matches!(event, Event::FailedSync { .. })).count();
        images += sweep(&log, &expected, 4);
    }
    println!("{failed} failed syncs, {images} images");
    assert!(failed > 20 && images > 500);
}
