//! What a store does with models, as its options say.

use std::time::Duration;

use crate::format::envelope::Verify;

/// Who compresses superseded versions, and removes those beyond the [retention](crate::Options::retention), and when.
///
/// It concerns archives of 16 KiB and more. Smaller ones are seen to by the publish itself, and so are all of a store
/// that keeps one version.
///
/// What a publish leaves is noted in the file, in its own transaction. Until it is done a model may have one version
/// more than is kept; one whose versions still wait when it is published again has them removed by that publish. When
/// archives of more than 512 MiB wait, publishes leave nothing until there is less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Maintenance {
    /// A thread of the store, in commits of their own, 20 ms after a publish. The default. It goes on after a restart,
    /// and is finished by [`Store::close`](crate::Store::close).
    #[default]
    InBackground,
    /// The caller of [`Store::run_maintenance`](crate::Store::run_maintenance); what is left then is finished by
    /// [`Store::close`](crate::Store::close), and not by a drop.
    OnRequest,
    /// Each publish, in its own transaction, which takes that much longer.
    WithPublish,
}

/// The part of the options that is about models.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelSettings {
    pub(crate) hot_bytes: u64,
    pub(crate) hot_max_age: Option<Duration>,
    pub(crate) verify: Verify,
    pub(crate) retention: Option<usize>,
    pub(crate) compress_superseded: bool,
    pub(crate) maintenance: Maintenance,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            hot_bytes: 256 << 20,
            hot_max_age: None,
            verify: Verify::Full,
            retention: Some(8),
            compress_superseded: true,
            maintenance: Maintenance::default(),
        }
    }
}
