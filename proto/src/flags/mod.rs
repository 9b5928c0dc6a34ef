//! Flag words: what each bit of the protocol says.
//!
//! Names are those of the C header without their family's prefix. Bits that this version does not
//! know are kept, in both directions, so that a newer kernel's word survives a round trip. What
//! may be answered to INIT is decided by [`negotiate`](mod@crate::negotiate), not here. Words that
//! system calls hand through are in `calls`.
//!
//! Kernel: include/uapi/linux/fuse.h.

use bitflags::bitflags;

pub use calls::*;

/// Flag types over one integer; `!0` declares every bit as possible, so that unknown ones stay.
macro_rules! flags {
    ($(
        $(#[$meta:meta])*
        $name:ident: $int:ty { $($(#[$inner:ident $($args:tt)*])* $flag:ident = $value:expr;)* }
    )*) => {$(
        bitflags! {
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
            #[cfg_attr(feature = "serde", serde(transparent))]
            pub struct $name: $int {
                $($(#[$inner $($args)*])* const $flag = $value;)*
                const _ = !0;
            }
        }

        impl From<$int> for $name {
            fn from(bits: $int) -> Self {
                Self::from_bits_retain(bits)
            }
        }
    )*};
}

mod calls;

flags! {
    /// Capabilities of INIT: both halves, `flags` below and `flags2` from bit 32 on.
    ///
    /// "Accepted" means that the bit stands in the reply. Informative bits need no answer.
    ///
    /// Kernel: fs/fuse/inode.c, `process_init_reply`.
    InitFlags: u64 {
        /// Several READs of one file are sent at once, in any order. Since 7.6.
        ASYNC_READ = 1 << 0;
        /// fcntl locks come as GETLK, SETLK and SETLKW. Since 7.7.
        POSIX_LOCKS = 1 << 1;
        /// Never offered by today's kernels. Since 7.9.
        FILE_OPS = 1 << 2;
        /// O_TRUNC comes within OPEN instead of as a SETATTR. Since 7.9.
        ATOMIC_O_TRUNC = 1 << 3;
        /// LOOKUP of `.` and `..` by bare nodeid, for NFS. Since 7.10.
        EXPORT_SUPPORT = 1 << 4;
        /// Write-through WRITEs of more than one page. Since 7.9.
        BIG_WRITES = 1 << 5;
        /// The server applies the umask. Since 7.12.
        DONT_MASK = 1 << 6;
        /// Informative: the device accepts splice(2) for replies. Since 7.14.
        SPLICE_WRITE = 1 << 7;
        /// Informative: splice(2) may move pages. Since 7.14.
        SPLICE_MOVE = 1 << 8;
        /// Informative: the device accepts splice(2) for requests. Since 7.14.
        SPLICE_READ = 1 << 9;
        /// flock(2) comes as SETLK and SETLKW with `LkFlags::FLOCK`. Since 7.17.
        FLOCK_LOCKS = 1 << 10;
        /// Informative: ioctl(2) works on directories. Since 7.18.
        HAS_IOCTL_DIR = 1 << 11;
        /// Cached data are dropped when mtime or size changed. Since 7.20.
        AUTO_INVAL_DATA = 1 << 12;
        /// Directories are read by READDIRPLUS. Since 7.21.
        DO_READDIRPLUS = 1 << 13;
        /// READDIRPLUS only where its look-ups pay; needs `DO_READDIRPLUS`. Since 7.21.
        READDIRPLUS_AUTO = 1 << 14;
        /// Direct I/O is split into parallel requests. Since 7.22.
        ASYNC_DIO = 1 << 15;
        /// The kernel keeps dirty pages and writes them back by itself. Since 7.23.
        WRITEBACK_CACHE = 1 << 16;
        /// Informative: ENOSYS to OPEN is understood. Since 7.23.
        NO_OPEN_SUPPORT = 1 << 17;
        /// LOOKUP and READDIR of one directory in parallel. Since 7.25.
        PARALLEL_DIROPS = 1 << 18;
        /// The server strips set-id bits on write, truncate and chown. Since 7.26.
        HANDLE_KILLPRIV = 1 << 19;
        /// The kernel reads and checks ACLs, and turns on default_permissions. Since 7.26.
        POSIX_ACL = 1 << 20;
        /// Reading the device after an abort gives ECONNABORTED. Since 7.27.
        ABORT_ERROR = 1 << 21;
        /// `max_pages` of the reply counts. Since 7.28.
        MAX_PAGES = 1 << 22;
        /// Targets of symbolic links are cached. Since 7.28.
        CACHE_SYMLINKS = 1 << 23;
        /// Informative: ENOSYS to OPENDIR is understood. Since 7.29.
        NO_OPENDIR_SUPPORT = 1 << 24;
        /// Cached data are dropped on the server's word only. Since 7.30.
        EXPLICIT_INVAL_DATA = 1 << 25;
        /// `map_alignment` of the reply counts; virtiofs. Since 7.31.
        MAP_ALIGNMENT = 1 << 26;
        /// Informative: `AttrFlags::SUBMOUNT` is understood; virtiofs. Since 7.32.
        SUBMOUNTS = 1 << 27;
        /// Set-id bits are stripped by the server where a request says so. Since 7.33.
        HANDLE_KILLPRIV_V2 = 1 << 28;
        /// The argument of SETXATTR has 16 bytes. Since 7.33.
        SETXATTR_EXT = 1 << 29;
        /// The high half of the flags counts. Since 7.36.
        INIT_EXT = 1 << 30;
        /// Never used: reserved by the header.
        INIT_RESERVED = 1 << 31;
        /// Requests that create carry the security label. Since 7.36.
        SECURITY_CTX = 1 << 32;
        /// DAX is chosen per inode by `AttrFlags::DAX`; virtiofs. Since 7.36.
        HAS_INODE_DAX = 1 << 33;
        /// Requests that create carry the directory's group. Since 7.38.
        CREATE_SUPP_GROUP = 1 << 34;
        /// Informative: `InvalEntryFlags::EXPIRE_ONLY` is understood. Since 7.38.
        HAS_EXPIRE_ONLY = 1 << 35;
        /// Shared mappings of files opened with `FOpenFlags::DIRECT_IO`. Since 7.39.
        DIRECT_IO_ALLOW_MMAP = 1 << 36;
        /// Reads and writes may go to a backing file inside the kernel. Since 7.40.
        PASSTHROUGH = 1 << 37;
        /// No NFS export, no handles across evictions. Since 7.40.
        NO_EXPORT_SUPPORT = 1 << 38;
        /// Informative: NOTIFY_RESEND is understood. Since 7.40.
        HAS_RESEND = 1 << 39;
        /// Idmapped mounts; needs the kernel's own permission checks. Requests that make no file
        /// carry no user or group then. Since 7.41.
        ALLOW_IDMAP = 1 << 40;
        /// Requests come by io_uring once every queue has an entry. Since 7.42.
        OVER_IO_URING = 1 << 41;
        /// `request_timeout` of the reply counts. Since 7.43.
        REQUEST_TIMEOUT = 1 << 42;
    }

    /// What CUSE_INIT agrees on. Since 7.12.
    CuseFlags: u32 {
        /// ioctl(2) may reach any memory of the caller, by replies with `IoctlFlags::RETRY`.
        UNRESTRICTED_IOCTL = 1 << 0;
    }

    /// What the kernel may do with a file that was opened: `FOPEN_*` in the reply.
    ///
    /// Kernel: fs/fuse/file.c, `fuse_finish_open`, and fs/fuse/iomode.c.
    FOpenFlags: u32 {
        /// Reads and writes bypass the page cache. Since 7.2.
        DIRECT_IO = 1 << 0;
        /// Cached data of earlier opens stay. Since 7.2.
        KEEP_CACHE = 1 << 1;
        /// The file cannot seek. Since 7.10.
        NONSEEKABLE = 1 << 2;
        /// The directory's records may be cached. Since 7.28.
        CACHE_DIR = 1 << 3;
        /// The file is a stream: no position at all. Since 7.31.
        STREAM = 1 << 4;
        /// No FLUSH at close, unless there is write-back. Since 7.35.
        NOFLUSH = 1 << 5;
        /// Direct writes of one file in parallel; needs `DIRECT_IO`. Since 7.38.
        PARALLEL_DIRECT_WRITES = 1 << 6;
        /// Reads and writes go to the backing file. Since 7.40.
        PASSTHROUGH = 1 << 7;
    }

    /// Which fields of SETATTR count: `FATTR_*`.
    SetAttrValid: u32 {
        /// `mode` counts.
        MODE = 1 << 0;
        /// `uid` counts.
        UID = 1 << 1;
        /// `gid` counts.
        GID = 1 << 2;
        /// `size` counts.
        SIZE = 1 << 3;
        /// `atime` counts.
        ATIME = 1 << 4;
        /// `mtime` counts.
        MTIME = 1 << 5;
        /// `fh` counts. Since 7.3.
        FH = 1 << 6;
        /// `atime` is the server's own time. Since 7.9.
        ATIME_NOW = 1 << 7;
        /// `mtime` is the server's own time. Since 7.9.
        MTIME_NOW = 1 << 8;
        /// `lock_owner` counts. Since 7.9.
        LOCKOWNER = 1 << 9;
        /// `ctime` counts. Since 7.23.
        CTIME = 1 << 10;
        /// Set-id bits are to be stripped. Since 7.33.
        KILL_SUIDGID = 1 << 11;
    }

    /// Flags of GETATTR and STATX: `FUSE_GETATTR_*`. Since 7.9.
    GetAttrFlags: u32 {
        /// `fh` counts.
        FH = 1 << 0;
    }

    /// Flags in an attribute reply: `FUSE_ATTR_*`. Since 7.32.
    AttrFlags: u32 {
        /// The directory is the root of another filesystem; virtiofs.
        SUBMOUNT = 1 << 0;
        /// The file shall be mapped by DAX; virtiofs. Since 7.36.
        DAX = 1 << 1;
    }

    /// Flags of OPEN and CREATE that are not those of open(2): `FUSE_OPEN_*`. Since 7.33.
    OpenInFlags: u32 {
        /// The open truncates: set-id bits are to be stripped.
        KILL_SUIDGID = 1 << 0;
    }

    /// Flags of READ: `FUSE_READ_*`. Since 7.9.
    ReadFlags: u32 {
        /// `lock_owner` counts.
        LOCKOWNER = 1 << 1;
    }

    /// Flags of WRITE: `FUSE_WRITE_*`. Since 7.9.
    WriteFlags: u32 {
        /// From the page cache, delayed: the handle is a guess and there are no credentials.
        WRITE_CACHE = 1 << 0;
        /// `lock_owner` counts.
        WRITE_LOCKOWNER = 1 << 1;
        /// Set-id bits are to be stripped. Since 7.31 (then `WRITE_KILL_PRIV`).
        WRITE_KILL_SUIDGID = 1 << 2;
    }

    /// Flags of RELEASE and RELEASEDIR: `FUSE_RELEASE_*`.
    ReleaseFlags: u32 {
        /// Never set by today's kernels. Since 7.8.
        FLUSH = 1 << 0;
        /// The flock of `lock_owner` is to be dropped. Since 7.17.
        FLOCK_UNLOCK = 1 << 1;
    }

    /// Flags of FSYNC and FSYNCDIR: `FUSE_FSYNC_*`.
    FSyncFlags: u32 {
        /// Data only, as fdatasync(2).
        FDATASYNC = 1 << 0;
    }

    /// Flags of GETLK, SETLK and SETLKW: `FUSE_LK_*`. Since 7.9.
    LkFlags: u32 {
        /// A lock of flock(2), not of fcntl(2).
        FLOCK = 1 << 0;
    }

    /// Flags of IOCTL, both ways: `FUSE_IOCTL_*`. Since 7.11.
    IoctlFlags: u32 {
        /// A 32-bit caller on a 64-bit kernel.
        COMPAT = 1 << 0;
        /// The command number does not bound the data; CUSE only.
        UNRESTRICTED = 1 << 1;
        /// In a reply: the kernel shall ask again with these memory ranges.
        RETRY = 1 << 2;
        /// The caller has 32-bit structs. Since 7.16.
        IS_32BIT = 1 << 3;
        /// The handle is a directory's. Since 7.18.
        DIR = 1 << 4;
        /// An x32 caller, which has 64-bit times. Since 7.30.
        COMPAT_X32 = 1 << 5;
    }

    /// Flags of POLL: `FUSE_POLL_*`. Since 7.11.
    PollFlags: u32 {
        /// Somebody waits: NOTIFY_POLL is wanted, once.
        SCHEDULE_NOTIFY = 1 << 0;
    }

    /// The second word of SETXATTR: `FUSE_SETXATTR_*`. Since 7.33.
    SetXattrFlags: u32 {
        /// The ACL takes the set-group-id bit away.
        ACL_KILL_SGID = 1 << 0;
    }

    /// Flags of SETUPMAPPING: `FUSE_SETUPMAPPING_FLAG_*`. Since 7.31.
    SetupMappingFlags: u64 {
        /// The mapping is writable.
        WRITE = 1 << 0;
        /// The mapping is readable.
        READ = 1 << 1;
    }

    /// Flags of NOTIFY_INVAL_ENTRY. Since 7.38.
    InvalEntryFlags: u32 {
        /// End the timeout only: the entry is revalidated, not dropped.
        EXPIRE_ONLY = 1 << 0;
    }
}

impl InitFlags {
    /// The older name of [`InitFlags::DIRECT_IO_ALLOW_MMAP`].
    pub const DIRECT_IO_RELAX: Self = Self::DIRECT_IO_ALLOW_MMAP;

    /// Puts the two words of an INIT message together.
    #[must_use]
    pub const fn from_halves(flags: u32, flags2: u32) -> Self {
        Self::from_bits_retain((flags2 as u64) << 32 | flags as u64)
    }

    /// The low word, `flags`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    pub const fn low(self) -> u32 {
        self.bits() as u32
    }

    /// The high word, `flags2`.
    #[must_use]
    pub const fn high(self) -> u32 {
        (self.bits() >> 32) as u32
    }
}

impl WriteFlags {
    /// The older name of [`WriteFlags::WRITE_KILL_SUIDGID`].
    pub const WRITE_KILL_PRIV: Self = Self::WRITE_KILL_SUIDGID;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bits_stay() {
        let odd = InitFlags::from(1 << 60 | 1 << 16);
        assert_eq!(odd.bits(), 0x1000_0000_0001_0000);
        assert_eq!((odd & !InitFlags::WRITEBACK_CACHE).bits(), 1 << 60);
        assert_eq!(FOpenFlags::from(0x8000_0001).bits(), 0x8000_0001);
    }

    #[test]
    fn halves_join_and_part() {
        let flags = InitFlags::from_halves(0x4000_0001, 0x0000_0020);
        assert_eq!(flags, InitFlags::INIT_EXT | InitFlags::ASYNC_READ | InitFlags::PASSTHROUGH);
        assert_eq!((flags.low(), flags.high()), (0x4000_0001, 0x20));
    }
}
