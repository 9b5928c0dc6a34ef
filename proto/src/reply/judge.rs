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
use super::rules::{Broken, ioctl_ranges, timeouts, values};
use super::{Answer, Asked, Reply};
use crate::abi::OutHeader;
use crate::cursor::{DecodeError, Expected};
use crate::mode::FileType;
use crate::opcode::Opcode;
use crate::types::{Errno, NodeId, Unique};

/// What the kernel knows beside the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Type of the inode that GETATTR, SETATTR or STATX are about, or of the source of LINK: it
    /// must stay.
    pub file_type: Option<FileType>,
    /// The nodeid that LOOKUP of `.` was asked by: the answer must have it.
    pub nodeid: Option<NodeId>,
    /// The id of the request, which a commit on the ring must have.
    pub unique: Option<Unique>,
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
    /// Nothing known of request and inode; every optional capability there.
    fn default() -> Self {
        Self {
            file_type: None,
            nodeid: None,
            unique: None,
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
    /// The error that the caller of the system call gets; `None` where it waits on, so answer
    /// again, where nobody waits, and where it gets something else, as [`Aftermath::RecordsTaken`]
    /// says.
    pub caller: Option<Errno>,
    /// What else happens.
    pub aftermath: Aftermath,
}

/// What a refused reply leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing more: a look-up counts.
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
    /// There is no connection: all later requests fail with ECONNREFUSED. After CUSE_INIT there is
    /// no device, so that nobody asks.
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
        /// Nanoseconds of a second or more became 999,999,999. Timeouts in records of READDIRPLUS
        /// are not looked at.
        const NANOSECONDS = 1 << 8;
    }
}

/// Says what the kernel does about a reply with this header and `body`, everything behind it.
///
/// On the device the header's unique is not looked at: the kernel has found the request by it. A
/// notification is no reply: see [`Notification::decode`](crate::notify::Notification::decode). As
/// for [`Reply::decode`], `body` is to stand at an address that is a multiple of 8: the ranges of
/// an IOCTL that stand elsewhere count as refused.
///
/// Two rules are this crate's and not the kernel's: an INIT reply below 7.31 counts as refused; and
/// a LOOKUP counts as the first of its name. Where it looks again at a name whose timeout is over
/// (dir.c, `fuse_dentry_revalidate`), the kernel answers a wrong entry by another LOOKUP, having
/// counted it if it has the old nodeid, and given it back by FORGET if not. What answers the
/// SETATTR of late times (`fuse_flush_times`) is not looked at either, and cannot be told from
/// others. map_alignment, which only virtiofs with DAX looks at, is not judged.
#[must_use]
pub fn judge<'a>(asked: &Asked, known: &Known, header: &OutHeader, body: &'a [u8]) -> Verdict<'a> {
    match frame(asked, known, header, body) {
        Err(refusal) => Verdict::Refused(refusal),
        Ok(Some(errno)) => failure(asked, errno),
        Ok(None) => success(asked, known, body),
    }
}

/// Checks header and length; gives the errno of a failure.
fn frame(
    asked: &Asked,
    known: &Known,
    header: &OutHeader,
    body: &[u8],
) -> Result<Option<Errno>, Refusal> {
    let einval = Errno::EINVAL;
    check_len_field(asked, header, body).map_err(|cause| open(asked, cause, einval))?;
    if let Some(refusal) = unique(asked, known, header) {
        return Err(refusal);
    }
    let errno = match header.error {
        0 => None,
        _ => Some(check_errno(asked, header).map_err(|cause| open(asked, cause, einval))?),
    };
    if asked.is_unanswered() {
        return Err(open(asked, asked.error("message", Expected::NoReply), Errno::ENOENT));
    }
    match errno {
        None => asked.check_len(body.len()),
        Some(_) => check_error_body(asked, body),
    }
    .map_err(|cause| ended(asked, cause, einval))?;
    Ok(errno)
}

