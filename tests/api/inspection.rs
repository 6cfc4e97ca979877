//! Verification, usage and differences.

use modelkeep::Version;
use redb::TableDefinition;

use crate::support::{Folder, damage, flip_first_bit, key, samples, small, weights};

/// A store with something in every table.
fn full() -> Folder {
    let folder = Folder::new();
    let store = folder.open();
    for i in 1..=2u32 {
        let trained =
            weights(f64::from(i)).training_data(samples("KO", &[(1, f64::from(i))])).artifact("a", "artifact-bytes");
        store.publish(&key("m"), trained.metric("auc", 0.5 + f64::from(i) / 10.0).tag("i", i.to_string())).unwrap();
    }
    store.levels("VIX").unwrap().write(&[("2018-12-24".parse().unwrap(), 36.07)]).unwrap();
    drop(store);
    folder
}

#[test]
fn a_whole_store_is_whole_and_every_value_was_looked_at() {
    let folder = full();
    let store = folder.open_read_only();
    let found = store.verify().unwrap();
    assert!(found.is_whole() && found.unreferenced.is_empty(), "{found:?}");
    let rows: u64 = store.usage().unwrap().tables.iter().map(|table| table.rows).sum();
    assert_eq!(found.values, rows);
    assert!(found.bytes > 1000);
}

#[test]
fn damage_is_named_by_table_and_key() {
    let folder = full();
    damage(&folder.path(), b"artifact-bytes", flip_first_bit);
    damage(&folder.path(), &36.07f64.to_le_bytes(), flip_first_bit);
    let found = folder.open_read_only().verify().unwrap();
    let names: Vec<String> = found.damage.iter().map(|damage| format!("{}/{}", damage.table, damage.key)).collect();
    assert_eq!(names.len(), 3, "{found:?}");
    assert!(names[..2].iter().all(|name| name.starts_with("small_archives/")), "{names:?}");
    assert_eq!(names[2], "vix/VIX 2018");
    assert!(found.damage.iter().all(|damage| damage.reason.contains("hashes to")), "{found:?}");
}

#[test]
fn what_is_referred_to_and_missing_is_found_and_so_is_what_nothing_refers_to() {
    let folder = full();
    let db = redb::Database::create(folder.path()).unwrap();
    let transaction = db.begin_write().unwrap();
    {
        // The first publish wrote an artifact, a symbol and the model, in this order.
        let archives: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("small_archives");
        assert!(transaction.open_table(archives).unwrap().remove(small(3)).unwrap().is_some());
        let metadata: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("metadata");
        let mut metadata = transaction.open_table(metadata).unwrap();
        let mut last = key("m").name().as_str().as_bytes().to_vec();
        last.push(0);
        last.extend_from_slice(key("m").config_hash().as_bytes());
        last.extend_from_slice(&2u64.to_be_bytes());
        metadata.remove(last.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(db);
    let found = folder.open_read_only().verify().unwrap();
    let lines: Vec<String> = found.damage.iter().map(|damage| format!("{}: {}", damage.table, damage.reason)).collect();
    assert!(lines.iter().any(|line| line.starts_with("heads: it is referred to")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("metadata: it is referred to")), "{lines:?}");
    assert_eq!(found.unreferenced.len(), 1, "the archive of the version whose metadata is gone");
}

#[test]
fn usage_adds_up() {
    let folder = full();
    let store = folder.open_read_only();
    let usage = store.usage().unwrap();
    assert_eq!(usage.file_bytes, std::fs::metadata(folder.path()).unwrap().len());
    assert!(usage.allocated_bytes > 0 && usage.allocated_bytes <= usage.file_bytes.next_multiple_of(4096));
    let rows = |name: &str| usage.tables.iter().find(|table| table.table == name).unwrap().rows;
    assert_eq!((rows("heads"), rows("metadata"), rows("training_data"), rows("vix")), (1, 2, 1, 1));
    assert!(usage.live_bytes() > 0 && usage.live_bytes() + usage.dead_bytes() == usage.allocated_bytes);
}

#[test]
fn versions_differ_field_by_field() {
    let folder = full();
    let store = folder.open_read_only();
    let of = |version: u64| store.metadata_of(&key("m"), Version::new(version).unwrap()).unwrap().unwrap();
    let changes = of(1).diff(&of(2));
    let fields: Vec<&str> = changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(fields, ["metrics.auc", "model_hash", "tags.i", "training_hash", "version"]);
    let auc = &changes[0];
    assert_eq!((auc.left.as_deref(), auc.right.as_deref()), (Some("0.6"), Some("0.7")));
    assert!(of(1).diff(&of(1)).is_empty());
    let json = serde_json::to_value(of(2)).unwrap();
    assert_eq!(json["metrics"]["auc"], 0.7);
    assert_eq!(json["training_hash"].as_str().unwrap().len(), 64);
}
