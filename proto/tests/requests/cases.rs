//! One message for every opcode, and the operation that it should give.

use fusewire_proto::abi::ForgetOne;
use fusewire_proto::flags::*;
use fusewire_proto::op::{self, FileLock, LockKind, SetTime};
use fusewire_proto::{
    Fh, LockOwner, LookupCount, Mode, Name, NodeId, Opcode, Operation, PollHandle, Text, Timestamp,
    Unique, Whence, XattrName,
};

use crate::raw::Raw;

/// Material for a message: enough numbers, names and data for any opcode.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    /// 64-bit fields.
    pub(crate) q: [u64; 8],
    /// 32-bit fields.
    pub(crate) d: [u32; 12],
    pub(crate) name: Vec<u8>,
    pub(crate) name2: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) items: Vec<(u64, u64)>,
}

impl Values {
    /// Values of which no two bytes of a field are alike.
    pub(crate) fn fixed() -> Self {
        let q =
            [1, 2, 3, 4, 5, 6, 7, 8].map(|n: u64| (n * 0x0101_0101_0101_0101) ^ 0x8070_6050_4030);
        let d = [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
            .map(|n: u32| (n * 0x0101_0101) ^ 0x0030_2010);
        Self {
            q,
            d,
            name: b"first name".to_vec(),
            name2: b"second".to_vec(),
            data: (0..=255).collect(),
            items: vec![(7, 1), (u64::MAX, 2), (0x0102_0304_0506_0708, 3)],
        }
    }

    fn first(&self) -> &Name {
        Name::new(&self.name).unwrap()
    }

    fn xattr(&self) -> &XattrName {
        XattrName::new(&self.name).unwrap()
    }

    fn second(&self) -> &Name {
        Name::new(&self.name2).unwrap()
    }

    fn lock(&self) -> FileLock {
        FileLock { start: self.q[2], end: self.q[3], kind: LockKind(self.d[0]), pid: self.d[1] }
    }

    /// What a message with `items` should give: kept apart because it must outlive the operation.
    pub(crate) fn forgets(&self) -> Vec<ForgetOne> {
        let forget = |&(nodeid, nlookup)| ForgetOne {
            nodeid: NodeId(nodeid),
            nlookup: LookupCount(nlookup),
        };
        self.items.iter().map(forget).collect()
    }

    fn items_bytes(&self) -> Vec<u8> {
        let pair = |&(a, b): &(u64, u64)| [a.to_ne_bytes(), b.to_ne_bytes()].concat();
        self.items.iter().flat_map(pair).collect()
    }

    fn data_len(&self) -> u32 {
        u32::try_from(self.data.len()).unwrap()
    }

    fn count(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap()
    }
}

/// `value` if `bit` is set in `word`: how optional fields travel.
fn when<T>(word: u32, bit: u32, value: T) -> Option<T> {
    (word & bit == bit).then_some(value)
}

/// The message for `opcode`, with every field at the offset that the C header gives it.
pub(crate) fn message(opcode: Opcode, v: &Values) -> Raw {
    let [q0, q1, q2, q3, q4, q5, q6, ..] = v.q;
    let [d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, ..] = v.d;
    let raw = |argument_len| Raw::new(opcode as u32, argument_len);
    let lk = || raw(48).at8(0, q0).at8(8, q1).at8(16, q2).at8(24, q3).at4(32, d0).at4(36, d1);
    let read_like =
        || raw(40).at8(0, q0).at8(8, q1).at4(16, d0).at4(20, d1).at8(24, q2).at4(32, d2);
    let copy = || {
        raw(56).at8(0, q0).at8(8, q1).at8(16, q2).at8(24, q3).at8(32, q4).at8(40, q5).at8(48, q6)
    };
    match opcode {
        Opcode::Lookup | Opcode::Unlink | Opcode::RmDir | Opcode::RemoveXattr => {
            raw(0).string(&v.name)
        }
        Opcode::ReadLink | Opcode::StatFs | Opcode::Destroy => raw(0),
        Opcode::Forget | Opcode::Interrupt => raw(8).at8(0, q0),
        Opcode::GetAttr => raw(16).at4(0, d0).at8(8, q0),
        Opcode::SetAttr => raw(88)
            .at4(0, d0)
            .at8(8, q0)
            .at8(16, q1)
            .at8(24, q2)
            .at8(32, q3)
            .at8(40, q4)
            .at8(48, q5)
            .at4(56, d1)
            .at4(60, d2)
            .at4(64, d3)
            .at4(68, d4)
            .at4(76, d5)
            .at4(80, d6),
        Opcode::Symlink => raw(0).string(&v.name).string(&v.name2),
        Opcode::MkNod => raw(16).at4(0, d0).at4(4, d1).at4(8, d2).string(&v.name),
        Opcode::MkDir => raw(8).at4(0, d0).at4(4, d1).string(&v.name),
        Opcode::Rename => raw(8).at8(0, q0).string(&v.name).string(&v.name2),
        Opcode::Rename2 => raw(16).at8(0, q0).at4(8, d0).string(&v.name).string(&v.name2),
        Opcode::Link => raw(8).at8(0, q0).string(&v.name),
        Opcode::Open | Opcode::OpenDir => raw(8).at4(0, d0).at4(4, d1),
        Opcode::Read | Opcode::ReadDir | Opcode::ReadDirPlus => read_like(),
        Opcode::Write => read_like().at4(16, v.data_len()).then(&v.data),
        Opcode::Release | Opcode::ReleaseDir => {
            raw(24).at8(0, q0).at4(8, d0).at4(12, d1).at8(16, q1)
        }
        Opcode::FSync | Opcode::FSyncDir => raw(16).at8(0, q0).at4(8, d0),
        Opcode::SetXattr => {
            let fixed = raw(16).at4(0, v.data_len()).at4(4, d0).at4(8, d1);
            fixed.string(&v.name).then(&v.data)
        }
        Opcode::GetXattr => raw(8).at4(0, d0).string(&v.name),
        Opcode::ListXattr => raw(8).at4(0, d0),
        Opcode::Flush => raw(24).at8(0, q0).at8(16, q1),
        // INIT_EXT, so that the second word counts.
        Opcode::Init => raw(64).at4(0, d0).at4(4, d1).at4(8, d2).at4(12, d3 | 1 << 30).at4(16, d4),
        Opcode::GetLk | Opcode::SetLk | Opcode::SetLkW => lk().at4(40, d2),
        Opcode::Access => raw(8).at4(0, d0),
        Opcode::Create | Opcode::TmpFile => {
            raw(16).at4(0, d0).at4(4, d1).at4(8, d2).at4(12, d3).string(&v.name)
        }
        Opcode::BMap => raw(16).at8(0, q0).at4(8, d0),
        Opcode::IoCtl => raw(32)
            .at8(0, q0)
            .at4(8, d0)
            .at4(12, d1)
            .at8(16, q1)
            .at4(24, v.data_len())
            .at4(28, d2)
            .then(&v.data),
        Opcode::Poll => raw(24).at8(0, q0).at8(8, q1).at4(16, d0).at4(20, d1),
        Opcode::NotifyReply => raw(40).at8(8, q0).at4(16, v.data_len()).then(&v.data),
        Opcode::BatchForget => raw(8).at4(0, v.count()).then(&v.items_bytes()),
        Opcode::FAllocate => raw(32).at8(0, q0).at8(8, q1).at8(16, q2).at4(24, d0),
        Opcode::LSeek => raw(24).at8(0, q0).at8(8, q1).at4(16, d0),
        Opcode::CopyFileRange | Opcode::CopyFileRange64 => copy(),
        Opcode::SetupMapping => raw(40).at8(0, q0).at8(8, q1).at8(16, q2).at8(24, q3).at8(32, q4),
        Opcode::RemoveMapping => raw(4).at4(0, v.count()).then(&v.items_bytes()),
        Opcode::SyncFs => raw(8).at8(0, q0),
        Opcode::Statx => raw(24).at4(0, d0).at8(8, q0).at4(16, d7).at4(20, d8),
        Opcode::CuseInit => raw(16).at4(0, d0).at4(4, d1).at4(8, d9).at4(12, d5),
    }
}

/// The operation that [`message`] should give. REMOVEMAPPING, whose ranges cannot be built from
/// outside, is `None`.
pub(crate) fn operation<'a>(
    opcode: Opcode,
    v: &'a Values,
    forgets: &'a [ForgetOne],
) -> Option<Operation<'a>> {
    use Operation as O;
    let [q0, q1, q2, q3, q4, q5, q6, ..] = v.q;
    let [d0, d1, d2, d3, d4, d5, d6, d7, d8, ..] = v.d;
    let extensions = op::Extensions::default();
    let (fh, name, data) = (Fh(q0), v.first(), v.data.as_slice());
    Some(match opcode {
        Opcode::Lookup => O::Lookup(op::Lookup { name }),
        Opcode::Forget => O::Forget(op::Forget { lookups: LookupCount(q0) }),
        Opcode::GetAttr => O::GetAttr(op::GetAttr {
            fh: when(d0, 1, fh),
            getattr_flags: GetAttrFlags::from_bits_retain(d0),
        }),
        Opcode::SetAttr => O::SetAttr(op::SetAttr {
            fh: when(d0, 0x40, fh),
            mode: when(d0, 0x1, Mode(d4)),
            uid: when(d0, 0x2, d5),
            gid: when(d0, 0x4, d6),
            size: when(d0, 0x8, q1),
            atime: set_time(d0, 0x10, 0x80, q3, d1),
            mtime: set_time(d0, 0x20, 0x100, q4, d2),
            ctime: when(d0, 0x400, timestamp(q5, d3)),
            lock_owner: when(d0, 0x200, LockOwner(q2)),
            kill_suidgid: d0 & 0x800 != 0,
            valid: SetAttrValid::from_bits_retain(d0),
        }),
        Opcode::ReadLink => O::ReadLink(op::ReadLink),
        Opcode::Symlink => {
            O::Symlink(op::Symlink { name, target: Text::new(&v.name2).unwrap(), extensions })
        }
        Opcode::MkNod => {
            O::MkNod(op::MkNod { name, mode: Mode(d0), rdev: d1, umask: d2, extensions })
        }
        Opcode::MkDir => O::MkDir(op::MkDir { name, mode: Mode(d0), umask: d1, extensions }),
        Opcode::Unlink => O::Unlink(op::Unlink { name }),
        Opcode::RmDir => O::RmDir(op::RmDir { name }),
        Opcode::Rename => O::Rename(op::Rename {
            old_name: name,
            new_parent: NodeId(q0),
            new_name: v.second(),
            flags: RenameFlags::empty(),
        }),
        Opcode::Rename2 => O::Rename2(op::Rename {
            old_name: name,
            new_parent: NodeId(q0),
            new_name: v.second(),
            flags: RenameFlags::from_bits_retain(d0),
        }),
        Opcode::Link => O::Link(op::Link { source: NodeId(q0), name }),
        Opcode::Open => O::Open(op::Open {
            flags: OpenFlags::from_bits_retain(d0),
            open_flags: OpenInFlags::from_bits_retain(d1),
        }),
        Opcode::OpenDir => O::OpenDir(op::OpenDir {
            flags: OpenFlags::from_bits_retain(d0),
            open_flags: OpenInFlags::from_bits_retain(d1),
        }),
        Opcode::Read => O::Read(op::Read {
            fh,
            offset: q1,
            size: d0,
            read_flags: ReadFlags::from_bits_retain(d1),
            lock_owner: when(d1, 2, LockOwner(q2)),
            flags: OpenFlags::from_bits_retain(d2),
        }),
        Opcode::ReadDir => O::ReadDir(op::ReadDir {
            fh,
            offset: q1,
            size: d0,
            read_flags: ReadFlags::from_bits_retain(d1),
            lock_owner: when(d1, 2, LockOwner(q2)),
            flags: OpenFlags::from_bits_retain(d2),
        }),
        Opcode::ReadDirPlus => O::ReadDirPlus(op::ReadDirPlus {
            fh,
            offset: q1,
            size: d0,
            read_flags: ReadFlags::from_bits_retain(d1),
            lock_owner: when(d1, 2, LockOwner(q2)),
            flags: OpenFlags::from_bits_retain(d2),
        }),
        Opcode::Write => O::Write(op::Write {
            fh,
            offset: q1,
            data,
            write_flags: WriteFlags::from_bits_retain(d1),
            lock_owner: when(d1, 2, LockOwner(q2)),
            flags: OpenFlags::from_bits_retain(d2),
        }),
        Opcode::StatFs => O::StatFs(op::StatFs),
        Opcode::Release => O::Release(op::Release {
            fh,
            flags: OpenFlags::from_bits_retain(d0),
            release_flags: ReleaseFlags::from_bits_retain(d1),
            lock_owner: LockOwner(q1),
        }),
        Opcode::ReleaseDir => O::ReleaseDir(op::ReleaseDir {
            fh,
            flags: OpenFlags::from_bits_retain(d0),
            release_flags: ReleaseFlags::from_bits_retain(d1),
            lock_owner: LockOwner(q1),
        }),
        Opcode::FSync => O::FSync(op::FSync {
            fh,
            datasync: d0 & 1 == 1,
            fsync_flags: FSyncFlags::from_bits_retain(d0),
        }),
        Opcode::FSyncDir => O::FSyncDir(op::FSyncDir {
            fh,
            datasync: d0 & 1 == 1,
            fsync_flags: FSyncFlags::from_bits_retain(d0),
        }),
        Opcode::SetXattr => O::SetXattr(op::SetXattr {
            name: v.xattr(),
            value: data,
            flags: XattrFlags::from_bits_retain(d0),
            setxattr_flags: SetXattrFlags::from_bits_retain(d1),
        }),
        Opcode::GetXattr => O::GetXattr(op::GetXattr { name: v.xattr(), size: d0 }),
        Opcode::ListXattr => O::ListXattr(op::ListXattr { size: d0 }),
        Opcode::RemoveXattr => O::RemoveXattr(op::RemoveXattr { name: v.xattr() }),
        Opcode::Flush => O::Flush(op::Flush { fh, lock_owner: LockOwner(q1) }),
        Opcode::Init => O::Init(op::Init {
            major: d0,
            minor: d1,
            max_readahead: d2,
            flags: InitFlags::from_bits_retain(u64::from(d4) << 32 | u64::from(d3) | 0x4000_0000),
        }),
        Opcode::GetLk => O::GetLk(op::GetLk {
            fh,
            owner: LockOwner(q1),
            lock: v.lock(),
            lk_flags: LkFlags::from_bits_retain(d2),
        }),
        Opcode::SetLk => O::SetLk(op::SetLk {
            fh,
            owner: LockOwner(q1),
            lock: v.lock(),
            lk_flags: LkFlags::from_bits_retain(d2),
        }),
        Opcode::SetLkW => O::SetLkW(op::SetLkW {
            fh,
            owner: LockOwner(q1),
            lock: v.lock(),
            lk_flags: LkFlags::from_bits_retain(d2),
        }),
        Opcode::Access => O::Access(op::Access { mask: AccessMask::from_bits_retain(d0) }),
        Opcode::Create => O::Create(op::Create {
            name,
            flags: OpenFlags::from_bits_retain(d0),
            mode: Mode(d1),
            umask: d2,
            open_flags: OpenInFlags::from_bits_retain(d3),
            extensions,
        }),
        Opcode::TmpFile => O::TmpFile(op::TmpFile {
            name: Text::new(&v.name).unwrap(),
            flags: OpenFlags::from_bits_retain(d0),
            mode: Mode(d1),
            umask: d2,
            open_flags: OpenInFlags::from_bits_retain(d3),
            extensions,
        }),
        Opcode::Interrupt => O::Interrupt(op::Interrupt { unique: Unique(q0) }),
        Opcode::BMap => O::BMap(op::BMap { block: q0, blocksize: d0 }),
        Opcode::Destroy => O::Destroy(op::Destroy),
        Opcode::IoCtl => O::IoCtl(op::IoCtl {
            fh,
            flags: IoctlFlags::from_bits_retain(d0),
            command: d1,
            argument: q1,
            out_size: d2,
            data,
        }),
        Opcode::Poll => O::Poll(op::Poll {
            fh,
            kh: PollHandle(q1),
            flags: PollFlags::from_bits_retain(d0),
            events: PollEvents::from_bits_retain(d1),
        }),
        Opcode::NotifyReply => O::NotifyReply(op::NotifyReply { offset: q0, data }),
        Opcode::BatchForget => O::BatchForget(op::BatchForget { items: forgets }),
        Opcode::FAllocate => O::FAllocate(op::FAllocate {
            fh,
            offset: q1,
            length: q2,
            mode: FallocateMode::from_bits_retain(d0),
        }),
        Opcode::LSeek => O::LSeek(op::LSeek { fh, offset: q1, whence: Whence(d0) }),
        Opcode::CopyFileRange | Opcode::CopyFileRange64 => {
            let copy = op::CopyFileRange {
                fh_in: fh,
                offset_in: q1,
                node_out: NodeId(q2),
                fh_out: Fh(q3),
                offset_out: q4,
                length: q5,
                flags: CopyFlags::from_bits_retain(q6),
            };
            if opcode == Opcode::CopyFileRange {
                O::CopyFileRange(copy)
            } else {
                O::CopyFileRange64(copy)
            }
        }
        Opcode::SetupMapping => O::SetupMapping(op::SetupMapping {
            fh,
            file_offset: q1,
            length: q2,
            flags: SetupMappingFlags::from_bits_retain(q3),
            window_offset: q4,
        }),
        Opcode::RemoveMapping => return None,
        Opcode::SyncFs => O::SyncFs(op::SyncFs),
        Opcode::Statx => O::Statx(op::Statx {
            fh: when(d0, 1, fh),
            flags: StatxFlags::from_bits_retain(d7),
            mask: StatxMask::from_bits_retain(d8),
            getattr_flags: GetAttrFlags::from_bits_retain(d0),
        }),
        Opcode::CuseInit => O::CuseInit(op::CuseInit {
            major: d0,
            minor: d1,
            flags: CuseFlags::from_bits_retain(d5),
        }),
    })
}

fn timestamp(seconds: u64, nanoseconds: u32) -> Timestamp {
    let seconds = i64::from_ne_bytes(seconds.to_ne_bytes());
    Timestamp { seconds, nanoseconds }
}

fn set_time(word: u32, set: u32, now: u32, seconds: u64, nanoseconds: u32) -> Option<SetTime> {
    if word & set == 0 {
        None
    } else if word & now != 0 {
        Some(SetTime::Now(timestamp(seconds, nanoseconds)))
    } else {
        Some(SetTime::At(timestamp(seconds, nanoseconds)))
    }
}
