//! Promise 9: truncate, fallocate and copy_file_range against dirty pages bring no byte back and
//! lose no extension.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{FallocateFlags, copy_file_range};

use crate::common::{
    PAGE, PAGE_U64, PUNCH, Place, Random, allocate, cases, drop_pages, forget_pages, open_rw,
    pattern, read_at, same_bytes,
};

cases!(
    everywhere;
    truncate_down_and_up,
    truncate_while_pages_are_written_back,
    punch_in_dirty_pages,
    allocate_over_and_past_dirty_pages,
    allocate_past_the_end_without_growing,
    copy_from_dirty_to_dirty,
    copy_extends_the_target,
    copy_inside_one_dirty_file,
    random_truncates_punches_and_writes,
);
// tmpfs knows no zero range, so there is nothing to compare with but the rule itself.
cases!(mounts; zero_range_in_dirty_pages);

/// Compares what the cache holds, then what the file system holds.
fn holds(file: &File, wanted: &[u8], what: &str) {
    assert_eq!(file.metadata().unwrap().len(), wanted.len() as u64, "{what}: size");
    same_bytes(&read_at(file, wanted.len() + PAGE, 0), wanted, &format!("{what}, cached"));
    drop_pages(file);
    same_bytes(&read_at(file, wanted.len() + PAGE, 0), wanted, &format!("{what}, stored"));
    assert_eq!(file.metadata().unwrap().len(), wanted.len() as u64, "{what}: size stored");
}

fn truncate_down_and_up(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.write_all_at(&[b'T'; 50_000], 0).unwrap();
    file.set_len(1234).unwrap();
    file.set_len(50_000).unwrap();
    let wanted = [&[b'T'; 1234][..], &[0; 50_000 - 1234]].concat();
    holds(&file, &wanted, "truncated");
}

/// Another thread calls fsync all the time, so that some pages are in flight at each truncate.
fn truncate_while_pages_are_written_back(place: &Place) {
    const LEN: usize = 20 * PAGE;
    let file = open_rw(&place.path("f"));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = File::open(place.path("f")).unwrap();
        let over = &over;
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                other.sync_all().unwrap();
            }
        });
        let _stop = StopAtEnd(over);
        for round in 0..150 {
            file.write_all_at(&[b'X'; LEN], 0).unwrap();
            let cut = (round * 997) % (19 * PAGE);
            file.set_len(cut as u64).unwrap();
            file.set_len(LEN as u64).unwrap();
            let wanted = [&vec![b'X'; cut][..], &vec![0; LEN - cut]].concat();
            same_bytes(&read_at(&file, LEN, 0), &wanted, &format!("round {round}"));
            if round % 20 == 0 {
                holds(&file, &wanted, &format!("round {round}"));
            }
        }
    });
}

/// Ends a helper thread also when its test panics.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn punch_in_dirty_pages(place: &Place) {
    let file = open_rw(&place.path("f"));
    let mut wanted = pattern(20 * PAGE, 1);
    file.write_all_at(&wanted, 0).unwrap();
    assert!(allocate(&file, PUNCH, 3 * PAGE_U64 + 100, 9 * PAGE_U64), "punch");
    wanted[3 * PAGE + 100..12 * PAGE + 100].fill(0);
    holds(&file, &wanted, "punched");
    file.write_all_at(&[1; 3 * PAGE], wanted.len() as u64).unwrap();
    assert!(allocate(&file, PUNCH, 19 * PAGE_U64, 100 * PAGE_U64), "punch past the end");
    wanted.resize(23 * PAGE, 1);
    wanted[19 * PAGE..].fill(0);
    holds(&file, &wanted, "punched past the end");
}

fn zero_range_in_dirty_pages(place: &Place) {
    let file = open_rw(&place.path("f"));
    let mut wanted = pattern(20 * PAGE, 1);
    file.write_all_at(&wanted, 0).unwrap();
    let zero = FallocateFlags::ZERO_RANGE;
    let zeroed = allocate(&file, zero, 100, 12 * PAGE_U64);
    if !zeroed && !crate::ZEROES_RANGES {
        // Refused as below it, with nothing changed.
        return holds(&file, &wanted, "refused");
    }
    assert!(zeroed, "zero range");
    wanted[100..12 * PAGE + 100].fill(0);
    holds(&file, &wanted, "zeroed");
    file.write_all_at(&[2; 5000], wanted.len() as u64).unwrap();
    wanted.resize(20 * PAGE + 5000, 2);
    let from = wanted.len() - 10;
    assert!(allocate(&file, zero | FallocateFlags::KEEP_SIZE, from as u64, 9000), "keep size");
    wanted[from..].fill(0);
    holds(&file, &wanted, "zeroed, size kept");
    assert!(allocate(&file, zero, from as u64, 9000), "growing");
    wanted.resize(from + 9000, 0);
    holds(&file, &wanted, "zeroed and grown");
}

