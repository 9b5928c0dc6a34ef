//! What the kernel does about a reply: a case for each of its rules.

use std::time::Duration;

use fusewire_proto::abi::{IoctlIovec, OutHeader};
use fusewire_proto::flags::*;
use fusewire_proto::op::FileLock;
use fusewire_proto::reply::{
    Adjusted, Aftermath, Attr, Known, Lane, Opened, StatxAttributes, Verdict, judge,
};
use fusewire_proto::{
    Asked, Attributes, DirentPlusWriter, Entry, Errno, Expected, FileType, LockKind, Mode, NodeId,
    Operation, Reply, Timestamp, Unique, op,
};

use crate::asked::{self, getxattr, ioctl, listxattr, lookup, mkdir, mknod, read, readdir, write};
use crate::bytes::Aligned;
use crate::replies::{entry, opened};

pub(crate) const EINVAL: Option<Errno> = Some(Errno::EINVAL);
pub(crate) const EIO: Option<Errno> = Some(Errno::EIO);
const ENOMEM: Option<Errno> = Some(Errno::ENOMEM);

/// Writer, caller, aftermath and field of a refusal; or what was adjusted.
pub(crate) type Outcome = Result<Adjusted, (Option<Errno>, Option<Errno>, Aftermath, &'static str)>;

pub(crate) const FINE: Outcome = Ok(Adjusted::empty());

pub(crate) fn raw(op: &Operation<'_>, known: &Known, header: &OutHeader, body: &[u8]) -> Outcome {
    judged(&Asked::new(op), known, header, body)
}

pub(crate) fn on_ring(op: &Operation<'_>, header: &OutHeader, body: &[u8]) -> Outcome {
    judged(&Asked::new(op).with_lane(Lane::Ring), &Known::default(), header, body)
}

pub(crate) fn judged(asked: &Asked, known: &Known, header: &OutHeader, body: &[u8]) -> Outcome {
    let body = Aligned::new(body);
    match judge(asked, known, header, body.bytes()) {
        Verdict::Accepted { adjusted, .. } => Ok(adjusted),
        Verdict::Refused(it) => Err((it.writer, it.caller, it.aftermath, it.cause.field)),
    }
}

pub(crate) fn body(op: &Operation<'_>, known: &Known, body: &[u8]) -> Outcome {
    raw(op, known, &OutHeader::new(Unique(2), Ok(()), body.len()), body)
}

pub(crate) fn with(op: &Operation<'_>, known: &Known, reply: &Reply<'_>) -> Outcome {
    let mut out = vec![0; reply.encoded_len()];
    reply.encode(&mut out).unwrap();
    body(op, known, &out)
}

pub(crate) fn check(op: &Operation<'_>, reply: &Reply<'_>) -> Outcome {
    with(op, &Known::default(), reply)
}

pub(crate) fn eio(field: &'static str) -> Outcome {
    Err((None, EIO, Aftermath::None, field))
}

fn not_counted(field: &'static str) -> Outcome {
    Err((None, EIO, Aftermath::NotCounted, field))
}

fn bad(field: &'static str) -> Outcome {
    Err((None, EIO, Aftermath::BadInode, field))
}

fn released(field: &'static str) -> Outcome {
    Err((None, EIO, Aftermath::Released, field))
}

fn changed(change: impl Fn(&mut Entry)) -> Entry {
    let mut entry = entry();
    change(&mut entry);
    entry
}

#[test]
fn timeouts_have_nanoseconds_too() {
    let clamped = Ok(Adjusted::NANOSECONDS);
    let set = |op: &Operation<'_>, reply: &Reply<'_>, places: &[usize]| {
        let mut out = vec![0; reply.encoded_len()];
        reply.encode(&mut out).unwrap();
        for &place in places {
            for (nanoseconds, outcome) in [(999_999_999_u32, FINE), (1_000_000_000, clamped)] {
                let mut out = out.clone();
                out[place..place + 4].copy_from_slice(&nanoseconds.to_ne_bytes());
                assert_eq!(body(op, &Known::default(), &out), outcome, "{op:?} at {place}");
            }
        }
    };
    // By the offsets of fuse_entry_out, fuse_attr_out and fuse_statx_out.
    set(&lookup(b"x"), &Reply::Entry(entry()), &[32, 36]);
    set(&asked::create(), &Reply::Created(entry(), Opened::default()), &[32, 36]);
    let attributes = Attributes { valid: Duration::ZERO, attr: entry().attr };
    set(&asked::getattr(), &Reply::Attributes(attributes), &[8]);
    let mut attributes = StatxAttributes::default();
    (attributes.statx.mask, attributes.statx.mode) = (StatxMask::BASIC_STATS, Mode(0o100_644));
    set(&asked::statx(), &Reply::Statx(attributes), &[8]);
}

#[test]
fn look_ups() {
    let op = lookup(b"x");
    let check = |entry| check(&op, &Reply::Entry(entry));
    assert_eq!(check(changed(|_| {})), FINE);
    // A negative entry has no attributes to look at.
    assert_eq!(check(Entry::negative(Duration::ZERO)), FINE);
    assert_eq!(check(changed(|it| it.nodeid = NodeId::ROOT)), not_counted("nodeid"));
    assert_eq!(check(changed(|it| it.attr.size = 1 << 63)), not_counted("size"));
    for mode in [0o644, 0o030_644, 0o170_644, 0o130_000] {
        assert_eq!(check(changed(|it| it.attr.mode = Mode(mode))), not_counted("mode"));
    }
    for kind in [1, 2, 4, 6, 8, 10, 12] {
        assert_eq!(check(changed(|it| it.attr.mode = Mode(kind << 12))), FINE);
    }
}

#[test]
fn look_ups_for_export() {
    let op = lookup(b".");
    let known = |nodeid| Known { nodeid: Some(NodeId(nodeid)), ..Known::default() };
    let root = Reply::Entry(changed(|it| it.nodeid = NodeId::ROOT));
    assert_eq!(check(&op, &root), FINE);
    assert_eq!(with(&op, &known(1), &root), FINE);
    assert_eq!(with(&op, &known(42), &Reply::Entry(entry())), FINE);
    // It counts all the same: the kernel compares when it has the inode.
    assert_eq!(with(&op, &known(43), &Reply::Entry(entry())), eio("nodeid"));
    // The parent has another nodeid.
    assert_eq!(with(&lookup(b".."), &known(43), &Reply::Entry(entry())), FINE);
    assert_eq!(with(&lookup(b".."), &known(43), &root), FINE);
    // For any other name the directory's nodeid says nothing.
    assert_eq!(with(&lookup(b"x"), &known(43), &Reply::Entry(entry())), FINE);
}

#[test]
fn new_inodes() {
    let typed = |mode| Reply::Entry(changed(|it| it.attr.mode = Mode(mode)));
    for (op, mode) in [
        (mknod(0o010_644), 0o010_600),
        (mknod(0o140_755), 0o140_000),
        (mkdir(), 0o040_755),
        (asked::symlink(), 0o120_777),
    ] {
        assert_eq!(check(&op, &typed(mode)), FINE);
        assert_eq!(check(&op, &typed(0o100_644)), not_counted("mode"));
        for nodeid in [0, 1] {
            let reply = changed(|it| (it.nodeid, it.attr.mode) = (NodeId(nodeid), Mode(mode)));
            assert_eq!(check(&op, &Reply::Entry(reply)), not_counted("nodeid"));
        }
        let huge = changed(|it| (it.attr.size, it.attr.mode) = (u64::MAX, Mode(mode)));
        assert_eq!(check(&op, &Reply::Entry(huge)), not_counted("size"));
    }
    let source = Known { file_type: Some(FileType::FIFO), ..Known::default() };
    assert_eq!(with(&asked::link(), &source, &typed(0o010_644)), FINE);
    assert_eq!(with(&asked::link(), &source, &typed(0o100_644)), not_counted("mode"));
    assert_eq!(check(&asked::link(), &typed(0o100_644)), FINE);
}

#[test]
fn new_files_are_regular_and_opened() {
    let plain = Opened::default();
    for op in [asked::create(), asked::tmpfile()] {
        assert_eq!(check(&op, &Reply::Created(entry(), plain)), FINE);
        let directory = changed(|it| it.attr.mode = Mode(0o040_755));
        assert_eq!(check(&op, &Reply::Created(directory, plain)), not_counted("mode"));
        let nobody = changed(|it| it.nodeid = NodeId(0));
        assert_eq!(check(&op, &Reply::Created(nobody, plain)), not_counted("nodeid"));
        assert_eq!(check(&op, &Reply::Created(entry(), opened())), released("backing_id"));
    }
}

#[test]
fn handles() {
    let open = |flags, backing_id, passthrough| {
        let known = Known { passthrough, ..Known::default() };
        let reply = Reply::Opened(Opened { flags, backing_id, ..Opened::default() });
        with(&asked::open(), &known, &reply)
    };
    let passthrough = FOpenFlags::PASSTHROUGH;
    assert_eq!(open(FOpenFlags::KEEP_CACHE, 0, true), FINE);
    assert_eq!(open(passthrough | FOpenFlags::NOFLUSH, 1, true), FINE);
    assert_eq!(open(passthrough | FOpenFlags::DIRECT_IO, 1, true), FINE);
    assert_eq!(open(passthrough | FOpenFlags::KEEP_CACHE, 1, true), released("open_flags"));
    assert_eq!(open(passthrough | FOpenFlags::from(1 << 30), 1, true), released("open_flags"));
    assert_eq!(open(passthrough, 1, false), released("open_flags"));
    assert_eq!(open(passthrough, 0, true), released("backing_id"));
    let parallel = FOpenFlags::PARALLEL_DIRECT_WRITES;
    assert_eq!(open(parallel, 0, true), Ok(Adjusted::PARALLEL_DIRECT_WRITES));
    assert_eq!(open(parallel | FOpenFlags::DIRECT_IO, 0, true), FINE);

    let directory =
        |flags| check(&asked::opendir(), &Reply::Opened(Opened { flags, ..Opened::default() }));
    assert_eq!(directory(FOpenFlags::DIRECT_IO), Ok(Adjusted::DIRECT_IO));
    assert_eq!(directory(passthrough | FOpenFlags::KEEP_CACHE), FINE);
}

#[test]
fn attributes() {
    let known = Known { file_type: Some(FileType::REGULAR), ..Known::default() };
    for op in [asked::getattr(), asked::setattr()] {
        let reply = |change: fn(&mut Entry)| {
            Reply::Attributes(Attributes { valid: Duration::ZERO, attr: changed(change).attr })
        };
        assert_eq!(with(&op, &known, &reply(|_| {})), FINE);
        assert_eq!(with(&op, &known, &reply(|it| it.attr.mode = Mode(0o040_000))), bad("mode"));
        assert_eq!(check(&op, &reply(|it| it.attr.mode = Mode(0o040_000))), FINE);
        assert_eq!(check(&op, &reply(|it| it.attr.mode = Mode(0))), bad("mode"));
        assert_eq!(check(&op, &reply(|it| it.attr.size = 1 << 63)), bad("size"));
    }
}

#[test]
fn statx() {
    let known = Known { file_type: Some(FileType::REGULAR), ..Known::default() };
    let judged = |mask: StatxMask, mode, size| {
        let mut attributes = StatxAttributes::default();
        (attributes.statx.mask, attributes.statx.mode) = (mask, Mode(mode));
        attributes.statx.size = size;
        with(&asked::statx(), &known, &Reply::Statx(attributes))
    };
    let all = StatxMask::BASIC_STATS;
    assert_eq!(judged(all, 0o100_644, 1), FINE);
    assert_eq!(judged(all, 0o040_755, 1), bad("mode"));
    assert_eq!(judged(all, 0o100_644, 1 << 63), bad("size"));
    // What the mask leaves out is not looked at.
    let not_cached = Ok(Adjusted::NOT_CACHED);
    assert_eq!(judged(all & !StatxMask::TYPE, 0, 1), not_cached);
    assert_eq!(judged(all & !StatxMask::SIZE, 0o100_644, u64::MAX), not_cached);
}

#[test]
fn counts() {
    let (copy, copy64) = (asked::copy(5), asked::copy(1 << 40));
    let written = |op: &Operation<'_>, count| check(op, &Reply::Written(count));
    assert_eq!(written(&write(b"12345", WriteFlags::empty()), 5), FINE);
    assert_eq!(written(&write(b"12345", WriteFlags::empty()), 6), eio("size"));
    // Out of the page cache nobody looks.
    assert_eq!(written(&write(b"12345", WriteFlags::WRITE_CACHE), 6), FINE);
    assert_eq!(written(&Operation::CopyFileRange(copy), 5), FINE);
    assert_eq!(written(&Operation::CopyFileRange(copy), 6), eio("size"));
    let copied = |count| check(&Operation::CopyFileRange64(copy64), &Reply::Copied(count));
    assert_eq!(copied(1 << 40), FINE);
    assert_eq!(copied((1 << 40) + 1), eio("bytes_copied"));
}

#[test]
fn positions() {
    let most = i64::MAX.cast_unsigned();
    let seek = |known: &Known, offset| with(&asked::lseek(), known, &Reply::Offset(offset));
    let einval = Err((None, EINVAL, Aftermath::None, "offset"));
    assert_eq!(seek(&Known::default(), most), FINE);
    assert_eq!(seek(&Known::default(), most + 1), einval);
    let known = Known { offset_max: 100, ..Known::default() };
    assert_eq!((seek(&known, 100), seek(&known, 101)), (FINE, einval));
}

#[test]
fn extended_attributes() {
    let size = |op: &Operation<'_>, size| check(op, &Reply::XattrSize(size));
    for op in [getxattr(0), listxattr(0)] {
        assert_eq!(size(&op, 65536), FINE);
        assert_eq!(size(&op, 65537), Ok(Adjusted::XATTR_SIZE));
    }
    let list = |list: &[u8]| check(&listxattr(20), &Reply::Bytes(list));
    assert_eq!(list(b""), FINE);
    assert_eq!(list(b"user.a\0user.b\0"), FINE);
    for wrong in [&b"user.a"[..], b"\0", b"a\0\0", b"\0a\0", b"a\0\0b\0", b"a\0b"] {
        assert_eq!(list(wrong), eio("list"), "{wrong:?}");
    }
    // A value may be anything.
    assert_eq!(check(&getxattr(20), &Reply::Bytes(b"\0\0")), FINE);
}

#[test]
fn locks() {
    let judged = |kind, start, end| {
        check(&asked::getlk(), &Reply::Lock(FileLock { start, end, kind, pid: 1 }))
    };
    let most = FileLock::TO_EOF;
    for kind in [LockKind::READ, LockKind::WRITE] {
        assert_eq!(judged(kind, 0, most), FINE);
        assert_eq!(judged(kind, most, most), FINE);
        assert_eq!(judged(kind, 2, 1), eio("start"));
        assert_eq!(judged(kind, 0, most + 1), eio("end"));
        assert_eq!(judged(kind, most + 1, most + 1), eio("end"));
    }
    assert_eq!(judged(LockKind::UNLOCK, 2, 1), FINE);
    assert_eq!(judged(LockKind(3), 0, 1), eio("type"));
}

#[test]
fn links() {
    let op = Operation::ReadLink(op::ReadLink);
    assert_eq!(check(&op, &Reply::Bytes(b"a/b")), FINE);
    assert_eq!(check(&op, &Reply::Bytes(b"a\0b")), Ok(Adjusted::TARGET_CUT));
}

#[test]
fn ioctls() {
    let (plain, unrestricted) = (IoctlFlags::empty(), IoctlFlags::UNRESTRICTED);
    let data = |result, len| {
        let data = vec![0; len];
        check(&ioctl(7, plain, 4), &Reply::Ioctl { result, flags: plain, data: &data })
    };
    assert_eq!((data(0, 4), data(-1, 0)), (FINE, FINE));
    assert_eq!(data(0, 5), eio("data"));
    assert_eq!(data(-38, 0), Ok(Adjusted::ENOTTY));
    let range = IoctlIovec { base: 1, len: 4096 };
    let retry = |flags, known: &Known, input: &[_], output: &[_]| {
        with(
            &ioctl(7, flags, 0),
            known,
            &Reply::IoctlRetry { flags: IoctlFlags::RETRY, input, output },
        )
    };
    let all = Known::default();
    assert_eq!(retry(unrestricted, &all, &[range; 128], &[range; 128]), FINE);
    assert_eq!(retry(plain, &all, &[range], &[]), eio("flags"));
    let enomem = Err((None, ENOMEM, Aftermath::None, "ranges"));
    // A 32-bit caller has no more than 32 bits.
    let high = IoctlIovec { base: 1 << 40, len: 1 };
    let long = IoctlIovec { base: 1, len: 1 << 32 };
    let narrow = unrestricted | IoctlFlags::COMPAT;
    assert_eq!(retry(narrow, &all, &[range], &[range]), FINE);
    for wrong in [high, long] {
        assert_eq!(retry(narrow, &all, &[wrong], &[]), eio("ranges"));
        assert_eq!(retry(narrow, &all, &[], &[range, wrong]), eio("ranges"));
    }
    if cfg!(target_pointer_width = "64") {
        assert_eq!(retry(unrestricted, &all, &[high], &[]), FINE);
    }
    let header = [0_u32, 4, 200, 57].map(u32::to_ne_bytes).concat();
    assert_eq!(body(&ioctl(7, unrestricted, 0), &all, &header), enomem);
    let page = Known { ioctl_max: 4096, ..all };
    assert_eq!(retry(unrestricted, &page, &[range], &[range]), FINE);
    assert_eq!(retry(unrestricted, &page, &[range; 2], &[]), enomem);
    let one_missing = [0_u32, 4, 1, 1, 0, 0, 0, 0].map(u32::to_ne_bytes).concat();
    assert_eq!(body(&ioctl(7, unrestricted, 0), &all, &one_missing), eio("ranges"));
    let failed = OutHeader::new(Unique(2), Err(Errno::ENOSYS), 0);
    assert_eq!(raw(&ioctl(7, plain, 4), &all, &failed, b""), Ok(Adjusted::ENOTTY));
    assert_eq!(raw(&read(4), &all, &failed, b""), FINE);
}

#[test]
fn directories() {
    let mut record = [1_u64, 2, 0].map(u64::to_ne_bytes).concat();
    record.extend(b"a/b\0\0\0\0\0");
    record[16] = 1;
    record[16..20].copy_from_slice(&1_u32.to_ne_bytes());
    assert_eq!(check(&readdir(99), &Reply::Bytes(&record)), FINE);
    assert_eq!(check(&readdir(99), &Reply::Bytes(b"")), FINE);
    assert_eq!(check(&readdir(99), &Reply::Bytes(&record[..31])), Ok(Adjusted::RECORD_CUT));
    record[16..20].copy_from_slice(&3_u32.to_ne_bytes());
    assert_eq!(check(&readdir(99), &Reply::Bytes(&record)), eio("name"));
    record[16..20].copy_from_slice(&0_u32.to_ne_bytes());
    assert_eq!(check(&readdir(99), &Reply::Bytes(&record)), eio("name"));
    // The caller gets the good ones in front of it.
    let mut two = record.clone();
    two[16..20].copy_from_slice(&1_u32.to_ne_bytes());
    two.extend(&record);
    let taken = Err((None, None, Aftermath::RecordsTaken, "name"));
    assert_eq!(check(&readdir(99), &Reply::Bytes(&two)), taken);

    let plus = |entries: &[Entry]| {
        let mut out = [0; 600];
        let mut writer = DirentPlusWriter::new(&mut out);
        assert!(entries.iter().all(|entry| writer.add(Some(entry), 1, 1, FileType::REGULAR, b"x")));
        let len = writer.len();
        check(&asked::readdirplus(600), &Reply::Bytes(&out[..len]))
    };
    let root = changed(|it| it.nodeid = NodeId::ROOT);
    assert_eq!(plus(&[entry(), entry()]), FINE);
    assert_eq!(plus(&[entry(), root, entry()]), Ok(Adjusted::LOOKUP_GIVEN_BACK));
    let fine = changed(|it| it.attr.ctime = Timestamp::new(-1, 1_000_000_000));
    assert_eq!(plus(&[entry(), fine]), Ok(Adjusted::NANOSECONDS));
}

#[test]
fn nanoseconds_are_below_a_second() {
    let clamped = Ok(Adjusted::NANOSECONDS);
    for (place, nanoseconds) in [(0, 1_000_000_000), (1, u32::MAX), (2, 1_000_000_000)] {
        let set = |attr: &mut Attr| {
            let times = [&mut attr.atime, &mut attr.mtime, &mut attr.ctime];
            for (at, time) in times.into_iter().enumerate() {
                *time = Timestamp::new(-1, if at == place { nanoseconds } else { 999_999_999 });
            }
        };
        let wrong = changed(|it| set(&mut it.attr));
        assert_eq!(check(&lookup(b"x"), &Reply::Entry(wrong)), clamped);
        assert_eq!(check(&asked::create(), &Reply::Created(wrong, Opened::default())), clamped);
        let attributes = Attributes { valid: Duration::ZERO, attr: wrong.attr };
        assert_eq!(check(&asked::setattr(), &Reply::Attributes(attributes)), clamped);
        // Of a negative entry nothing counts.
        let negative = Entry { nodeid: NodeId(0), ..wrong };
        assert_eq!(check(&lookup(b"x"), &Reply::Entry(negative)), FINE);
    }
    for place in 0..4 {
        let mut attributes = StatxAttributes::default();
        let statx = &mut attributes.statx;
        (statx.mask, statx.mode) = (StatxMask::BASIC_STATS, Mode(0o100_644));
        let times = [&mut statx.atime, &mut statx.mtime, &mut statx.ctime, &mut statx.btime];
        for (at, time) in times.into_iter().enumerate() {
            time.nanoseconds = if at == place { 1_000_000_000 } else { 999_999_999 };
        }
        assert_eq!(check(&asked::statx(), &Reply::Statx(attributes)), clamped);
        // What is not cached is shown as it is, but for the birth.
        attributes.statx.mask = StatxMask::SIZE;
        let birth = Adjusted::NOT_CACHED | Adjusted::NANOSECONDS;
        let outcome = Ok(if place == 3 { birth } else { Adjusted::NOT_CACHED });
        assert_eq!(check(&asked::statx(), &Reply::Statx(attributes)), outcome);
    }
}

#[test]
fn causes_say_what_was_expected() {
    let mut out = [0; 128];
    Reply::Entry(changed(|it| it.attr.mode = Mode(0o100_644))).encode(&mut out).unwrap();
    let header = OutHeader::new(Unique(2), Ok(()), out.len());
    let Verdict::Refused(refusal) = judge(&Asked::new(&mkdir()), &Known::default(), &header, &out)
    else {
        panic!("a directory that is a file was taken");
    };
    let (expected, found) = (Some(FileType::DIRECTORY), Mode(0o100_644));
    let expected = Expected::FileType { expected, found };
    assert_eq!(refusal.cause.expected, expected);
    let text = "MKDIR: mode: expected type DIRECTORY, found 0o100644";
    assert_eq!(refusal.cause.to_string(), text);
}
