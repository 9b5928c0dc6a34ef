//! Requests through the engine without a kernel (`fusewire::sim`), for counting what the engine
//! adds to the work of a filesystem: turn, decode, dispatch, executor, counters, answer.

use std::sync::Arc;

use fusewire::proto::flags::{GetAttrFlags, InitFlags, OpenFlags, ReadFlags, WriteFlags};
use fusewire::proto::op::{GetAttr, Lookup, Read, Write};
use fusewire::proto::{Attr, Attributes, Entry, Errno, Fh, Mode, Name, NodeId, Operation, Result};
use fusewire::sim::{Caller, Simulation};
use fusewire::{Context, Filesystem, ReadBuf};

use crate::codec::NAME;

const MIB: usize = 1 << 20;

/// Answers at once, with nothing of its own.
#[derive(Debug)]
struct Null(Arc<Vec<u8>>);

fn attr() -> Attr {
    Attr { ino: 2, mode: Mode(0o100_644), nlink: 1, size: MIB as u64, ..Attr::default() }
}

impl Filesystem for Null {
    const WISHES: InitFlags = InitFlags::empty();

    async fn lookup(&self, _: &Context<'_>, _: Lookup<'_>) -> Result<Entry> {
        Ok(Entry { nodeid: NodeId(2), attr: attr(), ..Entry::default() })
    }

    async fn getattr(&self, _: &Context<'_>, _: GetAttr) -> Result<Attributes> {
        Ok(Attributes { attr: attr(), ..Attributes::default() })
    }

    async fn read(&self, _: &Context<'_>, op: Read, out: &mut ReadBuf<'_>) -> Result<()> {
        out.share(Arc::clone(&self.0) as _, 0..op.size as usize);
        Ok(())
    }

    async fn write(&self, _: &Context<'_>, op: Write<'_>) -> Result<u32> {
        u32::try_from(op.data.len()).map_err(|_| Errno::EINVAL)
    }
}

/// An engine that has its first requests before it: what the simulated kernel does for others
/// would be counted.
#[derive(Debug)]
pub struct Served(Simulation);

impl Served {
    fn new(op: &Operation<'_>, requests: usize) -> Self {
        let bytes = Arc::new(vec![7; MIB]);
        let mut sim = Simulation::new(Null(bytes)).expect("memory and an eventfd");
        for _ in 0..requests {
            sim.send(Caller::default(), NodeId::ROOT, op).expect("it fits into a slot");
        }
        Self(sim)
    }

    /// [`measured::serve`] of this.
    pub fn serve(mut self) -> Self {
        measured::serve(&mut self.0);
        self
    }
}

/// LOOKUP of a name of `len` bytes, 255 at most.
#[must_use]
pub fn lookup(len: usize) -> Served {
    let name = Name::new(&NAME[..len]).expect("a name");
    Served::new(&Operation::Lookup(Lookup { name }), 1)
}

/// So many GETATTRs of a handle.
#[must_use]
pub fn getattr(requests: usize) -> Served {
    let getattr_flags = GetAttrFlags::FH;
    Served::new(&Operation::GetAttr(GetAttr { fh: Some(Fh(7)), getattr_flags }), requests)
}

/// READ of so many bytes, answered from memory that is shared with the filesystem.
#[must_use]
pub fn read(size: u32) -> Served {
    let (read_flags, flags) = (ReadFlags::empty(), OpenFlags::empty());
    let read = Read { fh: Fh(7), offset: 0, size, read_flags, lock_owner: None, flags };
    Served::new(&Operation::Read(read), 1)
}

/// WRITE of so many bytes, 1 MiB at most.
#[must_use]
pub fn write(size: u32) -> Served {
    let data = vec![7; size as usize];
    let (write_flags, flags) = (WriteFlags::empty(), OpenFlags::empty());
    let write = Write { fh: Fh(7), offset: 0, data: &data, write_flags, lock_owner: None, flags };
    Served::new(&Operation::Write(write), 1)
}

/// What is counted, from entry to exit, but for what the simulated kernel does.
pub mod measured {
    use fusewire::sim::Simulation;

    /// Serves what was sent, from its delivery until its slot is free again.
    #[inline(never)]
    pub fn serve(sim: &mut Simulation) {
        sim.run().expect("nothing but memory");
    }
}

#[cfg(test)]
mod tests {
    use fusewire::proto::Unique;
    use fusewire::proto::frame;

    use super::*;

    /// What is counted is what was asked for, and succeeds.
    #[test]
    fn every_request_is_served() {
        let size = |body: usize| u32::try_from(16 + body).unwrap();
        let cases = [
            (lookup(1), 1, size(128)),
            (getattr(64), 64, size(104)),
            (read(4096), 1, size(4096)),
            (read(1 << 20), 1, size(1 << 20)),
            (write(1 << 20), 1, size(8)),
        ];
        for (served, count, len) in cases {
            let mut sim = served.serve().0;
            for place in 1..=count {
                let header = frame::out_header(sim.answer(Unique(2 * place)).unwrap()).unwrap();
                assert_eq!((header.error, header.len), (0, len));
            }
            assert_eq!(sim.stats().requests(), count);
        }
    }
}
