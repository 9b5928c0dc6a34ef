//! Tests of the negotiation: one per rule, and a property over all offers and wishes.

#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const PAGE: Limits = Limits { page_size: 4096, max_pages_limit: 256 };

/// The offer that Linux 6.18 makes, ring enabled.
fn offer() -> Offer {
    let flags = InitFlags::from_halves(0x73ff_fffb, 0x7fd);
    Offer { major: 7, minor: 45, max_readahead: 131_072, flags }
}

/// These capabilities, and figures that no limit touches.
fn wishes(flags: InitFlags) -> Wishes {
    Wishes { flags, max_write: 4096, ..Wishes::default() }
}

fn agree(offer: &Offer, wishes: &Wishes) -> Agreement {
    negotiate(offer, wishes, &PAGE).unwrap()
}

fn lines(agreement: &Agreement) -> Vec<String> {
    agreement.reasons().map(|reason| reason.to_string()).collect()
}

#[test]
fn versions_outside_the_range_are_refused() {
    let old = Offer { minor: 30, ..offer() };
    let error = negotiate(&old, &Wishes::default(), &PAGE).unwrap_err();
    assert_eq!(error, NegotiateError::TooOld { kernel_minor: 30, floor_minor: 31 });
    assert_eq!(
        error.to_string(),
        "the kernel speaks FUSE 7.30, and this server needs 7.31 at least: use Linux 5.4 or newer"
    );
    for major in [0, 6, 8, u32::MAX] {
        let other = Offer { major, minor: 45, ..offer() };
        let error = negotiate(&other, &Wishes::default(), &PAGE).unwrap_err();
        assert!(
            matches!(error, NegotiateError::Major { kernel_major, .. } if kernel_major == major)
        );
    }
    let text = negotiate(&Offer { major: 8, minor: 2, ..offer() }, &Wishes::default(), &PAGE)
        .unwrap_err()
        .to_string();
    assert!(text.contains("8.2") && text.contains("7.45"), "{text}");
}

#[test]
fn the_lower_minor_counts_and_is_reported() {
    for (kernel, agreed) in [(31, 31), (44, 44), (45, 45), (46, 45), (u32::MAX, 45)] {
        let agreement = agree(&Offer { minor: kernel, ..offer() }, &Wishes::default());
        assert_eq!(agreement.minor, agreed);
        let reported = agreement.reasons().any(|it| matches!(it, Reason::Minor { .. }));
        assert_eq!(reported, kernel != 45, "minor {kernel}");
    }
}

#[test]
fn only_what_is_offered_is_accepted() {
    let wish = InitFlags::ASYNC_READ | InitFlags::MAP_ALIGNMENT | InitFlags::SUBMOUNTS;
    let agreement = agree(&offer(), &wishes(wish));
    assert_eq!(agreement.flags, InitFlags::ASYNC_READ);
    assert_eq!(lines(&agreement), ["MAP_ALIGNMENT | SUBMOUNTS: not offered by the kernel"]);
    // Nothing is accepted that was not wished.
    assert_eq!(agree(&offer(), &Wishes::default()).flags, InitFlags::empty());
}

#[test]
fn the_high_half_needs_init_ext() {
    let wish = InitFlags::PASSTHROUGH | InitFlags::ASYNC_READ;
    let with = agree(&offer(), &wishes(wish));
    assert_eq!(with.flags, wish | InitFlags::INIT_EXT);
    assert_eq!(with.init_out().flags, 0x4000_0001);
    assert_eq!(with.init_out().flags2, 0x20);

    let without = Offer { flags: offer().flags & !InitFlags::INIT_EXT, ..offer() };
    let agreement = agree(&without, &wishes(wish));
    assert_eq!(agreement.flags, InitFlags::ASYNC_READ);
    assert_eq!(lines(&agreement), ["PASSTHROUGH: INIT_EXT is not offered by the kernel"]);
    // A wish for INIT_EXT alone moves nothing.
    assert_eq!(agree(&offer(), &wishes(InitFlags::INIT_EXT)).flags, InitFlags::empty());
}

