//! How the kernel schedules a thread: as others, or behind them.
//!
//! Never known here: why. Neighbours: `lead` changes it.

use std::io::{Error, ErrorKind, Result};

use libc::{SCHED_IDLE, SCHED_OTHER, pid_t};

/// The calling thread.
pub(crate) const THIS: pid_t = 0;

/// Has a thread of this process run when nobody else wants its CPU (`behind`), or as others do. To
/// come back takes CAP_SYS_NICE or RLIMIT_NICE (`kernel/sched/syscalls.c,
/// user_check_sched_setscheduler`).
///
/// # Errors
/// `Unsupported` where somebody has chosen something else for it: that holds.
pub(crate) fn put_behind(thread: pid_t, behind: bool) -> Result<()> {
    let (from, to) = if behind { (SCHED_OTHER, SCHED_IDLE) } else { (SCHED_IDLE, SCHED_OTHER) };
    if scheduler(thread)? != from {
        return Err(ErrorKind::Unsupported.into());
    }
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads one `sched_param` from a live local variable.
    if unsafe { libc::sched_setscheduler(thread, to, &raw const param) } < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

fn scheduler(thread: pid_t) -> Result<i32> {
    // SAFETY: a number goes in, a number comes out.
    let scheduler = unsafe { libc::sched_getscheduler(thread) };
    if scheduler < 0 { Err(Error::last_os_error()) } else { Ok(scheduler) }
}

/// Whether the calling thread is behind others.
#[cfg(test)]
pub(crate) fn is_behind() -> bool {
    scheduler(THIS).unwrap() == SCHED_IDLE
}
