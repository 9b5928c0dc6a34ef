//! An io_uring and the memory that it fills: all that is `unsafe` in this tool.
//!
//! Memory is held or lent, never both: lending takes the [`Memory`], and its completion gives it
//! back. What is lent when the ring goes is never freed.
//!
//! Kernel: fs/fuse/dev_uring.c, `fuse_uring_cmd`.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use fusewire_proto::abi::{UringCmd, UringCmdReq, UringReqHeader};
use io_uring::squeue::Entry128;
use io_uring::{IoUring, cqueue, opcode, types};
use zerocopy::IntoBytes;

/// Length of the header area of an entry, bytes.
pub(crate) const HEADER_LEN: usize = size_of::<UringReqHeader>();

/// What a piece of memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A message of `/dev/fuse`, in the payload.
    Device,
    /// An entry of this queue.
    Entry(u16),
}

/// Header area and payload of an entry; of a message of the device the payload alone.
pub(crate) struct Memory {
    pub(crate) header: [u8; HEADER_LEN],
    payload: Box<[u8]>,
    purpose: Use,
    /// `struct iovec` of both.
    segments: [usize; 4],
}

impl Memory {
    /// Filled with a byte that shows what was not written.
    pub(crate) fn new(purpose: Use, payload_len: usize, fill: u8) -> Box<Self> {
        let payload = vec![fill; payload_len].into();
        Box::new(Self { header: [fill; HEADER_LEN], payload, purpose, segments: [0; 4] })
    }

    pub(crate) fn purpose(&self) -> Use {
        self.purpose
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.payload
    }
}

/// A ring and what is lent to it.
pub(crate) struct Ring {
    uring: IoUring<Entry128, cqueue::Entry>,
    lent: HashMap<u64, *mut Memory>,
}

impl Ring {
    /// With room for `entries` operations in flight.
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        Ok(Self { uring: IoUring::builder().build(entries)?, lent: HashMap::new() })
    }

    /// Reads a message of the device into the payload.
    pub(crate) fn read(&mut self, device: &File, mut memory: Box<Memory>) -> io::Result<()> {
        assert_eq!(memory.purpose, Use::Device);
        let len = u32::try_from(memory.payload.len()).unwrap_or(u32::MAX);
        let at = memory.payload.as_mut_ptr();
        let read = opcode::Read::new(types::Fd(device.as_raw_fd()), at, len).build();
        self.lend(Entry128::from(read), memory)
    }

    /// Lends an entry to its queue for the first time.
    pub(crate) fn register(&mut self, device: &File, mut memory: Box<Memory>) -> io::Result<()> {
        let (header, payload) = (memory.header.as_mut_ptr(), memory.payload.as_mut_ptr());
        memory.segments = [header.addr(), HEADER_LEN, payload.addr(), memory.payload.len()];
        let list = memory.segments.as_ptr().addr() as u64;
        let command = command(device, UringCmd::Register, &memory, 0).addr(Some(list));
        self.lend(with_len(command.build(), 2), memory)
    }

    /// Answers what an entry brought, and lends it again.
    pub(crate) fn commit(
        &mut self,
        device: &File,
        commit_id: u64,
        memory: Box<Memory>,
    ) -> io::Result<()> {
        assert_ne!(memory.segments, [0; 4], "it was registered");
        let command = command(device, UringCmd::CommitAndFetch, &memory, commit_id);
        self.lend(command.build(), memory)
    }

    fn lend(&mut self, entry: Entry128, memory: Box<Memory>) -> io::Result<()> {
        let memory = Box::into_raw(memory);
        let key = memory.addr() as u64;
        self.lent.insert(key, memory);
        let entry = entry.user_data(key);
        // SAFETY: all that `entry` points to is in `memory`, which stays in `lent`, untouched,
        // until this operation is complete, and is never freed if that is not seen.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.uring.submit()?;
        }
        Ok(())
    }

    /// Submits what was lent, waits, and gives back what is complete, with its result.
    pub(crate) fn wait(&mut self) -> io::Result<Vec<(i32, Box<Memory>)>> {
        match self.uring.submit_and_wait(1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => drop(other?),
        }
        let mut complete = Vec::new();
        for done in self.uring.completion() {
            let memory = self.lent.remove(&done.user_data()).expect("only what was lent is done");
            // SAFETY: `Box::into_raw` gave the pointer; `lent` had it once, and its only use by
            // the kernel is complete.
            complete.push((done.result(), unsafe { Box::from_raw(memory) }));
        }
        Ok(complete)
    }
}

fn command(device: &File, what: UringCmd, memory: &Memory, id: u64) -> opcode::UringCmd80 {
    let Use::Entry(qid) = memory.purpose else { panic!("only entries have queues") };
    let request = UringCmdReq { commit_id: id, qid, ..UringCmdReq::default() };
    let mut area = [0; 80];
    area[..size_of::<UringCmdReq>()].copy_from_slice(request.as_bytes());
    opcode::UringCmd80::new(types::Fd(device.as_raw_fd()), what.raw()).cmd(area)
}

/// Sets `sqe.len`, which the builder of commands lacks: the number of segments of REGISTER.
fn with_len(mut entry: Entry128, count: u32) -> Entry128 {
    const LEN_AT: usize = 24;
    const _: () = assert!(size_of::<Entry128>() == 128);
    let place = (&raw mut entry).cast::<u8>().wrapping_add(LEN_AT).cast::<u32>();
    // SAFETY: `Entry128` is `repr(C)` and begins with `struct io_uring_sqe`, whose `len` is the
    // aligned u32 at byte 24 (include/uapi/linux/io_uring.h); `entry` is a live local.
    unsafe { place.write(count) };
    entry
}
