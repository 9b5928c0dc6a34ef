//! The opcode table: number, name, first minor version, argument struct, answered or not.
//!
//! One macro table is the only place where an opcode is written down; the enum, its conversions
//! and its properties derive from it. What an operation carries and means is in
//! [`op`](crate::op); how it is decoded in [`request`](crate::request).
//!
//! Kernel: include/uapi/linux/fuse.h, `enum fuse_opcode`.

use core::fmt;

use crate::abi;

macro_rules! opcodes {
    ($(
        $variant:ident = $raw:literal, $name:literal, $minor:literal, $argument:ty, $end:ident;
    )*) => {
        /// The number that says what a request asks for.
        ///
        /// Variants have the wire number as their discriminant. Numbers that the table does not
        /// know are values too: see [`Operation::Unknown`](crate::Operation::Unknown).
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Opcode {
            $(
                #[doc = concat!("`", $name, "`, ", stringify!($raw), ", since 7.", $minor, ".")]
                $variant = $raw,
            )*
        }

        /// Positions in the table: dense, in the order of the rows.
        enum Row {
            $($variant,)*
        }

        impl Opcode {
            /// Every opcode, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The opcode of a wire number, or `None` for a number that is not in the table.
            #[must_use]
            #[inline]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($raw => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The header's name without its `FUSE_` prefix, such as `LOOKUP` or `CUSE_INIT`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The minor version of protocol 7 that brought the opcode.
            #[must_use]
            pub const fn since_minor(self) -> u32 {
                match self {
                    $(Self::$variant => $minor,)*
                }
            }

            /// Length in bytes of the fixed struct that opens the argument, in its longest form.
            ///
            /// Two opcodes have shorter forms: SETXATTR (8 bytes unless SETXATTR_EXT is agreed)
            /// and INIT (16 bytes before 7.36).
            #[must_use]
            #[inline]
            pub const fn argument_len(self) -> usize {
                match self {
                    $(Self::$variant => size_of::<$argument>(),)*
                }
            }

            /// Whether the kernel waits for a reply.
            ///
            /// INTERRUPT counts as unanswered: only EAGAIN and ENOSYS are ever sent for it.
            #[must_use]
            pub const fn is_answered(self) -> bool {
                match self {
                    $(Self::$variant => answered!($end),)*
                }
            }

            /// Dense position in [`Opcode::ALL`], for tables of counters.
            #[must_use]
            pub const fn index(self) -> usize {
                match self {
                    $(Self::$variant => Row::$variant as usize,)*
                }
            }
        }
    };
}

macro_rules! answered {
    (answered) => {
        true
    };
    (silent) => {
        false
    };
}

