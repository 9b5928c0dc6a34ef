//! Reads and writes of one file on a ring: closed loop (the next request once one has ended) or
//! open loop (requests come by the clock).
//!
//! In an open loop the latency of a request counts from when it was due, also where all slots were
//! busy then: a client that waits for a slow answer does not hide that others would have waited
//! with it (coordinated omission).

use std::fs::File;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Fence, Outcome, failed, histogram, quantiles, record, stream};
use crate::Failure;
use crate::pattern::{self, PAGE, Seed};
use crate::sys::{Lane, Operation};

/// Requests of one file that is there and holds the pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its name.
    pub file: String,
    /// Its bytes.
    pub size: u64,
    /// Bytes of a request: the least and the most, multiples of a page.
    pub block: (u32, u32),
    /// At places by chance, or one after the other.
    pub random: bool,
    /// How many of a hundred requests write.
    pub writes: u8,
    /// Requests of a client in flight.
    pub depth: usize,
    /// Clients: threads with a ring, an open file and, where it is not random, a region each.
    pub clients: usize,
    /// Past the page cache.
    pub direct: bool,
    /// An fdatasync(2) after so many requests.
    pub sync_every: Option<u32>,
    /// Requests per second of all clients together: an open loop.
    pub rate: Option<u32>,
    /// How long.
    pub milliseconds: u64,
    /// Who writes, in this round; pages may also be of those before.
    pub seed: u64,
    /// Whether the file holds nothing: a hole, of which zeros are to come.
    pub hole: bool,
}

/// A generator of numbers by chance, the same for all contenders (xorshift64*).
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }
}

/// What one client has done.
struct Done {
    operations: u64,
    bytes: u64,
    seconds: f64,
    latency: Histogram<u64>,
    /// Pages that were written.
    written: Vec<u64>,
}

impl Transfer {
    pub(super) fn run(&self, directory: &Path, fence: &mut dyn Fence) -> Result<(), Failure> {
        let path = directory.join(&self.file);
        let open = || -> Result<File, Failure> {
            stream::open(&path, self.writes > 0, self.direct).map_err(failed("open"))
        };
        let files: Vec<File> = (0..self.clients).map(|_| open()).collect::<Result<_, _>>()?;
        if self.direct {
            // Left there by who made the file, and dropped for some contenders once its times have
            // changed (FUSE_AUTO_INVAL_DATA): each write would have to drop a page of it, on a
            // thread of the kernel's, and which of them are left would decide.
            files.first().map_or(Ok(()), stream::drop_pages)?;
        }
        fence.ready()?;
        let barrier = Barrier::new(self.clients);
        let done: Vec<Result<Done, Failure>> = std::thread::scope(|scope| {
            let start = |(number, file)| {
                let barrier = &barrier;
                scope.spawn(move || Client::new(self, number, file)?.run(barrier))
            };
            let threads: Vec<_> = files.into_iter().enumerate().map(start).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err("a client panicked".to_owned()))
            };
            threads.into_iter().map(join).collect()
        });
        let done = done.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut latency = histogram();
        for one in &done {
            latency.add(&one.latency).map_err(|e| e.to_string())?;
        }
        fence.timed(Outcome {
            operations: done.iter().map(|one| one.operations).sum(),
            bytes: done.iter().map(|one| one.bytes).sum(),
            seconds: done.iter().map(|one| one.seconds).fold(0.0, f64::max),
            latency: quantiles(&latency),
        })?;
        let written: Vec<u64> = done.into_iter().flat_map(|one| one.written).collect();
        if self.hole { Ok(()) } else { self.check(&path, &written) }
    }

    /// Compares the whole file: what was written in this round is there, all else is as before.
    fn check(&self, path: &Path, written: &[u64]) -> Result<(), Failure> {
        let pages = usize::try_from(self.size / PAGE as u64).map_err(|e| e.to_string())?;
        let mut new = vec![false; pages];
        for page in written {
            new[usize::try_from(*page).map_err(|e| e.to_string())?] = true;
        }
        let older: Vec<Seed> =
            (0..=self.seed).map(Seed).filter(|seed| *seed != self.now()).collect();
        stream::each_page(path, self.size, |page, bytes| {
            let new = usize::try_from(page).is_ok_and(|page| new[page]);
            let now = [self.now()];
            let seeds = if new { &now[..] } else { &older[..] };
            pattern::writer_of(bytes, page, seeds).map(drop)
        })
    }

    /// Who writes now; what was there first is of 0.
    fn now(&self) -> Seed {
        Seed(if self.writes > 0 { self.seed.max(1) } else { u64::MAX })
    }
}

