//! No panic and no allocation can be reached from the codec: shown on the machine code.
//!
//! `probe` calls the codec. It is built in release, and from each of its functions the test walks
//! along the relocations of the object files, through `core` too, to everything that could be
//! called. A way to a panic or to the allocator is printed call by call.

#![cfg(all(target_os = "linux", not(miri)))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod graph;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use graph::Graph;

/// What the compiler calls by itself; none of them panics or allocates.
const HARMLESS: &[&str] = &["memcpy", "memmove", "memset", "memcmp", "bcmp"];

const CODEC: &[&str] = &[
    "probe_split",
    "probe_header",
    "probe_decode",
    "probe_extensions",
    "probe_out_header",
    "probe_reply",
    "probe_dirent",
    "probe_dirent_plus",
    "probe_notification",
    "probe_encode",
    "probe_encode_ring",
    "probe_split_ring",
    "probe_extensions_writer",
    "probe_negotiate",
    "probe_asked",
    "probe_reply_decode",
    "probe_judge",
    "probe_dirent_reader",
    "probe_dirent_plus_reader",
    "probe_notification_decode",
    "probe_ring_header",
];

fn is_forbidden(function: &str) -> bool {
    let parts = ["panic", "_fail", "unwind", "alloc", "__rust_", "std::"];
    parts.iter().any(|part| function.contains(part))
}

/// Builds the probe with the release profile and no flags of the environment.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic-free");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--example", "panic-free-probe", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("release/examples/libpanic_free_probe.a")
}

fn graph() -> &'static Graph {
    static GRAPH: OnceLock<Graph> = OnceLock::new();
    GRAPH.get_or_init(|| Graph::read(&build()))
}

/// The calls from `probe` to something forbidden, or to code that the test cannot see.
fn way_to_harm(probe: &str) -> Option<Vec<String>> {
    graph().way(probe, |function, is_known| {
        is_forbidden(function) || !(is_known || HARMLESS.contains(&function))
    })
}

#[test]
fn the_codec_reaches_no_panic_and_no_allocator() {
    let ways: Vec<String> = CODEC
        .iter()
        .filter_map(|probe| way_to_harm(probe))
        .map(|way| way.join("\n  -> "))
        .collect();
    assert!(ways.is_empty(), "\n{}", ways.join("\n"));
}

#[test]
fn what_is_forbidden_is_noticed() {
    for (probe, end) in [
        ("probe_that_indexes", "core::panicking::panic_bounds_check"),
        ("probe_that_slices", "slice_index_fail"),
        ("probe_that_unwraps", "core::option::unwrap_failed"),
        ("probe_that_divides", "core::panicking::panic_const::panic_const_div_by_zero"),
        ("probe_that_allocates", "alloc"),
    ] {
        let way = way_to_harm(probe).unwrap_or_else(|| panic!("{probe} passes"));
        assert!(way.last().unwrap().contains(end), "{way:?}");
    }
}

#[test]
fn the_walk_sees_the_decoders() {
    let decoder = "fusewire_proto::request::Operation::decode";
    let way = graph().way("probe_decode", |function, _| function == decoder).unwrap();
    assert_eq!(way, ["probe_decode", decoder]);
    // A decoder is reached by a pointer, not by a call.
    let scan = "fusewire_proto::scan::find_nul";
    assert!(graph().way("probe_decode", |function, _| function == scan).unwrap().len() > 3);
}
