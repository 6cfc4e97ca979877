//! Attacks on the walk: every file that redb writes is read as redb reads it, and no file whatever makes it panic, loop
//! or read outside.

use std::{collections::BTreeMap, ops::Range, sync::OnceLock};

use proptest::prelude::*;
use redb::{Database, ReadableDatabase, TableDefinition};

use super::{HEADER_BYTES, Header, Keys, LeafRows, Lookup, PageBytes, Source, Tables, Tree, Unreadable, check_system};
use crate::engine::tables::{ArchiveTable, Table};

/// Bytes in memory that are taken for a file. Counts what is read, so that a walk without an end is noticed.
pub(super) struct Bytes<'a> {
    bytes: &'a [u8],
    reads: std::cell::Cell<usize>,
    in_place: bool,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, reads: std::cell::Cell::new(0), in_place: true }
    }

    pub(super) fn reads(&self) -> usize {
        self.reads.get()
    }

    /// Pages are copied, the front of them first.
    fn copied(bytes: &'a [u8]) -> Self {
        Self { in_place: false, ..Self::new(bytes) }
    }
}

impl Source for Bytes<'_> {
    fn is_in_place(&self) -> bool {
        self.in_place
    }

    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn will_read(&self, _: &Range<u64>) {}

    fn get(&self, range: Range<u64>) -> Result<PageBytes<'_>, Unreadable> {
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() < 1_000_000, "the walk does not end");
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let bytes = self.bytes.get(range).ok_or(Unreadable::Missing)?;
        Ok(if self.in_place { PageBytes::InPlace(bytes) } else { PageBytes::Copied(bytes.into()) })
    }
}

fn tables(source: &Bytes<'_>) -> Option<Tables> {
    let header = Header::parse(source.bytes.get(..HEADER_BYTES)?).ok()?;
    Tables::read(source, header.geometry, header.tables).ok()
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(tree: &Tree, source: &Bytes<'_>, from: &[u8]) -> Result<Pairs, Unreadable> {
    let mut cursor = tree.cursor(from);
    let mut found = Vec::new();
    while let Some(leaf) = cursor.next_leaf(source)? {
        let mut rows = LeafRows::open(tree, source, leaf, found.is_empty().then_some(from))?;
        while let Some((key, value)) = rows.next(source)? {
            found.push((key.to_vec(), value.to_vec()));
        }
        cursor.bounds(source)?;
    }
    Ok(found)
}

/// The value under `key`.
fn get(tree: &Tree, source: &Bytes<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
    match tree.find(source, key)? {
        Lookup::Found(found) => Ok(Some(found.bytes(source)?.to_vec())),
        Lookup::Absent(_) => Ok(None),
    }
}

/// Does all that the engine does with a file, and takes no notice of what is found.
fn walk(bytes: &[u8]) {
    for source in [Bytes::new(bytes), Bytes::copied(bytes)] {
        if let Ok(header) = Header::parse(bytes.get(..HEADER_BYTES).unwrap_or_default()) {
            drop(check_system(&source, header.geometry, header.system));
        }
        let Some(tables) = tables(&source) else { continue };
        for table in Table::ALL {
            let Some(tree) = tables.small(table) else { continue };
            for from in [&b""[..], b"bounce", &[0xff; 40]] {
                drop(get(tree, &source, from));
                drop(pairs(tree, &source, from));
            }
            drop(tree.check_all(&source));
        }
        if let Some(tree) = tables.archives(ArchiveTable::Large) {
            (0..70u64).for_each(|id| drop(get(tree, &source, &id.to_le_bytes())));
            drop(pairs(tree, &source, &[0; 8]));
            drop(tree.leaves_left(&source, &Tree { root: None, ..*tree }, &source));
        }
    }
}

/// A file with small rows, large values, branches, and pages that were freed.
fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.redb");
        let db = Database::create(&path).unwrap();
        let write = |rows: Range<u32>, ids: Range<u64>| {
            let mut transaction = db.begin_write().unwrap();
            transaction.set_two_phase_commit(true);
            {
                let mut table = transaction.open_table(Table::Metadata.definition()).unwrap();
                for row in rows {
                    let key = format!("model-{row:05}");
                    table.insert(key.as_bytes(), vec![row as u8; 200 + row as usize % 700].as_slice()).unwrap();
                }
                let mut archives = transaction.open_table(ArchiveTable::Large.definition()).unwrap();
                for id in ids {
                    // Some of them small, so that they share a page with their neighbours.
                    let rest = if id % 8 < 5 { id as usize * 9 } else { (id as usize * 7919) % 30_000 };
                    let value = vec![id as u8; 100 + rest];
                    archives.insert(id, value.as_slice()).unwrap();
                }
            }
            transaction.commit().unwrap();
        };
        write(0..400, 0..30);
        write(200..600, 20..60);
        drop(db);
        std::fs::read(&path).unwrap()
    })
}

