//! Ranges of open files: allocating, seeking over holes, copying, mapping.

use core::fmt;

use crate::abi;
use crate::composer::{Composer, wire_count};
use crate::cursor::{DecodeError, Parts};
use crate::flags::{CopyFlags, FallocateMode, SetupMappingFlags};
use crate::types::{Fh, NodeId};

/// FALLOCATE: reserve, punch or zero a range.
///
/// - **From**: fallocate(2), with the modes KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE only.
/// - **Reply**: empty.
/// - **Cached**: the size grows unless KEEP_SIZE; data of a punched range are dropped.
/// - **Errors**: EOPNOTSUPP, ENOSPC, EFBIG, EIO. ENOSYS is remembered as EOPNOTSUPP.
/// - **Kernel**: fs/fuse/file.c, `fuse_file_fallocate`; since 7.19.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FAllocate {
    /// The open file.
    pub fh: Fh,
    /// Where the range begins, bytes.
    pub offset: u64,
    /// Its length, bytes.
    pub length: u64,
    /// Flags of fallocate(2).
    pub mode: FallocateMode,
}

/// LSEEK: find the next data or the next hole.
///
/// - **From**: lseek(2) with SEEK_DATA or SEEK_HOLE; the other forms are the kernel's own.
/// - **Reply**: the position.
/// - **Cached**: nothing. Dirty pages are not written first, so the store alone is asked.
/// - **Errors**: ENXIO beyond the end, EINVAL. ENOSYS is remembered: everything is data.
/// - **Kernel**: fs/fuse/file.c, `fuse_lseek`; since 7.24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LSeek {
    /// The open file.
    pub fh: Fh,
    /// Where the search begins, bytes.
    pub offset: u64,
    /// What is looked for.
    pub whence: Whence,
}

/// What LSEEK looks for, as lseek(2) numbers it; what is neither of the two is kept.
///
/// Kernel: include/uapi/linux/fs.h; fs/fuse/file.c, `fuse_file_llseek`, does the others by itself.
/// Since 7.24.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Whence(
    /// The wire form.
    pub u32,
);

impl Whence {
    /// `SEEK_DATA`: the next byte that is not in a hole.
    pub const DATA: Self = Self(3);
    /// `SEEK_HOLE`: the next hole, of which there is one at the end.
    pub const HOLE: Self = Self(4);
}

impl fmt::Display for Whence {
    /// `DATA`, or the number where it has no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DATA => f.write_str("DATA"),
            Self::HOLE => f.write_str("HOLE"),
            Self(other) => fmt::Display::fmt(&other, f),
        }
    }
}

/// COPY_FILE_RANGE and COPY_FILE_RANGE_64: copy within the server.
///
/// - **From**: copy_file_range(2). The 64-bit opcode is tried first on 7.45 kernels.
/// - **Reply**: how many bytes were copied: [`Reply::Written`](crate::reply::Reply::Written) for
///   the older opcode, [`Reply::Copied`](crate::reply::Reply::Copied) for the newer.
/// - **Cached**: data of the target range are dropped, its size may grow.
/// - **Errors**: EXDEV and EOPNOTSUPP make the kernel copy by itself, ENOSPC, EFBIG, EIO. ENOSYS
///   is remembered: the older opcode, then the kernel's own copy.
/// - **Kernel**: fs/fuse/file.c, `__fuse_copy_file_range`; since 7.28 and 7.45.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CopyFileRange {
    /// Source handle; its inode is in the header.
    pub fh_in: Fh,
    /// Position in the source, bytes.
    pub offset_in: u64,
    /// Target inode.
    pub node_out: NodeId,
    /// Target handle.
    pub fh_out: Fh,
    /// Position in the target, bytes.
    pub offset_out: u64,
    /// How many bytes; at most 0xffff_f000 with the older opcode.
    pub length: u64,
    /// Flags of copy_file_range(2); today none.
    pub flags: CopyFlags,
}

