//! Counters: per opcode and per shard, one writer each, read from anywhere.
//!
//! A shard is the only writer of its counters, so an increment is a load and a store without a
//! lock prefix. A reader sums the shards and may see a moment that never was, by one request.
//!
//! Never known here: who reads them. Neighbours: `shard` counts, `session` sums, `cli` prints.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fusewire_proto::Opcode;

/// Latencies are counted in classes of powers of two nanoseconds.
const CLASSES: usize = 40;

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn raise_to(&self, value: u64) {
        if value > self.get() {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct PerOpcode {
    requests: Counter,
    bytes: Counter,
    errors: Counter,
    nanoseconds: Counter,
    slowest: Counter,
    classes: [Counter; CLASSES],
}

impl Default for PerOpcode {
    fn default() -> Self {
        Self {
            requests: Counter::default(),
            bytes: Counter::default(),
            errors: Counter::default(),
            nanoseconds: Counter::default(),
            slowest: Counter::default(),
            classes: array::from_fn(|_| Counter::default()),
        }
    }
}

/// The counters of one shard.
#[derive(Debug)]
pub(crate) struct ShardStats {
    opcodes: [PerOpcode; Opcode::COUNT],
    /// Handlers that panicked; their callers got EIO.
    pub(crate) panics: Counter,
    /// Messages that could not be decoded.
    pub(crate) malformed: Counter,
    /// Opcodes beyond the protocol that is known here.
    pub(crate) unknown: Counter,
    /// Answers that the kernel no longer wanted.
    pub(crate) undelivered: Counter,
    /// Answers that the kernel refuses for what they say; debug builds only.
    pub(crate) refused: Counter,
    /// System calls that submitted or waited.
    pub(crate) enters: Counter,
    /// Waits of shards that something came for while they were awake.
    pub(crate) busy_polled: Counter,
    /// Requests that came over `/dev/fuse`.
    pub(crate) by_device: Counter,
    /// Requests that came over FUSE-over-io_uring.
    pub(crate) by_uring: Counter,
}

impl Default for ShardStats {
    fn default() -> Self {
        Self {
            opcodes: array::from_fn(|_| PerOpcode::default()),
            panics: Counter::default(),
            malformed: Counter::default(),
            unknown: Counter::default(),
            undelivered: Counter::default(),
            refused: Counter::default(),
            enters: Counter::default(),
            busy_polled: Counter::default(),
            by_device: Counter::default(),
            by_uring: Counter::default(),
        }
    }
}

impl ShardStats {
    /// Counts one request that was served: bulk bytes in or out, whether it failed, how long.
    pub(crate) fn served(&self, opcode: Opcode, bytes: u64, failed: bool, took: Duration) {
        let Some(counters) = self.opcodes.get(opcode.index()) else { return };
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counters.requests.add(1);
        counters.bytes.add(bytes);
        counters.errors.add(u64::from(failed));
        counters.nanoseconds.add(nanoseconds);
        counters.slowest.raise_to(nanoseconds);
        let class = (u64::BITS - nanoseconds.leading_zeros()) as usize;
        counters.classes[class.min(CLASSES - 1)].add(1);
    }
}

/// What was served under one opcode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpcodeStats {
    /// Requests that were answered, or were never to be answered.
    pub requests: u64,
    /// Bulk bytes: data of WRITE and SETXATTR, data and entries of answers.
    pub bytes: u64,
    /// Answers that were errors; a LOOKUP of a missing name is one.
    pub errors: u64,
    /// Mean time from seeing the request to making the answer.
    pub latency_mean: Duration,
    /// Upper bound of the class that the median is in; classes are powers of two.
    pub latency_p50: Duration,
    /// The same for the 99th percentile.
    pub latency_p99: Duration,
    /// The longest time.
    pub latency_max: Duration,
}

/// Sums over all shards at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Opcodes that were served at least once, by name.
    pub opcodes: Vec<(&'static str, OpcodeStats)>,
    /// Handlers that panicked; their callers got EIO.
    pub panics: u64,
    /// Messages that could not be decoded.
    pub malformed: u64,
    /// Opcodes beyond the protocol that is known here; answered ENOSYS.
    pub unknown: u64,
    /// Answers that the kernel no longer wanted.
    pub undelivered: u64,
    /// Answers that the kernel refuses for what they say: mistakes of the filesystem, which the
    /// log names. Counted by debug builds only.
    pub refused: u64,
    /// System calls of the shards that submitted or waited: io_uring_enter(2) and poll(2), without
    /// the looks of a shard that stays awake.
    pub enters: u64,
    /// Waits for requests that ended before the shard slept ([`crate::Config::busy_poll`]).
    pub busy_polled: u64,
    /// Requests that came over `/dev/fuse`.
    pub by_device: u64,
    /// Requests that came over FUSE-over-io_uring.
    pub by_uring: u64,
}

impl Stats {
    pub(crate) fn sum<'a>(shards: impl Iterator<Item = &'a ShardStats> + Clone) -> Self {
        let total = |counter: fn(&ShardStats) -> &Counter| -> u64 {
            shards.clone().map(|shard| counter(shard).get()).sum()
        };
        let opcodes = Opcode::ALL.iter().filter_map(|opcode| {
            let counters = shards.clone().filter_map(|shard| shard.opcodes.get(opcode.index()));
            let sum = summed(counters);
            (sum.requests > 0).then_some((opcode.name(), sum))
        });
        Self {
            opcodes: opcodes.collect(),
            panics: total(|shard| &shard.panics),
            malformed: total(|shard| &shard.malformed),
            unknown: total(|shard| &shard.unknown),
            undelivered: total(|shard| &shard.undelivered),
            refused: total(|shard| &shard.refused),
            enters: total(|shard| &shard.enters),
            busy_polled: total(|shard| &shard.busy_polled),
            by_device: total(|shard| &shard.by_device),
            by_uring: total(|shard| &shard.by_uring),
        }
    }

    /// Requests under all opcodes.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.opcodes.iter().map(|(_, one)| one.requests).sum()
    }
}

