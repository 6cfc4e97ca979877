//! The torture, for some seconds; `examples/torture.rs` goes on for hours.

#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "tests have no public API")]

#[path = "../../examples/torture/mod.rs"]
mod torture;

/// How long, if it is said.
const SECONDS: &str = "MODELKEEP_TORTURE_SECONDS";

#[test]
fn whatever_is_done_meanwhile_what_is_taken_is_what_was_stored() {
    let folder = tempfile::tempdir().unwrap_or_else(|err| panic!("{err}"));
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
    let mut nothing = None;
    // What a run comes to depends on the machine: until everything was tried.
    for seed in 1..=12 {
        let settings = torture::Settings { seconds, seed, folder: folder.path().to_owned() };
        let report = torture::run(&settings, |_| {});
        nothing = report.figures().into_iter().find(|(_, figure)| *figure == 0);
        if nothing.is_none_or(|(name, _)| name.contains("unknown")) {
            return;
        }
    }
    panic!("not tried: {nothing:?}");
}
