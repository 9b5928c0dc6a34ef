//! INIT: no offer and no wish makes an agreement that the kernel would refuse or read otherwise.

use arbitrary::{Arbitrary, Unstructured};

use crate::flags::InitFlags;
use crate::negotiate::{self as ours, Agreement, Limits, Offer, Reason, Wishes};
use crate::opcode::Opcode;

/// An offer, the wishes and the host, of any kind.
#[derive(Arbitrary, Debug)]
struct Input {
    offer: (u8, u32, u32, u64),
    flags: u64,
    words: [u32; 4],
    shorts: [u16; 4],
    default_permissions: bool,
    page_size: u32,
    /// Whether versions and page size shall be such as there are.
    likely: bool,
}

/// Body of the target `negotiate`.
pub fn negotiate(data: &[u8]) {
    let Ok(input) = Input::arbitrary(&mut Unstructured::new(data)) else { return };
    let (offer, wishes, limits) = input.values();
    let agreed = match ours::negotiate(&offer, &wishes, &limits) {
        Ok(agreed) => agreed,
        Err(error) => {
            assert!(offer.major != 7 || offer.minor < 31, "{error}: {input:?}");
            return;
        }
    };
    assert!(offer.major == 7 && offer.minor >= 31, "an unknown protocol was agreed to");
    let mut body = [0xff; 64];
    assert_eq!(agreed.encode(&mut body), Ok(64));
    assert_eq!(agreed.encode(&mut body[..63]).unwrap_err().needed, 64);
    let kernel = Kernel::process_init_reply(&body, &wishes, &limits);
    kernel.agrees(&agreed, &limits);
    let observed = Agreement::observed(&offer, &agreed.init_out(), &limits);
    assert_eq!(observed, Some(agreed.without_reasons()), "seen from outside");
    nothing_is_lost_in_silence(&offer, &wishes, &agreed);
    sizes(&agreed);
}

impl Input {
    fn values(&self) -> (Offer, Wishes, Limits) {
        let (major, minor, max_readahead, flags) = self.offer;
        let (major, minor, page_size) = match self.likely {
            true => (7, 27 + minor % 24, 1 << (self.page_size % 20)),
            false => (u32::from(major), minor, self.page_size),
        };
        let [max_write, wished_readahead, time_granularity, max_stack_depth] = self.words;
        let [max_background, congestion_threshold, request_timeout, max_pages_limit] = self.shorts;
        let wishes = Wishes {
            flags: self.flags.into(),
            max_write,
            max_readahead: wished_readahead,
            max_background,
            congestion_threshold,
            time_granularity,
            max_stack_depth,
            request_timeout,
            default_permissions: self.default_permissions,
        };
        let offer = Offer { major, minor, max_readahead, flags: InitFlags::from(flags) };
        (offer, wishes, Limits { page_size, max_pages_limit })
    }
}

/// What the kernel makes of the reply. Linux 6.18, fs/fuse/inode.c, `process_init_reply` and
/// `process_init_limits`; read by offsets of `struct fuse_init_out`.
struct Kernel {
    minor: u32,
    flags: u64,
    flags_low: u32,
    max_readahead: u32,
    max_write: u32,
    max_pages: u32,
    max_background: u32,
    congestion_threshold: u32,
    time_gran: u32,
    passthrough_depth: u32,
    request_timeout: u32,
}

const INIT_EXT: u64 = 1 << 30;
/// What the header of 7.45 names: bits 0 to 42, of which 31 is reserved.
const NAMED: u64 = (1 << 43) - 1 - (1 << 31);
const MAX_PAGES: u64 = 1 << 22;
const WRITEBACK_CACHE: u64 = 1 << 16;
const POSIX_ACL: u64 = 1 << 20;
const SECURITY_CTX: u64 = 1 << 32;
const PASSTHROUGH: u64 = 1 << 37;
const ALLOW_IDMAP: u64 = 1 << 40;
const OVER_IO_URING: u64 = 1 << 41;
const REQUEST_TIMEOUT: u64 = 1 << 42;

impl Kernel {
    /// The state of the connection afterwards; panics where the kernel would refuse.
    fn process_init_reply(body: &[u8; 64], wishes: &Wishes, limits: &Limits) -> Self {
        let long = |at: usize| u32::from_ne_bytes(body[at..at + 4].try_into().unwrap());
        let short = |at: usize| u32::from(u16::from_ne_bytes(body[at..at + 2].try_into().unwrap()));
        assert_eq!(long(0), 7, "ECONNREFUSED: major");
        let mut flags = u64::from(long(12));
        if flags & INIT_EXT != 0 {
            flags |= u64::from(long(32)) << 32;
        } else {
            assert_eq!(long(32), 0, "flags2 that nobody reads");
        }
        let default_permissions = wishes.default_permissions || flags & POSIX_ACL != 0;
        assert!(flags & ALLOW_IDMAP == 0 || default_permissions, "ECONNREFUSED: ALLOW_IDMAP");
        assert_eq!(short(30), 0, "ECONNREFUSED: map_alignment");
        assert_eq!(body[42..], [0; 22], "unused bytes");
        let max_pages = match flags & MAX_PAGES {
            0 => 32,
            _ => short(28).max(1).min(u32::from(limits.max_pages_limit).max(1)),
        };
        let stackable = (1..=2).contains(&long(36)) && flags & WRITEBACK_CACHE == 0;
        let or = |value, default| if value == 0 { default } else { value };
        Self {
            minor: long(4),
            flags,
            flags_low: long(12),
            max_readahead: long(8),
            max_write: long(20).max(4096),
            max_pages,
            max_background: or(short(16), 12),
            congestion_threshold: or(short(18), 9),
            time_gran: if (1..=1_000_000_000).contains(&long(24)) { long(24) } else { 1 },
            passthrough_depth: if flags & PASSTHROUGH != 0 && stackable { long(36) } else { 0 },
            request_timeout: if flags & REQUEST_TIMEOUT == 0 { 0 } else { short(40) },
        }
    }

