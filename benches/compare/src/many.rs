//! The files of many models, one kind of file for each peer, and what is done with one model once its bytes are found.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use modelkeep::{Digest, ModelKey, NewModel, Store};

use crate::{
    folder,
    model::{self, Mixed, mixed, numbered_key},
    peers::heed::Heed,
};

/// Models of one transaction of each peer, so that a gigabyte of them need not be in memory at once.
const BATCH: usize = 500;

/// Where the files are, and what is in them.
pub struct Files {
    pub folder: PathBuf,
    pub models: usize,
}

impl Files {
    pub fn ours(&self) -> PathBuf {
        self.folder.join("ours.redb")
    }

    pub fn heed(&self) -> PathBuf {
        self.folder.join("heed")
    }

    /// The file of one model, of the folder of files.
    pub fn one(&self, index: usize) -> PathBuf {
        self.folder.join("files").join(format!("{index}.rkyv"))
    }

    /// Makes a store, an LMDB environment and, if they are wanted, a folder of files, of the same archives.
    pub fn prepare(folder: &Path, models: usize, bytes: usize, with_files: bool) -> Result<Self> {
        let files = Self { folder: folder.to_owned(), models };
        let store = Store::options().hot_bytes(0).open(files.ours())?;
        let heed = Heed::create(&folder::make(files.heed())?, models * (bytes + 16_384) * 2 + (64 << 20))?;
        folder::make(folder.join("files"))?;
        for from in (0..models).step_by(BATCH) {
            let some = from..(from + BATCH).min(models);
            let made: Vec<Mixed> = some.clone().map(|index| mixed(bytes, index as u64)).collect();
            let archives = made.iter().map(model::serialise).collect::<Result<Vec<_>>>()?;
            let keys = some.clone().map(key_bytes).collect::<Result<Vec<_>>>()?;
            heed.put(keys.iter().map(Vec::as_slice).zip(archives.iter().map(|archive| &archive[..])))?;
            if with_files {
                for (index, archive) in some.clone().zip(&archives) {
                    std::fs::write(files.one(index), archive).context("a file of the folder cannot be written")?;
                }
            }
            let trained = some.clone().zip(made).map(|(index, model)| Ok((numbered_key(index)?, NewModel::new(model))));
            store.publish_many(trained.collect::<Result<Vec<_>>>()?)?;
            eprintln!("prepared {} of {models}", some.end);
        }
        drop((store, heed));
        folder::settle();
        Ok(files)
    }
}

/// The key of a model where keys are bytes: as many as our store has in its own rows.
pub fn key_bytes(index: usize) -> Result<Vec<u8>> {
    let key = numbered_key(index)?;
    Ok([key.name().as_str().as_bytes(), &[0], key.config_hash().as_bytes().as_slice()].concat())
}

/// The keys of all models.
pub fn keys(models: usize) -> Result<Vec<ModelKey>> {
    (0..models).map(numbered_key).collect()
}

/// The hash of each model's archive, as a user of plain bytes keeps it beside them.
pub fn hashes(files: &Files) -> Result<Vec<Digest>> {
    let store = Store::options().create(false).read_only(true).open(files.ours())?;
    let hash = |key: &ModelKey| Ok(store.metadata(key)?.context("every model was published")?.model_hash);
    keys(files.models)?.iter().map(hash).collect()
}

/// Compares the hash and checks the structure: what our store does under `Verify::Full`.
pub fn verify<'a>(bytes: &'a [u8], expected: &Digest) -> Result<&'a model::ArchivedMixed> {
    ensure!(Digest::of(bytes) == *expected, "an archive is damaged");
    model::access(bytes)
}
