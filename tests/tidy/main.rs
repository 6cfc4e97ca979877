//! The house rules that a compiler does not check: layers, headers, sizes, and where `unsafe` may be.

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
#![allow(missing_docs, reason = "tests have no public API")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Layers from the bottom, each of folders. A folder may import folders of lower layers, and itself; no file lies
/// beside them.
const LAYERS: [&[&str]; 7] =
    [&["types"], &["sync", "format"], &["engine", "cache"], &["core"], &["models", "market"], &["store"], &["inspect"]];

const LINES_MAX: usize = 500;

/// Where `unsafe` may be: casts of checked bytes, code for certain processors, the map, its memory and who vouches for
/// what is lent of it, hazard pointers.
const UNSAFE: [&str; 17] = [
    "src/models/archive.rs",
    "src/format/columns/simd.rs",
    "src/format/huge_pages.rs",
    "src/format/pool.rs",
    "src/format/prefetch.rs",
    "src/engine/mapped/map.rs",
    "src/engine/mapped/memory.rs",
    "src/engine/view.rs",
    "src/engine/writeback.rs",
    "src/cache/hazard/mod.rs",
    "src/cache/hazard/tests.rs",
    "src/cache/index.rs",
    "src/cache/mod.rs",
    "src/engine/snapshot.rs",
    "src/engine/mapped/memory_elsewhere.rs",
    "src/engine/mapped/tests.rs",
    "src/models/entry.rs",
];

fn files(root: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(root)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no files in {root}");
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The top-level module that a file belongs to; `None` for `lib.rs`.
fn module(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    let name = first.trim_end_matches(".rs");
    (name != "lib").then(|| name.to_owned())
}

/// Every module that a source text names after `crate::`, also in braces.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(braces) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut item) = (1, String::new());
        for c in braces.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => found.push(word(std::mem::take(&mut item).trim())),
                _ if depth == 1 => item.push(c),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        found.push(word(item.trim()));
    }
    found.retain(|name| layer(name).is_some());
    found
}

#[test]
fn imports_point_down_and_siblings_are_strangers() {
    let mut seen = BTreeMap::new();
    for path in files("src") {
        let Some(module) = module(&path) else { continue };
        let own = layer(&module).unwrap_or_else(|| panic!("{module} has no layer: add it to LAYERS"));
        for import in imports(&read(&path)) {
            let other = layer(&import).unwrap();
            let allowed = other < own || import == module;
            assert!(allowed, "{}: {module} (L{own}) imports {import} (L{other})", path.display());
            *seen.entry((module.clone(), import)).or_insert(0) += 1;
        }
    }
    // The parser sees something: these imports are known to be there.
    for (module, import) in [("store", "models"), ("core", "engine"), ("engine", "format"), ("inspect", "store")] {
        assert!(seen.contains_key(&(module.into(), import.into())), "{module} -> {import}");
    }
}

