//! Decoded operations in the words of the C header: what [`super::differential`] compares.

use std::vec::Vec;

use crate::op::{Extensions, FileLock, SetTime};
use crate::request::Operation;
use crate::types::{Fh, LockOwner, Timestamp};

/// Fields of the fixed struct, `field:CONSTANT` for single bits of it, with their values.
pub(super) struct Fields(pub(super) Vec<(&'static str, u64)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: impl Into<u64>) {
        self.0.push((name, value.into()));
    }

    /// A field that counts only if a bit of another one is set.
    fn when(&mut self, bit: &'static str, name: &'static str, value: Option<impl Into<u64>>) {
        self.put(bit, value.is_some());
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn time(&mut self, seconds: &'static str, nanos: &'static str, time: Timestamp) {
        self.put(seconds, time.seconds.cast_unsigned());
        self.put(nanos, time.nanoseconds);
    }

    fn set_time(&mut self, [set, now, seconds, nanos]: [&'static str; 4], time: Option<SetTime>) {
        self.put(set, time.is_some());
        match time {
            Some(SetTime::At(time)) => {
                self.put(now, false);
                self.time(seconds, nanos, time);
            }
            Some(SetTime::Now(_)) => self.put(now, true),
            None => {}
        }
    }

    fn read(&mut self, fh: Fh, offset: u64, size: u32, read_flags: u32, flags: u32) {
        self.put("fh", fh);
        self.put("offset", offset);
        self.put("size", size);
        self.put("read_flags", read_flags);
        self.put("flags", flags);
    }

    fn owned_by(&mut self, owner: Option<LockOwner>) {
        self.when("read_flags:FUSE_READ_LOCKOWNER", "lock_owner", owner);
    }

    fn lock(&mut self, fh: Fh, owner: LockOwner, lock: FileLock, lk_flags: u32) {
        self.put("fh", fh);
        self.put("owner", owner);
        self.put("lk.start", lock.start);
        self.put("lk.end", lock.end);
        self.put("lk.type", lock.kind.0);
        self.put("lk.pid", lock.pid);
        self.put("lk_flags", lk_flags);
    }

    fn open(&mut self, flags: u32, open_flags: u32) {
        self.put("flags", flags);
        self.put("open_flags", open_flags);
    }

    fn release(&mut self, fh: Fh, flags: u32, release_flags: u32, owner: LockOwner) {
        self.put("fh", fh);
        self.put("flags", flags);
        self.put("release_flags", release_flags);
        self.put("lock_owner", owner);
    }

    fn create(&mut self, flags: u32, mode: u32, umask: u32, open_flags: u32) {
        self.open(flags, open_flags);
        self.put("mode", mode);
        self.put("umask", umask);
    }

    fn sync(&mut self, fh: Fh, datasync: bool) {
        self.put("fh", fh);
        self.put("fsync_flags:FUSE_FSYNC_FDATASYNC", datasync);
    }
}

/// What an operation says of its fixed struct.
pub(super) fn fields(op: &Operation<'_>) -> Fields {
    use Operation as O;
    let mut f = Fields(Vec::new());
    match op {
        O::Forget(op) => f.put("nlookup", op.lookups),
        O::GetAttr(op) => f.when("getattr_flags:FUSE_GETATTR_FH", "fh", op.fh),
        O::SetAttr(op) => {
            f.put("valid", op.valid.bits());
            f.when("valid:FATTR_FH", "fh", op.fh);
            f.when("valid:FATTR_MODE", "mode", op.mode.map(u32::from));
            f.when("valid:FATTR_UID", "uid", op.uid);
            f.when("valid:FATTR_GID", "gid", op.gid);
            f.when("valid:FATTR_SIZE", "size", op.size);
            f.when("valid:FATTR_LOCKOWNER", "lock_owner", op.lock_owner);
            f.put("valid:FATTR_KILL_SUIDGID", op.kill_suidgid);
            let atime = ["valid:FATTR_ATIME", "valid:FATTR_ATIME_NOW", "atime", "atimensec"];
            let mtime = ["valid:FATTR_MTIME", "valid:FATTR_MTIME_NOW", "mtime", "mtimensec"];
            f.set_time(atime, op.atime);
            f.set_time(mtime, op.mtime);
            f.put("valid:FATTR_CTIME", op.ctime.is_some());
            if let Some(time) = op.ctime {
                f.time("ctime", "ctimensec", time);
            }
        }
        O::MkNod(op) => {
            f.put("mode", op.mode.bits());
            f.put("rdev", op.rdev);
            f.put("umask", op.umask);
        }
        O::MkDir(op) => {
            f.put("mode", op.mode.bits());
            f.put("umask", op.umask);
        }
        O::Rename(op) => {
            f.put("newdir", op.new_parent);
            assert!(op.flags.is_empty(), "RENAME has no flags");
        }
        O::Rename2(op) => {
            f.put("newdir", op.new_parent);
            f.put("flags", op.flags.bits());
        }
        O::Link(op) => f.put("oldnodeid", op.source),
        O::Open(op) => f.open(op.flags.bits(), op.open_flags.bits()),
        O::OpenDir(op) => f.open(op.flags.bits(), op.open_flags.bits()),
        O::Read(op) => {
            f.read(op.fh, op.offset, op.size, op.read_flags.bits(), op.flags.bits());
            f.owned_by(op.lock_owner);
        }
        O::ReadDir(op) => {
            f.read(op.fh, op.offset, op.size, op.read_flags.bits(), op.flags.bits());
            f.owned_by(op.lock_owner);
        }
        O::ReadDirPlus(op) => {
            f.read(op.fh, op.offset, op.size, op.read_flags.bits(), op.flags.bits());
            f.owned_by(op.lock_owner);
        }
        O::Write(op) => {
            f.put("fh", op.fh);
            f.put("offset", op.offset);
            f.put("size", op.data.len() as u64);
            f.put("write_flags", op.write_flags.bits());
            f.put("flags", op.flags.bits());
            f.when("write_flags:FUSE_WRITE_LOCKOWNER", "lock_owner", op.lock_owner);
        }
        O::Release(op) => f.release(op.fh, op.flags.bits(), op.release_flags.bits(), op.lock_owner),
        O::ReleaseDir(op) => {
            f.release(op.fh, op.flags.bits(), op.release_flags.bits(), op.lock_owner)
        }
        O::FSync(op) => f.sync(op.fh, op.datasync),
        O::FSyncDir(op) => f.sync(op.fh, op.datasync),
        O::SetXattr(op) => {
            f.put("size", op.value.len() as u64);
            f.put("flags", op.flags.bits());
            f.put("setxattr_flags", op.setxattr_flags.bits());
        }
        O::GetXattr(op) => f.put("size", op.size),
        O::ListXattr(op) => f.put("size", op.size),
        O::Flush(op) => {
            f.put("fh", op.fh);
            f.put("lock_owner", op.lock_owner);
        }
        O::Init(op) => {
            f.put("major", op.major);
            f.put("minor", op.minor);
            f.put("max_readahead", op.max_readahead);
            f.put("flags", op.flags.low());
            let extended = op.flags.low() & 1 << 30 != 0;
            assert!(extended || op.flags.high() == 0, "flags2 without INIT_EXT");
            f.when("flags:FUSE_INIT_EXT", "flags2", extended.then_some(op.flags.high()));
        }
        O::GetLk(op) => f.lock(op.fh, op.owner, op.lock, op.lk_flags.bits()),
        O::SetLk(op) => f.lock(op.fh, op.owner, op.lock, op.lk_flags.bits()),
        O::SetLkW(op) => f.lock(op.fh, op.owner, op.lock, op.lk_flags.bits()),
        O::Access(op) => f.put("mask", op.mask.bits()),
        O::Create(op) => f.create(op.flags.bits(), op.mode.bits(), op.umask, op.open_flags.bits()),
        O::TmpFile(op) => f.create(op.flags.bits(), op.mode.bits(), op.umask, op.open_flags.bits()),
        O::Interrupt(op) => f.put("unique", op.unique),
        O::BMap(op) => {
            f.put("block", op.block);
            f.put("blocksize", op.blocksize);
        }
        O::IoCtl(op) => {
            f.put("fh", op.fh);
            f.put("flags", op.flags.bits());
            f.put("cmd", op.command);
            f.put("arg", op.argument);
            f.put("in_size", op.data.len() as u64);
            f.put("out_size", op.out_size);
        }
        O::Poll(op) => {
            f.put("fh", op.fh);
            f.put("kh", op.kh);
            f.put("flags", op.flags.bits());
            f.put("events", op.events.bits());
        }
        O::NotifyReply(op) => {
            f.put("offset", op.offset);
            f.put("size", op.data.len() as u64);
        }
        O::BatchForget(op) => f.put("count", op.items.len() as u64),
        O::FAllocate(op) => {
            f.put("fh", op.fh);
            f.put("offset", op.offset);
            f.put("length", op.length);
            f.put("mode", op.mode.bits());
        }
        O::LSeek(op) => {
            f.put("fh", op.fh);
            f.put("offset", op.offset);
            f.put("whence", op.whence.0);
        }
        O::CopyFileRange(op) | O::CopyFileRange64(op) => {
            f.put("fh_in", op.fh_in);
            f.put("off_in", op.offset_in);
            f.put("nodeid_out", op.node_out);
            f.put("fh_out", op.fh_out);
            f.put("off_out", op.offset_out);
            f.put("len", op.length);
            f.put("flags", op.flags.bits());
        }
        O::SetupMapping(op) => {
            f.put("fh", op.fh);
            f.put("foffset", op.file_offset);
            f.put("len", op.length);
            f.put("flags", op.flags.bits());
            f.put("moffset", op.window_offset);
        }
        O::RemoveMapping(op) => f.put("count", op.items.len() as u64),
        O::Statx(op) => {
            f.when("getattr_flags:FUSE_GETATTR_FH", "fh", op.fh);
            f.put("sx_flags", op.flags.bits());
            f.put("sx_mask", op.mask.bits());
        }
        O::CuseInit(op) => {
            f.put("major", op.major);
            f.put("minor", op.minor);
            f.put("flags", op.flags.bits());
        }
        O::Lookup(_) | O::ReadLink(_) | O::Symlink(_) | O::Unlink(_) | O::RmDir(_) => {}
        O::StatFs(_) | O::RemoveXattr(_) | O::Destroy(_) | O::SyncFs(_) => {}
        O::Unknown { .. } => {}
    }
    f
}

/// The strings of an operation in the order of the message.
pub(super) fn strings<'a>(op: &Operation<'a>) -> Vec<&'a [u8]> {
    use Operation as O;
    let list: &[&[u8]] = match op {
        O::Lookup(op) => &[op.name.as_bytes()],
        O::Symlink(op) => &[op.name.as_bytes(), op.target.as_bytes()],
        O::MkNod(op) => &[op.name.as_bytes()],
        O::MkDir(op) => &[op.name.as_bytes()],
        O::Unlink(op) => &[op.name.as_bytes()],
        O::RmDir(op) => &[op.name.as_bytes()],
        O::Rename(op) | O::Rename2(op) => &[op.old_name.as_bytes(), op.new_name.as_bytes()],
        O::Link(op) => &[op.name.as_bytes()],
        O::Create(op) => &[op.name.as_bytes()],
        O::TmpFile(op) => &[op.name.as_bytes()],
        O::SetXattr(op) => &[op.name.as_bytes()],
        O::GetXattr(op) => &[op.name.as_bytes()],
        O::RemoveXattr(op) => &[op.name.as_bytes()],
        _ => &[],
    };
    list.to_vec()
}

