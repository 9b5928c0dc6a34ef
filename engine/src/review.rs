//! Debug builds ask what the kernel will make of an answer before it leaves, so that a filesystem
//! hears of its mistakes by name: the kernel says EIO and no more.
//!
//! The answer goes out unchanged, whatever is found: a debug build differs in what it says, not in
//! what it does. Release builds do not have this file.
//!
//! Never known here: transports. Neighbours: `task` says what is asked, `shard` shows the answer
//! and tells of a refusal; the rules are in [`fusewire_proto::reply::judge`].

use std::cell::Cell;
use std::ops::Range;

use fusewire_proto::abi::OutHeader;
use fusewire_proto::flags::InitFlags;
use fusewire_proto::negotiate::Agreement;
use fusewire_proto::reply::{Asked, Known, Verdict, judge};
use fusewire_proto::{DecodeError, Errno, Expected, Operation, Unique};

use crate::sys::arena::Held;

/// What the request in a slot asks; nothing where it could not be decoded.
#[derive(Debug, Default)]
pub(crate) struct Review(Cell<Option<Asked>>);

impl Review {
    /// Another request is in the slot.
    pub(crate) fn reset(&self) {
        self.0.set(None);
    }

    /// It was decoded.
    pub(crate) fn asks(&self, operation: &Operation<'_>, agreement: &Agreement) {
        self.0.set(Some(Asked::new(operation).with_page_size(agreement.page_size)));
    }

    /// Why the kernel will refuse the answer that lies in the slot, if it will.
    pub(crate) fn refusal(
        &self,
        agreement: &Agreement,
        unique: Unique,
        held: &mut Held,
        result: &Result<(Range<usize>, usize), Errno>,
    ) -> Option<DecodeError> {
        let asked = self.0.get()?;
        let (filled, len) = result.clone().unwrap_or_default();
        if result.is_ok() && !held.parts().is_empty() {
            return wrong_len(&asked, len);
        }
        let body = held.payload_mut().get(filled).unwrap_or_default();
        let header = OutHeader::new(unique, result.as_ref().map(|_| ()).map_err(|it| *it), len);
        let passthrough = agreement.flags.contains(InitFlags::PASSTHROUGH);
        let known = Known { passthrough, ..Known::default() };
        match judge(&asked, &known, &header, body) {
            Verdict::Refused(refusal) => Some(refusal.cause),
            Verdict::Accepted { .. } => None,
        }
    }
}

/// What lies in several pieces is bulk data, of which nothing but the length matters.
fn wrong_len(asked: &Asked, len: usize) -> Option<DecodeError> {
    let lens = asked.body_lens();
    let opcode = asked.opcode().map_or(0, fusewire_proto::Opcode::raw);
    let expected = Expected::AtMost { expected: *lens.end() as u64, found: len as u64 };
    (!lens.contains(&len)).then_some(DecodeError { opcode, field: "body", expected })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fusewire_proto::flags::{FOpenFlags, OpenFlags, OpenInFlags, ReadFlags};
    use fusewire_proto::reply::{Attr, Entry, Opened};
    use fusewire_proto::{Fh, Limits, Mode, Name, Offer, Reply, Wishes, negotiate, op};

    use super::*;
    use crate::sys::arena::{Arena, Part, Shared};

    /// What is said of an answer that lies in a slot; `shared` bytes of it lie elsewhere.
    fn said(op: &Operation<'_>, answer: Result<Reply<'_>, Errno>, shared: usize) -> Option<String> {
        let flags = InitFlags::INIT_EXT;
        let offer = Offer { major: 7, minor: 45, max_readahead: 0, flags };
        let limits = Limits { page_size: 4096, max_pages_limit: 256 };
        let agreement = negotiate(&offer, &Wishes::default(), &limits).unwrap();
        let mut held = Arena::new(1, 8192, 4096).unwrap().hold(0);
        let review = Review::default();
        review.asks(op, &agreement);
        let result = answer.map(|reply| {
            let len = reply.encode(held.payload_mut()).unwrap();
            (0..len, len + shared)
        });
        if shared > 0 {
            let (owner, range) = (Arc::new(vec![0; shared]), 0..shared);
            held.parts().push(Part::Shared(Shared { owner, range }));
        }
        let refusal = review.refusal(&agreement, Unique(2), &mut held, &result);
        review.reset();
        assert_eq!(review.refusal(&agreement, Unique(2), &mut held, &result), None);
        refusal.map(|it| it.to_string())
    }

    #[test]
    fn what_the_kernel_takes_passes() {
        let lookup = Operation::Lookup(op::Lookup { name: Name::new(b"x").unwrap() });
        let attr = Attr { mode: Mode(0o100_644), ..Attr::default() };
        let entry = Entry { nodeid: 2.into(), attr, ..Entry::default() };
        assert_eq!(said(&lookup, Ok(Reply::Entry(entry)), 0), None);
        assert_eq!(said(&lookup, Ok(Reply::Entry(Entry::default())), 0), None);
        assert_eq!(said(&lookup, Err(Errno::ENOENT), 0), None);
    }

    #[test]
    fn what_the_kernel_refuses_is_named() {
        let lookup = Operation::Lookup(op::Lookup { name: Name::new(b"x").unwrap() });
        let entry = Entry { nodeid: 2.into(), ..Entry::default() };
        let text = said(&lookup, Ok(Reply::Entry(entry)), 0).unwrap();
        assert_eq!(text, "LOOKUP: mode: expected one of the seven file types, found 0o0");
        let text = said(&lookup, Ok(Reply::Empty), 0).unwrap();
        assert_eq!(text, "LOOKUP: body: expected exactly 128 bytes, found 0");
        // PASSTHROUGH was not agreed.
        let open = Operation::Open(op::Open {
            flags: OpenFlags::empty(),
            open_flags: OpenInFlags::empty(),
        });
        let opened = Opened { flags: FOpenFlags::PASSTHROUGH, backing_id: 1, ..Opened::default() };
        let text = said(&open, Ok(Reply::Opened(opened)), 0).unwrap();
        assert_eq!(text, "OPEN: open_flags: expected no flags beyond 0x0, found 0x80");
    }

    #[test]
    fn shared_bytes_count() {
        let (fh, read_flags, lock_owner) = (Fh(1), ReadFlags::empty(), None);
        let read =
            op::Read { fh, offset: 0, size: 9, read_flags, lock_owner, flags: OpenFlags::empty() };
        let read = Operation::Read(read);
        assert_eq!(said(&read, Ok(Reply::Bytes(b"five.")), 4), None);
        let text = said(&read, Ok(Reply::Bytes(b"five.")), 5).unwrap();
        assert_eq!(text, "READ: body: expected at most 9, found 10");
    }
}