/// One client at work.
struct Client<'t> {
    transfer: &'t Transfer,
    lane: Lane,
    chance: Chance,
    /// Where the next request goes, and the region, for those in order.
    next: u64,
    region: (u64, u64),
    seeds: Vec<Seed>,
    since_sync: u32,
    turn: usize,
    done: Done,
}

impl<'t> Client<'t> {
    fn new(transfer: &'t Transfer, number: usize, file: File) -> Result<Self, Failure> {
        let block_max = transfer.block.1 as usize;
        let mut lane = Lane::new(file, transfer.depth, block_max).map_err(failed("a ring"))?;
        if transfer.writes > 0 {
            for slot in 0..transfer.depth {
                pattern::fill(lane.buffer_mut(slot), 0, transfer.now());
            }
        }
        let share = transfer.size / transfer.clients as u64 / u64::from(transfer.block.1)
            * u64::from(transfer.block.1);
        let start = number as u64 * share;
        let seeds = (0..=transfer.seed).map(Seed).chain([transfer.now()]).collect();
        Ok(Self {
            transfer,
            lane,
            chance: Chance::new(transfer.seed * 1000 + number as u64 + 1),
            next: start,
            region: (start, start + share),
            seeds,
            since_sync: 0,
            turn: 0,
            done: Done {
                operations: 0,
                bytes: 0,
                seconds: 0.0,
                latency: histogram(),
                written: Vec::new(),
            },
        })
    }

    fn run(mut self, barrier: &Barrier) -> Result<Done, Failure> {
        barrier.wait();
        let start = Instant::now();
        let end = start + Duration::from_millis(self.transfer.milliseconds);
        let result = match self.transfer.rate {
            None => self.closed(end),
            Some(rate) => {
                let clients = u32::try_from(self.transfer.clients).unwrap_or(u32::MAX);
                let rate = rate / clients;
                self.open(start, end, Duration::from_secs(1) / rate.max(1))
            }
        };
        result?;
        self.done.seconds = start.elapsed().as_secs_f64();
        Ok(self.done)
    }