fn summed<'a>(shards: impl Iterator<Item = &'a PerOpcode>) -> OpcodeStats {
    let mut sum = OpcodeStats::default();
    let mut nanoseconds = 0_u64;
    let mut slowest = 0;
    let mut classes = [0_u64; CLASSES];
    for one in shards {
        sum.requests += one.requests.get();
        sum.bytes += one.bytes.get();
        sum.errors += one.errors.get();
        nanoseconds += one.nanoseconds.get();
        slowest = one.slowest.get().max(slowest);
        for (class, counter) in classes.iter_mut().zip(&one.classes) {
            *class += counter.get();
        }
    }
    sum.latency_max = Duration::from_nanos(slowest);
    sum.latency_mean = Duration::from_nanos(nanoseconds.checked_div(sum.requests).unwrap_or(0));
    sum.latency_p50 = percentile(&classes, 50).min(sum.latency_max);
    sum.latency_p99 = percentile(&classes, 99).min(sum.latency_max);
    sum
}

fn percentile(classes: &[u64; CLASSES], percent: u64) -> Duration {
    let total: u64 = classes.iter().sum();
    let rank = (total * percent).div_ceil(100);
    let mut seen = 0;
    for (class, count) in classes.iter().enumerate() {
        seen += count;
        if seen >= rank {
            return Duration::from_nanos(1_u64 << class);
        }
    }
    Duration::ZERO
}

/// Whether the length of an answer tells how much was done.
pub(crate) fn is_bulk(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::Read
            | Opcode::ReadDir
            | Opcode::ReadDirPlus
            | Opcode::ReadLink
            | Opcode::GetXattr
            | Opcode::ListXattr
            | Opcode::IoCtl
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed() {
        let (one, two) = (ShardStats::default(), ShardStats::default());
        one.served(Opcode::Write, 100, false, Duration::from_nanos(10));
        two.served(Opcode::Write, 50, true, Duration::from_nanos(1000));
        two.panics.add(2);
        let stats = Stats::sum([&one, &two].into_iter());
        let (name, write) = stats.opcodes[0];
        assert_eq!(name, "WRITE");
        assert_eq!((write.requests, write.bytes, write.errors), (2, 150, 1));
        assert_eq!(write.latency_max, Duration::from_nanos(1000));
        assert_eq!(write.latency_mean, Duration::from_nanos(505));
        assert_eq!(write.latency_p50, Duration::from_nanos(16));
        assert_eq!((stats.panics, stats.requests()), (2, 2));
    }
}
