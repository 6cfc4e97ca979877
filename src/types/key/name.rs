//! Names: of models, of symbols, of artifacts and tags.
//!
//! Names of models and labels come from one small alphabet that is safe in a file name, a URL path segment, a shell
//! word and a log line. Symbols are what vendors write, and so any printable ASCII: no path may be made of one, and a
//! message that puts words beside one uses [`shown`].

use std::{
    borrow::{Borrow, Cow},
    fmt,
    str::FromStr,
    sync::Arc,
};

use crate::types::{
    error::{Error, ErrorKind, Result},
    limits,
};

const OPERATION: &str = "read name";

fn check_length(what: &str, text: &str, bytes_max: usize) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(OPERATION, "\"\"", format!("a {what} cannot be empty")));
    }
    if text.len() > bytes_max {
        let message = format!("a {what} has at most {bytes_max} bytes, this one {}", text.len());
        let shown: String = text.chars().take(32).chain("...".chars()).collect();
        return Err(Error::new(ErrorKind::LimitExceeded, OPERATION, shown, message));
    }
    Ok(())
}

/// Checks `text` against the alphabet: ASCII letters, digits and the bytes of `extra`, the first one a letter or a
/// digit.
fn check(what: &str, text: &str, extra: &str, bytes_max: usize) -> Result<()> {
    check_length(what, text, bytes_max)?;
    // Every name of a list comes by here: letters, digits and the rest by their bytes, and words only for an error.
    let mut bytes = text.bytes();
    let is_first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if is_first && bytes.all(|byte| byte.is_ascii_alphanumeric() || extra.as_bytes().contains(&byte)) {
        return Ok(());
    }
    let allowed = |at: usize, c: char| c.is_ascii_alphanumeric() || (at > 0 && extra.contains(c));
    match text.char_indices().find(|&(at, c)| !allowed(at, c)) {
        None => Ok(()),
        Some((at, found)) => {
            let message = format!(
                "{found:?} at byte {at} is not allowed in a {what} (letters, digits and {extra:?}; \
                 the first must be a letter or a digit)"
            );
            Err(Error::invalid(OPERATION, text, message))
        }
    }
}

/// Checks `text` against what a symbol may be: printable ASCII, and single spaces within.
fn check_symbol(text: &str) -> Result<()> {
    let (what, max) = ("symbol", limits::SYMBOL_BYTES_MAX);
    check_length(what, text, max)?;
    let refuse = |at: usize, found: char, why: &str| {
        let message = format!("{found:?} at byte {at} is not allowed in a {what} ({why})");
        Err(Error::invalid(OPERATION, text, message))
    };
    let mut before = ' ';
    for (at, found) in text.char_indices() {
        match found {
            ' ' if at == 0 || at + 1 == text.len() => return refuse(at, found, "it begins and ends without a space"),
            ' ' if before == ' ' => return refuse(at, found, "spaces within are single"),
            ' '..='~' => {}
            _ => return refuse(at, found, "printable ASCII, and single spaces within"),
        }
        before = found;
    }
    Ok(())
}

/// A text beside which other words stand: quoted where it would not be clear where it ends.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if text.contains([' ', '"', '\\']) { format!("{text:?}").into() } else { text.into() }
}

macro_rules! name_type {
    ($(#[$docs:meta])* $name:ident, $check:expr) => {
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
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Where its text is: clones of one name have it at one address, and nothing else is there meanwhile.
            #[inline]
            #[allow(dead_code, reason = "not every kind of name is looked up in a hurry")]
            pub(crate) fn address(&self) -> usize {
                self.0.as_ptr().addr()
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
    ModelName, |text| check("model name", text, "._-", limits::MODEL_NAME_BYTES_MAX)
}

name_type! {
    /// The symbol of an instrument or of an index series, as the vendor writes it: 1 to 64 bytes of printable ASCII,
    /// with single spaces within (`AAPL`, `BRK.B`, `BRK B`, `^VIX`, `$SPX`, `M&M.NS`, `EUR/USD`, `EURUSD=X`, `/ESM4`,
    /// `CL+1`).
    ///
    /// Symbols are compared byte by byte: `AAPL` and `aapl` are two, and so are `BRK.B` and `BRK B`. A symbol may hold
    /// `/`, `..` and what a shell reads otherwise: a program that names files after symbols has to map them.
    Symbol, check_symbol
}

name_type! {
    /// The name of an artifact, a tag or a metric: 1 to 128 bytes of ASCII letters, digits, `.`, `_`, `-` and `/`,
    /// the first a letter or a digit.
    Label, |text| check("label", text, "._-/", limits::LABEL_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_use_are_accepted() {
        for name in ["bounce", "b", "Bounce-2.1_rc", "9"] {
            assert_eq!(ModelName::new(name).unwrap().as_str(), name);
        }
        for symbol in [
            "AAPL",
            "BRK.B",
            "BTC-USD",
            "9988.HK",
            "^VIX",
            "EURUSD=X",
            "ES/Z18",
            "EUR/USD",
            "/ESM4",
            "M&M.NS",
            "CL+1",
            "BRK B",
            "$SPX",
            "SPX 4500 C",
            "-",
            "~",
            "A\"B",
            "../A",
        ] {
            assert_eq!(Symbol::new(symbol).unwrap().as_str(), symbol);
        }
        assert!(Symbol::new(&"x".repeat(64)).is_ok());
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

    #[test]
    fn a_refused_symbol_says_which_character_and_where() {
        for (text, part) in [
            (" A", "' ' at byte 0 is not allowed in a symbol (it begins and ends without a space)"),
            ("A ", "' ' at byte 1"),
            ("A  B", "' ' at byte 2 is not allowed in a symbol (spaces within are single)"),
            ("A\tB", "'\\t' at byte 1"),
            ("A\0", "'\\0' at byte 1"),
            ("A\u{7f}", "at byte 1"),
            ("größe", "'ö' at byte 2 is not allowed in a symbol (printable ASCII"),
            ("", "cannot be empty"),
            (" ", "' ' at byte 0"),
        ] {
            let err = Symbol::new(text).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::InvalidInput);
            assert!(err.message().contains(part), "{text:?}: {err}");
        }
        assert_eq!(Symbol::new(&"x".repeat(65)).unwrap_err().kind(), ErrorKind::LimitExceeded);
    }

    #[test]
    fn where_a_symbol_ends_can_be_seen() {
        for (symbol, expected) in [("BRK.B", "BRK.B"), ("BRK B", "\"BRK B\""), ("A\"", r#""A\"""#), (r"A\", r#""A\\""#)]
        {
            assert_eq!(shown(symbol), expected);
        }
    }
}
