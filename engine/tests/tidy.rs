//! Holds the house in order: who may import whom, how long files get, where `unsafe` may stand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Levels of the engine: a module imports from lower levels only (ARCHITECTURE.md).
const LEVELS: &[(&str, u32)] = &[
    ("sys", 0),
    ("config", 0),
    ("error", 0),
    ("early", 0),
    ("stats", 0),
    ("scales", 2),
    ("callers", 3),
    ("slot", 1),
    ("awake", 1),
    ("whereabouts", 2),
    ("plan", 1),
    ("reply", 1),
    ("review", 1),
    ("thread", 1),
    ("mailbox", 2),
    ("mount", 2),
    ("notify", 2),
    ("io", 2),
    ("linger", 2),
    ("backing", 2),
    ("context", 3),
    ("lead", 3),
    ("placement", 4),
    ("sentry", 4),
    ("service", 4),
    ("filesystem", 4),
    ("task", 5),
    ("dispatch", 5),
    ("transport", 5),
    ("shard", 6),
    ("crew", 7),
    ("sim", 7),
    ("session", 8),
    ("cli", 9),
];
const LINES_MAX: usize = 520;
const CRATES: [&str; 6] = ["proto", "engine", "fs-memory", "fs-passthrough", "capture", "benches"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all(crate_dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crate_dir).join("src");
    sources(&dir, &mut found);
    assert!(!found.is_empty(), "{crate_dir} has sources");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&dir).unwrap().to_owned(), text)
    };
    found.into_iter().map(read).collect()
}

fn room(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn level(room: &str) -> Option<u32> {
    LEVELS.iter().find(|(name, _)| *name == room).map(|(_, level)| *level)
}

#[test]
fn imports_go_downward() {
    let mut wrong = Vec::new();
    for (path, text) in all("engine") {
        let here = room(&path);
        if here == "lib" {
            continue;
        }
        let own = level(&here).unwrap_or_else(|| panic!("{here} has no level; give it one"));
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for part in line.split("crate::").skip(1) {
                let there: String =
                    part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let Some(other) = level(&there) else { continue };
                if there != here && other >= own {
                    wrong.push(format!("{}:{} imports {there}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports upward or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    for crate_dir in CRATES {
        for (path, text) in all(crate_dir) {
            let lines = text.lines().count();
            assert!(
                lines <= LINES_MAX,
                "{crate_dir}/{}: {lines} lines: two ideas?",
                path.display()
            );
        }
    }
}

#[test]
fn unsafe_stays_in_sys() {
    for crate_dir in CRATES {
        for (path, text) in all(crate_dir) {
            let with_sys = ["engine", "fs-passthrough", "capture", "benches"];
            if with_sys.contains(&crate_dir) && room(&path) == "sys" {
                continue;
            }
            let found = text.lines().enumerate().find(|(_, line)| {
                let code = line.split("//").next().unwrap();
                code.contains("unsafe {")
                    || code.contains("unsafe fn")
                    || code.contains("unsafe impl")
            });
            assert!(found.is_none(), "{crate_dir}/{}: {found:?}", path.display());
        }
    }
}

#[test]
fn text_is_ascii_and_fits_the_page() {
    for crate_dir in CRATES {
        for (path, text) in all(crate_dir) {
            for (number, line) in text.lines().enumerate() {
                let place = format!("{crate_dir}/{}:{}", path.display(), number + 1);
                assert!(line.is_ascii(), "{place} is not ASCII");
                assert!(line.len() <= 100, "{place} has {} columns", line.len());
            }
        }
    }
}

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("../README.md")).unwrap();
    let example = fs::read_to_string(root.join("examples/hello.rs")).unwrap();
    assert!(example.lines().count() <= 40, "the smallest filesystem stays small");
    assert!(readme.contains(&example), "README.md shows another hello.rs");
}
