//! Every form of reply body.

use std::time::Duration;

use fusewire_proto::abi::{CuseInitOut, InitOut, IoctlIovec};
use fusewire_proto::flags::{AttrFlags, FOpenFlags, IoctlFlags, StatxMask};
use fusewire_proto::op::FileLock;
use fusewire_proto::reply::{
    Attr, Attributes, Entry, FsStats, Opened, Reply, Statx, StatxAttributes,
};
use fusewire_proto::{Asked, Fh, Generation, LockKind, Mode, NodeId, Timestamp};

use crate::asked::asking;
use crate::bytes::{Aligned, Expected};

fn check(reply: Reply<'_>, expected: &Expected) {
    assert_eq!(reply.encoded_len(), expected.bytes().len());
    expected.assert(|out| reply.encode(out));
    let body = Aligned::new(expected.bytes());
    for op in asking(&reply) {
        assert_eq!(Reply::decode(&Asked::new(&op), body.bytes()), Ok(reply), "{op:?}");
    }
}

pub(crate) fn attr() -> Attr {
    Attr {
        ino: 0x1122_3344_5566_7788,
        size: 0x0123_4567_89ab_cdef,
        blocks: 0x0000_0001_0000_0002,
        atime: Timestamp::new(1_700_000_000, 1),
        mtime: Timestamp::new(-2, 999_999_999),
        ctime: Timestamp::new(0x1_0000_0000, 3),
        mode: Mode(0o100_644),
        nlink: 2,
        uid: 1000,
        gid: 100,
        rdev: 0x0010_0203,
        blksize: 4096,
        flags: AttrFlags::DAX,
    }
}

/// `struct fuse_attr` of [`attr`] at `base`.
pub(crate) fn put_attr(expected: Expected, base: usize) -> Expected {
    expected
        .at8(base, 0x1122_3344_5566_7788)
        .at8(base + 8, 0x0123_4567_89ab_cdef)
        .at8(base + 16, 0x0000_0001_0000_0002)
        .at8(base + 24, 1_700_000_000)
        .at8(base + 32, 0xffff_ffff_ffff_fffe)
        .at8(base + 40, 0x1_0000_0000)
        .at4(base + 48, 1)
        .at4(base + 52, 999_999_999)
        .at4(base + 56, 3)
        .at4(base + 60, 0x81a4)
        .at4(base + 64, 2)
        .at4(base + 68, 1000)
        .at4(base + 72, 100)
        .at4(base + 76, 0x0010_0203)
        .at4(base + 80, 4096)
        .at4(base + 84, 2)
}

pub(crate) fn entry() -> Entry {
    Entry {
        nodeid: NodeId(42),
        generation: Generation(7),
        entry_valid: Duration::new(5, 250_000_000),
        attr_valid: Duration::new(u64::MAX, 999_999_999),
        attr: attr(),
    }
}

/// `struct fuse_entry_out` of [`entry`] at `base`.
pub(crate) fn put_entry(expected: Expected, base: usize) -> Expected {
    let expected = expected
        .at8(base, 42)
        .at8(base + 8, 7)
        .at8(base + 16, 5)
        .at8(base + 24, u64::MAX)
        .at4(base + 32, 250_000_000)
        .at4(base + 36, 999_999_999);
    put_attr(expected, base + 40)
}

#[test]
fn empty() {
    check(Reply::Empty, &Expected::new(0));
}

#[test]
fn an_entry() {
    check(Reply::Entry(entry()), &put_entry(Expected::new(128), 0));
}

#[test]
fn a_negative_entry_has_nothing_but_its_timeout() {
    let negative = Entry::negative(Duration::from_millis(1500));
    check(Reply::Entry(negative), &Expected::new(128).at8(16, 1).at4(32, 500_000_000));
}

#[test]
fn attributes() {
    let attributes = Attributes { valid: Duration::new(3, 4), attr: attr() };
    let expected = put_attr(Expected::new(104).at8(0, 3).at4(8, 4), 16);
    check(Reply::Attributes(attributes), &expected);
}

#[test]
fn statx() {
    let statx = Statx {
        mask: StatxMask::from_bits_retain(0xfff),
        blksize: 8192,
        attributes: 0x1111_2222_3333_4444,
        nlink: 1,
        uid: 2,
        gid: 3,
        mode: Mode(0o040_755),
        ino: 4,
        size: 5,
        blocks: 6,
        attributes_mask: 7,
        atime: Timestamp::new(10, 11),
        btime: Timestamp::new(-12, 13),
        ctime: Timestamp::new(14, 15),
        mtime: Timestamp::new(16, 17),
        rdev_major: 18,
        rdev_minor: 19,
        dev_major: 20,
        dev_minor: 21,
    };
    let attributes =
        StatxAttributes { valid: Duration::new(8, 9), flags: AttrFlags::SUBMOUNT, statx };
    let expected = Expected::new(288)
        .at8(0, 8)
        .at4(8, 9)
        .at4(12, 1)
        .at4(32, 0xfff)
        .at4(36, 8192)
        .at8(40, 0x1111_2222_3333_4444)
        .at4(48, 1)
        .at4(52, 2)
        .at4(56, 3)
        .at2(60, 0x41ed)
        .at8(64, 4)
        .at8(72, 5)
        .at8(80, 6)
        .at8(88, 7)
        .at8(96, 10)
        .at4(104, 11)
        .at8(112, 0xffff_ffff_ffff_fff4)
        .at4(120, 13)
        .at8(128, 14)
        .at4(136, 15)
        .at8(144, 16)
        .at4(152, 17)
        .at4(160, 18)
        .at4(164, 19)
        .at4(168, 20)
        .at4(172, 21);
    check(Reply::Statx(attributes), &expected);
}

