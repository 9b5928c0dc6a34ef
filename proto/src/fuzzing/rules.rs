//! What the kernel takes of a server, by the offsets of the C header and without the codec.
//!
//! Written from fs/fuse of Linux 6.18: lengths from dev.c, values from dir.c, file.c, readdir.c
//! and xattr.c. Where [`values_fit`] says nothing, the rule is not one of bytes alone.

use std::vec::Vec;

use super::again::field;
use super::oracle::{ORACLE, Pieces, number};

/// Bytes that a target of a symbolic link may have, and ranges of an ioctl at least.
const PAGE: usize = 4096;

/// A request, and what the description of the header says of its answers.
pub(super) struct Question<'a> {
    name: &'static str,
    pieces: Pieces<'a>,
    /// Forms of the body of a success, and the bytes of their structs.
    forms: Vec<(&'static str, usize)>,
}

impl<'a> Question<'a> {
    /// The question that a well-formed request asks.
    pub(super) fn new(request: &'a [u8]) -> Self {
        let pieces = ORACLE.read(request, true).unwrap();
        let Some((name, forms)) = ORACLE.answered(number(request, 4, 4)) else {
            return Self { name: "", pieces, forms: std::vec![("any", 0)] };
        };
        let size = |form: &str| form.split('+').filter_map(|it| Some(ORACLE.layout(it)?.0)).sum();
        Self { name, pieces, forms: forms.map(|form| (form, size(form))).collect() }
    }

    /// Whether an answer ends the connection if it is an error.
    pub(super) fn is_start(&self) -> bool {
        matches!(self.name, "FUSE_INIT" | "CUSE_INIT")
    }

    /// Whether the length of a body tells whether it can be read.
    pub(super) fn is_plain(&self) -> bool {
        !self.is_start() && self.name != "FUSE_IOCTL"
    }

    /// Whether header and length of an answer are right; then the form of its body, if any.
    pub(super) fn framed(
        &self,
        len: u32,
        error: i32,
        body: &[u8],
    ) -> Result<Option<&'static str>, ()> {
        let is_whole = len as usize == 16 + body.len();
        if !is_whole || !(-511..=0).contains(&error) || self.is_silent() {
            return Err(());
        }
        if error != 0 {
            return if body.is_empty() { Ok(None) } else { Err(()) };
        }
        self.form(body)
    }

    /// The same of a commit on the ring (dev_uring.c, `fuse_uring_commit`).
    pub(super) fn committed(
        &self,
        unique: u64,
        error: i32,
        body: &[u8],
    ) -> Result<Option<&'static str>, ()> {
        match error {
            _ if unique == 0 => Err(()),
            0 if self.is_silent() => {
                if body.is_empty() {
                    Ok(None)
                } else {
                    Err(())
                }
            }
            0 => self.form(body),
            -511..0 => Ok(None),
            _ => Err(()),
        }
    }

    fn is_silent(&self) -> bool {
        ["FUSE_FORGET", "FUSE_BATCH_FORGET", "FUSE_NOTIFY_REPLY"].contains(&self.name)
    }

    fn form(&self, body: &[u8]) -> Result<Option<&'static str>, ()> {
        let form = self.forms.iter().find(|(_, fixed)| self.fits(*fixed, body)).ok_or(())?;
        Ok(Some(form.0))
    }

    fn asked(&self, what: &str) -> usize {
        self.pieces.value(what) as usize
    }

    /// Whether a body can have a form with that many bytes of structs.
    fn fits(&self, fixed: usize, body: &[u8]) -> bool {
        let room = match self.name {
            "" => usize::MAX,
            "FUSE_READLINK" => PAGE - 1,
            "FUSE_READ" | "FUSE_READDIR" | "FUSE_READDIRPLUS" => self.asked("size"),
            "FUSE_GETXATTR" | "FUSE_LISTXATTR" if (self.asked("size") == 0) != (fixed > 0) => {
                return false;
            }
            "FUSE_GETXATTR" | "FUSE_LISTXATTR" => self.asked("size"),
            "FUSE_IOCTL" => return ioctl_fits(&self.pieces, body),
            "FUSE_INIT" => return body.len() <= fixed && is_new("fuse_init_out", body),
            "CUSE_INIT" => {
                let most = fixed + ORACLE.constant("CUSE_INIT_INFO_MAX") as usize;
                return (fixed..=most).contains(&body.len()) && is_new("cuse_init_out", body);
            }
            _ => 0,
        };
        let room = if fixed > 0 { 0 } else { room };
        (fixed..=fixed.saturating_add(room)).contains(&body.len())
    }
}

