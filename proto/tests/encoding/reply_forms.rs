//! The form of a reply depends on what was asked, and its length is exact.

use std::time::Duration;

use fusewire_proto::abi::{InitOut, IoctlIovec, OutHeader};
use fusewire_proto::flags::*;
use fusewire_proto::op::FileLock;
use fusewire_proto::reply::{
    Attr, Attributes, Entry, FsStats, Opened, Statx, StatxAttributes, decode,
};
use fusewire_proto::{
    Asked, Envelope, Errno, Expected, Fh, Generation, LockKind, Mode, NodeId, Opcode, Operation,
    Reply, Timestamp, Unique, op, request,
};
use proptest::prelude::*;

use crate::asked::{self, asking};
use crate::bytes::Aligned;

fn error(op: &Operation<'_>, body: &[u8]) -> (&'static str, Expected) {
    let error = Reply::decode(&Asked::new(op), body).unwrap_err();
    assert_eq!(error.opcode, op.raw_opcode());
    (error.field, error.expected)
}

fn exactly(expected: usize, found: usize) -> (&'static str, Expected) {
    ("body", Expected::Exactly { expected, found })
}

fn at_most(expected: u64, found: u64) -> (&'static str, Expected) {
    ("body", Expected::AtMost { expected, found })
}

#[test]
fn fixed_forms_take_no_other_length() {
    for (op, len) in [
        (asked::lookup(b"x"), 128),
        (asked::link(), 128),
        (asked::getattr(), 104),
        (asked::setattr(), 104),
        (asked::statx(), 288),
        (asked::open(), 16),
        (asked::opendir(), 16),
        (asked::create(), 144),
        (asked::tmpfile(), 144),
        (asked::write(b"x", WriteFlags::empty()), 8),
        (Operation::CopyFileRange(asked::copy(1)), 8),
        (Operation::CopyFileRange64(asked::copy(1)), 8),
        (Operation::StatFs(op::StatFs), 80),
        (asked::getxattr(0), 8),
        (asked::listxattr(0), 8),
        (asked::getlk(), 24),
        (asked::lseek(), 8),
        (Operation::Destroy(op::Destroy), 0),
    ] {
        let body = vec![0; len + 1];
        assert!(Reply::decode(&Asked::new(&op), &body[..len]).is_ok(), "{op:?}");
        assert_eq!(error(&op, &body), exactly(len, len + 1));
        if let Some(short) = len.checked_sub(1) {
            assert_eq!(error(&op, &body[..short]), exactly(len, short));
        }
    }
}

#[test]
fn variable_forms_have_a_bound() {
    let body = [b'x'; 4200];
    for op in [asked::read(9), asked::readdir(9), asked::readdirplus(9), asked::getxattr(9)] {
        for len in 0..=9 {
            let reply = Reply::decode(&Asked::new(&op), &body[..len]);
            assert_eq!(reply, Ok(Reply::Bytes(&body[..len])));
        }
        assert_eq!(error(&op, &body[..10]), at_most(9, 10));
    }
    let readlink = Operation::ReadLink(op::ReadLink);
    assert!(Reply::decode(&Asked::new(&readlink), &body[..4095]).is_ok());
    assert_eq!(error(&readlink, &body[..4096]), at_most(4095, 4096));
    let large = Asked::new(&readlink).with_page_size(65536);
    assert!(Reply::decode(&large, &body[..4096]).is_ok());
}

#[test]
fn ioctl_has_room_for_ranges_and_private_commands_are_exact() {
    let body = [0; 5000];
    let plain = asked::ioctl(7, IoctlFlags::empty(), 8);
    assert!(Reply::decode(&Asked::new(&plain), &body[..16 + 4096]).is_ok());
    assert_eq!(error(&plain, &body[..16 + 4097]), at_most(16 + 4096, 16 + 4097));
    let expected = Expected::AtLeast { expected: 16, found: 15 };
    assert_eq!(error(&plain, &body[..15]), ("body", expected));
    // The first two speak of a `long`.
    let long = u32::try_from(size_of::<usize>()).unwrap() << 16;
    for command in [0x8000_6601 | long, 0x4000_6602 | long, 0x801c_581f, 0x401c_5820] {
        let private = asked::ioctl(command, IoctlFlags::empty(), 8);
        assert_eq!(error(&private, &body[..23]), exactly(24, 23));
        assert_eq!(error(&private, &body[..25]), exactly(24, 25));
    }
}

