//! For each form of a reply, the operations that ask for it.

use fusewire_proto::flags::*;
use fusewire_proto::{
    Fh, LockOwner, Mode, Name, NodeId, Operation, PollHandle, Reply, Text, Whence, XattrName, op,
};

pub(crate) fn name() -> &'static Name {
    Name::new(b"name").unwrap()
}

fn xattr() -> &'static XattrName {
    XattrName::new(b"user.x").unwrap()
}

pub(crate) fn read(size: u32) -> Operation<'static> {
    let (fh, read_flags) = (Fh(1), ReadFlags::empty());
    Operation::Read(op::Read {
        fh,
        offset: 0,
        size,
        read_flags,
        lock_owner: None,
        flags: OpenFlags::empty(),
    })
}

pub(crate) fn readdir(size: u32) -> Operation<'static> {
    let (fh, read_flags) = (Fh(1), ReadFlags::empty());
    Operation::ReadDir(op::ReadDir {
        fh,
        offset: 0,
        size,
        read_flags,
        lock_owner: None,
        flags: OpenFlags::empty(),
    })
}

pub(crate) fn readdirplus(size: u32) -> Operation<'static> {
    let (fh, read_flags, lock_owner) = (Fh(1), ReadFlags::empty(), None);
    let op =
        op::ReadDirPlus { fh, offset: 0, size, read_flags, lock_owner, flags: OpenFlags::empty() };
    Operation::ReadDirPlus(op)
}

pub(crate) fn write(data: &[u8], write_flags: WriteFlags) -> Operation<'_> {
    let fh = Fh(1);
    Operation::Write(op::Write {
        fh,
        offset: 0,
        data,
        write_flags,
        lock_owner: None,
        flags: OpenFlags::empty(),
    })
}

pub(crate) fn copy(length: u64) -> op::CopyFileRange {
    op::CopyFileRange {
        fh_in: Fh(1),
        offset_in: 0,
        node_out: NodeId(2),
        fh_out: Fh(3),
        offset_out: 0,
        length,
        flags: CopyFlags::empty(),
    }
}

pub(crate) fn getxattr(size: u32) -> Operation<'static> {
    Operation::GetXattr(op::GetXattr { name: xattr(), size })
}

pub(crate) fn listxattr(size: u32) -> Operation<'static> {
    Operation::ListXattr(op::ListXattr { size })
}

pub(crate) fn ioctl(command: u32, flags: IoctlFlags, out_size: u32) -> Operation<'static> {
    let (fh, argument, data) = (Fh(1), 0, b"".as_slice());
    Operation::IoCtl(op::IoCtl { fh, flags, command, argument, out_size, data })
}

pub(crate) fn mknod(mode: u32) -> Operation<'static> {
    let extensions = op::Extensions::default();
    Operation::MkNod(op::MkNod { name: name(), mode: Mode(mode), rdev: 0, umask: 0, extensions })
}

pub(crate) fn mkdir() -> Operation<'static> {
    let extensions = op::Extensions::default();
    Operation::MkDir(op::MkDir { name: name(), mode: Mode(0o755), umask: 0, extensions })
}

pub(crate) fn symlink() -> Operation<'static> {
    let (extensions, target) = (op::Extensions::default(), Text::new(b"target").unwrap());
    Operation::Symlink(op::Symlink { name: name(), target, extensions })
}

pub(crate) fn create() -> Operation<'static> {
    let (name, open_flags) = (name(), OpenInFlags::empty());
    let extensions = op::Extensions::default();
    Operation::Create(op::Create {
        name,
        flags: OpenFlags::empty(),
        mode: Mode(0),
        umask: 0,
        open_flags,
        extensions,
    })
}

pub(crate) fn tmpfile() -> Operation<'static> {
    let (name, open_flags) = (Text::new(b"/").unwrap(), OpenInFlags::empty());
    let extensions = op::Extensions::default();
    Operation::TmpFile(op::TmpFile {
        name,
        flags: OpenFlags::empty(),
        mode: Mode(0),
        umask: 0,
        open_flags,
        extensions,
    })
}

pub(crate) fn lookup(name: &[u8]) -> Operation<'_> {
    Operation::Lookup(op::Lookup { name: Name::new(name).unwrap() })
}

pub(crate) fn link() -> Operation<'static> {
    Operation::Link(op::Link { source: NodeId(9), name: name() })
}

pub(crate) fn getattr() -> Operation<'static> {
    Operation::GetAttr(op::GetAttr { fh: None, getattr_flags: GetAttrFlags::empty() })
}