fn allocate_over_and_past_dirty_pages(place: &Place) {
    let file = open_rw(&place.path("f"));
    let mut wanted = pattern(PAGE + 55, 1);
    file.write_all_at(&wanted, 0).unwrap();
    assert!(allocate(&file, FallocateFlags::empty(), 0, 10 * PAGE_U64), "allocate");
    wanted.resize(10 * PAGE, 0);
    assert_eq!(file.metadata().unwrap().len(), 10 * PAGE_U64, "size");
    file.write_all_at(b"end", 10 * PAGE_U64 - 3).unwrap();
    wanted[10 * PAGE - 3..].copy_from_slice(b"end");
    holds(&file, &wanted, "allocated");
}

fn allocate_past_the_end_without_growing(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.write_all_at(&[b'k'; 100], 0).unwrap();
    assert!(allocate(&file, FallocateFlags::KEEP_SIZE, 0, 1 << 20), "allocate");
    assert_eq!(file.metadata().unwrap().len(), 100, "size");
    file.write_all_at(&[b'l'; 100], 100).unwrap();
    holds(&file, &[[b'k'; 100], [b'l'; 100]].concat(), "content");
    let stored = file.metadata().unwrap().blocks() * 512;
    assert!(stored >= 1 << 20, "only {stored} bytes are allocated");
}

/// Copies until all is copied; a copy may stop early, but not make no progress.
fn copy_all(source: &File, mut from: u64, target: &File, mut to: u64, len: usize) {
    let mut left = len;
    while left > 0 {
        let count = copy_file_range(source, Some(&mut from), target, Some(&mut to), left).unwrap();
        assert!(count > 0, "no progress, {left} bytes to go");
        left -= count;
    }
}

fn copy_from_dirty_to_dirty(place: &Place) {
    let (source, target) = (open_rw(&place.path("s")), open_rw(&place.path("t")));
    let data = pattern(300_000, 1);
    source.write_all_at(&data, 0).unwrap();
    target.write_all_at(&[b'o'; 400_000], 0).unwrap();
    copy_all(&source, 5000, &target, 777, 200_001);
    let mut wanted = vec![b'o'; 400_000];
    wanted[777..200_778].copy_from_slice(&data[5000..205_001]);
    holds(&target, &wanted, "target");
    holds(&source, &data, "source");
}

fn copy_extends_the_target(place: &Place) {
    let (source, target) = (open_rw(&place.path("s")), open_rw(&place.path("t")));
    let data = pattern(100_000, 1);
    source.write_all_at(&data, 0).unwrap();
    target.write_all_at(&[b'o'; 10], 0).unwrap();
    copy_all(&source, 0, &target, 50_000, 100_000);
    let mut wanted = vec![0; 150_000];
    wanted[..10].fill(b'o');
    wanted[50_000..].copy_from_slice(&data);
    holds(&target, &wanted, "target");
    // A copy that starts at the end of the source copies nothing.
    let count = copy_file_range(&source, Some(&mut 100_000), &target, Some(&mut 0), 10).unwrap();
    assert_eq!(count, 0, "copied from the end");
}

fn copy_inside_one_dirty_file(place: &Place) {
    let file = open_rw(&place.path("f"));
    let data = pattern(100_000, 1);
    file.write_all_at(&data, 0).unwrap();
    let other = open_rw(&place.path("f"));
    copy_all(&file, 1000, &other, 200_000, 70_000);
    let mut wanted = data.clone();
    wanted.resize(200_000, 0);
    wanted.extend_from_slice(&data[1000..71_000]);
    holds(&file, &wanted, "content");
}

fn random_truncates_punches_and_writes(place: &Place) {
    const LEN: u64 = 200_000;
    let seed = u64::from(std::process::id());
    let mut random = Random::new(seed);
    let file = open_rw(&place.path("f"));
    let mut wanted: Vec<u8> = Vec::new();
    for round in 0..400 {
        let at = random.below(LEN);
        let (from, len) = (usize::try_from(at).unwrap(), random.pick(&[1, 500, PAGE, 30_000]));
        let to = from + len;
        match random.below(6) {
            0 => {
                file.set_len(at).unwrap();
                wanted.resize(from, 0);
            }
            1 => {
                assert!(allocate(&file, PUNCH, at, len as u64), "punch");
                let end = to.min(wanted.len());
                wanted[from.min(end)..end].fill(0);
            }
            2 => {
                assert!(allocate(&file, FallocateFlags::empty(), at, len as u64), "allocate");
                wanted.resize(wanted.len().max(to), 0);
            }
            _ => {
                let piece = random.bytes(len);
                file.write_all_at(&piece, at).unwrap();
                wanted.resize(wanted.len().max(to), 0);
                wanted[from..to].copy_from_slice(&piece);
            }
        }
        let what = format!("seed {seed}, round {round}");
        assert_eq!(file.metadata().unwrap().len(), wanted.len() as u64, "{what}: size");
        if round % 10 == 0 {
            same_bytes(&read_at(&file, 300_000, 0), &wanted, &what);
        }
        if round % 50 == 0 {
            holds(&file, &wanted, &what);
        }
    }
    drop(file);
    forget_pages(&place.path("f"));
    same_bytes(&fs::read(place.path("f")).unwrap(), &wanted, &format!("seed {seed}, at the end"));
}
