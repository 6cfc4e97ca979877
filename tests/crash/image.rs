//! States that a power cut could have left.
//!
//! A disk promises that what was written before a sync is there once the sync has returned. Of what was written later
//! any part may be there: here by sectors of 512 bytes, in any choice, with the length from before or from after. Names
//! are there once their folder was synced; of later ones, the first so many.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::disk::Event;

const SECTOR: usize = 512;

/// What is on the disk for sure, and what may be.
#[derive(Clone, Default)]
pub struct State {
    files: HashMap<usize, Inode>,
    names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<Event>,
    pub acknowledged: u64,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    pending: Vec<Event>,
}

/// How much of what was not synced is there.
#[derive(Clone, Copy, Debug)]
pub enum Survives {
    Nothing,
    Everything,
    /// A sector in so many, by chance.
    Sectors(f64),
}

impl Inode {
    fn apply(&mut self, event: &Event, survives: Survives, chance: &mut StdRng) {
        let mut draw = || match survives {
            Survives::Nothing => false,
            Survives::Everything => true,
            Survives::Sectors(share) => chance.gen_bool(share),
        };
        match event {
            Event::SetLen { bytes, .. } if draw() => {
                self.bytes.resize(*bytes as usize, 0);
            }
            Event::Write { offset, data, .. } => {
                let mut at = *offset as usize;
                let mut rest = data.as_slice();
                while !rest.is_empty() {
                    let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                    // The length is set before anything is written there, and is one value in the file system's
                    // journal: what lies behind one that was lost is lost, too.
                    if draw() && at + sector.len() <= self.bytes.len() {
                        self.bytes[at..at + sector.len()].copy_from_slice(sector);
                    }
                    at += sector.len();
                    rest = after;
                }
            }
            _ => {}
        }
    }

    fn settle(&mut self, survives: Survives, chance: &mut StdRng) {
        for event in std::mem::take(&mut self.pending) {
            self.apply(&event, survives, chance);
        }
    }
}

impl State {
    /// Goes on by one event.
    pub fn step(&mut self, event: &Event) {
        match event {
            Event::Write { inode, .. } | Event::SetLen { inode, .. } => {
                self.files.entry(*inode).or_default().pending.push(event.clone());
            }
            Event::Sync { inode } => {
                let mut sure = StdRng::seed_from_u64(0);
                self.files.entry(*inode).or_default().settle(Survives::Everything, &mut sure);
            }
            // What of the data is on the disk is drawn now, once and for all: the kernel does not try again. The length
            // is no data: it is in the file system's journal, and stays to be written.
            Event::FailedSync { inode } => {
                let file = self.files.entry(*inode).or_default();
                let mut chance = StdRng::seed_from_u64(file.pending.len() as u64);
                let (lengths, data): (Vec<_>, Vec<_>) = std::mem::take(&mut file.pending)
                    .into_iter()
                    .partition(|event| matches!(event, Event::SetLen { .. }));
                lengths.iter().for_each(|event| file.apply(event, Survives::Everything, &mut chance));
                data.iter().for_each(|event| file.apply(event, Survives::Sectors(0.5), &mut chance));
            }
            Event::Name { .. } | Event::Remove { .. } => self.pending_names.push(event.clone()),
            Event::SyncFolder => {
                for event in std::mem::take(&mut self.pending_names) {
                    self.name(&event);
                }
            }
            Event::Acknowledged { step } => self.acknowledged = *step,
        }
    }

    fn name(&mut self, event: &Event) {
        match event {
            Event::Name { path, inode } => {
                // A renamed file has lost its name from before.
                self.names.retain(|_, named| named != inode);
                self.names.insert(path.clone(), *inode);
            }
            Event::Remove { path } => drop(self.names.remove(path)),
            _ => {}
        }
    }

    /// Writes what a cut leaves to `folder`; returns where the store's file is, if there is one.
    pub fn cut(&self, survives: Survives, seed: u64, folder: &Path) -> Option<PathBuf> {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut left = self.clone();
        let names = match survives {
            Survives::Nothing => 0,
            Survives::Everything => left.pending_names.len(),
            Survives::Sectors(_) => chance.gen_range(0..=left.pending_names.len()),
        };
        for event in std::mem::take(&mut left.pending_names).iter().take(names) {
            left.name(event);
        }
        let mut found = None;
        for (path, inode) in &left.names {
            let mut file = left.files.get(inode).cloned().unwrap_or_default();
            file.settle(survives, &mut chance);
            let name = path.file_name().unwrap();
            fs::write(folder.join(name), &file.bytes).unwrap();
            if name == "models.redb" {
                found = Some(folder.join(name));
            }
        }
        found
    }
}