#[test]
fn what_nobody_knows_is_not_promised() {
    let later = InitFlags::from_halves(1 << 31, 1 << 11);
    let everything = Offer { minor: 46, flags: offer().flags | later, ..offer() };
    let wish = later | InitFlags::ASYNC_READ;
    let agreement = agree(&everything, &wishes(wish));
    assert_eq!(agreement.flags, InitFlags::ASYNC_READ);
    let line = "INIT_RESERVED | 0x80000000000: not known to protocol 7.45";
    assert!(lines(&agreement).contains(&line.to_string()), "{:?}", lines(&agreement));
}

#[test]
fn export_support_is_taken_back() {
    let both = InitFlags::EXPORT_SUPPORT | InitFlags::NO_EXPORT_SUPPORT;
    let agreement = agree(&offer(), &wishes(both));
    assert_eq!(agreement.flags, InitFlags::NO_EXPORT_SUPPORT | InitFlags::INIT_EXT);
    assert_eq!(lines(&agreement), ["EXPORT_SUPPORT: taken back by NO_EXPORT_SUPPORT"]);
}

#[test]
fn an_agreement_can_be_seen_from_outside() {
    let observe = |offer: &Offer, init: &abi::InitOut| Agreement::observed(offer, init, &PAGE);
    let wishes = wishes(InitFlags::MAX_PAGES | InitFlags::SETXATTR_EXT | InitFlags::PASSTHROUGH);
    let agreement = agree(&offer(), &wishes);
    assert_eq!(observe(&offer(), &agreement.init_out()), Some(agreement.without_reasons()));
    assert_eq!(agreement.forms(), Forms::LONG);
    // The shortest reply of an old server: all else is 0.
    let short = abi::InitOut { major: 7, minor: 31, ..abi::InitOut::default() };
    let seen = observe(&offer(), &short).unwrap();
    let figures = (seen.minor, seen.max_write, seen.max_pages, seen.time_granularity);
    assert_eq!(figures, (31, 4096, 32, 1));
    assert_eq!((seen.max_background, seen.congestion_threshold), (12, 9));
    assert_eq!(seen.forms(), Forms::SHORT);
    // What the kernel does not do although it was asked.
    let flags = InitFlags::PASSTHROUGH | InitFlags::WRITEBACK_CACHE | InitFlags::INIT_EXT;
    let (flags, flags2) = (flags.low(), flags.high());
    let greedy = abi::InitOut { flags, flags2, max_stack_depth: 1, request_timeout: 5, ..short };
    let seen = observe(&offer(), &greedy).unwrap();
    assert_eq!(seen.flags, InitFlags::WRITEBACK_CACHE | InitFlags::INIT_EXT);
    assert_eq!((seen.max_stack_depth, seen.request_timeout), (0, 0));
    for (major, minor) in [(6, 45), (8, 45), (7, 30)] {
        assert_eq!(observe(&offer(), &abi::InitOut { major, minor, ..short }), None);
        assert_eq!(observe(&Offer { major, minor, ..offer() }, &short), None);
    }
}

#[test]
fn labels_are_counted_from_7_38_on() {
    let label = InitFlags::SECURITY_CTX;
    for minor in [36, 37] {
        let refused = agree(&Offer { minor, ..offer() }, &wishes(label));
        assert_eq!(refused.flags, InitFlags::empty());
        let line = "SECURITY_CTX: the kernel needs 7.38 to count labels in the header";
        assert!(lines(&refused).contains(&line.to_string()), "7.{minor}");
    }
    let agreed = agree(&Offer { minor: 38, ..offer() }, &wishes(label));
    assert_eq!(agreed.flags, label | InitFlags::INIT_EXT);
}