#[test]
fn ranges_are_as_many_as_they_say() {
    let op = asked::ioctl(7, IoctlFlags::UNRESTRICTED, 0);
    let ranges = |input: u32, output: u32, len: usize| {
        let mut body = [0_u32, 4, input, output].map(u32::to_ne_bytes).concat();
        body.resize(16 + len, 7);
        Aligned::new(&body)
    };
    let wrong = |expected, found| ("ranges", Expected::Exactly { expected, found });
    assert_eq!(error(&op, ranges(1, 1, 31).bytes()), wrong(32, 31));
    assert_eq!(error(&op, ranges(1, 1, 48).bytes()), wrong(32, 48));
    // Saturated where no memory could be that long.
    let beyond = usize::try_from(1_u64 << 36).unwrap_or(usize::MAX);
    assert_eq!(error(&op, ranges(u32::MAX, 1, 0).bytes()), wrong(beyond, 0));
    let flags = IoctlFlags::RETRY;
    let none = Reply::IoctlRetry { flags, input: &[], output: &[] };
    assert_eq!(Reply::decode(&Asked::new(&op), ranges(0, 0, 0).bytes()), Ok(none));
    let odd = [&[0], ranges(0, 1, 16).bytes()].concat();
    let odd = Aligned::new(&odd);
    assert_eq!(error(&op, &odd.bytes()[1..]), ("ranges", Expected::Aligned(align_of::<u64>())));
}

#[test]
fn init_may_end_anywhere() {
    let whole = InitOut { major: 7, minor: 31, flags: 1, max_write: 2, ..InitOut::default() };
    let mut body = [0; 65];
    Reply::Init(whole).encode(&mut body).unwrap();
    let op = asked::init();
    for len in 0..=64 {
        let decoded = Reply::decode(&Asked::new(&op), &body[..len]);
        match len {
            0..=4 => assert!(decoded.is_err(), "{len}"),
            8..=12 => assert_eq!(
                decoded,
                Ok(Reply::Init(InitOut { major: 7, minor: 31, ..InitOut::default() }))
            ),
            24.. => assert_eq!(decoded, Ok(Reply::Init(whole))),
            // A part of a number.
            _ => {}
        }
    }
    assert_eq!(error(&op, &body), at_most(64, 65));
    for (major, minor) in [(7, 30), (7, 0), (6, 45), (8, 0), (0, 0)] {
        let init = InitOut { major, minor, ..InitOut::default() };
        Reply::Init(init).encode(&mut body).unwrap();
        let expected = Expected::Version { major, minor };
        assert_eq!(error(&op, &body[..64]), ("version", expected));
    }
    let old = InitOut { major: 7, minor: 30, ..InitOut::default() };
    Reply::Init(old).encode(&mut body).unwrap();
    let text = Reply::decode(&Asked::new(&op), &body[..64]).unwrap_err().to_string();
    assert_eq!(text, "INIT: version: expected FUSE 7.31 or later, found 7.30");
}

#[test]
fn timeouts_are_clamped_as_the_kernel_does() {
    let mut body = [0_u8; 104];
    body[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
    body[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
    let Ok(Reply::Attributes(attributes)) = Reply::decode(&Asked::new(&asked::getattr()), &body)
    else {
        panic!("no attributes");
    };
    assert_eq!(attributes.valid, Duration::new(u64::MAX, 999_999_999));
}

#[test]
fn silent_operations_have_no_reply() {
    let (offset, data) = (0, b"".as_slice());
    for op in [
        Operation::Forget(op::Forget { lookups: 1.into() }),
        Operation::BatchForget(op::BatchForget { items: &[] }),
        Operation::NotifyReply(op::NotifyReply { offset, data }),
    ] {
        assert_eq!(error(&op, b""), ("body", Expected::NoReply));
        for error in [0, -5] {
            let header = OutHeader { len: 16, error, unique: Unique(2) };
            let error = decode(&Asked::new(&op), &header, b"").unwrap_err();
            assert_eq!((error.field, error.expected), ("message", Expected::NoReply));
        }
        assert!(Asked::new(&op).body_lens().is_empty());
    }
    for &opcode in Opcode::ALL {
        let silent = [Opcode::Forget, Opcode::BatchForget, Opcode::NotifyReply, Opcode::Interrupt];
        assert_eq!(opcode.is_answered(), !silent.contains(&opcode), "{opcode}");
    }
}

#[test]
fn headers_say_length_and_error() {
    let asked = Asked::new(&asked::read(8));
    let header = |len, error| OutHeader { len, error, unique: Unique(2) };
    assert_eq!(decode(&asked, &header(18, 0), b"xy"), Ok(Ok(Reply::Bytes(b"xy"))));
    assert_eq!(decode(&asked, &header(16, -2), b""), Ok(Err(Errno::ENOENT)));
    let error = |header, body| {
        let error = decode(&asked, &header, body).unwrap_err();
        (error.field, error.expected)
    };
    let wrong = Expected::Exactly { expected: 17, found: 18 };
    assert_eq!(error(header(17, 0), b"xy"), ("message", wrong));
    for found in [1, 38, i32::MAX, -512, i32::MIN] {
        assert_eq!(error(header(16, found), b""), ("error", Expected::ErrorNumber { found }));
    }
    assert!(decode(&asked, &header(16, -511), b"").is_ok());
    assert_eq!(error(header(18, -5), b"xy"), ("body", Expected::Nothing { found: 2 }));
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn recorded_replies_come_out_again() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut count = 0;
    for entry in std::fs::read_dir(format!("{dir}/replies")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let question = Aligned::new(&std::fs::read(format!("{dir}/requests/{name}")).unwrap());
        let short = name.starts_with("setxattr-short");
        let (header, argument, payload) = request::split(question.bytes(), !short).unwrap();
        let op = Operation::decode(&header, argument, payload).unwrap();
        let message = Aligned::new(&std::fs::read(&path).unwrap());
        let reply = fusewire_proto::frame::out_header(message.bytes()).unwrap();
        assert_eq!(Envelope::from(&header).unique, reply.unique);
        let mut out = vec![0xee; message.bytes().len() - 16];
        match decode(&Asked::new(&op), &reply, &message.bytes()[16..]) {
            Ok(Ok(body)) => assert_eq!(body.encode(&mut out), Ok(out.len()), "{name}"),
            Ok(Err(errno)) => assert_eq!((errno.raw(), out.len()), (-reply.error, 0)),
            Err(error) => panic!("{name}: {error}"),
        }
        assert_eq!(out, message.bytes()[16..], "{name}");
        count += 1;
    }
    assert!(count > 80, "{count} frames");
}

prop_compose! {
    fn attr()(q in any::<[u64; 6]>(), d in any::<[u32; 10]>()) -> Attr {
        Attr {
            ino: q[0],
            size: q[1],
            blocks: q[2],
            atime: Timestamp::from_wire(q[3], d[0]),
            mtime: Timestamp::from_wire(q[4], d[1]),
            ctime: Timestamp::from_wire(q[5], d[2]),
            mode: Mode(d[3]),
            nlink: d[4],
            uid: d[5],
            gid: d[6],
            rdev: d[7],
            blksize: d[8],
            flags: d[9].into(),
        }
    }
}

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns))
}

