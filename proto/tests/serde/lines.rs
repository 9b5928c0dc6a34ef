//! One exact line for each kind of message, and for what no mount sends.

use std::time::Duration;

use fusewire_proto::abi::{CuseInitOut, InHeader, InitOut, IoctlIovec, OutHeader};
use fusewire_proto::flags::*;
use fusewire_proto::op::{self, SetTime};
use fusewire_proto::reply::Answer;
use fusewire_proto::{
    Attr, Entry, Errno, Fh, FileType, Generation, Limits, LockOwner, Mode, Name, NodeId,
    Notification, Offer, Opcode, Opened, Operation, Reply, Timestamp, Unique, Wishes, XattrName,
    dirent, negotiate,
};
use serde::Serialize;

fn line(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap()
}

#[test]
fn headers() {
    let header = InHeader {
        len: 46,
        opcode: 1,
        unique: Unique(Unique::RESEND_BIT | 8),
        nodeid: NodeId::ROOT,
        uid: 1000,
        gid: 100,
        pid: 7,
        total_extlen: 0,
        padding: 0,
    };
    let expected = r#"{"len":46,"opcode":1,"unique":9223372036854775816,"nodeid":1,"uid":1000,"#;
    let rest = r#""gid":100,"pid":7,"total_extlen":0}"#;
    assert_eq!(line(header), [expected, rest].concat());
    let header = OutHeader::new(Unique(8), Err(Errno::ENOENT), 0);
    assert_eq!(line(header), r#"{"len":16,"error":-2,"unique":8}"#);
}

#[test]
fn operations() {
    let name = Name::new(b"caf\xc3\xa9 \xff\\n\n\"").unwrap();
    let lookup = Operation::Lookup(op::Lookup { name });
    assert_eq!(line(lookup), "{\"LOOKUP\":{\"name\":\"caf\u{e9} \\\\xff\\\\\\\\n\\n\\\"\"}}");

    let mut write = op::Write {
        fh: Fh(3),
        offset: 4096,
        data: b"hello\0\xfe",
        write_flags: WriteFlags::WRITE_CACHE | WriteFlags::from(1 << 9),
        lock_owner: None,
        flags: OpenFlags::from(0x8000_0001),
    };
    let front = r#"{"WRITE":{"fh":3,"offset":4096,"data":{"len":"#;
    let back = r#""},"write_flags":"WRITE_CACHE | 0x200","lock_owner":null,"#;
    let end = r#""flags":"WRONLY | 0x80000000"}}"#;
    let expected = [front, r#"7,"head":"hello\u0000\\xfe"#, back, end].concat();
    assert_eq!(line(Operation::Write(write)), expected);
    (write.data, write.lock_owner) = (&[b'a'; 1 << 20], Some(LockOwner(9)));
    let (head, back) = ("a".repeat(256), back.replace("null", "9"));
    let expected = [front, r#"1048576,"head":""#, &head, &back, end].concat();
    assert_eq!(line(Operation::Write(write)), expected);

    assert_eq!(line(Operation::Destroy(op::Destroy)), r#"{"DESTROY":null}"#);
    let setxattr = op::SetXattr {
        name: XattrName::new(b"user.a/b").unwrap(),
        value: b"v",
        flags: XattrFlags::CREATE,
        setxattr_flags: SetXattrFlags::empty(),
    };
    let expected =
        r#"{"SETXATTR":{"name":"user.a/b","value":{"len":1,"head":"v"},"flags":"CREATE","#;
    let expected = [expected, r#""setxattr_flags":""}}"#].concat();
    assert_eq!(line(Operation::SetXattr(setxattr)), expected);
    assert_eq!(line(SetTime::Now(Timestamp::EPOCH)), r#"{"now":{"seconds":0,"nanoseconds":0}}"#);
}

#[test]
fn extensions() {
    let mut room = [0_u8; 128];
    let mut writer = op::ExtensionsWriter::new(&mut room);
    let name = fusewire_proto::Text::new(b"security.selinux").unwrap();
    writer.security_contexts(&[op::SecurityContext { name, label: b"a:b" }]).unwrap();
    writer.groups(&[100, 1000]).unwrap();
    writer.unknown(40, b"12345678").unwrap();
    let (name, extensions) = (Name::new(b"d").unwrap(), writer.finish());
    let mkdir = Operation::MkDir(op::MkDir { name, mode: Mode(0o755), umask: 0o22, extensions });
    let expected = r#"{"MKDIR":{"name":"d","mode":493,"umask":18,"extensions":{"len":80,"#;
    let contexts =
        r#""security_contexts":[{"name":"security.selinux","label":{"len":3,"head":"a:b"}}],"#;
    assert_eq!(line(mkdir), [expected, contexts, r#""groups":[100,1000]}}}"#].concat());
}

#[test]
fn operations_that_no_mount_sends() {
    let flags = SetupMappingFlags::READ | SetupMappingFlags::from(1 << 40);
    let setup = op::SetupMapping { fh: Fh(1), file_offset: 2, length: 3, flags, window_offset: 4 };
    let expected = r#"{"SETUPMAPPING":{"fh":1,"file_offset":2,"length":3,"#;
    let rest = r#""flags":"READ | 0x10000000000","window_offset":4}}"#;
    assert_eq!(line(Operation::SetupMapping(setup)), [expected, rest].concat());

    let payload = [1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat();
    let header = InHeader { len: 64, opcode: Opcode::RemoveMapping.raw(), ..Default::default() };
    let argument = 1_u32.to_ne_bytes();
    let remove = Operation::decode(&header, &argument, &payload).unwrap();
    assert_eq!(line(remove), r#"{"REMOVEMAPPING":{"items":[{"moffset":1,"len":2}]}}"#);

    let cuse = op::CuseInit { major: 7, minor: 45, flags: CuseFlags::UNRESTRICTED_IOCTL };
    let expected = r#"{"CUSE_INIT":{"major":7,"minor":45,"flags":"UNRESTRICTED_IOCTL"}}"#;
    assert_eq!(line(Operation::CuseInit(cuse)), expected);
    let (opcode, argument, payload) = (4711, b"123".as_slice(), b"".as_slice());
    let unknown = Operation::Unknown { opcode, argument, payload, total_extlen: 0 };
    let expected = r#"{"UNKNOWN":{"opcode":4711,"argument":{"len":3,"head":"123"},"#;
    let rest = r#""payload":{"len":0,"head":""},"total_extlen":0}}"#;
    assert_eq!(line(unknown), [expected, rest].concat());
}

#[test]
fn replies() {
    let attr = Attr {
        ino: 5,
        size: 6,
        mode: Mode::new(FileType::REGULAR, 0o644),
        mtime: Timestamp::new(-2, 999_999_999),
        nlink: 1,
        flags: AttrFlags::DAX,
        ..Default::default()
    };
    let entry = Entry {
        nodeid: NodeId(5),
        generation: Generation(1),
        entry_valid: Duration::from_millis(1500),
        attr_valid: Duration::ZERO,
        attr,
    };
    let opened = Opened { fh: Fh(3), flags: FOpenFlags::KEEP_CACHE, backing_id: 0 };
    let epoch = r#"{"seconds":0,"nanoseconds":0}"#;
    let attr_line = [
        r#"{"ino":5,"size":6,"blocks":0,"atime":"#,
        epoch,
        r#","mtime":{"seconds":-2,"nanoseconds":999999999},"ctime":"#,
        epoch,
        r#","mode":33188,"nlink":1,"uid":0,"gid":0,"rdev":0,"blksize":0,"flags":"DAX"}"#,
    ]
    .concat();
    assert_eq!(line(attr), attr_line);
    let expected = [
        r#"{"created":[{"nodeid":5,"generation":1,"entry_valid":{"secs":1,"nanos":500000000},"#,
        r#""attr_valid":{"secs":0,"nanos":0},"attr":"#,
        &attr_line,
        r#"},{"fh":3,"flags":"KEEP_CACHE","backing_id":0}]}"#,
    ];
    assert_eq!(line(Reply::Created(entry, opened)), expected.concat());

    assert_eq!(line(Reply::Empty), r#""empty""#);
    assert_eq!(line(Reply::Written(4096)), r#"{"written":4096}"#);
    assert_eq!(line(Reply::Bytes(b"ab")), r#"{"bytes":{"len":2,"head":"ab"}}"#);
    let input = [IoctlIovec { base: 1, len: 2 }];
    let retry = Reply::IoctlRetry { flags: IoctlFlags::RETRY, input: &input, output: &[] };
    let expected = r#"{"ioctl_retry":{"flags":"RETRY","input":[{"base":1,"len":2}],"output":[]}}"#;
    assert_eq!(line(retry), expected);
    let answer: Answer<'_> = Err(Errno::ENOENT);
    assert_eq!(line(answer), r#"{"Err":"ENOENT"}"#);
    assert_eq!(line(Errno::new(400)), r#""400""#);

    let init = InitOut { major: 7, flags: 1 << 30 | 1, flags2: 1 << 5, ..Default::default() };
    let init = serde_json::to_value(Reply::Init(init)).unwrap();
    assert_eq!(init["init"]["flags"], "ASYNC_READ | INIT_EXT");
    assert_eq!(init["init"]["flags2"], "PASSTHROUGH");
    assert_eq!(init["init"].as_object().unwrap().len(), 13, "all but what is unused");
    let cuse = CuseInitOut { flags: 3, ..Default::default() };
    let cuse = serde_json::to_value(Reply::CuseInit(cuse, b"DEVNAME=a\0")).unwrap();
    assert_eq!(cuse["cuse_init"][0]["flags"], "UNRESTRICTED_IOCTL | 0x2");
    assert_eq!(cuse["cuse_init"][1]["head"], "DEVNAME=a\0");

    let record =
        dirent::DirentRecord { ino: 5, next_offset: 1, kind: FileType::SOCKET, name: b"\xff" };
    let expected = r#"{"ino":5,"next_offset":1,"kind":12,"name":"\\xff"}"#;
    assert_eq!(line(record), expected);
    let record = dirent::DirentPlusRecord { entry: None, dirent: record };
    assert_eq!(line(record), format!(r#"{{"entry":null,"dirent":{expected}}}"#));
}

#[test]
fn notifications() {
    let name = Name::new(b"x").unwrap();
    let flags = InvalEntryFlags::EXPIRE_ONLY | InvalEntryFlags::from(8);
    let entry = Notification::InvalEntry { parent: NodeId(2), name, flags };
    let expected = r#"{"INVAL_ENTRY":{"parent":2,"name":"x","flags":"EXPIRE_ONLY | 0x8"}}"#;
    assert_eq!(line(entry), expected);
    assert_eq!(line(Notification::Resend), r#""RESEND""#);
    let prune = Notification::Prune { nodes: &[NodeId(5), NodeId(6)] };
    assert_eq!(line(prune), r#"{"PRUNE":{"nodes":[5,6]}}"#);
    let store = Notification::Store { node: NodeId(2), offset: 0, data: b"ab" };
    let expected = r#"{"STORE":{"node":2,"offset":0,"data":{"len":2,"head":"ab"}}}"#;
    assert_eq!(line(store), expected);
}

#[test]
fn agreements() {
    let flags = InitFlags::ASYNC_READ | InitFlags::MAX_PAGES;
    let offer = Offer { major: 7, minor: 45, max_readahead: 131_072, flags };
    let flags = flags | InitFlags::CACHE_SYMLINKS;
    let wishes = Wishes { flags, max_readahead: 131_072, ..Wishes::default() };
    let agreement = negotiate(&offer, &wishes, &Limits::default()).unwrap();
    let expected = [
        r#"{"minor":45,"flags":"ASYNC_READ | MAX_PAGES","max_readahead":131072,"#,
        r#""max_write":1048576,"max_pages":256,"max_background":12,"congestion_threshold":9,"#,
        r#""time_granularity":1,"max_stack_depth":0,"request_timeout":0,"page_size":4096,"#,
        r#""reasons":[{"not_offered":"CACHE_SYMLINKS"}]}"#,
    ];
    assert_eq!(line(agreement), expected.concat());
}
