//! The hot get: two bars for every map and cache, on one thread and on two.

use std::path::Path;

use anyhow::{Result, ensure};
use plotters::style::RGBColor;
use serde_json::Value;

use super::{
    canvas::{Anchor, Canvas, FAINT_INK, GRID, INK, Letters, OURS, Stroke},
    subtitle,
};

const WIDTH: u32 = 960;
const LEFT: i32 = 300;
const RIGHT: i32 = 880;
const TOP: i32 = 124;
/// Pixels of a row with two bars, of a heading, and of one bar.
const ROW: i32 = 32;
const HEADING: i32 = 34;
const BAR: i32 = 11;

const OURS_LIGHT: RGBColor = RGBColor(0x7f, 0xb8, 0xd8);
const PEER: RGBColor = RGBColor(0x6f, 0x76, 0x7e);
const PEER_LIGHT: RGBColor = RGBColor(0xbc, 0xc1, 0xc6);

const BY_KEY: [(&str, &str); 9] = [
    ("get", "modelkeep, Store::get"),
    ("hashmap", "HashMap that nobody can change"),
    ("papaya", "papaya"),
    ("papaya_long_guard", "papaya, one guard for all gets"),
    ("arcswap", "HashMap of ArcSwap"),
    ("quick_cache", "quick_cache"),
    ("moka", "moka"),
    ("dashmap", "DashMap"),
    ("rwlock", "RwLock of a HashMap"),
];

const ONE_MODEL: [(&str, &str); 3] =
    [("live", "modelkeep, Live::load"), ("arcswap_cache", "arc_swap::Cache"), ("arcswap_load", "ArcSwap::load")];

/// A row: what it is, nanoseconds on one thread and on two.
struct Row {
    name: &'static str,
    label: &'static str,
    ns: [f64; 2],
}

pub fn draw(result: &Value, to: &Path) -> Result<()> {
    let groups = [("By key", rows(result, &BY_KEY)), ("One model, read again and again", rows(result, &ONE_MODEL))];
    let count = groups.iter().map(|(_, rows)| rows.len()).sum::<usize>();
    ensure!(count > 0, "there are no times of gets in this result");
    let longest = groups.iter().flat_map(|(_, rows)| rows).flat_map(|row| row.ns).fold(0.0, f64::max);
    let bottom = TOP + count as i32 * ROW + groups.len() as i32 * HEADING;
    let canvas = Canvas::new(to, (WIDTH, (bottom + 62) as u32))?;
    canvas.text((24, 30), "Hot get: a model that is in memory", Letters::new(20, INK, Anchor::Left).bold(true))?;
    let number = |name: &str| result.get(name).and_then(Value::as_u64).unwrap_or(0);
    let about = format!(
        "{} models asked for by Zipf's law, one field touched; medians of {} rounds",
        number("keys"),
        number("samples")
    );
    canvas.text((24, 58), &subtitle(result, &about), Letters::new(13, FAINT_INK, Anchor::Left))?;
    legend(&canvas)?;
    let scale = Scale { step: step(longest), longest };
    axis(&canvas, &scale, bottom)?;
    let mut y = TOP;
    for (heading, rows) in &groups {
        canvas.text((24, y + HEADING / 2), heading, Letters::new(14, INK, Anchor::Left).bold(true))?;
        y += HEADING;
        for row in rows {
            bars(&canvas, &scale, row, y)?;
            y += ROW;
        }
    }
    canvas.finish()
}

/// The rows that were measured, the fastest first.
fn rows(result: &Value, names: &[(&'static str, &'static str)]) -> Vec<Row> {
    let time = |name: &str, threads: u32| result.get(format!("{name}_{threads}t_ns"))?.as_f64();
    let row =
        |&(name, label): &(&'static str, &'static str)| Some(Row { name, label, ns: [time(name, 1)?, time(name, 2)?] });
    let mut rows: Vec<Row> = names.iter().filter_map(row).collect();
    rows.sort_by(|a, b| a.ns.iter().sum::<f64>().total_cmp(&b.ns.iter().sum()));
    rows
}

/// From nanoseconds to pixels, from zero.
struct Scale {
    step: f64,
    longest: f64,
}

impl Scale {
    fn x(&self, ns: f64) -> i32 {
        LEFT + (f64::from(RIGHT - LEFT) * ns / self.longest).round() as i32
    }
}

/// A round number of which about five make the longest bar.
fn step(longest: f64) -> f64 {
    let rough = longest / 5.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * magnitude >= rough);
    factor.unwrap_or(10.0) * magnitude
}

fn legend(canvas: &Canvas<'_>) -> Result<()> {
    let y = 92;
    for (x, ours, peer, text) in
        [(24, OURS, PEER, "1 thread"), (150, OURS_LIGHT, PEER_LIGHT, "2 threads, each on its core")]
    {
        canvas.bar((x, y - BAR / 2), (x + 14, y + BAR / 2), ours)?;
        canvas.bar((x + 16, y - BAR / 2), (x + 30, y + BAR / 2), peer)?;
        canvas.text((x + 38, y), text, Letters::new(13, INK, Anchor::Left))?;
    }
    canvas.text((RIGHT, y), "nanoseconds per get; less is better", Letters::new(13, FAINT_INK, Anchor::Right))
}

fn axis(canvas: &Canvas<'_>, scale: &Scale, bottom: i32) -> Result<()> {
    let mut ns = 0.0;
    while ns <= scale.longest {
        let x = scale.x(ns);
        canvas.line(&[(x, TOP), (x, bottom + 6)], Stroke { color: GRID, width: 1, dashed: false })?;
        canvas.text((x, bottom + 22), &format!("{ns} ns"), Letters::new(13, FAINT_INK, Anchor::Middle))?;
        ns += scale.step;
    }
    Ok(())
}

fn bars(canvas: &Canvas<'_>, scale: &Scale, row: &Row, y: i32) -> Result<()> {
    let ours = matches!(row.name, "get" | "live");
    let colors = if ours { [OURS, OURS_LIGHT] } else { [PEER, PEER_LIGHT] };
    let ink = if ours { OURS } else { INK };
    let middle = y + ROW / 2;
    canvas.text((LEFT - 12, middle), row.label, Letters::new(14, ink, Anchor::Right).bold(ours))?;
    for (ns, color, top) in [(row.ns[0], colors[0], middle - BAR - 1), (row.ns[1], colors[1], middle + 1)] {
        // A bar of less than a pixel would not be seen.
        let end = scale.x(ns).max(LEFT + 1);
        canvas.bar((LEFT, top), (end, top + BAR), color)?;
        let value = if ns < 10.0 { format!("{ns:.1}") } else { format!("{ns:.0}") };
        canvas.text((end + 6, top + BAR / 2), &value, Letters::new(12, ink, Anchor::Left).bold(ours))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (longest, expected) in [(208.0, 50.0), (100.0, 20.0), (9.0, 2.0), (45.0, 10.0)] {
            assert!((step(longest) - expected).abs() < 1e-9, "{longest}: {}", step(longest));
        }
    }
}