    /// The two sides believe the same.
    fn agrees(&self, agreed: &Agreement, limits: &Limits) {
        assert_eq!(self.minor, agreed.minor);
        assert_eq!(self.flags, agreed.flags.bits());
        assert_eq!(self.flags_low, agreed.flags.low());
        assert_eq!(self.max_readahead, agreed.max_readahead);
        assert_eq!(self.max_write, agreed.max_write);
        assert_eq!(self.max_pages, u32::from(agreed.max_pages));
        assert_eq!(self.max_background, u32::from(agreed.max_background));
        assert_eq!(self.congestion_threshold, u32::from(agreed.congestion_threshold));
        assert!(self.congestion_threshold <= self.max_background);
        assert_eq!(self.time_gran, agreed.time_granularity);
        assert_eq!(self.passthrough_depth, agreed.max_stack_depth);
        assert_eq!(self.flags & PASSTHROUGH != 0, self.passthrough_depth != 0);
        assert_eq!(self.request_timeout, u32::from(agreed.request_timeout));
        assert!(self.request_timeout == 0 || self.request_timeout >= 15, "raised unseen");
        assert_eq!(agreed.page_size, limits.page_size.max(4096));
        let room = u64::from(self.max_pages) * u64::from(agreed.page_size);
        assert!(u64::from(self.max_write) <= room, "a WRITE that no request holds");
        // A SETXATTR has up to 16 + 256 + 65536 bytes, and the kernel stops in a BUG_ON.
        assert!(self.flags & OVER_IO_URING == 0 || room >= 16 + 256 + 65536, "a small ring");
    }
}

/// Flags were offered and wished, and each one that was not granted has its reason.
fn nothing_is_lost_in_silence(offer: &Offer, wishes: &Wishes, agreed: &Agreement) {
    let [offered, wished, granted] = [offer.flags, wishes.flags, agreed.flags].map(|f| f.bits());
    assert_eq!(granted & !offered, 0, "accepted without an offer");
    assert_eq!(granted & !wished & !INIT_EXT, 0, "accepted without a wish");
    assert_eq!(granted & !NAMED, 0, "a promise that nobody knows");
    let labels = granted & SECURITY_CTX != 0;
    assert!(!labels || agreed.minor >= 38, "labels that no header counts");
    assert!(agreed.minor <= offer.minor && (31..=45).contains(&agreed.minor));
    assert!(agreed.max_readahead <= offer.max_readahead.min(wishes.max_readahead));
    let mut explained = INIT_EXT;
    for reason in agreed.reasons() {
        assert!(!std::format!("{reason}").contains('\n'));
        explained |= match reason {
            Reason::NotOffered(flags) | Reason::WithoutInitExt(flags) | Reason::Unknown(flags) => {
                flags.bits()
            }
            Reason::ExportSupportTakenBack => 1 << 4,
            Reason::SecurityCtxUncounted => SECURITY_CTX,
            Reason::IdmapWithoutPermissions => ALLOW_IDMAP,
            Reason::PassthroughWithWriteback => PASSTHROUGH,
            Reason::UringPayload { .. } => OVER_IO_URING,
            Reason::ReaddirplusAutoAlone => 1 << 14,
            Reason::ExplicitInvalWithAuto => 1 << 25,
            _ => 0,
        };
    }
    assert_eq!(wished & !granted & !explained, 0, "dropped without a word");
}

/// Sizes that follow from the agreement, computed without the possibility to overflow.
fn sizes(agreed: &Agreement) {
    let pages = u128::from(agreed.page_size) * u128::from(agreed.max_pages);
    let payload = pages.max(u128::from(agreed.max_write)).max(8192);
    // Where memory is smaller than that, nobody can have it.
    let in_memory = |len: u128| usize::try_from(len).unwrap_or(usize::MAX);
    assert_eq!(agreed.payload_max(), in_memory(payload), "payload of a ring entry");
    let read_buffer = (80 + u128::from(agreed.max_write)).max(8192);
    assert_eq!(agreed.read_buffer_min(), in_memory(read_buffer), "read buffer");
    let ext = agreed.flags.contains(InitFlags::SETXATTR_EXT);
    assert_eq!(agreed.argument_len(Opcode::SetXattr), if ext { 16 } else { 8 });
}
