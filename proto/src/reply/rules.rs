//! The kernel's rules about the values of a reply that has the right form.
//!
//! One function per rule or per struct, each with the function of the kernel that it speaks of;
//! [`judge`](super::judge) says what comes of a broken one.

use zerocopy::FromBytes;

use super::judge::{Adjusted, Aftermath, Known};
use super::{Asked, Attr, Entry, Opened, Reply, Statx, StatxAttributes};
use crate::abi;
use crate::cursor::Expected;
use crate::dirent::{DirentError, DirentPlusReader, DirentReader, LookUp};
use crate::flags::{FOpenFlags, InitFlags, IoctlFlags, StatxMask};
use crate::mode::{FileType, Mode};
use crate::op::{FileLock, LockKind};
use crate::opcode::Opcode;
use crate::types::{Errno, NodeId, Timestamp};

/// The longest value and the longest list of extended attributes (`XATTR_SIZE_MAX`).
const XATTR_SIZE_MAX: u32 = 65536;
/// Nanoseconds of a second (`NSEC_PER_SEC`).
const NANOSECONDS: u32 = 1_000_000_000;
/// Flags that are valid together with PASSTHROUGH. Kernel: fs/fuse/iomode.c.
const PASSTHROUGH_MASK: FOpenFlags = FOpenFlags::PASSTHROUGH
    .union(FOpenFlags::DIRECT_IO)
    .union(FOpenFlags::PARALLEL_DIRECT_WRITES)
    .union(FOpenFlags::NOFLUSH);