#[test]
fn only_the_engine_names_redb_and_only_the_codec_names_zstd() {
    for path in files("src") {
        let module = module(&path).unwrap_or_default();
        for line in read(&path).lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(module == "engine" || !line.contains("redb::"), "{}: {line}", path.display());
            assert!(path.ends_with("format/codec.rs") || !line.contains("zstd::"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn unsafe_is_where_it_belongs_and_says_why() {
    let mut used = 0;
    for path in files("src").into_iter().chain(files("crates")) {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if line.contains("unsafe {") || line.contains("unsafe impl") || line.contains("unsafe fn") {
                assert!(UNSAFE.iter().any(|file| path.ends_with(file)), "{}: {line}", path.display());
                let above = &lines[at.saturating_sub(6)..at];
                let says_why = |line: &&str| line.contains("SAFETY:") || line.contains("# Safety");
                assert!(above.iter().any(says_why), "{line}");
                used += 1;
            }
        }
    }
    assert_eq!(used, 81, "a use of unsafe code that this test does not know of, or one less");
}

#[test]
fn every_file_says_what_it_owns_and_none_is_too_long() {
    for root in ["src", "crates", "tests", "examples", "benches"] {
        for path in files(root) {
            let text = read(&path);
            let name = path.display();
            assert!(text.starts_with("//! "), "{name} does not open with //!");
            let lines = text.lines().count();
            assert!(lines <= LINES_MAX, "{name} has {lines} lines");
            let (todo, fixme) = (["TO", "DO"].concat(), ["FIX", "ME"].concat());
            assert!(!text.contains(&todo) && !text.contains(&fixme), "{name} is not finished");
        }
    }
}

#[test]
fn every_example_is_in_their_index() {
    let index = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/README.md")).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(index.contains(name), "examples/README.md does not name {name}");
        }
    }
    // Cargo finds no examples in folders without a main.rs: they are named in its manifest.
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let programs = files("examples/cookbook");
    for path in &programs {
        let name = format!("cookbook/{}", path.file_name().unwrap().to_str().unwrap());
        assert!(index.contains(&format!("({name})")), "examples/README.md does not name {name}");
        assert!(manifest.contains(&format!("\"examples/{name}\"")), "Cargo.toml does not name {name}");
    }
    assert!(programs.len() >= 10, "{} programs", programs.len());
}

/// Methods of the store hand over: what they do is done below.
#[test]
fn methods_of_the_store_have_at_most_three_lines() {
    let mut methods = 0;
    for path in
        files("src/store").into_iter().filter(|path| !path.components().any(|part| part.as_os_str() == "options"))
    {
        let text = read(&path);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if !line.starts_with("    pub fn ") && !line.starts_with("    pub(crate) fn ") {
                continue;
            }
            let mut signature = line;
            while !signature.ends_with('{') {
                signature = lines.next().unwrap();
            }
            let body = lines.by_ref().take_while(|line| *line != "    }").count();
            assert!(body <= 3, "{}: {line} has {body} lines", path.display());
            methods += 1;
        }
    }
    assert!(methods > 40, "{methods} methods were found");
}

/// Public methods of the store without an example of their own, and why.
const NO_EXAMPLE: [(&str, &str); 0] = [];

/// An example is found where the method is found.
#[test]
fn public_methods_of_the_store_have_an_example() {
    let (mut methods, mut missing) = (0, Vec::new());
    for path in files("src/store") {
        let mut has_example = false;
        for line in read(&path).lines().map(str::trim) {
            if line.starts_with("///") {
                has_example |= line.contains("```");
            } else if let Some(rest) = line.strip_prefix("pub fn ") {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                methods += 1;
                if !has_example && !NO_EXAMPLE.iter().any(|(excepted, _)| *excepted == name) {
                    missing.push(format!("{}: {name}", path.display()));
                }
                has_example = false;
            } else if !line.starts_with("#[") {
                has_example = false;
            }
        }
    }
    assert!(missing.is_empty(), "no example in the documentation of:\n{}", missing.join("\n"));
    assert!(methods > 70, "{methods} methods were found");
}

/// Where files lie that the published package does not have: see `include` in Cargo.toml.
const NOT_PUBLISHED: [&str; 11] = [
    "tests/",
    "crates/",
    ".ci/",
    "benches/compare/",
    "examples/bounce",
    "examples/retrain",
    "examples/data/README.md",
    "examples/data/daily/",
    "examples/data/panel/",
    "examples/data/vix.csv",
    "examples/common/market.rs",
];

/// There is no repository that crates.io could resolve links by: they hold within the package.
#[test]
fn links_between_published_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<String> =
        ["README.md", "DESIGN.md", "CHANGELOG.md", "examples/README.md", "examples/data/public/README.md"]
            .map(ToOwned::to_owned)
            .into();
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(format!("docs/{}", path.file_name().unwrap().to_str().unwrap()));
        }
    }
    let mut links = 0;
    for page in pages {
        let text = fs::read_to_string(root.join(&page)).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = Path::new(&page).parent().unwrap().join(target);
            let mut inside = PathBuf::new();
            for part in &path {
                if part == ".." { assert!(inside.pop(), "{page}: {target}") } else { inside.push(part) }
            }
            assert!(root.join(&inside).exists(), "{page} links to {target}, which is not there");
            let published = !NOT_PUBLISHED.iter().any(|left_out| inside.to_str().unwrap().starts_with(left_out));
            assert!(published, "{page} links to {target}, which is not published");
            links += 1;
        }
    }
    assert!(links > 20, "{links} links");
}
