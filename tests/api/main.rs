//! What the store promises, one module per behaviour, through the public API alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and exact numbers are what it is about"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "tests have no public API")]

mod availability;
mod bars;
mod branches;
mod calendars;
mod corruption;
mod coverage;
mod crashing;
mod csv;
mod damage;
mod deciding;
mod dips;
mod encoding;
mod estimators;
mod evidence;
mod features;
mod fetch_threads;
mod fetching;
mod fetching_many;
mod held;
mod history;
mod indicators;
mod inspection;
mod levels;
mod listing;
mod live;
mod maintenance;
mod managing;
mod mapping;
mod market;
mod matrix;
mod memory;
mod mending;
mod naming;
mod negative_prices;
mod opening;
mod paging;
mod preloading;
mod publishing;
mod reading;
mod resampling;
mod rescaling;
mod scanning;
mod sessions;
mod statistics;
mod support;
mod surroundings;
mod symbols;
mod tiers;
mod training;
mod universe;
mod updating;
mod written;
