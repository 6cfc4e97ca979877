//! CSV files of vendors: what bars and levels have in common. A file is read whole, each line with its number, and
//! written whole or not at all.

pub(crate) mod options;
pub(crate) mod read;
pub(crate) mod times;
pub(crate) mod write;
