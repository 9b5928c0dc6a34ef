//! Replies from bytes: their form depends on what was asked, and lengths are exact.
//!
//! Kernel: fs/fuse/dev.c, `fuse_dev_do_write` and `fuse_copy_out_args`.

use core::ops::RangeInclusive;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::Reply;
use crate::abi::{self, KERNEL_MINOR_VERSION_MIN, KERNEL_VERSION, OutHeader};
use crate::cursor::{DecodeError, Expected};
use crate::flags::{IoctlFlags, WriteFlags};
use crate::mode::Mode;
use crate::opcode::Opcode;
use crate::request::Operation;
use crate::types::Errno;

/// What a whole reply says: a body, or why there is none.
pub type Answer<'a> = Result<Reply<'a>, Errno>;

/// Commands of IOCTL that come from `fuse_priv_ioctl`, which wants the data in full.
///
/// `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS`, `FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`, by the numbering
/// of most machines; PowerPC, MIPS and SPARC have another. The first two speak of a `long`.
const PRIVATE_COMMANDS: [u32; 4] = if cfg!(target_pointer_width = "64") {
    [0x8008_6601, 0x4008_6602, 0x801c_581f, 0x401c_5820]
} else {
    [0x8004_6601, 0x4004_6602, 0x801c_581f, 0x401c_5820]
};

/// What was asked, as far as the form and the validity of the answer depend on it.
///
/// It borrows nothing, so it can be kept while the answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    opcode: u32,
    /// What the answer cannot exceed: bytes of room, or bytes to be written or copied.
    pub(super) limit: u64,
    /// The mode that MKNOD asks for.
    pub(super) mode: Mode,
    /// A form with looser rules: WRITE from the page cache, LOOKUP of `.` and `..`, unrestricted
    /// IOCTL.
    pub(super) relaxed: bool,
    /// Whether the data of IOCTL have exactly `limit` bytes.
    exact: bool,
    /// LOOKUP of `.`, which asks for an inode and not for a name.
    pub(super) itself: bool,
    /// IOCTL of a 32-bit caller.
    pub(super) compat: bool,
    page_size: u32,
    pub(super) lane: Lane,
}

/// The way by which a reply goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// write(2) to the device.
    #[default]
    Device,
    /// A commit on the ring: it always succeeds, and only the caller hears of a mistake.
    ///
    /// Its header's length does not count, and an error's body is not looked at. What is not
    /// answered on the device, such as NOTIFY_REPLY, has an empty commit that frees the entry.
    Ring,
}

/// The forms of a body, one per variant of [`Reply`]; plain bytes have several bounds.
#[derive(Clone, Copy)]
enum Form {
    Any,
    /// Not answered on the device.
    Nothing,
    Empty,
    Entry,
    Attributes,
    Statx,
    Opened,
    Created,
    Written,
    Copied,
    FsStats,
    XattrSize,
    Bytes,
    Target,
    Lock,
    BMap,
    Poll,
    Offset,
    Ioctl,
    Init,
    CuseInit,
}

impl Asked {
    /// What `op` asks over the device, on a host with pages of 4096 bytes.
    #[must_use]
    pub fn new(op: &Operation<'_>) -> Self {
        let mut asked = Self {
            opcode: op.raw_opcode(),
            limit: 0,
            mode: Mode(0),
            relaxed: false,
            exact: false,
            itself: false,
            compat: false,
            page_size: 4096,
            lane: Lane::Device,
        };
        match op {
            Operation::Lookup(op) => {
                asked.relaxed = op.name.is_dot_or_dotdot();
                asked.itself = op.name.as_bytes() == b".";
            }
            Operation::MkNod(op) => asked.mode = op.mode,
            Operation::Read(op) => asked.limit = op.size.into(),
            Operation::ReadDir(op) => asked.limit = op.size.into(),
            Operation::ReadDirPlus(op) => asked.limit = op.size.into(),
            Operation::GetXattr(op) => asked.limit = op.size.into(),
            Operation::ListXattr(op) => asked.limit = op.size.into(),
            Operation::CopyFileRange(op) | Operation::CopyFileRange64(op) => {
                asked.limit = op.length;
            }
            Operation::Write(op) => {
                asked.limit = u64::try_from(op.data.len()).unwrap_or(u64::MAX);
                asked.relaxed = op.write_flags.contains(WriteFlags::WRITE_CACHE);
            }
            Operation::IoCtl(op) => {
                asked.limit = op.out_size.into();
                asked.relaxed = op.flags.contains(IoctlFlags::UNRESTRICTED);
                asked.compat = op.flags.contains(IoctlFlags::COMPAT);
                asked.exact = !asked.relaxed && PRIVATE_COMMANDS.contains(&op.command);
            }
            _ => {}
        }
        asked
    }

