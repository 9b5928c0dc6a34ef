//! An agreement that others have made.

use super::{
    Agreement, Limits, MAX_BACKGROUND_DEFAULT, MAX_PAGES_DEFAULT, MAX_STACK_DEPTH, MAX_WRITE_MIN,
    Offer, REQUEST_TIMEOUT_MIN, TIME_GRANULARITY_MAX,
};
use crate::abi::{self, InitOut, KERNEL_VERSION};
use crate::flags::InitFlags;
use crate::negotiate::reason::Reasons;

/// The kernel's threshold of congestion if nothing is said.
const CONGESTION_DEFAULT: u16 = 9;

impl Agreement {
    /// What the kernel makes of the reply `init` to `offer`: for whoever has seen INIT and not
    /// answered it, such as a recorder, a proxy, a simulated kernel, or a server that takes a
    /// connection over. There are no reasons in it.
    ///
    /// `None` where the kernel ends the connection, or the version is not this crate's to speak:
    /// another major one or one below 7.31 in either message. Whether the mount has
    /// default_permissions, which ALLOW_IDMAP needs without POSIX_ACL, is not looked at.
    ///
    /// Kernel: fs/fuse/inode.c, `process_init_reply` and `process_init_limits`.
    #[must_use]
    pub fn observed(offer: &Offer, init: &InitOut, limits: &Limits) -> Option<Self> {
        let minor = offer.minor.min(init.minor).min(abi::KERNEL_MINOR_VERSION);
        let majors = [offer.major, init.major];
        if majors != [KERNEL_VERSION; 2] || minor < abi::KERNEL_MINOR_VERSION_MIN {
            return None;
        }
        let low = InitFlags::from_halves(init.flags, 0);
        let high = if low.contains(InitFlags::INIT_EXT) { init.flags2 } else { 0 };
        let mut flags = InitFlags::from_halves(init.flags, high);
        let is_stackable = (1..=MAX_STACK_DEPTH).contains(&init.max_stack_depth);
        if !is_stackable || flags.contains(InitFlags::WRITEBACK_CACHE) {
            flags &= !InitFlags::PASSTHROUGH;
        }
        let has = |flag, value| if flags.contains(flag) { value } else { 0 };
        let or = |value: u16, default| if value == 0 { default } else { value };
        let max_pages = if flags.contains(InitFlags::MAX_PAGES) {
            init.max_pages.max(1).min(limits.max_pages_limit.max(1))
        } else {
            MAX_PAGES_DEFAULT
        };
        let granularity = init.time_gran;
        let is_valid = (1..=TIME_GRANULARITY_MAX).contains(&granularity);
        let timeout = match init.request_timeout {
            0 => 0,
            wish => wish.max(REQUEST_TIMEOUT_MIN),
        };
        Some(Self {
            minor,
            flags,
            max_readahead: init.max_readahead.min(offer.max_readahead),
            max_write: init.max_write.max(MAX_WRITE_MIN),
            max_pages,
            max_background: or(init.max_background, MAX_BACKGROUND_DEFAULT),
            congestion_threshold: or(init.congestion_threshold, CONGESTION_DEFAULT),
            time_granularity: if is_valid { granularity } else { 1 },
            max_stack_depth: has(InitFlags::PASSTHROUGH, init.max_stack_depth),
            request_timeout: if flags.contains(InitFlags::REQUEST_TIMEOUT) { timeout } else { 0 },
            page_size: limits.page_size.max(MAX_WRITE_MIN),
            reasons: Reasons::default(),
        })
    }

    /// The same without the reasons, which say how it came about and not what holds.
    #[must_use]
    pub fn without_reasons(self) -> Self {
        Self { reasons: Reasons::default(), ..self }
    }
}