/// On the ring, where the kernel has found the request by its entry, the header must agree.
///
/// Kernel: fs/fuse/dev_uring.c, `fuse_uring_out_header_has_err`.
fn unique(asked: &Asked, known: &Known, header: &OutHeader) -> Option<Refusal> {
    let found = header.unique;
    let is_other = known.unique.is_some_and(|unique| unique.0 != found.0 & !1);
    let errno = match (asked.lane, found) {
        (Lane::Ring, Unique::NOTIFICATION) => Errno::EINVAL,
        (Lane::Ring, _) if is_other && header.error == 0 => Errno::ENOENT,
        _ => return None,
    };
    let expected = Expected::Existing { found: found.0.cast_signed() };
    Some(ended(asked, asked.error("unique", expected), errno))
}

/// The request stays open on the device; a commit ends it.
fn open(asked: &Asked, cause: DecodeError, errno: Errno) -> Refusal {
    match asked.lane {
        Lane::Ring => ended(asked, cause, errno),
        Lane::Device => {
            let (writer, aftermath) = (Some(errno), Aftermath::None);
            Refusal { cause, writer, caller: None, aftermath }
        }
    }
}

/// The request has ended, and nobody has looked at the body.
fn ended(asked: &Asked, cause: DecodeError, errno: Errno) -> Refusal {
    // On the ring, the caller gets what the writer gets on the device, if there is one.
    let (writer, caller) = match asked.lane {
        Lane::Device => (Some(errno), Some(Errno::EIO)),
        Lane::Ring => (None, Some(errno)),
    };
    let (caller, aftermath) = match asked.opcode() {
        Some(Opcode::Init | Opcode::CuseInit) => (refused(asked), Aftermath::NoConnection),
        Some(Opcode::Forget | Opcode::BatchForget | Opcode::NotifyReply | Opcode::Interrupt) => {
            (None, Aftermath::None)
        }
        Some(Opcode::Lookup | Opcode::MkNod | Opcode::MkDir | Opcode::Symlink | Opcode::Link)
        | Some(Opcode::Create | Opcode::TmpFile | Opcode::ReadDirPlus) => {
            (caller, Aftermath::NotCounted)
        }
        _ => (caller, Aftermath::None),
    };
    Refusal { cause, writer, caller, aftermath }
}

/// What a caller gets who waits for INIT; for CUSE_INIT nobody does.
fn refused(asked: &Asked) -> Option<Errno> {
    (asked.opcode() == Some(Opcode::Init)).then_some(Errno::ECONNREFUSED)
}

fn failure<'a>(asked: &Asked, errno: Errno) -> Verdict<'a> {
    if matches!(asked.opcode(), Some(Opcode::Init | Opcode::CuseInit)) {
        return no_connection(asked, asked.error("error", Expected::Success));
    }
    let is_ioctl = asked.opcode() == Some(Opcode::IoCtl) && errno == Errno::ENOSYS;
    let adjusted = if is_ioctl { Adjusted::ENOTTY } else { Adjusted::empty() };
    let errno = if is_ioctl { Errno::ENOTTY } else { errno };
    Verdict::Accepted { answer: Err(errno), adjusted }
}

fn no_connection<'a>(asked: &Asked, cause: DecodeError) -> Verdict<'a> {
    let (caller, aftermath) = (refused(asked), Aftermath::NoConnection);
    Verdict::Refused(Refusal { cause, writer: None, caller, aftermath })
}

fn success<'a>(asked: &Asked, known: &Known, body: &'a [u8]) -> Verdict<'a> {
    let refused = |(field, expected, caller, aftermath): Broken| {
        let cause = asked.error(field, expected);
        let caller = match aftermath {
            Aftermath::NoConnection => refused(asked),
            Aftermath::RecordsTaken => None,
            _ => Some(caller),
        };
        Verdict::Refused(Refusal { cause, writer: None, caller, aftermath })
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
        Err(cause) => return no_connection(asked, cause),
    };
    match values(asked, known, &reply) {
        Ok(adjusted) => {
            let adjusted = adjusted | timeouts(&reply, body);
            Verdict::Accepted { answer: Ok(reply), adjusted }
        }
        Err(rule) => refused(rule),
    }
}
