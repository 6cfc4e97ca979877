//! Looks into a store without changing it: what is in it, is it whole, what takes up its space.
//!
//!     cargo run --release --example inspect -- models.redb list
//!     cargo run --release --example inspect -- models.redb diff bounce 1 2
//!
//! Ends with status 0, with 1 when `verify` finds damage, and with 2 for everything that went wrong.

#![allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command-line program prints, and says how long it took"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "an example has no public API")]

#[path = "inspect/market.rs"]
#[allow(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "small numbers, and dates in ASCII"
)]
mod market;
#[path = "inspect/show.rs"]
mod show;
#[path = "common/table.rs"]
#[allow(dead_code, reason = "shared with the other examples")]
mod table;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use modelkeep::{Freshness, ModelKey, Store, Timestamp, Version, admin::Filter, market::Timeframe};

/// Look into a modelkeep store. It is opened read-only and never changed.
#[derive(Parser)]
#[command(
    after_help = "A KEY is a model's name, or name@ and the first digits of its config hash where several configurations \
of one model are stored: bounce, bounce@b842. A VERSION is a number: 3 or v3.\n\nExamples:\n  inspect models.redb list \
--tag desk=equities\n  inspect models.redb show bounce\n  inspect models.redb diff bounce v1 v2\n  inspect models.redb \
why bounce --max-age 20\n  inspect models.redb export bounce --to bounce.rkyv    (b3sum of the file is the model hash that `show` prints)"
)]
struct Args {
    /// The store's file
    store: PathBuf,
    /// Print one JSON value instead of tables
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The models, with their current versions
    List {
        /// Only models of this name
        #[arg(long)]
        name: Option<String>,
        /// Only models with this tag
        #[arg(long, value_name = "TAG=VALUE")]
        tag: Vec<String>,
        /// Only models that were last updated longer ago than this
        #[arg(long, value_name = "HOURS")]
        older_than: Option<u64>,
        /// Only models that were last updated at most this long ago
        #[arg(long, value_name = "HOURS")]
        younger_than: Option<u64>,
        /// Only models that come after this one, by name and config hash
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
        /// At most so many models
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Everything that is known of a model's current version, or of another one
    Show {
        key: String,
        #[arg(long)]
        version: Option<Version>,
    },
    /// The versions of a model
    Versions { key: String },
    /// The training data that is stored for a model, symbol by symbol
    Training { key: String },
    /// The index series, their days and their gaps
    Levels,
    /// The series of bars
    Bars,
    /// What is known of each day of a series: present, empty, failed, missing
    Coverage {
        symbol: String,
        #[arg(long, default_value = "1d")]
        timeframe: Timeframe,
    },
    /// The sessions without bars, though the calendar expects some
    Gaps { symbol: Option<String> },
    /// What takes up the file's space
    Stats,
    /// Check every sealed value; one line for each that is damaged
    Verify,
    /// Write a model's archive to a file that does not exist yet
    Export {
        key: String,
        #[arg(long)]
        to: PathBuf,
        #[arg(long)]
        version: Option<Version>,
    },
    /// Whether a model would be used as it is, why not, and which stored models are nearest to it. Without --max-age and
    /// --made-since any age will do
    Why {
        key: String,
        /// A configuration in JSON, of a model that need not be stored: KEY is its name then
        #[arg(long, value_name = "JSON")]
        config: Option<String>,
        /// At most this old
        #[arg(long, value_name = "HOURS")]
        max_age: Option<u32>,
        /// Made at this time or later, in UTC: 2018-12-24T14:30:00Z
        #[arg(long, value_name = "TIME")]
        made_since: Option<Timestamp>,
    },
    /// What was decided about models, when, and why: the newest last
    Decisions {
        /// Only those about the models whose keys begin with this; they need not be stored
        key: Option<String>,
        /// At most so many, the newest
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// The fields in which two versions of a model differ
    Diff { key: String, left: Version, right: Version },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(status) => status,
        Err(err) => {
            eprintln!("inspect: {err}");
            let mut cause = err.source();
            while let Some(err) = cause {
                eprintln!("  because: {err}");
                cause = err.source();
            }
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let store = Store::options().read_only(true).open(&args.store)?;
    let show = show::Show { store: &store, json: args.json };
    match &args.command {
        Command::List { name, tag, older_than, younger_than, after, limit } => {
            let filter = filter(name.as_deref(), tag, *older_than, *younger_than)?;
            show.list(page(&store, filter, after.as_deref(), *limit)?)?;
        }
        Command::Show { key, version } => {
            let (key, version) = resolve(&store, key, *version)?;
            show.metadata(&key, version)?;
        }
        Command::Versions { key } => show.versions(&store.find_key(key)?)?,
        Command::Training { key } => show.training(&store.find_key(key)?)?,
        Command::Levels => show.levels()?,
        Command::Bars => market::bars(&store, args.json)?,
        Command::Coverage { symbol, timeframe } => market::coverage(&store, symbol, *timeframe, args.json)?,
        Command::Gaps { symbol } => market::gaps(&store, symbol.as_deref(), args.json)?,
        Command::Stats => show.stats()?,
        Command::Verify => {
            if !show.verify()? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Export { key, to, version } => {
            let (key, version) = resolve(&store, key, *version)?;
            show.export(&key, version, to)?;
        }
        Command::Why { key, config, max_age, made_since } => {
            let key = match config {
                Some(config) => ModelKey::new(key, &serde_json::from_str::<serde_json::Value>(config)?)?,
                None => store.find_key(key)?,
            };
            let max_age = max_age.map(|hours| Duration::from_secs(u64::from(hours) * 3600));
            let freshness = Freshness { max_age, made_since: *made_since, ..Freshness::any_age() };
            show.why(&store.explain(&key, &freshness)?)?;
        }
        Command::Decisions { key, limit } => {
            show.decisions(key.as_deref().unwrap_or_default(), *limit)?;
        }
        Command::Diff { key, left, right } => show.diff(&store.find_key(key)?, *left, *right)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The key that is meant, and the version: the current one, when none is named.
fn resolve(
    store: &Store,
    key: &str,
    version: Option<Version>,
) -> Result<(ModelKey, Version), Box<dyn std::error::Error>> {
    let key = store.find_key(key)?;
    let current = || Ok::<_, modelkeep::Error>(store.metadata(&key)?.and_then(|metadata| metadata.version));
    let version = match version {
        Some(version) => version,
        None => current()?.ok_or_else(|| format!("{key} has no current version; name one with --version"))?,
    };
    Ok((key, version))
}

fn filter(
    name: Option<&str>,
    tags: &[String],
    older_than: Option<u64>,
    younger_than: Option<u64>,
) -> Result<Filter, Box<dyn std::error::Error>> {
    let hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3600));
    let mut filter = Filter::all();
    if let Some(name) = name {
        filter = filter.name(name)?;
    }
    for tag in tags {
        let (tag, value) = tag.split_once('=').ok_or_else(|| format!("--tag {tag}: expected TAG=VALUE"))?;
        filter = filter.tag(tag, value)?;
    }
    if let Some(age) = older_than {
        filter = filter.older_than(hours(age));
    }
    if let Some(age) = younger_than {
        filter = filter.younger_than(hours(age));
    }
    Ok(filter)
}

fn page(
    store: &Store,
    mut filter: Filter,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Filter, Box<dyn std::error::Error>> {
    if let Some(after) = after {
        filter = filter.after(&store.find_key(after)?);
    }
    Ok(match limit {
        Some(models) => filter.limit(models),
        None => filter,
    })
}
