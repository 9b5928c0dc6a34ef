//! Modes and types of files, in requests, attributes and directory records.
//!
//! Both are open: bits and numbers without a meaning stay, so that a newer word survives a round
//! trip, and whether a type is one of the seven is a question, not a condition.

use core::fmt;

/// Type and permission bits of a file: `st_mode` of stat(2).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Mode(
    /// The wire form.
    pub u32,
);

impl Mode {
    /// The mode of a file of this type with these permission bits, set-id and sticky bits included.
    #[must_use]
    pub const fn new(file_type: FileType, permissions: u32) -> Self {
        Self((file_type.0 & 0o17) << 12 | permissions & 0o7777)
    }

    /// The type; [`FileType::UNKNOWN`] where the mode says none, as in MKDIR.
    #[must_use]
    pub const fn file_type(self) -> FileType {
        FileType(self.0 >> 12 & 0o17)
    }

    /// Permission, set-id and sticky bits: the lowest twelve.
    #[must_use]
    pub const fn permissions(self) -> u32 {
        self.0 & 0o7777
    }

    /// The lowest 16 bits, which are those that mean something: what STATX has room for.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    pub(crate) const fn low(self) -> u16 {
        self.0 as u16
    }

    /// All bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl From<u32> for Mode {
    fn from(bits: u32) -> Self {
        Self(bits)
    }
}

impl From<Mode> for u32 {
    fn from(mode: Mode) -> Self {
        mode.0
    }
}

impl fmt::Display for Mode {
    /// `0o100644`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Type of a file: `d_type` of a directory record, and bits 12 to 15 of a [`Mode`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FileType(
    /// The wire form.
    pub u32,
);

impl FileType {
    /// Not said: whoever wants to know asks for attributes.
    pub const UNKNOWN: Self = Self(0);
    /// Named pipe.
    pub const FIFO: Self = Self(1);
    /// Character device.
    pub const CHARACTER_DEVICE: Self = Self(2);
    /// Directory.
    pub const DIRECTORY: Self = Self(4);
    /// Block device.
    pub const BLOCK_DEVICE: Self = Self(6);
    /// Regular file.
    pub const REGULAR: Self = Self(8);
    /// Symbolic link.
    pub const SYMLINK: Self = Self(10);
    /// Socket of the local domain.
    pub const SOCKET: Self = Self(12);

    /// Whether an inode can have it: one of the seven, which UNKNOWN is not.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self.0, 1 | 2 | 4 | 6 | 8 | 10 | 12)
    }
}

impl fmt::Debug for FileType {
    /// `DIRECTORY`, or `FileType(3)` where the number has no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::UNKNOWN => "UNKNOWN",
            Self::FIFO => "FIFO",
            Self::CHARACTER_DEVICE => "CHARACTER_DEVICE",
            Self::DIRECTORY => "DIRECTORY",
            Self::BLOCK_DEVICE => "BLOCK_DEVICE",
            Self::REGULAR => "REGULAR",
            Self::SYMLINK => "SYMLINK",
            Self::SOCKET => "SOCKET",
            Self(other) => return write!(f, "FileType({other})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn a_mode_is_type_and_permissions() {
        let mode = Mode(0o104_755);
        assert_eq!((mode.file_type(), mode.permissions()), (FileType::REGULAR, 0o4755));
        assert_eq!(Mode::new(FileType::DIRECTORY, 0o1777), Mode(0o041_777));
        assert_eq!(Mode::new(FileType(0x18), 0o10_644), Mode(0o100_644));
        assert_eq!(Mode(0o644).file_type(), FileType::UNKNOWN);
        assert_eq!(format!("{mode} {mode:?}"), "0o104755 0o104755");
    }

    #[test]
    fn sixteen_bits_are_all() {
        assert_eq!(Mode(0o177_777).low(), 0o177_777);
        assert_eq!(Mode(0o7_040_755).low(), 0o040_755);
        assert_eq!(Mode(0o7_040_755).file_type(), FileType::DIRECTORY);
    }

    #[test]
    fn seven_types_are_valid() {
        let valid = (0..20).map(FileType).filter(|it| it.is_valid());
        let text = format!("{:?} {:?}", valid.collect::<std::vec::Vec<_>>(), FileType(3));
        let names = "[FIFO, CHARACTER_DEVICE, DIRECTORY, BLOCK_DEVICE, REGULAR, SYMLINK, SOCKET]";
        assert_eq!(text, format!("{names} FileType(3)"));
    }
}
