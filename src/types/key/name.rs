//! Names: of models, of symbols, of artifacts and tags.
//!
//! All of them come from one small alphabet that is safe in a file name, a URL path segment, a shell word and a log
//! line, so that a name can be used where a person would use it.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::types::{
    error::{Error, ErrorKind, Result},
    limits,
};

/// Checks `text` against the alphabet: ASCII letters, digits and the bytes of `extra`, the first one a letter, a
/// digit or one of `first`.
fn check(what: &str, text: &str, extra: &[u8], first: &[u8], bytes_max: usize) -> Result<()> {
    let operation = "read name";
    if text.is_empty() {
        return Err(Error::invalid(operation, "\"\"", format!("a {what} cannot be empty")));
    }
    if text.len() > bytes_max {
        let message = format!("a {what} has at most {bytes_max} bytes, this one {}", text.len());
        let shown: String = text.chars().take(32).chain("...".chars()).collect();
        return Err(Error::new(ErrorKind::LimitExceeded, operation, shown, message));
    }
    let allowed = |i: usize, b: u8| b.is_ascii_alphanumeric() || first.contains(&b) || (i > 0 && extra.contains(&b));
    match text.char_indices().find(|&(i, c)| !u8::try_from(c).is_ok_and(|b| allowed(i, b))) {
        None => Ok(()),
        Some((at, found)) => {
            let shown = |bytes: &[u8]| bytes.iter().map(|&b| char::from(b)).collect::<String>();
            let all = shown(&[extra, first].concat());
            let or = if first.is_empty() { String::new() } else { format!(", or one of {:?}", shown(first)) };
            let message = format!(
                "{found:?} at byte {at} is not allowed in a {what} (letters, digits and {all:?}; \
                 the first must be a letter or a digit{or})"
            );
            Err(Error::invalid(operation, text, message))
        }
    }
}

macro_rules! name_type {
    ($(#[$docs:meta])* $name:ident, $what:literal, $extra:literal, $first:literal, $bytes_max:expr) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and returns the name.
            ///
            /// # Errors
            /// `InvalidInput` for an empty name or a character outside the alphabet, `LimitExceeded` for one that is
            /// too long.
            pub fn new(text: &str) -> Result<Self> {
                check($what, text, $extra, $first, $bytes_max)?;
                Ok(Self(text.into()))
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the names are equal; for clones of one name, without looking at the text.
            #[inline]
            #[allow(dead_code, reason = "not every kind of name is looked up in a hurry")]
            pub(crate) fn is(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name_type! {
    /// The name of a model: 1 to 128 bytes of ASCII letters, digits, `.`, `_` and `-`, the first a letter or a digit.
    ///
    /// Names are compared byte by byte: `Bounce` and `bounce` are two models.
    ModelName, "model name", b"._-", b"", limits::MODEL_NAME_BYTES_MAX
}

name_type! {
    /// The symbol of an instrument or of an index series: 1 to 64 bytes of ASCII letters, digits and `. _ - ^ = / :`,
    /// the first a letter, a digit or `^` (`AAPL`, `BRK.B`, `BTC-USD`, `9988.HK`, `^VIX`, `EURUSD=X`, `ES/Z18`).
    ///
    /// Symbols are compared byte by byte: `AAPL` and `aapl` are two. What a vendor spells otherwise (`$SPX`, `AT&T`)
    /// has to be mapped.
    Symbol, "symbol", b"._-=/:", b"^", limits::SYMBOL_BYTES_MAX
}

name_type! {
    /// The name of an artifact, a tag or a metric: 1 to 128 bytes of ASCII letters, digits, `.`, `_`, `-` and `/`,
    /// the first a letter or a digit.
    Label, "label", b"._-/", b"", limits::LABEL_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_use_are_accepted() {
        for name in ["bounce", "b", "Bounce-2.1_rc", "9"] {
            assert_eq!(ModelName::new(name).unwrap().as_str(), name);
        }
        for symbol in ["AAPL", "BRK.B", "BTC-USD", "9988.HK", "^VIX", "EURUSD=X", "ES/Z18"] {
            assert_eq!(Symbol::new(symbol).unwrap().as_str(), symbol);
        }
        assert!(ModelName::new(&"x".repeat(128)).is_ok());
    }

    #[test]
    fn a_refused_name_says_which_character_and_where() {
        let err = ModelName::new("my model").unwrap_err();
        assert!(err.message().contains("' ' at byte 2"), "{err}");
        for name in ["", ".hidden", "-rf", "a/b", "a\0b", "größe", "a\n"] {
            assert_eq!(ModelName::new(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        }
        let err = ModelName::new(&"x".repeat(129)).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::LimitExceeded);
    }
}
