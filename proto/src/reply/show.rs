//! What each reply shows in its line: the form of its body, and what it says.

use core::fmt;

use super::{Attr, Entry, FsStats, Opened, Reply, Statx};
use crate::show::{Line, Show};

/// Seconds with a fraction, such as `1.5s`.
struct Timeout(core::time::Duration);

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Reply<'_> {
    /// One line, such as `entry nodeid=5 ...`, `written size=4096` or `bytes size=12`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line::new(f, self.word());
        self.show(&mut line);
        line.finish()
    }
}

impl Reply<'_> {
    /// The word for the form of the body.
    const fn word(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Entry(_) => "entry",
            Self::Attributes(_) => "attributes",
            Self::Statx(_) => "statx",
            Self::Opened(_) => "opened",
            Self::Created(..) => "created",
            Self::Written(_) => "written",
            Self::FsStats(_) => "statfs",
            Self::Bytes(_) => "bytes",
            Self::XattrSize(_) => "xattr",
            Self::Lock(_) => "lock",
            Self::BMap(_) => "bmap",
            Self::Ioctl { .. } => "ioctl",
            Self::IoctlRetry { .. } => "ioctl_retry",
            Self::Poll(_) => "poll",
            Self::Offset(_) => "offset",
            Self::Copied(_) => "copied",
            Self::Init(_) => "init",
            Self::CuseInit(..) => "cuse_init",
        }
    }
}

impl Show for Reply<'_> {
    fn show(&self, line: &mut Line<'_, '_>) {
        let _ = match self {
            Self::Empty => line,
            Self::Entry(entry) => shown(line, entry),
            Self::Attributes(it) => shown(line.field("valid", Timeout(it.valid)), &it.attr),
            Self::Statx(it) => {
                let line = line.field("valid", Timeout(it.valid)).flags("flags", it.flags);
                shown(line, &it.statx)
            }
            Self::Opened(opened) => shown(line, opened),
            Self::Created(entry, opened) => {
                entry.show(line);
                shown(line, opened)
            }
            Self::Written(size) | Self::XattrSize(size) => line.field("size", size),
            Self::FsStats(stats) => shown(line, stats),
            Self::Bytes(bytes) => line.field("size", bytes.len()),
            Self::Lock(lock) => shown(line, lock),
            Self::BMap(block) => line.field("block", block),
            Self::Ioctl { result, flags, data } => {
                line.field("result", result).field("size", data.len()).flags("flags", *flags)
            }
            Self::IoctlRetry { flags, input, output } => {
                let line = line.field("input", input.len()).field("output", output.len());
                line.flags("flags", *flags & !crate::flags::IoctlFlags::RETRY)
            }
            Self::Poll(events) => line.flags("revents", *events),
            Self::Offset(offset) => line.field("offset", offset),
            Self::Copied(count) => line.field("size", count),
            Self::Init(init) => line
                .version(init.major, init.minor)
                .field("max_write", init.max_write)
                .field("max_pages", init.max_pages)
                .field("max_readahead", init.max_readahead)
                .field("max_background", init.max_background)
                .field("congestion_threshold", init.congestion_threshold)
                .field("time_gran", init.time_gran)
                .field("max_stack_depth", init.max_stack_depth)
                .field("request_timeout", init.request_timeout)
                .flags("flags", crate::flags::InitFlags::from_halves(init.flags, init.flags2)),
            Self::CuseInit(init, info) => line
                .version(init.major, init.minor)
                .field("max_read", init.max_read)
                .field("max_write", init.max_write)
                .field("device", format_args!("{}:{}", init.dev_major, init.dev_minor))
                .quoted(info)
                .flags("flags", crate::flags::CuseFlags::from(init.flags)),
        };
    }
}

fn shown<'l, 'a, 'f>(line: &'l mut Line<'a, 'f>, what: &impl Show) -> &'l mut Line<'a, 'f> {
    what.show(line);
    line
}

impl Show for Entry {
    fn show(&self, line: &mut Line<'_, '_>) {
        line.field("nodeid", self.nodeid).field("generation", self.generation);
        line.field("entry_valid", Timeout(self.entry_valid));
        line.field("attr_valid", Timeout(self.attr_valid));
        self.attr.show(line);
    }
}

impl Show for Attr {
    fn show(&self, line: &mut Line<'_, '_>) {
        line.field("ino", self.ino).field("mode", self.mode).field("nlink", self.nlink);
        line.field("uid", self.uid).field("gid", self.gid).field("size", self.size);
        line.field("blocks", self.blocks).field("blksize", self.blksize);
        line.time("atime", self.atime).time("mtime", self.mtime).time("ctime", self.ctime);
        if self.rdev != 0 {
            line.hex("rdev", self.rdev);
        }
        line.flags("flags", self.flags);
    }
}

impl Show for Statx {
    fn show(&self, line: &mut Line<'_, '_>) {
        line.flags("mask", self.mask).field("ino", self.ino).field("mode", self.mode);
        line.field("nlink", self.nlink).field("uid", self.uid).field("gid", self.gid);
        line.field("size", self.size).field("blocks", self.blocks).field("blksize", self.blksize);
        line.time("atime", self.atime).time("mtime", self.mtime).time("ctime", self.ctime);
        line.time("btime", self.btime);
        line.field("rdev", format_args!("{}:{}", self.rdev_major, self.rdev_minor));
    }
}

impl Show for Opened {
    fn show(&self, line: &mut Line<'_, '_>) {
        line.field("fh", self.fh).flags("open_flags", self.flags);
        if self.backing_id != 0 {
            line.field("backing_id", self.backing_id);
        }
    }
}

impl Show for FsStats {
    fn show(&self, line: &mut Line<'_, '_>) {
        line.field("blocks", self.blocks).field("bfree", self.bfree).field("bavail", self.bavail);
        line.field("files", self.files).field("ffree", self.ffree).field("bsize", self.bsize);
        line.field("namelen", self.namelen).field("frsize", self.frsize);
    }
}
