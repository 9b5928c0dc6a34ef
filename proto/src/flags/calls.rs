//! Words that system calls hand through: their bits are those of Linux, not of the protocol.
//!
//! FUSE carries them as they are, so numbers may differ by architecture; where they do, the type
//! says so.

use bitflags::bitflags;

flags! {
    /// Flags of open(2), in OPEN and in every request about the handle that came of it.
    ///
    /// Named is what the generic table, Arm and PowerPC have alike, and DIRECT, LARGEFILE,
    /// DIRECTORY and NOFOLLOW as the host has them; other bits are kept without a name. Read-only
    /// is no bit: see [`OpenFlags::reads`] and [`OpenFlags::writes`]. O_CLOEXEC and O_PATH are
    /// never sent.
    ///
    /// Kernel: include/uapi/asm-generic/fcntl.h; fs/open.c, `build_open_flags`. Since 7.1, in
    /// READ and WRITE since 7.9.
    OpenFlags: u32 {
        /// Writing only.
        WRONLY = 0o1;
        /// Reading and writing.
        RDWR = 0o2;
        /// Make the file; CREATE has it, OPEN never.
        CREAT = 0o100;
        /// With CREAT: fail where there is one.
        EXCL = 0o200;
        /// No controlling terminal.
        NOCTTY = 0o400;
        /// Cut the file to nothing; only with ATOMIC_O_TRUNC agreed, and in CREATE.
        TRUNC = 0o1000;
        /// Each write goes to the end.
        APPEND = 0o2000;
        /// Fail rather than wait.
        NONBLOCK = 0o4000;
        /// Writes are durable, attributes included, when they return.
        SYNC = 0o4_010_000;
        /// The data of writes are durable when they return.
        DSYNC = 0o10_000;
        /// A signal tells of what can be read or written (`FASYNC`).
        ASYNC = 0o20_000;
        /// The page cache is not wanted.
        DIRECT = DIRECT;
        /// Offsets have 64 bits: every caller with 64 bits has it.
        LARGEFILE = LARGEFILE;
        /// Fail where it is no directory.
        DIRECTORY = DIRECTORY;
        /// Fail where it is a symbolic link.
        NOFOLLOW = NOFOLLOW;
        /// Reading leaves the time of access.
        NOATIME = 0o1_000_000;
        /// Make a file without a name (`__O_TMPFILE`); `O_TMPFILE` has DIRECTORY as well.
        TMPFILE = 0o20_000_000;
    }

    /// Flags of RENAME2, which are those of renameat2(2).
    ///
    /// Kernel: include/uapi/linux/fs.h; fs/fuse/dir.c, `fuse_rename2`. Since 7.23.
    RenameFlags: u32 {
        /// EEXIST if the new name exists.
        NOREPLACE = 1 << 0;
        /// The two names change places.
        EXCHANGE = 1 << 1;
        /// A whiteout stays behind under the old name.
        WHITEOUT = 1 << 2;
    }

    /// Flags of SETXATTR, which are those of setxattr(2); none: the attribute may exist or not.
    ///
    /// Kernel: include/uapi/linux/xattr.h; fs/fuse/xattr.c, `fuse_setxattr`. Since 7.1.
    XattrFlags: u32 {
        /// EEXIST if there is such an attribute.
        CREATE = 1 << 0;
        /// ENODATA if there is none.
        REPLACE = 1 << 1;
    }

    /// What ACCESS asks for, as in access(2); nothing: whether the file exists (`F_OK`).
    ///
    /// Kernel: include/linux/fs.h, `MAY_READ` and its neighbours, which are `R_OK`, `W_OK` and
    /// `X_OK`; fs/fuse/dir.c, `fuse_access`. Since 7.3.
    AccessMask: u32 {
        /// Reading.
        READ = 1 << 2;
        /// Writing.
        WRITE = 1 << 1;
        /// Running a file, searching a directory.
        EXEC = 1 << 0;
    }

    /// Modes of FALLOCATE, which are those of fallocate(2); none: reserve, and grow the file.
    ///
    /// The kernel answers EOPNOTSUPP itself to all but KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE.
    ///
    /// Kernel: include/uapi/linux/falloc.h; fs/fuse/file.c, `fuse_file_fallocate`. Since 7.19.
    FallocateMode: u32 {
        /// The size stays.
        KEEP_SIZE = 1 << 0;
        /// The range becomes a hole; comes with KEEP_SIZE.
        PUNCH_HOLE = 1 << 1;
        /// What lay there before shows.
        NO_HIDE_STALE = 1 << 2;
        /// The range is cut out, and what follows moves up.
        COLLAPSE_RANGE = 1 << 3;
        /// The range becomes zeros.
        ZERO_RANGE = 1 << 4;
        /// A hole moves in, and what lies there moves back.
        INSERT_RANGE = 1 << 5;
        /// Blocks that are shared with other files become the file's own.
        UNSHARE_RANGE = 1 << 6;
        /// The range becomes zeros that are written.
        WRITE_ZEROES = 1 << 7;
    }

    /// Flags of copy_file_range(2). There are none yet: the kernel sends 0.
    ///
    /// Kernel: fs/read_write.c, `vfs_copy_file_range`; fs/fuse/file.c, `__fuse_copy_file_range`.
    /// Since 7.28.
    CopyFlags: u64 {}

    /// Flags of STATX, which are those of statx(2). The kernel sends 0 yet.
    ///
    /// Kernel: include/uapi/linux/fcntl.h; fs/fuse/dir.c, `fuse_do_statx`. Since 7.39.
    StatxFlags: u32 {
        /// Ask the store, whatever is known.
        FORCE_SYNC = 0x2000;
        /// What is known will do.
        DONT_SYNC = 0x4000;
    }

    /// Fields of statx(2): what STATX asks for and what the reply holds.
    ///
    /// Kernel: include/uapi/linux/stat.h. Since 7.39.
    StatxMask: u32 {
        /// File type.
        TYPE = 1 << 0;
        /// Permission bits.
        MODE = 1 << 1;
        /// Link count.
        NLINK = 1 << 2;
        /// Owning user.
        UID = 1 << 3;
        /// Owning group.
        GID = 1 << 4;
        /// Last access.
        ATIME = 1 << 5;
        /// Last change of the data.
        MTIME = 1 << 6;
        /// Last change of the attributes.
        CTIME = 1 << 7;
        /// Inode number.
        INO = 1 << 8;
        /// Length.
        SIZE = 1 << 9;
        /// Space used.
        BLOCKS = 1 << 10;
        /// Everything that stat(2) gives.
        BASIC_STATS = 0x7ff;
        /// Birth.
        BTIME = 1 << 11;
    }

    /// Events of poll(2): what POLL asks for, and what its reply says is there.
    ///
    /// Named is the generic table; where an architecture numbers an event in its own way, so does
    /// the kernel here.
    ///
    /// Kernel: include/uapi/asm-generic/poll.h; fs/fuse/file.c, `fuse_file_poll`. Since 7.11, in
    /// requests since 7.21.
    PollEvents: u32 {
        /// Data can be read.
        IN = 1 << 0;
        /// Urgent data can be read.
        PRI = 1 << 1;
        /// Data can be written.
        OUT = 1 << 2;
        /// An error; comes unasked.
        ERR = 1 << 3;
        /// The other end is gone; comes unasked.
        HUP = 1 << 4;
        /// The descriptor is not open; comes unasked.
        NVAL = 1 << 5;
        /// Data without priority can be read.
        RDNORM = 1 << 6;
        /// Data with priority can be read.
        RDBAND = 1 << 7;
        /// Data without priority can be written.
        WRNORM = 1 << 8;
        /// Data with priority can be written.
        WRBAND = 1 << 9;
        /// A message is there; nothing in Linux says so.
        MSG = 1 << 10;
        /// The other end writes no more.
        RDHUP = 1 << 13;
    }
}

