//! Bars in columns: as they are put together, and as they are handed out.

use std::{fmt, ops::Range, sync::Arc};

use super::bar::{Bar, Field, Flaws};
use crate::types::{
    error::{Error, Result},
    interval::Interval,
    invariant::Invariant,
    time::Timestamp,
};

/// The columns that rows are cut from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) at: Vec<Timestamp>,
    /// Open, high, low, close, volume, as in [`Field::ALL`].
    pub(crate) values: [Vec<f64>; 5],
    /// One per row, or none at all when no row has a flaw.
    pub(crate) flaws: Vec<Flaws>,
}

impl Columns {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self { at: Vec::with_capacity(rows), values: [(); 5].map(|()| Vec::with_capacity(rows)), flaws: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    /// Bytes that the columns take up.
    pub(crate) fn bytes(&self) -> usize {
        let values: usize = self.values.iter().map(Vec::capacity).sum();
        (self.at.capacity() + values) * size_of::<f64>() + self.flaws.capacity()
    }

    pub(crate) fn push(&mut self, bar: &Bar, flaws: Flaws) {
        if !flaws.is_empty() {
            self.flaws.resize(self.len(), Flaws::NONE);
        }
        if !flaws.is_empty() || !self.flaws.is_empty() {
            self.flaws.push(flaws);
        }
        self.at.push(bar.at);
        let Bar { open, high, low, close, volume, .. } = *bar;
        for (column, value) in self.values.iter_mut().zip([open, high, low, close, volume]) {
            column.push(value);
        }
    }

    /// Appends rows of `other`.
    pub(crate) fn extend(&mut self, other: &Self, rows: Range<usize>) {
        if !other.flaws.is_empty() {
            self.flaws.resize(self.len(), Flaws::NONE);
        }
        match other.flaws.get(rows.clone()) {
            Some(flaws) if !other.flaws.is_empty() => self.flaws.extend_from_slice(flaws),
            _ if !self.flaws.is_empty() => self.flaws.resize(self.len() + rows.len(), Flaws::NONE),
            _ => {}
        }
        self.at.extend_from_slice(other.at.get(rows.clone()).always("rows lie in the columns"));
        for (column, more) in self.values.iter_mut().zip(&other.values) {
            column.extend_from_slice(more.get(rows.clone()).always("rows lie in the columns"));
        }
    }

    /// The rows, which are in order, that lie in `interval`.
    pub(crate) fn within(self, interval: Interval<Timestamp>) -> Self {
        let start = self.at.partition_point(|at| *at < interval.start());
        let end = self.at.partition_point(|at| *at < interval.end()).max(start);
        if (start, end) == (0, self.len()) {
            return self;
        }
        let mut rows = Self::with_capacity(end - start);
        rows.extend(&self, start..end);
        rows
    }

    pub(crate) fn flaws_of(&self, row: usize) -> Flaws {
        self.flaws.get(row).copied().unwrap_or_default()
    }

    pub(crate) fn bar(&self, row: usize) -> Option<Bar> {
        let [open, high, low, close, volume] = &self.values;
        Some(Bar {
            at: *self.at.get(row)?,
            open: *open.get(row)?,
            high: *high.get(row)?,
            low: *low.get(row)?,
            close: *close.get(row)?,
            volume: *volume.get(row)?,
        })
    }

