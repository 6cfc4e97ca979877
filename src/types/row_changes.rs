//! What a write did to stored rows: of bars, levels or samples.

use std::ops::AddAssign;

use crate::types::rescaled::Rescaled;

/// What a write did, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowChanges {
    /// Rows that were not there.
    pub added: u64,
    /// Rows that had other values.
    pub replaced: u64,
    /// Rows that were there, bit for bit.
    pub unchanged: u64,
    /// Rows that were removed.
    pub removed: u64,
    /// Rows that were put in front of what was known later: see
    /// [`BarSeries::write_known_at`](crate::market::BarSeries::write_known_at). What is current stays.
    pub backdated: u64,
    /// Rows, of those that were written, that have a [flaw](crate::market::Flaws). Bars alone have flaws.
    pub flawed: u64,
    /// That replaced bars came back on another scale; if on several, the one that most rows show.
    pub rescaled: Option<Rescaled>,
}

impl RowChanges {
    /// Returns whether anything is not what it was.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.added > 0 || self.replaced > 0 || self.removed > 0 || self.backdated > 0
    }
}

impl AddAssign for RowChanges {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.replaced += other.replaced;
        self.unchanged += other.unchanged;
        self.removed += other.removed;
        self.backdated += other.backdated;
        self.flawed += other.flawed;
        self.rescaled = Rescaled::join(self.rescaled, other.rescaled);
    }
}
