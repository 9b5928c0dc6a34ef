//! Decoded messages, encoded again: the same bytes, but for what the header gives no meaning.
//!
//! What may differ is listed here by the names of the C header: fields that are padding, fields
//! that do not count for lack of a flag, and timeouts that are clamped as the kernel does.

use std::string::String;

use super::Aligned;
use super::oracle::{HEADER_LEN, ORACLE, Pieces, number};
use crate::abi::{UringEntInOut, UringReqHeader};
use crate::frame;
use crate::reply::Reply;
use crate::request::{EncodeError, Envelope, Forms, Operation, split, split_ring};
use crate::writer::TooSmall;

/// Fields that count only with a flag: without it they come out as 0.
const FLAGGED: [(&str, &str); 16] = [
    ("atime", "valid:FATTR_ATIME"),
    ("atimensec", "valid:FATTR_ATIME"),
    ("ctime", "valid:FATTR_CTIME"),
    ("ctimensec", "valid:FATTR_CTIME"),
    ("fh", "getattr_flags:FUSE_GETATTR_FH"),
    ("fh", "valid:FATTR_FH"),
    ("flags2", "flags:FUSE_INIT_EXT"),
    ("gid", "valid:FATTR_GID"),
    ("lock_owner", "read_flags:FUSE_READ_LOCKOWNER"),
    ("lock_owner", "valid:FATTR_LOCKOWNER"),
    ("lock_owner", "write_flags:FUSE_WRITE_LOCKOWNER"),
    ("mode", "valid:FATTR_MODE"),
    ("mtime", "valid:FATTR_MTIME"),
    ("mtimensec", "valid:FATTR_MTIME"),
    ("size", "valid:FATTR_SIZE"),
    ("uid", "valid:FATTR_UID"),
];

/// Whether a field is there for its size only.
fn is_idle(label: &str) -> bool {
    let last = label.rsplit('.').next().unwrap();
    let plain = last.trim_start_matches('_').trim_end_matches(|it: char| it.is_ascii_digit());
    matches!(plain, "dummy" | "padding" | "reserved" | "spare" | "unused")
}

