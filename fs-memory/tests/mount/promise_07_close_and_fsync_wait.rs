//! Promise 7: when close or fsync returns, what was written is in the filesystem.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, syncfs};

use crate::common::{
    MIB, Place, cases, drop_pages, forget_inodes, forget_pages, open_rw, pattern, read_at,
    same_bytes,
};

cases!(
    writeback;
    after_close_all_bytes_were_written,
    after_close_of_a_duplicate_all_bytes_were_written,
    after_fsync_all_bytes_were_written,
    after_fdatasync_all_bytes_were_written,
    syncfs_sends_all_bytes,
    close_waits_for_the_daemon,
    fsync_waits_for_the_daemon,
);
cases!(served; a_synchronous_write_is_in_the_filesystem);
cases!(everywhere; content_survives_the_caches, a_writer_that_dies_loses_nothing);

const LEN: usize = 3 * MIB + 77;

/// Bytes of WRITEs that an action causes.
fn bytes_written_by(place: &Place, action: impl FnOnce()) -> u64 {
    let before = place.stats().bytes("WRITE");
    action();
    place.stats().bytes("WRITE") - before
}

/// Writes `LEN` bytes, has them flushed in some way, and sees the daemon hold them.
fn all_arrive(place: &Place, flush: impl FnOnce(File) -> Option<File>) {
    let file = open_rw(&place.path("f"));
    let mut kept = None;
    let bytes = bytes_written_by(place, || {
        file.write_all_at(&pattern(LEN, 7), 0).unwrap();
        kept = flush(file);
    });
    assert_eq!(bytes, LEN as u64, "bytes that the daemon got");
    drop(kept);
}

fn after_close_all_bytes_were_written(place: &Place) {
    all_arrive(place, |file| {
        drop(file);
        None
    });
}

fn after_close_of_a_duplicate_all_bytes_were_written(place: &Place) {
    all_arrive(place, |file| {
        drop(file.try_clone().unwrap());
        Some(file)
    });
}

fn after_fsync_all_bytes_were_written(place: &Place) {
    all_arrive(place, |file| {
        file.sync_all().unwrap();
        Some(file)
    });
}

fn after_fdatasync_all_bytes_were_written(place: &Place) {
    all_arrive(place, |file| {
        file.sync_data().unwrap();
        Some(file)
    });
}

/// syncfs(2) sends the dirty pages, but since 6.18 need not wait for the answers: the kernel leaves
/// FUSE out (`fs/fs-writeback.c, wait_sb_inodes`), so that a stuck daemon cannot hold up sync(2).
fn syncfs_sends_all_bytes(place: &Place) {
    let file = open_rw(&place.path("f"));
    let before = place.stats().bytes("WRITE");
    file.write_all_at(&pattern(LEN, 7), 0).unwrap();
    syncfs(&file).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while place.stats().bytes("WRITE") - before < LEN as u64 {
        assert!(Instant::now() < deadline, "the pages were not sent");
        thread::sleep(Duration::from_millis(5));
    }
}

/// While the daemon is stopped an action must not return; when it goes on, it must.
fn waits(place: &Place, file: File, action: impl FnOnce(File) + Send) {
    file.write_all_at(&pattern(100_000, 1), 0).unwrap();
    let stopped = place.stopped();
    let (sender, done) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            action(file);
            sender.send(()).unwrap();
        });
        let early = done.recv_timeout(Duration::from_millis(300));
        drop(stopped);
        assert_eq!(early, Err(RecvTimeoutError::Timeout), "it did not wait for the daemon");
        done.recv_timeout(Duration::from_secs(20)).expect("it returns when the daemon answers");
    });
    assert_eq!(place.stats().bytes("WRITE"), 100_000, "bytes that the daemon got");
}

fn close_waits_for_the_daemon(place: &Place) {
    waits(place, open_rw(&place.path("f")), drop);
}

fn fsync_waits_for_the_daemon(place: &Place) {
    waits(place, open_rw(&place.path("f")), |file| file.sync_all().unwrap());
}

fn a_synchronous_write_is_in_the_filesystem(place: &Place) {
    for flag in [OFlags::SYNC, OFlags::DSYNC] {
        let flag = i32::try_from(flag.bits()).unwrap();
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).custom_flags(flag);
        let mut file = options.open(place.path("f")).unwrap();
        let bytes = bytes_written_by(place, || file.write_all(&pattern(5001, 1)).unwrap());
        assert_eq!(bytes, 5001, "bytes that the daemon got");
    }
}

fn content_survives_the_caches(place: &Place) {
    let names: Vec<_> = (0..20).map(|number| place.path(&format!("f{number}"))).collect();
    for (seed, name) in (0..).zip(&names) {
        let mut file = open_rw(name);
        file.write_all(&pattern(50_000 + 1000 * seed, 1)).unwrap();
        if seed % 2 == 0 {
            drop_pages(&file);
        }
    }
    names.iter().for_each(|name| forget_pages(name));
    forget_inodes();
    for (seed, name) in (0..).zip(&names) {
        let wanted = pattern(50_000 + 1000 * seed, 1);
        same_bytes(&fs::read(name).unwrap(), &wanted, &name.display().to_string());
    }
}

/// `/bin/sh` writes and kills itself with the file open.
fn a_writer_that_dies_loses_nothing(place: &Place) {
    let path = place.path("f");
    let script = "exec 3>\"$1\"; printf '%070000d' 7 >&3; kill -9 $$";
    let mut shell = std::process::Command::new("/bin/sh");
    let status = shell.args(["-c", script, "sh"]).arg(&path).status().unwrap();
    assert_eq!(status.code(), None, "the shell did not die by a signal");
    let wanted = [&[b'0'; 69_999][..], b"7"].concat();
    same_bytes(&fs::read(&path).unwrap(), &wanted, "from the cache");
    let file = open_rw(&path);
    drop_pages(&file);
    same_bytes(&read_at(&file, 100_000, 0), &wanted, "from the file system");
}