/// A broken rule, before it is known what comes of it.
pub(super) type Broken = (&'static str, Expected, Errno, Aftermath);
pub(super) type Checked = Result<Adjusted, Broken>;

const FINE: Checked = Ok(Adjusted::empty());

const fn broken(field: &'static str, expected: Expected, aftermath: Aftermath) -> Checked {
    Err((field, expected, Errno::EIO, aftermath))
}

/// The rules about values, by form and opcode.
pub(super) fn values(asked: &Asked, known: &Known, reply: &Reply<'_>) -> Checked {
    Ok(checked(asked, known, reply)? | nanoseconds(reply))
}

/// Kernel: fs/fuse/inode.c, `fuse_change_attributes_common`; dir.c, `fuse_do_statx`.
fn nanoseconds(reply: &Reply<'_>) -> Adjusted {
    let of = |attr: &Attr| [attr.atime, attr.mtime, attr.ctime, Timestamp::EPOCH];
    let times = match reply {
        Reply::Entry(entry) if entry.nodeid != NodeId(0) => of(&entry.attr),
        Reply::Created(entry, _) => of(&entry.attr),
        Reply::Attributes(attributes) => of(&attributes.attr),
        // What is not cached is shown as it is.
        Reply::Statx(StatxAttributes { statx, .. }) => {
            if statx.mask.contains(StatxMask::BASIC_STATS) {
                [statx.atime, statx.mtime, statx.ctime, statx.btime]
            } else {
                [Timestamp::EPOCH, Timestamp::EPOCH, Timestamp::EPOCH, statx.btime]
            }
        }
        _ => return Adjusted::empty(),
    };
    too_fine(&times)
}

/// Timeouts, which are durations once they are decoded.
///
/// Kernel: fs/fuse/dir.c, `fuse_time_to_jiffies`.
pub(super) fn timeouts(reply: &Reply<'_>, body: &[u8]) -> Adjusted {
    let nanoseconds = match reply {
        Reply::Entry(_) | Reply::Created(..) => front(body)
            .map(|entry: abi::EntryOut| entry.entry_valid_nsec.max(entry.attr_valid_nsec)),
        Reply::Attributes(_) => front(body).map(|attr: abi::AttrOut| attr.attr_valid_nsec),
        Reply::Statx(_) => front(body).map(|statx: abi::StatxOut| statx.attr_valid_nsec),
        _ => None,
    };
    let is_more = nanoseconds.is_some_and(|nanoseconds| nanoseconds >= NANOSECONDS);
    if is_more { Adjusted::NANOSECONDS } else { Adjusted::empty() }
}

/// The struct that a body begins with.
fn front<T: FromBytes>(body: &[u8]) -> Option<T> {
    T::read_from_prefix(body).ok().map(|(front, _)| front)
}

fn too_fine(times: &[Timestamp]) -> Adjusted {
    let is_more = times.iter().any(|time| time.nanoseconds >= NANOSECONDS);
    if is_more { Adjusted::NANOSECONDS } else { Adjusted::empty() }
}

fn checked(asked: &Asked, known: &Known, reply: &Reply<'_>) -> Checked {
    let opcode = asked.opcode();
    match reply {
        Reply::Entry(entry) if opcode == Some(Opcode::Lookup) => looked_up(asked, known, entry),
        Reply::Entry(entry) => {
            let kind = match opcode {
                Some(Opcode::MkDir) => Some(FileType::DIRECTORY),
                Some(Opcode::Symlink) => Some(FileType::SYMLINK),
                Some(Opcode::MkNod) => Some(asked.mode.file_type()),
                _ => known.file_type,
            };
            made(entry, kind)
        }
        Reply::Created(entry, opened) => {
            made(entry, Some(FileType::REGULAR))?;
            handle(known, opened)
        }
        Reply::Opened(opened) if opcode == Some(Opcode::OpenDir) => {
            let direct = opened.flags.contains(FOpenFlags::DIRECT_IO);
            Ok(if direct { Adjusted::DIRECT_IO } else { Adjusted::empty() })
        }
        Reply::Opened(opened) => handle(known, opened),
        Reply::Attributes(attributes) => {
            attr(&attributes.attr, known.file_type, Aftermath::BadInode)
        }
        Reply::Statx(attributes) => statx(&attributes.statx, known.file_type),
        Reply::Written(_) if asked.relaxed => FINE,
        Reply::Written(size) => at_most("size", (*size).into(), asked.limit),
        Reply::Copied(count) => at_most("bytes_copied", *count, asked.limit),
        Reply::Bytes(bytes) => match opcode {
            Some(Opcode::ReadDir) => records(bytes),
            Some(Opcode::ReadDirPlus) => records_plus(bytes),
            Some(Opcode::ListXattr) => xattr_list(bytes),
            Some(Opcode::ReadLink) if bytes.contains(&0) => Ok(Adjusted::TARGET_CUT),
            _ => FINE,
        },
        Reply::XattrSize(size) if *size > XATTR_SIZE_MAX => Ok(Adjusted::XATTR_SIZE),
        Reply::Lock(lock) => file_lock(lock),
        Reply::Offset(offset) if *offset > known.offset_max => {
            let expected = Expected::AtMost { expected: known.offset_max, found: *offset };
            Err(("offset", expected, Errno::EINVAL, Aftermath::None))
        }
        Reply::Ioctl { result, data, .. } => {
            let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
            at_most("data", len, asked.limit)?;
            let is_enosys = result.checked_neg() == Some(Errno::ENOSYS.raw());
            Ok(if is_enosys { Adjusted::ENOTTY } else { Adjusted::empty() })
        }
        Reply::IoctlRetry { input, output, .. } => {
            addressable(asked, input)?;
            addressable(asked, output)?;
            ranges_fit(input, known.ioctl_max)?;
            ranges_fit(output, known.ioctl_max)
        }
        Reply::Init(init) => accepted_flags(init, known),
        Reply::CuseInit(_, info) => device_info(info),
        Reply::Empty
        | Reply::FsStats(_)
        | Reply::XattrSize(_)
        | Reply::BMap(_)
        | Reply::Poll(_)
        | Reply::Offset(_) => FINE,
    }
}

fn at_most(field: &'static str, found: u64, expected: u64) -> Checked {
    if found <= expected {
        return FINE;
    }
    broken(field, Expected::AtMost { expected, found }, Aftermath::None)
}

/// The same type, if one is known; else one of the seven.
fn file_type(found: Mode, expected: Option<FileType>, aftermath: Aftermath) -> Checked {
    let kind = found.file_type();
    if kind.is_valid() && expected.is_none_or(|expected| expected == kind) {
        return FINE;
    }
    broken("mode", Expected::FileType { expected, found }, aftermath)
}

fn file_size(found: u64, aftermath: Aftermath) -> Checked {
    let expected = i64::MAX.cast_unsigned();
    if found <= expected {
        return FINE;
    }
    broken("size", Expected::AtMost { expected, found }, aftermath)
}

fn attr(attr: &Attr, kind: Option<FileType>, aftermath: Aftermath) -> Checked {
    file_type(attr.mode, kind, aftermath)?;
    file_size(attr.size, aftermath)
}

/// Kernel: fs/fuse/dir.c, `fuse_lookup_name` and `fuse_lookup`; inode.c, `fuse_get_dentry`.
fn looked_up(asked: &Asked, known: &Known, entry: &Entry) -> Checked {
    let found = entry.nodeid;
    if found == NodeId(0) {
        return FINE;
    }
    attr(&entry.attr, None, Aftermath::NotCounted)?;
    let expected = known.nodeid.filter(|_| asked.itself);
    if expected.is_some_and(|expected| expected != found) {
        // Found out when the inode is there: a FORGET gives it back.
        return broken("nodeid", Expected::Nodeid { expected, found }, Aftermath::None);
    }
    if found.is_root() && !asked.relaxed {
        return broken("nodeid", Expected::Nodeid { expected, found }, Aftermath::NotCounted);
    }
    FINE
}

/// Kernel: fs/fuse/dir.c, `create_new_entry` and `fuse_create_open`.
fn made(entry: &Entry, kind: Option<FileType>) -> Checked {
    let found = entry.nodeid;
    if found == NodeId(0) || found.is_root() {
        let expected = Expected::Nodeid { expected: None, found };
        return broken("nodeid", expected, Aftermath::NotCounted);
    }
    attr(&entry.attr, kind, Aftermath::NotCounted)
}

/// Kernel: fs/fuse/iomode.c, `fuse_file_io_open`.
fn handle(known: &Known, opened: &Opened) -> Checked {
    let Opened { flags, backing_id, .. } = *opened;
    if flags.contains(FOpenFlags::PASSTHROUGH) {
        let valid = if known.passthrough { PASSTHROUGH_MASK } else { FOpenFlags::empty() };
        if !valid.contains(flags) {
            let (expected, found) = (valid.bits().into(), flags.bits().into());
            return broken("open_flags", Expected::Flags { expected, found }, Aftermath::Released);
        }
        if backing_id <= 0 {
            let expected = Expected::Existing { found: backing_id.into() };
            return broken("backing_id", expected, Aftermath::Released);
        }
    }
    let parallel = flags.contains(FOpenFlags::PARALLEL_DIRECT_WRITES);
    let alone = parallel && !flags.contains(FOpenFlags::DIRECT_IO);
    Ok(if alone { Adjusted::PARALLEL_DIRECT_WRITES } else { Adjusted::empty() })
}

/// Kernel: fs/fuse/dir.c, `fuse_do_statx`.
fn statx(statx: &Statx, kind: Option<FileType>) -> Checked {
    if statx.mask.contains(StatxMask::SIZE) {
        file_size(statx.size, Aftermath::BadInode)?;
    }
    if statx.mask.contains(StatxMask::TYPE) {
        file_type(statx.mode, kind, Aftermath::BadInode)?;
    }
    let whole = statx.mask.contains(StatxMask::BASIC_STATS);
    Ok(if whole { Adjusted::empty() } else { Adjusted::NOT_CACHED })
}

fn records(stream: &[u8]) -> Checked {
    let mut reader = DirentReader::new(stream);
    for record in &mut reader {
        record.map_err(wrong_record)?;
    }
    let is_cut = !reader.rest().is_empty();
    Ok(if is_cut { Adjusted::RECORD_CUT } else { Adjusted::empty() })
}

fn records_plus(stream: &[u8]) -> Checked {
    let mut reader = DirentPlusReader::new(stream);
    let mut adjusted = Adjusted::empty();
    for record in &mut reader {
        let record = record.map_err(wrong_record)?;
        match record.look_up() {
            LookUp::None => {}
            LookUp::GivenBack(_) => adjusted |= Adjusted::LOOKUP_GIVEN_BACK,
            LookUp::Counted(_) => {
                let attr = record.entry.map(|entry| entry.attr).unwrap_or_default();
                adjusted |= too_fine(&[attr.atime, attr.mtime, attr.ctime]);
            }
        }
    }
    adjusted.set(Adjusted::RECORD_CUT, !reader.rest().is_empty());
    Ok(adjusted)
}

/// What comes of a wrong record. Kernel: fs/readdir.c, `getdents64`: it returns what it has.
fn wrong_record(why: DirentError) -> Broken {
    let aftermath = if why.at == 0 { Aftermath::None } else { Aftermath::RecordsTaken };
    ("name", why.expected, Errno::EIO, aftermath)
}

/// Kernel: fs/fuse/xattr.c, `fuse_verify_xattr_list`.
fn xattr_list(list: &[u8]) -> Checked {
    if list.last().is_some_and(|&last| last != 0) {
        return broken("list", Expected::Terminator, Aftermath::None);
    }
    let names = list.strip_suffix(&[0]).unwrap_or_default();
    if !list.is_empty() && names.split(|&byte| byte == 0).any(<[u8]>::is_empty) {
        return broken("list", Expected::NotEmpty, Aftermath::None);
    }
    FINE
}

/// Kernel: fs/fuse/file.c, `convert_fuse_file_lock`.
fn file_lock(lock: &FileLock) -> Checked {
    match lock.kind {
        LockKind::UNLOCK => FINE,
        LockKind::READ | LockKind::WRITE => {
            at_most("end", lock.end, FileLock::TO_EOF)?;
            at_most("start", lock.start, lock.end)
        }
        found => broken("type", Expected::LockKind { found }, Aftermath::None),
    }
}

/// The rules of a retry that come before its ranges are looked at.
///
/// Kernel: fs/fuse/ioctl.c, `fuse_do_ioctl`.
pub(super) fn ioctl_ranges(asked: &Asked, body: &[u8]) -> Result<(), Broken> {
    if asked.opcode() != Some(Opcode::IoCtl) {
        return Ok(());
    }
    let Ok((fixed, _)) = abi::IoctlOut::read_from_prefix(body) else { return Ok(()) };
    let flags = IoctlFlags::from(fixed.flags);
    if !flags.contains(IoctlFlags::RETRY) {
        return Ok(());
    }
    if !asked.relaxed {
        let (expected, found) = (0, flags.bits().into());
        broken("flags", Expected::Flags { expected, found }, Aftermath::None)?;
    }
    let found = u64::from(fixed.in_iovs).saturating_add(fixed.out_iovs.into());
    let expected = u64::try_from(abi::IOCTL_MAX_IOV).unwrap_or(u64::MAX);
    if found > expected {
        let expected = Expected::AtMost { expected, found };
        return Err(("ranges", expected, Errno::ENOMEM, Aftermath::None));
    }
    Ok(())
}

/// Addresses and lengths are such as the caller can have: of 32 bits if it is a 32-bit one.
///
/// Kernel: fs/fuse/ioctl.c, `fuse_copy_ioctl_iovec`.
fn addressable(asked: &Asked, ranges: &[abi::IoctlIovec]) -> Checked {
    let is_narrow = asked.compat || cfg!(target_pointer_width = "32");
    let expected = if is_narrow { u64::from(u32::MAX) } else { u64::MAX };
    ranges
        .iter()
        .flat_map(|range| [range.base, range.len])
        .try_fold(Adjusted::empty(), |_, found| at_most("ranges", found, expected))
}

/// Kernel: fs/fuse/ioctl.c, `fuse_verify_ioctl_iov`.
fn ranges_fit(ranges: &[abi::IoctlIovec], expected: u64) -> Checked {
    let found = ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.len));
    if found <= expected {
        return FINE;
    }
    Err(("ranges", Expected::AtMost { expected, found }, Errno::ENOMEM, Aftermath::None))
}

