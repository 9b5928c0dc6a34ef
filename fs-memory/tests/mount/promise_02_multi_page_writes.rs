//! Promise 2: dirty pages arrive as WRITEs of many pages, and reading ahead asks for many.

use std::fs::File;
use std::io::{Read, Write};

use crate::common::{
    MIB, MIB_U64, Place, Plan, cases, drop_pages, forget_pages, open_rw, pattern, same_bytes,
};

const COPY: u64 = 256 * MIB_U64;

cases!(writeback, Plan::new().seconds(120); a_large_copy_arrives_in_large_pieces);
cases!(served; a_sequential_read_asks_for_many_pages);
cases!(writeback; scattered_pages_are_not_joined, one_run_is_one_write);

/// A block that is unlike every other block.
fn stamped(block: &mut [u8], number: u64) {
    for (page, bytes) in block.chunks_mut(4096).enumerate() {
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..16].copy_from_slice(&(page as u64).to_le_bytes());
    }
}

/// 256 MiB in pieces of 128 KiB, as `cp` writes them.
fn a_large_copy_arrives_in_large_pieces(place: &Place) {
    let mut block = pattern(MIB, 2);
    let mut file = open_rw(&place.path("copy"));
    for number in 0..COPY / MIB_U64 {
        stamped(&mut block, number);
        for piece in block.chunks(128 * 1024) {
            file.write_all(piece).unwrap();
        }
    }
    drop(file);
    let stats = place.stats();
    let (mean, requests) = (stats.mean_bytes("WRITE"), stats.requests("WRITE"));
    place.figure(&format!("mean WRITE {} KiB in {requests} WRITEs of a copy", mean / 1024));
    assert_eq!(stats.bytes("WRITE"), COPY, "bytes of all WRITEs");
    assert!(mean >= 512 * 1024, "mean WRITE is {mean} bytes");

    forget_pages(&place.path("copy"));
    let mut file = File::open(place.path("copy")).unwrap();
    let mut got = vec![0; MIB];
    for number in 0..COPY / MIB_U64 {
        stamped(&mut block, number);
        file.read_exact(&mut got).unwrap();
        same_bytes(&got, &block, &format!("MiB {number}"));
    }
}

/// Reads of 4 KiB through the cache become READs of many pages.
fn a_sequential_read_asks_for_many_pages(place: &Place) {
    let path = place.path("f");
    let data = pattern(8 * MIB, 3);
    std::fs::write(&path, &data).unwrap();
    forget_pages(&path);
    let before = place.stats();
    let mut file = File::open(&path).unwrap();
    let mut got = vec![0; data.len()];
    for piece in got.chunks_mut(4096) {
        file.read_exact(piece).unwrap();
    }
    same_bytes(&got, &data, "content");
    let after = place.stats();
    let requests = after.requests("READ") - before.requests("READ");
    let mean = (after.bytes("READ") - before.bytes("READ")) / requests.max(1);
    place.figure(&format!("mean READ {} KiB of reading ahead", mean / 1024));
    assert!(requests > 0, "nothing was read");
    assert!(mean >= 64 * 1024, "mean READ is {mean} bytes");
}

/// A gap ends a run: every second page is a WRITE of its own.
fn scattered_pages_are_not_joined(place: &Place) {
    use std::os::unix::fs::FileExt;
    let file = open_rw(&place.path("f"));
    file.set_len(MIB_U64).unwrap();
    drop_pages(&file);
    let before = place.stats();
    for page in (0..256).step_by(2) {
        file.write_all_at(&[7; 4096], page * 4096).unwrap();
    }
    file.sync_all().unwrap();
    let after = place.stats();
    assert_eq!(after.bytes("WRITE") - before.bytes("WRITE"), 128 * 4096, "bytes");
    assert_eq!(after.requests("WRITE") - before.requests("WRITE"), 128, "WRITEs");
}

/// As many dirty pages as one WRITE may hold are one WRITE.
fn one_run_is_one_write(place: &Place) {
    use std::os::unix::fs::FileExt;
    let most = place.stats().number("max_write");
    let len = usize::try_from(most.min(MIB_U64)).unwrap();
    let file = open_rw(&place.path("f"));
    let before = place.stats();
    file.write_all_at(&pattern(len, 4), 0).unwrap();
    file.sync_all().unwrap();
    let after = place.stats();
    assert_eq!(after.bytes("WRITE") - before.bytes("WRITE"), len as u64, "bytes");
    assert_eq!(after.requests("WRITE") - before.requests("WRITE"), 1, "WRITEs");
}
