//! How operations grow: a line for each, against the share of the largest size.

use plotters::style::RGBColor;
use serde_json::Value;

use super::{
    canvas::{OURS, Stroke},
    lines::{Chart, Series},
    subtitle,
};

const fn line(r: u8, g: u8, b: u8) -> Stroke {
    Stroke { color: RGBColor(r, g, b), width: 2, dashed: false }
}

const MODELS: Stroke = Stroke { color: OURS, width: 3, dashed: false };
const ROWS: Stroke = line(0xd5, 0x5e, 0x00);
const FILE: Stroke = line(0x00, 0x9e, 0x73);
const MODEL: Stroke = line(0xcc, 0x79, 0xa7);
const VERSIONS: Stroke = line(0x6f, 0x76, 0x7e);

/// The names in the result, what they are called, and how they are drawn.
const LINES: [(&str, &str, Stroke); 17] = [
    ("models/open", "many models: open", MODELS),
    ("models/get", "get from the file", MODELS),
    ("models/page", "page of 100", MODELS),
    ("models/list", "list", MODELS),
    ("models/publish", "publish", MODELS),
    ("models/verify", "verify", MODELS),
    ("rows/list", "many rows: list", ROWS),
    ("rows/prune_all", "prune half of them", ROWS),
    ("rows/compact", "compact", ROWS),
    ("file/open", "large file: open", FILE),
    ("file/publish_1_mb", "publish 1 MB", FILE),
    ("file/verify", "verify", FILE),
    ("model/get_structure", "large model: get, structure", MODEL),
    ("model/get_verified", "get, verified", MODEL),
    ("model/publish", "publish", MODEL),
    ("versions/publish", "many versions: publish", VERSIONS),
    ("versions/versions", "history", VERSIONS),
];

pub fn chart(result: &Value) -> Chart {
    let largest = |axis: &str| result.get(format!("{axis}_largest")).and_then(Value::as_u64).unwrap_or(0);
    let about = format!(
        "At most {} models, {} rows, {} MB, {} MB in one model, {} versions",
        largest("models"),
        largest("rows"),
        largest("file"),
        largest("model"),
        largest("versions")
    );
    Chart {
        title: "Growth: what an operation takes as the store grows",
        about: subtitle(result, &about),
        series: LINES.iter().filter_map(|&line| read(result, line)).collect(),
        sizes: "share of the largest size",
        size: |share| if share < 1.0 { format!("1/{:.0}", 1.0 / share) } else { "1".to_owned() },
    }
}

fn read(result: &Value, (name, label, stroke): (&str, &'static str, Stroke)) -> Option<Series> {
    let points = result.get("series")?.get(name)?.as_array()?;
    let number = |point: &Value, n: usize| point.get(n).and_then(Value::as_f64);
    let largest = result.get(format!("{}_largest", name.split_once('/')?.0))?.as_f64()?;
    let points: Vec<_> = points.iter().filter_map(|at| Some((number(at, 0)? / largest, number(at, 1)?))).collect();
    (!points.is_empty()).then_some(Series { label, stroke, points })
}
