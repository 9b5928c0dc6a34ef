//! Promise 11: a file survives long random sequences of all operations.
//!
//! fsx, where it is installed, runs a short sequence here; scripts/fsx runs a million
//! operations. The checker in this file always runs and knows what fsx does not: several handles,
//! appends and direct I/O beside them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, copy_file_range};

use crate::common::{
    PAGE, PUNCH, Place, Plan, Random, allocate, cases, drop_pages, forget_pages, open_append,
    open_direct, open_rw, read_at, read_direct, same_bytes, write_direct,
};

cases!(everywhere, Plan::new().seconds(120); many_handles_agree_with_a_model);
cases!(mounts, Plan::new().seconds(300); fsx_finds_nothing);

const LIMIT: usize = 256 * 1024;
const ROUNDS: usize = 4000;

#[derive(Clone, Copy, Debug)]
enum Op {
    Write,
    Read,
    Append,
    Truncate,
    Punch,
    Allocate,
    Copy,
    Fsync,
    Drop,
    Reopen,
    Size,
    DirectWrite,
    DirectRead,
}

const OPS: [Op; 20] = [
    Op::Write,
    Op::Write,
    Op::Write,
    Op::Write,
    Op::Write,
    Op::Read,
    Op::Read,
    Op::Read,
    Op::Append,
    Op::Truncate,
    Op::Truncate,
    Op::Punch,
    Op::Allocate,
    Op::Copy,
    Op::Fsync,
    Op::Drop,
    Op::Reopen,
    Op::Size,
    Op::DirectWrite,
    Op::DirectRead,
];

/// A file through several handles, and what it should hold.
struct Model {
    path: PathBuf,
    handles: Vec<File>,
    direct: File,
    wanted: Vec<u8>,
    random: Random,
    history: Vec<(Op, usize, usize)>,
}

