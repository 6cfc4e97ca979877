//! The one error type of the crate.
//!
//! An [`Error`] says what was being done (the operation), to what (a path, a key, a table), what went wrong, and,
//! through [`ErrorKind`], what the caller can do about it. `Display` prints this layer only, with what the operating
//! system said if it was the one that failed; the cause is behind [`source`](std::error::Error::source). A caller's own
//! training error never passes through this type: see [`TrainError`].

use std::fmt;

use super::version::Version;

/// What kind of failure an [`Error`] is, named by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file, a model or a version that must exist does not. Create it, or ask for another.
    NotFound,
    /// Another process holds the file, or another `Store` in this one, or a model or a listing of it that is still
    /// held. Close it there, or open another file.
    InUse,
    /// The file belongs to another program. Nothing was written to it.
    NotAStore,
    /// The file was written by a newer release. Upgrade this program; nothing was written to the file.
    NewerFormat,
    /// The file is shorter than its own header says, or was cut by another program while it was open. Restore it from a
    /// backup; nothing was written to it since that was noticed.
    Truncated,
    /// The file was not closed cleanly and read-only access cannot repair it. Open it once for writing.
    NeedsRecovery,
    /// Stored bytes do not match their seal, or their structure is broken. They were not served. A version that is
    /// damaged is quarantined: train and publish anew, or roll back. Where rows may be missing,
    /// [`Store::compact`](crate::Store::compact) and then [`Store::accept_losses`](crate::Store::accept_losses) make an
    /// end of it. A file that cannot be opened is to be restored.
    Corrupt,
    /// The stored model has another schema than the type that was asked for.
    SchemaMismatch,
    /// The head moved since the caller looked: somebody else published, rolled back or removed.
    Conflict {
        /// The current version that the caller named; `None` for "no version yet".
        expected: Option<Version>,
        /// The current version that was found.
        current: Option<Version>,
    },
    /// The store was opened read-only.
    ReadOnly,
    /// An argument is not acceptable; the message says which, where and why.
    InvalidInput,
    /// A value is larger than the limit that the message names.
    LimitExceeded,
    /// A version stands in the way that is pinned, current, or has an alias. Unpin it, roll back, or move the alias
    /// first.
    Pinned,
    /// There is no room for the write, on the device or under `Options::file_bytes_max`. Remove what is not needed, or
    /// open the store with a larger bound.
    StorageFull,
    /// Another program renamed, replaced or removed the file while the store had it open. What was read stays readable,
    /// and nothing is written unless the name comes to mean this file again: drop the store, see what has its name, and
    /// open it.
    Replaced,
    /// A write may or may not have survived: its commit failed, and what became of it cannot be read, or not be made
    /// sure of. Ask the store what it has; what it answers is what the file has.
    OutcomeUnknown,
    /// Something did not end within the time that the caller allows for it. Call again.
    TimedOut,
    /// A listing or a snapshot outlived an I/O error, and its state was given up. Ask again.
    Expired,
    /// The operating system or the storage engine failed. Nothing was changed. Reads go on; the next write tries again,
    /// so there is no need to open the store anew.
    Io,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::InUse => "in use",
            Self::NotAStore => "not a store",
            Self::NewerFormat => "newer format",
            Self::Truncated => "truncated",
            Self::NeedsRecovery => "needs recovery",
            Self::Corrupt => "corrupt",
            Self::SchemaMismatch => "schema mismatch",
            Self::Conflict { .. } => "conflict",
            Self::ReadOnly => "read-only",
            Self::InvalidInput => "invalid input",
            Self::LimitExceeded => "limit exceeded",
            Self::Pinned => "pinned",
            Self::StorageFull => "storage full",
            Self::Replaced => "replaced",
            Self::OutcomeUnknown => "outcome unknown",
            Self::TimedOut => "timed out",
            Self::Expired => "expired",
            Self::Io => "I/O",
        })
    }
}

/// An error of the store: a kind, the operation, its subject, and a message.
///
/// ```
/// use modelkeep::{ErrorKind, ModelKey};
///
/// let err = ModelKey::new("no spaces, please", &()).unwrap_err();
/// assert_eq!(err.kind(), ErrorKind::InvalidInput);
/// assert_eq!(err.subject(), "no spaces, please");
/// ```
pub struct Error(Box<Repr>);

