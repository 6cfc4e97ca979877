//! What grows, and what is done at each size of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use modelkeep::{ModelKey, NewModel, Options, Store, Verify, Version, admin::Filter};

use super::meter::Meter;
use crate::model::{self, MB, Mixed};

/// Something that grows.
pub struct Axis {
    pub name: &'static str,
    pub unit: &'static str,
    pub measure: fn(&Path, u32, &mut Meter) -> Result<()>,
}

pub const NAMES: [&str; 5] = ["models", "rows", "file", "model", "versions"];

pub const AXES: [Axis; 5] = [
    Axis { name: NAMES[0], unit: "models", measure: models },
    Axis { name: NAMES[1], unit: "rows of metadata, ten versions of each model", measure: rows },
    Axis { name: NAMES[2], unit: "MB in models of 2 MB", measure: file },
    Axis { name: NAMES[3], unit: "MB in one model", measure: one_model },
    Axis { name: NAMES[4], unit: "versions of one key", measure: versions },
];

/// Bytes of an archive where archives are not what it is about.
const SMALL_BYTES: usize = 160;
/// Megabytes of each model of a large file.
const MODEL_MB: u32 = 2;
/// Megabytes of the largest file that is compacted: a copy lies beside it meanwhile.
const COMPACTED_MB_MAX: u32 = 5000;
/// Models of one transaction.
const BATCH: u32 = 1000;
/// Versions of each model among many rows.
const VERSIONS: u32 = 10;

fn options() -> Options {
    Store::options().hot_bytes(0)
}

fn key(n: u32) -> Result<ModelKey> {
    Ok(ModelKey::new(&format!("model.{n:08}"), &n)?)
}

fn small(n: u32) -> NewModel<Mixed> {
    let trained = NewModel::new(model::mixed(SMALL_BYTES, n.into()));
    (0..4).fold(trained, |trained, m| {
        trained.metric(format!("metric.{m}"), f64::from(n + m)).tag(format!("tag.{m}"), format!("value {n}"))
    })
}

/// Publishes one version of each of `count` small models.
fn publish_all(store: &Store, count: u32) -> Result<()> {
    for from in (0..count).step_by(BATCH as usize) {
        let batch = (from..(from + BATCH).min(count)).map(|n| Ok((key(n)?, small(n))));
        store.publish_many(batch.collect::<Result<Vec<_>>>()?)?;
    }
    Ok(())
}

fn listed(store: &Store, filter: Filter) -> Result<usize> {
    let mut count = 0;
    for listed in store.list(filter)? {
        std::hint::black_box(listed?.version());
        count += 1;
    }
    Ok(count)
}

fn verified(store: &Store) -> Result<()> {
    ensure!(store.verify()?.is_whole(), "the store is damaged");
    Ok(())
}

fn reopened(path: &Path, meter: &mut Meter) -> Result<Store> {
    meter.time("open", 9, |_| Ok(options().create(false).open(path)?))?;
    Ok(options().create(false).keep_all_versions().open(path)?)
}

/// What is done to any store of many models.
fn look_around(store: &Store, models: u32, meter: &mut Meter) -> Result<()> {
    let spread = |n: u32| key((n * 7919) % models);
    meter.time("get", 200, |n| Ok(store.get::<Mixed>(&spread(n)?)?.context("it is stored")?.version()))?;
    meter.time("list", 3, |_| {
        ensure!(listed(store, Filter::all())? >= models as usize, "models are missing in the list");
        Ok(())
    })?;
    meter.time("page", 20, |n| {
        // From anywhere in the list, so that there is one behind it.
        let after = key((n * 7919) % (models - models / 8))?;
        listed(store, Filter::all().after(&after).limit(100))
    })?;
    meter.time("verify", 1, |_| verified(store))
}

fn models(folder: &Path, count: u32, meter: &mut Meter) -> Result<()> {
    let path = store_path(folder);
    let store = options().open(&path)?;
    publish_all(&store, count)?;
    drop(store);
    let store = reopened(&path, meter)?;
    meter.time("publish", 60, |n| Ok(store.publish(&key(count + n)?, small(n))?))?;
    meter.time("publish_many", 3, |n| {
        let from = count + 1000 * (n + 1);
        let batch = (from..from + 100).map(|n| Ok((key(n)?, small(n))));
        Ok(store.publish_many(batch.collect::<Result<Vec<_>>>()?)?)
    })?;
    look_around(&store, count, meter)?;
    meter.time("compact", 1, |_| Ok(store.compact()?))
}

