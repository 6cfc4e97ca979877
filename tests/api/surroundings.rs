//! What is around a store: other programs at its file, names of every kind, and what is no file at all.

use std::{fs, io, path::Path, process::Command, sync::mpsc, thread, time::Duration};

use modelkeep::{ErrorKind, Options, Store, Tier, Version};

use crate::support::{Folder, Weights, error, first_weight, is_copied, key, large, weights};

const CHILD: &str = "MODELKEEP_TEST_SURROUNDINGS";

fn first(store: &Store, name: &str) -> f64 {
    first_weight(&store.get::<Weights>(&key(name)).unwrap().unwrap())
}

/// Opens on another thread: whoever waits there for ever fails the test instead of hanging it.
fn open_soon(options: Options, path: &Path) -> modelkeep::error::Result<Store> {
    let (done, opened) = mpsc::channel();
    let path = path.to_owned();
    thread::spawn(move || done.send(options.open(path)));
    opened.recv_timeout(Duration::from_secs(60)).expect("the open waits for somebody")
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = Folder::new();
    let made = Command::new("mkfifo").arg(folder.path()).status();
    assert!(made.unwrap().success());
    for (read_only, create) in [(true, false), (false, false), (false, true)] {
        let options = folder.options().read_only(read_only).create(create);
        let refused = error(open_soon(options, &folder.path()));
        assert_eq!(refused.kind(), ErrorKind::NotAStore);
        assert!(refused.to_string().contains("a pipe"), "{refused}");
        let null = error(open_soon(folder.options().read_only(read_only).create(create), Path::new("/dev/null")));
        assert_eq!(null.kind(), ErrorKind::NotAStore, "{null}");
    }
    let socket = folder.path().with_extension("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let refused = error(open_soon(folder.options(), &socket));
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused}");
    assert!(refused.to_string().contains(&socket.display().to_string()), "{refused}");
}

/// What somebody does to the file of a store that is open.
type Change = fn(&Path) -> io::Result<()>;

#[test]
fn nothing_is_written_to_a_file_that_is_no_longer_the_store() {
    let changes: [(&str, Change); 4] = [
        ("removed", |path| fs::remove_file(path)),
        ("renamed", |path| fs::rename(path, path.with_extension("old"))),
        ("replaced", |path| {
            fs::copy(path, path.with_extension("new"))?;
            fs::rename(path.with_extension("new"), path)
        }),
        ("moved with its folder", |path| {
            let folder = path.parent().unwrap();
            fs::create_dir(folder.join("elsewhere"))?;
            fs::rename(path, folder.join("elsewhere").join("models.redb"))
        }),
    ];
    for (what, change) in changes {
        let folder = Folder::new();
        let store = folder.open();
        store.publish(&key("m"), large(1.0)).unwrap();
        store.evict_all();
        let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
        change(&folder.path()).unwrap();
        for _ in 0..2 {
            let refused = error(store.publish(&key("m"), large(2.0)));
            assert_eq!(refused.kind(), ErrorKind::Replaced, "{what}: {refused}");
            assert!(refused.to_string().contains(&folder.path().display().to_string()), "{what}: {refused}");
            let refused = error(store.compact());
            assert_eq!(refused.kind(), ErrorKind::Replaced, "{what}: {refused}");
        }
        // What was there is read, hot and cold, for as long as the store is open.
        store.evict_all();
        assert_eq!((first(&store, "m"), first_weight(&held)), (1.0, 1.0), "{what}");
        assert_eq!(store.metadata(&key("m")).unwrap().unwrap().version, Some(Version::FIRST), "{what}");
        drop(store);
        assert_eq!(first_weight(&held), 1.0, "{what}: after the store was dropped");
        drop(held);
        if what == "replaced" {
            assert_eq!(first(&folder.open(), "m"), 1.0, "the copy is a store, too");
        }
    }
}

#[test]
fn a_file_that_gets_its_name_back_is_written_to_again() {
    let folder = Folder::new();
    let store = folder.open();
    store.publish(&key("m"), weights(1.0)).unwrap();
    let aside = folder.path().with_extension("aside");
    fs::rename(folder.path(), &aside).unwrap();
    assert_eq!(error(store.publish(&key("m"), weights(2.0))).kind(), ErrorKind::Replaced);
    fs::rename(&aside, folder.path()).unwrap();
    store.publish(&key("m"), weights(3.0)).unwrap();
    drop(store);
    assert_eq!(first(&folder.open(), "m"), 3.0);
}