pub(crate) fn opened() -> Opened {
    Opened {
        fh: Fh(0x0102_0304_0506_0708),
        flags: FOpenFlags::PASSTHROUGH | FOpenFlags::NOFLUSH,
        backing_id: -1,
    }
}

#[test]
fn an_opened_handle() {
    let expected = Expected::new(16).at8(0, 0x0102_0304_0506_0708).at4(8, 0xa0).at4(12, u32::MAX);
    check(Reply::Opened(opened()), &expected);
}

#[test]
fn a_created_file_is_entry_then_handle() {
    let expected = put_entry(Expected::new(144), 0)
        .at8(128, 0x0102_0304_0506_0708)
        .at4(136, 0xa0)
        .at4(140, u32::MAX);
    check(Reply::Created(entry(), opened()), &expected);
}

#[test]
fn figures_of_the_filesystem() {
    let stats = FsStats {
        blocks: 1,
        bfree: 2,
        bavail: 3,
        files: 4,
        ffree: 5,
        bsize: 4096,
        namelen: 255,
        frsize: 512,
    };
    let expected = Expected::new(80)
        .at8(0, 1)
        .at8(8, 2)
        .at8(16, 3)
        .at8(24, 4)
        .at8(32, 5)
        .at4(40, 4096)
        .at4(44, 255)
        .at4(48, 512);
    check(Reply::FsStats(stats), &expected);
}

#[test]
fn a_lock() {
    let lock = FileLock { start: 9, end: 0x7fff_ffff_ffff_ffff, kind: LockKind::WRITE, pid: 77 };
    let expected = Expected::new(24).at8(0, 9).at8(8, u64::MAX >> 1).at4(16, 1).at4(20, 77);
    check(Reply::Lock(lock), &expected);
    assert_eq!(FileLock::TO_EOF, 0x7fff_ffff_ffff_ffff);
}

#[test]
fn single_numbers() {
    let long = 0x8877_6655_4433_2211;
    check(Reply::BMap(long), &Expected::new(8).at8(0, long));
    check(Reply::Offset(long), &Expected::new(8).at8(0, long));
    check(Reply::Copied(long), &Expected::new(8).at8(0, long));
    let word = 0x4433_2211;
    check(Reply::Written(word), &Expected::new(8).at4(0, word));
    check(Reply::XattrSize(word), &Expected::new(8).at4(0, word));
    check(Reply::Poll(word.into()), &Expected::new(8).at4(0, word));
}

#[test]
fn plain_bytes() {
    check(Reply::Bytes(b"target"), &Expected::new(6).at(0, b"target"));
    check(Reply::Bytes(b""), &Expected::new(0));
}

#[test]
fn ioctl_result_and_data() {
    let reply = Reply::Ioctl { result: -25, flags: IoctlFlags::DIR, data: b"abcde" };
    let expected = Expected::new(21).at4(0, 0xffff_ffe7).at4(4, 0x10).at(16, b"abcde");
    check(reply, &expected);
}

#[test]
fn ioctl_retry_names_ranges() {
    let range = |base, len| IoctlIovec { base, len };
    let reply = Reply::IoctlRetry {
        flags: IoctlFlags::RETRY | IoctlFlags::from(1 << 31),
        input: &[range(0x1000, 8), range(0x2000, 16)],
        output: &[range(0x3000, 24)],
    };
    let expected = Expected::new(64)
        .at4(4, 0x8000_0004)
        .at4(8, 2)
        .at4(12, 1)
        .at8(16, 0x1000)
        .at8(24, 8)
        .at8(32, 0x2000)
        .at8(40, 16)
        .at8(48, 0x3000)
        .at8(56, 24);
    check(reply, &expected);
}

#[test]
fn init() {
    let init = InitOut {
        major: 7,
        minor: 45,
        max_readahead: 0x0002_0000,
        flags: 0x4000_0001,
        max_background: 64,
        congestion_threshold: 48,
        max_write: 0x0010_0000,
        time_gran: 1000,
        max_pages: 256,
        map_alignment: 12,
        flags2: 0x200,
        max_stack_depth: 2,
        request_timeout: 60,
        unused: [0; 11],
    };
    let expected = Expected::new(64)
        .at4(0, 7)
        .at4(4, 45)
        .at4(8, 0x0002_0000)
        .at4(12, 0x4000_0001)
        .at2(16, 64)
        .at2(18, 48)
        .at4(20, 0x0010_0000)
        .at4(24, 1000)
        .at2(28, 256)
        .at2(30, 12)
        .at4(32, 0x200)
        .at4(36, 2)
        .at2(40, 60);
    check(Reply::Init(init), &expected);
}

#[test]
fn cuse_init_and_the_name_of_the_device() {
    let init = CuseInitOut {
        major: 7,
        minor: 45,
        flags: 1,
        max_read: 0x0002_0000,
        max_write: 0x0001_0000,
        dev_major: 240,
        dev_minor: 3,
        ..CuseInitOut::default()
    };
    let expected = Expected::new(82)
        .at4(0, 7)
        .at4(4, 45)
        .at4(12, 1)
        .at4(16, 0x0002_0000)
        .at4(20, 0x0001_0000)
        .at4(24, 240)
        .at4(28, 3)
        .at(72, b"DEVNAME=x");
    check(Reply::CuseInit(init, b"DEVNAME=x\0"), &expected);
}
