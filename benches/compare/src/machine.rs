//! What a figure is worth nothing without: the machine, the kernel, the compiler, and the versions of the peers.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

/// The lock file that this program was built with.
const LOCK: &str = include_str!("../../../Cargo.lock");

const CRATES: [&str; 16] = [
    "arc-swap",
    "blake3",
    "dashmap",
    "fjall",
    "heed",
    "lmdb-master-sys",
    "memmap2",
    "modelkeep",
    "moka",
    "papaya",
    "parquet",
    "pco",
    "quick_cache",
    "redb",
    "rkyv",
    "zstd",
];

/// Facts about the machine; `folder` is where the files of the measurement are.
pub fn facts(folder: &Path) -> Value {
    json!({
        "cpu": cpu(),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory_kb": first_number("/proc/meminfo", "MemTotal:"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "rustc": env!("COMPARE_RUSTC"),
        "file_system": file_system(folder),
        "crates": crates(),
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn cpu() -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

fn first_number(path: &str, label: &str) -> Option<u64> {
    read(path).lines().find_map(|line| line.strip_prefix(label)?.split_whitespace().next()?.parse().ok())
}

/// The type of the file system that is mounted closest above `folder`.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = read("/proc/mounts");
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let above = mounted.filter(|(at, _)| folder.starts_with(at));
    above.max_by_key(|(at, _)| at.components().count()).map(|(_, kind)| kind.to_owned())
}

/// The highest locked version of each crate, which is the one that this package asks for.
fn crates() -> Map<String, Value> {
    let locked = |name: &str| {
        let versions = LOCK.split("[[package]]").filter_map(|package| {
            let field = |field: &str| package.lines().find_map(|line| line.strip_prefix(field)?.strip_suffix('"'));
            (field("name = \"")? == name).then(|| field("version = \""))?
        });
        versions.max_by_key(|version| version.split('.').map(|n| n.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>())
    };
    CRATES.iter().filter_map(|name| Some(((*name).to_owned(), locked(name)?.into()))).collect()
}
