//! Tables out of features, levels and targets.

use std::{collections::BTreeSet, time::Duration};

use super::plan::{MatrixPlan, Target};
use crate::{
    format::parallel,
    market::{
        Market,
        bars::{columns::Bars, series::BarSeries},
        features::{
            compute::{FeatureSet, Gathered},
            table::Features,
        },
    },
    sync::single_flight::{self, Caller},
    types::{
        error::{Error, Result},
        interval::Interval,
        key::{Label, Symbol},
        time::Timestamp,
    },
};

/// Symbols whose features are stored in one transaction.
const SYMBOLS_PER_COMMIT: usize = 256;
/// Symbols from which several threads pay.
const PARALLEL_SYMBOLS_MIN: usize = 8;

/// A table to train on: rows of features, in the order of the symbols and of time.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Matrix {
    /// The names of the `d` columns: features, then levels.
    pub names: Vec<String>,
    /// The values, `[n, d]`, row by row. What is not there is NaN.
    pub values: Vec<f64>,
    /// The symbol of each row, `[n]`.
    pub symbols: Vec<Symbol>,
    /// When the bar of each row begins, `[n]`.
    pub timestamps: Vec<Timestamp>,
    /// When the bar of each row has ended, `[n]`: a decision by this row can be made from then on, or as much later as
    /// the vendor is.
    pub available_at: Vec<Timestamp>,
    /// What is to be predicted, `[n]`; empty without a target.
    pub targets: Vec<f64>,
    /// Rows that were left out, because the bars of their target are not all there: they have not ended yet, or, of a
    /// symbol that is not traded any more, never will be.
    pub without_target: u64,
    /// Symbols that have no row: no bar of theirs is stored in the interval, or was known, or has a target.
    pub symbols_without_rows: Vec<Symbol>,
    /// Series of levels of which no row has a level: none is stored under this name, or none was available.
    pub levels_without_rows: Vec<Symbol>,
    /// Rows, of all symbols, whose features were computed; the others were stored.
    pub rows_computed: u64,
}

impl Matrix {
    /// Returns the number of rows, `n`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Returns the number of columns, `d`.
    #[must_use]
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// Returns the values of row `row`, `[d]`; `None` behind the last one.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<&[f64]> {
        let start = row.checked_mul(self.width())?;
        if row < self.len() { self.values.get(start..start + self.width()) } else { None }
    }

    /// Appends the rows of one symbol that have a target, if there is one.
    fn extend(&mut self, symbol: &Symbol, part: &Part) {
        let rows = part.features.len();
        for row in 0..rows {
            if let Some(targets) = &part.targets {
                let Some(target) = targets.get(row).copied().flatten() else {
                    self.without_target += 1;
                    continue;
                };
                self.targets.push(target);
            }
            let value = |column: &Vec<f64>| column.get(row).copied().unwrap_or(f64::NAN);
            self.values.extend(part.features.columns.iter().map(value));
            self.values.extend(part.levels.iter().map(value));
            self.symbols.push(symbol.clone());
            self.timestamps.extend(part.features.timestamps.get(row));
            self.available_at.extend(part.ends.get(row));
        }
        self.rows_computed += part.features.rows_computed;
    }
}

/// The rows of one symbol.
struct Part {
    features: Features,
    ends: Vec<Timestamp>,
    /// One column for each series of levels.
    levels: Vec<Vec<f64>>,
    /// Of each row; `None` for those whose bars have not all ended.
    targets: Option<Vec<Option<f64>>>,
}

impl Market {
    /// Returns a table of the bars of `symbols` that begin in `interval`.
    pub(crate) fn matrix<S: AsRef<str>>(
        &self,
        symbols: impl IntoIterator<Item = S>,
        interval: Interval<Timestamp>,
        plan: &MatrixPlan,
        compute: impl Fn(&Bars) -> Vec<Vec<f64>> + Sync,
    ) -> Result<Matrix> {
        let symbols = symbols.into_iter().map(|symbol| Symbol::new(symbol.as_ref())).collect::<Result<Vec<_>>>()?;
        check_once("symbol", symbols.iter())?;
        check_once("series of levels", plan.levels.iter().map(|(series, _)| series))?;
        let names = plan.spec.columns().iter().map(Label::to_string);
        let names = names.chain(plan.levels.iter().map(|(series, _)| series.to_string())).collect();
        let mut matrix = Matrix { names, ..Matrix::default() };
        let (now, me) = (self.core.now(), Caller::here());
        let mut has_levels = vec![false; plan.levels.len()];
        for group in symbols.chunks(SYMBOLS_PER_COMMIT) {
            let threads = if group.len() < PARALLEL_SYMBOLS_MIN { 1 } else { parallel::threads_for(usize::MAX) };
            let rows = parallel::map(group.iter(), threads, |symbol| {
                single_flight::on_behalf_of(&me, || self.rows_of(symbol, interval, plan, now, &compute))
                    .map_err(|err| if err.subject() == symbol.as_str() { err } else { named(err, symbol) })
            });
            let rows = rows.into_iter().collect::<Result<Vec<_>>>()?;
            let is_new = rows.iter().any(|(_, _, gathered)| gathered.is_some());
            if is_new && !self.core.is_read_only() {
                self.core.commit("write features", |batch| {
                    let new = rows.iter().filter_map(|(set, _, gathered)| Some((set, gathered.as_ref()?)));
                    new.into_iter().try_for_each(|(set, gathered)| set.write(batch, gathered))
                })?;
            }
            for (symbol, (_, part, _)) in group.iter().zip(&rows) {
                let before = matrix.len();
                matrix.extend(symbol, part);
                if matrix.len() == before {
                    matrix.symbols_without_rows.push(symbol.clone());
                }
                for (has_levels, levels) in has_levels.iter_mut().zip(&part.levels) {
                    *has_levels |= levels.iter().any(|level| !level.is_nan());
                }
            }
        }
        let empty = plan.levels.iter().zip(has_levels).filter(|(_, has_levels)| !has_levels);
        matrix.levels_without_rows = empty.map(|((series, _), _)| series.clone()).collect();
        Ok(matrix)
    }

