//! The system calls that a thread in the jail may make.
//!
//! Any other answers ENOSYS, as on a kernel that lacks it: libraries know what to do then. What is
//! submitted on an io_uring is not a call, and no filter sees it: the engine restricts its rings.
//!
//! Never known here: who is locked in. Neighbours: `jail` uses the list.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::sys::FlagsCommand;

/// Of the threads, their memory and their end, as the runtime and the C library make them.
const RUNTIME: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rseq,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_settime,
];

/// Of the engine: rings or what stands in for them, letters to other shards, on which CPU a shard
/// runs, the log.
const ENGINE: &[c_long] = &[
    libc::SYS_close,
    libc::SYS_io_uring_enter,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Of acting in the name of whoever asks.
const CALLER: &[c_long] = &[
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgroups,
    libc::SYS_umask,
];

/// Of the filesystem: on descriptors, or single names below them.
const FILES: &[c_long] = &[
    libc::SYS_copy_file_range,
    libc::SYS_fallocate,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_getxattr,
    libc::SYS_linkat,
    libc::SYS_listxattr,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev2,
    libc::SYS_readlinkat,
    libc::SYS_removexattr,
    libc::SYS_renameat2,
    libc::SYS_setxattr,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// FUSE_DEV_IOC_BACKING_OPEN and _CLOSE. Kernel: include/uapi/linux/fuse.h, since 6.9.
const BACKING_COMMANDS: [u32; 2] = [0x4010_e501, 0x4004_e502];
/// IORING_REGISTER_SYNC_CANCEL. Kernel: include/uapi/linux/io_uring.h, since 6.0.
const SYNC_CANCEL: u64 = 24;
const FCNTL_COMMANDS: [i32; 6] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_GETFL,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

/// The filter for this process.
pub(crate) fn allowed() -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::new();
    for number in [RUNTIME, ENGINE, CALLER, FILES].concat() {
        rules.insert(number, Vec::new());
    }
    let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into());
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(number, vec![argument(2, executable.clone(), 0)?]);
    }
    // Threads, which are locked in as well, as the engine's for notifications; no processes. The
    // flags of clone3 lie where no filter sees them, and the C library does without it.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![argument(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    let commands = FlagsCommand::numbers().chain(BACKING_COMMANDS).map(u64::from);
    rules.insert(libc::SYS_ioctl, one_of(1, commands)?);
    let commands = FCNTL_COMMANDS.into_iter().map(|command| command.unsigned_abs().into());
    rules.insert(libc::SYS_fcntl, one_of(1, commands)?);
    // The engine puts a shard behind others; no other thread, and nowhere else.
    rules.insert(libc::SYS_sched_getscheduler, one_of(0, [0])?);
    let behind = libc::SCHED_IDLE.unsigned_abs().into();
    let itself = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0)?;
    let there = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, behind)?;
    rules.insert(libc::SYS_sched_setscheduler, vec![SeccompRule::new(vec![itself, there])?]);
    rules.insert(libc::SYS_io_uring_register, one_of(1, [SYNC_CANCEL])?);
    // Of abort(3); to nobody else.
    rules.insert(libc::SYS_tgkill, one_of(0, [std::process::id().into()])?);
    let refused = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let here = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, here)?.try_into()
}

/// Allows calls whose argument is one of these; arguments count from 0, and are 32 bits.
fn one_of(
    number: u8,
    values: impl IntoIterator<Item = u64>,
) -> Result<Vec<SeccompRule>, BackendError> {
    values.into_iter().map(|value| argument(number, SeccompCmpOp::Eq, value)).collect()
}

fn argument(number: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(number, SeccompCmpArgLen::Dword, how, value)?])
}
