//! Space: what does the file system allocate for a model, after one publish, after many over it, and compacted?

use std::path::{Path, PathBuf};

use anyhow::Result;
use modelkeep::{NewModel, Store};

use crate::{
    folder::{self, allocated},
    model::{self, MB},
    peers::{KEY, fjall::Fjall, heed::Heed, ours, redb},
    report::{Report, Wanted::AtMost, human_bytes},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Megabytes of the archive that is published once
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1500))]
    mb: u32,
    /// Megabytes of the archive that is published again and again
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1500))]
    overwrite_mb: u32,
    /// How often
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    overwrites: u32,
    /// Where the files are to be
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// What one engine takes.
struct Taken {
    one: u64,
    overwritten: u64,
    compacted: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder::temporary(arguments.dir.as_deref())?;
    let one = arguments.mb as usize * MB;
    let many = arguments.overwrite_mb as usize * MB;
    let payload = model::serialise(&model::mixed(one, 1))?.len() as u64;
    let live = model::serialise(&model::mixed(many, 1))?.len() as u64;
    let header = ["allocated", "one publish", "per payload", "overwritten", "per live", "compacted", "per live"];
    let mut report = Report::new("space", folder.path(), &header);
    for (key, value) in [
        ("payload_bytes", payload),
        ("overwrite_live", live),
        ("overwrite_mb", arguments.overwrite_mb.into()),
        ("overwrites", arguments.overwrites.into()),
    ] {
        report.set(key, value);
    }
    println!(
        "one publish of {}; {} publishes of {} over each other",
        human_bytes(payload),
        arguments.overwrites,
        human_bytes(live)
    );
    let per = |bytes: u64, of: u64| format!("{:.3}", bytes as f64 / of as f64);
    for (name, measure) in ENGINES {
        eprintln!("measuring {name}");
        let taken = measure(&folder::make(folder.path().join(name))?, one, many, arguments.overwrites)?;
        let prefix = if *name == "ours" { String::new() } else { format!("{name}_") };
        report.set(format!("{prefix}allocated_one"), taken.one);
        report.set(format!("{prefix}overwrite_allocated"), taken.overwritten);
        let mut row = vec![(*name).to_owned(), human_bytes(taken.one), per(taken.one, payload)];
        row.extend([human_bytes(taken.overwritten), per(taken.overwritten, live)]);
        match taken.compacted {
            Some(compacted) => {
                report.set(format!("{prefix}compacted_allocated"), compacted);
                row.extend([human_bytes(compacted), per(compacted, live)]);
            }
            None => row.extend(["-".into(), "-".into()]),
        }
        report.row(row);
    }
    report.ratio("ratio_one_payload", "allocated_one", "payload_bytes", AtMost(1.02));
    report.ratio("ratio_overwrite_live", "overwrite_allocated", "overwrite_live", AtMost(2.2));
    report.ratio("ratio_compacted_live", "compacted_allocated", "overwrite_live", AtMost(1.05));
    report.print(arguments.json);
    Ok(())
}

/// Makes files in a folder: one archive of so many bytes, and another one written so often.
type Measure = fn(&Path, usize, usize, u32) -> Result<Taken>;

const ENGINES: &[(&str, Measure)] = &[("ours", ours), ("heed", heed), ("redb", redb), ("fjall", fjall)];

fn archive(bytes: usize, seed: u32) -> Result<rkyv::util::AlignedVec> {
    model::serialise(&model::mixed(bytes, seed.into()))
}

fn ours(folder: &Path, one: usize, many: usize, times: u32) -> Result<Taken> {
    let publish = |path: &Path, bytes: usize, times: u32| -> Result<u64> {
        let store = Store::options().retention(1).compress_superseded(false).open(path)?;
        for seed in 0..times {
            store.publish(&ours::only_key(), NewModel::new(model::mixed(bytes, seed.into())))?;
        }
        drop(store);
        allocated(path)
    };
    let path = folder.join("overwritten.redb");
    let one = publish(&folder.join("one.redb"), one, 1)?;
    let overwritten = publish(&path, many, times)?;
    let store = Store::open(&path)?;
    store.compact()?;
    drop(store);
    Ok(Taken { one, overwritten, compacted: Some(allocated(&path)?) })
}

fn heed(folder: &Path, one: usize, many: usize, times: u32) -> Result<Taken> {
    let put = |path: PathBuf, bytes: usize, times: u32| -> Result<u64> {
        let heed = Heed::create(&folder::make(path.clone())?, bytes * 8 + (256 << 20))?;
        for seed in 0..times {
            heed.put([(KEY.as_bytes(), &archive(bytes, seed)?[..])])?;
        }
        drop(heed);
        allocated(&path)
    };
    let one = put(folder.join("one"), one, 1)?;
    Ok(Taken { one, overwritten: put(folder.join("overwritten"), many, times)?, compacted: None })
}

fn redb(folder: &Path, one: usize, many: usize, times: u32) -> Result<Taken> {
    let put = |path: &Path, bytes: usize, times: u32| -> Result<u64> {
        let db = redb::create(path)?;
        for seed in 0..times {
            redb::put(&db, redb::Phases::One, [(KEY, &archive(bytes, seed)?[..])])?;
        }
        drop(db);
        allocated(path)
    };
    let path = folder.join("overwritten.redb");
    let one = put(&folder.join("one.redb"), one, 1)?;
    let overwritten = put(&path, many, times)?;
    let mut db = redb::open(&path)?;
    db.compact()?;
    drop(db);
    Ok(Taken { one, overwritten, compacted: Some(allocated(&path)?) })
}

fn fjall(folder: &Path, one: usize, many: usize, times: u32) -> Result<Taken> {
    let put = |path: PathBuf, bytes: usize, times: u32| -> Result<u64> {
        let fjall = Fjall::open(&path)?;
        for seed in 0..times {
            fjall.put(KEY, &archive(bytes, seed)?)?;
        }
        fjall.flush()?;
        drop(fjall);
        allocated(&path)
    };
    let one = put(folder.join("one"), one, 1)?;
    Ok(Taken { one, overwritten: put(folder.join("overwritten"), many, times)?, compacted: None })
}
