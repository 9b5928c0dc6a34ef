//! Promise 3: while data are dirty the kernel knows the size, and no answer of ours changes it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;

use rustix::fs::{AtFlags, CWD, SeekFrom, StatxFlags, seek, statx};

use crate::common::{
    MIB_U64, PAGE, PAGE_U64, Place, cases, drop_pages, forget_inodes, forget_pages, open_append,
    open_rw, open_wo, pattern, read_at, same_bytes,
};

cases!(
    everywhere;
    every_way_to_ask_gives_the_new_size,
    appends_through_two_descriptors,
    append_follows_a_plain_write,
    size_survives_a_lookup_while_dirty,
    truncating_open_beside_a_dirty_handle,
    appending_processes_lose_no_record,
    size_survives_eviction,
    a_cached_tail_page_does_not_hide_growth,
    writes_far_past_four_gibibytes,
);
cases!(writeback; an_answer_with_an_old_size_is_not_believed);

/// Size of a file as the file system itself tells, past what the kernel remembers.
fn asked_size(path: &Path) -> u64 {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    statx(CWD, path, AtFlags::STATX_FORCE_SYNC, mask).unwrap().stx_size
}

fn every_way_to_ask_gives_the_new_size(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    let other = File::open(&path).unwrap();
    let mut size = 0;
    for step in [1, 100, PAGE, 3 * PAGE + 7, 1 << 20] {
        file.write_all(&pattern(step, 1)).unwrap();
        size += step as u64;
        assert_eq!(file.metadata().unwrap().len(), size, "fstat");
        assert_eq!(other.metadata().unwrap().len(), size, "fstat of another handle");
        assert_eq!(fs::metadata(&path).unwrap().len(), size, "stat");
        assert_eq!(asked_size(&path), size, "statx that asks the file system");
        assert_eq!(seek(&other, SeekFrom::End(0)).unwrap(), size, "seek to the end");
        for entry in fs::read_dir(place.root()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().len(), size, "listing");
        }
    }
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().len(), size, "stat after close");
    assert_eq!(asked_size(&path), size, "statx after close");
}

/// The daemon is asked and tells the old size of its store; the file keeps the new one.
fn an_answer_with_an_old_size_is_not_believed(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    file.write_all_at(&pattern(100, 1), 0).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(&pattern(5000, 2), 100).unwrap();
    let before = place.stats();
    for _ in 0..10 {
        assert_eq!(asked_size(&path), 5100, "grown and dirty");
    }
    let after = place.stats();
    let asked = |opcode| after.requests(opcode) - before.requests(opcode);
    assert!(asked("STATX") + asked("GETATTR") >= 10, "the daemon was not asked");
    assert_eq!(asked("WRITE"), 0, "the data were not dirty any more");
    file.set_len(50).unwrap();
    file.write_all_at(b"x", 59).unwrap();
    assert_eq!(asked_size(&path), 60, "cut and grown");
    drop_pages(&file);
    let mut wanted = pattern(100, 1)[..50].to_vec();
    wanted.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, b'x']);
    same_bytes(&read_at(&file, 100, 0), &wanted, "content");
}

fn appends_through_two_descriptors(place: &Place) {
    let path = place.path("f");
    drop(open_rw(&path));
    let mut handles = [open_append(&path), open_append(&path)];
    let mut wanted = Vec::new();
    for number in 0..300 {
        let record = format!("{number};").repeat(1 + number % 7);
        handles[number % 2].write_all(record.as_bytes()).unwrap();
        wanted.extend_from_slice(record.as_bytes());
        assert_eq!(fs::metadata(&path).unwrap().len(), wanted.len() as u64, "size");
    }
    drop(handles);
    same_bytes(&fs::read(&path).unwrap(), &wanted, "content");
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &wanted, "content from the file system");
}

fn append_follows_a_plain_write(place: &Place) {
    let path = place.path("f");
    let mut plain = open_rw(&path);
    let mut append = open_append(&path);
    plain.write_all(&[b'p'; 6000]).unwrap();
    append.write_all(&[b'a'; 10]).unwrap();
    plain.write_all(&[b'q'; 5]).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 6010, "size");
    drop((plain, append));
    forget_pages(&path);
    let wanted = [&[b'p'; 6000][..], &[b'q'; 5], &[b'a'; 5]].concat();
    same_bytes(&fs::read(&path).unwrap(), &wanted, "content");
}