struct Repr {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Repr { kind, operation, subject: subject.into(), message: message.into(), source: None }))
    }

    pub(crate) fn invalid(operation: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, operation, subject, message)
    }

    pub(crate) fn corrupt(operation: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, operation, subject, message)
    }

    /// The error for memory that the operating system does not give.
    pub(crate) fn no_memory(operation: &'static str, subject: impl Into<String>, err: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, operation, subject, "there is no memory for it").with_source(err)
    }

    /// Puts the cause behind it. What the operating system said of an I/O error is part of the message as well: a
    /// program that prints its errors and not their causes is of use only then.
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        let names_the_os = matches!(self.0.kind, ErrorKind::Io | ErrorKind::StorageFull | ErrorKind::OutcomeUnknown);
        if names_the_os
            && let Some(said) = said_by_the_os(&*source)
            && !self.0.message.contains(&said)
        {
            self.0.message = format!("{}: {said}", self.0.message);
        }
        self.0.source = Some(source);
        self
    }

    /// Puts another subject in place of this one.
    pub(crate) fn about(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = subject.into();
        self
    }

    /// Takes the cause out.
    pub(crate) fn into_source(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        self.0.source
    }

    /// Returns the kind: what the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns what was being done, as a verb: `open`, `publish`, `read` ...
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Returns what it was being done to: a path, a model key, a table and key.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Returns what went wrong, without the operation and the subject.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

/// What the operating system said, if it is at the bottom of an error.
fn said_by_the_os(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let from_the_os = |error: &std::io::Error| error.raw_os_error().is_some();
    let found = causes.filter_map(|error| error.downcast_ref::<std::io::Error>()).find(|error| from_the_os(error));
    found.map(ToString::to_string)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repr { operation, subject, message, .. } = &*self.0;
        write!(f, "{operation} {subject}: {message}")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("subject", &self.0.subject)
            .field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The failure of a call that trains: either the caller's own error, untouched, or the store's.
///
/// `Display` and `Error` are there for every `E` that prints itself, so that `?` works with `Box<dyn Error>` and with
/// the caller's own enum alike. That `E` may be any of them has a price: `source()` does not lead into the caller's
/// error. Match on [`TrainError::Train`] to get the value back, causes and all.
#[derive(Debug, thiserror::Error)]
pub enum TrainError<E: fmt::Debug + fmt::Display> {
    /// What the training closure returned.
    #[error("{0}")]
    Train(E),
    /// The store could not do its part, and there is no model to return.
    #[error(transparent)]
    Store(#[from] Error),
}

/// `None` in place of the error that something is damaged.
pub(crate) fn unless_corrupt<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(err) if err.kind() == ErrorKind::Corrupt => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_layer_and_source_is_the_next() {
        let err = Error::new(ErrorKind::Io, "open", "a.redb", "cannot read")
            .with_source(std::io::Error::other("the disk is on fire"));
        assert_eq!(err.to_string(), "open a.redb: cannot read");
        let source = std::error::Error::source(&err).unwrap();
        assert_eq!(source.to_string(), "the disk is on fire");
    }

    #[test]
    fn what_the_operating_system_said_is_in_the_message_once() {
        // ENOSPC and EIO, on every Unix.
        let os = |code| std::io::Error::from_raw_os_error(code);
        let full = Error::new(ErrorKind::StorageFull, "publish", "a.redb", "there is no room left").with_source(os(28));
        assert_eq!(full.to_string(), format!("publish a.redb: there is no room left: {}", os(28)));
        let failed = Error::new(ErrorKind::Io, "read", "a.redb", "the file cannot be read").with_source(os(5));
        assert!(failed.message().ends_with(&os(5).to_string()), "{failed}");
        // A layer above says it too, whatever lies between, and nobody says it twice.
        let above = Error::new(ErrorKind::OutcomeUnknown, "publish", "a.redb", "nobody knows").with_source(failed);
        assert_eq!(above.message(), format!("nobody knows: {}", os(5)));
        let again = format!("it failed: {}", above.message());
        let top = Error::new(ErrorKind::Io, "publish", "m", again.clone()).with_source(above);
        assert_eq!(top.message(), again);
        // A kind that says all there is to say stays as it is.
        let missing = Error::new(ErrorKind::NotFound, "open", "a.redb", "there is no such file").with_source(os(2));
        assert_eq!(missing.message(), "there is no such file");
    }

    #[test]
    fn a_training_error_is_returned_as_it_was() {
        let err: TrainError<String> = TrainError::Train("no convergence".into());
        assert_eq!(err.to_string(), "no convergence");
    }

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