opcodes! {
    Lookup = 1, "LOOKUP", 1, (), answered;
    Forget = 2, "FORGET", 1, abi::ForgetIn, silent;
    GetAttr = 3, "GETATTR", 1, abi::GetattrIn, answered;
    SetAttr = 4, "SETATTR", 1, abi::SetattrIn, answered;
    ReadLink = 5, "READLINK", 1, (), answered;
    Symlink = 6, "SYMLINK", 1, (), answered;
    MkNod = 8, "MKNOD", 1, abi::MknodIn, answered;
    MkDir = 9, "MKDIR", 1, abi::MkdirIn, answered;
    Unlink = 10, "UNLINK", 1, (), answered;
    RmDir = 11, "RMDIR", 1, (), answered;
    Rename = 12, "RENAME", 1, abi::RenameIn, answered;
    Link = 13, "LINK", 1, abi::LinkIn, answered;
    Open = 14, "OPEN", 1, abi::OpenIn, answered;
    Read = 15, "READ", 1, abi::ReadIn, answered;
    Write = 16, "WRITE", 1, abi::WriteIn, answered;
    StatFs = 17, "STATFS", 1, (), answered;
    Release = 18, "RELEASE", 1, abi::ReleaseIn, answered;
    FSync = 20, "FSYNC", 1, abi::FsyncIn, answered;
    SetXattr = 21, "SETXATTR", 1, abi::SetxattrIn, answered;
    GetXattr = 22, "GETXATTR", 1, abi::GetxattrIn, answered;
    ListXattr = 23, "LISTXATTR", 1, abi::GetxattrIn, answered;
    RemoveXattr = 24, "REMOVEXATTR", 1, (), answered;
    Flush = 25, "FLUSH", 1, abi::FlushIn, answered;
    Init = 26, "INIT", 1, abi::InitIn, answered;
    OpenDir = 27, "OPENDIR", 1, abi::OpenIn, answered;
    ReadDir = 28, "READDIR", 1, abi::ReadIn, answered;
    ReleaseDir = 29, "RELEASEDIR", 1, abi::ReleaseIn, answered;
    FSyncDir = 30, "FSYNCDIR", 2, abi::FsyncIn, answered;
    GetLk = 31, "GETLK", 7, abi::LkIn, answered;
    SetLk = 32, "SETLK", 7, abi::LkIn, answered;
    SetLkW = 33, "SETLKW", 7, abi::LkIn, answered;
    Access = 34, "ACCESS", 3, abi::AccessIn, answered;
    Create = 35, "CREATE", 3, abi::CreateIn, answered;
    Interrupt = 36, "INTERRUPT", 7, abi::InterruptIn, silent;
    BMap = 37, "BMAP", 8, abi::BmapIn, answered;
    Destroy = 38, "DESTROY", 8, (), answered;
    IoCtl = 39, "IOCTL", 11, abi::IoctlIn, answered;
    Poll = 40, "POLL", 11, abi::PollIn, answered;
    NotifyReply = 41, "NOTIFY_REPLY", 15, abi::NotifyRetrieveIn, silent;
    BatchForget = 42, "BATCH_FORGET", 16, abi::BatchForgetIn, silent;
    FAllocate = 43, "FALLOCATE", 19, abi::FallocateIn, answered;
    ReadDirPlus = 44, "READDIRPLUS", 21, abi::ReadIn, answered;
    Rename2 = 45, "RENAME2", 23, abi::Rename2In, answered;
    LSeek = 46, "LSEEK", 24, abi::LseekIn, answered;
    CopyFileRange = 47, "COPY_FILE_RANGE", 28, abi::CopyFileRangeIn, answered;
    SetupMapping = 48, "SETUPMAPPING", 31, abi::SetupmappingIn, answered;
    RemoveMapping = 49, "REMOVEMAPPING", 31, abi::RemovemappingIn, answered;
    SyncFs = 50, "SYNCFS", 34, abi::SyncfsIn, answered;
    TmpFile = 51, "TMPFILE", 37, abi::CreateIn, answered;
    Statx = 52, "STATX", 39, abi::StatxIn, answered;
    CopyFileRange64 = 53, "COPY_FILE_RANGE_64", 45, abi::CopyFileRangeIn, answered;
    CuseInit = 4096, "CUSE_INIT", 12, abi::CuseInitIn, answered;
}

impl Opcode {
    /// How many opcodes there are; [`Opcode::index`] is below it.
    pub const COUNT: usize = Self::ALL.len();

    /// INIT from a kernel of the other byte order: nothing that follows can be understood.
    pub const INIT_BYTE_SWAPPED: u32 = 436_207_616;
    /// CUSE_INIT from a kernel of the other byte order.
    pub const CUSE_INIT_BYTE_SWAPPED: u32 = 1_048_576;

    /// The wire number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn numbers_and_positions_round_trip() {
        assert_eq!(Opcode::COUNT, 52);
        for (position, &opcode) in Opcode::ALL.iter().enumerate() {
            assert_eq!(Opcode::from_raw(opcode.raw()), Some(opcode));
            assert_eq!(opcode.index(), position);
        }
        for gap in [0, 7, 19, 54, 4095, 4097, u32::MAX, Opcode::INIT_BYTE_SWAPPED] {
            assert_eq!(Opcode::from_raw(gap), None);
        }
    }

    #[test]
    fn byte_swapped_numbers_are_what_they_say() {
        assert_eq!(Opcode::INIT_BYTE_SWAPPED, 26_u32.swap_bytes());
        assert_eq!(Opcode::CUSE_INIT_BYTE_SWAPPED, 4096_u32.swap_bytes());
    }

    #[test]
    fn display_honours_width() {
        assert_eq!(Opcode::Lookup.to_string(), "LOOKUP");
        assert_eq!(std::format!("{:>8}|", Opcode::Read), "    READ|");
    }
}
