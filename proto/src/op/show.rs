//! What each operation shows in its line, behind the name of the opcode.

use super::*;
use crate::show::{Line, Show};

macro_rules! shows {
    ($($op:ty: |$this:ident, $line:ident| $body:expr;)*) => {$(
        impl Show for $op {
            fn show(&self, $line: &mut Line<'_, '_>) {
                let $this = self;
                let _ = $body;
            }
        }
    )*};
}

shows! {
    Lookup<'_>: |op, line| line.quoted(op.name.as_bytes());
    Unlink<'_>: |op, line| line.quoted(op.name.as_bytes());
    RmDir<'_>: |op, line| line.quoted(op.name.as_bytes());
    RemoveXattr<'_>: |op, line| line.quoted(op.name);
    Forget: |op, line| line.field("lookups", op.lookups);
    BatchForget<'_>: |op, line| line.field("count", op.items.len());
    GetAttr: |op, line| line.maybe("fh", op.fh);
    SetAttr: |op, line| set_attr(op, line);
    ReadLink: |_op, _line| ();
    Symlink<'_>: |op, line| {
        line.quoted(op.name.as_bytes()).quoted(op.target);
        extensions(&op.extensions, line);
    };
    MkNod<'_>: |op, line| {
        line.quoted(op.name.as_bytes()).field("mode", op.mode).octal("umask", op.umask);
        line.hex("rdev", op.rdev);
        extensions(&op.extensions, line);
    };
    MkDir<'_>: |op, line| {
        line.quoted(op.name.as_bytes()).field("mode", op.mode).octal("umask", op.umask);
        extensions(&op.extensions, line);
    };
    Rename<'_>: |op, line| line
        .quoted(op.old_name.as_bytes())
        .field("new_parent", op.new_parent)
        .quoted(op.new_name.as_bytes())
        .flags("flags", op.flags);
    Link<'_>: |op, line| line.field("source", op.source).quoted(op.name.as_bytes());
    Open: |op, line| line.flags("flags", op.flags).flags("open_flags", op.open_flags);
    OpenDir: |op, line| line.flags("flags", op.flags).flags("open_flags", op.open_flags);
    Read: |op, line| line
        .field("fh", op.fh)
        .field("offset", op.offset)
        .field("size", op.size)
        .flags("read_flags", op.read_flags)
        .maybe("lock_owner", op.lock_owner)
        .flags("flags", op.flags);
    Write<'_>: |op, line| line
        .field("fh", op.fh)
        .field("offset", op.offset)
        .field("size", op.data.len())
        .flags("write_flags", op.write_flags)
        .maybe("lock_owner", op.lock_owner)
        .flags("flags", op.flags);
    ReadDir: |op, line| line
        .field("fh", op.fh)
        .field("offset", op.offset)
        .field("size", op.size)
        .flags("read_flags", op.read_flags)
        .maybe("lock_owner", op.lock_owner)
        .flags("flags", op.flags);
    ReadDirPlus: |op, line| line
        .field("fh", op.fh)
        .field("offset", op.offset)
        .field("size", op.size)
        .flags("read_flags", op.read_flags)
        .maybe("lock_owner", op.lock_owner)
        .flags("flags", op.flags);
    StatFs: |_op, _line| ();
    Release: |op, line| line
        .field("fh", op.fh)
        .flags("flags", op.flags)
        .flags("release_flags", op.release_flags)
        .field("lock_owner", op.lock_owner);
    ReleaseDir: |op, line| line
        .field("fh", op.fh)
        .flags("flags", op.flags)
        .flags("release_flags", op.release_flags)
        .field("lock_owner", op.lock_owner);
    FSync: |op, line| line.field("fh", op.fh).flags("fsync_flags", op.fsync_flags);
    FSyncDir: |op, line| line.field("fh", op.fh).flags("fsync_flags", op.fsync_flags);
    SetXattr<'_>: |op, line| line
        .quoted(op.name)
        .field("size", op.value.len())
        .flags("flags", op.flags)
        .flags("setxattr_flags", op.setxattr_flags);
    GetXattr<'_>: |op, line| line.quoted(op.name).field("size", op.size);
    ListXattr: |op, line| line.field("size", op.size);
    Flush: |op, line| line.field("fh", op.fh).field("lock_owner", op.lock_owner);
    Init: |op, line| line
        .version(op.major, op.minor)
        .field("max_readahead", op.max_readahead)
        .flags("flags", op.flags);
    GetLk: |op, line| lock(op.fh, op.owner, &op.lock, line).flags("lk_flags", op.lk_flags);
    SetLk: |op, line| lock(op.fh, op.owner, &op.lock, line).flags("lk_flags", op.lk_flags);
    SetLkW: |op, line| lock(op.fh, op.owner, &op.lock, line).flags("lk_flags", op.lk_flags);
    Access: |op, line| line.flags("mask", op.mask);
    Create<'_>: |op, line| {
        line.quoted(op.name.as_bytes()).field("mode", op.mode).octal("umask", op.umask);
        line.flags("flags", op.flags).flags("open_flags", op.open_flags);
        extensions(&op.extensions, line);
    };
    TmpFile<'_>: |op, line| {
        line.field("mode", op.mode).octal("umask", op.umask);
        line.flags("flags", op.flags).flags("open_flags", op.open_flags);
        extensions(&op.extensions, line);
    };
    Interrupt: |op, line| line.field("unique", op.unique);
    BMap: |op, line| line.field("block", op.block).field("blocksize", op.blocksize);
    Destroy: |_op, _line| ();
    IoCtl<'_>: |op, line| line
        .field("fh", op.fh)
        .hex("command", op.command)
        .hex("argument", op.argument)
        .field("in_size", op.data.len())
        .field("out_size", op.out_size)
        .flags("flags", op.flags);
    Poll: |op, line| line
        .field("fh", op.fh)
        .field("kh", op.kh)
        .flags("events", op.events)
        .flags("flags", op.flags);
    NotifyReply<'_>: |op, line| line.field("offset", op.offset).field("size", op.data.len());
    FAllocate: |op, line| line
        .field("fh", op.fh)
        .field("offset", op.offset)
        .field("length", op.length)
        .flags("mode", op.mode);
    LSeek: |op, line| line
        .field("fh", op.fh)
        .field("offset", op.offset)
        .field("whence", op.whence);
    CopyFileRange: |op, line| line
        .field("fh_in", op.fh_in)
        .field("offset_in", op.offset_in)
        .field("node_out", op.node_out)
        .field("fh_out", op.fh_out)
        .field("offset_out", op.offset_out)
        .field("length", op.length)
        .flags("flags", op.flags);
    SetupMapping: |op, line| line
        .field("fh", op.fh)
        .field("file_offset", op.file_offset)
        .field("length", op.length)
        .flags("flags", op.flags)
        .field("window_offset", op.window_offset);
    RemoveMapping<'_>: |op, line| line.field("count", op.items.len());
    SyncFs: |_op, _line| ();
    Statx: |op, line| line.maybe("fh", op.fh).flags("flags", op.flags).flags("mask", op.mask);
    CuseInit: |op, line| line.version(op.major, op.minor).flags("flags", op.flags);
}