    /// The same on a host with pages of `page_size` bytes, which bound links and ioctl data.
    #[must_use]
    pub const fn with_page_size(self, page_size: u32) -> Self {
        Self { page_size, ..self }
    }

    /// The same where the reply goes by `lane`.
    #[must_use]
    pub const fn with_lane(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }

    /// The opcode, or `None` for one that the table does not have.
    #[must_use]
    pub const fn opcode(&self) -> Option<Opcode> {
        Opcode::from_raw(self.opcode)
    }

    /// The lengths in bytes that the body of a success may have; empty where no reply may come.
    ///
    /// A body of any other length ends the request: EIO for the caller and EINVAL for the writer
    /// on the device, EINVAL for the caller on the ring.
    #[must_use]
    pub fn body_lens(&self) -> RangeInclusive<usize> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let exact = |len: usize| len..=len;
        match self.form() {
            Form::Any => 0..=usize::MAX,
            #[expect(clippy::reversed_empty_ranges, reason = "no length at all")]
            Form::Nothing => 1..=0,
            Form::Empty => exact(0),
            Form::Entry => exact(size_of::<abi::EntryOut>()),
            Form::Attributes => exact(size_of::<abi::AttrOut>()),
            Form::Statx => exact(size_of::<abi::StatxOut>()),
            Form::Opened => exact(size_of::<abi::OpenOut>()),
            Form::Created => exact(size_of::<(abi::EntryOut, abi::OpenOut)>()),
            Form::Written => exact(size_of::<abi::WriteOut>()),
            Form::Copied => exact(size_of::<abi::CopyFileRangeOut>()),
            Form::FsStats => exact(size_of::<abi::StatfsOut>()),
            Form::XattrSize => exact(size_of::<abi::GetxattrOut>()),
            Form::Bytes => 0..=limit,
            Form::Target => 0..=self.page().saturating_sub(1),
            Form::Lock => exact(size_of::<abi::LkOut>()),
            Form::BMap => exact(size_of::<abi::BmapOut>()),
            Form::Poll => exact(size_of::<abi::PollOut>()),
            Form::Offset => exact(size_of::<abi::LseekOut>()),
            Form::Ioctl => {
                // Room for ranges is always made: at least a page.
                let most = if self.exact { limit } else { limit.max(self.page()) };
                let least = if self.exact { limit } else { 0 };
                let fixed = size_of::<abi::IoctlOut>();
                fixed.saturating_add(least)..=fixed.saturating_add(most)
            }
            Form::Init => 0..=size_of::<abi::InitOut>(),
            Form::CuseInit => {
                let fixed = size_of::<abi::CuseInitOut>();
                fixed..=fixed.saturating_add(abi::CUSE_INIT_INFO_MAX)
            }
        }
    }

    /// The form of a success.
    fn form(&self) -> Form {
        let Some(opcode) = self.opcode() else { return Form::Any };
        match opcode {
            Opcode::Lookup | Opcode::MkNod | Opcode::MkDir | Opcode::Symlink | Opcode::Link => {
                Form::Entry
            }
            Opcode::GetAttr | Opcode::SetAttr => Form::Attributes,
            Opcode::Statx => Form::Statx,
            Opcode::Open | Opcode::OpenDir => Form::Opened,
            Opcode::Create | Opcode::TmpFile => Form::Created,
            Opcode::Write | Opcode::CopyFileRange => Form::Written,
            Opcode::CopyFileRange64 => Form::Copied,
            Opcode::StatFs => Form::FsStats,
            Opcode::GetXattr | Opcode::ListXattr if self.limit == 0 => Form::XattrSize,
            Opcode::GetXattr | Opcode::ListXattr => Form::Bytes,
            Opcode::Read | Opcode::ReadDir | Opcode::ReadDirPlus => Form::Bytes,
            Opcode::ReadLink => Form::Target,
            Opcode::GetLk => Form::Lock,
            Opcode::BMap => Form::BMap,
            Opcode::Poll => Form::Poll,
            Opcode::LSeek => Form::Offset,
            Opcode::IoCtl => Form::Ioctl,
            Opcode::Init => Form::Init,
            Opcode::CuseInit => Form::CuseInit,
            Opcode::Forget | Opcode::BatchForget | Opcode::NotifyReply => match self.lane {
                Lane::Device => Form::Nothing,
                Lane::Ring => Form::Empty,
            },
            Opcode::Unlink | Opcode::RmDir | Opcode::Rename | Opcode::Rename2 => Form::Empty,
            Opcode::Release | Opcode::ReleaseDir | Opcode::Flush | Opcode::Destroy => Form::Empty,
            Opcode::FSync | Opcode::FSyncDir | Opcode::SyncFs | Opcode::FAllocate => Form::Empty,
            Opcode::SetXattr | Opcode::RemoveXattr | Opcode::Access => Form::Empty,
            Opcode::SetLk | Opcode::SetLkW | Opcode::Interrupt => Form::Empty,
            Opcode::SetupMapping | Opcode::RemoveMapping => Form::Empty,
        }
    }

    /// Whether no reply may come at all.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.form(), Form::Nothing)
    }

    fn page(&self) -> usize {
        usize::try_from(self.page_size).unwrap_or(usize::MAX)
    }

    pub(super) const fn error(&self, field: &'static str, expected: Expected) -> DecodeError {
        DecodeError { opcode: self.opcode, field, expected }
    }

    /// Checks a length against [`Asked::body_lens`].
    pub(super) fn check_len(&self, found: usize) -> Result<(), DecodeError> {
        let lens = self.body_lens();
        let wide = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let (least, most) = (*lens.start(), *lens.end());
        let expected = if lens.contains(&found) {
            return Ok(());
        } else if least > most {
            Expected::NoReply
        } else if least == most {
            Expected::Exactly { expected: least, found }
        } else if found < least {
            Expected::AtLeast { expected: wide(least), found }
        } else {
            Expected::AtMost { expected: wide(most), found: wide(found) }
        };
        Err(self.error("body", expected))
    }
}