/// Whether the host numbers some flags of open(2) as Arm does.
const ARM: bool = cfg!(any(target_arch = "arm", target_arch = "aarch64"));
/// Whether the host numbers them as PowerPC does.
const POWER: bool = cfg!(any(target_arch = "powerpc", target_arch = "powerpc64"));

/// The number of the host's architecture: generic, Arm's or that of PowerPC.
///
/// Kernel: arch/arm/include/uapi/asm/fcntl.h, that of arm64, and that of powerpc.
const fn numbered(generic: u32, arm: u32, power: u32) -> u32 {
    if ARM {
        arm
    } else if POWER {
        power
    } else {
        generic
    }
}

const DIRECT: u32 = numbered(0o40_000, 0o200_000, 0o400_000);
const LARGEFILE: u32 = numbered(0o100_000, 0o400_000, 0o200_000);
const DIRECTORY: u32 = numbered(0o200_000, 0o40_000, 0o40_000);
const NOFOLLOW: u32 = numbered(0o400_000, 0o100_000, 0o100_000);

impl OpenFlags {
    /// The two bits that say what the handle is for (`O_ACCMODE`).
    const ACCESS: u32 = 0o3;

    /// Whether the handle is for reading, alone or among others.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self.bits() & Self::ACCESS, 0 | 2)
    }

    /// Whether the handle is for writing, alone or among others.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self.bits() & Self::ACCESS, 1 | 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_no_single_bit() {
        let access = |bits| (OpenFlags::from(bits).reads(), OpenFlags::from(bits).writes());
        let expected = [(true, false), (false, true), (true, true), (false, false)];
        assert_eq!([0o2000, 0o2001, 0o2002, 0o2003].map(access), expected);
    }

    /// What an architecture moves about stays within the same four bits.
    #[test]
    fn flags_of_open_do_not_overlap() {
        let all = [OpenFlags::DIRECT, OpenFlags::LARGEFILE, OpenFlags::DIRECTORY];
        let moved = all.iter().fold(OpenFlags::NOFOLLOW, |sum, &flag| sum ^ flag);
        assert_eq!(moved.bits(), 0o740_000);
    }
}