    /// The rows of one symbol, and what is to be stored of them.
    fn rows_of<'a>(
        &'a self,
        symbol: &Symbol,
        interval: Interval<Timestamp>,
        plan: &MatrixPlan,
        now: Timestamp,
        compute: &(impl Fn(&Bars) -> Vec<Vec<f64>> + Sync),
    ) -> Result<(FeatureSet<'a>, Part, Option<Gathered>)> {
        let series = self.bars(symbol.as_str(), plan.spec.timeframe())?;
        let set = series.features(&plan.spec)?;
        let (features, gathered) = match plan.as_of {
            Some(known_at) => (set.compute_as_of(interval, known_at, compute)?, None),
            None => {
                let load = set.load();
                let _flight = self.loads.acquire(&load)?;
                let mut gathered = set.gather(interval, &mut |bars: &Bars| compute(bars))?;
                let features = gathered.take_features();
                (features, Some(gathered).filter(Gathered::is_new))
            }
        };
        let ends = series.ends_of(&features.timestamps)?;
        let mut levels = Vec::new();
        for (name, available_after) in &plan.levels {
            let joined = self.levels(name.as_str())?.available_after(*available_after).join_known(&ends, plan.as_of)?;
            levels.push(joined.into_iter().map(|level| level.unwrap_or(f64::NAN)).collect());
        }
        let targets = match &plan.target {
            Some(target) => Some(targets_of(&series, &features.timestamps, target, plan.as_of, now)?),
            None => None,
        };
        Ok((set, Part { features, ends, levels, targets }, gathered))
    }
}

/// The target of each row that begins `at` these times; `None` where its bars have not all ended.
fn targets_of(
    series: &BarSeries<'_>,
    at: &[Timestamp],
    target: &Target,
    as_of: Option<Timestamp>,
    now: Timestamp,
) -> Result<Vec<Option<f64>>> {
    let (Some(first), Some(last)) = (at.first(), at.last()) else {
        return Ok(Vec::new());
    };
    let bars = behind(series, *first, *last, target.horizon, as_of, now)?;
    let targets = at.iter().map(|at| {
        let row = bars.timestamps().binary_search(at).ok()?;
        let part = bars.slice(row..row.checked_add(target.horizon)?.checked_add(1)?);
        (part.len() == target.horizon + 1).then(|| (target.compute)(&part))
    });
    Ok(targets.collect())
}

/// The bars from `first` on that have ended and are known, at least `horizon` behind `last`, if there are so many.
fn behind(
    series: &BarSeries<'_>,
    first: Timestamp,
    last: Timestamp,
    horizon: usize,
    as_of: Option<Timestamp>,
    now: Timestamp,
) -> Result<Bars> {
    let end = Interval::<Timestamp>::all_time().end();
    let bars = u32::try_from(horizon).unwrap_or(u32::MAX).saturating_add(1);
    let mut reach = series.timeframe().duration().saturating_mul(bars);
    loop {
        let until = last.after(reach).min(end);
        let interval = Interval::new(first, until)?;
        let bars = match as_of {
            Some(known_at) => series.ended_by(series.range_as_of(interval, known_at)?, known_at)?,
            None => series.ended_by(series.range(interval)?, now)?,
        };
        let behind = bars.len() - bars.timestamps().partition_point(|at| *at <= last);
        // Nights, weekends and holidays lie between bars; how many is not known before one looks.
        if behind >= horizon || until == end || until > as_of.unwrap_or(now) {
            return Ok(bars);
        }
        reach = reach.saturating_mul(4).max(Duration::from_secs(7 * 24 * 3600));
    }
}

/// Refuses what is named twice: its rows, or its column, would be there twice.
fn check_once<'a>(what: &str, names: impl Iterator<Item = &'a Symbol>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::invalid("make matrix", name.to_string(), format!("the {what} is named twice")));
        }
    }
    Ok(())
}

fn named(err: Error, symbol: &Symbol) -> Error {
    let (kind, message) = (err.kind(), format!("{}: {}", err.subject(), err.message()));
    Error::new(kind, "make matrix", symbol.to_string(), message).with_source(err)
}