/// Reading a part of a map that is not in the file any more ends the process: the length is looked at before every
/// read.
#[test]
fn a_file_that_is_cut_while_it_is_open_is_noticed_before_it_is_read() {
    for read_only in [false, true] {
        let folder = Folder::new();
        let store = folder.open();
        store.publish(&key("m"), large(1.0)).unwrap();
        drop(store);
        let store = folder.options().read_only(read_only).open(folder.path()).unwrap();
        let hot = store.get::<Weights>(&key("m")).unwrap().unwrap();
        assert_eq!(hot.tier(), Tier::Disk);
        let whole = fs::read(folder.path()).unwrap();
        for len in [whole.len() - 4096, 4096, 0] {
            fs::File::options().write(true).open(folder.path()).unwrap().set_len(len as u64).unwrap();
            store.evict_all();
            let found = error(store.get::<Weights>(&key("m")));
            assert_eq!(found.kind(), ErrorKind::Truncated, "{found}");
            assert!(found.to_string().contains(&format!("{len} bytes")), "{found}");
            assert_eq!(error(store.metadata(&key("m"))).kind(), ErrorKind::Truncated);
            if !read_only {
                assert_eq!(error(store.publish(&key("m"), weights(2.0))).kind(), ErrorKind::Truncated);
            }
        }
        // In place, so that it is the same file.
        fs::write(folder.path(), &whole).unwrap();
        assert_eq!((first(&store, "m"), first_weight(&hot)), (1.0, 1.0));
    }
}

#[test]
fn files_that_an_open_left_behind_are_in_nobodys_way() {
    let folder = Folder::new();
    let (path, pid) = (folder.path(), std::process::id());
    let names = [format!(".models.redb.{pid}.0.new"), format!(".models.redb.{pid}.1.new"), ".modelkeep-0.new".into()];
    for name in names {
        fs::write(path.with_file_name(name), b"half a file").unwrap();
    }
    folder.open().publish(&key("m"), weights(1.0)).unwrap();
    // A compaction that was cut short, of this very store: the next open for writing removes it.
    let before = fs::read_dir(path.parent().unwrap()).unwrap().count();
    let short = blake3::hash(b"models.redb").to_hex();
    let leftover = path.with_file_name(format!(".modelkeep-{}.compact", &short[..16]));
    fs::write(&leftover, b"half a file").unwrap();
    assert_eq!(first(&folder.open_read_only(), "m"), 1.0);
    assert!(leftover.exists(), "who only reads removes nothing");
    let store = folder.open();
    assert!(!leftover.exists());
    fs::write(&leftover, b"half a file").unwrap();
    store.compact().unwrap();
    assert_eq!((first(&store, "m"), fs::read_dir(path.parent().unwrap()).unwrap().count()), (1.0, before));
}

#[test]
fn names_may_be_as_long_as_the_file_system_allows() {
    for len in [1, 200, 244, 245, 254, 255] {
        let folder = Folder::new();
        let path = folder.path().with_file_name("n".repeat(len));
        let store = folder.options().open(&path).unwrap_or_else(|err| panic!("{len}: {err}"));
        store.publish(&key("m"), large(1.0)).unwrap();
        store.compact().unwrap_or_else(|err| panic!("{len}: {err}"));
        assert_eq!(first(&store, "m"), 1.0);
        drop(store);
        assert_eq!(first(&folder.options().open(&path).unwrap(), "m"), 1.0);
    }
    let folder = Folder::new();
    let refused = error(folder.options().open(folder.path().with_file_name("n".repeat(256))));
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused}");
}

#[test]
fn a_link_is_followed_to_the_file() {
    let folder = Folder::new();
    let link = folder.path().with_file_name("link");
    // One that leads nowhere yet: the file is made where it leads.
    std::os::unix::fs::symlink("models.redb", &link).unwrap();
    let store = folder.options().open(&link).unwrap();
    store.publish(&key("m"), large(1.0)).unwrap();
    assert!(fs::symlink_metadata(folder.path()).unwrap().is_file());
    assert_eq!(error(folder.options().open(folder.path())).kind(), ErrorKind::InUse);
    store.compact().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "a compaction replaces the file and not the link");
    drop(store);
    assert_eq!(first(&folder.open(), "m"), 1.0);
    // One that leads to itself.
    let ring = folder.path().with_file_name("ring");
    std::os::unix::fs::symlink("ring", &ring).unwrap();
    assert_eq!(error(folder.options().open(&ring)).kind(), ErrorKind::Io);
}

