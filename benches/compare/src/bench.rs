//! Bench: did a ratio to a peer, or to our own figures, move since the baseline was written?
//!
//! Short runs of other subcommands, each in a process of its own, a minute in all. Their figures are not good enough to
//! be shown; a ratio that was measured in one run on one machine stays much the same on another. What moved is printed:
//! on a busy machine that is no proof of anything, and nothing fails of it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::{
    folder, machine,
    report::{rounded, table},
    subprocess,
};

/// A ratio that is larger by more than this factor, or smaller, has moved.
const MOVED: f64 = 1.2;

/// What is run, and for how little of everything.
const RUNS: [(&str, &[&str]); 6] = [
    ("cold", &["--mb", "8", "--samples", "7"]),
    ("hot", &["--keys", "2000", "--gets", "100000", "--samples", "5"]),
    ("publish", &["--kb", "256", "--samples", "21", "--warm-up", "4"]),
    ("metadata", &["--rows", "5000", "--samples", "15"]),
    ("space", &["--mb", "10", "--overwrite-mb", "4", "--overwrites", "10"]),
    ("bars", &["--symbols", "2", "--years", "1", "--samples", "5"]),
];

#[derive(clap::Args)]
pub struct Arguments {
    /// The ratios to compare with
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json"))]
    baseline: PathBuf,
    /// Write what is found to the baseline
    #[arg(long)]
    write: bool,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// Ratios by name: the subcommand, and what it calls them.
type Ratios = BTreeMap<String, f64>;

pub fn run(arguments: &Arguments) -> Result<()> {
    // First: what cannot be compared need not be measured.
    let baseline = if arguments.write { None } else { Some(read(&arguments.baseline)?) };
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let (mut found, started) = (Ratios::new(), Instant::now());
    for (command, options) in RUNS {
        eprintln!("{:3.0} s: {command} {}", started.elapsed().as_secs_f64(), options.join(" "));
        found.extend(ratios(command, &child(command, options, folder.path())?));
    }
    let Some(baseline) = baseline else {
        let written = json!({ "machine": machine::facts(folder.path()), "ratios": found });
        fs::write(&arguments.baseline, format!("{written:#}\n"))
            .with_context(|| format!("{} cannot be written", arguments.baseline.display()))?;
        println!("{} ratios written to {}", found.len(), arguments.baseline.display());
        return Ok(());
    };
    let before = baseline.get("ratios").and_then(Value::as_object).context("the baseline has no ratios")?;
    let before: Ratios = before.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
    let changes = changes(&before, &found);
    print(&changes, baseline.get("machine"), started.elapsed().as_secs_f64());
    if arguments.json {
        let moved: Vec<&str> = changes.iter().filter(|change| change.has_moved()).map(|change| &*change.name).collect();
        println!("{}", json!({ "command": "bench", "ratios": found, "moved": moved }));
    }
    Ok(())
}

fn read(baseline: &Path) -> Result<Value> {
    let text = fs::read_to_string(baseline).with_context(|| format!("{} cannot be read", baseline.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", baseline.display()))
}

/// The JSON object of a short run.
fn child(command: &str, options: &[&str], folder: &Path) -> Result<Value> {
    let options = options.iter().map(OsStr::new);
    let place = [OsStr::new("--dir"), folder.as_ref(), OsStr::new("--json")];
    let text = subprocess::run(command, [OsStr::new(command)].into_iter().chain(options).chain(place))?;
    let last = text.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("the last line of {command} is not JSON"))
}

/// The ratios among the figures of a subcommand. Times of files of real bars are too short to be compared.
fn ratios(command: &str, result: &Value) -> Ratios {
    let figures = result.as_object().into_iter().flat_map(Map::iter);
    let ratio = |(name, value): (&String, &Value)| {
        let name = name.strip_prefix("ratio_").filter(|name| !name.starts_with("append_"))?;
        Some((format!("{command} {name}"), value.as_f64()?))
    };
    figures.filter_map(ratio).collect()
}

/// A ratio then and now; `None` when it was not measured.
struct Change {
    name: String,
    before: Option<f64>,
    now: Option<f64>,
}

impl Change {
    /// How many times as large it is.
    fn factor(&self) -> Option<f64> {
        self.before.zip(self.now).map(|(before, now)| now / before)
    }

    fn has_moved(&self) -> bool {
        self.factor().is_none_or(|factor| !(1.0 / MOVED..=MOVED).contains(&factor))
    }
}

fn changes(before: &Ratios, now: &Ratios) -> Vec<Change> {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let change =
        |name: &String| Change { name: name.clone(), before: before.get(name).copied(), now: now.get(name).copied() };
    names.into_iter().map(change).collect()
}

fn print(changes: &[Change], machine: Option<&Value>, seconds: f64) {
    let mut rows = table(&["ratio", "baseline", "now", "change", ""]);
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| rounded(value).to_string());
    for change in changes {
        let factor = change.factor().map_or_else(|| "-".to_owned(), |factor| format!("x {factor:.2}"));
        let verdict = if change.has_moved() { "moved" } else { "" };
        rows.add_row([change.name.clone(), shown(change.before), shown(change.now), factor, verdict.to_owned()]);
    }
    println!("{rows}");
    let cpu = machine.and_then(|machine| machine.get("cpu")).and_then(Value::as_str).unwrap_or("an unknown machine");
    let moved = changes.iter().filter(|change| change.has_moved()).count();
    println!(
        "{moved} of {} ratios moved by more than a fifth since the baseline, of {cpu}; {seconds:.0} s",
        changes.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ratios_are_compared_and_what_moved_is_told() {
        let result = json!({ "command": "hot", "ratio_a": 1.0, "ratio_b": 2.0, "a_ns": 7.0, "ratio_c": 3.0 });
        let now = ratios("hot", &result);
        assert_eq!(now.keys().collect::<Vec<_>>(), ["hot a", "hot b", "hot c"]);
        let before = [("hot a", 1.19), ("hot b", 1.6), ("hot d", 1.0)].map(|(name, value)| (name.to_owned(), value));
        let changes = changes(&before.into(), &now);
        let moved: Vec<&str> = changes.iter().filter(|change| change.has_moved()).map(|change| &*change.name).collect();
        assert_eq!(moved, ["hot b", "hot c", "hot d"]);
    }
}
