//! What a fetcher answers.

use crate::types::time::Timestamp;

/// Rows, and what the vendor says about them.
///
/// ```
/// use modelkeep::{Timestamp, market::{Answer, Bars}};
///
/// let page = Answer::new(Bars::default()).more_from(Timestamp::from_nanos(0));
/// let delisted = Answer::<Bars>::nothing_for_good();
/// # let _ = (page, delisted);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Answer<T> {
    pub(crate) rows: T,
    pub(crate) more_from: Option<Timestamp>,
    pub(crate) is_final: bool,
}

impl<T> Answer<T> {
    /// Returns an answer of these rows. If they may be a page of a longer answer, because sessions that are over follow
    /// without rows, the rest is asked for by another call.
    pub fn new(rows: T) -> Self {
        Self { rows, more_from: None, is_final: false }
    }

    /// Returns the rows.
    pub fn into_rows(self) -> T {
        self.rows
    }

    /// Says that there is more from `at` on: the rest is asked for by another call.
    pub fn more_from(mut self, at: Timestamp) -> Self {
        self.more_from = Some(at);
        self
    }

    /// Says that these are all the rows there will ever be of what was asked for: a stretch without any is known to be
    /// empty from then on.
    pub fn all_there_is(mut self) -> Self {
        self.is_final = true;
        self
    }
}

impl<T: Default> Answer<T> {
    /// Returns the answer that there are no rows, and never will be: before a listing, after a delisting.
    pub fn nothing_for_good() -> Self {
        Self::new(T::default()).all_there_is()
    }
}

impl<T> From<T> for Answer<T> {
    fn from(rows: T) -> Self {
        Self::new(rows)
    }
}