#[test]
fn idmapped_mounts_need_permission_checks() {
    let idmap = InitFlags::ALLOW_IDMAP;
    let refused = agree(&offer(), &wishes(idmap));
    assert_eq!(refused.flags, InitFlags::empty());
    assert_eq!(lines(&refused), ["ALLOW_IDMAP: needs default_permissions or POSIX_ACL"]);

    let checked = Wishes { default_permissions: true, ..wishes(idmap) };
    assert!(agree(&offer(), &checked).flags.contains(idmap));
    let acl = wishes(idmap | InitFlags::POSIX_ACL);
    assert!(agree(&offer(), &acl).flags.contains(idmap));
    // A wish for POSIX_ACL does not help where it is not offered.
    let poor = Offer { flags: offer().flags & !InitFlags::POSIX_ACL, ..offer() };
    assert!(!agree(&poor, &acl).flags.contains(idmap));
}

#[test]
fn writeback_excludes_passthrough() {
    let wish = InitFlags::WRITEBACK_CACHE | InitFlags::PASSTHROUGH;
    let agreement = agree(&offer(), &Wishes { max_stack_depth: 2, ..wishes(wish) });
    assert_eq!(agreement.flags, InitFlags::WRITEBACK_CACHE);
    assert_eq!(agreement.max_stack_depth, 0);
    assert_eq!(lines(&agreement), ["PASSTHROUGH: excluded by WRITEBACK_CACHE"]);
}

#[test]
fn stack_depth_goes_with_passthrough() {
    for (wish, agreed) in [(0, 1), (1, 1), (2, 2), (3, 2), (u32::MAX, 2)] {
        let wishes = Wishes { max_stack_depth: wish, ..wishes(InitFlags::PASSTHROUGH) };
        let agreement = agree(&offer(), &wishes);
        assert_eq!(agreement.max_stack_depth, agreed);
        assert_eq!(agreement.reasons().count(), usize::from(wish > 2), "depth {wish}");
    }
}

#[test]
fn readdirplus_auto_needs_its_pair() {
    let pair = InitFlags::DO_READDIRPLUS | InitFlags::READDIRPLUS_AUTO;
    assert_eq!(agree(&offer(), &wishes(pair)).flags, pair);
    let alone = agree(&offer(), &wishes(InitFlags::READDIRPLUS_AUTO));
    assert_eq!(alone.flags, InitFlags::empty());
    assert_eq!(lines(&alone), ["READDIRPLUS_AUTO: means nothing without DO_READDIRPLUS"]);
    let always = InitFlags::DO_READDIRPLUS;
    assert_eq!(agree(&offer(), &wishes(always)).flags, always);
}

#[test]
fn one_way_of_invalidation() {
    let wish = InitFlags::AUTO_INVAL_DATA | InitFlags::EXPLICIT_INVAL_DATA;
    let agreement = agree(&offer(), &wishes(wish));
    assert_eq!(agreement.flags, InitFlags::AUTO_INVAL_DATA);
    assert_eq!(lines(&agreement), ["EXPLICIT_INVAL_DATA: overruled by AUTO_INVAL_DATA"]);
}

#[test]
fn the_ring_only_if_wished() {
    assert!(offer().flags.contains(InitFlags::OVER_IO_URING));
    let all_but = wishes(InitFlags::all() & !InitFlags::OVER_IO_URING);
    assert!(!agree(&offer(), &all_but).flags.contains(InitFlags::OVER_IO_URING));
    let ring = wishes(InitFlags::OVER_IO_URING);
    assert!(agree(&offer(), &ring).flags.contains(InitFlags::OVER_IO_URING));
}

#[test]
fn pages_follow_from_max_write() {
    // Wish, page size, limit; agreed max_write and max_pages.
    let table = [
        (1 << 20, 4096, 256, 1 << 20, 256),
        ((1 << 20) + 1, 4096, 1024, (1 << 20) + 1, 257),
        (8 << 20, 4096, 256, 1 << 20, 256),
        (1 << 20, 65_536, 256, 1 << 20, 16),
        (0, 4096, 256, 4096, 1),
        (5000, 4096, 256, 5000, 2),
        (u32::MAX, 4096, u16::MAX, 4096 * 65_535, u16::MAX),
        (u32::MAX, 65_536, u16::MAX, 65_536 * 65_535, u16::MAX),
        (1 << 20, 0, 0, 4096, 1),
    ];
    for (max_write, page_size, max_pages_limit, agreed, pages) in table {
        let wishes = Wishes { max_write, ..wishes(InitFlags::MAX_PAGES) };
        let limits = Limits { page_size, max_pages_limit };
        let agreement = negotiate(&offer(), &wishes, &limits).unwrap();
        assert_eq!((agreement.max_write, agreement.max_pages), (agreed, pages), "{max_write}");
        assert_eq!(agreement.init_out().max_pages, pages);
        assert_eq!(agreement.reasons().count(), usize::from(agreed != max_write), "{max_write}");
    }
}