    /// Whether two rows have the same bits in all values.
    pub(crate) fn same(&self, row: usize, other: &Self, at: usize) -> bool {
        let bits = |column: &Vec<f64>, row: usize| column.get(row).map(|value| value.to_bits());
        self.flaws_of(row) == other.flaws_of(at)
            && self.values.iter().zip(&other.values).all(|(a, b)| bits(a, row) == bits(b, at))
    }
}

/// Bars in columns, each `[n]`. Cutting and cloning copies nothing.
///
/// What a store returns is in order of time, each timestamp once. What is made of rows may be in any order until it is
/// written.
///
/// Equality is of bits: a NaN equals itself, and 0.0 does not equal -0.0.
///
/// ```
/// use modelkeep::{Timestamp, market::{Bar, Bars}};
///
/// let bar = |n: i64| Bar { at: Timestamp::from_nanos(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: 100.0 };
/// let bars: Bars = (0..10).map(bar).collect();
/// assert_eq!(bars.slice(2..5).timestamps()[0].as_nanos(), 2);
/// assert_eq!(bars.close()[9], 2.0);
/// ```
#[derive(Clone, Default)]
pub struct Bars {
    columns: Arc<Columns>,
    rows: Range<usize>,
}

impl Bars {
    /// Returns bars made of whole columns: timestamps, open, high, low, close and volume, `[n]` each.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::Bars};
    /// let at = vec![Timestamp::from_nanos(1), Timestamp::from_nanos(2)];
    /// let bars = Bars::from_columns(at, vec![1.0; 2], vec![3.0; 2], vec![0.5; 2], vec![2.0; 2], vec![100.0; 2])?;
    /// assert_eq!(bars.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when they have not all the same length.
    pub fn from_columns(
        timestamps: Vec<Timestamp>,
        open: Vec<f64>,
        high: Vec<f64>,
        low: Vec<f64>,
        close: Vec<f64>,
        volume: Vec<f64>,
    ) -> Result<Self> {
        let columns = Columns { at: timestamps, values: [open, high, low, close, volume], flaws: Vec::new() };
        let lengths = columns.values.each_ref().map(Vec::len);
        if lengths.iter().any(|len| *len != columns.len()) {
            let message = format!("{} timestamps and columns of {lengths:?} values", columns.len());
            return Err(Error::invalid("read bars", "columns", message));
        }
        Ok(columns.into())
    }

    /// Returns the number of bars, `n`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.len(), 3);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are none.
    ///
    /// ```
    /// # use modelkeep::market::Bars;
    /// assert!(Bars::default().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns when each bar begins, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.timestamps()[2].as_nanos(), 2);
    /// ```
    #[must_use]
    pub fn timestamps(&self) -> &[Timestamp] {
        self.columns.at.get(self.rows.clone()).always("rows lie in the columns")
    }

    /// Returns the first prices, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.open(), [1.0; 3]);
    /// ```
    #[must_use]
    pub fn open(&self) -> &[f64] {
        self.column(Field::Open)
    }

    /// Returns the highest prices, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.high(), [3.0; 3]);
    /// ```
    #[must_use]
    pub fn high(&self) -> &[f64] {
        self.column(Field::High)
    }

    /// Returns the lowest prices, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.low(), [0.5; 3]);
    /// ```
    #[must_use]
    pub fn low(&self) -> &[f64] {
        self.column(Field::Low)
    }

    /// Returns the last prices, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.close(), [2.0; 3]);
    /// ```
    #[must_use]
    pub fn close(&self) -> &[f64] {
        self.column(Field::Close)
    }

    /// Returns what was traded, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.volume(), [0.0, 1.0, 2.0]);
    /// ```
    #[must_use]
    pub fn volume(&self) -> &[f64] {
        self.column(Field::Volume)
    }

    /// Returns one column, `[n]`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// use modelkeep::market::Field;
    /// assert_eq!(bars.column(Field::Close), bars.close());
    /// ```
    #[must_use]
    pub fn column(&self, field: Field) -> &[f64] {
        let [open, high, low, close, volume] = &self.columns.values;
        let column = match field {
            Field::Open => open,
            Field::High => high,
            Field::Low => low,
            Field::Close => close,
            Field::Volume => volume,
        };
        column.get(self.rows.clone()).always("rows lie in the columns")
    }

    /// Returns the flaws that bar `row` was stored with.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert!(bars.flaws(0).is_empty()); // what rows were stored with: see `write_with`
    /// ```
    #[must_use]
    pub fn flaws(&self, row: usize) -> Flaws {
        if row < self.len() { self.columns.flaws_of(self.rows.start + row) } else { Flaws::NONE }
    }

    /// Returns how many bars were stored with a flaw.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.flawed(), 0);
    /// ```
    #[must_use]
    pub fn flawed(&self) -> usize {
        // Where no row has a flaw, there is no column of them.
        let flaws = self.columns.flaws.get(self.rows.clone()).unwrap_or_default();
        flaws.iter().filter(|flaws| !flaws.is_empty()).count()
    }

    /// Returns bar `row`.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!((bars.get(1), bars.get(3)), (Some(bar(1)), None));
    /// ```
    #[must_use]
    pub fn get(&self, row: usize) -> Option<Bar> {
        if row < self.len() { self.columns.bar(self.rows.start + row) } else { None }
    }

