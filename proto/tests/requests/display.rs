//! Every operation shows in one line, which begins with the name of its opcode.

use fusewire_proto::flags::*;
use fusewire_proto::op::{self, SetTime};
use fusewire_proto::{
    Fh, Mode, Name, NodeId, Opcode, Operation, PollHandle, Text, Timestamp, Whence, XattrName,
};

use crate::cases::{self, Values};

#[test]
fn every_opcode_has_one_line() {
    let values = Values::fixed();
    let forgets = values.forgets();
    for op in Opcode::ALL.iter().filter_map(|&it| cases::operation(it, &values, &forgets)) {
        let line = op.to_string();
        let first = line.split(' ').next().unwrap();
        assert_eq!(Some(first), op.opcode().map(Opcode::name), "{line}");
        assert!(line.is_ascii() && !line.contains('\n'), "{line}");
        assert!(line.len() < 500, "{line}");
    }
}

#[test]
fn names_are_escaped_and_data_counted() {
    let name = Name::new(b"a \"b\"\n\xff").unwrap();
    let lookup = Operation::Lookup(op::Lookup { name });
    assert_eq!(lookup.to_string(), r#"LOOKUP "a \"b\"\n\xff""#);

    let mut write = op::Write {
        fh: Fh(3),
        offset: 4096,
        data: &[0; 1 << 20],
        write_flags: WriteFlags::WRITE_CACHE | WriteFlags::from(1 << 9),
        lock_owner: None,
        flags: OpenFlags::from(0x8000_0001),
    };
    let line = concat!(
        "WRITE fh=3 offset=4096 size=1048576 write_flags=WRITE_CACHE | 0x200 ",
        "flags=WRONLY | 0x80000000"
    );
    assert_eq!(Operation::Write(write).to_string(), line);
    (write.data, write.write_flags) = (b"", WriteFlags::empty());
    let line = "WRITE fh=3 offset=4096 size=0 flags=WRONLY | 0x80000000";
    assert_eq!(Operation::Write(write).to_string(), line);

    let (opcode, argument, payload) = (4711, b"123".as_slice(), b"12".as_slice());
    let unknown = Operation::Unknown { opcode, argument, payload, total_extlen: 0 };
    assert_eq!(unknown.to_string(), "UNKNOWN opcode=4711 argument=3 payload=2");
}

#[test]
fn words_of_system_calls_have_names() {
    // An open(2) with O_DIRECTORY of a caller with 64 bits, on x86.
    let flags = OpenFlags::LARGEFILE | OpenFlags::DIRECTORY | OpenFlags::NONBLOCK;
    if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
        assert_eq!(flags.bits(), 0x18800);
        let rest = OpenFlags::DIRECT | OpenFlags::NOFOLLOW;
        assert_eq!(rest.bits(), 0x24000);
    }
    let open = op::OpenDir { flags, open_flags: OpenInFlags::empty() };
    let line = "OPENDIR flags=NONBLOCK | LARGEFILE | DIRECTORY";
    assert_eq!(Operation::OpenDir(open).to_string(), line);
    let flags = OpenFlags::RDWR | OpenFlags::SYNC | OpenFlags::NOFOLLOW | OpenFlags::from(1 << 31);
    let open = op::Open { flags, open_flags: OpenInFlags::empty() };
    let line = "OPEN flags=RDWR | SYNC | NOFOLLOW | 0x80000000";
    assert_eq!(Operation::Open(open).to_string(), line);

    let access = |mask| Operation::Access(op::Access { mask }).to_string();
    assert_eq!(access(AccessMask::empty()), "ACCESS");
    assert_eq!(access(AccessMask::from(0o17)), "ACCESS mask=READ | WRITE | EXEC | 0x8");
    let (fh, offset) = (Fh(1), 2);
    let mode = FallocateMode::PUNCH_HOLE | FallocateMode::KEEP_SIZE | FallocateMode::from(1 << 20);
    let allocate = Operation::FAllocate(op::FAllocate { fh, offset, length: 3, mode });
    let line = "FALLOCATE fh=1 offset=2 length=3 mode=KEEP_SIZE | PUNCH_HOLE | 0x100000";
    assert_eq!(allocate.to_string(), line);
    let seek = |whence| Operation::LSeek(op::LSeek { fh, offset, whence }).to_string();
    assert_eq!(seek(Whence::DATA), "LSEEK fh=1 offset=2 whence=DATA");
    assert_eq!(seek(Whence::HOLE), "LSEEK fh=1 offset=2 whence=HOLE");
    assert_eq!(seek(Whence(9)), "LSEEK fh=1 offset=2 whence=9");
    let (flags, events) = (PollFlags::SCHEDULE_NOTIFY, PollEvents::IN | PollEvents::from(1 << 31));
    let poll = Operation::Poll(op::Poll { fh, kh: PollHandle(7), flags, events });
    let line = "POLL fh=1 kh=7 events=IN | 0x80000000 flags=SCHEDULE_NOTIFY";
    assert_eq!(poll.to_string(), line);
    let (name, value) = (XattrName::new(b"user.a").unwrap(), b"v".as_slice());
    let (flags, setxattr_flags) = (XattrFlags::REPLACE, SetXattrFlags::empty());
    let setxattr = Operation::SetXattr(op::SetXattr { name, value, flags, setxattr_flags });
    assert_eq!(setxattr.to_string(), r#"SETXATTR "user.a" size=1 flags=REPLACE"#);
    let (flags, mask) = (StatxFlags::DONT_SYNC, StatxMask::BTIME);
    let getattr_flags = GetAttrFlags::empty();
    let statx = Operation::Statx(op::Statx { fh: None, flags, mask, getattr_flags });
    assert_eq!(statx.to_string(), "STATX flags=DONT_SYNC mask=BTIME");
}

#[test]
fn numbers_follow_their_domain() {
    let (extensions, name) = (op::Extensions::default(), Name::new(b"d").unwrap());
    let mkdir = Operation::MkDir(op::MkDir { name, mode: Mode(0o755), umask: 0o22, extensions });
    assert_eq!(mkdir.to_string(), r#"MKDIR "d" mode=0o755 umask=0o22"#);
    let target = Text::new(b"../x").unwrap();
    let symlink = Operation::Symlink(op::Symlink { name, target, extensions });
    assert_eq!(symlink.to_string(), r#"SYMLINK "d" "../x""#);
    let flags = RenameFlags::NOREPLACE;
    let rename = op::Rename { old_name: name, new_parent: NodeId(5), new_name: name, flags };
    let line = r#"RENAME2 "d" new_parent=5 "d" flags=NOREPLACE"#;
    assert_eq!(Operation::Rename2(rename).to_string(), line);
    let setattr = op::SetAttr {
        fh: None,
        mode: Some(Mode(0o100_600)),
        uid: None,
        gid: Some(0),
        size: None,
        atime: Some(SetTime::Now(Timestamp::EPOCH)),
        mtime: Some(SetTime::At(Timestamp::new(12, 3))),
        ctime: None,
        lock_owner: None,
        kill_suidgid: false,
        valid: SetAttrValid::empty(),
    };
    let line = "SETATTR mode=0o100600 gid=0 atime=now mtime=12.000000003";
    assert_eq!(Operation::SetAttr(setattr).to_string(), line);
    let owner = 7.into();
    let lock =
        op::FileLock { start: 1, end: op::FileLock::TO_EOF, kind: op::LockKind::WRITE, pid: 9 };
    let lk_flags = LkFlags::FLOCK;
    let setlk = Operation::SetLk(op::SetLk { fh: Fh(2), owner, lock, lk_flags });
    let line = "SETLK fh=2 owner=7 kind=WRITE start=1 end=EOF pid=9 lk_flags=FLOCK";
    assert_eq!(setlk.to_string(), line);
    let flags = InitFlags::ASYNC_READ | InitFlags::PASSTHROUGH;
    let init = Operation::Init(op::Init { major: 7, minor: 45, max_readahead: 1, flags });
    let line = "INIT version=7.45 max_readahead=1 flags=ASYNC_READ | PASSTHROUGH";
    assert_eq!(init.to_string(), line);
}
