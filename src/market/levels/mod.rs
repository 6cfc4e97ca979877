//! Daily levels of index series: VIX, and any other index by name. A level is finite; a day has one level, and writing
//! it again replaces it.

pub(crate) mod csv;
mod known;
pub(crate) mod series;
pub(crate) mod stored;
pub(crate) mod values;
