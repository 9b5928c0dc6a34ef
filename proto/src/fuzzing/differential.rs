//! Requests: what is decoded is what stands at the offsets of the C header, no more and no less.

use std::vec::Vec;

use super::fields::{extensions, fields, pairs, strings, tail};
use super::oracle::{ORACLE, number};
use super::{Aligned, with_length};
use crate::request::{Operation, split};

/// Body of the target `differential`: decode against the description of the header.
pub fn differential(data: &[u8]) {
    compare(data, true);
    compare(&with_length(data), true);
    compare(&with_length(data), false);
}

/// Reads a message in both ways; says whether it was accepted.
pub(super) fn compare(message: &[u8], ext: bool) -> bool {
    let message = Aligned::new(message);
    let ours = split(message.bytes(), ext)
        .and_then(|(header, argument, payload)| Operation::decode(&header, argument, payload));
    let theirs = ORACLE.read(message.bytes(), ext);
    let (Ok(op), Some(theirs)) = (ours, theirs.as_ref()) else {
        assert_eq!(ours.is_ok(), theirs.is_some(), "only one accepts: {ours:?}");
        return false;
    };
    for (what, value) in fields(&op).0 {
        assert_eq!(value, theirs.value(what), "{what} of {op:?}");
    }
    assert_eq!(strings(&op), theirs.strings, "strings of {op:?}");
    let pairs = pairs(&op).into_iter().flat_map(|(a, b)| [a.to_ne_bytes(), b.to_ne_bytes()]);
    let bytes: Vec<u8> = pairs.flatten().collect();
    assert_eq!([tail(&op), &bytes].concat(), theirs.tail, "tail of {op:?}");
    let found = extensions(&op).unwrap_or_default();
    let contexts = found.security_contexts().map(|it| (it.name.as_bytes(), it.label));
    assert!(contexts.eq(theirs.contexts.iter().copied()), "contexts of {op:?}");
    assert_eq!(found.groups().collect::<Vec<_>>(), theirs.groups);
    let opcode = number(message.bytes(), 4, 4);
    assert!(op.opcode().is_none_or(|it| u64::from(it.raw()) == opcode));
    true
}
