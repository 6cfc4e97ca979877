//! CSV files as vendors write them, of bars and of levels.

use modelkeep::{
    Day, ErrorKind, Interval,
    market::{BadRows, Bars, CsvOptions, Imported, Timeframe},
};

use crate::{
    market::{all_time, at},
    support::Folder,
};

/// Reason, rows and first line of what was left out.
fn left_out(imported: &Imported) -> Vec<(&str, u64, u64)> {
    imported.left_out.iter().map(|left_out| (left_out.reason.as_str(), left_out.rows, left_out.first_line)).collect()
}

fn file(folder: &Folder, text: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.path().with_extension("csv");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn rows_without_prices_are_left_out_and_counted() {
    let folder = Folder::new();
    let store = folder.open();
    let yahoo = "Date,Open,High,Low,Close,Adj Close,Volume\n\
        2018-12-03,10,12,9,11,11,100\n\
        2018-12-04,null,null,null,null,null,null\n\
        2018-12-05,NaN,NaN,NaN,NaN,NaN,0\n\
        2018-12-06,,,,,,\n\
        ,,,,,,\n\
        2018-12-07,11,12,10,11,11,200\n";
    for (bom, end) in [("", "\n"), ("\u{feff}", "\r\n"), ("", "\r\n"), ("\u{feff}", "\n\n"), ("", "\r\n\r\n")] {
        let path = file(&folder, format!("{bom}{}", yahoo.replace('\n', end)));
        let line = |n: u64| if end.matches('\n').count() == 2 { 2 * n - 1 } else { n };
        for bad_rows in [BadRows::Refuse, BadRows::LeaveOut] {
            let series = store.bars("X", Timeframe::DAY).unwrap();
            series.remove(all_time()).unwrap();
            let imported = series.import_csv(&path, bad_rows, |_| {}).unwrap();
            assert_eq!((imported.rows.added, imported.left_out_rows()), (2, 4));
            assert_eq!(left_out(&imported), [("no prices", 3, line(3)), ("an empty row", 1, line(6))]);
            assert_eq!(series.range(all_time()).unwrap().close(), [11.0, 11.0]);
        }
        // To `Keep`, NaN is a number, as an export writes it.
        let kept = store.bars("KEPT", Timeframe::DAY).unwrap();
        let imported = kept.import_csv(&path, BadRows::Keep, |_| {}).unwrap();
        assert_eq!(imported.left_out_rows(), 3);
        assert_eq!(kept.range(all_time()).unwrap().flawed(), 1);
        let copy = folder.path().with_extension("copy.csv");
        kept.export_csv(&copy, all_time(), |_| {}).unwrap();
        let again = kept.import_csv(&copy, BadRows::Keep, |_| {}).unwrap();
        assert_eq!((again.rows.unchanged, again.left_out), (3, vec![]));
    }
}

#[test]
fn what_is_left_out_is_counted_by_reason_with_its_first_line() {
    let folder = Folder::new();
    let series = folder.open();
    let series = series.bars("X", Timeframe::DAY).unwrap();
    let path = file(
        &folder,
        "date,open,high,low,close,volume\n\
         2018-12-03,10,12,9,11,100\n\
         2018-12-04,10,12,9,null,100\n\
         2018-12-05,10,12,9,-11,100\n\
         2018-12-06,10,10,9,11,100\n\
         2018-12-07,10,10,9,11,100\n\
         2018-12-03,20,22,19,21,100\n\
         2018-12-08 09:30:00,10,12,9,11,100\n\
         2018-12-09,10,12,9,11,\n",
    );
    let refused = series.import_csv(&path, BadRows::Refuse, |_| {}).unwrap_err();
    assert_eq!(refused.message(), "line 3: close is missing: \"null\"");
    let imported = series.import_csv(&path, BadRows::LeaveOut, |_| {}).unwrap();
    assert_eq!(
        left_out(&imported),
        [
            ("a later row is of the same time", 1, 2),
            ("a value is missing", 2, 3),
            ("negative, inconsistent", 1, 4),
            ("inconsistent", 2, 5),
            ("off the grid", 1, 8),
        ]
    );
    assert_eq!((imported.rows.added, series.range(all_time()).unwrap().close()), (1, &[21.0][..]));
    let kept = series.import_csv(&path, BadRows::Keep, |_| {}).unwrap();
    assert_eq!((kept.rows.added, kept.left_out_rows()), (6, 1));
}

#[test]
fn errors_name_the_line_that_an_editor_shows() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.bars("X", Timeframe::DAY).unwrap();
    let good = "2018-12-03,10,12,9,11,100";
    for (bad, message) in [
        ("2018-12-04,10,12,9,x,100", ": close \"x\" is no number"),
        ("2018-12-04,10,12,9", ": it has 4 fields, and the header 6"),
        ("12/04/2018,10,12,9,11,100", ": \"12/04/2018\" is no time"),
        ("2018-12-04,10,12,9,11,-1", " at 2018-12-04T00:00:00Z: negative"),
        ("2018-12-03,10,12,9,11,100", " at 2018-12-03T00:00:00Z: it has the timestamp of the row before it"),
        ("2018-12-01,10,12,9,11,100", " at 2018-12-01T00:00:00Z: it lies before the row before it"),
        ("2018-12-04 02:00:00,10,12,9,11,100", " at 2018-12-04T02:00:00Z: no bar of 1d begins then"),
    ] {
        for (bom, end) in [("", "\n"), ("\u{feff}", "\r\n")] {
            let header = "date,open,high,low,close,volume";
            let path = file(&folder, [bom, header, end, end, good, end, end, end, bad, end].concat());
            let err = series.import_csv(&path, BadRows::Refuse, |_| {}).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::InvalidInput);
            assert_eq!(err.subject(), path.display().to_string());
            assert!(err.message().starts_with(&format!("line 6{message}")), "{err}");
        }
    }
    assert_eq!(series.latest().unwrap(), None);
}