/// Data or a value at the end of an operation.
pub(super) fn tail<'a>(op: &Operation<'a>) -> &'a [u8] {
    match op {
        Operation::Write(op) => op.data,
        Operation::IoCtl(op) => op.data,
        Operation::NotifyReply(op) => op.data,
        Operation::SetXattr(op) => op.value,
        Operation::Unknown { payload, .. } => payload,
        _ => &[],
    }
}

/// Pairs of words at the end of an operation.
pub(super) fn pairs(op: &Operation<'_>) -> Vec<(u64, u64)> {
    match op {
        Operation::BatchForget(op) => {
            op.items.iter().map(|item| (item.nodeid.0, item.nlookup.0)).collect()
        }
        Operation::RemoveMapping(op) => {
            op.items.iter().map(|item| (item.moffset, item.len)).collect()
        }
        _ => Vec::new(),
    }
}

/// The extensions, if the opcode may have them.
pub(super) fn extensions<'a>(op: &Operation<'a>) -> Option<Extensions<'a>> {
    match op {
        Operation::Create(op) => Some(op.extensions),
        Operation::TmpFile(op) => Some(op.extensions),
        Operation::MkNod(op) => Some(op.extensions),
        Operation::MkDir(op) => Some(op.extensions),
        Operation::Symlink(op) => Some(op.extensions),
        _ => None,
    }
}
