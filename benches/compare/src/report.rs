//! What a subcommand prints: a table of figures, a table of targets, and one JSON object.

use std::path::Path;

use comfy_table::Table;
use serde_json::{Map, Value, json};

use crate::machine;
pub use shared::{human_bytes, human_us};

/// As the examples draw their tables.
#[path = "../../../examples/common/table.rs"]
mod shared;

/// What a ratio or a figure is wanted to be.
#[derive(Clone, Copy)]
pub enum Wanted {
    AtMost(f64),
    AtLeast(f64),
}

/// A report in the making.
pub struct Report {
    json: Map<String, Value>,
    figures: Vec<Table>,
    targets: Table,
    has_targets: bool,
    missed: Vec<String>,
}

impl Report {
    /// Begins the report of a subcommand; `header` names the columns of its table, the first of which is a name.
    pub fn new(command: &str, folder: &Path, header: &[&str]) -> Self {
        let mut json = Map::new();
        json.insert("command".into(), command.into());
        json.insert("machine".into(), machine::facts(folder));
        let targets = table(&["target", "wanted", "found", ""]);
        Self { json, figures: vec![table(header)], targets, has_targets: false, missed: Vec::new() }
    }

    /// Adds a row to the table of figures.
    pub fn row(&mut self, cells: Vec<String>) {
        if let Some(table) = self.figures.last_mut() {
            table.add_row(cells);
        }
    }

    /// Begins another table of figures.
    pub fn table(&mut self, header: &[&str]) {
        self.figures.push(table(header));
    }

    /// Adds anything to the JSON object.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.json.insert(key.into(), value.into());
    }

    /// Adds a figure to the JSON object, with four decimals.
    pub fn figure(&mut self, key: impl Into<String>, value: f64) {
        self.set(key, rounded(value));
    }

    /// Adds the ratio of two figures, and judges it.
    pub fn ratio(&mut self, name: &str, over: &str, under: &str, wanted: Wanted) {
        let found = self.value(over).zip(self.value(under)).map(|(over, under)| over / under);
        if let Some(found) = found {
            self.figure(name, found);
        }
        self.judge(&format!("{over} / {under}"), found, wanted);
    }

    /// Judges a figure that is there already.
    pub fn bound(&mut self, key: &str, wanted: Wanted) {
        self.judge(key, self.value(key), wanted);
    }

    fn value(&self, key: &str) -> Option<f64> {
        self.json.get(key).and_then(Value::as_f64).filter(|value| value.is_finite())
    }

    fn judge(&mut self, what: &str, found: Option<f64>, wanted: Wanted) {
        let (sign, bound, met) = match wanted {
            Wanted::AtMost(bound) => ("<=", bound, found.map(|found| found <= bound)),
            Wanted::AtLeast(bound) => (">=", bound, found.map(|found| found >= bound)),
        };
        let verdict = match met {
            Some(true) => "ok",
            Some(false) => "missed",
            None => "not measured",
        };
        if met == Some(false) {
            self.missed.push(what.to_owned());
        }
        let found = found.map_or_else(|| "-".to_owned(), |found| format!("{found:.3}"));
        self.targets.add_row(vec![what.to_owned(), format!("{sign} {bound}"), found, verdict.to_owned()]);
        self.has_targets = true;
    }

    /// Prints the tables, and with `as_json` the JSON object on a line of its own behind them.
    pub fn print(mut self, as_json: bool) {
        self.figures.iter().for_each(|table| println!("{table}"));
        if self.has_targets {
            println!("{}", self.targets);
        }
        self.json.insert("missed".into(), json!(self.missed));
        if as_json {
            println!("{}", Value::Object(self.json));
        }
    }
}

/// A figure as it stands in the JSON object, with four decimals.
pub fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// A table whose first column is a name, and whose others are figures.
pub fn table(header: &[&str]) -> Table {
    shared::table(header, &(1..header.len()).collect::<Vec<_>>())
}
