//! Looking at a store from outside: is it whole, what takes up its space, what changed between two versions.
//!
//! Everything here reads. It works on a store that is opened read-only, and it goes on past what is damaged, because
//! what is damaged is what one looks for.

mod diff;
#[cfg(feature = "market")]
mod look_ahead;
mod usage;
mod verify;

#[cfg(feature = "market")]
pub use look_ahead::{Audit, AuditReport, Emitted, LookAhead};
pub use usage::Usage;
pub use verify::{Damage, Verification};
