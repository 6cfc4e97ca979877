//! What a store does with models, as its options say.

use std::time::Duration;

use super::maintenance::Maintenance;
use crate::format::envelope::Verify;

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
