//! INIT: from what the kernel offers and the server wants to what is agreed.
//!
//! [`negotiate`] is a pure function; the caller brings page size and page limit. Nothing is lost
//! in silence: whatever is refused or limited is kept as a [`Reason`] in the [`Agreement`], one
//! line each, for the report at mount. The kernel's own checks of the reply are
//! fs/fuse/inode.c, `process_init_reply`.

mod observed;
mod reason;

pub use reason::{Reason, WriteBound};

use reason::Reasons;

use crate::abi;
use bitflags::Flags;

use crate::flags::InitFlags;
use crate::op;
use crate::opcode::Opcode;
use crate::reply::Reply;
use crate::request::Forms;
use crate::writer::TooSmall;

/// What the kernel keeps of background requests if nothing is said.
const MAX_BACKGROUND_DEFAULT: u16 = 12;
/// The kernel raises a smaller `max_write`; it is also the smallest page.
const MAX_WRITE_MIN: u32 = 4096;
/// Pages per request without MAX_PAGES.
const MAX_PAGES_DEFAULT: u16 = 32;
/// Bytes that an entry of FUSE-over-io_uring must hold, whatever the longest WRITE is.
///
/// A SETXATTR brings a name of up to 256 and a value of up to 65536 bytes, and the kernel (6.14 to
/// 6.18) copies them without a look at the room: it stops in a `BUG_ON` where they do not fit
/// (fs/fuse/dev_uring.c, `fuse_uring_args_to_ring`; fs/fuse/dev.c, `fuse_copy_fill`). The room is
/// the larger of `max_write` and `max_pages` pages, not the buffer that was registered.
pub const URING_PAYLOAD_MIN: u32 = 72 * 1024;
/// The coarsest granularity of timestamps: a second.
const TIME_GRANULARITY_MAX: u32 = 1_000_000_000;
/// Deepest stacking that the kernel allows (`FILESYSTEM_MAX_STACK_DEPTH`).
const MAX_STACK_DEPTH: u32 = 2;
/// All capabilities that this crate can keep a promise about: those that have a name, but for the
/// reserved bit.
const KNOWN: InitFlags = {
    let (mut known, mut at) = (InitFlags::empty(), 0);
    while at < InitFlags::FLAGS.len() {
        #[expect(clippy::indexing_slicing, reason = "the compiler does it")]
        let flag = &InitFlags::FLAGS[at];
        if flag.is_named() {
            known = known.union(*flag.value());
        }
        at += 1;
    }
    known.difference(InitFlags::INIT_RESERVED)
};
/// The first minor version whose requests count their extensions in the header.
///
/// Before it (Linux 5.17 to 6.2) a label followed the name of a new file uncounted.
const EXTENSIONS_MINOR: u32 = 38;
/// The first minor version whose INIT has 64 bytes.
const INIT_EXT_MINOR: u32 = 36;
/// The kernel looks for late requests this often, seconds, and raises a shorter timeout.
const REQUEST_TIMEOUT_MIN: u16 = 15;

/// What the kernel says in INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Longest read-ahead, bytes.
    pub max_readahead: u32,
    /// Capabilities.
    pub flags: InitFlags,
}

impl From<op::Init> for Offer {
    fn from(init: op::Init) -> Self {
        let op::Init { major, minor, max_readahead, flags } = init;
        Self { major, minor, max_readahead, flags }
    }
}

/// What the server would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Capabilities to accept if they are offered. INIT_EXT needs no wish.
    pub flags: InitFlags,
    /// Longest WRITE, bytes; also what READs are sized by.
    pub max_write: u32,
    /// Longest read-ahead, bytes.
    pub max_readahead: u32,
    /// Most background requests in flight; 0 for the kernel's 12.
    pub max_background: u16,
    /// Background requests that count as congestion; 0 for three quarters of `max_background`.
    pub congestion_threshold: u16,
    /// Granularity of timestamps, nanoseconds: what the store keeps.
    pub time_granularity: u32,
    /// With PASSTHROUGH: 1, or 2 if backing files may be stacked themselves; 0 for 1.
    pub max_stack_depth: u32,
    /// With REQUEST_TIMEOUT: seconds after which an unanswered request ends the connection. The
    /// kernel takes fs.fuse.max_request_timeout if that is less, and says so nowhere; for 0 it
    /// takes fs.fuse.default_request_timeout.
    pub request_timeout: u16,
    /// Whether the mount has the option default_permissions.
    pub default_permissions: bool,
}

impl Default for Wishes {
    /// No capability, 1 MiB WRITEs, and the kernel's own choice for the rest.
    fn default() -> Self {
        Self {
            flags: InitFlags::empty(),
            max_write: 1 << 20,
            max_readahead: u32::MAX,
            max_background: 0,
            congestion_threshold: 0,
            time_granularity: 1,
            max_stack_depth: 0,
            request_timeout: 0,
            default_permissions: false,
        }
    }
}

