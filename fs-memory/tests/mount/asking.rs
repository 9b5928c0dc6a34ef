//! What the kernel asks for once, as nobody but itself changes it, and what it asks for again.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::attributes::chmod;
use crate::common::{Place, cases, open_rw, pattern};

cases!(
    served_through;
    attributes_are_asked_for_once,
    set_id_bits_are_asked_for_again,
    an_access_is_seen,
);

/// For longer than what may change without its knowledge holds.
const LONG: Duration = Duration::from_millis(1300);

fn questions(place: &Place) -> u64 {
    let stats = place.stats();
    stats.requests("GETATTR") + stats.requests("STATX")
}

/// A file that has been read, and stays in the kernel's memory, whoever empties that.
fn kept(path: &Path) -> File {
    fs::write(path, pattern(10_000, 1)).unwrap();
    // So that the access is later than the change, and the next one does not count.
    sleep(Duration::from_millis(20));
    File::open(path).unwrap()
}

fn attributes_are_asked_for_once(place: &Place) {
    let path = place.path("f");
    let kept = kept(&path);
    let blocks = || kept.metadata().unwrap().blocks();
    sleep(LONG);
    let stored = blocks();
    assert!(stored * 512 >= 10_000, "{stored}");
    let before = questions(place);
    sleep(LONG);
    assert_eq!(blocks(), stored);
    drop(File::open(&path).unwrap());
    assert_eq!(questions(place), before, "nothing has changed");
    // Whatever way data come, what they take is known.
    let file = open_rw(&path);
    file.set_len(1 << 20).unwrap();
    file.write_all_at(&pattern(4096, 2), 1 << 18).unwrap();
    let written = blocks();
    assert!(written > stored, "{written} {stored}");
    // SAFETY: nobody else has this file.
    let mut pages = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    pages[1 << 19] = 1;
    pages.flush().unwrap();
    let mapped = blocks();
    assert!(mapped > written, "{mapped} {written}");
}

fn set_id_bits_are_asked_for_again(place: &Place) {
    let path = place.path("f");
    let kept = kept(&path);
    chmod(&path, 0o4755);
    let mode = || kept.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(), 0o4755);
    let before = questions(place);
    sleep(LONG);
    assert_eq!(mode(), 0o4755);
    assert_eq!(questions(place), before + 1);
}

fn an_access_is_seen(place: &Place) {
    let path = place.path("f");
    fs::write(&path, pattern(10_000, 1)).unwrap();
    let accessed = || fs::metadata(&path).unwrap().accessed().unwrap();
    sleep(LONG);
    let before = accessed();
    sleep(Duration::from_millis(20));
    // From the kernel's pages: only the open tells.
    fs::read(&path).unwrap();
    sleep(LONG);
    assert!(accessed() > before);
}
