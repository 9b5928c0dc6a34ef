//! The runs: what is agreed in each, so that together they show every form of every request, and
//! on which way the requests come.

use fusewire_proto::Wishes;
use fusewire_proto::flags::InitFlags;

/// How requests come and answers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// read(2) and write(2) on `/dev/fuse`.
    Device,
    /// Entries of FUSE over io_uring, with `/dev/fuse` for what the kernel sends there alone.
    Ring,
}

impl Lane {
    pub(crate) const ALL: [Self; 2] = [Self::Device, Self::Ring];
}

/// What is agreed in one mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// All that is offered, except what would take requests away from us.
    Rich,
    /// Write-back, and none of the extensions of request forms.
    Writeback,
    /// A block device: fuseblk.
    Block,
}

impl Run {
    pub(crate) const ALL: [Self; 3] = [Self::Rich, Self::Writeback, Self::Block];

    /// The name that the client gets.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rich => "rich",
            Self::Writeback => "writeback",
            Self::Block => "block",
        }
    }

    /// What is asked for.
    pub(crate) fn wishes(self, lane: Lane) -> Wishes {
        let never = InitFlags::OVER_IO_URING
            | InitFlags::POSIX_ACL
            | InitFlags::ALLOW_IDMAP
            | InitFlags::REQUEST_TIMEOUT
            | InitFlags::NO_EXPORT_SUPPORT
            | InitFlags::AUTO_INVAL_DATA
            | InitFlags::PASSTHROUGH;
        let mut flags = match self {
            Self::Rich => !(never | InitFlags::WRITEBACK_CACHE | InitFlags::HANDLE_KILLPRIV),
            Self::Writeback | Self::Block => {
                InitFlags::WRITEBACK_CACHE
                    | InitFlags::BIG_WRITES
                    | InitFlags::ASYNC_READ
                    | InitFlags::FLOCK_LOCKS
            }
        };
        flags.set(InitFlags::OVER_IO_URING, lane == Lane::Ring);
        Wishes { flags, ..Wishes::default() }
    }

    /// Whether CREATE is answered with ENOSYS, so that MKNOD and OPEN are sent instead.
    pub(crate) fn lacks_create(self) -> bool {
        self == Self::Writeback
    }

    /// Whether STATX is answered with ENOSYS, so that GETATTR is sent instead.
    pub(crate) fn lacks_statx(self) -> bool {
        self == Self::Writeback
    }

    /// Whether COPY_FILE_RANGE_64 is answered with ENOSYS, so that the older one is sent.
    pub(crate) fn lacks_copy_64(self) -> bool {
        self == Self::Writeback
    }
}