#[test]
fn thirty_two_pages_without_the_flag() {
    let agreement = agree(&offer(), &Wishes::default());
    assert_eq!((agreement.max_write, agreement.max_pages), (131_072, 32));
    assert_eq!(agreement.init_out().max_pages, 0);
    let line =
        "max_write: 131072 instead of 1048576 bytes: a request has 32 pages without MAX_PAGES";
    assert_eq!(lines(&agreement), [line]);
    let limited = agree(&offer(), &Wishes { max_write: 2 << 20, ..wishes(InitFlags::MAX_PAGES) });
    let line = "max_write: 1048576 instead of 2097152 bytes: fs.fuse.max_pages_limit";
    assert_eq!(lines(&limited), [line]);
    let raised = agree(&offer(), &Wishes { max_write: 100, ..Wishes::default() });
    assert_eq!(lines(&raised), ["max_write: 4096 instead of 100 bytes: the kernel takes no less"]);
}

#[test]
fn background_and_congestion() {
    // Wished background and threshold; agreed.
    let table = [
        ((0, 0), (12, 9)),
        ((64, 0), (64, 48)),
        ((1, 0), (1, 1)),
        ((2, 0), (2, 1)),
        ((3, 0), (3, 2)),
        ((u16::MAX, 0), (u16::MAX, 49_151)),
        ((64, 10), (64, 10)),
        ((64, 65), (64, 64)),
    ];
    for (wish, agreed) in table {
        let (max_background, congestion_threshold) = wish;
        let quiet = wishes(InitFlags::empty());
        let agreement = agree(&offer(), &Wishes { max_background, congestion_threshold, ..quiet });
        assert_eq!((agreement.max_background, agreement.congestion_threshold), agreed);
        assert_eq!(agreement.reasons().count(), usize::from(wish.1 > agreed.1), "{wish:?}");
    }
}

#[test]
fn readahead_can_only_shrink() {
    let small = agree(&offer(), &Wishes { max_readahead: 4096, ..Wishes::default() });
    assert_eq!(small.max_readahead, 4096);
    let quiet = wishes(InitFlags::empty());
    let large = agree(&offer(), &Wishes { max_readahead: 1 << 20, ..quiet });
    assert_eq!(large.max_readahead, 131_072);
    let line = "max_readahead: 131072 instead of 1048576 bytes: limited by the kernel";
    assert_eq!(lines(&large), [line]);
    assert_eq!(lines(&agree(&offer(), &quiet)), [""; 0]);
}

#[test]
fn granularity_and_timeout() {
    for (wish, agreed) in [(0, 1), (1, 1), (1000, 1000), (2_000_000_000, 1_000_000_000)] {
        let agreement = agree(&offer(), &Wishes { time_granularity: wish, ..Wishes::default() });
        assert_eq!(agreement.time_granularity, agreed);
        assert_eq!(agreement.init_out().time_gran, agreed);
    }
    let quiet = wishes(InitFlags::REQUEST_TIMEOUT);
    let timeout = |request_timeout| agree(&offer(), &Wishes { request_timeout, ..quiet });
    assert_eq!(timeout(60).request_timeout, 60);
    assert_eq!(lines(&timeout(60)), [""; 0]);
    assert_eq!(timeout(0).request_timeout, 0);
    assert_eq!(lines(&timeout(5)), ["request_timeout: 15 instead of 5 s: the kernel's least"]);
    let flagless = Wishes { request_timeout: 60, flags: InitFlags::empty(), ..quiet };
    let agreement = agree(&offer(), &flagless);
    assert_eq!(agreement.request_timeout, 0);
    let line = "request_timeout: none instead of 60 s: REQUEST_TIMEOUT not agreed";
    assert_eq!(lines(&agreement), [line]);
}

