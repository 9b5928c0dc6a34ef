//! How a directory is mirrored.

use std::sync::Arc;
use std::time::Duration;

use crate::jail::Jail;

/// How far the kernel may trust what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Nobody else changes the directory: names, attributes and data are kept for long.
    Always,
    /// Others may change it: names and attributes are asked for again after a second, data are
    /// dropped at an open that finds them changed.
    #[default]
    Auto,
    /// Nothing is kept; data go past the page cache.
    Never,
}

impl Cache {
    /// How long names and attributes are good for, where nothing else is asked for.
    #[must_use]
    pub fn timeout(self) -> Duration {
        match self {
            Self::Always => Duration::from_secs(24 * 60 * 60),
            Self::Auto => Duration::from_secs(1),
            Self::Never => Duration::ZERO,
        }
    }
}

/// How data move between the mount and the backing files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPath {
    /// What the backing filesystem has in memory by system calls; what it has to fetch, and what
    /// goes past its page cache, on the ring.
    #[default]
    Auto,
    /// All on the ring of the shard that serves the request.
    Ring,
    /// All by system calls of that shard.
    Sync,
    /// The kernel serves regular files itself, without us, where it can; the rest as `Auto`. The
    /// session must ask for it (`fusewire::Config::passthrough`), and then has no write-back.
    Kernel,
}

impl DataPath {
    /// How the data move that come here.
    pub(crate) fn without_kernel(self) -> Self {
        if self == Self::Kernel { Self::Auto } else { self }
    }

    /// The name as the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ring => "ring",
            Self::Sync => "sync",
            Self::Kernel => "kernel",
        }
    }
}

/// Choices that hold for the whole mount.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the kernel may keep.
    pub cache: Cache,
    /// How long attributes are good for.
    pub attr_timeout: Duration,
    /// The same for a file that is open for writing: until it is closed the kernel does not know
    /// how many blocks its pages have taken (`fs/fuse/file.c, fuse_flush`).
    pub writing_timeout: Duration,
    /// How long names are good for.
    pub entry_timeout: Duration,
    /// How data move.
    pub io: DataPath,
    /// Data go past the page cache, whatever `cache` says.
    pub direct: bool,
    /// Whether there are extended attributes, and with them ACLs.
    pub xattr: bool,
    /// Whether all changes are refused, also by the backing filesystem. The mount should say so
    /// too (mount option ro).
    pub readonly: bool,
    /// Whether reading leaves access times alone.
    pub noatime: bool,
    /// The most descriptors that files hold just for being known to the kernel. Beyond, a file is
    /// known by its handle, where the backing filesystem has handles.
    pub fd_budget: usize,
    /// What the threads that serve lock themselves into.
    pub jail: Option<Arc<Jail>>,
}

impl Options {
    /// What goes with a kind of caching.
    #[must_use]
    pub fn new(cache: Cache) -> Self {
        Self {
            cache,
            attr_timeout: cache.timeout(),
            writing_timeout: cache.timeout().min(Duration::from_secs(1)),
            entry_timeout: cache.timeout(),
            io: DataPath::default(),
            direct: cache == Cache::Never,
            xattr: true,
            readonly: false,
            noatime: false,
            fd_budget: 512,
            jail: None,
        }
    }

    /// The same where what others change is told: names and attributes are kept for a minute. What
    /// no event tells of, as stores to a mapping, is seen then.
    #[must_use]
    pub fn watched(self) -> Self {
        if self.cache != Cache::Auto {
            return self;
        }
        let minute = Duration::from_secs(60);
        Self { attr_timeout: minute, entry_timeout: minute, ..self }
    }

    /// Whether data go past the page cache, so that there is nothing to write back. With
    /// write-back agreed all the same, the kernel would own an mtime that its direct writes do not
    /// move (`fs/fuse/file.c, fuse_direct_write_iter`).
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct || self.cache == Cache::Never
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new(Cache::default())
    }
}
