//! Every operation shows in one line, which begins with the name of its opcode.

use fusewire_proto::flags::*;
use fusewire_proto::op::{self, SetTime};
use fusewire_proto::{Fh, Mode, Name, NodeId, Opcode, Operation, Text, Timestamp};

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
        flags: OpenFlags::from(0x8001),
    };
    let line =
        "WRITE fh=3 offset=4096 size=1048576 write_flags=WRITE_CACHE | 0x200 flags=WRONLY | 0x8000";
    assert_eq!(Operation::Write(write).to_string(), line);
    (write.data, write.write_flags) = (b"", WriteFlags::empty());
    let line = "WRITE fh=3 offset=4096 size=0 flags=WRONLY | 0x8000";
    assert_eq!(Operation::Write(write).to_string(), line);

    let (opcode, argument, payload) = (4711, b"123".as_slice(), b"12".as_slice());
    let unknown = Operation::Unknown { opcode, argument, payload, total_extlen: 0 };
    assert_eq!(unknown.to_string(), "UNKNOWN opcode=4711 argument=3 payload=2");
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
