//! Requests: any bytes give an operation that borrows from them, or an error that says why.
//!
//! An operation encodes to the bytes that it was decoded from, in one piece and for the ring.

use super::fields::{extensions, strings, tail};
use super::{Aligned, again, with_length};
use crate::request::{Operation, split};

/// Body of the target `request_decode`.
pub fn request_decode(data: &[u8]) {
    let longer = [with_length(data).as_slice(), &[0]].concat();
    assert!(split(&longer, true).is_err(), "bytes behind the length");
    for ext in [true, false] {
        let message = Aligned::new(&with_length(data));
        let Ok((header, argument, payload)) = split(message.bytes(), ext) else { continue };
        assert_eq!(40 + argument.len() + payload.len(), message.len, "split loses nothing");
        match Operation::decode(&header, argument, payload) {
            Ok(op) => {
                assert_eq!(op.opcode().map_or(header.opcode, |it| it.raw()), header.opcode);
                let within = message.bytes().as_ptr_range();
                let contexts = extensions(&op).into_iter().flat_map(|it| it.security_contexts());
                let labels = contexts.flat_map(|it| [it.name, it.label]);
                for slice in strings(&op).into_iter().chain([tail(&op)]).chain(labels) {
                    let inside = slice.as_ptr_range();
                    let empty = slice.is_empty();
                    assert!(empty || within.start <= inside.start && inside.end <= within.end);
                }
                assert!(std::format!("{op:?}").len() < 1000 + 30 * data.len());
                again::request(message.bytes(), ext);
            }
            Err(error) => assert!(std::format!("{error}").contains(": "), "{error}"),
        }
    }
}
