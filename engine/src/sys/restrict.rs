//! What a ring may do: its own operations, and nothing else.
//!
//! Never known here: what they are for. Neighbour: `ring` pushes them.

use std::io;

use io_uring::register::Restriction;
use io_uring::{Submitter, opcode, squeue};

/// Every operation that a ring of ours is given.
const OPERATIONS: [u8; 9] = [
    opcode::AsyncCancel::CODE,
    opcode::Fallocate::CODE,
    opcode::Fsync::CODE,
    opcode::PollAdd::CODE,
    opcode::Read::CODE,
    opcode::Timeout::CODE,
    opcode::UringCmd80::CODE,
    opcode::Write::CODE,
    opcode::Writev::CODE,
];

/// Has the kernel refuse anything else for good, as no seccomp filter sees what goes by a ring, and
/// starts the ring. Kernel: io_uring/register.c, `io_register_restrictions`, since 5.10.
pub(super) fn restrict(ring: &Submitter<'_>) -> io::Result<()> {
    const SYNC_CANCEL: u8 = 24; // IORING_REGISTER_SYNC_CANCEL
    let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
    let mut allowed: Vec<_> = OPERATIONS.into_iter().map(Restriction::sqe_op).collect();
    allowed.push(Restriction::sqe_flags_allowed(flags.bits()));
    allowed.push(Restriction::register_op(SYNC_CANCEL));
    ring.register_restrictions(&mut allowed)?;
    ring.register_enable_rings()
}