/// Decodes a whole reply: its header, and `body`, which is everything behind it.
///
/// The header's unique is not looked at: the caller has found the request by it. `body` is to stand
/// at an address that is a multiple of 8, for the sake of IOCTL's ranges.
///
/// # Errors
/// [`DecodeError`] when the header's length is not that of the message, the request has no answer,
/// not even an error, the error is outside -511..=0 or has a body, or the body is not what
/// [`Reply::decode`] takes. [`Lane::Ring`] says what does not count on the ring.
pub fn decode<'a>(
    asked: &Asked,
    header: &OutHeader,
    body: &'a [u8],
) -> Result<Answer<'a>, DecodeError> {
    check_len_field(asked, header, body)?;
    if asked.is_unanswered() {
        return Err(asked.error("message", Expected::NoReply));
    }
    if header.error == 0 {
        return Reply::decode(asked, body).map(Ok);
    }
    let errno = check_errno(asked, header)?;
    check_error_body(asked, body)?;
    Ok(Err(errno))
}

pub(super) fn check_len_field(
    asked: &Asked,
    header: &OutHeader,
    body: &[u8],
) -> Result<(), DecodeError> {
    let found = OutHeader::LEN.saturating_add(body.len());
    if asked.lane == Lane::Ring || usize::try_from(header.len) == Ok(found) {
        return Ok(());
    }
    let expected = usize::try_from(header.len).unwrap_or(usize::MAX);
    Err(asked.error("message", Expected::Exactly { expected, found }))
}

/// An error has no body.
pub(super) fn check_error_body(asked: &Asked, body: &[u8]) -> Result<(), DecodeError> {
    if asked.lane == Lane::Ring || body.is_empty() {
        return Ok(());
    }
    Err(asked.error("body", Expected::Nothing { found: body.len() }))
}

/// The errno of a header whose error is not 0.
pub(super) fn check_errno(asked: &Asked, header: &OutHeader) -> Result<Errno, DecodeError> {
    let errno = header.error.checked_neg().and_then(Errno::new);
    errno.ok_or_else(|| asked.error("error", Expected::ErrorNumber { found: header.error }))
}

