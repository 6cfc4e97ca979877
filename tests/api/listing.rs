//! Lists: filtered, ordered, lazy, and honest about what they cannot read.

use modelkeep::{ErrorKind, ModelKey, Store, Version, admin::Filter};

use crate::support::{Folder, HOUR, Weights, both, damage, error, flip_first_bit, key, weights};

fn names(store: &Store, filter: Filter) -> Vec<String> {
    store.list(filter).unwrap().map(|listed| listed.unwrap().name().to_string()).collect()
}

#[test]
fn filters_combine_and_the_order_is_that_of_the_names() {
    both(|store, clock| {
        store.publish(&key("c"), weights(1.0).tag("desk", "fx")).unwrap();
        store.publish(&key("b"), weights(1.0).tag("desk", "equities")).unwrap();
        clock.advance(2 * HOUR);
        store.publish(&key("a"), weights(1.0).tag("desk", "equities").tag("live", "yes")).unwrap();
        store.publish(&key("ab"), weights(1.0)).unwrap();
        assert_eq!(names(store, Filter::all()), ["a", "ab", "b", "c"]);
        assert_eq!(names(store, Filter::all().name("a").unwrap()), ["a"]);
        let equities = || Filter::all().tag("desk", "equities").unwrap();
        assert_eq!(names(store, equities()), ["a", "b"]);
        assert_eq!(names(store, equities().tag("live", "yes").unwrap()), ["a"]);
        assert_eq!(names(store, Filter::all().older_than(HOUR)), ["b", "c"]);
        assert_eq!(names(store, Filter::all().younger_than(HOUR)), ["a", "ab"]);
        assert_eq!(names(store, equities().older_than(HOUR)), ["b"]);
        assert!(Filter::all().name("no such name!").is_err());
    });
}

#[test]
fn a_list_shows_the_moment_that_it_was_made() {
    both(|store, _| {
        for i in 0..50 {
            store.publish(&ModelKey::new("m", &i).unwrap(), weights(1.0)).unwrap();
        }
        let mut listing = store.list(Filter::all()).unwrap();
        assert!(listing.next().unwrap().is_ok());
        store.invalidate("m").unwrap().run().unwrap();
        assert_eq!(listing.filter(Result::is_ok).count(), 49);
        assert_eq!(names(store, Filter::all()).len(), 0);
    });
}

#[test]
fn a_listed_key_can_be_published_under() {
    let folder = Folder::new();
    folder.open().publish(&ModelKey::new("m", &"config").unwrap(), weights(1.0)).unwrap();
    let store = folder.open();
    let listed = store.list(Filter::all()).unwrap().next().unwrap().unwrap();
    let key = listed.key_with_config().unwrap();
    assert_eq!((&key, key.config()), (listed.key(), Some("\"config\"")));
    let metadata = listed.metadata().unwrap();
    assert_eq!(
        (listed.created(), listed.last_updated(), listed.sample_count(), listed.archive_bytes()),
        (metadata.created, metadata.last_updated, metadata.sample_count, metadata.archive_bytes)
    );
    store.publish(&key, weights(2.0)).unwrap();
    assert_eq!(store.versions(&key).unwrap().len(), 2);
}

#[test]
fn a_damaged_row_is_one_error_and_the_list_goes_on() {
    let folder = Folder::new();
    let store = folder.open();
    for name in ["a", "b", "c"] {
        store.publish(&key(name), weights(1.0).tag("mark", format!("mark-of-{name}"))).unwrap();
    }
    drop(store);
    damage(&folder.path(), b"mark-of-b", flip_first_bit);
    let store = folder.open();
    let listed: Vec<_> = store.list(Filter::all()).unwrap().collect();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[1].as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(listed[0].is_ok() && listed[2].is_ok());
}

/// Versions that are not current are passed by, many of them at once; the current one need not be the newest.
#[test]
fn a_list_has_the_current_version_of_each_model_among_many() {
    let folder = Folder::new();
    let store = folder.options().keep_all_versions().open(folder.path()).unwrap();
    let keys: Vec<ModelKey> = (0..12).map(|i| ModelKey::new("m", &i).unwrap()).collect();
    for (n, key) in keys.iter().enumerate() {
        for version in 0..=(n * n) as u64 {
            store.publish(key, weights(1.0).tag("note", format!("{version}").repeat(100))).unwrap();
        }
    }
    let current = |n: usize| Version::new(((n * n) as u64 + 1).div_ceil([1, 2, 7][n % 3])).unwrap();
    for (n, key) in keys.iter().enumerate() {
        if n % 3 > 0 && n > 1 {
            store.rollback_to(key, current(n)).unwrap();
        }
    }
    let mut expected: Vec<_> = keys.iter().map(|key| store.metadata(key).unwrap().unwrap()).collect();
    expected.sort_by_key(|metadata| metadata.config_hash);
    assert!(expected.iter().any(|metadata| metadata.version == Some(current(11))));
    let listed = |store: &Store| -> Vec<_> {
        store.list(Filter::all()).unwrap().map(|listed| listed.unwrap().metadata().unwrap()).collect()
    };
    assert_eq!(listed(&store), expected);
    drop(store);
    assert_eq!(listed(&folder.open_read_only()), expected);
}

#[test]
fn a_key_is_found_by_name_and_by_digits() {
    both(|store, _| {
        let keys: Vec<ModelKey> = (0..3).map(|i| ModelKey::new("m", &i).unwrap()).collect();
        for key in &keys {
            store.publish(key, weights(1.0)).unwrap();
        }
        store.publish(&key("alone"), weights(1.0)).unwrap();
        assert_eq!(store.find_key("alone").unwrap(), key("alone"));
        for key in &keys {
            assert_eq!(&store.find_key(&key.to_string()).unwrap(), key);
            assert_eq!(
                &store.find_key(&format!("m@{}", key.config_hash()).to_uppercase().replace("M@", "m@")).unwrap(),
                key
            );
        }
        let err = error(store.find_key("m"));
        assert!(err.kind() == ErrorKind::InvalidInput && err.message().contains(&keys[0].to_string()), "{err}");
        assert_eq!(error(store.find_key("mm")).kind(), ErrorKind::NotFound);
        assert_eq!(error(store.find_key("m@ffffffffffffffffffff")).kind(), ErrorKind::NotFound);
        assert!(store.get::<Weights>(&store.find_key("alone").unwrap()).unwrap().is_some());
    });
}
