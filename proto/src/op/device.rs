//! What devices do: ioctl, poll and block maps.

use crate::abi;
use crate::composer::{Composer, wire_len};
use crate::cursor::{DecodeError, Parts};
use crate::flags::{IoctlFlags, PollEvents, PollFlags};
use crate::types::{Fh, PollHandle};

/// IOCTL: a command to an open file or directory.
///
/// - **From**: ioctl(2); chattr(1) and lsattr(1) by FS_IOC commands, where the kernel itself opens
///   and releases the file.
/// - **Reply**: a result and at most `out_size` bytes. FS_IOC commands want exactly `out_size`.
/// - **Cached**: nothing.
/// - **Errors**: ENOTTY for commands that are not known. ENOSYS reads as ENOTTY, each time.
/// - **Kernel**: fs/fuse/ioctl.c, `fuse_do_ioctl`; since 7.11. Unless UNRESTRICTED (CUSE), sizes
///   come from the command number and RETRY is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct IoCtl<'a> {
    /// The open file.
    pub fh: Fh,
    /// Who calls: 32 bits, a directory, unrestricted.
    pub flags: IoctlFlags,
    /// The command number.
    pub command: u32,
    /// The caller's third argument: a number, or an address that means nothing here.
    pub argument: u64,
    /// Room for the answer, bytes.
    pub out_size: u32,
    /// The bytes that the caller gave, in place.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))]
    pub data: &'a [u8],
}

/// POLL: which events are there, and shall somebody be woken later?
///
/// - **From**: poll(2), select(2), epoll_wait(2).
/// - **Reply**: the events.
/// - **Cached**: nothing. With SCHEDULE_NOTIFY, NOTIFY_POLL with `kh` is wanted at the next change.
/// - **Errors**: all show as POLLERR. ENOSYS is remembered and means "always ready".
/// - **Kernel**: fs/fuse/file.c, `fuse_file_poll`; since 7.11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Poll {
    /// The open file.
    pub fh: Fh,
    /// The handle that NOTIFY_POLL is to carry.
    pub kh: PollHandle,
    /// Whether somebody waits.
    pub flags: PollFlags,
    /// The events of poll(2) that are waited for.
    pub events: PollEvents,
}

/// BMAP: the place of a block on the device.
///
/// - **From**: ioctl(2) FIBMAP, swapon(2); fuseblk only.
/// - **Reply**: the block number on the device.
/// - **Cached**: nothing.
/// - **Errors**: ENOSYS is remembered and reads as block 0.
/// - **Kernel**: fs/fuse/file.c, `fuse_bmap`; since 7.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BMap {
    /// Block number in the file.
    pub block: u64,
    /// Size of a block, bytes.
    pub blocksize: u32,
}

impl<'a> IoCtl<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::IoctlIn = parts.argument()?;
        let data = parts.data("data", fixed.in_size)?;
        parts.end()?;
        Ok(Self {
            fh: fixed.fh,
            flags: fixed.flags.into(),
            command: fixed.cmd,
            argument: fixed.arg,
            out_size: fixed.out_size,
            data,
        })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::IoctlIn {
            fh: self.fh,
            flags: self.flags.bits(),
            cmd: self.command,
            arg: self.argument,
            in_size: wire_len(self.data),
            out_size: self.out_size,
        });
        out.data(self.data);
    }
}

impl Poll {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::PollIn { fh, kh, flags, events } = parts.argument()?;
        parts.end()?;
        Ok(Self { fh, kh, flags: flags.into(), events: events.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, kh, .. } = *self;
        let (flags, events) = (self.flags.bits(), self.events.bits());
        out.argument(&abi::PollIn { fh, kh, flags, events });
    }
}

impl BMap {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::BmapIn { block, blocksize, .. } = parts.argument()?;
        parts.end()?;
        Ok(Self { block, blocksize })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { block, blocksize } = *self;
        out.argument(&abi::BmapIn { block, blocksize, padding: 0 });
    }
}