/// Whether the request that was read has the flag without which this field does not count.
fn counts(pieces: &Pieces<'_>, label: &str) -> bool {
    let has = |word: &str| pieces.fields().iter().any(|(label, ..)| label == word);
    let mut flags = FLAGGED.iter().filter(|(field, _)| *field == label).map(|(_, flag)| *flag);
    !is_idle(label)
        && flags.all(|flag| !has(flag.split_once(':').unwrap().0) || pieces.value(flag) != 0)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Decodes a request and encodes it again, in one piece and for the ring; gives its opcode, or
/// `None` for what is no request.
pub(super) fn request(message: &[u8], ext: bool) -> Option<u32> {
    let aligned = Aligned::new(message);
    let (header, argument, payload) = split(aligned.bytes(), ext).ok()?;
    let op = Operation::decode(&header, argument, payload).ok()?;
    let forms = Forms { setxattr_ext: ext, init_ext: argument.len() > 16 };
    let envelope = Envelope::from(&header);
    let needed = op.encoded_len(forms).unwrap();
    let mut out = std::vec![0xa5; needed];
    let short = op.encode(&envelope, forms, &mut out[..needed - 1]);
    assert_eq!(short, Err(EncodeError::TooSmall(TooSmall { needed })));
    assert!(out.iter().all(|&byte| byte == 0xa5), "half a request was written");
    assert_eq!(op.encode(&envelope, forms, &mut out), Ok(needed));
    assert_eq!(number(&out, 0, 4), needed as u64, "len");
    assert_eq!(out[4..38], message[4..38], "header of {op:?}");
    assert!(is_zero(&out[38..40]), "padding of the header");
    let pieces = ORACLE.read(message, ext).unwrap();
    let behind = HEADER_LEN + pieces.argument.len();
    let is_init = matches!(op, Operation::Init(_));
    for (label, at, size) in pieces.fields() {
        let Some(new) = out.get(HEADER_LEN + at..HEADER_LEN + at + size) else { continue };
        let old = message[..behind].get(HEADER_LEN + at..HEADER_LEN + at + size);
        match old {
            // The name begins where the longer form of SETXATTR goes on.
            None if !is_init => {}
            Some(old) if counts(&pieces, label) => assert_eq!(new, old, "{label} of {op:?}"),
            _ => assert!(is_zero(new), "{label} of {op:?}"),
        }
    }
    if !is_init {
        assert_eq!(out[behind..], message[behind..], "behind the struct of {op:?}");
        // INIT is sent before there could be a ring.
        ring(&op, &envelope, forms, &out);
    }
    let out = Aligned::new(&out);
    let (header, argument, payload) = split(out.bytes(), ext).unwrap();
    assert_eq!(Operation::decode(&header, argument, payload), Ok(op));
    Some(header.opcode)
}

/// In ring form the pieces are those of the whole, and decode to the same.
fn ring(op: &Operation<'_>, envelope: &Envelope, forms: Forms, whole: &[u8]) {
    let mut area = UringReqHeader::default();
    area.op_in.fill(0xa5);
    let needed = match op.encode_ring(envelope, forms, &mut area.op_in, &mut []) {
        Ok(_) => 0,
        Err(EncodeError::TooSmall(TooSmall { needed })) => needed,
        Err(error) => panic!("{error}: {op:?}"),
    };
    let mut payload = Aligned::new(&std::vec![0xa5; needed]);
    let ring = op.encode_ring(envelope, forms, &mut area.op_in, payload.bytes_mut()).unwrap();
    assert_eq!(ring.payload_len, needed);
    let (argument, behind) = area.op_in.split_at(ring.argument_len);
    assert!(behind.iter().all(|&byte| byte == 0xa5), "written behind the argument");
    let mut header = std::vec![0; HEADER_LEN];
    assert!(frame::put_in_header(&mut header, &ring.header));
    assert_eq!([header.as_slice(), argument, payload.bytes()].concat(), whole);

    area.put_in_header(&ring.header);
    let payload_sz = u32::try_from(needed).unwrap();
    area.ring_ent_in_out = UringEntInOut { payload_sz, ..UringEntInOut::default() };
    let mut bytes = [0; 288];
    assert!(frame::put_ring_header(&mut bytes, &area));
    assert_eq!(bytes[..HEADER_LEN], header);
    assert_eq!(number(&bytes, 256 + 16, 4), needed as u64, "payload_sz");
    let area = frame::ring_header(&bytes).unwrap();
    let header = area.in_header();
    let parts = split_ring(&header, &area.op_in, payload.bytes(), forms.setxattr_ext);
    let (argument, payload) = parts.unwrap();
    assert_eq!(Operation::decode(&header, argument, payload), Ok(*op));
}

/// Encodes a reply that was decoded from `body`, which has this form.
pub(super) fn reply(form: &str, reply: &Reply<'_>, body: &[u8]) {
    let mut out = std::vec![0xa5; reply.encoded_len()];
    assert_eq!(reply.encode(&mut out), Ok(out.len()));
    let mut old = body.to_vec();
    if matches!(reply, Reply::Init(_)) {
        // What a short one lacks is 0.
        old.resize(out.len(), 0);
    }
    assert_eq!(old.len(), out.len(), "{reply:?}");
    let is_retry = matches!(reply, Reply::IoctlRetry { .. });
    let mut at = 0;
    for part in form.split('+') {
        at += same(part, &old[at..], &out[at..], |label, value| match label {
            // Of a retry, the result does not count; of anything else, only what is no range.
            "result" if is_retry => 0,
            "in_iovs" | "out_iovs" if !is_retry => 0,
            _ => clamped(label, value),
        });
    }
    assert_eq!(out[at..], old[at..], "{reply:?}");
}

/// The value of a field of a reply as the kernel takes it.
pub(super) fn clamped(label: &str, value: u64) -> u64 {
    if label.ends_with("valid_nsec") { value.min(999_999_999) } else { value }
}

/// Compares the struct `name`, if there is one, with what came out for it; gives its size.
///
/// A field may differ where it is idle and came out as 0, or if `expected` gives the new value.
pub(super) fn same(
    name: &str,
    old: &[u8],
    new: &[u8],
    expected: impl Fn(&str, u64) -> u64,
) -> usize {
    let Some((len, fields)) = ORACLE.layout(name) else { return 0 };
    for (label, at, size) in fields {
        let (old, new) = (&old[*at..at + size], &new[*at..at + size]);
        if old != new && !(is_idle(label) && is_zero(new)) {
            let value = |bytes| number(bytes, 0, *size);
            assert_eq!(value(new), expected(label, value(old)), "{name}.{label}");
        }
    }
    *len
}

/// A field of the struct `name`, which opens `bytes`.
pub(super) fn field(name: &str, label: &str, bytes: &[u8]) -> u64 {
    let (_, fields) = ORACLE.layout(name).unwrap();
    let (_, at, size) = fields.iter().find(|it| it.0 == label).unwrap();
    number(bytes, *at, *size)
}

/// The struct that follows the header of a notification with this code.
pub(super) fn notification(code: u64) -> Option<String> {
    const NAMES: [&str; 10] = [
        "",
        "poll_wakeup",
        "inval_inode",
        "inval_entry",
        "store",
        "retrieve",
        "delete",
        "",
        "",
        "prune",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code))?;
    Some(std::format!("fuse_notify_{name}_out"))
}