prop_compose! {
    fn entry()(ids in any::<(u64, u64)>(), t in (duration(), duration()), attr in attr()) -> Entry {
        let (nodeid, generation) = (NodeId(ids.0), Generation(ids.1));
        Entry { nodeid, generation, entry_valid: t.0, attr_valid: t.1, attr }
    }
}

prop_compose! {
    fn statx()(q in any::<[u64; 9]>(), d in any::<[u32; 13]>(), mode in any::<u16>()) -> Statx {
        Statx {
            mask: d[0].into(),
            blksize: d[1],
            attributes: q[0],
            nlink: d[2],
            uid: d[3],
            gid: d[4],
            mode: Mode(mode.into()),
            ino: q[1],
            size: q[2],
            blocks: q[3],
            attributes_mask: q[4],
            atime: Timestamp::from_wire(q[5], d[5]),
            btime: Timestamp::from_wire(q[6], d[6]),
            ctime: Timestamp::from_wire(q[7], d[7]),
            mtime: Timestamp::from_wire(q[8], d[8]),
            rdev_major: d[9],
            rdev_minor: d[10],
            dev_major: d[11],
            dev_minor: d[12],
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(
        entry in entry(),
        statx in statx(),
        valid in duration(),
        q in any::<[u64; 6]>(),
        d in any::<[u32; 6]>(),
        data in prop::collection::vec(any::<u8>(), 1..600),
        ranges in prop::collection::vec(any::<(u64, u64)>(), 0..9),
        half in 0_usize..9,
    ) {
        let opened = Opened { fh: Fh(q[0]), flags: d[0].into(), backing_id: d[1].cast_signed() };
        let ranges: Vec<_> =
            ranges.into_iter().map(|(base, len)| IoctlIovec { base, len }).collect();
        let (input, output) = ranges.split_at(half.min(ranges.len()));
        let [blocks, bfree, bavail, files, ffree, _] = q;
        let [bsize, namelen, frsize, ..] = d;
        let stats = FsStats { blocks, bfree, bavail, files, ffree, bsize, namelen, frsize };
        let flags = AttrFlags::from(d[2]);
        // Without the flag of a retry, which has a variant of its own.
        let ioctl = IoctlFlags::from(d[3]) & !IoctlFlags::RETRY;
        for reply in [
            Reply::Empty,
            Reply::Entry(entry),
            Reply::Attributes(Attributes { valid, attr: entry.attr }),
            Reply::Statx(StatxAttributes { valid, flags, statx }),
            Reply::Opened(opened),
            Reply::Created(entry, opened),
            Reply::Written(d[0]),
            Reply::FsStats(stats),
            Reply::Bytes(&data),
            Reply::XattrSize(d[1]),
            Reply::Lock(FileLock { start: q[1], end: q[2], kind: LockKind(d[4]), pid: d[5] }),
            Reply::BMap(q[3]),
            Reply::Ioctl { result: d[0].cast_signed(), flags: ioctl, data: &data },
            Reply::IoctlRetry { flags: ioctl | IoctlFlags::RETRY, input, output },
            Reply::Poll(d[2].into()),
            Reply::Offset(q[4]),
            Reply::Copied(q[5]),
            Reply::Init(InitOut { major: 7, minor: 31 + d[0] % 20, ..InitOut::default() }),
        ] {
            let mut out = vec![0; reply.encoded_len()];
            reply.encode(&mut out).unwrap();
            let body = Aligned::new(&out);
            for op in asking(&reply) {
                prop_assert_eq!(Reply::decode(&Asked::new(&op), body.bytes()), Ok(reply));
            }
        }
    }
}
