//! What a power cut, a failed sync and a full disk leave, at every access to the disk.
//!
//! The store runs on a real file and a watched disk, which keeps a log of all that passes. From the log every state is
//! made that a power cut could have left: what was synced is there, and of what was not, any part.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and exact numbers are what it is about"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "tests have no public API")]

mod closing;
mod cuts;
mod disk;
mod faults;
mod image;
mod outages;
mod recovering;
mod support;
