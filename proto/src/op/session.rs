//! The session: its beginning, its end, interrupts, and answers to notifications.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi;
use crate::composer::{Composer, wire_len};
use crate::cursor::{DecodeError, Parts};
use crate::flags::{CuseFlags, InitFlags};
use crate::types::Unique;

/// INIT: what the kernel speaks and offers. The first request of a session.
///
/// - **From**: the mount. Every other request waits for the answer.
/// - **Reply**: [`negotiate`](crate::negotiate::negotiate) makes it.
/// - **Cached**: for the life of the connection.
/// - **Errors**: any refuses the connection: all requests fail with ECONNREFUSED.
/// - **Kernel**: fs/fuse/inode.c, `fuse_send_init`; since 7.1. 16 bytes before 7.36, 64 since;
///   a longer form of a later kernel is read as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Init {
    /// Major version of the kernel.
    pub major: u32,
    /// Minor version of the kernel.
    pub minor: u32,
    /// Longest read-ahead, bytes.
    pub max_readahead: u32,
    /// What is offered, both halves; the upper one only if INIT_EXT says that it counts.
    pub flags: InitFlags,
}

/// DESTROY: the filesystem is going away.
///
/// - **From**: umount(2) of fuseblk and virtiofs; plain mounts get none.
/// - **Reply**: empty; errors are ignored.
/// - **Cached**: nothing.
/// - **Errors**: none that anybody sees.
/// - **Kernel**: fs/fuse/inode.c, `fuse_send_destroy`; since 7.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Destroy;

/// INTERRUPT: the caller of a request got a signal; the request shall end.
///
/// - **From**: any signal to a waiting caller, once, after its request was read.
/// - **Reply**: none, if the target is known: make that end, normally with EINTR. EAGAIN, to the
///   INTERRUPT's own unique, has it sent again.
/// - **Cached**: nothing.
/// - **Errors**: ENOSYS switches interrupts off for the connection.
/// - **Kernel**: fs/fuse/dev.c, `fuse_read_interrupt`; since 7.7. It may arrive before its target
///   was seen by the thread that handles it, or after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Interrupt {
    /// The request that shall end.
    pub unique: Unique,
}

/// SYNCFS: make the whole filesystem durable.
///
/// - **From**: syncfs(2), sync(2); virtiofs, and fuseblk since Linux 6.18. Plain mounts get none.
/// - **Reply**: empty.
/// - **Cached**: nothing.
/// - **Errors**: EIO, ENOSPC. ENOSYS is remembered and counts as success.
/// - **Kernel**: fs/fuse/inode.c, `fuse_sync_fs`; since 7.34.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SyncFs;

/// NOTIFY_REPLY: the data that NOTIFY_RETRIEVE asked for. Never answered.
///
/// - **From**: the server's own notification, whose `notify_unique` is in the header.
/// - **Reply**: none.
/// - **Cached**: nothing.
/// - **Errors**: none possible.
/// - **Kernel**: fs/fuse/dev.c, `fuse_retrieve`; since 7.15. On the ring its argument stands at
///   the start of the payload: the transport passes it as the argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct NotifyReply<'a> {
    /// Where the data begin in the file, bytes.
    pub offset: u64,
    /// The bytes, in place; cut at the first page that is not cached, so perhaps none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))]
    pub data: &'a [u8],
}

/// CUSE_INIT: the first request of a character device in user space.
///
/// - **From**: opening `/dev/cuse`.
/// - **Reply**: [`Reply::CuseInit`](crate::reply::Reply::CuseInit): limits, device numbers, and
///   the device's name.
/// - **Cached**: for the life of the device.
/// - **Errors**: any ends the device.
/// - **Kernel**: fs/fuse/cuse.c, `cuse_send_init`; since 7.12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CuseInit {
    /// Major version of the kernel.
    pub major: u32,
    /// Minor version of the kernel.
    pub minor: u32,
    /// What is offered.
    pub flags: CuseFlags,
}

/// The form of INIT before 7.36, which begins the longer one too.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct InitInShort {
    major: u32,
    minor: u32,
    max_readahead: u32,
    flags: u32,
}
const _: () = assert!(size_of::<InitInShort>() == abi::INIT_IN_SIZE_BEFORE_EXT);

impl Init {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let InitInShort { major, minor, max_readahead, flags } = parts.argument_prefix()?;
        let extended = InitFlags::from(u64::from(flags)).contains(InitFlags::INIT_EXT);
        let flags2 = if extended { parts.argument_prefix()? } else { 0 };
        parts.skip_argument();
        parts.end()?;
        Ok(Self { major, minor, max_readahead, flags: InitFlags::from_halves(flags, flags2) })
    }

    /// The form is the caller's choice; the shorter has no place for the high half of the flags,
    /// which does not count without INIT_EXT.
    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { major, minor, max_readahead, flags } = *self;
        let extended = flags.contains(InitFlags::INIT_EXT);
        if (extended && !out.forms.init_ext) || (!extended && flags.high() != 0) {
            out.unrepresentable("flags2");
        }
        let (flags, flags2) = (flags.low(), flags.high());
        if out.forms.init_ext {
            let unused = [0; 11];
            out.argument(&abi::InitIn { major, minor, max_readahead, flags, flags2, unused });
        } else {
            out.argument(&InitInShort { major, minor, max_readahead, flags });
        }
    }
}

impl Destroy {
    pub(crate) fn decode(parts: Parts<'_>) -> Result<Self, DecodeError> {
        parts.end()?;
        Ok(Self)
    }

    pub(crate) const fn encode(&self, _out: &mut Composer<'_>) {}
}

impl Interrupt {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::InterruptIn { unique } = parts.argument()?;
        parts.end()?;
        Ok(Self { unique })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::InterruptIn { unique: self.unique });
    }
}

impl SyncFs {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let _reserved: abi::SyncfsIn = parts.argument()?;
        parts.end()?;
        Ok(Self)
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::SyncfsIn { padding: 0 });
    }
}

impl<'a> NotifyReply<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let abi::NotifyRetrieveIn { offset, size, .. } = parts.argument()?;
        let data = parts.data("data", size)?;
        parts.end()?;
        Ok(Self { offset, data })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let (offset, size) = (self.offset, wire_len(self.data));
        out.argument(&abi::NotifyRetrieveIn { offset, size, ..Default::default() });
        out.data(self.data);
    }
}

impl CuseInit {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::CuseInitIn { major, minor, flags, .. } = parts.argument()?;
        parts.end()?;
        Ok(Self { major, minor, flags: flags.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { major, minor, flags } = *self;
        let flags = flags.bits();
        out.argument(&abi::CuseInitIn { major, minor, unused: 0, flags });
    }
}