/// As in files of the first format, where small values and large ones were in one table.
#[test]
fn a_value_with_a_neighbour_in_its_page_is_not_alone() {
    let source = Bytes::new(file());
    let tree = *tables(&source).unwrap().archives(ArchiveTable::Large).unwrap();
    let mut cursor = tree.cursor(&[]);
    let (mut alone, mut others) = (0, 0);
    while let Some(leaf) = cursor.next_leaf(&source).unwrap() {
        let mut rows = LeafRows::open(&tree, &source, leaf, None).unwrap();
        let mut ids = Vec::new();
        while let Some((id, _)) = rows.next(&source).unwrap() {
            ids.push(id.to_vec());
        }
        for id in &ids {
            let Lookup::Found(found) = tree.find(&source, id).unwrap() else { panic!("{id:?} is there") };
            assert_eq!(found.is_alone, ids.len() == 1, "{id:?}");
        }
        *(if ids.len() == 1 { &mut alone } else { &mut others }) += 1;
    }
    assert!(alone > 10 && others > 3, "{alone} alone, {others} not");
}

#[test]
fn what_redb_wrote_is_read_as_redb_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.redb");
    std::fs::write(&path, file()).unwrap();
    let db = Database::open(&path).unwrap();
    let transaction = db.begin_read().unwrap();
    let table = transaction.open_table(Table::Metadata.definition()).unwrap();
    let rows = table.range::<&[u8]>(..).unwrap().map(|row| row.unwrap());
    let expected: Vec<_> = rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect();
    let table = transaction.open_table(ArchiveTable::Large.definition()).unwrap();
    let archives: BTreeMap<u64, Vec<u8>> = table
        .range::<u64>(..)
        .unwrap()
        .map(|row| row.map(|(id, value)| (id.value(), value.value().to_vec())).unwrap())
        .collect();
    assert_eq!((expected.len(), archives.len()), (600, 60));
    for source in [Bytes::new(file()), Bytes::copied(file())] {
        let tables = tables(&source).unwrap();
        let tree = tables.small(Table::Metadata).unwrap();
        assert_eq!(pairs(tree, &source, b"").unwrap(), expected);
        for at in [0, 1, 299, 598, 599] {
            assert_eq!(pairs(tree, &source, &expected[at].0).unwrap(), expected[at..]);
            let between = [expected[at].0.as_slice(), b"~"].concat();
            assert_eq!(pairs(tree, &source, &between).unwrap(), expected[at + 1..]);
            assert_eq!(get(tree, &source, &between).unwrap(), None);
        }
        for (key, value) in &expected {
            let Lookup::Found(found) = tree.find(&source, key).unwrap() else { panic!("a row is missing") };
            assert_eq!(&file()[found.range.start as usize..found.range.end as usize], value);
            assert!(tree.is_whole(&source, found.leaf).unwrap());
            assert_eq!(&*found.bytes(&source).unwrap(), value);
        }
        tree.check_all(&source).unwrap();
        let mut cursor = tree.cursor(b"");
        while let Some(leaf) = cursor.next_leaf(&source).unwrap() {
            let bounds = cursor.bounds(&source).unwrap();
            let mut rows = LeafRows::open(tree, &source, leaf, None).unwrap();
            while let Some((key, _)) = rows.next(&source).unwrap() {
                assert!(bounds.above.as_deref().is_none_or(|above| above < key));
                assert!(bounds.up_to.as_deref().is_none_or(|up_to| key <= up_to));
            }
        }

        let tree = tables.archives(ArchiveTable::Large).unwrap();
        for (id, value) in &archives {
            let Lookup::Found(found) = tree.find(&source, &id.to_le_bytes()).unwrap() else {
                panic!("{id} is missing")
            };
            assert_eq!(&file()[found.range.start as usize..found.range.end as usize], value);
            if found.is_alone && value.len() > 4096 {
                assert_eq!(found.range.start % 4096, 16, "a large value has a page of its own");
            }
        }
        assert_eq!(get(tree, &source, &60u64.to_le_bytes()).unwrap(), None);
        let header = Header::parse(&file()[..HEADER_BYTES]).unwrap();
        assert_eq!(header.file_bytes, file().len() as u64);
        check_system(&source, header.geometry, header.system).unwrap();
    }
}