/// What is left of a body.
struct Body<'a> {
    asked: Asked,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn fixed<T>(&mut self) -> Result<T, DecodeError>
    where
        T: FromBytes + KnownLayout + Immutable,
    {
        let found = self.rest.len();
        let (fixed, rest) = T::read_from_prefix(self.rest).map_err(|_| {
            let expected = u64::try_from(size_of::<T>()).unwrap_or(u64::MAX);
            self.asked.error("body", Expected::AtLeast { expected, found })
        })?;
        self.rest = rest;
        Ok(fixed)
    }

    fn ioctl(mut self) -> Result<Reply<'a>, DecodeError> {
        let abi::IoctlOut { result, flags, in_iovs, out_iovs } = self.fixed()?;
        let flags = IoctlFlags::from(flags);
        if !flags.contains(IoctlFlags::RETRY) {
            return Ok(Reply::Ioctl { result, flags, data: self.rest });
        }
        let count = u64::from(in_iovs).saturating_add(out_iovs.into());
        let expected = usize::try_from(count.saturating_mul(16)).unwrap_or(usize::MAX);
        let found = self.rest.len();
        let wrong = self.asked.error("ranges", Expected::Exactly { expected, found });
        if expected != found {
            return Err(wrong);
        }
        if count == 0 {
            // The address of nothing need not be aligned.
            return Ok(Reply::IoctlRetry { flags, input: &[], output: &[] });
        }
        let aligned = self.asked.error("ranges", Expected::Aligned(align_of::<abi::IoctlIovec>()));
        let ranges = <[abi::IoctlIovec]>::ref_from_bytes(self.rest).map_err(|_| aligned)?;
        let input = usize::try_from(in_iovs).map_err(|_| wrong)?;
        let (input, output) = ranges.split_at_checked(input).ok_or(wrong)?;
        Ok(Reply::IoctlRetry { flags, input, output })
    }

    /// Any length up to the struct's own; what is missing is zero.
    fn init(self) -> Result<Reply<'a>, DecodeError> {
        let mut whole = [0; size_of::<abi::InitOut>()];
        if let Some(front) = whole.get_mut(..self.rest.len()) {
            front.copy_from_slice(self.rest);
        }
        let init: abi::InitOut = zerocopy::transmute!(whole);
        let abi::InitOut { major, minor, .. } = init;
        self.asked.check_version(major, minor)?;
        Ok(Reply::Init(init))
    }

    fn cuse_init(mut self) -> Result<Reply<'a>, DecodeError> {
        let init: abi::CuseInitOut = self.fixed()?;
        self.asked.check_version(init.major, init.minor)?;
        Ok(Reply::CuseInit(init, self.rest))
    }
}

impl Asked {
    fn check_version(&self, major: u32, minor: u32) -> Result<(), DecodeError> {
        if major == KERNEL_VERSION && minor >= KERNEL_MINOR_VERSION_MIN {
            return Ok(());
        }
        Err(self.error("version", Expected::Version { major, minor }))
    }
}

impl<'a> Reply<'a> {
    /// Decodes the body of a success: the inverse of [`Reply::encode`].
    ///
    /// Timeouts with too many nanoseconds are clamped, as the kernel does. The ranges of an IOCTL
    /// that is to be asked again must stand at an address that is a multiple of 8. Any body is an
    /// answer to an opcode that the table does not have.
    ///
    /// # Errors
    /// [`DecodeError`] when the length is not one of [`Asked::body_lens`], INIT speaks of a version
    /// below 7.31 or of another major one, or the ranges of an IOCTL are not as many as it says.
    /// Whether the values are valid is the business of [`judge`](super::judge).
    pub fn decode(asked: &Asked, body: &'a [u8]) -> Result<Self, DecodeError> {
        asked.check_len(body.len())?;
        let mut body = Body { asked: *asked, rest: body };
        Ok(match asked.form() {
            Form::Nothing | Form::Empty => Self::Empty,
            Form::Any | Form::Bytes | Form::Target => Self::Bytes(body.rest),
            Form::Entry => Self::Entry((&body.fixed::<abi::EntryOut>()?).into()),
            Form::Attributes => Self::Attributes((&body.fixed::<abi::AttrOut>()?).into()),
            Form::Statx => Self::Statx((&body.fixed::<abi::StatxOut>()?).into()),
            Form::Opened => Self::Opened((&body.fixed::<abi::OpenOut>()?).into()),
            Form::Created => {
                let entry = body.fixed::<abi::EntryOut>()?;
                Self::Created((&entry).into(), (&body.fixed::<abi::OpenOut>()?).into())
            }
            Form::Written => Self::Written(body.fixed::<abi::WriteOut>()?.size),
            Form::Copied => Self::Copied(body.fixed::<abi::CopyFileRangeOut>()?.bytes_copied),
            Form::FsStats => Self::FsStats((&body.fixed::<abi::StatfsOut>()?).into()),
            Form::XattrSize => Self::XattrSize(body.fixed::<abi::GetxattrOut>()?.size),
            Form::Lock => Self::Lock(body.fixed::<abi::LkOut>()?.lk.into()),
            Form::BMap => Self::BMap(body.fixed::<abi::BmapOut>()?.block),
            Form::Poll => Self::Poll(body.fixed::<abi::PollOut>()?.revents.into()),
            Form::Offset => Self::Offset(body.fixed::<abi::LseekOut>()?.offset),
            Form::Ioctl => body.ioctl()?,
            Form::Init => body.init()?,
            Form::CuseInit => body.cuse_init()?,
        })
    }
}
