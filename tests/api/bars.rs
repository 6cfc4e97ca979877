//! Writing and reading bars.

use modelkeep::{
    ErrorKind, Interval, Store, Timestamp, Verify,
    market::{BadRows, BarCodec, Bars, Calendar, Field, Flaws, Timeframe},
};

use crate::{
    market::{MINUTE, all_time, at, bar, between, data, days, minutes},
    support::{Folder, is_copied},
};

fn store() -> (Folder, Store) {
    let folder = Folder::new();
    let store = folder.open();
    (folder, store)
}

#[test]
fn bars_come_back_as_they_were_from_any_interval() {
    let (folder, store) = store();
    // Three months: three chunks.
    let all = minutes("2018-10-20", 60 * 24 * 80);
    let series = store.bars("BTC-USD", Timeframe::MINUTE).unwrap();
    assert_eq!(series.write(&all).unwrap().added, all.len() as u64);
    drop(series);
    drop(store);
    let store = folder.open();
    let series = store.bars("BTC-USD", Timeframe::MINUTE).unwrap();
    assert_eq!(series.range(all_time()).unwrap(), all);
    for (start, end) in [(0, 1), (17, 40_000), (16_000, 16_001), (100, 100), (115_000, 115_200)] {
        let times = all.timestamps();
        let end_at = times.get(end).copied().unwrap_or(at("2030-01-01"));
        let part = series.range(Interval::new(times[start], end_at).unwrap()).unwrap();
        assert_eq!(part, all.slice(start..end));
        for field in [Field::Open, Field::High, Field::Low, Field::Close, Field::Volume] {
            let column = series.column(field, Interval::new(times[start], end_at).unwrap()).unwrap();
            assert_eq!((&column.timestamps[..], &column.values[..]), (part.timestamps(), part.column(field)));
        }
    }
    assert_eq!(series.latest().unwrap(), all.last());
    assert!(series.range(between("2000-01-01", "2001-01-01")).unwrap().is_empty());
}

#[test]
fn long_ranges_are_the_same_on_several_threads() {
    let (_folder, store) = store();
    let all = minutes("2018-01-01", 210_000);
    let series = store.bars("BTC-USD", Timeframe::MINUTE).unwrap();
    series.write(&all).unwrap();
    assert_eq!(series.range(all_time()).unwrap(), all);
}

#[test]
fn writing_again_adds_replaces_and_leaves_alone() {
    let (_folder, store) = store();
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    series.write(&days("2018-01-01", "2018-02-01")).unwrap();
    let mut changed: Vec<_> = days("2018-01-20", "2018-02-10").iter().collect();
    changed[0].close += 0.01;
    let written = series.write(&changed.iter().copied().collect()).unwrap();
    assert_eq!((written.added, written.replaced, written.unchanged), (9, 1, 11));
    assert_eq!(series.range(all_time()).unwrap().len(), 40);
    assert_eq!(series.range(between("2018-01-20", "2018-01-21")).unwrap().close()[0], changed[0].close);
}

#[test]
fn bad_rows_are_named_and_nothing_is_written_or_they_are_kept_and_flagged() {
    let (_folder, store) = store();
    let series = store.bars("GILD", Timeframe::DAY).unwrap();
    let mut rows: Vec<_> = days("2010-03-20", "2010-03-30").iter().collect();
    // A real row: the low is above the open.
    rows[2].open = 47.77;
    rows[2].high = 48.65;
    rows[2].low = 47.7935;
    rows[2].close = 48.15;
    let bars: Bars = rows.iter().copied().collect();
    let err = series.write(&bars).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidInput);
    assert!(err.to_string().contains("GILD 1d: row 2 at 2010-03-22"), "{err}");
    assert_eq!(series.latest().unwrap(), None);

    assert_eq!(series.write_with(&bars, BadRows::Keep).unwrap().flawed, 1);
    let kept = series.range(all_time()).unwrap();
    assert_eq!((kept.flaws(2), kept.flawed(), kept.low()[2]), (Flaws::INCONSISTENT, 1, 47.7935));
    // The same again changes nothing.
    assert_eq!(series.write_with(&bars, BadRows::Keep).unwrap().unchanged, 10);
}