impl Model {
    fn new(path: PathBuf, seed: u64) -> Self {
        let handles = (0..3).map(|_| open_rw(&path)).collect();
        let direct = open_direct(&path);
        let random = Random::new(seed);
        Self { path, handles, direct, wanted: Vec::new(), random, history: Vec::new() }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.wanted.resize(self.wanted.len().max(at + bytes.len()), 0);
        self.wanted[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn expected(&self, at: usize, len: usize) -> &[u8] {
        let end = self.wanted.len().min(at + len);
        &self.wanted[at.min(end)..end]
    }

    fn step(&mut self) {
        let op = self.random.pick(&OPS);
        let mut at = self.random.below_len(LIMIT);
        if self.random.below(3) == 0 {
            at -= at % PAGE;
        }
        let lengths = [1, 10, 100, PAGE - 1, PAGE, PAGE + 1, 5000, 40_000];
        let mut len = self.random.pick(&lengths).min(LIMIT - at);
        if matches!(op, Op::DirectWrite | Op::DirectRead) {
            at -= at % PAGE;
            len = PAGE * self.random.pick(&[1, 2, 5]);
        }
        self.history.push((op, at, len));
        let which = self.random.below_len(self.handles.len());
        let offset = at as u64;
        match op {
            Op::Write => {
                let bytes = self.random.bytes(len);
                self.handles[which].write_all_at(&bytes, offset).unwrap();
                self.put(at, &bytes);
            }
            Op::DirectWrite => {
                let bytes = self.random.bytes(len);
                write_direct(&self.direct, &bytes, offset);
                self.put(at, &bytes);
            }
            Op::Append if self.wanted.len() + 500 <= LIMIT => {
                let bytes = self.random.bytes(500);
                open_append(&self.path).write_all(&bytes).unwrap();
                self.put(self.wanted.len(), &bytes);
            }
            Op::Append => {}
            Op::Read => {
                same_bytes(
                    &read_at(&self.handles[which], len, offset),
                    self.expected(at, len),
                    "read",
                );
            }
            Op::DirectRead => {
                let got = read_direct(&self.direct, len, offset);
                same_bytes(&got, self.expected(at, len), "direct read");
            }
            Op::Truncate => {
                self.handles[which].set_len(offset).unwrap();
                self.wanted.resize(at, 0);
            }
            Op::Punch => {
                assert!(allocate(&self.handles[which], PUNCH, offset, len as u64), "punch");
                let end = self.wanted.len().min(at + len);
                self.wanted[at.min(end)..end].fill(0);
            }
            Op::Allocate => {
                let mode = FallocateFlags::empty();
                assert!(allocate(&self.handles[which], mode, offset, len as u64), "allocate");
                self.wanted.resize(self.wanted.len().max(at + len), 0);
            }
            Op::Copy => self.copy(which, at, len),
            Op::Fsync => self.handles[which].sync_all().unwrap(),
            Op::Drop => drop_pages(&self.handles[which]),
            Op::Reopen => self.handles[which] = open_rw(&self.path),
            Op::Size => {
                let size = fs::metadata(&self.path).unwrap().len();
                assert_eq!(size, self.wanted.len() as u64, "size");
            }
        }
    }

    /// Copies a part of the file to where it does not overlap itself.
    fn copy(&mut self, which: usize, at: usize, len: usize) {
        let bytes = self.expected(at, len).to_vec();
        let to = if at >= LIMIT / 2 { at - LIMIT / 2 } else { at + LIMIT / 2 };
        let (mut source, mut target, mut left) = (at as u64, to as u64, bytes.len());
        let other = &self.handles[(which + 1) % self.handles.len()];
        while left > 0 {
            let (from, into) = (Some(&mut source), Some(&mut target));
            let count = copy_file_range(&self.handles[which], from, other, into, left).unwrap();
            assert!(count > 0, "a copy makes no progress");
            left -= count;
        }
        if !bytes.is_empty() {
            self.put(to, &bytes);
        }
    }

    fn check(&self, what: &str) {
        let size = fs::metadata(&self.path).unwrap().len();
        assert_eq!(size, self.wanted.len() as u64, "{what}: size");
        same_bytes(&fs::read(&self.path).unwrap(), &self.wanted, what);
    }
}

fn many_handles_agree_with_a_model(place: &Place) {
    let seed = u64::from(std::process::id());
    let mut model = Model::new(place.path("f"), seed);
    let result = catch_unwind(AssertUnwindSafe(|| {
        (0..ROUNDS).for_each(|_| model.step());
        model.check("at the end");
        model.handles.clear();
        forget_pages(&model.path);
        model.check("at the end, from the file system");
    }));
    if let Err(panic) = result {
        let done = model.history.len();
        let last = &model.history[done.saturating_sub(6)..];
        eprintln!("seed {seed}, after {done} operations, the last of them {last:?}");
        std::panic::resume_unwind(panic);
    }
}

/// `fsx` from the path, or from where cargo puts what it installs.
fn fsx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cargo"))
    });
    let own = home.map(|home| home.join("bin"));
    std::env::split_paths(&path).chain(own).map(|dir| dir.join("fsx")).find(|file| file.is_file())
}

fn fsx_finds_nothing(place: &Place) {
    let Some(fsx) = fsx() else {
        return place.skipped("fsx is not installed (cargo install fsx --locked)");
    };
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../fs-memory/tests/fsx.toml");
    let artifacts = tempfile::tempdir().unwrap();
    let mut command = Command::new(fsx);
    let seed = std::process::id().to_string();
    command.args(["-N", "20000", "-S", &seed, "-f", config, "-P"]).arg(artifacts.path());
    let output = command.arg(place.path("fsx")).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let tail: Vec<&str> = text.lines().rev().take(15).collect();
    assert!(output.status.success(), "fsx, seed {seed}: {}: {tail:#?}", output.status);
    let stats = place.stats();
    place.figure(&format!(
        "fsx: {} WRITEs, {} READs",
        stats.requests("WRITE"),
        stats.requests("READ")
    ));
}
