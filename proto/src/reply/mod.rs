//! Replies: from friendly values to the bytes of a body, and back.
//!
//! Values here have the types that a filesystem thinks in (durations, timestamps, newtypes); their
//! wire twins are in [`abi`]. [`Reply`] joins them: one variant per form of body, so a transport
//! encodes every answer in one call. The header in front of the body is
//! [`abi::OutHeader::new`](crate::abi::OutHeader::new).
//!
//! The way back is for whoever plays the kernel: [`Reply::decode`] and [`decode`] take what was
//! [`Asked`], because the form depends on it, and say what is wrong with the bytes; [`judge`] says
//! what the kernel would do about them, values included.

mod attr;
mod decode;
mod judge;
mod opened;
mod rules;
mod show;

pub use attr::*;
pub use decode::{Answer, Asked, Lane, decode};
pub use judge::{Adjusted, Aftermath, Known, Refusal, Verdict, judge};

pub use opened::*;

use crate::abi;
use crate::flags::{IoctlFlags, PollEvents};
use crate::op::FileLock;
use crate::writer::{TooSmall, Writer};

/// The body of a successful reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Reply<'a> {
    /// No body: UNLINK, RELEASE, SETXATTR and many more.
    Empty,
    /// LOOKUP, MKNOD, MKDIR, SYMLINK, LINK: 128 bytes.
    Entry(Entry),
    /// GETATTR, SETATTR: 104 bytes.
    Attributes(Attributes),
    /// STATX: 288 bytes.
    Statx(StatxAttributes),
    /// OPEN, OPENDIR: 16 bytes.
    Opened(Opened),
    /// CREATE, TMPFILE: 144 bytes.
    Created(Entry, Opened),
    /// WRITE and COPY_FILE_RANGE: how many bytes; 8 bytes.
    Written(u32),
    /// STATFS: 80 bytes.
    #[cfg_attr(feature = "serde", serde(rename = "statfs"))]
    FsStats(FsStats),
    /// READ, READDIR, READDIRPLUS, READLINK; GETXATTR and LISTXATTR with a size.
    Bytes(
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))] &'a [u8],
    ),
    /// GETXATTR and LISTXATTR with size 0: the length; 8 bytes.
    #[cfg_attr(feature = "serde", serde(rename = "xattr"))]
    XattrSize(u32),
    /// GETLK: 24 bytes.
    Lock(FileLock),
    /// BMAP: the block; 8 bytes.
    #[cfg_attr(feature = "serde", serde(rename = "bmap"))]
    BMap(u64),
    /// IOCTL: 16 bytes and the data.
    Ioctl {
        /// What ioctl(2) returns; a negative errno is allowed.
        result: i32,
        /// Usually empty.
        flags: IoctlFlags,
        /// What the caller gets; at most `out_size` bytes.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))]
        data: &'a [u8],
    },
    /// IOCTL, unrestricted (CUSE): ask again with these ranges of the caller's memory.
    ///
    /// At most [`abi::IOCTL_MAX_IOV`] ranges, both directions together.
    IoctlRetry {
        /// With RETRY, which is added where it is missing.
        flags: IoctlFlags,
        /// Ranges to be read and sent.
        input: &'a [abi::IoctlIovec],
        /// Ranges to be written with the final reply.
        output: &'a [abi::IoctlIovec],
    },
    /// POLL: the events; 8 bytes.
    Poll(PollEvents),
    /// LSEEK: the position; 8 bytes.
    Offset(u64),
    /// COPY_FILE_RANGE_64: how many bytes; 8 bytes.
    Copied(u64),
    /// INIT: 64 bytes, made by [`Agreement::init_out`](crate::negotiate::Agreement::init_out).
    /// Shorter ones are read as if zeros followed.
    Init(abi::InitOut),
    /// CUSE_INIT: 72 bytes and the device's strings, such as `DEVNAME=x` and a NUL.
    CuseInit(
        abi::CuseInitOut,
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))] &'a [u8],
    ),
}

