//! What the kernel asks for once, as nobody but itself changes it, and what it asks for again.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread::sleep;
use std::time::Duration;

use crate::attributes::chmod;
use crate::common::{Place, cases, open_rw, pattern};

cases!(served_through; attributes_are_asked_for_once, set_id_bits_are_asked_for_again);

/// For longer than what may change without its knowledge holds.
const LONG: Duration = Duration::from_millis(1300);

fn questions(place: &Place) -> u64 {
    let stats = place.stats();
    ["LOOKUP", "GETATTR", "STATX"].iter().map(|opcode| stats.requests(opcode)).sum()
}

fn attributes_are_asked_for_once(place: &Place) {
    let (full, sparse) = (place.path("full"), place.path("sparse"));
    fs::write(&full, pattern(10_000, 1)).unwrap();
    let file = File::create_new(&sparse).unwrap();
    file.set_len(1 << 20).unwrap();
    drop(file);
    let blocks = || [&full, &sparse].map(|path| fs::metadata(path).unwrap().blocks());
    let [stored, none] = blocks();
    assert!(stored * 512 >= 10_000 && none == 0, "{stored} {none}");
    let before = questions(place);
    sleep(LONG);
    assert_eq!(blocks(), [stored, none]);
    drop(File::open(&full).unwrap());
    assert_eq!(questions(place), before, "nothing has changed");
    // Whatever way data come, what they take is known.
    let file = open_rw(&sparse);
    file.write_all_at(&pattern(4096, 2), 0).unwrap();
    let [_, written] = blocks();
    assert!(written > 0);
    // SAFETY: nobody else has this file.
    let mut pages = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    pages[1 << 19] = 1;
    pages.flush().unwrap();
    let [_, mapped] = blocks();
    assert!(mapped > written, "{mapped} {written}");
}

fn set_id_bits_are_asked_for_again(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"x").unwrap();
    chmod(&path, 0o4755);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755);
    let before = questions(place);
    sleep(LONG);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(questions(place), before + 1);
}
