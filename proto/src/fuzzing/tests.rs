//! Replays what is kept: recorded frames, files of former crashes, and the fuzzers' corpus.

use std::fs;
use std::path::{Path, PathBuf};
use std::vec::Vec;

use super::oracle::number;
use super::{BODIES, seeds};
use crate::opcode::Opcode;

/// Under Miri, which is some thousand times slower, one of so many inputs is taken.
pub(super) fn one_of(inputs: usize) -> usize {
    if cfg!(miri) { inputs } else { 1 }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// All files below `dir`; none if there is no such directory.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    // By their bytes: paths take themselves to pieces for each comparison.
    found.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    found
}

#[test]
fn every_golden_file_goes_through_every_body() {
    let golden = files(&root().join("tests/golden"));
    assert!(!golden.is_empty(), "no golden files");
    // The last of so many: the first of all is a text, not a frame, and long.
    for path in golden.iter().skip(one_of(64) - 1).step_by(one_of(64)) {
        let bytes = fs::read(path).unwrap();
        for (name, body) in BODIES {
            std::println!("{name}: {}", path.display());
            body(&bytes);
        }
    }
}

#[test]
fn the_corpus_of_each_target_holds() {
    for (name, body) in BODIES {
        for entry in fs::read_dir(root().join("../fuzz/corpus").join(name)).unwrap() {
            let entry = entry.unwrap();
            // Names are hashes; Miri takes one of 64.
            if cfg!(miri) && entry.file_name().as_os_str() >= "04" {
                continue;
            }
            std::println!("{name}: {}", entry.path().display());
            body(&fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn what_the_encoders_make_goes_through_its_body() {
    let seeds = seeds();
    for (target, bytes) in seeds.iter().step_by(one_of(64)) {
        BODIES.iter().find(|(name, _)| name == target).unwrap().1(bytes);
    }
    let of_replies = seeds.iter().filter(|(target, _)| *target == "reply_decode");
    let mut opcodes: Vec<_> = of_replies.map(|(_, bytes)| number(bytes, 4, 4)).collect();
    opcodes.sort_unstable();
    opcodes.dedup();
    assert_eq!(opcodes.len(), Opcode::COUNT);
}

#[test]
fn every_target_is_wrapped_and_short() {
    let mut wrapped = files(&root().join("../fuzz/fuzz_targets"));
    // That of fs-memory has its own test.
    wrapped.retain(|it| !it.ends_with("memory.rs"));
    for (name, _) in BODIES {
        let path = root().join(std::format!("../fuzz/fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&std::format!("fuzzing::{name}(data)")), "{name}");
        assert!(text.lines().count() < 25, "{name}");
        wrapped.retain(|it| *it != path);
    }
    assert!(wrapped.is_empty(), "targets without a body: {wrapped:?}");
}
