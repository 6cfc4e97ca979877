//! Keys of rows: fields one after the other, such that the bytes sort as the fields do.
//!
//! Text ends with a zero byte, which no name holds; integers are big-endian, signed ones with their sign flipped. Each
//! table says which [fields](Field) its keys have, and [`describe`] shows a key by them.

use super::{ConfigHash, ModelKey, ModelName, shown};
use crate::types::{hash::hex, time::span_text};

/// What a field of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Text that ends with a zero byte, or with the key.
    Text,
    /// 32 bytes behind a text: the two together name a model, or computed columns.
    Hash,
    /// A version: u64.
    Version,
    /// A number in order: u64.
    Number,
    /// A year: u16.
    Year,
    /// A length of time in nanoseconds: u64, 0 for none.
    Span,
    /// The number of a period: i64.
    Period,
    /// The id of an archive: u64, little-endian as redb compares it.
    Archive,
    /// Text up to the end of the key.
    Tail,
    /// Bytes up to the end of the key.
    Bytes,
}

/// Bytes that most keys stay below: a name, a hash, a version.
const USUAL_BYTES: usize = 96;

/// The key of a row, as it is put together.
#[derive(Debug)]
pub(crate) struct RowKey(Vec<u8>);

impl RowKey {
    /// Returns a key without fields yet.
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(USUAL_BYTES))
    }

    /// Adds a text, which holds no zero byte.
    pub(crate) fn text(mut self, text: &str) -> Self {
        debug_assert!(!text.as_bytes().contains(&0), "a zero byte ends a text");
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self
    }

    /// Adds a hash.
    pub(crate) fn hash(self, hash: &[u8; 32]) -> Self {
        self.bytes(hash)
    }

    /// Adds a number.
    pub(crate) fn u16(self, number: u16) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Adds a number.
    pub(crate) fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Adds a number.
    pub(crate) fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Adds a number that may be negative.
    pub(crate) fn i64(self, number: i64) -> Self {
        self.u64(number.cast_unsigned() ^ (1 << 63))
    }

    /// Adds a model: its name and the hash of its configuration.
    pub(crate) fn model(self, key: &ModelKey) -> Self {
        self.text(key.name().as_str()).hash(key.config_hash().as_bytes())
    }

    /// Adds bytes as they are.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Returns the bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The fields of a stored key, read one after the other. Each is `None` when the key is too short for it, or holds
/// something else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Returns the fields of `key`.
    pub(crate) fn of(key: &'a [u8]) -> Self {
        Self(key)
    }

    /// Reads a text.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        let text = std::str::from_utf8(text).ok()?;
        self.0 = rest.get(1..)?;
        Some(text)
    }

    /// Reads so many bytes.
    pub(crate) fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(chunk)
    }

    /// Reads a number.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Reads a number.
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// Reads a number that may be negative.
    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.u64().map(|number| (number ^ (1 << 63)).cast_signed())
    }

    /// Reads a model.
    pub(crate) fn model(&mut self) -> Option<ModelKey> {
        let name = ModelName::new(self.text()?).ok()?;
        Some(ModelKey::from_hash(name, ConfigHash::from_bytes(*self.chunk()?)))
    }

    /// Returns what was not read yet.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// The key of a row for people, by the fields that its table says it has; what is something else is shown in hex
/// digits.
pub(crate) fn describe(layout: &[Field], key: &[u8]) -> String {
    let (mut text, mut fields) = (String::new(), Fields::of(key));
    for field in layout {
        let before = fields;
        let Some(part) = part(*field, &mut fields) else {
            fields = before;
            break;
        };
        match field {
            _ if part.is_empty() => {}
            Field::Hash => text = format!("{text}@{part}"),
            _ if text.is_empty() => text = part,
            _ => text = format!("{text} {part}"),
        }
    }
    match fields.rest() {
        [] => text,
        rest => format!("{text}\\x{}", hex(rest)),
    }
}

fn part(field: Field, fields: &mut Fields<'_>) -> Option<String> {
    Some(match field {
        _ if fields.rest().is_empty() => String::new(),
        Field::Text if fields.rest().contains(&0) => printable(fields.text()?)?,
        Field::Text | Field::Tail => printable(std::str::from_utf8(take_rest(fields)).ok()?)?,
        Field::Hash => hex(fields.chunk::<32>()?).chars().take(12).collect(),
        Field::Version => format!("v{}", fields.u64()?),
        Field::Number => fields.u64()?.to_string(),
        Field::Year => fields.u16()?.to_string(),
        Field::Span => match fields.u64()? {
            0 => String::new(),
            nanos => span_text(nanos),
        },
        Field::Period => fields.i64()?.to_string(),
        Field::Archive => u64::from_le_bytes(*fields.chunk()?).to_string(),
        Field::Bytes => hex(take_rest(fields)),
    })
}