impl Reply<'_> {
    /// Length of the body in bytes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Entry(_) => size_of::<abi::EntryOut>(),
            Self::Attributes(_) => size_of::<abi::AttrOut>(),
            Self::Statx(_) => size_of::<abi::StatxOut>(),
            Self::Opened(_) => size_of::<abi::OpenOut>(),
            Self::Created(..) => size_of::<(abi::EntryOut, abi::OpenOut)>(),
            Self::Written(_) => size_of::<abi::WriteOut>(),
            Self::FsStats(_) => size_of::<abi::StatfsOut>(),
            Self::Bytes(bytes) => bytes.len(),
            Self::XattrSize(_) => size_of::<abi::GetxattrOut>(),
            Self::Lock(_) => size_of::<abi::LkOut>(),
            Self::BMap(_) => size_of::<abi::BmapOut>(),
            Self::Ioctl { data, .. } => size_of::<abi::IoctlOut>().saturating_add(data.len()),
            Self::IoctlRetry { input, output, .. } => size_of::<abi::IoctlOut>()
                .saturating_add(size_of_val(*input))
                .saturating_add(size_of_val(*output)),
            Self::Poll(_) => size_of::<abi::PollOut>(),
            Self::Offset(_) => size_of::<abi::LseekOut>(),
            Self::Copied(_) => size_of::<abi::CopyFileRangeOut>(),
            Self::Init(_) => size_of::<abi::InitOut>(),
            Self::CuseInit(_, info) => size_of::<abi::CuseInitOut>().saturating_add(info.len()),
        }
    }

    /// Writes the body to the start of `out` and returns its length.
    ///
    /// # Errors
    /// [`TooSmall`] when `out` is shorter than [`Reply::encoded_len`]; nothing is written then.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, TooSmall> {
        let mut writer = Writer::new(out, self.encoded_len())?;
        match self {
            Self::Empty => {}
            Self::Entry(entry) => writer.put(&abi::EntryOut::from(entry))?,
            Self::Attributes(attributes) => writer.put(&abi::AttrOut::from(attributes))?,
            Self::Statx(attributes) => writer.put(&abi::StatxOut::from(attributes))?,
            Self::Opened(opened) => writer.put(&abi::OpenOut::from(opened))?,
            Self::Created(entry, opened) => {
                writer.put(&abi::EntryOut::from(entry))?;
                writer.put(&abi::OpenOut::from(opened))?;
            }
            Self::Written(size) => writer.put(&abi::WriteOut { size: *size, padding: 0 })?,
            Self::FsStats(stats) => writer.put(&abi::StatfsOut::from(stats))?,
            Self::Bytes(bytes) => writer.bytes(bytes)?,
            Self::XattrSize(size) => writer.put(&abi::GetxattrOut { size: *size, padding: 0 })?,
            Self::Lock(lock) => writer.put(&abi::LkOut { lk: (*lock).into() })?,
            Self::BMap(block) => writer.put(&abi::BmapOut { block: *block })?,
            Self::Ioctl { result, flags, data } => {
                let flags = flags.bits();
                writer.put(&abi::IoctlOut { result: *result, flags, in_iovs: 0, out_iovs: 0 })?;
                writer.bytes(data)?;
            }
            Self::IoctlRetry { flags, input, output } => {
                writer.put(&abi::IoctlOut {
                    result: 0,
                    flags: (*flags | IoctlFlags::RETRY).bits(),
                    in_iovs: u32::try_from(input.len()).unwrap_or(u32::MAX),
                    out_iovs: u32::try_from(output.len()).unwrap_or(u32::MAX),
                })?;
                writer.put(*input)?;
                writer.put(*output)?;
            }
            Self::Poll(events) => {
                writer.put(&abi::PollOut { revents: events.bits(), padding: 0 })?;
            }
            Self::Offset(offset) => writer.put(&abi::LseekOut { offset: *offset })?,
            Self::Copied(bytes_copied) => {
                writer.put(&abi::CopyFileRangeOut { bytes_copied: *bytes_copied })?;
            }
            Self::Init(init) => writer.put(init)?,
            Self::CuseInit(init, info) => {
                writer.put(init)?;
                writer.bytes(info)?;
            }
        }
        Ok(writer.finish())
    }
}