#[test]
fn the_last_moment_of_time_is_refused_and_gaps_of_a_part_are_of_that_part() {
    let (_folder, store) = store();
    let hours = store.bars("X", Timeframe::hours(5).unwrap()).unwrap();
    let last = Timestamp::from_nanos(i64::MAX);
    for bad_rows in [BadRows::Refuse, BadRows::Keep] {
        let err = hours.write_with(&[bar(last, 500)].into_iter().collect(), bad_rows).unwrap_err();
        assert!(err.message().starts_with("row 0"), "{err}");
    }
    let daily = store.bars("SPY", Timeframe::DAY).unwrap();
    daily.write(&[bar(at("2018-12-20"), 500)].into_iter().collect()).unwrap();
    assert!(daily.gaps(between("2018-12-20T12:00:00Z", "2018-12-21")).unwrap().is_empty());
    // Nothing is missing of what is to come.
    assert!(daily.gaps(between("2019-01-01", "2019-06-01")).unwrap().is_empty());
}

#[test]
fn series_are_told_apart_and_listed() {
    let (_folder, store) = store();
    for (symbol, timeframe) in [("AA", Timeframe::DAY), ("A", Timeframe::DAY), ("A", Timeframe::MINUTE)] {
        store.bars(symbol, timeframe).unwrap().write(&days("2018-01-01", "2018-01-11")).unwrap();
    }
    let names: Vec<_> =
        store.bar_series().unwrap().into_iter().map(|(name, summary)| (name, summary.unwrap())).collect();
    let shown: Vec<_> = names.iter().map(|(name, summary)| (name.as_str(), summary.bars)).collect();
    assert_eq!(shown, [("A 1m", 10), ("A 1d", 10), ("AA 1d", 10)]);
    assert_eq!(names[1].1.span, (at("2018-01-01"), at("2018-01-10")));
    let symbols = |timeframe| store.bar_symbols(timeframe).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((symbols(Timeframe::DAY), symbols(Timeframe::HOUR)), (vec!["A".to_owned(), "AA".to_owned()], vec![]));
    store.bars("A", Timeframe::DAY).unwrap().remove(all_time()).unwrap();
    assert_eq!(symbols(Timeframe::DAY), ["AA"]);
}

#[test]
fn every_timeframe_keeps_what_it_was_given() {
    let (_folder, store) = store();
    let day = std::time::Duration::from_secs(86_400);
    for timeframe in ["100ms", "1s", "90s", "1m", "15m", "1h", "1d", "7d"] {
        let timeframe: Timeframe = timeframe.parse().unwrap();
        for days_later in 0..2 {
            let start = at("2018-12-31").after(day * days_later);
            let step = timeframe.as_nanos().cast_signed();
            let bars: Bars =
                (0..500).map(|n| bar(Timestamp::from_nanos(start.as_nanos() + n * step), 5_000 + n)).collect();
            let series = store.bars("X", timeframe).unwrap();
            series.remove(all_time()).unwrap();
            series.write(&bars).unwrap();
            assert_eq!(series.range(all_time()).unwrap(), bars, "{timeframe}");
        }
    }
}

