//! Any requests in any order: the engine answers each once, with what the kernel takes, and nobody
//! panics, whatever they say. The body of the fuzz target `memory`.

use fusewire::proto::abi::{InHeader, OutHeader};
use fusewire::proto::reply::{self, Known, Verdict};
use fusewire::proto::request::split;
use fusewire::proto::{Asked, NodeId, Opcode, Operation, Unique, frame};
use fusewire::sim::{Error, Simulation};

use crate::{Memory, MemoryFs, Options};

/// Instead of an opcode: the caller of the request before does not wait for its answer.
const LEAVE: u8 = 255;
/// Beside the node: others follow before this is served; somebody without rights asks.
const MORE: u8 = 0x80;
const STRANGER: u8 = 0x40;
const STRANGER_ID: u32 = 1000;

/// A request that was sent.
struct Sent {
    unique: Unique,
    message: Vec<u8>,
    /// Whether there must be an answer.
    answered: bool,
}

/// One request of the input: opcode, node and length of the body, one byte each, and the body.
fn request(data: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let (&[opcode, node, len], rest) = data.split_first_chunk()?;
    let (body, rest) = rest.split_at(rest.len().min(len.into()));
    Some((opcode, node, body, rest))
}

fn message(opcode: u8, node: u8, unique: Unique, body: &[u8]) -> Vec<u8> {
    let id = if node & STRANGER == 0 { 0 } else { STRANGER_ID };
    let header = InHeader {
        len: u32::try_from(size_of::<InHeader>() + body.len()).unwrap_or(u32::MAX),
        opcode: opcode.into(),
        unique,
        nodeid: NodeId((node & !MORE & !STRANGER).into()),
        uid: id,
        gid: id,
        ..InHeader::default()
    };
    let mut message = vec![0; size_of::<InHeader>()];
    frame::put_in_header(&mut message, &header);
    message.extend_from_slice(body);
    message
}

/// Serves the requests that `data` holds.
///
/// # Panics
/// If something is wrong with an answer.
pub fn memory(mut data: &[u8]) {
    let options = Options { size: 1 << 20, inodes: 64, ..Options::default() };
    let mut sim = Simulation::new(MemoryFs::new(Memory::new(&options))).expect("a simulation");
    let mut last = Unique(0);
    let mut left = 0;
    let mut sent: Vec<Sent> = Vec::new();
    while let Some((opcode, node, body, rest)) = request(data) {
        data = rest;
        if opcode == LEAVE {
            if let Some(last) = sent.last_mut().filter(|last| last.answered) {
                sim.leave(last.unique);
                last.answered = false;
                left += 1;
            }
            continue;
        }
        if u32::from(opcode) == Opcode::Init as u32 {
            // The session answers it, before there are shards.
            continue;
        }
        last.0 += 2;
        let message = message(opcode, node, last, body);
        sim.send_bytes(&message).expect("it fits into a slot");
        let answered = Opcode::from_raw(opcode.into()).is_none_or(Opcode::is_answered);
        sent.push(Sent { unique: last, message, answered });
        if node & MORE == 0 {
            look(&mut sim, &mut sent);
        }
    }
    look(&mut sim, &mut sent);
    let stats = sim.stats();
    assert_eq!((stats.panics, stats.refused, stats.undelivered), (0, 0, left));
    assert_eq!(stats.requests(), last.0 / 2 - stats.unknown);
}

/// Has what was sent served, and looks at the answers.
fn look(sim: &mut Simulation, sent: &mut Vec<Sent>) {
    sim.run().expect("nothing that waits");
    let setxattr_ext = sim.agreement().forms().setxattr_ext;
    for Sent { unique, message, answered } in sent.drain(..) {
        if answered {
            judge(&message, setxattr_ext, sim.answer(unique).expect("an answer"));
        }
        assert!(matches!(sim.answer(unique), Err(Error::Unanswered)), "one answer at most");
    }
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