/// What the host allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of a page of the host, bytes; less than 4096 counts as 4096.
    pub page_size: u32,
    /// The sysctl fs.fuse.max_pages_limit; 256 where it does not exist.
    pub max_pages_limit: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { page_size: 4096, max_pages_limit: 256 }
    }
}

/// Why there can be no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiateError {
    /// Another major version.
    #[error(
        "the kernel speaks FUSE {kernel_major}.{kernel_minor}, \
         and this server {ours_major}.{ours_minor}: the major versions must be equal"
    )]
    Major {
        /// The kernel's major version.
        kernel_major: u32,
        /// The kernel's minor version.
        kernel_minor: u32,
        /// Ours.
        ours_major: u32,
        /// Ours.
        ours_minor: u32,
    },
    /// A minor version below the floor.
    #[error(
        "the kernel speaks FUSE 7.{kernel_minor}, \
         and this server needs 7.{floor_minor} at least: use Linux 5.4 or newer"
    )]
    TooOld {
        /// The kernel's minor version.
        kernel_minor: u32,
        /// The oldest one that is accepted.
        floor_minor: u32,
    },
}

/// What holds for the life of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Agreement {
    /// Minor version that both speak, 31 to 45.
    pub minor: u32,
    /// Accepted capabilities: each was offered and, except INIT_EXT, wished.
    pub flags: InitFlags,
    /// Longest read-ahead, bytes.
    pub max_readahead: u32,
    /// Longest WRITE, bytes: never more than the pages of one request hold.
    pub max_write: u32,
    /// Most pages in one request.
    pub max_pages: u16,
    /// Most background requests in flight.
    pub max_background: u16,
    /// Background requests that count as congestion.
    pub congestion_threshold: u16,
    /// Granularity of timestamps, nanoseconds.
    pub time_granularity: u32,
    /// Stacking depth: 1 or 2 with PASSTHROUGH, else 0.
    pub max_stack_depth: u32,
    /// Seconds; 0 without REQUEST_TIMEOUT.
    pub request_timeout: u16,
    /// Size of a page of the host, bytes.
    pub page_size: u32,
    reasons: Reasons,
}

/// Decides what to answer to INIT.
///
/// Flags are accepted only if they are offered and wished; INIT_EXT follows from the others.
/// What depends on something that is not there, or excludes something that is, is dropped.
/// Figures are brought into the range that the kernel would accept.
///
/// # Errors
/// [`NegotiateError`] for a kernel of another major version or below 7.31.
pub fn negotiate(
    offer: &Offer,
    wishes: &Wishes,
    limits: &Limits,
) -> Result<Agreement, NegotiateError> {
    let minor = agree_minor(offer)?;
    let mut reasons = Reasons::default();
    if offer.minor != abi::KERNEL_MINOR_VERSION {
        let (kernel, ours) = (offer.minor, abi::KERNEL_MINOR_VERSION);
        reasons.push(Reason::Minor { kernel, ours });
    }
    let page_size = limits.page_size.max(MAX_WRITE_MIN);
    let flags = agree_flags(offer, wishes, &mut reasons);
    let flags = agree_uring(flags, page_size, limits.max_pages_limit, &mut reasons);
    let (max_write, max_pages) =
        agree_write(flags, wishes.max_write, page_size, limits.max_pages_limit, &mut reasons);
    let (max_background, congestion_threshold) = agree_background(wishes, &mut reasons);
    let max_readahead = wishes.max_readahead.min(offer.max_readahead);
    // The largest wish means "whatever there is", so its limit is no news.
    if max_readahead < wishes.max_readahead && wishes.max_readahead != u32::MAX {
        let wish = wishes.max_readahead;
        reasons.push(Reason::MaxReadahead { wish, agreed: max_readahead });
    }
    let time_granularity = wishes.time_granularity.clamp(1, TIME_GRANULARITY_MAX);
    if time_granularity != wishes.time_granularity {
        let wish = wishes.time_granularity;
        reasons.push(Reason::TimeGranularity { wish, agreed: time_granularity });
    }
    Ok(Agreement {
        minor,
        flags,
        max_readahead,
        max_write,
        max_pages,
        max_background,
        congestion_threshold,
        time_granularity,
        max_stack_depth: agree_stack_depth(flags, wishes.max_stack_depth, &mut reasons),
        request_timeout: agree_timeout(flags, wishes.request_timeout, &mut reasons),
        page_size,
        reasons,
    })
}

