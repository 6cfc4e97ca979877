//! Takes the mechanisms away, one by one, and looks which tests die.
//!
//!     cargo test --test mutations -- --ignored --nocapture
//!
//! Each mutation is applied to a copy of this project; a test that goes on is a survivor, and fails the run.
//! `MODELKEEP_MUTATIONS` names the only ones to be tried, separated by commas. What runs with all other tests is that
//! every mutation can be applied, that its tests exist, and that each hazard of docs/hazards.md has one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and says how long it took"
)]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "tests have no public API")]

mod decided;
mod failed;
mod held;
mod loaded;
mod published;
mod stored;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What orders the threads of a test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checker {
    /// The machine.
    None,
    Loom,
    Shuttle,
}

/// A change that takes a mechanism away.
#[derive(Clone, Copy)]
struct Mutation {
    name: &'static str,
    file: &'static str,
    old: &'static str,
    new: &'static str,
    /// `lib`, the name of a test target, or [`ESTIMATORS`].
    target: &'static str,
    tests: &'static [&'static str],
    checker: Checker,
}

fn mutations() -> impl Iterator<Item = &'static Mutation> {
    held::MUTATIONS
        .iter()
        .chain(failed::MUTATIONS)
        .chain(decided::MUTATIONS)
        .chain(loaded::MUTATIONS)
        .chain(published::MUTATIONS)
        .chain(stored::MUTATIONS)
}

/// The crate beside this one.
const ESTIMATORS: &str = "modelkeep-estimators";

/// A mutation may make a test go on for ever.
const PATIENCE: Duration = Duration::from_secs(600);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file in `folder` with the mutation.
fn mutated(folder: &Path, mutation: &Mutation) -> String {
    let text = fs::read_to_string(folder.join(mutation.file)).unwrap();
    let found = text.matches(mutation.old).count();
    assert_eq!(found, 1, "{}: {} has it {found} times", mutation.name, mutation.file);
    assert_ne!(mutation.old, mutation.new);
    text.replace(mutation.old, mutation.new)
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_mutation_can_be_applied_and_its_tests_exist() {
    let mut names = BTreeSet::new();
    for mutation in mutations() {
        assert!(names.insert(mutation.name), "{} is there twice", mutation.name);
        mutated(root(), mutation);
        let folder = match mutation.target {
            "lib" => root().join("src"),
            ESTIMATORS => root().join("crates/estimators/src"),
            target => root().join("tests").join(target),
        };
        let texts: Vec<String> = sources(&folder).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        for test in mutation.tests {
            let function = format!("fn {}(", test.rsplit("::").next().unwrap());
            assert!(texts.iter().any(|text| text.contains(&function)), "{}: there is no test {test}", mutation.name);
        }
    }
}

/// Each row of the table names mutations, and each mutation is in one of its rows, beside its test.
#[test]
fn every_hazard_has_a_mutation() {
    let hazards = fs::read_to_string(root().join("docs/hazards.md")).unwrap();
    let (_, table) = hazards.split_once("## Hazards").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap_or((table, ""));
    let rows: Vec<Vec<&str>> =
        table.lines().filter(|line| line.starts_with("| ")).map(|line| line.split(" | ").collect()).skip(1).collect();
    assert!(rows.len() > 20, "the table was not found");
    let mut named = BTreeSet::new();
    for row in rows {
        let [_, _, tests, last] = row.as_slice() else { panic!("{row:?}") };
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no mutation: {row:?}");
        for name in names {
            let mutation = mutations().find(|mutation| mutation.name == name);
            let mutation = mutation.unwrap_or_else(|| panic!("there is no mutation {name}"));
            let shown = mutation.tests.iter().all(|test| tests.contains(test.rsplit("::").next().unwrap()));
            assert!(shown, "the row of {name} does not name {:?}", mutation.tests);
            named.insert(name);
        }
    }
    let without_row: Vec<_> = mutations().map(|mutation| mutation.name).filter(|name| !named.contains(name)).collect();
    assert!(without_row.is_empty(), "no hazard names {without_row:?}");
}

/// A copy of everything that is under version control, as it lies here.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let listed =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git does not list the files of this project");
    for name in String::from_utf8(listed.stdout).unwrap().lines() {
        let (from, to) = (root().join(name), copy.path().join(name));
        if from.is_file() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
    }
    copy
}

fn cargo(copy: &Path, mutation: &Mutation, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(copy).args(["test", "--locked"]);
    match mutation.checker {
        Checker::None => {}
        Checker::Loom => drop(command.env("RUSTC_WORKSPACE_WRAPPER", copy.join("tests/checkers/loom"))),
        Checker::Shuttle => drop(command.env("RUSTC_WORKSPACE_WRAPPER", copy.join("tests/checkers/shuttle"))),
    }
    match mutation.target {
        "lib" => command.arg("--lib"),
        ESTIMATORS => command.args(["-p", ESTIMATORS, "--lib"]),
        target => command.args(["--test", target]),
    };
    // An empty folder of its own the first time; then what was built is there.
    command.args(arguments).env("CARGO_TARGET_DIR", root().join("target/mutations"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).env_remove("RUST_BACKTRACE");
    command
}

/// Whether it ended, and well. One that does not end within the patience is ended, with all that it started.
fn ends_well(mut child: Child) -> bool {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        if began.elapsed() > PATIENCE {
            let _gone = Command::new("pkill").args(["-KILL", "-P", &child.id().to_string()]).status();
            child.kill().unwrap();
            child.wait().unwrap();
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "builds the project once for each mutation: half an hour"]
fn no_mutation_survives() {
    let (copy, wanted) = (copy(), std::env::var("MODELKEEP_MUTATIONS").ok());
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|wanted| wanted == name));
    for mutation in mutations().filter(|mutation| is_wanted(mutation.name)) {
        for test in mutation.tests {
            let passes = ends_well(cargo(copy.path(), mutation, &["--", "--exact", test]).spawn().unwrap());
            assert!(passes, "without a mutation: {test}");
        }
    }
    let mut survivors = Vec::new();
    for mutation in mutations().filter(|mutation| is_wanted(mutation.name)) {
        let (path, began) = (copy.path().join(mutation.file), Instant::now());
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, mutated(copy.path(), mutation)).unwrap();
        let builds = cargo(copy.path(), mutation, &["--no-run"]).status().unwrap();
        assert!(builds.success(), "{} does not build", mutation.name);
        let alive: Vec<_> = mutation
            .tests
            .iter()
            .filter(|test| ends_well(cargo(copy.path(), mutation, &["--", "--exact", test]).spawn().unwrap()))
            .collect();
        fs::write(&path, whole).unwrap();
        let what = if alive.is_empty() { "killed" } else { "SURVIVED" };
        println!("{what} {} ({:.0} s)", mutation.name, began.elapsed().as_secs_f64());
        survivors.extend(alive.iter().map(|test| format!("{}: {test} passes", mutation.name)));
    }
    assert!(survivors.is_empty(), "survivors: {survivors:#?}");
}
