//! The lane of io_uring: entries on the queue of every CPU, and beside them the device.
//!
//! One frame of each shape is kept raw: the header area of 288 bytes and the payload, once as the
//! kernel left them and once as they were committed. What neither side wrote is [`FILL`].
//! Neighbours: `serve` carries requests out, `sys` has the ring.

use std::collections::HashMap;

use fusewire_proto::abi::OutHeader;
use fusewire_proto::{Errno, Operation, Unique, frame, request};

use crate::serve::{FRAME_MAX, Frame, Next, Server};
use crate::shape;
use crate::sys::{HEADER_LEN, Memory, Ring, Use};
use crate::tree::Answer;

/// Requests of one queue that may be open at a time; two of them wait for an INTERRUPT.
const DEPTH: usize = 4;
/// What memory is filled with before the kernel gets it.
const FILL: u8 = 0xee;
/// Where `op_in` and the part of the ring begin.
const OP_IN: usize = 128;
const ENTRY: usize = 256;

/// Serves until the filesystem is unmounted or the connection aborted.
pub(crate) fn serve(server: &Server) {
    let agreement = server.agreement();
    let mut ring = Ring::new(64).expect("a ring");
    for queue in 0..possible_cpus() {
        for _ in 0..DEPTH {
            let memory = Memory::new(Use::Entry(queue), agreement.payload_max(), FILL);
            ring.register(&server.device, memory).expect("an entry");
        }
    }
    let memory = Memory::new(Use::Device, agreement.read_buffer_min().max(2 << 20), 0);
    ring.read(&server.device, memory).expect("a read");
    let mut lane = RingLane { server, ring, waiting: HashMap::new() };
    loop {
        for (result, memory) in lane.ring.wait().expect("the ring") {
            match memory.purpose() {
                Use::Entry(_) if result == 0 => lane.delivered(memory),
                // The connection ends, and the device tells why.
                Use::Entry(_) => {}
                Use::Device => {
                    let Ok(len) = usize::try_from(result) else {
                        println!("the end: {}", std::io::Error::from_raw_os_error(-result));
                        return;
                    };
                    lane.read(memory, len);
                }
            }
        }
    }
}

struct RingLane<'a> {
    server: &'a Server,
    ring: Ring,
    /// What will be answered when an INTERRUPT comes, with its name.
    waiting: HashMap<Unique, (Box<Memory>, String)>,
}

impl RingLane<'_> {
    fn delivered(&mut self, memory: Box<Memory>) {
        let area = frame::ring_header(&memory.header).expect("it has its length");
        let header = area.in_header();
        let len = usize::try_from(area.ring_ent_in_out.payload_sz).expect("in memory");
        let (op_in, payload) = (&memory.header[OP_IN..ENTRY], &memory.payload()[..len]);
        let setxattr_ext = self.server.setxattr_ext();
        let (argument, payload) =
            request::split_ring(&header, op_in, payload, setxattr_ext).expect("room for a struct");
        let op = match Operation::decode(&header, argument, payload) {
            Ok(op) => op,
            Err(error) => panic!("decode: {error}: {:02x?} {payload:02x?}", memory.header),
        };
        let name = shape::name(&header, &op, argument);
        let answer = match op.opcode() {
            // Nobody waits for it, but the entry is to be had back.
            Some(opcode) if !opcode.is_answered() => Answer::Body(Vec::new()),
            _ => self.server.tree().answer(header.nodeid, &op),
        };
        shape::pause(&op);
        match answer {
            Answer::Body(body) => self.commit(memory, &name, Ok(&body)),
            Answer::Error(errno) => self.commit(memory, &name, Err(errno)),
            Answer::Later => {
                self.waiting.insert(header.unique, (memory, name));
            }
        }
    }

    fn commit(&mut self, mut memory: Box<Memory>, name: &str, answer: Result<&[u8], Errno>) {
        let area = frame::ring_header(&memory.header).expect("it has its length");
        let in_len = usize::try_from(area.ring_ent_in_out.payload_sz).expect("in memory");
        let request = raw(&memory, in_len);
        let body = answer.unwrap_or_default();
        memory.header.fill(FILL);
        let reply = OutHeader::new(area.in_header().unique, answer.map(drop), body.len());
        let commit_id = area.ring_ent_in_out.commit_id;
        frame::put_out_header(&mut memory.header, &reply);
        frame::put_ring_entry(&mut memory.header[ENTRY..], commit_id, body.len());
        memory.payload_mut()[..body.len()].copy_from_slice(body);
        let reply = raw(&memory, body.len());
        self.ring.commit(&self.server.device, commit_id, memory).expect("a commit");
        if request.len().max(reply.len()) <= FRAME_MAX {
            self.server.keep(name, answer.is_err(), Frame { request, reply });
        }
    }

    fn read(&mut self, memory: Box<Memory>, len: usize) {
        if let Next::Interrupted(unique) = self.server.message(&memory.payload()[..len])
            && let Some((memory, name)) = self.waiting.remove(&unique)
        {
            self.commit(memory, &name, Err(Errno::EINTR));
        }
        self.ring.read(&self.server.device, memory).expect("a read");
    }
}

/// Header area and payload in one piece.
fn raw(memory: &Memory, payload_len: usize) -> Vec<u8> {
    [&memory.header[..HEADER_LEN], &memory.payload()[..payload_len]].concat()
}

/// CPUs that there may ever be: the kernel wants an entry on the queue of each
/// (fs/fuse/dev_uring.c, `is_ring_ready`).
fn possible_cpus() -> u16 {
    let range = std::fs::read_to_string("/sys/devices/system/cpu/possible").expect("sysfs");
    let last = range.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<u16>().ok());
    last.expect("a range such as 0-7") + 1
}