fn agree_minor(offer: &Offer) -> Result<u32, NegotiateError> {
    if offer.major != abi::KERNEL_VERSION {
        return Err(NegotiateError::Major {
            kernel_major: offer.major,
            kernel_minor: offer.minor,
            ours_major: abi::KERNEL_VERSION,
            ours_minor: abi::KERNEL_MINOR_VERSION,
        });
    }
    if offer.minor < abi::KERNEL_MINOR_VERSION_MIN {
        return Err(NegotiateError::TooOld {
            kernel_minor: offer.minor,
            floor_minor: abi::KERNEL_MINOR_VERSION_MIN,
        });
    }
    Ok(offer.minor.min(abi::KERNEL_MINOR_VERSION))
}

fn agree_flags(offer: &Offer, wishes: &Wishes, reasons: &mut Reasons) -> InitFlags {
    let wished = wishes.flags & !InitFlags::INIT_EXT;
    let mut flags = wished & offer.flags;
    // Takes flags away, and says why if there was something to take.
    let mut refuse = |flags: &mut InitFlags, which: InitFlags, why: fn(InitFlags) -> Reason| {
        let refused = *flags & which;
        if !refused.is_empty() {
            *flags &= !refused;
            reasons.push(why(refused));
        }
    };
    refuse(&mut { wished }, !offer.flags, Reason::NotOffered);
    refuse(&mut flags, !KNOWN, Reason::Unknown);
    if offer.minor < EXTENSIONS_MINOR {
        refuse(&mut flags, InitFlags::SECURITY_CTX, |_| Reason::SecurityCtxUncounted);
    }
    let high = InitFlags::from_halves(0, u32::MAX);
    if !offer.flags.contains(InitFlags::INIT_EXT) {
        refuse(&mut flags, high, Reason::WithoutInitExt);
    }
    if !flags.contains(InitFlags::POSIX_ACL) && !wishes.default_permissions {
        refuse(&mut flags, InitFlags::ALLOW_IDMAP, |_| Reason::IdmapWithoutPermissions);
    }
    if flags.contains(InitFlags::WRITEBACK_CACHE) {
        refuse(&mut flags, InitFlags::PASSTHROUGH, |_| Reason::PassthroughWithWriteback);
    }
    if !flags.contains(InitFlags::DO_READDIRPLUS) {
        refuse(&mut flags, InitFlags::READDIRPLUS_AUTO, |_| Reason::ReaddirplusAutoAlone);
    }
    if flags.contains(InitFlags::NO_EXPORT_SUPPORT) {
        refuse(&mut flags, InitFlags::EXPORT_SUPPORT, |_| Reason::ExportSupportTakenBack);
    }
    if flags.contains(InitFlags::AUTO_INVAL_DATA) {
        refuse(&mut flags, InitFlags::EXPLICIT_INVAL_DATA, |_| Reason::ExplicitInvalWithAuto);
    }
    if flags.intersects(high) {
        flags |= InitFlags::INIT_EXT;
    }
    flags
}

/// Drops OVER_IO_URING where its entries could not be made large enough.
fn agree_uring(
    flags: InitFlags,
    page_size: u32,
    max_pages_limit: u16,
    reasons: &mut Reasons,
) -> InitFlags {
    let pages =
        if flags.contains(InitFlags::MAX_PAGES) { max_pages_limit } else { MAX_PAGES_DEFAULT };
    let room = page_size.saturating_mul(u32::from(pages));
    if flags.contains(InitFlags::OVER_IO_URING) && room < URING_PAYLOAD_MIN {
        reasons.push(Reason::UringPayload { room, least: URING_PAYLOAD_MIN });
        return flags & !InitFlags::OVER_IO_URING;
    }
    flags
}

fn agree_write(
    flags: InitFlags,
    wish: u32,
    page_size: u32,
    max_pages_limit: u16,
    reasons: &mut Reasons,
) -> (u32, u16) {
    let wanted = wish.max(MAX_WRITE_MIN);
    let (max_pages, bound) = if flags.contains(InitFlags::MAX_PAGES) {
        let limit = max_pages_limit.max(1);
        let uring = flags.contains(InitFlags::OVER_IO_URING);
        let held = if uring { wanted.max(URING_PAYLOAD_MIN) } else { wanted };
        let pages = u16::try_from(held.div_ceil(page_size)).unwrap_or(u16::MAX).min(limit);
        (pages, WriteBound::MaxPagesLimit)
    } else {
        (MAX_PAGES_DEFAULT, WriteBound::WithoutMaxPages)
    };
    let max_write = wanted.min(page_size.saturating_mul(u32::from(max_pages)));
    if max_write != wish {
        let bound = if max_write > wish { WriteBound::Least } else { bound };
        reasons.push(Reason::MaxWrite { wish, agreed: max_write, bound });
    }
    (max_write, max_pages)
}

