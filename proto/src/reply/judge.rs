//! What the kernel does about a reply: its own validation, as a function.
//!
//! ```text
//!  header -> length of the body -> form -> values -> Verdict
//!   write(2) fails, the request       the caller gets EIO or what the      accepted, perhaps with
//!   may still be open                 table says; perhaps worse            something ignored
//! ```
//! A simulated kernel acts on the verdict; the engine asks in debug builds, so that a filesystem
//! hears of its mistakes. The rules about values are in `rules`; those that need more than the
//! request and the reply are checked only as far as [`Known`] says. What the kernel remembers of
//! ENOSYS is not the business of this file.
//!
//! Kernel: fs/fuse/dev.c, `fuse_dev_do_write`; fs/fuse/dev_uring.c, `fuse_uring_commit`.

use super::decode::{Lane, check_errno, check_error_body, check_len_field};
use super::rules::{Broken, ioctl_ranges, values};
use super::{Answer, Asked, Reply};
use crate::abi::OutHeader;
use crate::cursor::{DecodeError, Expected};
use crate::mode::FileType;
use crate::opcode::Opcode;
use crate::types::{Errno, NodeId};

/// What the kernel knows beside the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Type of the inode that GETATTR, SETATTR or STATX are about, or of the source of LINK: it
    /// must stay.
    pub file_type: Option<FileType>,
    /// The nodeid that LOOKUP of `.` was asked by: the answer must have it.
    pub nodeid: Option<NodeId>,
    /// Whether PASSTHROUGH is agreed.
    pub passthrough: bool,
    /// Whether the mount has default_permissions, or POSIX_ACL is agreed.
    pub default_permissions: bool,
    /// Largest file offset of the filesystem (`s_maxbytes`).
    pub offset_max: u64,
    /// Bytes that the ranges of one direction of IOCTL may have: `max_pages` pages.
    pub ioctl_max: u64,
}

impl Default for Known {
    /// Nothing known of the inode; every optional capability there.
    fn default() -> Self {
        Self {
            file_type: None,
            nodeid: None,
            passthrough: true,
            default_permissions: true,
            offset_max: i64::MAX.cast_unsigned(),
            ioctl_max: u64::MAX,
        }
    }
}

/// What the kernel does about a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is taken.
    Accepted {
        /// What the caller gets.
        answer: Answer<'a>,
        /// What was ignored or changed on the way.
        adjusted: Adjusted,
    },
    /// It is not.
    Refused(Refusal),
}

/// Why a reply is not taken, and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The first rule that is broken.
    pub cause: DecodeError,
    /// What write(2) fails with; `None` where it succeeds, as a commit always does.
    pub writer: Option<Errno>,
    /// What the caller of the system call gets; `None` where it waits on, so answer again, or where
    /// nobody waits.
    pub caller: Option<Errno>,
    /// What else happens.
    pub aftermath: Aftermath,
}

/// What a refused reply leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing.
    None,
    /// Records of a directory in front of the wrong one were taken: the caller gets them and no
    /// error, and their look-ups count. Those behind it do not, nor are they given back.
    RecordsTaken,
    /// The look-up does not count: no FORGET, and no RELEASE of a handle that came with it.
    NotCounted,
    /// The handle is released by RELEASE; a look-up that came with it counts.
    Released,
    /// The inode is bad: whatever is asked of it fails with EIO until it is evicted.
    BadInode,
    /// There is no connection: all later requests fail with ECONNREFUSED.
    NoConnection,
}

bitflags::bitflags! {
    /// What the kernel ignores or changes of a reply that it takes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Adjusted: u32 {
        /// The length of an extended attribute or of the list was cut to 65536.
        const XATTR_SIZE = 1 << 0;
        /// The target of a link ends at a NUL inside it.
        const TARGET_CUT = 1 << 1;
        /// Bytes behind the last whole record of a directory were ignored.
        const RECORD_CUT = 1 << 2;
        /// A look-up of READDIRPLUS was invalid, and is given back by FORGET.
        const LOOKUP_GIVEN_BACK = 1 << 3;
        /// DIRECT_IO was taken off a directory.
        const DIRECT_IO = 1 << 4;
        /// PARALLEL_DIRECT_WRITES was taken off, for lack of DIRECT_IO.
        const PARALLEL_DIRECT_WRITES = 1 << 5;
        /// An ioctl's ENOSYS became ENOTTY.
        const ENOTTY = 1 << 6;
        /// Attributes were not cached, because basic ones are missing.
        const NOT_CACHED = 1 << 7;
        /// Nanoseconds of a second or more became 999,999,999.
        const NANOSECONDS = 1 << 8;
    }
}