#[test]
fn local_times_are_of_the_zone_that_the_caller_names() {
    let folder = Folder::new();
    let store = folder.open();
    let minutes = store.bars("SPY", Timeframe::MINUTE).unwrap();
    let options = CsvOptions::new().zone("America/New_York").unwrap();
    let row = |time: &str| format!("{time},10,12,9,11,100\r\n");
    let write = |times: &[&str]| {
        let rows: String = times.iter().map(|time| row(time)).collect();
        file(&folder, format!("datetime,open,high,low,close,volume\r\n{rows}"))
    };
    // The last session before clocks went back, and the first after it.
    let path = write(&["2018-11-02 15:59:00", "2018-11-05 09:30:00", "2018-11-05T09:31:00-05:00"]);
    assert_eq!(minutes.import_csv(&path, options, |_| {}).unwrap().rows.added, 3);
    let expected = ["2018-11-02T19:59:00Z", "2018-11-05T14:30:00Z", "2018-11-05T14:31:00Z"].map(at);
    assert_eq!(minutes.range(all_time()).unwrap().timestamps(), expected);
    for (time, part) in [
        ("2019-03-10 02:30:00", "line 3: \"2019-03-10 02:30:00\" does not exist in America/New_York"),
        ("2019-11-03 01:30:00", "line 3: \"2019-11-03 01:30:00\" occurs twice in America/New_York"),
    ] {
        let path = write(&["2018-12-24 09:30:00", time]);
        let err = minutes.import_csv(&path, options, |_| {}).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidInput);
        assert!(err.message().starts_with(part), "{err}");
        // In UTC there is such a time.
        assert_eq!(
            store
                .bars("UTC", Timeframe::MINUTE)
                .unwrap()
                .import_csv(&path, BadRows::Refuse, |_| {})
                .unwrap()
                .rows
                .added,
            1 + u64::from(time.starts_with("2019-03"))
        );
    }
    // A zone that is forgotten shows in rows outside of the sessions; and so does a clock, or a file, that is ahead.
    let path = write(&["2018-11-05 09:30", "2018-11-05T10:31", "2018-11-05 15:59", "2031-01-03 15:30"]);
    let count = |name: &str, options: CsvOptions| {
        let imported = store.bars(name, Timeframe::MINUTE).unwrap().import_csv(&path, options, |_| {}).unwrap();
        (imported.rows.added, imported.outside_sessions, imported.not_ended)
    };
    assert_eq!(count("WITH", options), (4, 0, 1));
    assert_eq!(count("WITHOUT", CsvOptions::new()), (4, 2, 1));
    // Days are days, as pandas writes them with the midnight of the exchange.
    let daily = store.bars("SPY", Timeframe::DAY).unwrap();
    let path = write(&["2018-11-02", "2018-11-05 00:00:00", "2018-11-06 00:00:00-05:00"]);
    daily.import_csv(&path, options, |_| {}).unwrap();
    assert_eq!(daily.range(all_time()).unwrap().timestamps(), ["2018-11-02", "2018-11-05", "2018-11-06"].map(at));
    let unknown = CsvOptions::new().zone("New York").unwrap_err();
    assert!(unknown.kind() == ErrorKind::InvalidInput && unknown.subject() == "New York", "{unknown}");
}

