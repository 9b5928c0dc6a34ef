//! Promise 13: SEEK_DATA and SEEK_HOLE hide no data that is still dirty.
//!
//! The kernel sends LSEEK without writing dirty pages first. Data may be over-reported, as a
//! copy then only copies zeros; a hole reported where data are is a copy that lost them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::common::{
    MIB_U64, PAGE, PAGE_U64, Place, Random, cases, drop_pages, fails, open_rw, pattern, read_at,
    same_bytes,
};

cases!(through; holes_are_found_once_nobody_writes);
cases!(
    everywhere;
    mapped_pages_are_no_holes,
    seek_data_finds_dirty_data,
    seek_hole_finds_no_hole_in_dirty_data,
    seek_in_a_dirty_extension,
    a_sparse_copy_of_a_dirty_file_is_whole,
    cp_of_a_dirty_file_is_whole,
    seek_finds_the_data_after_fsync,
    seek_past_the_end,
);

fn seek_data_finds_dirty_data(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.set_len(4 * MIB_U64).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(&[b'd'; PAGE], MIB_U64).unwrap();
    let first = seek(&file, SeekFrom::Data(0)).unwrap();
    assert!(first <= MIB_U64, "SEEK_DATA went past dirty data, to {first}");
}

/// What a mapping made dirty stays so after the descriptor is closed.
fn mapped_pages_are_no_holes(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    file.set_len(4 * MIB_U64).unwrap();
    // SAFETY: nothing else changes the file while it is mapped.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    drop(file);
    let at = usize::try_from(MIB_U64).unwrap();
    map[at..at + PAGE].fill(b'd');
    let file = File::open(&path).unwrap();
    let first = seek(&file, SeekFrom::Data(0)).unwrap();
    assert!(first <= MIB_U64, "SEEK_DATA went past mapped data, to {first}");
    let hole = seek(&file, SeekFrom::Hole(MIB_U64)).unwrap();
    assert!(hole >= MIB_U64 + PAGE_U64, "SEEK_HOLE found {hole} inside mapped data");
}

fn holes_are_found_once_nobody_writes(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    file.set_len(4 * MIB_U64).unwrap();
    file.write_all_at(&[b'd'; PAGE], MIB_U64).unwrap();
    drop(file);
    let file = File::open(&path).unwrap();
    // The kernel tells of a closed handle, but nobody waits for that.
    let until = Instant::now() + Duration::from_secs(10);
    while seek(&file, SeekFrom::Data(0)).unwrap() != MIB_U64 {
        assert!(Instant::now() < until, "no hole is found in front of the data");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(seek(&file, SeekFrom::Hole(MIB_U64)).unwrap(), MIB_U64 + PAGE_U64, "behind it");
}

fn seek_hole_finds_no_hole_in_dirty_data(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.set_len(4 * MIB_U64).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(&[b'd'; 3 * PAGE], MIB_U64).unwrap();
    let hole = seek(&file, SeekFrom::Hole(MIB_U64)).unwrap();
    assert!(hole >= MIB_U64 + 3 * PAGE_U64, "SEEK_HOLE found {hole} inside dirty data");
}

/// The store does not even know that the file is that long.
fn seek_in_a_dirty_extension(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.write_all_at(&[b'd'; PAGE], 2 * MIB_U64).unwrap();
    let first = seek(&file, SeekFrom::Data(0)).unwrap();
    assert!(first <= 2 * MIB_U64, "SEEK_DATA went to {first}");
    let inside = seek(&file, SeekFrom::Data(2 * MIB_U64 + 5)).unwrap();
    assert_eq!(inside, 2 * MIB_U64 + 5, "SEEK_DATA inside dirty data");
    let hole = seek(&file, SeekFrom::Hole(2 * MIB_U64)).unwrap();
    assert_eq!(hole, 2 * MIB_U64 + PAGE_U64, "SEEK_HOLE at the end of the file");
}

/// A file with pieces of data here and there, some stored, some dirty; and what it holds.
fn scattered(place: &Place, name: &str, seed: u64) -> (File, Vec<u8>) {
    const LEN: usize = 3 << 20;
    let mut random = Random::new(seed);
    let file = open_rw(&place.path(name));
    file.set_len(LEN as u64).unwrap();
    let mut wanted = vec![0; LEN];
    for round in 0..12 {
        let len = random.pick(&[1, 700, PAGE, 5 * PAGE + 3]);
        let at = random.below_len(LEN - len);
        let piece = pattern(len, seed + round);
        file.write_all_at(&piece, at as u64).unwrap();
        wanted[at..at + len].copy_from_slice(&piece);
        if round == 5 {
            drop_pages(&file);
        }
    }
    (file, wanted)
}

fn a_sparse_copy_of_a_dirty_file_is_whole(place: &Place) {
    for seed in 1..=10 {
        let (source, wanted) = scattered(place, &format!("s{seed}"), seed);
        let target = open_rw(&place.path(&format!("t{seed}")));
        let size = source.metadata().unwrap().len();
        target.set_len(size).unwrap();
        let mut at = 0;
        while at < size {
            let from = match seek(&source, SeekFrom::Data(at)) {
                Ok(from) => from,
                Err(Errno::NXIO) => break,
                Err(error) => panic!("SEEK_DATA: {error}"),
            };
            let to = seek(&source, SeekFrom::Hole(from)).unwrap();
            assert!(at <= from && from < to && to <= size, "{at}, {from}..{to} of {size}");
            let bytes = read_at(&source, usize::try_from(to - from).unwrap(), from);
            target.write_all_at(&bytes, from).unwrap();
            at = to;
        }
        same_bytes(&read_at(&target, wanted.len() + 1, 0), &wanted, &format!("seed {seed}"));
    }
}

fn cp_of_a_dirty_file_is_whole(place: &Place) {
    for (seed, word) in [(21, "auto"), (22, "always"), (23, "never")] {
        let (_source, wanted) = scattered(place, &format!("s{seed}"), seed);
        let target = place.path(&format!("t{seed}"));
        let mut cp = Command::new("cp");
        cp.arg(format!("--sparse={word}")).arg(place.path(&format!("s{seed}"))).arg(&target);
        assert!(cp.status().unwrap().success(), "cp");
        same_bytes(&fs::read(&target).unwrap(), &wanted, &format!("cp --sparse={word}"));
    }
}

fn seek_finds_the_data_after_fsync(place: &Place) {
    let (file, wanted) = scattered(place, "f", 31);
    file.sync_all().unwrap();
    let (mut at, size) = (0, wanted.len() as u64);
    while at < size {
        let from = seek(&file, SeekFrom::Data(at)).unwrap_or(size);
        let hole = &wanted[usize::try_from(at).unwrap()..usize::try_from(from).unwrap()];
        assert!(hole.iter().all(|byte| *byte == 0), "data in a hole at {at}..{from}");
        at = if from < size { seek(&file, SeekFrom::Hole(from)).unwrap() } else { size };
    }
}

fn seek_past_the_end(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.write_all_at(b"some data", 0).unwrap();
    fails(seek(&file, SeekFrom::Data(9)), Errno::NXIO, "SEEK_DATA at the end");
    fails(seek(&file, SeekFrom::Hole(9)), Errno::NXIO, "SEEK_HOLE at the end");
    fails(seek(&file, SeekFrom::Data(1 << 40)), Errno::NXIO, "SEEK_DATA far past the end");
    assert_eq!(seek(&file, SeekFrom::Hole(0)).unwrap(), 9, "the hole that is the end");
    assert_eq!(seek(&file, SeekFrom::Data(3)).unwrap(), 3, "data");
}
