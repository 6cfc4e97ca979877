//! The cold load against the size of the model: a line for every way to load it.

use plotters::style::RGBColor;
use serde_json::Value;

use super::{
    canvas::{OURS, Stroke},
    lines::{Chart, Series},
    subtitle,
};

/// A line: its name in the result, what it is called, and how it is drawn.
type Line = (&'static str, &'static str, Stroke);

const fn peer(r: u8, g: u8, b: u8) -> Stroke {
    Stroke { color: RGBColor(r, g, b), width: 2, dashed: false }
}

const LINES: [Line; 8] = [
    ("fjall", "fjall", peer(0x99, 0x99, 0x99)),
    ("redb_zstd", "redb, zstd", peer(0xcc, 0x79, 0xa7)),
    ("redb_copy", "redb, copied", peer(0xd5, 0x5e, 0x00)),
    ("fs_read", "file, read", peer(0xe6, 0x9f, 0x00)),
    ("heed", "LMDB", peer(0x00, 0x9e, 0x73)),
    ("mmap", "file, mapped", peer(0x22, 0x26, 0x2b)),
    ("ours_full", "modelkeep, every byte verified", Stroke { color: OURS, width: 3, dashed: true }),
    ("ours_structure", "modelkeep, structure checked", Stroke { color: OURS, width: 4, dashed: false }),
];

pub fn chart(result: &Value) -> Chart {
    let samples = result.get("samples").and_then(Value::as_u64).unwrap_or(0);
    let cache = match result.get("cache_dropped_by").and_then(Value::as_str) {
        Some("drop_caches" | "fadvise") => "OS cache dropped",
        _ => "OS cache warm",
    };
    Chart {
        title: "Cold load: from opening the store to the first prediction",
        about: subtitle(result, &format!("Medians of {samples} fresh processes, {cache}")),
        series: LINES.iter().filter_map(|&line| read(result, line)).collect(),
        sizes: "size of the archived model",
        size: |mb| format!("{mb} MB"),
    }
}

fn read(result: &Value, (name, label, stroke): Line) -> Option<Series> {
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    let point = |pair: &Value| Some((number(pair.get(0))?, number(pair.get(1))?));
    let points: Vec<_> = result.get("series")?.get(name)?.as_array()?.iter().filter_map(point).collect();
    (!points.is_empty()).then_some(Series { label, stroke, points })
}
