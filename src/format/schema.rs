//! What type an archive holds, and how rkyv was configured when it was written.
//!
//! rkyv's validation proves that bytes have the structure of a type, not that they were written as that type: two
//! structs of two `f64` look the same. So a schema's name and version travel in every envelope. rkyv's layout also
//! follows cargo features, which unify across the build of whoever links this crate; the layout is asserted when the
//! crate is compiled and stored beside the schema.

use std::fmt;

use crate::types::{
    error::{Error, Result},
    key::Label,
};

/// The schema of an archived type: a name and a version.
///
/// Raise the version whenever a field is added, removed, reordered or changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    name: &'static str,
    version: u32,
}

impl Schema {
    /// Returns the schema `name` in its version `version`.
    ///
    /// A name has 1 to 128 bytes of ASCII letters, digits, `.`, `_`, `-` and `/`; it is checked when a model of the
    /// type is published.
    #[must_use]
    pub const fn new(name: &'static str, version: u32) -> Self {
        Self { name, version }
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the version.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Returns this schema as it is stored: with a name that is owned and checked.
    pub(crate) fn tag(&self) -> Result<SchemaTag> {
        let name = Label::new(self.name).map_err(|err| {
            Error::invalid("read schema", self.name, "the schema's name is not a label").with_source(err)
        })?;
        Ok(SchemaTag { name, version: self.version })
    }

    /// The name as eight bytes for the envelope.
    pub(crate) fn id(&self) -> u64 {
        schema_id(self.name)
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

/// A schema as it was found in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchemaTag {
    pub(crate) name: Label,
    pub(crate) version: u32,
}

impl SchemaTag {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn id(&self) -> u64 {
        schema_id(self.name())
    }

    pub(crate) fn is(&self, schema: &Schema) -> bool {
        self.name() == schema.name && self.version == schema.version
    }
}

impl fmt::Display for SchemaTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} v{}", self.name, self.version))
    }
}

fn schema_id(name: &str) -> u64 {
    let hash = blake3::derive_key("modelkeep 2026 schema id v1", name.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// How rkyv lays out archives in this build: byte 0 endianness (1 little), byte 1 alignment (1 natural), byte 2 the
/// width of relative pointers in bytes, byte 3 rkyv's archive format (8 for 0.8).
pub(crate) const RKYV_LAYOUT: u32 = u32::from_le_bytes([1, 1, 4, 8]);

// A dependency that switches on `big_endian`, `unaligned` or another `pointer_width_*` would make this build write
// another format under the same name. These identities are type errors then.
const _: fn(rkyv::primitive::ArchivedU64) -> rkyv::rend::u64_le = |archived| archived;
const _: fn(rkyv::primitive::ArchivedIsize) -> rkyv::rend::i32_le = |archived| archived;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archived_integers_are_little_endian() {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&0x0102_0304_u32).unwrap();
        assert_eq!(bytes.as_slice(), [4, 3, 2, 1]);
    }

    #[test]
    fn a_schema_is_told_apart_by_name_and_by_version() {
        let tag = Schema::new("bounce", 1).tag().unwrap();
        assert!(tag.is(&Schema::new("bounce", 1)));
        assert!(!tag.is(&Schema::new("bounce", 2)));
        assert!(!tag.is(&Schema::new("other", 1)));
        assert_ne!(Schema::new("bounce", 1).id(), Schema::new("other", 1).id());
    }
}