    /// Returns the last bar.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.last(), Some(bar(2)));
    /// ```
    #[must_use]
    pub fn last(&self) -> Option<Bar> {
        self.get(self.len().checked_sub(1)?)
    }

    /// Returns the bars, one by one.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.iter().map(|bar| bar.volume).sum::<f64>(), 3.0);
    /// ```
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Bar> {
        (0..self.len())
            .map(|row| self.get(row).unwrap_or_else(|| unreachable!("the columns of bars have the same length")))
    }

    /// Returns the bars of `rows`, as far as they are there, without copying them.
    ///
    /// ```
    /// # use modelkeep::{Timestamp, market::{Bar, Bars}};
    /// # let at = Timestamp::from_nanos;
    /// # let bar = |n| Bar { at: at(n), open: 1.0, high: 3.0, low: 0.5, close: 2.0, volume: n as f64 };
    /// # let bars: Bars = (0..3).map(bar).collect();
    /// assert_eq!(bars.slice(1..9).volume(), [1.0, 2.0]);
    /// ```
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let start = rows.start.min(self.len());
        let end = rows.end.clamp(start, self.len());
        Self { columns: Arc::clone(&self.columns), rows: self.rows.start + start..self.rows.start + end }
    }

    pub(crate) fn columns(&self) -> (&Columns, Range<usize>) {
        (&self.columns, self.rows.clone())
    }
}

impl From<Arc<Columns>> for Bars {
    fn from(columns: Arc<Columns>) -> Self {
        let rows = 0..columns.len();
        Self { columns, rows }
    }
}

impl From<Columns> for Bars {
    fn from(columns: Columns) -> Self {
        let rows = 0..columns.len();
        Self { columns: Arc::new(columns), rows }
    }
}

impl FromIterator<Bar> for Bars {
    fn from_iter<I: IntoIterator<Item = Bar>>(bars: I) -> Self {
        let mut columns = Columns::default();
        bars.into_iter().for_each(|bar| columns.push(&bar, Flaws::NONE));
        columns.into()
    }
}

impl PartialEq for Bars {
    fn eq(&self, other: &Self) -> bool {
        let ((a, left), (b, right)) = (self.columns(), other.columns());
        self.timestamps() == other.timestamps() && left.zip(right).all(|(row, at)| a.same(row, b, at))
    }
}

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Bars");
        out.field("len", &self.len());
        if let (Some(first), Some(last)) = (self.get(0), self.last()) {
            out.field("first", &first).field("last", &last);
        }
        out.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(at: i64, close: f64) -> Bar {
        Bar { at: Timestamp::from_nanos(at), open: 1.0, high: 3.0, low: 0.5, close, volume: 100.0 }
    }

    #[test]
    fn slices_stay_inside() {
        let bars: Bars = (0..5).map(|at| bar(at, 2.0)).collect();
        let middle = bars.slice(1..4);
        assert_eq!((middle.len(), middle.slice(2..99).len(), middle.slice(7..9).len()), (3, 1, 0));
        assert_eq!(middle.last().unwrap().at.as_nanos(), 3);
        assert_eq!(middle.get(3), None);
    }

    #[test]
    fn flaws_follow_their_rows_through_appending() {
        let mut a = Columns::default();
        a.push(&bar(0, 2.0), Flaws::NONE);
        let mut b = Columns::default();
        b.push(&bar(1, 2.0), Flaws::NONE);
        b.push(&bar(2, 9.0), Flaws::INCONSISTENT);
        b.push(&bar(3, 2.0), Flaws::NONE);
        a.extend(&b, 1..3);
        a.extend(&Columns::from_bar(bar(4, 2.0)), 0..1);
        let bars: Bars = a.into();
        let flaws: Vec<_> = (0..bars.len()).map(|row| bars.flaws(row).bits()).collect();
        assert_eq!(flaws, [0, 4, 0, 0]);
        assert_eq!(bars.flawed(), 1);
    }

    impl Columns {
        fn from_bar(bar: Bar) -> Self {
            let mut columns = Self::default();
            columns.push(&bar, Flaws::NONE);
            columns
        }
    }
}