fn printable(text: &str) -> Option<String> {
    text.chars().all(|c| !c.is_control()).then(|| shown(text).into_owned())
}

fn take_rest<'a>(fields: &mut Fields<'a>) -> &'a [u8] {
    std::mem::take(&mut fields.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::key::Symbol;

    #[test]
    fn rows_are_described_for_people() {
        let key = ModelKey::new("bounce", &()).unwrap();
        let row = |layout: &[Field], tail: &[u8]| describe(layout, &RowKey::new().model(&key).bytes(tail).into_bytes());
        let model = [Field::Text, Field::Hash];
        assert_eq!(row(&model, b""), key.to_string());
        assert_eq!(row(&[Field::Text, Field::Hash, Field::Tail], b"BRK.B"), format!("{key} BRK.B"));
        // Eight letters are no version, and a version is no symbol: the table knows.
        assert_eq!(row(&[Field::Text, Field::Hash, Field::Tail], b"ABCDEFGH"), format!("{key} ABCDEFGH"));
        let artifact = [Field::Text, Field::Hash, Field::Version, Field::Tail];
        assert_eq!(row(&artifact, &RowKey::new().u64(7).into_bytes()), format!("{key} v7"));
        assert_eq!(
            row(&artifact, &RowKey::new().u64(7).bytes(b"report.txt").into_bytes()),
            format!("{key} v7 report.txt")
        );
        assert_eq!(describe(&[Field::Text, Field::Year], b"VIX\0\x07\xe2"), "VIX 2018");
        let period = RowKey::new().i64(100).into_bytes();
        assert_eq!(row(&[Field::Text, Field::Hash, Field::Period], &period), format!("{key} 100"));
        let bars = [Field::Text, Field::Span, Field::Span, Field::Period];
        let series = RowKey::new().text("BRK.B").u64(60_000_000_000).u64(0).i64(24_000).into_bytes();
        assert_eq!(describe(&bars, &series), "BRK.B 1m 24000");
        assert_eq!(describe(&bars, b"levels/VIX"), "levels/VIX");
        let spaced = RowKey::new().text("BRK 1m").u64(60_000_000_000).u64(0).i64(7).into_bytes();
        assert_eq!(describe(&bars, &spaced), "\"BRK 1m\" 1m 7");
        assert_eq!(describe(&[Field::Tail], b"stamp"), "stamp");
        assert_eq!(describe(&[Field::Tail], &[1, 2]), "\\x0102");
        assert_eq!(describe(&[Field::Archive], &7_u64.to_le_bytes()), "7");
    }

    /// What vendors write, and what could be taken for the end of a text.
    fn symbols() -> impl Strategy<Value = Symbol> {
        "[!-~]( ?[!-~]){0,31}".prop_map(|text| Symbol::new(&text).unwrap())
    }

    proptest! {
        #[test]
        fn rows_of_symbols_stay_apart_and_sort_as_they_do(
            a in symbols(), b in symbols(), span in any::<u64>(), i in any::<i64>(),
        ) {
            let key = |symbol: &Symbol| RowKey::new().text(symbol.as_str()).u64(span).i64(i).into_bytes();
            let prefix = |symbol: &Symbol| RowKey::new().text(symbol.as_str()).into_bytes();
            prop_assert_eq!(a.cmp(&b), key(&a).cmp(&key(&b)));
            prop_assert_eq!(a == b, key(&b).starts_with(&prefix(&a)));
            let bytes = key(&a);
            let mut fields = Fields::of(&bytes);
            prop_assert_eq!(Symbol::new(fields.text().unwrap()).unwrap(), a.clone());
            prop_assert_eq!((fields.u64(), fields.i64(), fields.rest()), (Some(span), Some(i), &b""[..]));
            let layout = [Field::Text, Field::Span, Field::Period];
            prop_assert_eq!(a == b, describe(&layout, &key(&a)) == describe(&layout, &key(&b)));
        }

        #[test]
        fn keys_sort_as_their_fields_do(
            a in ("[ -~]{0,8}", any::<u64>(), any::<i64>()),
            b in ("[ -~]{0,8}", any::<u64>(), any::<i64>()),
        ) {
            let key = |(text, n, i): &(String, u64, i64)| RowKey::new().text(text).u64(*n).i64(*i).into_bytes();
            prop_assert_eq!(a.cmp(&b), key(&a).cmp(&key(&b)));
            let bytes = key(&a);
            let mut fields = Fields::of(&bytes);
            prop_assert_eq!((fields.text(), fields.u64(), fields.i64()), (Some(a.0.as_str()), Some(a.1), Some(a.2)));
            prop_assert!(fields.rest().is_empty());
        }

        #[test]
        fn any_bytes_are_described(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let all = [Field::Text, Field::Hash, Field::Version, Field::Year, Field::Span, Field::Period, Field::Bytes];
            for from in 0..all.len() {
                describe(&all[from..], &bytes);
            }
        }
    }
}