    fn closed(&mut self, end: Instant) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            if now >= end && self.lane.in_flight() == 0 {
                return Ok(());
            }
            while now < end
                && let Some(slot) = self.lane.idle()
            {
                self.start(slot, Instant::now());
            }
            self.lane.wait(None).map_err(failed("the ring"))?;
            self.reap()?;
        }
    }

    fn open(&mut self, start: Instant, end: Instant, every: Duration) -> Result<(), Failure> {
        // A timer that is late would be taken for the daemon's latency.
        let _ = nix::sys::prctl::set_timerslack(1);
        let mut due = start;
        loop {
            let now = Instant::now();
            while due <= now
                && due < end
                && let Some(slot) = self.lane.idle()
            {
                self.start(slot, due);
                due += every;
            }
            if due >= end && self.lane.in_flight() == 0 {
                return Ok(());
            }
            // With all slots busy, or nothing more to come, only an end can change anything.
            let wait = (due < end && self.lane.idle().is_some())
                .then(|| due.saturating_duration_since(Instant::now()));
            if wait != Some(Duration::ZERO) {
                self.lane.wait(wait).map_err(failed("the ring"))?;
            }
            self.reap()?;
        }
    }

    fn start(&mut self, slot: usize, since: Instant) {
        let transfer = self.transfer;
        if transfer.sync_every.is_some_and(|every| self.since_sync >= every) {
            self.since_sync = 0;
            self.lane.start(slot, Operation::Sync, since);
            return;
        }
        self.since_sync += 1;
        let (least, most) = (u64::from(transfer.block.0), u64::from(transfer.block.1));
        let steps = (most - least) / PAGE as u64 + 1;
        let len = least + self.chance.below(steps) * PAGE as u64;
        let offset = if transfer.random {
            // As a disk has it: requests of one size lie at multiples of it.
            let unit = if least == most { len } else { PAGE as u64 };
            self.chance.below((transfer.size - len) / unit + 1) * unit
        } else {
            let offset = self.next;
            self.next += len;
            if self.next >= self.region.1 {
                self.next = self.region.0;
            }
            offset
        };
        let writes = self.chance.below(100) < u64::from(transfer.writes);
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if writes {
            if transfer.writes < 100 {
                // A read may have been here before.
                let bytes = &mut self.lane.buffer_mut(slot)[..len as usize];
                pattern::fill(bytes, offset, transfer.now());
            } else {
                let bytes = &mut self.lane.buffer_mut(slot)[..len as usize];
                pattern::stamp(bytes, offset, transfer.now());
            }
            let pages = u64::from(len).div_ceil(PAGE as u64);
            let first = offset / PAGE as u64;
            self.done.written.extend(first..first + pages);
            self.lane.start(slot, Operation::Write(offset, len), since);
        } else {
            self.lane.start(slot, Operation::Read(offset, len), since);
        }
    }

    fn reap(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.lane.take() {
            let moved = ended.result.map_err(failed(&format!("{:?}", ended.operation)))?;
            record(&mut self.done.latency, ended.since);
            self.done.operations += 1;
            self.done.bytes += u64::from(moved);
            let (Operation::Read(offset, len) | Operation::Write(offset, len)) = ended.operation
            else {
                continue;
            };
            if moved != len {
                return Err(format!("{:?} moved {moved} bytes", ended.operation));
            }
            if matches!(ended.operation, Operation::Read(..)) {
                self.turn += 1;
                let bytes = &self.lane.buffer(ended.slot)[..len as usize];
                if self.transfer.hole {
                    let place = self.turn % bytes.len();
                    if bytes[0] != 0 || bytes[place] != 0 {
                        return Err(format!("a hole at {offset} shows data"));
                    }
                } else {
                    pattern::glance(bytes, offset, &self.seeds, self.turn)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::super::{Fill, Load};
    use super::*;
    use std::os::unix::fs::FileExt;

    const SIZE: u64 = 2 << 20;

    fn transfer() -> Transfer {
        Transfer {
            file: "data".to_owned(),
            size: SIZE,
            block: (4096, 4096),
            random: true,
            writes: 0,
            depth: 4,
            clients: 1,
            direct: false,
            sync_every: None,
            rate: None,
            milliseconds: 20,
            seed: 1,
            hole: false,
        }
    }

    fn with_file(load: &Transfer, spoil: impl FnOnce(&File)) -> Result<Outcome, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let fill = Fill { file: "data".to_owned(), size: SIZE, seed: 0 };
        run(&Load::Fill(fill), directory.path()).unwrap();
        spoil(&File::options().write(true).open(directory.path().join("data")).unwrap());
        run(&Load::Transfer(load.clone()), directory.path())
    }

    #[test]
    fn reads_and_writes_of_every_kind_are_right() {
        let mut mixed = transfer();
        (mixed.writes, mixed.block, mixed.sync_every) = (50, (4096, 65536), Some(8));
        let mut big = transfer();
        (big.writes, big.block, big.random, big.clients) = (100, (1 << 19, 1 << 19), false, 2);
        for load in [transfer(), mixed, big] {
            let outcome = with_file(&load, |_| {}).unwrap();
            assert!(outcome.operations > 0, "{load:?}: {outcome:?}");
            let most = outcome.operations * u64::from(load.block.1);
            assert!(outcome.bytes > 0 && outcome.bytes <= most, "{load:?}: {outcome:?}");
            assert_eq!(outcome.latency.len(), super::super::QUANTILES.len());
        }
    }

    #[test]
    fn one_wrong_byte_in_the_middle_of_a_page_is_noticed() {
        let why = with_file(&transfer(), |file| file.write_all_at(b"x", SIZE - 2000).unwrap());
        assert!(why.unwrap_err().contains("wrong data"));
    }

    #[test]
    fn a_file_that_is_too_short_is_noticed() {
        let why = with_file(&transfer(), |file| file.set_len(SIZE / 2).unwrap()).unwrap_err();
        // By a request beyond its end or, had there been none, by the look at all of it.
        assert!(why.contains("moved 0 bytes") || why.contains("0 of 1048576 bytes"), "{why}");
    }

    #[test]
    fn lost_writes_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let fill = Fill { file: "data".to_owned(), size: SIZE, seed: 0 };
        run(&Load::Fill(fill), directory.path()).unwrap();
        let mut load = transfer();
        load.writes = 100;
        let check = |written: &[u64]| load.check(&directory.path().join("data"), written);
        assert_eq!(check(&[]), Ok(()));
        assert!(check(&[3]).unwrap_err().contains("offset 12288"));
    }

    #[test]
    fn a_hole_is_to_be_empty() {
        let mut load = transfer();
        load.hole = true;
        assert!(with_file(&load, |_| {}).unwrap_err().contains("a hole"));
    }

    #[test]
    fn an_open_loop_keeps_its_rate() {
        let mut load = transfer();
        (load.rate, load.milliseconds) = (Some(1000), 100);
        let outcome = with_file(&load, |_| {}).unwrap();
        assert_eq!(outcome.operations, 100);
    }

    #[test]
    fn chance_stays_below_and_repeats() {
        let numbers = || {
            let mut chance = Chance::new(7);
            (0..1000).map(|_| chance.below(10)).collect::<Vec<_>>()
        };
        assert!(numbers().iter().all(|number| *number < 10));
        assert!((0..10).all(|wanted| numbers().contains(&wanted)));
        assert_eq!(numbers(), numbers());
    }
}