fn rows(folder: &Path, count: u32, meter: &mut Meter) -> Result<()> {
    let path = store_path(folder);
    let store = options().keep_all_versions().open(&path)?;
    let models = (count / VERSIONS).max(1);
    for _ in 0..VERSIONS {
        publish_all(&store, models)?;
    }
    drop(store);
    let store = reopened(&path, meter)?;
    look_around(&store, models, meter)?;
    meter.time("prune_all", 1, |_| {
        let report = store.prune_all(VERSIONS as usize / 2).run()?;
        ensure!(report.versions.len() as u32 == models * VERSIONS / 2, "half of the versions are to be removed");
        Ok(())
    })?;
    meter.time("compact", 1, |_| Ok(store.compact()?))
}

fn file(folder: &Path, mb: u32, meter: &mut Meter) -> Result<()> {
    let path = store_path(folder);
    let store = options().open(&path)?;
    let models = (mb / MODEL_MB).max(1);
    for n in 0..models {
        store.publish(&key(n)?, NewModel::new(model::mixed(MODEL_MB as usize * MB, n.into())))?;
    }
    drop(store);
    let store = reopened(&path, meter)?;
    meter.time("publish_1_mb", 20, |n| Ok(store.publish(&key(models)?, NewModel::new(model::mixed(MB, n.into())))?))?;
    // The newest, which are in the OS cache whatever the size of the file.
    let newest = |n: u32| key(models - 1 - n % models.min(2));
    meter.time("get", 10, |n| Ok(store.get::<Mixed>(&newest(n)?)?.context("it is stored")?.version()))?;
    meter.time("list", 9, |_| listed(&store, Filter::all()))?;
    meter.time("verify", 1, |_| verified(&store))?;
    meter.time("remove", 1, |_| Ok(store.remove(&key(0)?).run()?))?;
    if mb <= COMPACTED_MB_MAX {
        meter.time("compact", 1, |_| Ok(store.compact()?))?;
    }
    Ok(())
}

fn one_model(folder: &Path, mb: u32, meter: &mut Meter) -> Result<()> {
    let path = store_path(folder);
    let store = options().retention(1).compress_superseded(false).open(&path)?;
    let mut next = Some(model::mixed(mb as usize * MB, 1));
    meter.time("publish", 1, |_| {
        let model = next.take().context("it is published once")?;
        Ok(store.publish(&key(0)?, NewModel::new(model))?)
    })?;
    drop(store);
    let get = |store: &Store| Ok(store.get::<Mixed>(&key(0)?)?.context("it is stored")?.version());
    let store = reopened(&path, meter)?;
    meter.time("get_verified", 3, |_| get(&store))?;
    drop(store);
    let store = options().create(false).verify(Verify::Structure).open(&path)?;
    meter.time("get_structure", 9, |_| get(&store))?;
    meter.time("verify", 1, |_| verified(&store))?;
    meter.time("compact", 1, |_| Ok(store.compact()?))
}

fn versions(folder: &Path, count: u32, meter: &mut Meter) -> Result<()> {
    let path = store_path(folder);
    let store = options().keep_all_versions().open(&path)?;
    let only = key(0)?;
    for n in 0..count {
        store.publish(&only, small(n))?;
    }
    drop(store);
    let store = reopened(&path, meter)?;
    meter.time("publish", 60, |n| Ok(store.publish(&only, small(n))?))?;
    meter.time("get", 200, |_| Ok(store.get::<Mixed>(&only)?.context("it is stored")?.version()))?;
    let middle = Version::new((count / 2).max(1).into()).context("versions begin at 1")?;
    meter.time("get_version", 200, |_| Ok(store.get_version::<Mixed>(&only, middle)?.is_some()))?;
    meter.time("versions", 3, |_| Ok(store.versions(&only)?.len()))?;
    meter.time("list", 9, |_| listed(&store, Filter::all()))?;
    meter.time("verify", 1, |_| verified(&store))?;
    meter.time("prune", 1, |_| Ok(store.prune(&only, 8).run()?))?;
    meter.time("compact", 1, |_| Ok(store.compact()?))
}

fn store_path(folder: &Path) -> PathBuf {
    folder.join("growth.redb")
}
