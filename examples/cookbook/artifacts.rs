//! What belongs to a model besides its weights: a scaler, a report, tags, and what is learned about it later.
//!
//!     cargo run --example cookbook_artifacts

#![allow(clippy::print_stdout, reason = "an example prints")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::error::Error;

use modelkeep::{
    Interval, Model, ModelKey, NewModel, Schema, Store,
    admin::{Annotation, Filter},
    market::{BadRows, Timeframe},
};

const IBM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public/IBM.csv");

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Weights(Vec<f64>);

impl Model for Weights {
    const SCHEMA: Schema = Schema::new("cookbook.weights", 1);
}

/// Kept as an artifact, in JSON: another language can read it.
fn scaler(volume: &[f64]) -> serde_json::Value {
    let highest = volume.iter().copied().fold(0.0, f64::max);
    serde_json::json!({ "column": "volume", "highest": highest })
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("models.redb");
    let store = Store::open(&path)?;
    let series = store.bars("IBM", Timeframe::DAY)?;
    series.import_csv(IBM, BadRows::Refuse, |_| {})?;
    let bars = series.range(Interval::all_time())?;
    let key = ModelKey::new("weights", "IBM")?;

    // One transaction: model, artifacts, metrics and tags are there together, or not at all.
    let model = NewModel::new(Weights(vec![0.5, -0.25]))
        .artifact("scaler.json", scaler(bars.volume()).to_string())
        .artifact("report.txt", format!("trained on {} bars", bars.len()))
        .metric("auc", 0.58)
        .tag("desk", "equities")
        .tag("state", "candidate");
    let version = store.publish(&key, model)?;
    let published = store.metadata(&key)?.ok_or("the metadata is gone")?;
    store.close()?;

    let store = Store::open(&path)?;
    let artifact = store.artifact(&key, version, "scaler.json")?.ok_or("the scaler is gone")?;
    let read: serde_json::Value = serde_json::from_slice(&artifact)?;
    assert_eq!(read, scaler(bars.volume()));
    assert_eq!(store.artifact(&key, version, "report.txt")?.as_deref(), Some(&b"trained on 763 bars"[..]));

    // A week later: what happened since is noted. Archive, age and artifacts stay as they are.
    let judged = Annotation::new().metric("live_auc", 0.57).tag("state", "reviewed").tag("reviewed_by", "risk");
    store.annotate(&key, version, &judged)?;
    let noted = store.metadata(&key)?.ok_or("the metadata is gone")?;
    assert_eq!((noted.model_hash, noted.last_updated), (published.model_hash, published.last_updated));
    let fields: Vec<String> = noted.diff(&published).into_iter().map(|change| change.field).collect();
    assert_eq!(fields, ["metrics.live_auc", "tags.reviewed_by", "tags.state"]);
    println!("changed since it was published: {}", fields.join(", "));

    // Found by its tags, without reading archives.
    let mut reviewed = store.list(Filter::all().tag("state", "reviewed")?)?;
    let listed = reviewed.next().ok_or("no model has the tag")??;
    assert_eq!((listed.metric("live_auc")?, reviewed.next().is_none()), (Some(0.57), true));
    Ok(())
}