#[test]
fn lengths_that_follow() {
    let flags = InitFlags::MAX_PAGES | InitFlags::SETXATTR_EXT;
    let agreement = agree(&offer(), &Wishes { flags, ..Wishes::default() });
    assert_eq!(agreement.payload_max(), 1 << 20);
    assert_eq!(agreement.read_buffer_min(), 80 + (1 << 20));
    assert_eq!(agreement.argument_len(Opcode::SetXattr), 16);
    assert_eq!(agreement.argument_len(Opcode::Write), 40);
    let plain = agree(&offer(), &wishes(InitFlags::empty()));
    assert_eq!(plain.argument_len(Opcode::SetXattr), 8);
    // 32 pages for READ, although a WRITE has one.
    assert_eq!(plain.payload_max(), 131_072);
    assert_eq!(plain.read_buffer_min(), 8192);
}

#[test]
fn the_payload_of_the_largest_pages_needs_more_than_32_bits() {
    let limits = Limits { page_size: 1 << 18, max_pages_limit: u16::MAX };
    let flags = InitFlags::MAX_PAGES;
    let wishes = Wishes { flags, max_write: u32::MAX, ..Wishes::default() };
    let agreement = negotiate(&offer(), &wishes, &limits).unwrap();
    assert_eq!(agreement.max_pages, 1 << 14);
    let all = usize::try_from(1_u64 << 32).unwrap_or(usize::MAX);
    assert_eq!(agreement.payload_max(), all);
}

#[test]
fn the_reply_carries_what_was_agreed() {
    let wishes = Wishes {
        flags: InitFlags::MAX_PAGES | InitFlags::PASSTHROUGH | InitFlags::REQUEST_TIMEOUT,
        max_write: 0x0008_0000,
        max_readahead: 0x0001_0000,
        max_background: 40,
        congestion_threshold: 20,
        time_granularity: 100,
        max_stack_depth: 2,
        request_timeout: 30,
        default_permissions: false,
    };
    let mut out = [0xee; 70];
    assert_eq!(agree(&offer(), &wishes).encode(&mut out), Ok(64));
    let mut expected = [0; 70];
    let mut put = |at: usize, bytes: &[u8]| expected[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &7_u32.to_ne_bytes());
    put(4, &45_u32.to_ne_bytes());
    put(8, &0x0001_0000_u32.to_ne_bytes());
    put(12, &0x4040_0000_u32.to_ne_bytes());
    put(16, &40_u16.to_ne_bytes());
    put(18, &20_u16.to_ne_bytes());
    put(20, &0x0008_0000_u32.to_ne_bytes());
    put(24, &100_u32.to_ne_bytes());
    put(28, &128_u16.to_ne_bytes());
    put(32, &0x420_u32.to_ne_bytes());
    put(36, &2_u32.to_ne_bytes());
    put(40, &30_u16.to_ne_bytes());
    put(64, &[0xee; 6]);
    assert_eq!(out, expected);
}

fn any_flags() -> impl Strategy<Value = InitFlags> {
    prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)].prop_map(InitFlags::from)
}

prop_compose! {
    fn any_offer()(
        major in prop_oneof![9 => Just(7_u32), 1 => any::<u32>()],
        minor in prop_oneof![25_u32..50, any::<u32>()],
        max_readahead: u32,
        flags in any_flags(),
    ) -> Offer {
        Offer { major, minor, max_readahead, flags }
    }
}

