//! The plan of a session: transport, shards, slots and sizes, from wishes and surroundings.
//!
//! Pure: the same inputs give the same plan, with its reasons. Never known here: files and system
//! calls; `session` looks around and carries the plan out.

use std::time::Duration;

use fusewire_proto::flags::InitFlags;
use fusewire_proto::negotiate::URING_PAYLOAD_MIN;

use crate::config::{BUSY_POLL_MAX, Config, KIB, TransportChoice};
use crate::error::{Error, Result};

/// Entries that each queue should have before FUSE-over-io_uring is the better choice: with one,
/// every request of a CPU waits for the one before it.
const DEPTH_MIN: usize = 4;
/// Slots per queue or shard where nothing else is said.
const DEPTH_DEFAULT: usize = 32;
const DEPTH_MAX: usize = 1024;
const SHARDS_MAX: usize = 16;
/// Slots of the classic lane beside FUSE-over-io_uring.
const LANE_SLOTS: usize = 2;
/// A payload must hold any attribute value and name, on either transport.
const PAYLOAD_MIN: u64 = URING_PAYLOAD_MIN as u64;
/// The smallest `max_write` that the kernel takes.
const MAX_WRITE_MIN: u64 = 4 * KIB;

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// FUSE-over-io_uring, with the classic lane beside it.
    Uring,
    /// `/dev/fuse`.
    Device,
}

impl TransportKind {
    /// The name as the command line has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Device => "device",
        }
    }
}

/// What the machine and the kernel are.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// CPUs that the kernel has queues for.
    pub(crate) possible_cpus: usize,
    pub(crate) online_cpus: usize,
    pub(crate) page_size: u64,
    pub(crate) max_pages_limit: u16,
    /// Why no ring can be made, if so.
    pub(crate) no_ring: Option<String>,
}

/// What the engine itself can honour, whatever the filesystem.
pub(crate) const ENGINE_WISHES: InitFlags = InitFlags::ASYNC_READ
    .union(InitFlags::BIG_WRITES)
    .union(InitFlags::ASYNC_DIO)
    .union(InitFlags::PARALLEL_DIROPS)
    .union(InitFlags::MAX_PAGES)
    .union(InitFlags::ABORT_ERROR)
    .union(InitFlags::SETXATTR_EXT)
    .union(InitFlags::INIT_EXT);

/// What a session will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) transport: TransportKind,
    pub(crate) why: String,
    pub(crate) shards: usize,
    /// Slots per queue, or per shard on `/dev/fuse`.
    pub(crate) depth: usize,
    /// Whether shards join lone callers on their CPUs.
    pub(crate) follow_callers: bool,
    /// How long shards stay awake; zero where they never do.
    pub(crate) busy_poll: Duration,
    pub(crate) lane_slots: usize,
    pub(crate) max_write: u64,
    pub(crate) payload_len: u64,
}

