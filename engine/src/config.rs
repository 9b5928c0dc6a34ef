//! What a session is asked to be, before anybody asked the kernel.
//!
//! Never known here: what the kernel offers (`plan`) and what is agreed (proto's `negotiate`).

use std::path::PathBuf;
use std::time::Duration;

/// One kibibyte.
pub const KIB: u64 = 1024;
/// One gibibyte.
pub const GIB: u64 = 1024 * MIB;
/// One mebibyte.
pub const MIB: u64 = 1024 * KIB;

/// Who looks for longer than that takes a CPU for a wake-up that he would not notice.
pub(crate) const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

/// Which way requests come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// By rule, from what this machine and the budget allow; says why.
    #[default]
    Auto,
    /// FUSE-over-io_uring, or an error.
    Uring,
    /// `/dev/fuse`.
    Device,
}

/// The wishes for a session.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) mountpoint: PathBuf,
    pub(crate) name: String,
    pub(crate) create: bool,
    pub(crate) transport: TransportChoice,
    pub(crate) writeback: bool,
    pub(crate) passthrough: bool,
    pub(crate) locks: bool,
    pub(crate) shards: Option<usize>,
    pub(crate) queue_depth: Option<usize>,
    pub(crate) max_write: u64,
    pub(crate) memory_budget: u64,
    pub(crate) max_background: u16,
    pub(crate) read_ahead: u32,
    pub(crate) follow_callers: bool,
    pub(crate) busy_poll: Duration,
    pub(crate) allow_other: bool,
    pub(crate) default_permissions: bool,
    pub(crate) options: Vec<String>,
    pub(crate) signals: bool,
    pub(crate) guard: bool,
}

/// A setter of one field.
macro_rules! setter {
    ($(#[$doc:meta])* $name:ident: $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        }
    };
}

impl Config {
    /// A session on `mountpoint` with everything else at its default.
    pub fn new(mountpoint: impl Into<PathBuf>) -> Self {
        Self {
            mountpoint: mountpoint.into(),
            name: "fusewire".to_owned(),
            create: false,
            transport: TransportChoice::Auto,
            writeback: true,
            passthrough: true,
            locks: true,
            shards: None,
            queue_depth: None,
            max_write: MIB,
            memory_budget: 64 * MIB,
            max_background: 64,
            read_ahead: 1024 * 1024,
            follow_callers: true,
            busy_poll: Duration::from_micros(50),
            allow_other: false,
            default_permissions: false,
            options: Vec::new(),
            signals: true,
            guard: false,
        }
    }

    /// The name shown as the mount's source and subtype. Default: `fusewire`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    setter! {
        /// Makes the mount point, and what is missing above it, and removes that again at the end.
        create: bool
    }
    setter! {
        /// Which way requests come. Default: by rule.
        transport: TransportChoice
    }
    setter! {
        /// Whether to ask for the write-back cache, if the filesystem can honour it. Default: yes.
        writeback: bool
    }
    setter! {
        /// Whether to ask for the kernel's passthrough, if the filesystem can honour it. The kernel
        /// does not combine it with the write-back cache: where it offers passthrough, that is not
        /// asked for. Default: yes.
        passthrough: bool
    }
    setter! {
        /// Whether to ask for the locks of fcntl(2) and flock(2), if the filesystem can honour
        /// them; otherwise the kernel keeps them for the mount alone. Default: yes.
        locks: bool
    }
    setter! {
        /// Threads that serve. Default: one per online CPU, at most 16.
        shards: Option<usize>
    }
    setter! {
        /// Slots per queue of FUSE-over-io_uring, or per shard on `/dev/fuse`. Default: up to 32,
        /// as the memory budget allows.
        queue_depth: Option<usize>
    }
    setter! {
        /// The largest WRITE, in bytes; also the largest READ. The kernel's `max_pages_limit` may
        /// lower it. Default: 1 MiB.
        max_write: u64
    }
    setter! {
        /// The most memory that slots may take, in bytes; it is mapped and touched when used.
        /// Default: 64 MiB.
        memory_budget: u64
    }
    setter! {
        /// Background requests (write-back, read-ahead) that the kernel keeps in flight.
        /// Default: 64.
        max_background: u16
    }
    setter! {
        /// Bytes that the kernel reads ahead, set after the mount where permitted. Default: 1 MiB.
        read_ahead: u32
    }
    setter! {
        /// Whether a shard whose callers are on one CPU moves there, where that serves more: now
        /// and then it tries how much it serves elsewhere, for which it goes off their CPU. It
        /// stays within the CPUs that its thread starts with. Beside them it runs as SCHED_IDLE,
        /// which keeps the scheduler from moving them elsewhere, and is brought back when that
        /// keeps anybody waiting; for a process with CAP_SYS_NICE, or an RLIMIT_NICE of 20. Threads
        /// that a handler starts meanwhile inherit both: the policy is given back soon, to any
        /// thread of the process that has it, the CPU is not. On `/dev/fuse` the caller's CPU is
        /// found in `/proc`, where that is mounted. Whoever sets a shard's CPUs or policy later is
        /// heeded. Default: yes.
        follow_callers: bool
    }
    setter! {
        /// How long a shard stays awake for the next lone request, 10 ms at most; zero: not at all.
        /// It does where the last wait was as short (over io_uring the last eight, and for one
        /// request each), on half of the CPUs that the process may use (of one: never), and stands
        /// back after it was preempted or looked in vain. Not where it has joined its caller.
        /// Default: 50 microseconds.
        busy_poll: Duration
    }
    setter! {
        /// Lets other users in. Default: no.
        allow_other: bool
    }
    setter! {
        /// Lets the kernel check permissions by mode, owner and group. Default: no.
        default_permissions: bool
    }
    setter! {
        /// Mount options: ro, rw, nosuid, suid, nodev, dev, noexec, exec, noatime, nodiratime,
        /// sync, dirsync, max_read=N, fsname=S, subtype=S. As for any FUSE mount nosuid and nodev
        /// are on unless suid and dev are given.
        options: Vec<String>
    }
    setter! {
        /// Whether a process beside this one ends the connection if the thread that is in
        /// [`crate::Session::run`] is killed: for filesystems that send notifications, as one that
        /// waits would keep the connection, and with it all users of the mount. It takes root and
        /// Linux 5.9; where it cannot be had a warning is logged and the session goes on. Default:
        /// no.
        ///
        /// It is a child made by fork(2) in [`crate::Session::run`], and lasts as long as that: a
        /// program that waits for all its children sees one more, and what it writes to its memory
        /// meanwhile is kept twice. So that it is not killed along with the program it has a
        /// session and a name (`fw-guard`) of its own; a kill of the whole control group ends both.
        guard: bool
    }
    setter! {
        /// Whether [`crate::Session::run`] ends on SIGINT, SIGTERM and SIGHUP. Default: yes.
        /// Threads that the program started before the session must block these and SIGUSR1: the
        /// system may hand a signal to any thread that does not, and that ends the process with the
        /// mount in place.
        signals: bool
    }
}