prop_compose! {
    fn any_wishes()(
        flags in any_flags(),
        [max_write, max_readahead, time_granularity, max_stack_depth]: [u32; 4],
        [max_background, congestion_threshold, request_timeout]: [u16; 3],
        default_permissions: bool,
    ) -> Wishes {
        Wishes {
            flags, max_write, max_readahead, max_background, congestion_threshold,
            time_granularity, max_stack_depth, request_timeout, default_permissions,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 2000 }))]

    /// Whatever is offered and wished, the kernel would accept the reply.
    #[test]
    fn every_agreement_is_one_that_the_kernel_takes(
        offer in any_offer(),
        wishes in any_wishes(),
        page_size in prop_oneof![Just(4096_u32), Just(65_536), any::<u32>()],
        max_pages_limit: u16,
    ) {
        let limits = Limits { page_size, max_pages_limit };
        let Ok(agreement) = negotiate(&offer, &wishes, &limits) else {
            prop_assert!(offer.major != 7 || offer.minor < 31);
            return Ok(());
        };
        prop_assert!((31..=45).contains(&agreement.minor) && agreement.minor <= offer.minor);
        let flags = agreement.flags;
        prop_assert!(offer.flags.contains(flags));
        prop_assert!((wishes.flags | InitFlags::INIT_EXT).contains(flags));
        prop_assert_eq!(flags.high() != 0, flags.contains(InitFlags::INIT_EXT));
        let both = InitFlags::WRITEBACK_CACHE | InitFlags::PASSTHROUGH;
        prop_assert!(!flags.contains(both));
        if flags.contains(InitFlags::ALLOW_IDMAP) {
            prop_assert!(wishes.default_permissions || flags.contains(InitFlags::POSIX_ACL));
        }
        prop_assert!(agreement.max_write >= 4096 && agreement.max_pages >= 1);
        let pages = u64::from(agreement.max_pages) * u64::from(agreement.page_size);
        prop_assert!(u64::from(agreement.max_write) <= pages);
        prop_assert!(agreement.max_readahead <= offer.max_readahead);
        prop_assert!((1..=agreement.max_background).contains(&agreement.congestion_threshold));
        prop_assert!((1..=1_000_000_000).contains(&agreement.time_granularity));
        let depths = if flags.contains(InitFlags::PASSTHROUGH) { 1..=2 } else { 0..=0 };
        prop_assert!(depths.contains(&agreement.max_stack_depth));
        if !flags.contains(InitFlags::REQUEST_TIMEOUT) {
            prop_assert_eq!(agreement.request_timeout, 0);
        }

        // What was wished and not granted has a reason, and every reason is one line.
        let refused = wishes.flags & !flags & !InitFlags::INIT_EXT;
        prop_assert_eq!(refused.is_empty(), !agreement.reasons().any(|it| is_refusal(&it)));
        for line in lines(&agreement) {
            prop_assert!(!line.is_empty() && !line.contains('\n'));
        }
        let _ = (agreement.payload_max(), agreement.read_buffer_min());
        prop_assert_eq!(agreement.encode(&mut [0; 64]), Ok(64));
    }
}

fn is_refusal(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::NotOffered(_)
            | Reason::WithoutInitExt(_)
            | Reason::Unknown(_)
            | Reason::ExportSupportTakenBack
            | Reason::SecurityCtxUncounted
            | Reason::IdmapWithoutPermissions
            | Reason::PassthroughWithWriteback
            | Reason::ReaddirplusAutoAlone
            | Reason::ExplicitInvalWithAuto
    )
}

#[test]
fn ring_entries_hold_any_attribute_or_there_is_no_ring() {
    let ring = InitFlags::OVER_IO_URING | InitFlags::MAX_PAGES;
    let agreement = agree(&offer(), &wishes(ring));
    assert!(agreement.flags.contains(InitFlags::OVER_IO_URING));
    assert_eq!((agreement.max_write, agreement.max_pages), (4096, 18));
    assert!(agreement.payload_max() >= 65536 + 256);
    let small = Limits { page_size: 4096, max_pages_limit: 17 };
    let agreement = negotiate(&offer(), &wishes(ring), &small).unwrap();
    assert!(!agreement.flags.contains(InitFlags::OVER_IO_URING));
    assert!(lines(&agreement)[0].contains("max_pages_limit"), "{:?}", lines(&agreement));
    // Without MAX_PAGES the kernel takes 32 pages, which is enough.
    let agreement = agree(&offer(), &wishes(InitFlags::OVER_IO_URING));
    assert!(agreement.flags.contains(InitFlags::OVER_IO_URING));
}
