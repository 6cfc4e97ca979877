//! Bars: import a CSV file, fetch what is missing from a vendor of your own, read as of a time.
//!
//!     cargo run --example cookbook_bars

#![allow(clippy::print_stdout, clippy::float_cmp, reason = "an example prints, and bars are kept to the last bit")]
#![allow(missing_docs, reason = "an example has no public API")]

use std::{error::Error, sync::Arc};

use modelkeep::{
    Day, Interval, Store, Symbol, Timestamp,
    clock::{Clock, ManualClock},
    market::{Answer, BadRows, Bar, BarFetcher, Bars, FetchError, FetchPolicy, Timeframe},
};

const IBM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/public/IBM.csv");

/// Stands in for a vendor's client. A real one would make an HTTP call here.
struct Vendor(Bars);

impl BarFetcher for Vendor {
    fn fetch(&self, symbol: &Symbol, _: Timeframe, asked: Interval<Timestamp>) -> Result<Answer<Bars>, FetchError> {
        if symbol.as_str() != "IBM" {
            return Err(FetchError::permanent(format!("{symbol} is not traded here")));
        }
        Ok(self.0.iter().filter(|bar| asked.contains(bar.at)).collect::<Bars>().into())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at("2010-09-01T22:00:00Z".parse()?));
    let policy = FetchPolicy::default().retries(2).concurrency(2);
    let store = Store::options().clock(Arc::clone(&clock)).fetch(policy).open(folder.path().join("market.redb"))?;
    let ibm = store.bars("IBM", Timeframe::DAY)?;

    // The history: one file, one transaction. A row that cannot be right would be named, and nothing written.
    let imported = ibm.import_csv(IBM, BadRows::Refuse, |_| {})?;
    assert_eq!((imported.rows.added, imported.left_out_rows()), (763, 0));
    let vendor = Vendor(ibm.range(Interval::all_time())?);

    // The last year is lost. Only that is asked for, and the second load asks nobody.
    let year = Interval::<Day>::parse("2009-08-01", "2010-08-01")?.span();
    ibm.remove(year)?;
    let all = Interval::<Day>::parse("2007-08-21", "2010-08-01")?.span();
    let loaded = ibm.load_or_fetch(all, &vendor)?;
    println!(
        "{} bars from disk, {} fetched in {} calls",
        loaded.report.from_disk, loaded.report.fetched, loaded.report.calls
    );
    assert_eq!((loaded.report.fetched, loaded.report.calls), (251, 1));
    let bars = loaded.complete()?;
    assert_eq!(ibm.load_or_fetch(all, &vendor)?.report.calls, 0);

    // A vendor that knows nothing is no error of the load: the report names the gaps, and `complete` insists.
    let other = store.load_or_fetch("XYZ", Timeframe::DAY, year, &vendor)?;
    assert!(!other.is_complete());
    println!("{}", other.complete().err().ok_or("nothing is missing of XYZ")?);

    // A bar is restated tomorrow. A backtest reads what was known today.
    let today = clock.now();
    clock.set("2010-09-02T22:00:00Z".parse()?);
    let last = bars.last().ok_or("there are no bars")?;
    ibm.write(&Bars::from_iter([Bar { close: last.high, ..last }]))?;
    assert_eq!(ibm.range(all)?.last().map(|bar| bar.close), Some(last.high));
    assert_eq!(ibm.range_as_of(all, today)?.last(), Some(last));
    Ok(())
}