/// Makes the plan, given the flags that the kernel offers.
pub(crate) fn plan(config: &Config, around: &Surroundings, offer: InitFlags) -> Result<Plan> {
    let max_write = max_write(config, around)?;
    let payload_len =
        max_write.max(PAYLOAD_MIN).next_multiple_of(around.page_size) + around.page_size;
    let slot_len = payload_len + around.page_size;
    let slots = usize::try_from(config.memory_budget / slot_len).unwrap_or(usize::MAX);
    let shards = config.shards.unwrap_or_else(|| around.online_cpus.clamp(1, SHARDS_MAX));
    if shards == 0 || config.queue_depth == Some(0) {
        return Err(Error::Config("--shards and --queue-depth must be at least 1".to_owned()));
    }
    let missing = unavailable(around, offer);
    let uring_depth = slots.saturating_sub(LANE_SLOTS) / around.possible_cpus;
    let transport = match (config.transport, missing) {
        (TransportChoice::Device, _) => (TransportKind::Device, "asked for".to_owned()),
        (TransportChoice::Uring, Some(why)) => return Err(Error::NoUring(why)),
        (TransportChoice::Uring, None) => (TransportKind::Uring, "asked for".to_owned()),
        (TransportChoice::Auto, Some(why)) => (TransportKind::Device, why),
        (TransportChoice::Auto, None) if uring_depth < DEPTH_MIN => (
            TransportKind::Device,
            format!(
                "--memory-budget allows {uring_depth} entries on each of {} queues, \
                 fewer than the {DEPTH_MIN} that FUSE-over-io_uring needs to pay",
                around.possible_cpus
            ),
        ),
        (TransportChoice::Auto, None) => (
            TransportKind::Uring,
            format!("offered by the kernel, and the budget allows {uring_depth} entries per queue"),
        ),
    };
    let (transport, why) = transport;
    let (shards, allowed, lane_slots) = match transport {
        TransportKind::Uring => (shards.min(around.possible_cpus), uring_depth, LANE_SLOTS),
        TransportKind::Device => {
            let shards = shards.min(slots);
            (shards, slots / shards.max(1), 0)
        }
    };
    if allowed == 0 {
        let least = match transport {
            TransportKind::Uring => (around.possible_cpus + LANE_SLOTS) as u64,
            TransportKind::Device => 1,
        } * slot_len;
        return Err(Error::Config(format!(
            "--memory-budget {} is too small: {} slots of {slot_len} bytes are the least, \
             {least} bytes; raise it or lower --max-write",
            config.memory_budget,
            least / slot_len,
        )));
    }
    let depth = config.queue_depth.unwrap_or(DEPTH_DEFAULT).min(allowed).min(DEPTH_MAX);
    Ok(Plan {
        transport,
        why,
        shards,
        depth,
        follow_callers: config.follow_callers,
        busy_poll: config.busy_poll.min(BUSY_POLL_MAX),
        lane_slots,
        max_write,
        payload_len,
    })
}

/// The INIT flags to ask for, of those that filesystem and engine can honour and the kernel offers.
pub(crate) fn wishes(
    config: &Config,
    can: InitFlags,
    offer: InitFlags,
    transport: TransportKind,
) -> InitFlags {
    let mut wishes = can | InitFlags::OVER_IO_URING;
    if !config.passthrough {
        wishes -= InitFlags::PASSTHROUGH;
    }
    if !config.locks {
        wishes -= InitFlags::POSIX_LOCKS | InitFlags::FLOCK_LOCKS;
    }
    if !config.writeback || gives_up_writeback(config, can, offer) {
        wishes -= InitFlags::WRITEBACK_CACHE;
    }
    if transport != TransportKind::Uring {
        wishes -= InitFlags::OVER_IO_URING;
    }
    wishes
}

/// Whether passthrough takes the place of a write-back cache that could be had.
pub(crate) fn gives_up_writeback(config: &Config, can: InitFlags, offer: InitFlags) -> bool {
    config.passthrough
        && can.contains(InitFlags::PASSTHROUGH | InitFlags::WRITEBACK_CACHE)
        && offer.contains(InitFlags::PASSTHROUGH)
}

fn max_write(config: &Config, around: &Surroundings) -> Result<u64> {
    if config.max_write < MAX_WRITE_MIN {
        return Err(Error::Config(format!(
            "--max-write {} is too small: {MAX_WRITE_MIN} bytes are the least",
            config.max_write
        )));
    }
    let limit = u64::from(around.max_pages_limit) * around.page_size;
    // The limit is whole pages, so what it cuts needs no rounding and cannot wrap.
    let limit = limit.max(around.page_size);
    Ok(config.max_write.min(limit).next_multiple_of(around.page_size))
}

