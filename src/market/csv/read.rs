//! Reading: a file with a header, row by row, each with the number of its line.
//!
//! Lines are counted by this module, in the bytes of the file: the reader of the crate `csv` does not count the second
//! half of a line's end, nor blank lines, as an editor does.

use std::path::{Path, PathBuf};

use csv::StringRecord;

use super::{options::Progress, write::failed};
use crate::types::error::{Error, Result};

/// Rows between two calls of a progress callback.
pub(crate) const ROWS_PER_REPORT: u64 = 4096;

/// Columns that a message names.
const NAMED_MAX: usize = 12;

/// Names that the column of times goes by: FRED's last.
const TIME_NAMES: [&str; 5] = ["timestamp", "date", "datetime", "time", "observation_date"];

/// What files have in place of a number: Yahoo's `null`, pandas' nothing or `NaN`, spreadsheets' `N/A`, FRED's `.`.
const MISSING: [&str; 6] = ["", "null", "nan", "n/a", "na", "."];

/// A file that is being read.
#[derive(Debug)]
pub(crate) struct CsvFile {
    operation: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl CsvFile {
    pub(crate) fn open(operation: &'static str, path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|err| failed(operation, path, err))?;
        Ok(Self { operation, path: path.to_owned(), bytes })
    }

    /// The error for what is wrong with a line.
    pub(crate) fn refuse(&self, line: u64, message: impl std::fmt::Display) -> Error {
        self.refuse_all(format!("line {line}: {message}"))
    }

    /// The error for what is wrong with the file.
    pub(crate) fn refuse_all(&self, message: impl Into<String>) -> Error {
        Error::invalid(self.operation, self.path.display().to_string(), message)
    }

    /// Reads the header, and returns the rows behind it.
    pub(crate) fn rows(&self) -> Result<Rows<'_>> {
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(self.bytes.as_slice());
        // A byte order mark is no part of the first line.
        let at = if self.bytes.starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 };
        let lines = Lines { bytes: &self.bytes, at, line: 1 };
        let (header, row) = (StringRecord::new(), StringRecord::new());
        let mut rows = Rows { file: self, reader, lines, header, header_line: 1, row, count: 0 };
        rows.header_line = rows.read()?.unwrap_or(1);
        rows.header = std::mem::take(&mut rows.row);
        Ok(rows)
    }
}

/// The rows of a file.
pub(crate) struct Rows<'a> {
    file: &'a CsvFile,
    reader: csv::Reader<&'a [u8]>,
    lines: Lines<'a>,
    header: StringRecord,
    header_line: u64,
    row: StringRecord,
    count: u64,
}

impl Rows<'_> {
    /// Reads a row, whatever it has; returns its line.
    fn read(&mut self) -> Result<Option<u64>> {
        let start = self.reader.position().byte();
        match self.reader.read_record(&mut self.row) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = self.lines.of(start);
                if self.is_cut(start) {
                    return Err(self
                        .file
                        .refuse(line, "a quote is opened in this row and not closed before the file ends"));
                }
                Ok(Some(line))
            }
            Err(err) => {
                let line = self.lines.of(start);
                Err(match err.kind() {
                    csv::ErrorKind::Utf8 { .. } => self.file.refuse(line, "it is no UTF-8 text"),
                    _ => self.file.refuse(line, &err),
                }
                .with_source(err))
            }
        }
    }

    /// Whether the row that begins at byte `start` ends with the file, within quotes: all behind the quote was read as
    /// one field.
    fn is_cut(&self, start: u64) -> bool {
        if self.reader.position().byte() < self.file.bytes.len() as u64 {
            return false;
        }
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let (mut is_quoted, mut begins) = (false, true);
        let mut row = self.file.bytes.get(start..).unwrap_or_default().iter().peekable();
        while let Some(byte) = row.next() {
            match byte {
                b'"' if is_quoted => is_quoted = row.next_if_eq(&&b'"').is_some(),
                b'"' => is_quoted = begins,
                _ => {}
            }
            begins = !is_quoted && matches!(byte, b',' | b'\n' | b'\r');
        }
        is_quoted
    }

    /// Goes to the next row, and returns its line; `None` behind the last one.
    pub(crate) fn advance(&mut self, progress: &mut impl FnMut(Progress)) -> Result<Option<u64>> {
        let total = self.file.bytes.len() as u64;
        let Some(line) = self.read()? else {
            progress(Progress { rows: self.count, done: total, total });
            return Ok(None);
        };
        self.count += 1;
        if self.count.is_multiple_of(ROWS_PER_REPORT) {
            progress(Progress { rows: self.count, done: self.reader.position().byte(), total });
        }
        let (fields, columns) = (self.row.len(), self.header.len());
        if fields != columns && !self.is_empty() {
            return Err(self.file.refuse(line, format!("it has {fields} fields, and the header {columns}")));
        }
        Ok(Some(line))
    }

    /// Whether there is nothing in the row but separators.
    pub(crate) fn is_empty(&self) -> bool {
        self.row.iter().all(str::is_empty)
    }

    /// The text of the row in a column.
    pub(crate) fn field(&self, column: usize) -> &str {
        self.row.get(column).unwrap_or_default()
    }

    /// The column of times.
    pub(crate) fn time_column(&self) -> Result<usize> {
        let mut found = (0..self.header.len()).filter(|column| self.is_named(*column, &TIME_NAMES));
        let listed = TIME_NAMES.get(..4).unwrap_or_default();
        let Some(first) = found.next() else {
            return Err(self.no_column(&listed.join(" or ")));
        };
        if found.next().is_some() {
            let message = format!("it has several columns of {}: put them into one", listed.join(", "));
            return Err(self.file.refuse(self.header_line, message));
        }
        Ok(first)
    }

    /// The column of this name, in any case.
    pub(crate) fn column(&self, name: &str) -> Result<Option<usize>> {
        let mut found = (0..self.header.len()).filter(|column| self.is_named(*column, &[name]));
        let first = found.next();
        match found.next() {
            None => Ok(first),
            Some(_) => Err(self.file.refuse(self.header_line, format!("it has several columns {name}"))),
        }
    }

    pub(crate) fn columns(&self) -> usize {
        self.header.len()
    }

    pub(crate) fn no_column(&self, name: &str) -> Error {
        let found: Vec<String> = self.header.iter().take(NAMED_MAX).map(|name| format!("{name:?}")).collect();
        let message = format!("there is no column {name} among {}: separators are commas", found.join(", "));
        self.file.refuse(self.header_line, message)
    }

    fn is_named(&self, column: usize, names: &[&str]) -> bool {
        self.header.get(column).is_some_and(|name| names.iter().any(|known| name.eq_ignore_ascii_case(known)))
    }
}

