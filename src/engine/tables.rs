//! The tables of the file.

use redb::TableDefinition;

/// The definition of a table with byte keys.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Large values under 8-byte keys. Fixed-width keys put every value that is larger than a page into a page of its
/// own, at a constant offset, which is what makes it possible to map one.
pub(super) const ARCHIVES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new(ARCHIVES_NAME);

/// The name of the archives' table, as it is part of their seals.
pub(crate) const ARCHIVES_NAME: &str = "archives";

/// A table with byte keys and sealed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Series, year -> daily levels.
    Vix,
    /// Model key, version -> why the version is not served.
    Quarantine,
    /// Series of bars, period -> the bars of the period, in columns.
    Bars,
    /// Series of bars, period -> bars that were superseded or deleted, and when.
    BarHistory,
    /// Series of bars or of levels -> what is known of which stretch of time.
    Coverage,
    /// Series of aggregated bars -> which bars they were made of.
    Aggregates,
    /// Name, version -> a calendar that judged what is stored.
    Calendars,
    /// Symbol, fingerprint, period -> computed columns, and what they were computed from.
    Features,
}

impl Table {
    /// All tables with byte keys.
    pub(crate) const ALL: [Self; 13] = [
        Self::Store,
        Self::Heads,
        Self::Metadata,
        Self::Training,
        Self::Artifacts,
        Self::Vix,
        Self::Quarantine,
        Self::Bars,
        Self::BarHistory,
        Self::Coverage,
        Self::Aggregates,
        Self::Calendars,
        Self::Features,
    ];

    /// The table's name in the file, which is also part of the seal of every value in it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Heads => "heads",
            Self::Metadata => "metadata",
            Self::Training => "training_data",
            Self::Artifacts => "artifacts",
            Self::Vix => "vix",
            Self::Quarantine => "quarantine",
            Self::Bars => "bars",
            Self::BarHistory => "bar_history",
            Self::Coverage => "coverage",
            Self::Aggregates => "aggregates",
            Self::Calendars => "calendars",
            Self::Features => "features",
        }
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