fn agree_background(wishes: &Wishes, reasons: &mut Reasons) -> (u16, u16) {
    let max_background =
        if wishes.max_background == 0 { MAX_BACKGROUND_DEFAULT } else { wishes.max_background };
    let threshold = match wishes.congestion_threshold {
        // A zero would not be taken as such, so the least is one.
        0 => max_background.saturating_sub(max_background.div_ceil(4)).max(1),
        wish => wish.min(max_background),
    };
    if wishes.congestion_threshold > threshold {
        let wish = wishes.congestion_threshold;
        reasons.push(Reason::CongestionThreshold { wish, agreed: threshold });
    }
    (max_background, threshold)
}

fn agree_stack_depth(flags: InitFlags, wish: u32, reasons: &mut Reasons) -> u32 {
    if !flags.contains(InitFlags::PASSTHROUGH) {
        return 0;
    }
    let agreed = wish.clamp(1, MAX_STACK_DEPTH);
    if wish > agreed {
        reasons.push(Reason::StackDepth { wish, agreed });
    }
    agreed
}

fn agree_timeout(flags: InitFlags, wish: u16, reasons: &mut Reasons) -> u16 {
    if wish == 0 {
        return 0;
    }
    if !flags.contains(InitFlags::REQUEST_TIMEOUT) {
        reasons.push(Reason::TimeoutWithoutFlag { wish });
        return 0;
    }
    let agreed = wish.max(REQUEST_TIMEOUT_MIN);
    if agreed != wish {
        reasons.push(Reason::TimeoutRaised { wish, agreed });
    }
    agreed
}

impl Agreement {
    /// What was refused or limited, and by what; each displays as one line.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> + '_ {
        self.reasons.iter()
    }

    /// The body of the reply to INIT, always in its 64-byte form.
    #[must_use]
    pub fn init_out(&self) -> abi::InitOut {
        let explicit_pages = self.flags.contains(InitFlags::MAX_PAGES);
        abi::InitOut {
            major: abi::KERNEL_VERSION,
            minor: self.minor,
            max_readahead: self.max_readahead,
            flags: self.flags.low(),
            max_background: self.max_background,
            congestion_threshold: self.congestion_threshold,
            max_write: self.max_write,
            time_gran: self.time_granularity,
            max_pages: if explicit_pages { self.max_pages } else { 0 },
            map_alignment: 0,
            flags2: self.flags.high(),
            max_stack_depth: self.max_stack_depth,
            request_timeout: self.request_timeout,
            unused: [0; 11],
        }
    }

    /// The forms of requests that follow from it, for
    /// [`Operation::encode`](crate::Operation::encode).
    #[must_use]
    pub const fn forms(&self) -> Forms {
        let setxattr_ext = self.flags.contains(InitFlags::SETXATTR_EXT);
        Forms { setxattr_ext, init_ext: self.minor >= INIT_EXT_MINOR }
    }

    /// Writes the body of the reply to INIT to the start of `out` and returns its length, 64.
    ///
    /// # Errors
    /// [`TooSmall`] when `out` is shorter; nothing is written then.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, TooSmall> {
        Reply::Init(self.init_out()).encode(out)
    }

    /// Length in bytes of the fixed struct that opens the argument of `opcode`.
    ///
    /// It is [`Opcode::argument_len`], except for SETXATTR without SETXATTR_EXT: 8.
    #[must_use]
    pub const fn argument_len(&self, opcode: Opcode) -> usize {
        match opcode {
            Opcode::SetXattr if !self.flags.contains(InitFlags::SETXATTR_EXT) => {
                abi::COMPAT_SETXATTR_IN_SIZE
            }
            _ => opcode.argument_len(),
        }
    }

    /// Bytes of data that one request can carry or ask for: all pages, or `max_write` if more.
    ///
    /// It is also the least payload of a ring entry (never below 8192).
    ///
    /// Kernel: fs/fuse/dev_uring.c, `fuse_uring_create`.
    #[must_use]
    pub fn payload_max(&self) -> usize {
        // In the width of memory: 32 bits do not hold all pages of the largest page sizes.
        let page_size = usize::try_from(self.page_size).unwrap_or(usize::MAX);
        let pages = page_size.saturating_mul(usize::from(self.max_pages));
        let max_write = usize::try_from(self.max_write).unwrap_or(usize::MAX);
        pages.max(max_write).max(abi::MIN_READ_BUFFER)
    }

    /// The least buffer for read(2) on the device, bytes: headers and the longest WRITE.
    ///
    /// Kernel: fs/fuse/dev.c, `fuse_dev_do_read`.
    #[must_use]
    pub fn read_buffer_min(&self) -> usize {
        let headers = size_of::<abi::InHeader>().saturating_add(size_of::<abi::WriteIn>());
        let max_write = usize::try_from(self.max_write).unwrap_or(usize::MAX);
        headers.saturating_add(max_write).max(abi::MIN_READ_BUFFER)
    }
}

#[cfg(test)]
mod tests;