/// Dropping names makes the kernel look the file up again while its data are dirty.
fn size_survives_a_lookup_while_dirty(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    for round in 1..=3 {
        file.write_all(&pattern(10_000, round)).unwrap();
        forget_inodes();
        assert_eq!(fs::metadata(&path).unwrap().len(), 10_000 * round, "stat");
        assert_eq!(file.metadata().unwrap().len(), 10_000 * round, "fstat");
    }
    drop(file);
    let wanted = [pattern(10_000, 1), pattern(10_000, 2), pattern(10_000, 3)].concat();
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &wanted, "content");
}

fn truncating_open_beside_a_dirty_handle(place: &Place) {
    let path = place.path("f");
    let mut old = open_rw(&path);
    old.write_all(&pattern(1 << 20, 1)).unwrap();
    let new = File::options().read(true).write(true).truncate(true).open(&path).unwrap();
    assert_eq!(old.metadata().unwrap().len(), 0, "size after the truncating open");
    new.write_all_at(&[b'n'; 10], 0).unwrap();
    same_bytes(&read_at(&old, 100, 0), &[b'n'; 10], "through the old handle");
    old.write_all_at(b"m", 20).unwrap();
    drop((old, new));
    forget_pages(&path);
    let wanted = [&[b'n'; 10][..], &[0; 10], b"m"].concat();
    same_bytes(&fs::read(&path).unwrap(), &wanted, "content");
}

/// Four writers append records; each record is whole, and in its writer's order.
fn appending_processes_lose_no_record(place: &Place) {
    let path = place.path("f");
    drop(open_rw(&path));
    thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let mut file = open_append(path);
                for number in 0..300 {
                    let record = format!("{writer} {number} {}\n", ".".repeat(number % 60));
                    assert_eq!(file.write(record.as_bytes()).unwrap(), record.len());
                }
            });
        }
    });
    forget_pages(&path);
    let text = fs::read_to_string(&path).unwrap();
    let mut next = [0; 4];
    for line in text.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let writer: usize = parts[0].parse().unwrap();
        let number: usize = parts[1].parse().unwrap();
        assert_eq!(number, next[writer], "order of writer {writer}");
        assert_eq!(parts[2].len(), number % 60, "a record's length");
        next[writer] += 1;
    }
    assert_eq!(next, [300; 4], "records");
}

fn size_survives_eviction(place: &Place) {
    let path = place.path("f");
    fs::write(&path, pattern(123_457, 1)).unwrap();
    forget_pages(&path);
    forget_inodes();
    assert_eq!(fs::metadata(&path).unwrap().len(), 123_457, "size");
    same_bytes(&fs::read(&path).unwrap(), &pattern(123_457, 1), "content");
}

fn a_cached_tail_page_does_not_hide_growth(place: &Place) {
    let path = place.path("f");
    fs::write(&path, [1; 5000]).unwrap();
    let mut reader = File::open(&path).unwrap();
    let mut first = Vec::new();
    reader.read_to_end(&mut first).unwrap();
    assert_eq!(first.len(), 5000, "first read");
    let writer = open_wo(&path);
    writer.write_all_at(&[2; 9000], 5000).unwrap();
    let wanted = [&[1; 5000][..], &[2; 9000]].concat();
    same_bytes(&read_at(&reader, 40_000, 0), &wanted, "while the other handle is open");
    drop(writer);
    same_bytes(&read_at(&reader, 40_000, 0), &wanted, "after it was closed");
}

fn writes_far_past_four_gibibytes(place: &Place) {
    let file = open_rw(&place.path("f"));
    let far = (4096 * MIB_U64) + 12_345;
    file.write_all_at(&pattern(3000, 1), far).unwrap();
    file.write_all_at(b"near", 5).unwrap();
    assert_eq!(file.metadata().unwrap().len(), far + 3000, "size");
    drop_pages(&file);
    let wanted = [&[0; 100][..], &pattern(3000, 1)].concat();
    same_bytes(&read_at(&file, 5000, far - 100), &wanted, "far data");
    same_bytes(&read_at(&file, 14, 0), b"\0\0\0\0\0near\0\0\0\0\0", "near data");
    same_bytes(&read_at(&file, PAGE, 4096 * MIB_U64), &[0; PAGE], "the hole");
    let stored = file.metadata().unwrap().blocks() * 512;
    assert!(stored < 256 * PAGE_U64, "not sparse: {stored} bytes stored");
}
