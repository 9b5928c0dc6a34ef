//! Promise 10: a daemon that does not answer holds only so much dirty memory, and another file
//! system goes on writing meanwhile.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{MIB, Place, Plan, cases, forget_pages, open_rw, pattern, same_bytes, system};

cases!(writeback, Plan::new().seconds(180); others_write_while_the_daemon_is_stopped);

const WRITERS: u64 = 2;
const EACH: u64 = 192;

/// A block that names its writer and its place.
fn block(writer: u64, number: u64) -> Vec<u8> {
    let mut block = pattern(64 * 1024, writer).repeat(MIB / (64 * 1024));
    block[..8].copy_from_slice(&number.to_le_bytes());
    block
}

fn others_write_while_the_daemon_is_stopped(place: &Place) {
    // Files that exist, so that the writers need no answer before they can make pages dirty.
    let files = [1, 2].map(|writer| (writer, open_rw(&place.path(&format!("w{writer}")))));
    for (writer, file) in &files {
        let mut file = file;
        file.write_all(&block(*writer, 0)).unwrap();
    }
    let stopped = place.stopped();
    let (sender, progress) = channel();
    let dirtied = thread::scope(|scope| {
        for (writer, mut file) in files {
            let sender = sender.clone();
            scope.spawn(move || {
                for number in 1..EACH {
                    for piece in block(writer, number).chunks(64 * 1024) {
                        file.write_all(piece).unwrap();
                        sender.send(piece.len()).unwrap();
                    }
                }
            });
        }
        drop(sender);
        // The writers have come to a standstill when a whole second brings nothing.
        let mut dirtied = 0;
        while let Ok(len) = progress.recv_timeout(Duration::from_secs(1)) {
            dirtied += len;
        }
        place.figure(&format!("{} MiB dirty while the daemon answers nothing", dirtied / MIB));
        write_elsewhere(place);
        drop(stopped);
        for len in progress {
            dirtied += len;
        }
        dirtied
    });
    let total = usize::try_from(WRITERS * (EACH - 1)).unwrap() * MIB;
    assert_eq!(dirtied, total, "bytes that the writers have written in the end");
    for writer in 1..=WRITERS {
        let path = place.path(&format!("w{writer}"));
        forget_pages(&path);
        let mut file = File::open(&path).unwrap();
        let mut got = vec![0; MIB];
        for number in 0..EACH {
            file.read_exact(&mut got).unwrap();
            same_bytes(&got, &block(writer, number), &format!("writer {writer}, MiB {number}"));
        }
        assert_eq!(file.read(&mut got).unwrap(), 0, "end of writer {writer}'s file");
    }
}

/// Writes 64 MiB to a file system that is subject to the same limits of dirty memory.
fn write_elsewhere(place: &Place) {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kind = system::file_system_of(directory);
    if kind == "tmpfs" {
        place.skipped("the build directory is on tmpfs, which is never made to wait");
    }
    let mut file = tempfile::tempfile_in(directory).unwrap();
    let start = Instant::now();
    for number in 0..64 {
        file.write_all(&block(9, number)).unwrap();
    }
    let took = start.elapsed();
    place.figure(&format!("64 MiB to {kind} beside a stopped daemon took {took:?}"));
    assert!(took < Duration::from_secs(20), "64 MiB to {kind} took {took:?}");
}
