//! Both directions: what was built field by field is decoded, and encoded to the same bytes.

use arbitrary::{Arbitrary, Unstructured};
use std::vec::Vec;

use super::differential::compare;
use super::oracle::ORACLE;
use super::reply_decode::asked;
use super::{Aligned, again, notifications, replies};
use crate::frame;
use crate::notify::Notification;
use crate::reply::Reply;

/// A request of a known opcode, to be laid out by the description of the header.
#[derive(Arbitrary, Debug)]
struct Request<'a> {
    opcode: u8,
    argument: &'a [u8],
    names: [&'a [u8]; 2],
    tail: &'a [u8],
    groups: Vec<u32>,
    short: bool,
}

/// Body of the target `round_trip`.
pub fn round_trip(data: &[u8]) {
    let mut input = Unstructured::new(data);
    match u8::arbitrary(&mut input).unwrap_or_default() % 4 {
        0 => {
            let Ok(material) = replies::Material::arbitrary(&mut input) else { return };
            let iovecs = material.iovecs();
            let (reply, body) = material.encoded(&iovecs);
            let body = Aligned::new(&body);
            let asked = asked(&replies::question(&reply)).unwrap();
            assert_eq!(Reply::decode(&asked, body.bytes()), Ok(reply));
            return;
        }
        1 => {
            let Ok(material) = notifications::Material::arbitrary(&mut input) else { return };
            let nodes = material.nodes();
            let (notification, message) = material.encoded(&nodes);
            let body = Aligned::new(&message[16..]);
            let header = frame::out_header(&message).unwrap();
            assert_eq!(Notification::decode(&header, body.bytes()), Ok(notification));
            return;
        }
        _ => {}
    }
    let Ok(request) = Request::arbitrary(&mut input) else { return };
    let message = request.message();
    assert!(compare(&message, !request.short), "refused: {request:?}");
    again::request(&message, !request.short);
}

impl Request<'_> {
    /// The bytes of the request, which nobody may refuse.
    fn message(&self) -> Vec<u8> {
        let names = self.names.map(|raw| {
            let fits = |byte: &u8| !matches!(byte, 0 | b'/');
            let name: Vec<u8> = raw.iter().copied().filter(fits).collect();
            if name.is_empty() { b"x".to_vec() } else { name }
        });
        let tail = &self.tail[..self.tail.len() / 16 * 16];
        let ends = [&names[0][..], &names[1][..]];
        let mut message =
            ORACLE.build(self.opcode.into(), self.argument, ends, tail, &self.extensions());
        if self.short && message[4..8] == 21_u32.to_ne_bytes() {
            message.drain(48..56);
            let len = u32::try_from(message.len()).unwrap();
            message[..4].copy_from_slice(&len.to_ne_bytes());
        }
        message
    }

    /// One record of groups, if there are any.
    fn extensions(&self) -> Vec<u8> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let count = u32::try_from(self.groups.len()).unwrap();
        let words = [12 + 4 * count, 32, count];
        let words = words.into_iter().chain(self.groups.iter().copied());
        let mut bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}
