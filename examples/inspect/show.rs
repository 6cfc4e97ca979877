//! One method a command: ask the store, print a table or JSON.

use std::{fs::File, io::Write, path::Path};

use modelkeep::{Explanation, Interval, ModelKey, Relative, Store, Version, admin::Filter, market::Calendar};
use serde_json::{Value, json};

use super::table::{human_bytes, human_us, table};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

pub struct Show<'a> {
    pub store: &'a Store,
    pub json: bool,
}

impl Show<'_> {
    pub fn list(&self, filter: Filter) -> Outcome {
        let (mut rows, mut all) = (
            table(
                &["model", "version", "last updated", "samples", "symbols", "archive", "schema", "tags"],
                &[1, 3, 4, 5],
            ),
            Vec::new(),
        );
        let mut unreadable = Vec::new();
        for listed in self.store.list(filter)? {
            let listed = match listed {
                Ok(listed) => listed,
                Err(err) => {
                    unreadable.push(err.to_string());
                    continue;
                }
            };
            let metadata = listed.metadata()?;
            all.push(json!({ "key": listed.key().to_string(), "metadata": metadata }));
            let tags: Vec<String> = metadata.tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
            rows.add_row([
                listed.key().to_string(),
                metadata.version.map(|version| version.to_string()).unwrap_or_default(),
                seconds(&metadata.last_updated.to_string()),
                metadata.sample_count.to_string(),
                metadata.symbols.len().to_string(),
                human_bytes(metadata.archive_bytes),
                metadata.schema.to_string(),
                tags.join(" "),
            ]);
        }
        self.print(&json!(all), || format!("{rows}\n{} models", all.len()))?;
        if unreadable.is_empty() { Ok(()) } else { Err(unreadable.join("\n").into()) }
    }

    pub fn metadata(&self, key: &ModelKey, version: Version) -> Outcome {
        let metadata =
            self.store.metadata_of(key, version)?.ok_or_else(|| format!("{key} has no version {version}"))?;
        let value = serde_json::to_value(&metadata)?;
        let mut rows = table(&["field", "value"], &[]);
        if let Value::Object(fields) = &value {
            for (field, value) in fields {
                rows.add_row([field.clone(), pretty(value)]);
            }
        }
        self.print(&value, || format!("{key} {version}\n{rows}"))
    }

    pub fn why(&self, explained: &Explanation) -> Outcome {
        let decision = explained.decision();
        let reasons: Vec<String> = decision.reasons().iter().map(ToString::to_string).collect();
        let relative = |relative: &Relative| {
            let differences = relative.differences.iter();
            let differences: Vec<_> = differences
                .map(|change| json!({ "field": change.field, "asked_for": change.left, "stored": change.right }))
                .collect();
            json!({ "key": relative.key.to_string(), "differences": differences })
        };
        let value = json!({
            "key": explained.key().to_string(),
            "verdict": decision.verdict().to_string(),
            "reasons": reasons,
            "current": explained.current(),
            "relatives": explained.relatives().iter().map(relative).collect::<Vec<_>>(),
        });
        self.print(&value, || explained.to_string().trim_end().to_owned())
    }

    pub fn decisions(&self, key_begins: &str, limit: usize) -> Outcome {
        let mut noted = self.store.decisions()?;
        noted.retain(|entry| format!("{}@{}", entry.key.name(), entry.key.config_hash()).starts_with(key_begins));
        let noted = noted.split_off(noted.len().saturating_sub(limit));
        let (mut rows, mut all) =
            (table(&["when", "model", "verdict", "version", "took", "reasons"], &[3, 4]), Vec::new());
        for entry in &noted {
            rows.add_row([
                seconds(&entry.at.to_string()),
                entry.key.to_string(),
                entry.verdict.to_string(),
                entry.version.map(|version| version.to_string()).unwrap_or_default(),
                human_us(entry.took.as_secs_f64() * 1e6),
                entry.reasons.join("; "),
            ]);
            all.push(json!({
                "at": entry.at.to_string(),
                "key": entry.key.to_string(),
                "verdict": entry.verdict.to_string(),
                "version": entry.version.map(Version::get),
                "took_us": entry.took.as_micros().to_string(),
                "reasons": entry.reasons,
            }));
        }
        self.print(&json!(all), || format!("{rows}\n{} decisions", all.len()))
    }

    pub fn versions(&self, key: &ModelKey) -> Outcome {
        let (mut rows, mut all) = (
            table(&["version", "", "last updated", "parent", "model hash", "archive", "metrics"], &[0, 5]),
            Vec::new(),
        );
        for entry in self.store.versions(key)? {
            let (metadata, mut marks) = (&entry.metadata, Vec::new());
            marks.extend(entry.current.then_some("current"));
            marks.extend(entry.pinned.then_some("pinned"));
            marks.extend(entry.quarantined.is_some().then_some("quarantined"));
            all.push(json!({
                "version": entry.version.get(),
                "current": entry.current,
                "pinned": entry.pinned,
                "quarantined": entry.quarantined,
                "metadata": metadata,
            }));
            let metrics: Vec<String> =
                metadata.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
            rows.add_row([
                entry.version.to_string(),
                marks.join(", "),
                seconds(&metadata.last_updated.to_string()),
                metadata.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                metadata.model_hash.short(),
                human_bytes(metadata.archive_bytes),
                metrics.join(", "),
            ]);
        }
        self.print(&json!(all), || format!("{key}\n{rows}"))
    }

    pub fn training(&self, key: &ModelKey) -> Outcome {
        let (mut rows, mut all) = (
            table(&["symbol", "samples", "features", "from", "to", "raw", "stored", "hash"], &[1, 2, 5, 6]),
            Vec::new(),
        );
        for summary in self.store.training_summary(key)? {
            let (first, last) = summary.span.map_or((None, None), |(first, last)| (Some(first), Some(last)));
            let text = |at: Option<modelkeep::Timestamp>| at.map(|at| at.to_string());
            all.push(json!({
                "symbol": summary.symbol.to_string(),
                "samples": summary.samples,
                "features": summary.features,
                "first": text(first),
                "last": text(last),
                "raw_bytes": summary.raw_bytes,
                "stored_bytes": summary.stored_bytes,
                "hash": summary.hash.to_string(),
            }));
            rows.add_row([
                summary.symbol.to_string(),
                summary.samples.to_string(),
                summary.features.to_string(),
                text(first).unwrap_or_default(),
                text(last).unwrap_or_default(),
                human_bytes(summary.raw_bytes),
                human_bytes(summary.stored_bytes),
                summary.hash.short(),
            ]);
        }
        self.print(&json!(all), || format!("{key}: training data of {} symbols\n{rows}", all.len()))
    }

    pub fn levels(&self) -> Outcome {
        let (mut rows, mut all) = (
            table(&["series", "days", "from", "to", "last level", "sessions missing", "in gaps"], &[1, 4, 5, 6]),
            Vec::new(),
        );
        for (series, levels) in self.store.level_series()? {
            let levels = levels?;
            let (Some(&first), Some(&last), Some(&level)) =
                (levels.days.first(), levels.days.last(), levels.levels.last())
            else {
                continue;
            };
            let gaps = self.store.levels(series.as_str())?.gaps(Interval::new(first, last.next())?)?;
            let sessions = Calendar::nyse().sessions(Interval::new(first, last.next())?);
            let missing = sessions.filter(|session| levels.days.binary_search(&session.day).is_err()).count();
            let gap_texts: Vec<String> = gaps.iter().map(ToString::to_string).collect();
            all.push(json!({
                "series": series.to_string(),
                "days": levels.len(),
                "first": first.to_string(),
                "last": last.to_string(),
                "last_level": level,
                "missing_sessions": missing,
                "gaps": gap_texts,
            }));
            rows.add_row([
                series.to_string(),
                levels.len().to_string(),
                first.to_string(),
                last.to_string(),
                format!("{level:.2}"),
                missing.to_string(),
                gaps.len().to_string(),
            ]);
        }
        self.print(&json!(all), || format!("{rows}\nSessions are those of the NYSE; --json lists the gaps."))
    }

    pub fn stats(&self) -> Outcome {
        let (usage, identity) = (self.store.usage()?, self.store.identity()?);
        let mut rows = table(&["table", "rows", "keys and values", "tree and padding"], &[1, 2, 3]);
        for used in &usage.tables {
            rows.add_row([
                used.table.to_owned(),
                used.rows.to_string(),
                human_bytes(used.stored_bytes),
                human_bytes(used.overhead_bytes),
            ]);
        }
        let tables: Vec<Value> = usage
            .tables
            .iter()
            .map(|used| {
                json!({
                    "table": used.table,
                    "rows": used.rows,
                    "stored_bytes": used.stored_bytes,
                    "overhead_bytes": used.overhead_bytes,
                })
            })
            .collect();
        let value = json!({
            "id": identity.id,
            "created": identity.created.to_string(),
            "file_bytes": usage.file_bytes,
            "allocated_bytes": usage.allocated_bytes,
            "live_bytes": usage.live_bytes(),
            "dead_bytes": usage.dead_bytes(),
            "tables": tables,
        });
        self.print(&value, || {
            format!(
                "store {}, created {}\n{rows}\nfile {} ({} allocated), live {}, dead {}",
                identity.id,
                seconds(&identity.created.to_string()),
                human_bytes(usage.file_bytes),
                human_bytes(usage.allocated_bytes),
                human_bytes(usage.live_bytes()),
                human_bytes(usage.dead_bytes()),
            )
        })
    }

    /// Returns whether the store is whole.
    pub fn verify(&self) -> Outcome<bool> {
        let started = std::time::Instant::now();
        let found = self.store.verify()?;
        let took = human_us(started.elapsed().as_secs_f64() * 1e6);
        let damage: Vec<Value> = found
            .damage
            .iter()
            .map(|damage| json!({ "table": damage.table, "key": damage.key, "reason": damage.reason }))
            .collect();
        let value = json!({
            "values": found.values,
            "bytes": found.bytes,
            "damage": damage,
            "unreferenced_archives": found.unreferenced,
            "whole": found.is_whole(),
        });
        self.print(&value, || {
            let mut lines: Vec<String> = found
                .damage
                .iter()
                .map(|damage| format!("{}/{}: {}", damage.table, damage.key, damage.reason))
                .collect();
            if !found.unreferenced.is_empty() {
                lines.push(format!("archives that nothing refers to: {:?}", found.unreferenced));
            }
            lines.push(format!(
                "{} values, {}, checked in {took}: {}",
                found.values,
                human_bytes(found.bytes),
                if found.is_whole() { "whole".into() } else { format!("{} damaged", found.damage.len()) }
            ));
            lines.join("\n")
        })?;
        Ok(found.is_whole())
    }

    pub fn export(&self, key: &ModelKey, version: Version, to: &Path) -> Outcome {
        let bytes = self.store.archive_bytes(key, version)?.ok_or_else(|| format!("{key} has no version {version}"))?;
        let mut file = File::create_new(to).map_err(|err| format!("{}: {err}", to.display()))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        let value = json!({ "key": key.to_string(), "version": version.get(), "bytes": bytes.len(), "file": to });
        self.print(&value, || {
            format!("{key} {version}: {} written to {}", human_bytes(bytes.len() as u64), to.display())
        })
    }

    pub fn diff(&self, key: &ModelKey, left: Version, right: Version) -> Outcome {
        let get = |version| -> Outcome<_> {
            Ok(self.store.metadata_of(key, version)?.ok_or_else(|| format!("{key} has no version {version}"))?)
        };
        let changes = get(left)?.diff(&get(right)?);
        let mut rows = table(&["field", &left.to_string(), &right.to_string()], &[]);
        let absent = || "-".to_owned();
        for change in &changes {
            let cell = |side: &Option<String>| side.clone().map_or_else(absent, |text| shorten(&text));
            rows.add_row([change.field.clone(), cell(&change.left), cell(&change.right)]);
        }
        let value: Vec<Value> = changes
            .iter()
            .map(|change| json!({ "field": change.field, "left": change.left, "right": change.right }))
            .collect();
        self.print(&json!(value), || format!("{key}: {} fields differ\n{rows}", changes.len()))
    }

    fn print(&self, value: &Value, text: impl FnOnce() -> String) -> Outcome {
        print(self.json, value, text)
    }
}

/// Prints a JSON value, or a text for people.
pub fn print(as_json: bool, value: &Value, text: impl FnOnce() -> String) -> Outcome {
    let text = if as_json { value.to_string() } else { text() };
    match writeln!(std::io::stdout(), "{text}") {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// A JSON value as a person would write it, lists and maps one entry a line.
fn pretty(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        Value::Array(items) => items.iter().map(pretty).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", pretty(value).replace('\n', "\n  ")))
            .collect::<Vec<_>>()
            .join("\n"),
        other => other.to_string(),
    }
}

/// A time without its fractions of a second.
fn seconds(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))
}

fn shorten(text: &str) -> String {
    let text = text.trim_matches('"');
    match text.char_indices().nth(48) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or(text)),
        None => text.to_owned(),
    }
}