/// Whether a text stands for a number that is not there.
pub(crate) fn is_missing(text: &str) -> bool {
    MISSING.iter().any(|missing| text.eq_ignore_ascii_case(missing))
}

/// Counts lines, forwards.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the row that is read from byte `start` on: before it may lie what is left of the line's end, and
    /// blank lines.
    fn of(&mut self, start: u64) -> u64 {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        while let Some(byte) = self.bytes.get(self.at) {
            let next = self.bytes.get(self.at + 1);
            match byte {
                b'\n' => self.line += 1,
                b'\r' if next != Some(&b'\n') => self.line += 1,
                b'\r' => {}
                _ if self.at >= start => break,
                _ => {}
            }
            self.at += 1;
        }
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u64, String)> {
        let file = CsvFile { operation: "import", path: "x.csv".into(), bytes: text.as_bytes().to_vec() };
        let mut rows = file.rows().unwrap();
        let mut found = vec![(rows.header_line, rows.header.iter().collect::<Vec<_>>().join("|"))];
        while let Some(line) = rows.advance(&mut |_| {}).unwrap() {
            found.push((line, rows.row.iter().collect::<Vec<_>>().join("|")));
        }
        found
    }

    #[test]
    fn lines_are_those_that_an_editor_shows() {
        for end in ["\n", "\r\n", "\r"] {
            for (bom, blank) in [("", ""), ("\u{feff}", ""), ("", end), ("\u{feff}", end)] {
                let first = if blank.is_empty() { 1 } else { 2 };
                let text = [bom, blank, "a,b", end, "1, 2 ", end, end, end, "\"x", end, "y\",3", end, ",", end, "5,6"];
                let found = lines(&text.concat());
                let multiline = format!("x{end}y|3");
                let expected = [
                    (first, "a|b".to_owned()),
                    (first + 1, "1|2".to_owned()),
                    (first + 4, multiline),
                    (first + 6, "|".to_owned()),
                    (first + 7, "5|6".to_owned()),
                ];
                assert_eq!(found, expected, "{end:?} {bom:?} {blank:?}");
            }
        }
    }

    #[test]
    fn a_row_of_another_length_and_foreign_bytes_are_named_by_line() {
        let refused = |bytes: &[u8]| {
            let file = CsvFile { operation: "import", path: "x.csv".into(), bytes: bytes.to_vec() };
            let mut rows = file.rows().unwrap();
            loop {
                match rows.advance(&mut |_| {}) {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("nothing was refused"),
                    Err(err) => return err.to_string(),
                }
            }
        };
        assert_eq!(refused(b"a,b\r\n\r\n1,2\r\n3\r\n"), "import x.csv: line 4: it has 1 fields, and the header 2");
        assert_eq!(refused(b"a,b\n1,2\n\xff,3\n"), "import x.csv: line 3: it is no UTF-8 text");
        assert!(lines("").len() == 1 && lines("\n\n").len() == 1);
    }
}
