//! Data from elsewhere: who brings it, how often he is asked, and a load that asks for what is missing.

pub(crate) mod answer;
pub(crate) mod fetcher;
pub(crate) mod load;
pub(crate) mod many;
mod need;
mod plan;
pub(crate) mod policy;
pub(crate) mod report;
pub(crate) mod requests;