#[test]
fn every_cut_and_every_flipped_byte_of_the_header_is_survived() {
    for len in 0..1024 {
        walk(&file()[..len]);
    }
    for at in 0..HEADER_BYTES {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = file().to_vec();
            bytes[at] ^= flip;
            walk(&bytes);
        }
    }
}

#[test]
fn a_damaged_branch_is_not_followed() {
    let trees = |bytes: &[u8]| -> Vec<_> {
        let source = Bytes::new(bytes);
        let Some(tables) = tables(&source) else {
            return vec![None];
        };
        let trees = [tables.small(Table::Metadata), tables.archives(ArchiveTable::Large)];
        trees.into_iter().flatten().map(|tree| pairs(tree, &source, &[0; 8]).ok()).collect()
    };
    let whole = trees(file());
    let mut refused = 0;
    // Pages of type 2, and not the inside of a value that is all twos.
    for page in (0..file().len() / 4096).filter(|page| file()[page * 4096] == 2 && file()[page * 4096 + 1] != 2) {
        let mut bytes = file().to_vec();
        // The first child's checksum, and with it what the parent knows of this page.
        bytes[page * 4096 + 8] ^= 1;
        let found = trees(&bytes);
        refused += usize::from(found.contains(&None));
        assert!(found.iter().zip(&whole).all(|(found, whole)| found.is_none() || found == whole));
    }
    assert!(refused >= 2, "each of the two trees has a branch at least; {refused}");
}

#[test]
fn a_table_of_another_kind_is_refused() {
    const FOREIGN: TableDefinition<'static, u64, u64> = TableDefinition::new("metadata");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.redb");
    let db = Database::create(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(FOREIGN).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    drop(db);
    let bytes = std::fs::read(&path).unwrap();
    assert!(tables(&Bytes::new(&bytes)).unwrap().is_foreign());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Real files with damage, wherever it falls. Checksums are put right where that is cheap, so that the walk goes on
    /// into the damage.
    #[test]
    fn damage_is_survived(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 1usize..9), 1..12)) {
        let mut bytes = file().to_vec();
        // Where there is something: the pages at the front, and those of the trees.
        let used: Vec<usize> = (0..bytes.len() / 4096).filter(|page| bytes[page * 4096..][..4096].iter().any(|&b| b != 0)).collect();
        for (at, value, len) in damage {
            let place = at.index(used.len() * 512);
            let start = used[place / 512] * 4096 + place % 512;
            let end = (start + len).min(bytes.len());
            bytes[start..end].copy_from_slice(&value.to_le_bytes()[..end - start]);
        }
        walk(&bytes);
    }

    #[test]
    fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..20_000), seal in any::<bool>()) {
        if seal && bytes.len() > HEADER_BYTES {
            // A header that passes, so that what follows is looked at.
            bytes[..64].copy_from_slice(&file()[..64]);
            bytes[9] &= 1;
            for slot in [64, 192] {
                bytes[slot] = 3;
                bytes[slot + 1] = 1;
                let sum = super::page::checksum(&bytes[slot..slot + 112]);
                bytes[slot + 112..slot + 128].copy_from_slice(&sum.to_le_bytes());
            }
        }
        walk(&bytes);
    }

    /// Branches that pass their checksums and lead anywhere: back up, to each other, out of the file.
    #[test]
    fn forged_trees_end(
        pages in prop::collection::vec((any::<bool>(), prop::collection::vec((0u64..6, 0u8..5), 1..6)), 1..5),
    ) {
        let bytes = forged(&pages);
        let source = Bytes::new(&bytes);
        if let Some(tables) = tables(&source) {
            for table in Table::ALL {
                if let Some(tree) = tables.small(table) {
                    drop(pairs(tree, &source, b""));
                    drop(get(tree, &source, &[2]));
                }
            }
        }
    }
}

