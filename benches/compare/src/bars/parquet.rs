//! Bars in Parquet files, written and read in the fastest ordinary way.
//!
//! Whole columns go through the column readers and writers of the crate: on the bars of a year they are faster than its
//! Arrow readers at any batch size. A file lies in a map, as ours does, and its footer is parsed when it is opened, as
//! our store is open. Writer properties are the defaults, with zstd of level 1, unless another [`Form`] is asked for.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use modelkeep::market::Bars;
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    column::reader::get_typed_column_reader,
    data_type::{DataType, DoubleType, Int64Type},
    file::{
        properties::{DEFAULT_MAX_ROW_GROUP_ROW_COUNT, WriterProperties},
        reader::{FileReader, RowGroupReader},
        serialized_reader::SerializedFileReader,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};

use crate::{folder, peers::mapped};

const SCHEMA: &str = "message bars {
    REQUIRED INT64 timestamp (TIMESTAMP(NANOS, true));
    REQUIRED DOUBLE open;
    REQUIRED DOUBLE high;
    REQUIRED DOUBLE low;
    REQUIRED DOUBLE close;
    REQUIRED DOUBLE volume;
}";

/// What the writer is told.
#[derive(Clone, Copy)]
pub enum Form {
    /// Nothing but zstd of level 1: timestamps get a dictionary, of which all values are different.
    Default,
    /// Timestamps without a dictionary, as `DELTA_BINARY_PACKED`: what somebody chooses who looks at the sizes.
    Deltas,
    /// The fewest bytes that the crate makes of most sets: besides, doubles as `BYTE_STREAM_SPLIT`, and zstd of level 19.
    Reference,
}

impl Form {
    fn properties(self) -> Result<WriterProperties> {
        let level = if matches!(self, Self::Reference) { 19 } else { 1 };
        let mut properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?));
        if !matches!(self, Self::Default) {
            let column = ColumnPath::from("timestamp");
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
        if matches!(self, Self::Reference) {
            for name in ["open", "high", "low", "close", "volume"] {
                let column = ColumnPath::from(name);
                properties = properties
                    .set_column_dictionary_enabled(column.clone(), false)
                    .set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT);
            }
        }
        Ok(properties.build())
    }
}

/// Bars in vectors of their own: nanoseconds; open, high, low, close, volume.
#[derive(Clone, Default)]
pub struct Columns {
    at: Vec<i64>,
    values: [Vec<f64>; 5],
}

impl Columns {
    pub fn of(bars: &Bars) -> Self {
        let values = [bars.open(), bars.high(), bars.low(), bars.close(), bars.volume()];
        Self { at: bars.timestamps().iter().map(|at| at.as_nanos()).collect(), values: values.map(<[f64]>::to_vec) }
    }

    /// Whether they are the same bars, bit for bit.
    pub fn are(&self, bars: &Bars) -> bool {
        let values = [bars.open(), bars.high(), bars.low(), bars.close(), bars.volume()];
        let bits = |column: &[f64]| column.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        self.at.iter().copied().eq(bars.timestamps().iter().map(|at| at.as_nanos()))
            && self.values.iter().zip(values).all(|(a, b)| bits(a) == bits(b))
    }

    fn with_capacity(rows: usize) -> Self {
        Self { at: Vec::with_capacity(rows), values: [(); 5].map(|()| Vec::with_capacity(rows)) }
    }

    fn extend(&mut self, more: &Self) {
        self.at.extend_from_slice(&more.at);
        for (column, more) in self.values.iter_mut().zip(&more.values) {
            column.extend_from_slice(more);
        }
    }
}

/// The bytes of a file.
pub fn encode(columns: &Columns, form: Form) -> Result<Vec<u8>> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(form.properties()?))?;
    let rows = columns.at.len();
    for start in (0..rows).step_by(DEFAULT_MAX_ROW_GROUP_ROW_COUNT) {
        let group = start..rows.min(start + DEFAULT_MAX_ROW_GROUP_ROW_COUNT);
        let mut into = writer.next_row_group()?;
        put::<Int64Type>(&mut into, columns.at.get(group.clone()).unwrap_or_default())?;
        for column in &columns.values {
            put::<DoubleType>(&mut into, column.get(group.clone()).unwrap_or_default())?;
        }
        into.close()?;
    }
    Ok(writer.into_inner()?)
}

/// Writes the next column of a row group.
fn put<T: DataType>(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, values: &[T::T]) -> Result<()> {
    let mut column = group.next_column()?.context("the schema has six columns")?;
    let written = column.typed::<T>().write_batch(values, None, None)?;
    ensure!(written == values.len(), "{written} of {} values were written", values.len());
    Ok(column.close()?)
}

/// An open file.
pub struct Reader(SerializedFileReader<Bytes>);

impl Reader {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self(SerializedFileReader::new(Bytes::from_owner(mapped::open(path)?))?))
    }

    /// Reads all columns.
    pub fn read(&self) -> Result<Columns> {
        let rows = self.0.metadata().file_metadata().num_rows();
        let mut columns = Columns::with_capacity(rows as usize);
        for group in 0..self.0.num_row_groups() {
            let group = self.0.get_row_group(group)?;
            take::<Int64Type>(&*group, 0, &mut columns.at)?;
            for (index, column) in columns.values.iter_mut().enumerate() {
                take::<DoubleType>(&*group, index + 1, column)?;
            }
        }
        Ok(columns)
    }
}

/// Reads one column of a row group behind what is there.
fn take<T: DataType>(group: &dyn RowGroupReader, index: usize, out: &mut Vec<T::T>) -> Result<()> {
    let wanted = group.metadata().num_rows() as usize;
    let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
    let (found, ..) = reader.read_records(wanted, None, None, out)?;
    ensure!(found == wanted, "{found} of {wanted} rows were read");
    Ok(())
}

/// Adds rows to a file for good. A Parquet file cannot grow: it is read, and written again.
pub fn append(path: &Path, more: &Columns) -> Result<()> {
    let mut columns = Reader::open(path)?.read()?;
    columns.extend(more);
    folder::write_durably(path, &encode(&columns, Form::Default)?)
}

#[cfg(test)]
mod tests {
    use modelkeep::{Timestamp, market::Bar};

    use super::*;

    fn bars(rows: std::ops::Range<i64>) -> Bars {
        let value = |at: i64| if at % 7 == 0 { -0.0 } else { at as f64 / 100.0 };
        let bar = |at| Bar {
            at: Timestamp::from_nanos(at),
            open: value(at),
            high: f64::NAN,
            low: value(at + 1),
            close: value(at * 3),
            volume: at as f64,
        };
        rows.map(bar).collect()
    }

    #[test]
    fn what_is_read_is_what_was_written_and_appended() {
        let folder = tempfile::tempdir().unwrap();
        for form in [Form::Default, Form::Deltas, Form::Reference] {
            let path = folder.path().join("bars.parquet");
            std::fs::write(&path, encode(&Columns::of(&bars(0..1000)), form).unwrap()).unwrap();
            assert!(Reader::open(&path).unwrap().read().unwrap().are(&bars(0..1000)));
            append(&path, &Columns::of(&bars(1000..1390))).unwrap();
            let read = Reader::open(&path).unwrap().read().unwrap();
            assert!(read.are(&bars(0..1390)));
            assert!(!read.are(&bars(0..1389)));
            assert!(!read.are(&bars(1..1391)));
        }
    }
}