pub(crate) fn setattr() -> Operation<'static> {
    Operation::SetAttr(op::SetAttr {
        fh: None,
        mode: None,
        uid: None,
        gid: None,
        size: None,
        atime: None,
        mtime: None,
        ctime: None,
        lock_owner: None,
        kill_suidgid: false,
        valid: SetAttrValid::empty(),
    })
}

pub(crate) fn statx() -> Operation<'static> {
    let (getattr_flags, mask) = (GetAttrFlags::empty(), StatxMask::BASIC_STATS);
    Operation::Statx(op::Statx { fh: None, flags: StatxFlags::empty(), mask, getattr_flags })
}

pub(crate) fn open() -> Operation<'static> {
    Operation::Open(op::Open { flags: OpenFlags::empty(), open_flags: OpenInFlags::empty() })
}

pub(crate) fn opendir() -> Operation<'static> {
    Operation::OpenDir(op::OpenDir { flags: OpenFlags::empty(), open_flags: OpenInFlags::empty() })
}

pub(crate) fn getlk() -> Operation<'static> {
    let (owner, lock, lk_flags) = (LockOwner(1), op::FileLock::default(), LkFlags::empty());
    Operation::GetLk(op::GetLk { fh: Fh(1), owner, lock, lk_flags })
}

pub(crate) fn lseek() -> Operation<'static> {
    Operation::LSeek(op::LSeek { fh: Fh(1), offset: 0, whence: Whence::DATA })
}

pub(crate) fn init() -> Operation<'static> {
    let flags = InitFlags::empty();
    Operation::Init(op::Init { major: 7, minor: 45, max_readahead: 0, flags })
}

pub(crate) fn cuse_init() -> Operation<'static> {
    Operation::CuseInit(op::CuseInit { major: 7, minor: 45, flags: CuseFlags::empty() })
}

/// Operations whose answer has the form of `reply`, with room for just that.
pub(crate) fn asking(reply: &Reply<'_>) -> Vec<Operation<'static>> {
    let short = |len: usize| u32::try_from(len).unwrap();
    match reply {
        Reply::Empty => vec![
            Operation::Unlink(op::Unlink { name: name() }),
            Operation::Access(op::Access { mask: AccessMask::empty() }),
            Operation::SyncFs(op::SyncFs),
            Operation::Destroy(op::Destroy),
        ],
        Reply::Entry(_) => vec![lookup(b"x"), mknod(0o100_644), mkdir(), symlink(), link()],
        Reply::Attributes(_) => vec![getattr(), setattr()],
        Reply::Statx(_) => vec![statx()],
        Reply::Opened(_) => vec![open(), opendir()],
        Reply::Created(..) => vec![create(), tmpfile()],
        Reply::Written(_) => {
            vec![write(b"", WriteFlags::empty()), Operation::CopyFileRange(copy(5))]
        }
        Reply::FsStats(_) => vec![Operation::StatFs(op::StatFs)],
        Reply::Bytes([]) => vec![read(0), readdir(9), Operation::ReadLink(op::ReadLink)],
        Reply::Bytes(bytes) => {
            let len = short(bytes.len());
            let mut ops =
                vec![read(len), readdir(len), readdirplus(len), getxattr(len), listxattr(len)];
            if bytes.len() < 4096 {
                ops.push(Operation::ReadLink(op::ReadLink));
            }
            ops
        }
        Reply::XattrSize(_) => vec![getxattr(0), listxattr(0)],
        Reply::Lock(_) => vec![getlk()],
        Reply::BMap(_) => vec![Operation::BMap(op::BMap { block: 0, blocksize: 512 })],
        Reply::Ioctl { data, .. } => {
            let flags = IoctlFlags::empty();
            vec![ioctl(7, flags, short(data.len())), ioctl(0x8008_6601, flags, short(data.len()))]
        }
        Reply::IoctlRetry { .. } => vec![ioctl(7, IoctlFlags::UNRESTRICTED, 0)],
        Reply::Poll(_) => {
            let (flags, events) = (PollFlags::empty(), PollEvents::empty());
            vec![Operation::Poll(op::Poll { fh: Fh(1), kh: PollHandle(2), flags, events })]
        }
        Reply::Offset(_) => vec![lseek()],
        Reply::Copied(_) => vec![Operation::CopyFileRange64(copy(5))],
        Reply::Init(_) => vec![init()],
        Reply::CuseInit(..) => vec![cuse_init()],
    }
}
