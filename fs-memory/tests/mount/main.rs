//! `fusewire-memory` on real mounts: the write-back promises, a daemon's life, ordinary POSIX.
//!
//! Each body runs on tmpfs first where tmpfs can keep the promise, then on both transports with
//! write-back on and, where it makes sense, off. A body is a process of its own with a time
//! limit; one that hangs ends by an abort of its own mount. Without `/dev/fuse` and root the
//! tests on mounts are skipped and say so; `FUSEWIRE_REQUIRE_MOUNT=1` makes that a failure.
//!
//! `--nocapture` shows the figures that were measured.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

pub(crate) use tempfile::TempDir as Work;

/// Nobody but the filesystem has its data.
macro_rules! kernel_cases {
    ($($case:tt)*) => {};
}
pub(crate) use kernel_cases;

mod common;

mod promise_01_connection_bit;
mod promise_02_multi_page_writes;
mod promise_03_kernel_owns_size;
mod promise_04_kernel_owns_times;
mod promise_05_partial_pages;
mod promise_06_short_reads_and_holes;
mod promise_07_close_and_fsync_wait;
mod promise_08_direct_beside_cached;
mod promise_09_holes_truncate_copy_against_dirty;
mod promise_10_bounded_dirty;
mod promise_11_fsx;
mod promise_12_writeback_is_faster;
mod promise_13_nothing_hides_dirty_data;
mod promise_14_late_write;

mod asking;
mod attributes;
mod filesystem;
mod stress;

mod awake;
mod clients;
mod lifecycle;
mod limits;
mod placement;
mod starting;
mod surroundings;

/// Whether FALLOC_FL_ZERO_RANGE must work.
pub(crate) const ZEROES_RANGES: bool = true;

/// A new directory for everything of a daemon.
pub(crate) fn work() -> Work {
    common::open_to_all(tempfile::Builder::new().prefix("fusewire-test-").tempdir())
}

/// The daemon under test, without arguments; `fs-passthrough` runs these bodies on its own.
pub(crate) fn daemon(_work: &Path) -> Command {
    Command::new(env!("CARGO_BIN_EXE_fusewire-memory"))
}
