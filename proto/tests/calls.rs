//! The words of system calls have the numbers that the host's C library has.

#![cfg(target_os = "linux")]

use fusewire_proto::Whence;
use fusewire_proto::flags::*;

/// Compares each bit with the C library's word of the same name.
macro_rules! same {
    ($($ours:expr, $theirs:ident;)*) => {$(
        assert_eq!(
            i64::from($ours.bits()),
            i64::from(libc::$theirs),
            stringify!($theirs)
        );
    )*};
}

#[test]
fn words_are_those_of_the_host() {
    same! {
        OpenFlags::WRONLY, O_WRONLY;
        OpenFlags::RDWR, O_RDWR;
        OpenFlags::CREAT, O_CREAT;
        OpenFlags::EXCL, O_EXCL;
        OpenFlags::NOCTTY, O_NOCTTY;
        OpenFlags::TRUNC, O_TRUNC;
        OpenFlags::APPEND, O_APPEND;
        OpenFlags::NONBLOCK, O_NONBLOCK;
        OpenFlags::SYNC, O_SYNC;
        OpenFlags::DSYNC, O_DSYNC;
        OpenFlags::ASYNC, O_ASYNC;
        OpenFlags::DIRECT, O_DIRECT;
        OpenFlags::DIRECTORY, O_DIRECTORY;
        OpenFlags::NOFOLLOW, O_NOFOLLOW;
        OpenFlags::NOATIME, O_NOATIME;
        (OpenFlags::TMPFILE | OpenFlags::DIRECTORY), O_TMPFILE;
        RenameFlags::NOREPLACE, RENAME_NOREPLACE;
        RenameFlags::EXCHANGE, RENAME_EXCHANGE;
        RenameFlags::WHITEOUT, RENAME_WHITEOUT;
        XattrFlags::CREATE, XATTR_CREATE;
        XattrFlags::REPLACE, XATTR_REPLACE;
        AccessMask::READ, R_OK;
        AccessMask::WRITE, W_OK;
        AccessMask::EXEC, X_OK;
        AccessMask::empty(), F_OK;
        FallocateMode::KEEP_SIZE, FALLOC_FL_KEEP_SIZE;
        FallocateMode::PUNCH_HOLE, FALLOC_FL_PUNCH_HOLE;
        FallocateMode::COLLAPSE_RANGE, FALLOC_FL_COLLAPSE_RANGE;
        FallocateMode::ZERO_RANGE, FALLOC_FL_ZERO_RANGE;
        FallocateMode::INSERT_RANGE, FALLOC_FL_INSERT_RANGE;
        FallocateMode::UNSHARE_RANGE, FALLOC_FL_UNSHARE_RANGE;
        StatxFlags::FORCE_SYNC, AT_STATX_FORCE_SYNC;
        StatxFlags::DONT_SYNC, AT_STATX_DONT_SYNC;
        StatxMask::TYPE, STATX_TYPE;
        StatxMask::MODE, STATX_MODE;
        StatxMask::NLINK, STATX_NLINK;
        StatxMask::UID, STATX_UID;
        StatxMask::GID, STATX_GID;
        StatxMask::ATIME, STATX_ATIME;
        StatxMask::MTIME, STATX_MTIME;
        StatxMask::CTIME, STATX_CTIME;
        StatxMask::INO, STATX_INO;
        StatxMask::SIZE, STATX_SIZE;
        StatxMask::BLOCKS, STATX_BLOCKS;
        StatxMask::BASIC_STATS, STATX_BASIC_STATS;
        StatxMask::BTIME, STATX_BTIME;
        PollEvents::IN, POLLIN;
        PollEvents::PRI, POLLPRI;
        PollEvents::OUT, POLLOUT;
        PollEvents::ERR, POLLERR;
        PollEvents::HUP, POLLHUP;
        PollEvents::NVAL, POLLNVAL;
        PollEvents::RDNORM, POLLRDNORM;
        PollEvents::RDBAND, POLLRDBAND;
        PollEvents::WRNORM, POLLWRNORM;
        PollEvents::WRBAND, POLLWRBAND;
        PollEvents::RDHUP, POLLRDHUP;
    }
    assert_eq!(i64::from(Whence::DATA.0), i64::from(libc::SEEK_DATA));
    assert_eq!(i64::from(Whence::HOLE.0), i64::from(libc::SEEK_HOLE));
    // Where longs have 64 bits the C library need not ask for it, and says so with a zero.
    if libc::O_LARGEFILE != 0 {
        same! { OpenFlags::LARGEFILE, O_LARGEFILE; }
    }
}