#[test]
fn levels_are_imported_from_the_files_that_there_are() {
    let folder = Folder::new();
    let store = folder.open();
    // A Saturday, and a day to come.
    let path = file(&folder, "date,close\n2018-12-21,30.11\n2018-12-22,30.2\n2031-01-03,15\n");
    let imported = store.levels("OFF").unwrap().import_csv(&path, BadRows::Refuse).unwrap();
    assert_eq!((imported.rows.added, imported.outside_sessions, imported.not_ended), (3, 1, 1));
    let all = Interval::<Day>::parse("2000-01-01", "2030-01-01").unwrap();
    for (n, text) in [
        "date,value\n2018-12-21,30.11\n2018-12-24,36.07\n2018-12-25,null\n",
        "\u{feff}DATE,OPEN,HIGH,LOW,CLOSE\r\n2018-12-24,31,37,30,36.07\r\n2018-12-21,29,31,28,30.11\r\n2018-12-25,,,,\r\n",
        "observation_date,VIXCLS\n2018-12-21,30.11\n2018-12-24,36.07\n2018-12-25,.\n",
        "vix_close,note,date\n30.11,a,2018-12-21\n36.07,b,2018-12-24T16:15:00-05:00\nNaN,c,2018-12-25\n",
        "Timestamp,Index\n2018-12-21 00:00:00,30.11\n2018-12-24 00:00:00,36.07\n,\n",
    ]
    .into_iter()
    .enumerate()
    {
        let path = file(&folder, text);
        let series = store.levels(&format!("VIX {n}")).unwrap();
        let imported = series.import_csv(&path, CsvOptions::new().zone("America/New_York").unwrap()).unwrap();
        assert_eq!((imported.rows.added, imported.left_out_rows(), imported.left_out[0].first_line), (2, 1, 4), "{text}");
        let levels = series.range(all).unwrap();
        assert_eq!(levels.levels, [30.11, 36.07], "{text}");
        assert_eq!(levels.days[1].to_string(), "2018-12-24");
        assert_eq!(series.import_csv(&path, BadRows::LeaveOut).unwrap().rows.unchanged, 2);
        // Out of the store and in again.
        assert_eq!(series.export_csv(&path, all).unwrap(), 2);
        assert_eq!(series.import_csv(&path, BadRows::Refuse).unwrap().rows.unchanged, 2);
    }
}