/// Version 7.31 or later; the kernel's memory was zero before a short answer was written there.
fn is_new(name: &str, body: &[u8]) -> bool {
    let whole = [body, &[0; 8]].concat();
    field(name, "major", &whole) == 7 && field(name, "minor", &whole) >= 31
}

fn ioctl_fits(request: &Pieces<'_>, body: &[u8]) -> bool {
    let (out_size, flags) = (request.value("out_size") as usize, request.value("flags"));
    // The first two speak of a `long`.
    let long = (size_of::<usize>() as u64) << 16;
    let private = [0x8000_6601 | long, 0x4000_6602 | long, 0x801c_581f, 0x401c_5820];
    let exact = flags & 2 == 0 && private.contains(&request.value("cmd"));
    let Some(data) = body.len().checked_sub(16) else { return false };
    let right = if exact { data == out_size } else { data <= out_size.max(PAGE) };
    let word = |label| field("fuse_ioctl_out", label, body);
    let ranges = word("in_iovs") + word("out_iovs");
    right && (word("flags") & 4 == 0 || 16 * ranges == data as u64)
}

/// Whether the values in the body of a success are valid, for the forms that this file knows.
pub(super) fn values_fit(question: &Question<'_>, body: &[u8]) -> Option<bool> {
    let asked = &question.pieces;
    let entry = |label| field("fuse_entry_out", label, body);
    let (regular, directory, link) = (8, 4, 10);
    let made = |kind: Option<u64>| {
        let mode = entry("attr.mode");
        entry("nodeid") > 1
            && attr(mode, entry("attr.size"))
            && kind.is_none_or(|it| it == mode >> 12 & 15)
    };
    let opened = |at: usize| {
        let word = |label| field("fuse_open_out", label, &body[at..]);
        let (flags, backing) = (word("open_flags"), word("backing_id") as u32);
        let through = ORACLE.constant("FOPEN_PASSTHROUGH");
        let others = flags & !(1 | 1 << 5 | 1 << 6 | through);
        flags & through == 0 || others == 0 && backing.cast_signed() > 0
    };
    Some(match question.name {
        "FUSE_LOOKUP" => {
            let dots = matches!(asked.strings[0], b"." | b"..");
            let (nodeid, mode) = (entry("nodeid"), entry("attr.mode"));
            nodeid == 0 || attr(mode, entry("attr.size")) && (nodeid != 1 || dots)
        }
        "FUSE_MKNOD" => made(Some(asked.value("mode") >> 12 & 15)),
        "FUSE_MKDIR" => made(Some(directory)),
        "FUSE_SYMLINK" => made(Some(link)),
        "FUSE_LINK" => made(None),
        "FUSE_CREATE" | "FUSE_TMPFILE" => made(Some(regular)) && opened(128),
        "FUSE_OPEN" => opened(0),
        "FUSE_GETATTR" | "FUSE_SETATTR" => {
            let word = |label| field("fuse_attr_out", label, body);
            attr(word("attr.mode"), word("attr.size"))
        }
        "FUSE_STATX" => {
            let word = |label| field("fuse_statx_out", label, body);
            let (mask, any) = (word("stat.mask"), 0o100_000);
            let mode = if mask & 1 != 0 { word("stat.mode") } else { any };
            attr(mode, if mask & 0x200 != 0 { word("stat.size") } else { 0 })
        }
        "FUSE_WRITE" => {
            let delayed = asked.value("write_flags") & 1 != 0;
            delayed || field("fuse_write_out", "size", body) <= asked.value("size")
        }
        "FUSE_COPY_FILE_RANGE" => field("fuse_write_out", "size", body) <= asked.value("len"),
        "FUSE_COPY_FILE_RANGE_64" => number(body, 0, 8) <= asked.value("len"),
        "FUSE_LSEEK" => number(body, 0, 8) <= i64::MAX.cast_unsigned(),
        "FUSE_GETLK" => {
            let word = |label| field("fuse_lk_out", label, body);
            let (start, end) = (word("lk.start"), word("lk.end"));
            match word("lk.type") {
                0 | 1 => start <= end && end <= i64::MAX.cast_unsigned(),
                kind => kind == 2,
            }
        }
        "FUSE_READDIR" => walk(body, 0).1.is_none(),
        "FUSE_READDIRPLUS" => walk(body, 128).1.is_none(),
        "FUSE_LISTXATTR" if asked.value("size") != 0 => xattr_list(body),
        "FUSE_IOCTL" | "FUSE_INIT" | "CUSE_INIT" => return None,
        _ => true,
    })
}