/// Why FUSE-over-io_uring cannot be had, and what would help.
fn unavailable(around: &Surroundings, offer: InitFlags) -> Option<String> {
    if let Some(why) = &around.no_ring {
        return Some(format!(
            "io_uring is refused here ({why}); allow it (sysctl kernel.io_uring_disabled=0, and \
             in a container the seccomp profile)"
        ));
    }
    let room = u64::from(around.max_pages_limit) * around.page_size;
    if room < PAYLOAD_MIN {
        return Some(format!(
            "fs.fuse.max_pages_limit leaves {room} bytes for an entry, {PAYLOAD_MIN} are the \
             least; raise it"
        ));
    }
    (!offer.contains(InitFlags::OVER_IO_URING)).then(|| {
        "the kernel does not offer it; enable it (Linux 6.14 or later: \
         echo Y > /sys/module/fuse/parameters/enable_uring)"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MIB;

    fn around() -> Surroundings {
        Surroundings {
            possible_cpus: 4,
            online_cpus: 2,
            page_size: 4096,
            max_pages_limit: 256,
            no_ring: None,
        }
    }

    #[test]
    fn auto_takes_the_ring_where_the_budget_feeds_every_queue() {
        let plan = plan(&Config::new("/x"), &around(), InitFlags::OVER_IO_URING).unwrap();
        assert_eq!((plan.transport, plan.shards, plan.depth), (TransportKind::Uring, 2, 15));
        assert_eq!(plan.max_write, MIB);
    }

    #[test]
    fn auto_falls_back_and_says_why() {
        let config = Config::new("/x");
        let refused = Surroundings { no_ring: Some("EPERM".to_owned()), ..around() };
        for (surroundings, offer, word) in [
            (around(), InitFlags::empty(), "enable_uring"),
            (refused, InitFlags::OVER_IO_URING, "EPERM"),
            (Surroundings { possible_cpus: 64, ..around() }, InitFlags::OVER_IO_URING, "budget"),
        ] {
            let plan = plan(&config, &surroundings, offer).unwrap();
            assert_eq!(plan.transport, TransportKind::Device);
            assert!(plan.why.contains(word), "{}", plan.why);
        }
    }

    #[test]
    fn the_largest_max_write_is_cut_to_the_limit() {
        let config = Config::new("/x").max_write(u64::MAX);
        assert_eq!(plan(&config, &around(), InitFlags::empty()).unwrap().max_write, MIB);
    }

    #[test]
    fn the_ring_asked_for_and_missing_is_an_error() {
        let config = Config::new("/x").transport(TransportChoice::Uring);
        assert!(matches!(plan(&config, &around(), InitFlags::empty()), Err(Error::NoUring(_))));
    }

    #[test]
    fn passthrough_goes_before_write_back_where_the_kernel_has_it() {
        let (through, back) = (InitFlags::PASSTHROUGH, InitFlags::WRITEBACK_CACHE);
        let config = Config::new("/x");
        let asked = |config: &Config, can, offer| {
            wishes(config, can, offer, TransportKind::Device) & (through | back)
        };
        assert_eq!(asked(&config, through | back, through | back), through);
        assert_eq!(asked(&config, through | back, back), through | back, "not offered");
        assert_eq!(asked(&config, back, through | back), back, "not a filesystem that can");
        let without = config.clone().passthrough(false);
        assert_eq!(asked(&without, through | back, through | back), back);
        assert_eq!(asked(&config.writeback(false), back, back), InitFlags::empty());
    }

    #[test]
    fn locks_are_asked_for_unless_they_are_not_wanted() {
        let locks = InitFlags::POSIX_LOCKS | InitFlags::FLOCK_LOCKS;
        let asked = |config: &Config| wishes(config, locks, locks, TransportKind::Device) & locks;
        assert_eq!(asked(&Config::new("/x")), locks);
        assert_eq!(asked(&Config::new("/x").locks(false)), InitFlags::empty());
    }

    #[test]
    fn the_budget_is_kept() {
        for budget in [2 * MIB, 3 * MIB, 16 * MIB, 100 * MIB] {
            for transport in
                [TransportChoice::Uring, TransportChoice::Device, TransportChoice::Auto]
            {
                let config = Config::new("/x").transport(transport).memory_budget(budget);
                let Ok(plan) = plan(&config, &around(), InitFlags::OVER_IO_URING) else { continue };
                let slots = match plan.transport {
                    TransportKind::Uring => 4 * plan.depth + plan.lane_slots,
                    TransportKind::Device => plan.shards * plan.depth,
                };
                assert!(slots as u64 * (plan.payload_len + 4096) <= budget, "{plan:?}");
            }
        }
    }

    #[test]
    fn a_budget_below_one_slot_names_the_least() {
        let config = Config::new("/x").memory_budget(MIB);
        let Err(Error::Config(text)) = plan(&config, &around(), InitFlags::empty()) else {
            panic!("a slot takes more than 1 MiB");
        };
        assert!(text.contains("1056768"), "{text}");
    }
}
