//! The tables of the file.

use redb::TableDefinition;

use crate::{
    format::envelope::Place,
    types::{
        error::{Error, Result},
        hash::hex,
        key::row::{self, Field},
    },
};

/// The definition of a table with byte keys.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A table of values under 8-byte keys: models, artifacts, training columns.
///
/// redb puts every value that is larger than a page into a page of its own, at a constant offset if all keys have the
/// same width, which is what makes it possible to read one in place. A small value can come to lie beside a large one,
/// in the same page, and move it when it is removed. So small and large values have tables of their own, and ids say
/// which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveTable {
    /// Values of a page or more, each alone in its pages.
    Large,
    /// Smaller ones.
    Small,
}

/// The definition of a table of archives.
pub(super) type ArchiveDefinition = TableDefinition<'static, u64, &'static [u8]>;

/// The bit of an id that says that its value is small.
const SMALL: u64 = 1 << 63;

/// The id of the row that ends the table of large archives: above all that are ever given out.
///
/// To insert an archive redb reads the page beside it: that of the last one, as long as the last one is. Before this
/// row, which fills one page, it reads no more than this.
pub(crate) const LAST_ARCHIVE: u64 = SMALL - 1;

/// The numbers that ids are made of end here: what lies above was never given out, and is damage, or the row above.
pub(crate) const ARCHIVE_NUMBERS_END: u64 = 1 << 48;

/// Bytes from which a value is large: redb shares no leaf between two pairs that do not fit a page together.
pub(crate) const LARGE_BYTES_MIN: usize = 4096;

impl ArchiveTable {
    /// Both of them.
    pub(crate) const ALL: [Self; 2] = [Self::Large, Self::Small];

    /// The table's name in the file, which is also part of the seal of every value in it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Large => "archives",
            Self::Small => "small_archives",
        }
    }

    /// Where the archive under `id` is, as eight bytes.
    pub(crate) fn place(self, id: &[u8]) -> Place<'_> {
        Place { table: self.name(), key: id, fields: &[Field::Archive] }
    }

    pub(super) fn definition(self) -> ArchiveDefinition {
        TableDefinition::new(self.name())
    }

    /// The table for a value of so many bytes.
    pub(super) fn for_bytes(bytes: u64) -> Self {
        if bytes < LARGE_BYTES_MIN as u64 { Self::Small } else { Self::Large }
    }

    /// The table that the value under an id is in.
    pub(crate) fn of(id: u64) -> Self {
        if id & SMALL == 0 { Self::Large } else { Self::Small }
    }

    /// The id that a number drawn from the counter makes.
    pub(super) fn id(self, number: u64) -> u64 {
        match self {
            Self::Large => number,
            Self::Small => number | SMALL,
        }
    }

    /// The number that an id was made of.
    pub(crate) fn number(id: u64) -> u64 {
        id & !SMALL
    }
}

/// The id that is the key of an archive's row.
pub(super) fn archive_id(key: &[u8]) -> Result<u64> {
    match key.try_into() {
        Ok(id) => Ok(u64::from_le_bytes(id)),
        Err(_) => Err(Error::corrupt("read archives", hex(key), "the id of an archive has eight bytes")),
    }
}

/// A table with byte keys and sealed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// What this store is: one stamp that every release can read, identity, counters.
    Store,
    /// Model key -> current version, previous version, pins. The only rows that move.
    Heads,
    /// Model key, version -> metadata. Written once.
    Metadata,
    /// Model key, symbol -> which archive holds the symbol's samples.
    Training,
    /// Model key, version, name -> which archive holds the artifact.
    Artifacts,
    /// Model key -> what is left to be done of superseded versions.
    Superseded,
    /// Number -> a decision about a model, and why it was taken.
    Decisions,
    /// Model key, name -> the version that the alias leads to, and where it led before.
    Aliases,
    /// Series, year -> daily levels.
    Levels,
    /// Model key, version -> why the version is not served.
    Quarantine,
    /// Series of bars, period -> the bars of the period, in columns.
    Bars,
    /// Series of bars, period -> bars that were superseded or deleted, and when.
    BarHistory,
    /// Series of bars -> how many, from when to when, and which rows changed when.
    BarFacts,
    /// Series of bars or of levels -> what is known of which stretch of time.
    Coverage,
    /// Series of aggregated bars -> which bars they were made of.
    Aggregates,
    /// Name, version -> a calendar that judged what is stored.
    Calendars,
    /// Symbol, fingerprint, period -> computed columns, and what they were computed from.
    Features,
    /// Table, keys -> rows between them may have been lost to a damaged page.
    Losses,
}

impl Table {
    /// All tables with byte keys.
    pub(crate) const ALL: [Self; 18] = [
        Self::Store,
        Self::Heads,
        Self::Metadata,
        Self::Training,
        Self::Artifacts,
        Self::Superseded,
        Self::Decisions,
        Self::Aliases,
        Self::Levels,
        Self::Quarantine,
        Self::Bars,
        Self::BarHistory,
        Self::BarFacts,
        Self::Coverage,
        Self::Aggregates,
        Self::Calendars,
        Self::Features,
        Self::Losses,
    ];

    /// The table's name in the file, which is also part of the seal of every value in it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Heads => "heads",
            Self::Metadata => "metadata",
            Self::Training => "training_data",
            Self::Artifacts => "artifacts",
            Self::Superseded => "superseded",
            Self::Decisions => "decisions",
            Self::Aliases => "aliases",
            Self::Levels => "vix",
            Self::Quarantine => "quarantine",
            Self::Bars => "bars",
            Self::BarHistory => "bar_history",
            Self::BarFacts => "bar_facts",
            Self::Coverage => "coverage",
            Self::Aggregates => "aggregates",
            Self::Calendars => "calendars",
            Self::Features => "features",
            Self::Losses => "losses",
        }
    }

    /// What the keys of its rows are made of.
    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Self::Store => &[Field::Tail],
            Self::Decisions => &[Field::Number],
            Self::Heads | Self::Superseded => &[Field::Text, Field::Hash],
            Self::Metadata | Self::Quarantine => &[Field::Text, Field::Hash, Field::Version],
            Self::Training | Self::Aliases => &[Field::Text, Field::Hash, Field::Tail],
            Self::Artifacts => &[Field::Text, Field::Hash, Field::Version, Field::Tail],
            Self::Levels => &[Field::Text, Field::Year],
            Self::Bars | Self::BarHistory => &[Field::Text, Field::Span, Field::Span, Field::Period],
            Self::BarFacts | Self::Coverage | Self::Aggregates => &[Field::Text, Field::Span, Field::Span],
            Self::Calendars | Self::Losses => &[Field::Text, Field::Bytes],
            Self::Features => &[Field::Text, Field::Hash, Field::Period],
        }
    }

    /// The key of one of its rows, for people.
    pub(crate) fn describe(self, key: &[u8]) -> String {
        row::describe(self.fields(), key)
    }

    /// Where the row under `key` is.
    pub(crate) fn place(self, key: &[u8]) -> Place<'_> {
        Place { table: self.name(), key, fields: self.fields() }
    }

    pub(super) fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }
}

/// What one table takes up in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUsage {
    /// The table's name.
    pub table: &'static str,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of keys and values.
    pub stored_bytes: u64,
    /// Bytes of pages that hold neither: tree nodes, and the unused rest of pages.
    pub overhead_bytes: u64,
}