/// What was cut by another program is left as it is: a restore must find what went wrong.
#[test]
fn a_file_that_was_cut_is_not_written_to_by_closing_it() {
    let folder = Folder::new();
    let store = folder.options().mapped(false).open(folder.path()).unwrap();
    for i in 0..5 {
        store.publish(&key(&format!("m{i}")), large(f64::from(i))).unwrap();
    }
    let file = fs::OpenOptions::new().write(true).open(folder.path()).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let cut = fs::read(folder.path()).unwrap();
    assert_eq!(error(store.metadata(&key("m0"))).kind(), ErrorKind::Truncated);
    drop(store);
    assert!(fs::read(folder.path()).unwrap() == cut, "it was written to");
    assert_eq!(error(folder.options().open(folder.path())).kind(), ErrorKind::Truncated);
}

/// Leaves a file as a crash does: that was not closed.
fn unclean(folder: &Folder) -> Vec<u8> {
    let store = folder.open();
    store.publish(&key("m"), large(1.0)).unwrap();
    fs::read(folder.path()).unwrap()
}

#[test]
fn a_file_that_was_not_closed_and_was_cut_is_refused_in_the_same_words_however_it_is_opened() {
    let folder = Folder::new();
    let whole = unclean(&folder);
    let mut refused = 0;
    for len in [9, 319, 320, 4096, 8192, whole.len() / 3, whole.len() / 2] {
        fs::write(folder.path(), &whole[..len]).unwrap();
        let messages: Vec<_> = [(true, false), (false, false), (false, true)]
            .into_iter()
            .map(|(read_only, create)| {
                let options = folder.options().read_only(read_only).create(create);
                let found = error(options.open(folder.path()));
                assert_eq!(found.kind(), ErrorKind::Truncated, "{len}: {found}");
                assert!(fs::read(folder.path()).unwrap() == whole[..len], "the file was changed");
                found.to_string()
            })
            .collect();
        assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
        refused += 1;
    }
    assert_eq!(refused, 7);
    fs::write(folder.path(), &whole).unwrap();
    assert_eq!(first(&folder.open(), "m"), 1.0);
}

#[test]
fn a_relative_path_is_the_file_that_it_was_at_the_open() {
    let folder = Folder::new();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "surroundings::in_another_folder", "--ignored", "--nocapture"])
        .env(CHILD, folder.path().parent().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("published after a change of folder"), "{text}");
    assert_eq!(first(&folder.open(), "m"), 3.0);
}

#[test]
#[ignore = "a child of the test above, because the folder is the process's"]
fn in_another_folder() {
    let folder = std::env::var_os(CHILD).unwrap();
    std::env::set_current_dir(&folder).unwrap();
    let store = Store::open("models.redb").unwrap();
    store.publish(&key("m"), large(1.0)).unwrap();
    fs::create_dir("below").unwrap();
    std::env::set_current_dir("below").unwrap();
    store.publish(&key("m"), large(2.0)).unwrap();
    store.compact().unwrap();
    store.publish(&key("m"), large(3.0)).unwrap();
    assert!(!Path::new("models.redb").exists());
    println!("published after a change of folder");
}

/// Under `mapped(false)` nothing is read through a map: what another program does to the file can end no process.
#[test]
fn without_a_map_a_cut_is_an_error_even_while_models_are_held() {
    let folder = Folder::new();
    let store = folder.options().mapped(false).open(folder.path()).unwrap();
    store.publish(&key("m"), large(1.0)).unwrap();
    store.evict_all();
    let held = store.get::<Weights>(&key("m")).unwrap().unwrap();
    fs::File::options().write(true).open(folder.path()).unwrap().set_len(0).unwrap();
    assert_eq!(first_weight(&held), 1.0);
    assert!(held.archive_bytes().len() > 100_000 && held.weights.iter().all(|w| w.to_native().is_finite()));
    store.evict_all();
    assert_eq!(error(store.get::<Weights>(&key("m"))).kind(), ErrorKind::Truncated);
    assert!(!is_copied() || held.tier() == Tier::Disk);
}
