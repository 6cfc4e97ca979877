//! The child process of a cold measurement: opens one file in one way, predicts once, reads every byte, and says how
//! long both took.
//!
//! Each variant does the same work up to its first prediction: open, find the value, check rkyv's structure, predict.
//! Nothing large is allocated before the clock starts.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use modelkeep::{Digest, Verify};

use crate::{
    folder, model,
    peers::{KEY, fjall::Fjall, heed::Heed, mapped, ours, redb},
};

/// One way to load a model from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Variant {
    /// read-only, structure checked
    OursStructure,
    /// read-only, every byte verified
    OursFull,
    /// read-only, every byte verified on another thread
    OursBackground,
    /// opened for writing, structure checked
    OursRwStructure,
    /// a superseded, compressed version, every byte verified
    OursZstd,
    /// a superseded, compressed version, structure checked
    OursZstdStructure,
    /// a plain file, mapped
    Mmap,
    /// a plain file, mapped and hashed
    MmapHash,
    /// a plain file, read
    FsRead,
    /// LMDB, read in its map
    Heed,
    /// redb's own buffer, copied into aligned memory
    RedbCopy,
    /// redb, one zstd frame of level 1
    RedbZstd,
    /// fjall, large values apart
    Fjall,
}

#[derive(clap::Args)]
pub struct Arguments {
    variant: Variant,
    /// The folder that `prepare` filled
    folder: PathBuf,
}

/// What a child found.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Nanoseconds from before the open to the first prediction.
    pub first_ns: u64,
    /// Nanoseconds from before the open until every byte was read.
    pub all_ns: u64,
    /// The prediction's bits: the same for every variant.
    pub prediction: u64,
    /// The sum of all bytes: the same for every variant.
    pub sum: u64,
}

/// Makes the files of every variant for a model of about `bytes` bytes.
pub fn prepare(folder: &Path, bytes: usize) -> Result<usize> {
    let archive = model::serialise(&model::mixed(bytes, 1))?;
    folder::write_durably(&folder.join("plain"), &archive)?;
    ours::create(&folder.join("ours.redb"), || model::mixed(bytes, 1), false)?;
    ours::create(&folder.join("ours_zstd.redb"), || model::mixed(bytes, 1), true)?;
    let db = redb::create(&folder.join("peer.redb"))?;
    redb::put(&db, redb::Phases::Two, [(KEY, &archive[..])])?;
    drop(db);
    let frame = zstd::bulk::compress(&archive, 1).context("zstd")?;
    let db = redb::create(&folder.join("peer_zstd.redb"))?;
    redb::put(&db, redb::Phases::Two, [(KEY, &frame[..])])?;
    drop(db);
    let heed = Heed::create(&folder::make(folder.join("heed"))?, archive.len() * 2 + (16 << 20))?;
    heed.put([(KEY.as_bytes(), &archive[..])])?;
    drop(heed);
    let fjall = Fjall::open(&folder.join("fjall"))?;
    fjall.put(KEY, &archive)?;
    fjall.flush()?;
    drop(fjall);
    folder::settle();
    Ok(archive.len())
}

/// Measures one variant and prints what [`parse`] reads.
pub fn run(arguments: &Arguments) -> Result<()> {
    let sample = sample(arguments.variant, &arguments.folder)?;
    println!("{} {} {} {}", sample.first_ns, sample.all_ns, sample.prediction, sample.sum);
    Ok(())
}

/// Reads what a child printed.
pub fn parse(line: &str) -> Result<Sample> {
    let fields: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match fields[..] {
        [first_ns, all_ns, prediction, sum] => Ok(Sample { first_ns, all_ns, prediction, sum }),
        _ => anyhow::bail!("a child printed {line:?}"),
    }
}

fn sample(variant: Variant, folder: &Path) -> Result<Sample> {
    match variant {
        Variant::OursStructure => our_current(&folder.join("ours.redb"), true, Verify::Structure),
        Variant::OursFull => our_current(&folder.join("ours.redb"), true, Verify::Full),
        Variant::OursBackground => our_current(&folder.join("ours.redb"), true, Verify::Background),
        Variant::OursRwStructure => our_current(&folder.join("ours.redb"), false, Verify::Structure),
        Variant::OursZstd => our_superseded(&folder.join("ours_zstd.redb"), Verify::Full),
        Variant::OursZstdStructure => our_superseded(&folder.join("ours_zstd.redb"), Verify::Structure),
        Variant::Mmap | Variant::MmapHash | Variant::FsRead => plain_file(variant, &folder.join("plain")),
        Variant::Heed => {
            let folder = folder.join("heed");
            let started = Instant::now();
            Heed::open_read_only(&folder)?.with(KEY.as_bytes(), |bytes| finish(started, &model::Aligned::of(bytes)))?
        }
        Variant::RedbCopy => {
            let path = folder.join("peer.redb");
            let started = Instant::now();
            redb::with(&path, KEY, |bytes| finish(started, &model::copy(bytes)))?
        }
        Variant::RedbZstd => {
            let path = folder.join("peer_zstd.redb");
            let started = Instant::now();
            redb::with(&path, KEY, |frame| {
                let length =
                    zstd::zstd_safe::get_frame_content_size(frame).ok().flatten().context("a frame of no length")?;
                let bytes = zstd::bulk::decompress(frame, usize::try_from(length)?).context("zstd")?;
                finish(started, &model::Aligned::of(&bytes))
            })?
        }
        Variant::Fjall => {
            let folder = folder.join("fjall");
            let started = Instant::now();
            Fjall::open(&folder)?.with(KEY, |bytes| finish(started, &model::Aligned::of(bytes)))?
        }
    }
}

fn our_current(path: &Path, read_only: bool, verify: Verify) -> Result<Sample> {
    let key = ours::only_key();
    let started = Instant::now();
    let store = ours::open(path, read_only, verify)?;
    let held = ours::get(&store, &key)?;
    let prediction = model::first_prediction(&held);
    Ok(read_all(started, prediction, held.archive_bytes()))
}

fn our_superseded(path: &Path, verify: Verify) -> Result<Sample> {
    let key = ours::only_key();
    let started = Instant::now();
    let store = ours::open(path, true, verify)?;
    let held = ours::get_version(&store, &key, 1)?;
    let prediction = model::first_prediction(&held);
    Ok(read_all(started, prediction, held.archive_bytes()))
}

fn plain_file(variant: Variant, path: &Path) -> Result<Sample> {
    let started = Instant::now();
    if variant == Variant::FsRead {
        return finish(started, &model::Aligned::of(&std::fs::read(path)?));
    }
    let map = mapped::open(path)?;
    if variant == Variant::MmapHash {
        std::hint::black_box(Digest::of(&map));
    }
    finish(started, &map)
}

/// Checks the structure, predicts, and reads the rest.
fn finish(started: Instant, bytes: &[u8]) -> Result<Sample> {
    let prediction = model::first_prediction(model::access(bytes)?);
    Ok(read_all(started, prediction, bytes))
}

fn read_all(started: Instant, prediction: f64, bytes: &[u8]) -> Sample {
    let prediction = std::hint::black_box(prediction);
    let first = started.elapsed();
    let sum = std::hint::black_box(model::sum(bytes));
    let all = started.elapsed();
    let nanos = |duration: std::time::Duration| duration.as_nanos() as u64;
    Sample { first_ns: nanos(first), all_ns: nanos(all), prediction: prediction.to_bits(), sum }
}
