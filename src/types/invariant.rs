//! Assertions: what is always so, unless this crate has a defect. What may be wrong by input is an error instead.

use std::fmt;

/// Something that may be absent by its type and never is.
pub(crate) trait Invariant {
    /// What is there.
    type Value;

    /// Returns what is there. `why` says why it always is.
    #[track_caller]
    fn always(self, why: &str) -> Self::Value;
}

impl<T> Invariant for Option<T> {
    type Value = T;

    #[inline]
    #[track_caller]
    fn always(self, why: &str) -> T {
        match self {
            Some(value) => value,
            None => unreachable!("{why}"),
        }
    }
}

impl<T, E: fmt::Display> Invariant for Result<T, E> {
    type Value = T;

    #[inline]
    #[track_caller]
    fn always(self, why: &str) -> T {
        match self {
            Ok(value) => value,
            Err(err) => unreachable!("{why}: {err}"),
        }
    }
}
