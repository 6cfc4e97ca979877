//! Is everything in the file what was written, and does everything that is referred to exist?

use std::collections::BTreeSet;

use crate::{
    engine::{ArchiveTable, LAST_ARCHIVE, Reader, Snapshot, Table, sealed},
    models::{
        catalog::{artifacts, head, metadata},
        training,
    },
    store::Store,
    types::error::{Error, Result},
};

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Sealed values that were checked, byte by byte.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged, missing or misplaced.
    pub damage: Vec<Damage>,
    /// Archives that no row refers to: left when the row that named them was damaged. They only take up space.
    pub unreferenced: Vec<u64>,
}

/// One value that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The table.
    pub table: &'static str,
    /// The key, as text where it is text.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

impl Verification {
    /// Returns whether nothing is damaged.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }

    fn add(&mut self, table: &'static str, key: String, err: &Error) {
        self.damage.push(Damage { table, key, reason: err.message().to_owned() });
    }

    fn check(&mut self, table: &'static str, key: impl FnOnce() -> String, bytes: usize, result: Result<()>) {
        self.values += 1;
        self.bytes += bytes as u64;
        if let Err(err) = result {
            self.add(table, key(), &err);
        }
    }
}

impl Store {
    /// Checks every sealed value of the file in full, and that everything exists that is referred to.
    ///
    /// Reads the whole file. Damage is part of the result and not an error.
    ///
    /// ```
    /// # use modelkeep::Store;
    /// # let store = Store::in_memory()?;
    /// let found = store.verify()?;
    /// for damage in &found.damage {
    ///     println!("{} {}: {}", damage.table, damage.key, damage.reason);
    /// }
    /// assert!(found.is_whole());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read at all.
    pub fn verify(&self) -> Result<Verification> {
        self.look(check)
    }
}

/// Checks everything that one state of the store has.
fn check(snapshot: &Snapshot) -> Result<Verification> {
    let mut found = Verification::default();
    let (mut present, mut referenced) = (BTreeSet::new(), BTreeSet::new());
    for table in ArchiveTable::ALL {
        snapshot.for_each_archive(table, |archive| match archive {
            Ok((id, value)) => {
                present.insert(id);
                let checked = sealed::check_blob(table, id, value);
                found.check(table.name(), || ArchiveTable::number(id).to_string(), value.len(), checked);
            }
            Err(err) => found.add(table.name(), "(a page)".into(), &err),
        });
    }
    for table in Table::ALL {
        for row in snapshot.scan(table, b"") {
            match row {
                Err(err) => found.add(table.name(), "(a page)".into(), &err),
                Ok((key, value)) => {
                    let checked = sealed::check_row(table, &key, &value);
                    found.check(table.name(), || table.describe(&key), key.len() + value.len(), checked);
                    check_references(snapshot, table, &key, &value, &present, &mut referenced, &mut found);
                }
            }
        }
    }
    // Nothing refers to the row that ends its table.
    referenced.insert(LAST_ARCHIVE);
    found.unreferenced = present.difference(&referenced).copied().collect();
    // A state that was given up is no damage: then the next one is looked at.
    snapshot.check_in_force()?;
    Ok(found)
}

/// Checks that what a readable row refers to is there.
fn check_references(
    reader: &impl Reader,
    table: Table,
    key: &[u8],
    value: &[u8],
    present: &BTreeSet<u64>,
    referenced: &mut BTreeSet<u64>,
    found: &mut Verification,
) {
    let id = match table {
        Table::Metadata => metadata::reference(key, value),
        Table::Artifacts => artifacts::reference(key, value),
        Table::Training => training::stored::reference(key, value),
        Table::Heads => {
            // Damage to either row is found where the row is; here it is about one without the other.
            if let Ok((model, head)) = head::from_row(key, value)
                && let Some(version) = head.current
                && let Ok(None) = metadata::read(reader, &model, version)
            {
                found.add(table.name(), table.describe(key), &metadata::absent(&model, version));
            }
            None
        }
        #[cfg(feature = "market")]
        Table::BarFacts => {
            // A row that cannot be opened is found by its seal.
            if sealed::check_row(table, key, value).is_ok()
                && let Err(err) = crate::market::bars::facts::update::check(reader, key, value)
            {
                found.add(table.name(), table.describe(key), &err);
            }
            None
        }
        _ => None,
    };
    if let Some(id) = id {
        referenced.insert(id);
        if !present.contains(&id) {
            found.add(table.name(), table.describe(key), &sealed::missing(id));
        }
    }
}
