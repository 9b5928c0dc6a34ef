//! Any requests in any order: the engine answers each once, with what the kernel takes, and nobody
//! panics, whatever they say. The body of the fuzz target `memory`.

use fusewire::proto::abi::{InHeader, OutHeader};
use fusewire::proto::reply::{self, Known, Verdict};
use fusewire::proto::request::split;
use fusewire::proto::{Asked, NodeId, Opcode, Operation, Unique, frame};
use fusewire::sim::{Error, Simulation};

use crate::{Memory, MemoryFs, Options};

/// One request of the input: opcode, node and length of the body, one byte each, and the body.
fn request(data: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let (&[opcode, node, len], rest) = data.split_first_chunk()?;
    let (body, rest) = rest.split_at(rest.len().min(len.into()));
    Some((opcode, node, body, rest))
}

/// Serves the requests that `data` holds.
///
/// # Panics
/// If something is wrong with an answer.
pub fn memory(mut data: &[u8]) {
    let options = Options { size: 1 << 20, inodes: 64, ..Options::default() };
    let mut sim = Simulation::new(MemoryFs::new(Memory::new(&options))).expect("a simulation");
    let setxattr_ext = sim.agreement().forms().setxattr_ext;
    let mut last = Unique(0);
    while let Some((opcode, node, body, rest)) = request(data) {
        data = rest;
        if u32::from(opcode) == Opcode::Init as u32 {
            // The session answers it, before there are shards.
            continue;
        }
        last.0 += 2;
        let len = size_of::<InHeader>() + body.len();
        let header = InHeader {
            len: u32::try_from(len).unwrap_or(u32::MAX),
            opcode: opcode.into(),
            unique: last,
            nodeid: NodeId(node.into()),
            ..InHeader::default()
        };
        let mut message = vec![0; size_of::<InHeader>()];
        frame::put_in_header(&mut message, &header);
        message.extend_from_slice(body);
        sim.send_bytes(&message).expect("it fits into a slot");
        sim.run().expect("nothing that waits");
        let answered = Opcode::from_raw(opcode.into()).is_none_or(Opcode::is_answered);
        match sim.answer(last) {
            Ok(answer) => {
                assert!(answered, "an answer to what has none");
                judge(&message, setxattr_ext, answer);
            }
            Err(Error::Unanswered) => assert!(!answered, "no answer: {header:?}"),
            Err(error) => panic!("{error}"),
        }
    }
    let stats = sim.stats();
    assert_eq!((stats.panics, stats.refused, stats.undelivered), (0, 0, 0));
    assert_eq!(stats.requests(), last.0 / 2 - stats.unknown);
}

/// Whether the kernel takes this answer.
fn judge(message: &[u8], setxattr_ext: bool, answer: &[u8]) {
    let header = frame::out_header(answer).expect("a header");
    let parts = split(message, setxattr_ext);
    let asked = parts.ok().and_then(|(header, argument, input)| {
        Some(Asked::new(&Operation::decode(&header, argument, input).ok()?))
    });
    let Some(asked) = asked else {
        assert_ne!(header.error, 0, "a success for what is no request");
        return;
    };
    let body = &answer[size_of::<OutHeader>()..];
    if let Verdict::Refused(refusal) = reply::judge(&asked, &Known::default(), &header, body) {
        panic!("{}: {asked:?}, {header:?}", refusal.cause);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn what_fuzzing_has_found_and_kept_is_served() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/memory");
        let mut files = 0;
        for file in fs::read_dir(corpus).unwrap() {
            super::memory(&fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files > 50, "{files} files");
    }

    #[test]
    fn the_target_is_wrapped() {
        assert!(
            include_str!("../../fuzz/fuzz_targets/memory.rs").contains("fuzzing::memory(data)")
        );
    }
}