fn extensions(extensions: &Extensions<'_>, line: &mut Line<'_, '_>) {
    for context in extensions.security_contexts() {
        line.quoted(context.name).quoted(context.label);
    }
    for group in extensions.groups() {
        line.field("group", group);
    }
}

fn lock<'l, 'a, 'f>(
    fh: crate::types::Fh,
    owner: crate::types::LockOwner,
    lock: &FileLock,
    line: &'l mut Line<'a, 'f>,
) -> &'l mut Line<'a, 'f> {
    lock.show(line.field("fh", fh).field("owner", owner));
    line
}

impl Show for FileLock {
    fn show(&self, line: &mut Line<'_, '_>) {
        line.field("kind", self.kind).field("start", self.start);
        match self.end {
            Self::TO_EOF => line.field("end", "EOF"),
            end => line.field("end", end),
        };
        line.field("pid", self.pid);
    }
}

fn set_attr(op: &SetAttr, line: &mut Line<'_, '_>) {
    line.maybe("fh", op.fh);
    if let Some(mode) = op.mode {
        line.field("mode", mode);
    }
    line.maybe("uid", op.uid).maybe("gid", op.gid).maybe("size", op.size);
    for (label, time) in [("atime", op.atime), ("mtime", op.mtime)] {
        match time {
            Some(SetTime::Now(_)) => line.field(label, "now"),
            Some(SetTime::At(time)) => line.time(label, time),
            None => line,
        };
    }
    if let Some(time) = op.ctime {
        line.time("ctime", time);
    }
    line.maybe("lock_owner", op.lock_owner).flags("valid", op.valid);
}