/// SETUPMAPPING: map a range of a file into the DAX window.
///
/// - **From**: access to a DAX file; virtiofs only.
/// - **Reply**: empty.
/// - **Cached**: the mapping, until REMOVEMAPPING.
/// - **Errors**: EIO, ENOSYS.
/// - **Kernel**: fs/fuse/dax.c, `fuse_setup_one_mapping`; since 7.31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SetupMapping {
    /// The open file, or all ones where there is none.
    pub fh: Fh,
    /// Where the range begins in the file, bytes.
    pub file_offset: u64,
    /// Its length, bytes.
    pub length: u64,
    /// Readable, writable.
    pub flags: SetupMappingFlags,
    /// Where it goes in the window, bytes.
    pub window_offset: u64,
}

/// REMOVEMAPPING: take ranges out of the DAX window.
///
/// - **From**: reclaim of the window; virtiofs only.
/// - **Reply**: empty.
/// - **Cached**: nothing.
/// - **Errors**: EIO, ENOSYS.
/// - **Kernel**: fs/fuse/dax.c, `fuse_send_removemapping`; since 7.31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RemoveMapping<'a> {
    /// The ranges, in place.
    pub items: MappingRanges<'a>,
}

/// The ranges of a [`RemoveMapping`]: they follow a 4-byte argument, so they are not aligned, and
/// are read by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingRanges<'a> {
    items: &'a [[u8; size_of::<abi::RemovemappingOne>()]],
}

impl<'a> MappingRanges<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The ranges, in the order of the message.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = abi::RemovemappingOne> + use<'a> {
        self.items.iter().map(|item| zerocopy::transmute!(*item))
    }
}

impl<'a> RemoveMapping<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::RemovemappingIn = parts.argument()?;
        let items = parts.items("items", fixed.count)?;
        parts.end()?;
        Ok(Self { items: MappingRanges { items } })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let items = self.items.items;
        out.argument(&abi::RemovemappingIn { count: wire_count(items) });
        out.data(items.as_flattened());
    }
}

impl FAllocate {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::FallocateIn { fh, offset, length, mode, .. } = parts.argument()?;
        parts.end()?;
        Ok(Self { fh, offset, length, mode: mode.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, offset, length, .. } = *self;
        let mode = self.mode.bits();
        out.argument(&abi::FallocateIn { fh, offset, length, mode, padding: 0 });
    }
}

impl LSeek {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::LseekIn { fh, offset, whence, .. } = parts.argument()?;
        parts.end()?;
        Ok(Self { fh, offset, whence: Whence(whence) })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, offset, whence: Whence(whence) } = *self;
        out.argument(&abi::LseekIn { fh, offset, whence, padding: 0 });
    }
}

impl CopyFileRange {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::CopyFileRangeIn = parts.argument()?;
        parts.end()?;
        Ok(Self {
            fh_in: fixed.fh_in,
            offset_in: fixed.off_in,
            node_out: fixed.nodeid_out,
            fh_out: fixed.fh_out,
            offset_out: fixed.off_out,
            length: fixed.len,
            flags: fixed.flags.into(),
        })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::CopyFileRangeIn {
            fh_in: self.fh_in,
            off_in: self.offset_in,
            nodeid_out: self.node_out,
            fh_out: self.fh_out,
            off_out: self.offset_out,
            len: self.length,
            flags: self.flags.bits(),
        });
    }
}

impl SetupMapping {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::SetupmappingIn = parts.argument()?;
        parts.end()?;
        Ok(Self {
            fh: fixed.fh,
            file_offset: fixed.foffset,
            length: fixed.len,
            flags: fixed.flags.into(),
            window_offset: fixed.moffset,
        })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::SetupmappingIn {
            fh: self.fh,
            foffset: self.file_offset,
            len: self.length,
            flags: self.flags.bits(),
            moffset: self.window_offset,
        });
    }
}