/// `fuse_invalid_attr`.
fn attr(mode: u64, size: u64) -> bool {
    matches!(mode >> 12 & 15, 1 | 2 | 4 | 6 | 8 | 10 | 12) && size >> 63 == 0
}

/// `fuse_verify_xattr_list`: strings of one byte or more, each with its NUL.
fn xattr_list(mut list: &[u8]) -> bool {
    while !list.is_empty() {
        match list.iter().position(|&byte| byte == 0) {
            None | Some(0) => return false,
            Some(len) => list = &list[len + 1..],
        }
    }
    true
}

/// `parse_dirfile` and `parse_dirplusfile`: where the records end, and where a wrong one begins.
pub(super) fn walk(stream: &[u8], before: usize) -> (usize, Option<usize>) {
    let mut at = 0;
    while stream.len() - at >= before + 24 {
        let record = &stream[at..];
        let namelen = number(record, before + 16, 4) as usize;
        if !(1..=4095).contains(&namelen) {
            return (at, Some(at));
        }
        let len = (before + 24 + namelen).next_multiple_of(8);
        if len > record.len() {
            break;
        }
        if record[before + 24..][..namelen].contains(&b'/') {
            return (at, Some(at));
        }
        at += len;
    }
    (at, None)
}

/// `fuse_notify`: whether the kernel takes a notification, but for what it has cached.
///
/// A name with a slash is taken and can never be found; it is refused here.
pub(super) fn notified(message: &[u8]) -> bool {
    let Some(body) = message.get(16..) else { return false };
    if number(message, 0, 4) != message.len() as u64 || number(message, 8, 8) != 0 {
        return false;
    }
    let code = number(message, 4, 4);
    let name = super::again::notification(code);
    let size = name.as_deref().and_then(|it| ORACLE.layout(it)).map_or(0, |it| it.0);
    let Some((_, behind)) = body.split_at_checked(size) else { return false };
    let word = |label| field(name.as_deref().unwrap(), label, body);
    match code {
        1 | 2 | 5 | 7 | 8 => behind.is_empty(),
        3 | 6 => {
            let Some((0, name)) = behind.split_last().map(|(last, name)| (*last, name)) else {
                return false;
            };
            name.len() as u64 == word("namelen")
                && (1..=4095).contains(&name.len())
                && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
        }
        4 => behind.len() as u64 == word("size"),
        9 => behind.len() as u64 == 8 * word("count"),
        _ => false,
    }
}