/// Says what the kernel does about a reply with this header and `body`, everything behind it.
///
/// The header's unique is not looked at: the kernel has found the request by it. A notification is
/// no reply: see [`Notification::decode`](crate::notify::Notification::decode).
///
/// An INIT reply below 7.31 counts as refused, which is this crate's rule and not the kernel's.
#[must_use]
pub fn judge<'a>(asked: &Asked, known: &Known, header: &OutHeader, body: &'a [u8]) -> Verdict<'a> {
    match frame(asked, header, body) {
        Err(refusal) => Verdict::Refused(refusal),
        Ok(Some(errno)) => failure(asked, errno),
        Ok(None) => success(asked, known, body),
    }
}

/// Checks header and length; gives the errno of a failure.
fn frame(asked: &Asked, header: &OutHeader, body: &[u8]) -> Result<Option<Errno>, Refusal> {
    // On the ring, the caller gets what the writer gets on the device, if there is one.
    let refused = |cause, writer, caller| match asked.lane {
        Lane::Device => Refusal { cause, writer, caller, aftermath: Aftermath::None },
        Lane::Ring => {
            let caller = writer.filter(|_| is_awaited(asked));
            Refusal { cause, writer: None, caller, aftermath: Aftermath::None }
        }
    };
    let einval = Some(Errno::EINVAL);
    let open = |cause| refused(cause, einval, None);
    let ended = |cause| refused(cause, einval, Some(Errno::EIO));
    check_len_field(asked, header, body).map_err(open)?;
    let errno = match header.error {
        0 => None,
        _ => Some(check_errno(asked, header).map_err(open)?),
    };
    if asked.is_unanswered() {
        let cause = asked.error("message", Expected::NoReply);
        return Err(refused(cause, Some(Errno::ENOENT), None));
    }
    match errno {
        None => asked.check_len(body.len()).map_err(ended)?,
        Some(_) => check_error_body(asked, body).map_err(ended)?,
    }
    Ok(errno)
}

/// Whether a system call waits for the answer.
fn is_awaited(asked: &Asked) -> bool {
    !matches!(asked.opcode(), Some(Opcode::Forget | Opcode::BatchForget | Opcode::NotifyReply))
}

fn failure<'a>(asked: &Asked, errno: Errno) -> Verdict<'a> {
    if matches!(asked.opcode(), Some(Opcode::Init | Opcode::CuseInit)) {
        return no_connection(asked.error("error", Expected::Success));
    }
    let is_ioctl = asked.opcode() == Some(Opcode::IoCtl) && errno == Errno::ENOSYS;
    let adjusted = if is_ioctl { Adjusted::ENOTTY } else { Adjusted::empty() };
    let errno = if is_ioctl { Errno::ENOTTY } else { errno };
    Verdict::Accepted { answer: Err(errno), adjusted }
}

fn no_connection<'a>(cause: DecodeError) -> Verdict<'a> {
    let (caller, aftermath) = (Some(Errno::ECONNREFUSED), Aftermath::NoConnection);
    Verdict::Refused(Refusal { cause, writer: None, caller, aftermath })
}

fn success<'a>(asked: &Asked, known: &Known, body: &'a [u8]) -> Verdict<'a> {
    let refused = |(field, expected, caller, aftermath): Broken| {
        let cause = asked.error(field, expected);
        Verdict::Refused(Refusal { cause, writer: None, caller: Some(caller), aftermath })
    };
    if let Err(rule) = ioctl_ranges(asked, body) {
        return refused(rule);
    }
    let reply = match Reply::decode(asked, body) {
        Ok(reply) => reply,
        Err(cause) if asked.opcode() == Some(Opcode::IoCtl) => {
            return refused((cause.field, cause.expected, Errno::EIO, Aftermath::None));
        }
        // Lengths are right, so this is the version of INIT.
        Err(cause) => return no_connection(cause),
    };
    match values(asked, known, &reply) {
        Ok(adjusted) => Verdict::Accepted { answer: Ok(reply), adjusted },
        Err(rule) => refused(rule),
    }
}
