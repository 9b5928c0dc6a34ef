//! `fusewire-passthrough` on real mounts: what only a mirror has to show, and the bodies of
//! `fusewire-memory` that hold for any filesystem, with the same harness.
//!
//! The backing directory is `backing` beside the mount point. See `fs-memory/tests/mount`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Each case also where the kernel serves the data itself.
macro_rules! kernel_cases {
    ($($case:tt)*) => { $($case)* };
}
pub(crate) use kernel_cases;

#[path = "../../../fs-memory/tests/mount/common/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared, and not all of it used here")]
mod common;

#[path = "../../../fs-memory/tests/mount/attributes.rs"]
mod attributes;
#[path = "../../../fs-memory/tests/mount/clients.rs"]
mod clients;
#[path = "../../../fs-memory/tests/mount/filesystem.rs"]
mod filesystem;
#[path = "../../../fs-memory/tests/mount/lifecycle.rs"]
mod lifecycle;
#[path = "../../../fs-memory/tests/mount/promise_02_multi_page_writes.rs"]
mod promise_02_multi_page_writes;
#[path = "../../../fs-memory/tests/mount/promise_03_kernel_owns_size.rs"]
mod promise_03_kernel_owns_size;
#[path = "../../../fs-memory/tests/mount/promise_05_partial_pages.rs"]
mod promise_05_partial_pages;
#[path = "../../../fs-memory/tests/mount/promise_06_short_reads_and_holes.rs"]
mod promise_06_short_reads_and_holes;
#[path = "../../../fs-memory/tests/mount/promise_07_close_and_fsync_wait.rs"]
mod promise_07_close_and_fsync_wait;
#[path = "../../../fs-memory/tests/mount/promise_08_direct_beside_cached.rs"]
mod promise_08_direct_beside_cached;
#[path = "../../../fs-memory/tests/mount/promise_09_holes_truncate_copy_against_dirty.rs"]
mod promise_09_holes_truncate_copy_against_dirty;
#[path = "../../../fs-memory/tests/mount/promise_10_bounded_dirty.rs"]
mod promise_10_bounded_dirty;
#[path = "../../../fs-memory/tests/mount/promise_11_fsx.rs"]
mod promise_11_fsx;
#[path = "../../../fs-memory/tests/mount/promise_13_nothing_hides_dirty_data.rs"]
mod promise_13_nothing_hides_dirty_data;
#[path = "../../../fs-memory/tests/mount/stress.rs"]
mod stress;

mod callers;
mod descriptors;
mod kernel;
mod locker;
mod locks;
mod outside;
mod paths;
mod sandbox;
mod times;
mod waits;
mod watch;
mod watch_worst;

/// tmpfs cannot.
pub(crate) const ZEROES_RANGES: bool = false;

/// A directory for everything of a daemon.
#[derive(Debug)]
pub(crate) struct Work {
    // Unmounted before the directory is removed.
    own: Option<Other>,
    directory: TempDir,
}

/// A new one, a tmpfs of its own: tmpfs is the bar of the bodies (what is special to ext4 the
/// acceptance kit finds), and what other tests do is no event to who watches this one.
pub(crate) fn work() -> Work {
    let directory = common::body_directory();
    let own = Other::mount(&["-t", "tmpfs", "-o", "mode=755", "none"], directory.path());
    Work { own: Some(own), directory }
}

impl Work {
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves it where it is.
    pub(crate) fn keep(self) -> PathBuf {
        std::mem::forget(self.own);
        self.directory.keep()
    }
}

impl From<TempDir> for Work {
    fn from(directory: TempDir) -> Self {
        Self { own: None, directory }
    }
}

/// The daemon under test, with its backing directory.
pub(crate) fn daemon(work: &Path) -> Command {
    let backing = work.join("backing");
    fs::create_dir_all(&backing).unwrap();
    fs::set_permissions(&backing, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusewire-passthrough"));
    command.arg(backing);
    command
}

/// Another filesystem that a test needs; it goes with this, also when the test fails.
#[derive(Debug)]
pub(crate) struct Other(pub(crate) PathBuf);

impl Other {
    /// Runs `mount` with `words` and the mount point.
    pub(crate) fn mount(words: &[&str], point: &Path) -> Self {
        let mut mount = Command::new("mount");
        let (status, said) = common::system::run_limited(mount.args(words).arg(point)).unwrap();
        assert!(status.success(), "{said}");
        Self(point.to_owned())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = common::system::umount(&self.0, &["-l"]);
    }
}

/// Where the files of a mount are, outside of it.
pub(crate) fn backing(place: &common::Place) -> PathBuf {
    place.root().with_file_name("backing")
}
