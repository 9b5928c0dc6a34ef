//! Extensions: any records come out as they were put in; unknown ones are skipped by length.

use arbitrary::{Arbitrary, Unstructured};
use std::vec::Vec;

use super::Aligned;
use super::oracle::ORACLE;
use crate::request::{Operation, split};

/// A record, to be laid out by hand.
#[derive(Arbitrary, Debug)]
enum Record<'a> {
    Contexts(Vec<(&'a [u8], &'a [u8])>),
    Groups(Vec<u32>, &'a [u8]),
    Other(u32, &'a [u8]),
}

/// Body of the target `extensions`: raw bytes, and records built from the same bytes.
pub fn extensions(data: &[u8]) {
    walk(&data[..data.len() / 8 * 8], None);
    let Ok(records) = Vec::<Record<'_>>::arbitrary(&mut Unstructured::new(data)) else { return };
    let mut expected = Expected::default();
    let bytes: Vec<u8> = records.iter().flat_map(|it| it.bytes(&mut expected)).collect();
    walk(&bytes, Some(&expected));
}

/// What a message with the extensions `bytes` gives; it must be `expected`, if that is known.
fn walk(bytes: &[u8], expected: Option<&Expected>) {
    let Ok(units) = u16::try_from(bytes.len() / 8) else { return };
    let message = Aligned::new(&mkdir(bytes, units));
    let (header, argument, payload) = split(message.bytes(), true).unwrap();
    let theirs = ORACLE.read(message.bytes(), true);
    let Ok(Operation::MkDir(op)) = Operation::decode(&header, argument, payload) else {
        assert!(theirs.is_none() && expected.is_none(), "refused: {expected:?}");
        return;
    };
    let contexts = op.extensions.security_contexts();
    let found = Expected {
        contexts: contexts.map(|it| (it.name.to_vec(), it.label.to_vec())).collect(),
        groups: op.extensions.groups().collect(),
    };
    assert!(expected.is_none_or(|expected| *expected == found), "{found:?}, not {expected:?}");
    let theirs = theirs.unwrap();
    assert!(theirs.contexts.iter().copied().eq(found.pairs()) && theirs.groups == found.groups);
    assert_eq!(op.extensions.is_empty(), bytes.is_empty());
}

/// A MKDIR of "d" in the root directory.
fn mkdir(extensions: &[u8], units: u16) -> Vec<u8> {
    let mut message = [0_u8; 48].to_vec();
    message.extend(b"d\0");
    message.extend(extensions);
    let len = u32::try_from(message.len()).unwrap();
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..8].copy_from_slice(&9_u32.to_ne_bytes());
    message[36..38].copy_from_slice(&units.to_ne_bytes());
    message
}

#[derive(Debug, Default, PartialEq)]
struct Expected {
    contexts: Vec<(Vec<u8>, Vec<u8>)>,
    groups: Vec<u32>,
}

impl Expected {
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.contexts.iter().map(|(name, label)| (name.as_slice(), label.as_slice()))
    }
}

impl Record<'_> {
    /// The bytes of the record; what they say is added to `expected`.
    fn bytes(&self, expected: &mut Expected) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Contexts(contexts) => {
                let contexts = &contexts[..contexts.len().min(31)];
                let context = |&(name, label): &(&[u8], &[u8])| {
                    let name: Vec<u8> = name.iter().copied().take_while(|&it| it != 0).collect();
                    let len = u32::try_from(label.len()).unwrap().to_ne_bytes();
                    let bytes = padded(&[&len, &[0; 4], name.as_slice(), &[0], label].concat());
                    expected.contexts.push((name, label.to_vec()));
                    bytes
                };
                let body: Vec<u8> = contexts.iter().flat_map(context).collect();
                (u32::try_from(contexts.len()).unwrap(), body)
            }
            Self::Groups(gids, behind) => {
                expected.groups.extend(gids);
                let count = u32::try_from(gids.len()).unwrap();
                let words = core::iter::once(count).chain(gids.iter().copied());
                let words: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
                (32, [words.as_slice(), *behind].concat())
            }
            Self::Other(kind, body) => ((*kind).max(33), body.to_vec()),
        };
        let size = u32::try_from(body.len() + 8).unwrap();
        padded(&[&size.to_ne_bytes()[..], &kind.to_ne_bytes(), &body].concat())
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}
