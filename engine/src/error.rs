//! What keeps a session from starting or ends it badly. Each text ends with what to do.
//!
//! Never known here: what raised it. Errors of requests are [`fusewire_proto::Errno`]s, not these.

use std::io;
use std::path::PathBuf;

use fusewire_proto::Errno;

/// A session could not start, or ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The mount point cannot be used.
    #[error("cannot mount on {path}: {why}")]
    MountPoint {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// A value of the configuration is out of its range.
    #[error("{0}")]
    Config(String),
    /// The device could not be opened.
    #[error("cannot open /dev/fuse: {source}; {advice}")]
    Device {
        /// What to do.
        advice: &'static str,
        /// What open(2) said.
        source: io::Error,
    },
    /// The kernel refused the mount.
    #[error("cannot mount {path}: {what}: {source}; {advice}")]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// The call that failed.
        what: &'static str,
        /// What to do.
        advice: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel and this engine have no protocol in common.
    #[error("INIT failed: {0}")]
    Handshake(String),
    /// FUSE-over-io_uring was asked for and cannot be had.
    #[error("FUSE-over-io_uring is not available: {0}; or use --transport auto or device")]
    NoUring(String),
    /// The session ended as it was asked to, but dirty pages may be lost.
    #[error("dirty pages were not all written: {0}; what was not fsynced may be lost")]
    NotWritten(#[source] io::Error),
    /// Threads, descriptors or memory are short.
    #[error("cannot start: {what}: {source}; {advice}")]
    Start {
        /// What failed.
        what: &'static str,
        /// What to do.
        advice: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The connection was aborted.
    #[error(
        "the connection was aborted (fusectl or umount -f); \
         its files are gone for their users, mount again to go on"
    )]
    Aborted,
    /// The device or the ring failed while serving.
    #[error("serving failed: {0}; this is a fault of the engine or of the system's limits")]
    Serving(io::Error),
}

/// What a session function returns.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn start(what: &'static str, source: io::Error) -> Error {
    let advice = match source.raw_os_error() {
        Some(libc::EMFILE) => "raise the limit of open files (ulimit -n)",
        Some(libc::ENFILE) => "the system is out of file descriptors",
        Some(libc::ENOMEM) => {
            "lower --memory-budget, --queue-depth or --shards, or raise ulimit -l"
        }
        Some(libc::EAGAIN) => "raise the limit of processes (ulimit -u)",
        _ => "see the error",
    };
    Error::Start { what, advice, source }
}

/// The errno of a failed system call, as an answer has it.
pub(crate) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().and_then(Errno::new).unwrap_or(Errno::EIO)
}