/// Kernel: fs/fuse/inode.c, `process_init_reply`.
fn accepted_flags(init: &abi::InitOut, known: &Known) -> Checked {
    let low = InitFlags::from_halves(init.flags, 0);
    let has_high = low.contains(InitFlags::INIT_EXT);
    let flags = InitFlags::from_halves(init.flags, if has_high { init.flags2 } else { 0 });
    let permissions = known.default_permissions || flags.contains(InitFlags::POSIX_ACL);
    if flags.contains(InitFlags::ALLOW_IDMAP) && !permissions {
        let found = flags.bits();
        let expected = (flags & !InitFlags::ALLOW_IDMAP).bits();
        let expected = Expected::Flags { expected, found };
        return Err(("flags", expected, Errno::ECONNREFUSED, Aftermath::NoConnection));
    }
    FINE
}

/// Strings `KEY=value`, of which the last DEVNAME counts; blanks around both do not.
///
/// Kernel: fs/fuse/cuse.c, `cuse_parse_one` and `cuse_parse_devinfo`.
fn device_info(info: &[u8]) -> Checked {
    let why = |expected| ("info", expected, Errno::ECONNREFUSED, Aftermath::NoConnection);
    if info.last().is_some_and(|&last| last != 0) {
        return Err(why(Expected::Terminator));
    }
    let mut name: &[u8] = b"";
    for string in info.split(|&byte| byte == 0).filter(|string| !string.is_empty()) {
        let mut halves = string.splitn(2, |&byte| byte == b'=').map(stripped);
        match (halves.next().unwrap_or_default(), halves.next().unwrap_or_default()) {
            (b"", _) => return Err(why(Expected::NotEmpty)),
            (b"DEVNAME", value) => name = value,
            _ => {}
        }
    }
    if name.is_empty() { Err(why(Expected::NotEmpty)) } else { FINE }
}

/// Without what `isspace` of the kernel takes for blank (lib/ctype.c) at both ends.
fn stripped(mut bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0);
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}