#[test]
fn real_minute_bars_survive_every_codec_and_csv() {
    let folder = Folder::new();
    for (n, codec) in [BarCodec::Auto, BarCodec::Packed, BarCodec::Pco].into_iter().enumerate() {
        let store = folder.options().bar_codec(codec).in_memory().unwrap();
        let series = store.bars("MSFT", Timeframe::MINUTE).unwrap();
        let mut reports = 0;
        let written = series.import_csv(data("msft_1min.csv"), BadRows::Refuse, |_| reports += 1).unwrap();
        assert_eq!((written.rows.added, written.left_out_rows(), reports), (7440, 0, 2));
        let out = folder.path().with_extension(format!("{n}.csv"));
        let mut last = None;
        assert_eq!(series.export_csv(&out, all_time(), |progress| last = Some(progress)).unwrap(), 7440);
        assert_eq!(last.unwrap().done, last.unwrap().total);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), std::fs::read_to_string(data("msft_1min.csv")).unwrap());
        // Parquet with zstd takes 25.8 bytes a bar for this file.
        let summary = store.bar_series().unwrap().remove(0).1.unwrap();
        assert!(summary.stored_bytes < 10 * 7440, "{codec:?}: {} bytes", summary.stored_bytes);
    }
}

#[test]
fn a_csv_file_with_a_bad_line_is_refused_with_the_line() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.bars("MSFT", Timeframe::DAY).unwrap();
    let path = folder.path().with_extension("bad.csv");
    let good = "Date,Open,High,Low,Close,Adj Close,Volume\n2018-01-02,1,3,0.5,2,2,100\n";
    for (text, part) in [
        ("date,open,high,low,volume\n", "line 1: there is no column close"),
        (&format!("{good}2018-01-03,1,3,0.5,x,2,100\n"), "line 3: close \"x\" is no number"),
        (&format!("{good}someday,1,3,0.5,2,2,100\n"), "line 3: \"someday\" is no time"),
        (&format!("{good}2018-01-03,1,3\n"), "line 3"),
        (&format!("{good}2018-01-02,1,3,0.5,2,2,100\n"), "line 3 at 2018-01-02"),
        (&format!("{good}1200-01-01,1,3,0.5,2,2,100\n"), "line 3: \"1200-01-01\" is no time"),
        ("date,time,open,high,low,close,volume\n", "several columns"),
    ] {
        std::fs::write(&path, text).unwrap();
        let err = series.import_csv(&path, BadRows::Refuse, |_| ()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidInput);
        assert!(err.message().contains(part), "{err}");
    }
    assert_eq!(series.latest().unwrap(), None);
    let missing = series.import_csv(folder.path().with_extension("nothing"), BadRows::Refuse, |_| ()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn a_damaged_chunk_is_an_error_and_makes_room_for_good_bars() {
    let folder = Folder::new();
    // Of one codec, so that no chunk is written anew when the next one begins, and left in the file where it was.
    let store = folder.options().bar_codec(BarCodec::Packed).open(folder.path()).unwrap();
    let series = store.bars("SPY", Timeframe::MINUTE).unwrap();
    series.write(&minutes("2018-11-01", 3000)).unwrap();
    series.write(&minutes("2018-12-01", 3000)).unwrap();
    drop(series);
    drop(store);
    // The first bytes of the first chunk's closes, by way of what is stored of them.
    let mut bytes = std::fs::read(folder.path()).unwrap();
    let schema = blake3::derive_key("modelkeep 2026 schema id v1", b"modelkeep.bars");
    let header = bytes.windows(8).position(|window| window == &schema[..8]).unwrap() - 8;
    bytes[header + 112 + 1500] ^= 0x40;
    std::fs::write(folder.path(), &bytes).unwrap();

    let store = folder.open();
    let series = store.bars("SPY", Timeframe::MINUTE).unwrap();
    let damaged = [between("2018-11-01", "2018-12-01"), between("2018-12-01", "2019-01-01")]
        .map(|month| series.range(month).map_err(|err| err.kind()).map(|bars| bars.len()));
    assert!(damaged.contains(&Err(ErrorKind::Corrupt)) && damaged.contains(&Ok(3000)), "{damaged:?}");
    assert!(!store.verify().unwrap().damage.is_empty() || is_copied());
    let month = if damaged[0].is_err() { "2018-11-01" } else { "2018-12-01" };
    assert_eq!(series.write(&minutes(month, 3)).unwrap_err().kind(), ErrorKind::Corrupt);
    series.remove(between("2018-11-01", "2019-01-01")).unwrap();
    series.write(&minutes(month, 3)).unwrap();
    assert_eq!(series.range(all_time()).unwrap().len(), 3);
}

#[test]
fn a_damaged_chunk_is_found_under_every_policy() {
    let folder = Folder::new();
    let store = folder.open();
    store.bars("BTC-USD", Timeframe::MINUTE).unwrap().write(&minutes("2018-11-01", 3000)).unwrap();
    drop(store);
    let mut bytes = std::fs::read(folder.path()).unwrap();
    let schema = blake3::derive_key("modelkeep 2026 schema id v1", b"modelkeep.bars");
    let header = bytes.windows(8).position(|window| window == &schema[..8]).unwrap() - 8;
    bytes[header + 112 + 90] ^= 0x40;
    for (damaged, expected) in [(true, Err(ErrorKind::Corrupt)), (false, Ok(3000))] {
        if !damaged {
            bytes[header + 112 + 90] ^= 0x40;
        }
        std::fs::write(folder.path(), &bytes).unwrap();
        for verify in [Verify::Full, Verify::Background, Verify::Structure] {
            let store = folder.options().verify(verify).read_only(true).open(folder.path()).unwrap();
            let series = store.bars("BTC-USD", Timeframe::MINUTE).unwrap();
            let found = series.range(all_time()).map(|bars| bars.len()).map_err(|err| err.kind());
            assert_eq!(found, expected, "{verify:?}");
        }
    }
}

#[test]
fn gaps_are_sessions_without_bars() {
    let (_folder, store) = store();
    let series = store.bars("SPY", Timeframe::DAY).unwrap().calendar(Calendar::nyse());
    let december = between("2018-12-17", "2019-01-01");
    let closed = ["2018-12-19", "2018-12-22", "2018-12-23", "2018-12-25", "2018-12-29", "2018-12-30"].map(at);
    let bars: Bars = days("2018-12-17", "2019-01-01").iter().filter(|bar| !closed.contains(&bar.at)).collect();
    series.write(&bars).unwrap();
    let gaps: Vec<_> = series.gaps(december).unwrap().iter().map(|session| session.day.to_string()).collect();
    assert_eq!(gaps, ["2018-12-19"]);
}

#[test]
fn holes_are_what_is_missing_within_sessions() {
    let (_folder, store) = store();
    let series = store.bars("SPY", Timeframe::MINUTE).unwrap();
    let session = Calendar::nyse().session("2018-12-21".parse().unwrap()).unwrap();
    let minute = |n: i64| Timestamp::from_nanos(session.open.as_nanos() + n * MINUTE);
    // Without minutes 60 to 239, minute 300, and the last hour.
    let there = (0..330).filter(|n| !(60..240).contains(n) && *n != 300);
    series.write(&there.map(|n| bar(minute(n), 5000)).collect()).unwrap();
    let day = between("2018-12-21", "2018-12-22");
    assert!(series.gaps(day).unwrap().is_empty());
    let found = |minutes: u64| {
        let intraday_gaps = series.intraday_gaps(day, std::time::Duration::from_secs(60 * minutes)).unwrap();
        intraday_gaps.iter().map(|hole| (hole.start(), hole.end())).collect::<Vec<_>>()
    };
    let (long, one, last) = ((minute(60), minute(240)), (minute(300), minute(301)), (minute(330), session.close));
    assert_eq!(found(2), [long, last]);
    assert_eq!(found(1), [long, one, last]);
    assert_eq!(found(61), [long]);
}

#[test]
fn a_chunk_has_a_limit_that_is_named() {
    let (_folder, store) = store();
    let start = at("2018-01-01").as_nanos();
    let ticks: Bars = (0..=1 << 20).map(|n| bar(Timestamp::from_nanos(start + n * MINUTE / 60_000), 5000)).collect();
    let err = store.bars("X", Timeframe::hours(5).unwrap()).unwrap().write(&ticks).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::LimitExceeded);
}
