//! What fanotify(7) reports, taken apart.
//!
//! Never known here: nodes. Neighbour: `watch` finds out what is meant.

use nix::sys::fanotify::MaskFlags;

use crate::sys::FileHandle;

/// `struct fanotify_event_metadata`, up to and with the pid.
/// Kernel: include/uapi/linux/fanotify.h.
const HEAD: usize = 24;
/// `struct fanotify_event_info_header` and the fsid behind it.
const RECORD: usize = 4 + 8;
/// `FAN_EVENT_INFO_TYPE_FID`, and what it is of a directory and a name in it, or alone.
const OBJECT: u8 = 1;
const PLACE: u8 = 2;
const DIRECTORY: u8 = 3;

/// Something that happened to a file or a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) mask: MaskFlags,
    /// Whose doing it is; 0 where that cannot be said in our namespace.
    pub(crate) pid: i32,
    /// A directory and a name in it.
    pub(crate) place: Option<(FileHandle, &'a [u8])>,
    /// The file itself.
    pub(crate) object: Option<FileHandle>,
}

/// The events of one read, in order.
pub(crate) fn events(buffer: &[u8]) -> impl Iterator<Item = Event<'_>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let len = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
        let (event, behind) = rest.split_at_checked(len.max(HEAD))?;
        rest = behind;
        Some(of(event))
    })
}

/// `event` is no shorter than [`HEAD`].
fn of(event: &[u8]) -> Event<'_> {
    let word = |at: usize| event[at..].first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    let mask = event[8..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    let mask = MaskFlags::from_bits_retain(mask);
    let mut found = Event { mask, pid: word(20), place: None, object: None };
    let head = usize::from(u16::from_ne_bytes([event[6], event[7]]));
    let mut rest = event.get(head..).unwrap_or_default();
    while let Some([kind, _, low, high]) = rest.first_chunk() {
        let len = usize::from(u16::from_ne_bytes([*low, *high]));
        let Some((record, behind)) = rest.split_at_checked(len.max(RECORD)) else { break };
        rest = behind;
        let Some((handle, name)) = handle(&record[RECORD..]) else { continue };
        match *kind {
            OBJECT => found.object = Some(handle),
            DIRECTORY => found.object = found.object.or(Some(handle)),
            PLACE if name == b"." => found.object = found.object.or(Some(handle)),
            PLACE => found.place = Some((handle, name)),
            _ => {}
        }
    }
    found
}

/// A `struct file_handle` and the name behind it.
fn handle(bytes: &[u8]) -> Option<(FileHandle, &[u8])> {
    let (len, bytes) = bytes.split_first_chunk()?;
    let (kind, bytes) = bytes.split_first_chunk()?;
    let (handle, name) = bytes.split_at_checked(u32::from_ne_bytes(*len).try_into().ok()?)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some((FileHandle::new(i32::from_ne_bytes(*kind), handle), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, handle: &[u8], name: &str) -> Vec<u8> {
        let mut body = vec![7; 8];
        body.extend(u32::try_from(handle.len()).unwrap().to_ne_bytes());
        body.extend(1_i32.to_ne_bytes());
        body.extend(handle);
        body.extend(name.as_bytes());
        body.resize((body.len() + 4) / 4 * 4, 0);
        let mut record = vec![kind, 0];
        record.extend(u16::try_from(body.len() + 4).unwrap().to_ne_bytes());
        record.extend(body);
        record
    }

    fn event(mask: MaskFlags, pid: i32, records: &[Vec<u8>]) -> Vec<u8> {
        let records = records.concat();
        let mut event = u32::try_from(HEAD + records.len()).unwrap().to_ne_bytes().to_vec();
        event.extend([3, 0, 24, 0]);
        event.extend(mask.bits().to_ne_bytes());
        event.extend((-1_i32).to_ne_bytes());
        event.extend(pid.to_ne_bytes());
        event.extend(records);
        event
    }

    #[test]
    fn each_kind_of_record_is_told_apart() {
        let (one, other) = (FileHandle::new(1, b"one...."), FileHandle::new(1, b"other..."));
        let bytes = [
            event(
                MaskFlags::FAN_CREATE,
                5,
                &[record(PLACE, b"one....", "a name"), record(OBJECT, b"other...", "")],
            ),
            event(MaskFlags::FAN_Q_OVERFLOW, 0, &[]),
            event(MaskFlags::FAN_ATTRIB, 6, &[record(PLACE, b"one....", ".")]),
            event(
                MaskFlags::FAN_ATTRIB,
                7,
                &[record(4, b"", ""), record(DIRECTORY, b"one....", "")],
            ),
        ]
        .concat();
        let place = Some((one.clone(), &b"a name"[..]));
        let found: Vec<_> = events(&bytes).collect();
        let mask = MaskFlags::FAN_CREATE;
        assert_eq!(found[0], Event { mask, pid: 5, place, object: Some(other) });
        assert_eq!((found[1].mask, &found[1].object), (MaskFlags::FAN_Q_OVERFLOW, &None));
        assert_eq!((&found[2].place, &found[2].object), (&None, &Some(one.clone())));
        assert_eq!((found[3].pid, &found[3].object), (7, &Some(one)));
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn what_is_cut_short_is_left_out() {
        let whole = event(MaskFlags::FAN_MODIFY, 5, &[record(OBJECT, b"handle..", "")]);
        assert_eq!(events(&whole).count(), 1);
        for len in 0..whole.len() {
            assert_eq!(events(&whole[..len]).count(), 0, "{len}");
            let mut lies = whole[..len].to_vec();
            if let Some(first) = lies.first_chunk_mut() {
                *first = u32::try_from(len).unwrap().to_ne_bytes();
            }
            assert!(events(&lies).all(|event| event.object.is_none()), "{len}");
        }
    }
}
