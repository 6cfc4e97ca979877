//! What the store promises, one module per behaviour, through the public API alone.

#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "tests have no public API")]

mod corruption;
mod dips;
mod estimators;
mod inspection;
mod listing;
mod managing;
mod opening;
mod publishing;
mod reading;
mod statistics;
mod support;
mod training;
mod updating;
mod vix;