/// Twenty branches, each with the one before as both of its children: a few pages, and a million ways through them.
#[test]
fn a_tree_whose_branches_share_their_children_ends() {
    let leaf = (false, vec![(0, 1)]);
    let branches = (0..20).map(|below| (true, vec![(below, 1), (below, 1)]));
    let bytes = forged(&std::iter::once(leaf).chain(branches).collect::<Vec<_>>());
    let source = Bytes::new(&bytes);
    let header = Header::parse(&bytes[..HEADER_BYTES]).unwrap();
    let tree =
        Tree { root: header.tables, keys: Keys::Bytes, values: None, geometry: header.geometry, check_leaves: false };
    let mut cursor = tree.cursor(&[]);
    let (mut leaves, mut ends) = (0, None);
    while ends.is_none() {
        match cursor.next_leaf(&source) {
            Ok(Some(_)) => leaves += 1,
            end => ends = Some(end.is_err()),
        }
    }
    assert_eq!(ends, Some(true), "it has more pages than its file");
    assert!((1..=source.bytes() / 4096).contains(&leaves), "{leaves}");
}

/// A file whose table tree, and whose tables, are made of these pages: branches with children among them, or leaves
/// with keys of one byte. Checksums are computed bottom up, so those of children that come later are wrong on purpose.
fn forged(pages: &[(bool, Vec<(u64, u8)>)]) -> Vec<u8> {
    let mut bytes = vec![0; 4096 * (pages.len() + 2)];
    bytes[..64].copy_from_slice(&file()[..64]);
    bytes[9] = 0;
    let header_pages = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
    let mut sums = vec![0u128; pages.len().max(6)];
    for (n, (branch, entries)) in pages.iter().enumerate() {
        let mut page = vec![0; 4];
        page[0] = if *branch { 2 } else { 1 };
        page[2] = if *branch { entries.len().saturating_sub(1).max(1) as u8 } else { entries.len() as u8 };
        let keys: Vec<u8> = entries.iter().map(|(_, key)| *key).collect();
        if *branch {
            let children = usize::from(page[2]) + 1;
            page.extend([0; 4]);
            let child = |i: usize| entries[i % entries.len()].0;
            (0..children).for_each(|i| page.extend(sums[child(i) as usize].to_le_bytes()));
            (0..children).for_each(|i| page.extend(child(i).to_le_bytes()));
            let start = page.len() + 4 * (children - 1);
            (1..children).for_each(|i| page.extend(((start + i) as u32).to_le_bytes()));
            page.extend(&keys[..(children - 1).min(keys.len())]);
            page.resize(start + children - 1, 0);
        } else {
            let start = 4 + 8 * entries.len();
            (1..=entries.len()).for_each(|i| page.extend(((start + i) as u32).to_le_bytes()));
            (1..=entries.len()).for_each(|i| page.extend(((start + entries.len() + i) as u32).to_le_bytes()));
            page.extend(&keys);
            page.extend(&keys);
        }
        sums[n] = super::page::checksum(&page);
        let at = 4096 * (1 + header_pages as usize + n);
        if at + page.len() <= bytes.len() {
            bytes[at..at + page.len()].copy_from_slice(&page);
        }
    }
    let slot = 64;
    bytes[slot..slot + 8].copy_from_slice(&[3, 1, 0, 0, 0, 0, 0, 0]);
    let root = pages.len() as u64 - 1;
    bytes[slot + 8..slot + 16].copy_from_slice(&root.to_le_bytes());
    bytes[slot + 16..slot + 32].copy_from_slice(&sums[root as usize].to_le_bytes());
    let sum = super::page::checksum(&bytes[slot..slot + 112]);
    bytes[slot + 112..slot + 128].copy_from_slice(&sum.to_le_bytes());
    bytes
}