#[test]
fn levels_that_cannot_be_right_are_refused_by_line_or_left_out() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.levels("VIX").unwrap();
    for (text, part, left) in [
        ("date,close\n2018-12-21,x\n", "line 2: \"x\" is no number", None),
        ("date,close\r\n\r\nsomeday,1\r\n", "line 3: \"someday\" is no time", None),
        ("date\n2018-12-21\n", "line 1: there is no column of levels", None),
        ("2018-12-21,30.11\n", "line 1: there is no column timestamp", None),
        ("date,close\n2018-12-21,inf\n", "line 2: the level of 2018-12-21 is inf", Some(("not finite", 1, 2))),
        (
            "date,close\n2018-12-21,1\n\n2018-12-21,2\n",
            "line 4: 2018-12-21 has a level in line 2 already",
            Some(("a later row is of the same time", 1, 2)),
        ),
    ] {
        let path = file(&folder, text);
        let err = series.import_csv(&path, BadRows::Refuse).unwrap_err();
        assert!(err.kind() == ErrorKind::InvalidInput && err.message().starts_with(part), "{err}");
        match (left, series.import_csv(&path, BadRows::LeaveOut)) {
            (None, Err(_)) => {}
            (Some(left), Ok(imported)) => assert_eq!(left_out(&imported), [left]),
            (_, other) => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(series.at("2018-12-21".parse().unwrap()).unwrap(), Some(2.0));
    let missing = series.import_csv(folder.path().with_extension("nothing"), BadRows::Refuse).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

/// All that lies behind a quote which nobody closes is one field to a reader of CSV.
#[test]
fn a_quote_that_is_not_closed_is_an_error_of_its_line() {
    let folder = Folder::new();
    let store = folder.open();
    let row = |day: u32, note: &str| format!("2018-12-{day:02},10,12,9,11,100,{note}\n");
    let text = |note: &str| {
        let rows: String = (10..15).map(|day| row(day, if day == 12 { note } else { "" })).collect();
        format!("date,open,high,low,close,volume,note\n{rows}")
    };
    let series = store.bars("SPY", Timeframe::DAY).unwrap();
    let import = |note: &str| series.import_csv(file(&folder, text(note)), BadRows::LeaveOut, |_| {});
    let err = import("\"split 2:1").unwrap_err();
    assert!(err.message().starts_with("line 4: a quote is opened"), "{err}");
    for note in ["\"split 2:1\"", "\"of \"\"two\"\"\"", "6\" disc", "\"two\nlines\""] {
        let rows = import(note).unwrap().rows;
        assert_eq!(rows.added + rows.unchanged, 5, "{note}");
    }
    let last =
        |end: &str| series.import_csv(file(&folder, format!("{}{end}", text("").trim_end())), BadRows::Refuse, |_| {});
    assert!(last("\"x").unwrap_err().message().starts_with("line 6: a quote"));
    assert!(last("\"x\"").is_ok());
    let levels = file(&folder, "date,close,note\n2018-12-20,1,\n2018-12-21,2,\"x\n2018-12-24,3,\n");
    assert!(store.levels("VIX").unwrap().import_csv(levels, BadRows::Refuse).is_err());
    let twice = file(&folder, "date,open,high,low,close,close,volume\n2018-12-20,1,1,1,1,1,1\n");
    assert!(series.import_csv(twice, BadRows::Refuse, |_| {}).unwrap_err().message().contains("several columns close"));
}

#[test]
fn an_empty_file_of_bars_is_no_file_of_bars() {
    let folder = Folder::new();
    let store = folder.open();
    let series = store.bars("X", Timeframe::DAY).unwrap();
    let err = series.import_csv(file(&folder, ""), BadRows::Refuse, |_| {}).unwrap_err();
    assert!(err.message().contains("there is no column timestamp"), "{err}");
    let none = series.import_csv(file(&folder, "date,open,high,low,close,volume\n"), BadRows::Refuse, |_| {}).unwrap();
    assert_eq!(none, Imported::default());
    assert_eq!(series.range(all_time()).unwrap(), Bars::default());
}
