//! Promise 6: what the store does not hold reads as zeros, never as bytes of something else.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::FallocateFlags;

use crate::common::{
    MIB, MIB_U64, PAGE, PAGE_U64, PUNCH, Place, Random, allocate, cases, drop_pages, forget_pages,
    open_rw, pattern, read_at, read_direct, same_bytes,
};

cases!(
    everywhere;
    reads_around_a_dirty_end,
    a_hole_below_dirty_data,
    a_hole_after_much_data_was_read,
    shrunk_and_grown_again,
    grown_inside_the_last_page,
    punched_hole_in_stored_data,
    allocated_but_never_written,
    a_sparse_file_of_random_pieces,
);

fn reads_around_a_dirty_end(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.write_all_at(&[b'd'; 5000], 0).unwrap();
    for round in ["dirty", "stored"] {
        same_bytes(&read_at(&file, 10_000, 4000), &[b'd'; 1000], &format!("across, {round}"));
        same_bytes(&read_at(&file, 10, 5000), &[], &format!("at the end, {round}"));
        same_bytes(&read_at(&file, 10, 1 << 30), &[], &format!("far past, {round}"));
        drop_pages(&file);
    }
}

/// The store is empty below the dirty page, so a READ there is answered short.
fn a_hole_below_dirty_data(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.write_all_at(&pattern(PAGE, 1), MIB_U64).unwrap();
    let wanted = [vec![0; MIB], pattern(PAGE, 1)].concat();
    same_bytes(&read_at(&file, 2 * MIB, 0), &wanted, "dirty");
    assert_eq!(file.metadata().unwrap().len(), MIB_U64 + PAGE_U64, "size after a short read");
    drop_pages(&file);
    same_bytes(&read_at(&file, 2 * MIB, 0), &wanted, "stored");
}

/// Holes follow reads of data through the same buffers of the daemon.
fn a_hole_after_much_data_was_read(place: &Place) {
    let (full, sparse) = (place.path("full"), place.path("sparse"));
    fs::write(&full, vec![0xa5; 4 * MIB]).unwrap();
    let file = open_rw(&sparse);
    file.set_len(8 * MIB_U64).unwrap();
    file.write_all_at(&[1], 3 * MIB_U64 + 5).unwrap();
    for _ in 0..3 {
        forget_pages(&full);
        same_bytes(&fs::read(&full).unwrap(), &vec![0xa5; 4 * MIB], "the full file");
        drop_pages(&file);
        let got = read_at(&file, 9 * MIB, 0);
        assert_eq!(got.len(), 8 * MIB, "length");
        assert_eq!(got[3 * MIB + 5], 1, "the one byte");
        let strange = got.iter().filter(|byte| **byte != 0).count();
        assert_eq!(strange, 1, "bytes that are not zero");
        let direct = read_direct(&crate::common::open_direct(&sparse), MIB, 5 * MIB_U64);
        same_bytes(&direct, &vec![0; MIB], "a hole, read past the cache");
    }
}

fn shrunk_and_grown_again(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    for cut in [0, 1, 1234, PAGE, PAGE + 1, 40_000] {
        for stored in [false, true] {
            file.write_all_at(&pattern(50_000, cut as u64), 0).unwrap();
            if stored {
                drop_pages(&file);
            }
            file.set_len(cut as u64).unwrap();
            file.set_len(60_000).unwrap();
            let mut wanted = pattern(50_000, cut as u64)[..cut].to_vec();
            wanted.resize(60_000, 0);
            same_bytes(&read_at(&file, 70_000, 0), &wanted, &format!("cut to {cut}"));
            drop_pages(&file);
            let what = format!("cut to {cut}, from the file system, stored before: {stored}");
            same_bytes(&read_at(&file, 70_000, 0), &wanted, &what);
        }
    }
}

fn grown_inside_the_last_page(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.write_all_at(&[b'g'; 2000], 0).unwrap();
    file.set_len(1000).unwrap();
    file.write_all_at(b"end", 1500).unwrap();
    let wanted = [&[b'g'; 1000][..], &[0; 500], b"end"].concat();
    same_bytes(&read_at(&file, 5000, 0), &wanted, "dirty");
    drop_pages(&file);
    same_bytes(&read_at(&file, 5000, 0), &wanted, "stored");
}

fn punched_hole_in_stored_data(place: &Place) {
    let file = open_rw(&place.path("f"));
    let mut wanted = pattern(MIB, 1);
    file.write_all_at(&wanted, 0).unwrap();
    drop_pages(&file);
    let blocks = file.metadata().unwrap().blocks();
    assert!(allocate(&file, PUNCH, 100_001, 800_000), "punch");
    wanted[100_001..900_001].fill(0);
    same_bytes(&read_at(&file, 2 * MIB, 0), &wanted, "content");
    drop_pages(&file);
    same_bytes(&read_at(&file, 2 * MIB, 0), &wanted, "content from the file system");
    let freed = (blocks - file.metadata().unwrap().blocks()) * 512;
    assert!(freed >= 500_000, "only {freed} bytes were freed");
}

fn allocated_but_never_written(place: &Place) {
    let path = place.path("f");
    fs::write(place.path("other"), vec![0x5a; MIB]).unwrap();
    fs::remove_file(place.path("other")).unwrap();
    let file = open_rw(&path);
    assert!(allocate(&file, FallocateFlags::empty(), 0, MIB_U64), "allocate");
    same_bytes(&read_at(&file, 2 * MIB, 0), &vec![0; MIB], "content");
    drop_pages(&file);
    same_bytes(&read_at(&file, 2 * MIB, 0), &vec![0; MIB], "content from the file system");
}

fn a_sparse_file_of_random_pieces(place: &Place) {
    let seed = u64::from(std::process::id());
    let mut random = Random::new(seed);
    let file = open_rw(&place.path("f"));
    let mut wanted = vec![0; 4 * MIB];
    file.set_len(4 * MIB_U64).unwrap();
    for round in 0..20 {
        for _ in 0..10 {
            let len = random.pick(&[1, 100, PAGE - 1, PAGE, 3 * PAGE + 5]);
            let at = random.below_len(wanted.len() - len);
            let piece = random.bytes(len);
            file.write_all_at(&piece, at as u64).unwrap();
            wanted[at..at + len].copy_from_slice(&piece);
        }
        drop_pages(&file);
        same_bytes(&read_at(&file, 5 * MIB, 0), &wanted, &format!("seed {seed}, round {round}"));
    }
}
