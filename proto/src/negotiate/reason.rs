//! Why something was refused or limited, in words for the report at mount.

use core::fmt;

use crate::flags::InitFlags;

/// One thing that the agreement does not grant as wished, and what stands against it.
///
/// Displays as one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Reason {
    /// The two sides speak different minor versions; the lower one counts.
    Minor {
        /// The kernel's.
        kernel: u32,
        /// The newest of this crate.
        ours: u32,
    },
    /// These capabilities were wished and not offered.
    NotOffered(InitFlags),
    /// These capabilities were wished and offered, and nothing is known of them here.
    Unknown(InitFlags),
    /// These capabilities stand in the high word, which does not count without INIT_EXT.
    WithoutInitExt(InitFlags),
    /// SECURITY_CTX: a kernel below 7.38 sends labels without their length in the header.
    SecurityCtxUncounted,
    /// ALLOW_IDMAP: the kernel would refuse the connection, because it does not check permissions.
    IdmapWithoutPermissions,
    /// PASSTHROUGH: the kernel does not do it together with WRITEBACK_CACHE.
    PassthroughWithWriteback,
    /// OVER_IO_URING: the kernel's limit of pages makes its entries too small to be safe.
    UringPayload {
        /// Bytes that an entry could have.
        room: u32,
        /// Bytes that it must have.
        least: u32,
    },
    /// READDIRPLUS_AUTO: it chooses when to use DO_READDIRPLUS, which is not agreed.
    ReaddirplusAutoAlone,
    /// EXPORT_SUPPORT: NO_EXPORT_SUPPORT takes it back.
    ExportSupportTakenBack,
    /// EXPLICIT_INVAL_DATA: AUTO_INVAL_DATA wins over it.
    ExplicitInvalWithAuto,
    /// The longest WRITE is another one than wished.
    MaxWrite {
        /// Wished, bytes.
        wish: u32,
        /// Agreed, bytes.
        agreed: u32,
        /// What decided.
        bound: WriteBound,
    },
    /// The kernel reads ahead less than wished.
    MaxReadahead {
        /// Wished, bytes.
        wish: u32,
        /// Agreed, bytes.
        agreed: u32,
    },
    /// The threshold cannot be above the most background requests.
    CongestionThreshold {
        /// Wished.
        wish: u16,
        /// Agreed.
        agreed: u16,
    },
    /// The granularity lies outside what the kernel accepts.
    TimeGranularity {
        /// Wished, nanoseconds.
        wish: u32,
        /// Agreed, nanoseconds.
        agreed: u32,
    },
    /// The kernel stacks less deep.
    StackDepth {
        /// Wished.
        wish: u32,
        /// Agreed.
        agreed: u32,
    },
    /// A timeout counts only with REQUEST_TIMEOUT, which is not agreed.
    TimeoutWithoutFlag {
        /// Wished, seconds.
        wish: u16,
    },
    /// The kernel checks too seldom for so short a timeout.
    TimeoutRaised {
        /// Wished, seconds.
        wish: u16,
        /// Agreed, seconds.
        agreed: u16,
    },
}

/// What bounds the longest WRITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum WriteBound {
    /// MAX_PAGES is not agreed, so a request has 32 pages.
    WithoutMaxPages,
    /// The host's limit on pages of a request (fs.fuse.max_pages_limit), or 65535.
    MaxPagesLimit,
    /// The kernel's least value, 4096.
    Least,
}

impl fmt::Display for WriteBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WithoutMaxPages => "a request has 32 pages without MAX_PAGES",
            Self::MaxPagesLimit => "fs.fuse.max_pages_limit",
            Self::Least => "the kernel takes no less",
        })
    }
}

/// Names of flags with bars between them; unknown bits in hexadecimal.
struct Names(InitFlags);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(&self.0, f)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Minor { kernel, ours } => {
                write!(f, "protocol: the kernel speaks 7.{kernel}, this server 7.{ours}")
            }
            Self::NotOffered(flags) => {
                write!(f, "{}: not offered by the kernel", Names(flags))
            }
            Self::Unknown(flags) => {
                write!(f, "{}: not known to protocol 7.45", Names(flags))
            }
            Self::WithoutInitExt(flags) => {
                write!(f, "{}: INIT_EXT is not offered by the kernel", Names(flags))
            }
            Self::SecurityCtxUncounted => {
                f.write_str("SECURITY_CTX: the kernel needs 7.38 to count labels in the header")
            }
            Self::IdmapWithoutPermissions => {
                f.write_str("ALLOW_IDMAP: needs default_permissions or POSIX_ACL")
            }
            Self::PassthroughWithWriteback => {
                f.write_str("PASSTHROUGH: excluded by WRITEBACK_CACHE")
            }
            Self::UringPayload { room, least } => write!(
                f,
                "OVER_IO_URING: fs.fuse.max_pages_limit leaves {room} bytes for an entry, \
                 {least} are the least"
            ),
            Self::ReaddirplusAutoAlone => {
                f.write_str("READDIRPLUS_AUTO: means nothing without DO_READDIRPLUS")
            }
            Self::ExportSupportTakenBack => {
                f.write_str("EXPORT_SUPPORT: taken back by NO_EXPORT_SUPPORT")
            }
            Self::ExplicitInvalWithAuto => {
                f.write_str("EXPLICIT_INVAL_DATA: overruled by AUTO_INVAL_DATA")
            }
            Self::MaxWrite { wish, agreed, bound } => {
                write!(f, "max_write: {agreed} instead of {wish} bytes: {bound}")
            }
            Self::MaxReadahead { wish, agreed } => {
                write!(f, "max_readahead: {agreed} instead of {wish} bytes: limited by the kernel")
            }
            Self::CongestionThreshold { wish, agreed } => {
                write!(f, "congestion_threshold: {agreed} instead of {wish}: max_background")
            }
            Self::TimeGranularity { wish, agreed } => {
                write!(f, "time_granularity: {agreed} instead of {wish} ns: 1 to 1000000000")
            }
            Self::StackDepth { wish, agreed } => {
                write!(f, "max_stack_depth: {agreed} instead of {wish}: the kernel's limit")
            }
            Self::TimeoutWithoutFlag { wish } => {
                write!(f, "request_timeout: none instead of {wish} s: REQUEST_TIMEOUT not agreed")
            }
            Self::TimeoutRaised { wish, agreed } => {
                write!(f, "request_timeout: {agreed} instead of {wish} s: the kernel's least")
            }
        }
    }
}

/// All reasons of an agreement. There are fewer kinds than places, and each comes at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reasons {
    places: [Option<Reason>; 18],
}

#[cfg(feature = "serde")]
impl serde::Serialize for Reasons {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Reasons {
    pub(super) fn push(&mut self, reason: Reason) {
        if let Some(place) = self.places.iter_mut().find(|place| place.is_none()) {
            *place = Some(reason);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Reason> + '_ {
        self.places.iter().copied().flatten()
    }
}
