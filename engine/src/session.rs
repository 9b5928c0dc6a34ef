//! A session: one mount, from opening the device to the last shard's end.
//!
//! Order of a start: mount (not yet visible, where the kernel has `fsmount`), INIT, shards, every
//! entry registered, and only then the mount appears: whoever sees it is served.
//!
//! Never known here: requests but INIT. Neighbours: `mount`, `plan`, `crew`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use fusewire_proto::abi::OutHeader;
use fusewire_proto::flags::InitFlags;
use fusewire_proto::negotiate::{Agreement, Limits, Offer, Wishes, negotiate};
use fusewire_proto::request::split;
use fusewire_proto::{Operation, frame};
use nix::errno::Errno as SystemError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{SysconfVar, sysconf};

use crate::config::Config;
use crate::crew::{Crew, Refusal, Terms, withdraw_entries};
use crate::dispatch::Serve;
use crate::error::{Error, Result, start};
use crate::filesystem::Filesystem;
use crate::mount::{self, Mount};
use crate::notify::Notifier;
use crate::plan::{self, Plan, Surroundings, TransportKind, plan};
use crate::service::Service;
use crate::stats::Stats;
use crate::sys::device;
use crate::sys::guard::Guard;
use crate::sys::ring::Ring;
use crate::thread;
use crate::transport::End;

/// How long a busy mount's dirty pages may take when a signal ends the session.
const SYNC_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may take to end after its mount was taken away, or a shard ended.
const END_LIMIT: Duration = Duration::from_secs(2);
/// The kernel wants room for this much before it knows `max_write`.
const INIT_BUFFER: usize = 8192 + 4096;

/// A mount that is served.
#[derive(Debug)]
pub struct Session {
    // Dropped in this order: the shards are gone before the mount is taken away by force.
    crew: Option<Crew>,
    mount: Mount,
    /// Until the session begins to end.
    connection: Option<Arc<OwnedFd>>,
    notifier: Notifier,
    terms: Terms,
    signals: Option<Signals>,
    wants_guard: bool,
    /// Until all else has ended.
    guard: Option<Guard>,
}

/// Signals that are blocked and come by a descriptor instead.
#[derive(Debug)]
struct Signals {
    come: SignalFd,
    before: SigSet,
    thread: ThreadId,
}

/// What woke a session that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGUSR1: whoever runs the session may report.
    Report,
    /// SIGINT, SIGTERM or SIGHUP: the session is going to end.
    Terminate,
}

impl Session {
    /// Mounts and serves a filesystem, of which `make` makes one instance per shard.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left mounted then.
    pub fn mount<F: Filesystem>(
        config: Config,
        make: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::serve(config, F::WISHES, move |shard| Serve(make(shard)))
    }

    /// The same for any [`Service`], with the INIT flags that it can honour.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left mounted then.
    pub fn serve<S: Service>(
        config: Config,
        wishes: InitFlags,
        make: impl Fn(usize) -> S + Send + Sync + 'static,
    ) -> Result<Self> {
        let signals = if config.signals { Some(Signals::catch()?) } else { None };
        let around = look_around();
        // A plan that cannot work is refused before anything is mounted.
        plan(&config, &around, InitFlags::all())?;
        let (connection, mut mount) = mount::open(&config)?;
        let mut terms = handshake(&config, &around, &connection, wishes)?;
        let make: Arc<dyn Fn(usize) -> S + Send + Sync> = Arc::new(make);
        let connection = Arc::new(connection);
        let notifier = Notifier::new(&connection);
        let crew = match Crew::start(&terms, connection.as_fd(), &notifier, &make) {
            Err(Refusal::Entries(error)) if terms.plan.transport == TransportKind::Uring => {
                fall_back(&config, &around, &mut terms, &connection, &error)?;
                Crew::start(&terms, connection.as_fd(), &notifier, &make)
            }
            other => other,
        };
        let crew = crew.map_err(|refusal| match refusal {
            Refusal::Entries(error) => start("the transport", error),
            Refusal::Fatal(error) => error,
        })?;
        mount.attach()?;
        mount.set_read_ahead(config.read_ahead);
        let (crew, connection) = (Some(crew), Some(connection));
        let (wants_guard, guard) = (config.guard, None);
        Ok(Self { crew, mount, connection, notifier, terms, signals, wants_guard, guard })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        self.mount.path()
    }

    /// Number of the connection's directory under /sys/fs/fuse/connections.
    #[must_use]
    pub fn connection(&self) -> Option<u32> {
        self.mount.connection()
    }

    /// The transport that serves, and why this one.
    #[must_use]
    pub fn transport(&self) -> (TransportKind, &str) {
        (self.terms.plan.transport, &self.terms.plan.why)
    }

    /// What was agreed at INIT.
    #[must_use]
    pub fn agreement(&self) -> &Agreement {
        &self.terms.agreement
    }

    /// Sends notifications, for as long as the session lives.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Threads that serve.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.terms.plan.shards
    }

    /// Slots of each queue, or of each shard on `/dev/fuse`.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.terms.plan.depth
    }

    /// The counters of all shards, summed.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.crew.as_ref().map(|crew| Stats::sum(crew.stats())).unwrap_or_default()
    }

    /// Serves until the mount is gone or, with [`Config::signals`], SIGINT, SIGTERM or SIGHUP
    /// comes.
    /// Returns the counters of the whole life.
    ///
    /// # Errors
    /// [`Error::Aborted`] after an abort, [`Error::Serving`] if the device or a ring failed.
    pub fn run(self) -> Result<Stats> {
        self.run_with(|_, _| ())
    }

    /// As [`Session::run`], and tells `on_event` what woke it.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with(mut self, mut on_event: impl FnMut(&Self, Event)) -> Result<Stats> {
        if self.wants_guard {
            let guard = self.mount.guard();
            let what = "a SIGKILL may leave the mount to be ended by fusectl";
            self.guard = guard.inspect_err(|error| tracing::warn!("{what}: {error}")).ok();
        }
        while let Some(event) = self.wait() {
            on_event(&self, event);
            if event == Event::Terminate {
                return self.unmount();
            }
        }
        let was_attached = self.mount.is_attached();
        if !self.ends_by_itself() {
            tracing::warn!("a shard ended and the connection did not; its users are cut off");
            self.mount.force();
            self.cut_off();
        }
        let (end, stats) = self.join();
        // Ended from outside with the mount still there: umount -f of a busy one, or an abort.
        let end = if was_attached && end == End::Unmounted { End::Aborted } else { end };
        self.mount.force();
        verdict(end, stats)
    }

    /// Ends the session: writes dirty pages back, unmounts, and cuts off who still uses files.
    ///
    /// # Errors
    /// As [`Session::run`], and [`Error::NotWritten`] where that took more than 5 s or failed.
    pub fn unmount(mut self) -> Result<Stats> {
        let mut written = Ok(());
        match self.mount.unmount() {
            // The last mount's end writes dirty pages, however long that takes.
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                written = self.write_back();
                self.mount.force();
                // fusermount3 can detach but not abort: then the shards would wait for ever.
                self.cut_off();
            }
            // Somebody else has unmounted it in between, or mounted something on it.
            Err(error) => tracing::warn!(%error, "not unmounted"),
        }
        if !self.ends_by_itself() {
            // Mounted or in use where nobody here sees it.
            tracing::warn!("the connection lives on; its users are cut off");
            written = self.write_back();
            self.mount.force();
            self.cut_off();
        }
        let (end, stats) = self.join();
        written?;
        // A forced end shows as an abort to some shards; here it was asked for.
        match end {
            End::Failed(_) => verdict(end, stats),
            End::Aborted | End::Unmounted => Ok(stats),
        }
    }

    /// Whether the connection ends within [`END_LIMIT`]: a shard may have failed alone, and another
    /// mount, say in another namespace, may live for ever.
    fn ends_by_itself(&self) -> bool {
        self.crew.as_ref().is_none_or(|crew| crew.all_end_within(END_LIMIT))
    }

    /// Ends the connection, and the shards where that cannot be done. A notification that waits
    /// for a request would otherwise keep the device open for ever.
    fn cut_off(&mut self) {
        if let Some(connection) = &self.connection
            && let Err(error) = self.mount.abort(connection)
        {
            tracing::debug!(%error, "no abort");
        }
        self.connection = None;
        if let Some(crew) = &self.crew {
            crew.stop();
        }
    }

    /// Writes dirty pages back, for as long as [`SYNC_LIMIT`]. A thread of its own waits for that:
    /// for ever if our shards are stuck.
    fn write_back(&self) -> Result<()> {
        let (identity, place) = (self.mount.identity(), self.mount.place());
        let (done, waited) = std::sync::mpsc::channel();
        let sync = move || {
            let _ = done.send(Mount::write_back(identity, place.as_deref()));
        };
        thread::spawn("fusewire-sync", sync).map_err(|error| start("a thread", error))?;
        match waited.recv_timeout(SYNC_LIMIT) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::NotWritten(error)),
            Err(_) => Err(Error::NotWritten(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }

    fn join(&mut self) -> (End, Stats) {
        let Some(crew) = self.crew.take() else { return (End::Unmounted, Stats::default()) };
        let counters: Vec<_> = crew.shared_stats();
        let end = crew.join();
        (end, Stats::sum(counters.iter().map(AsRef::as_ref)))
    }

    /// Waits for a signal, or (nothing) for the end of a shard.
    fn wait(&self) -> Option<Event> {
        let crew = self.crew.as_ref()?;
        loop {
            let mut fds = vec![PollFd::new(crew.done(), PollFlags::POLLIN)];
            if let Some(signals) = &self.signals {
                fds.push(PollFd::new(signals.come.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Err(SystemError::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "poll");
                    return None;
                }
                Ok(_) => {}
            }
            if fds[0].any() == Some(true) {
                return None;
            }
            let signal = self.signals.as_ref().and_then(Signals::next);
            match signal.map(|one| one.ssi_signo.cast_signed()) {
                Some(number) if number == Signal::SIGUSR1 as i32 => return Some(Event::Report),
                Some(_) => return Some(Event::Terminate),
                None => {}
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.mount.force();
        self.cut_off();
        if let Some(crew) = self.crew.take() {
            crew.join();
        }
    }
}

fn verdict(end: End, stats: Stats) -> Result<Stats> {
    match end {
        End::Unmounted => Ok(stats),
        End::Aborted => Err(Error::Aborted),
        End::Failed(errno) => Err(Error::Serving(io::Error::from_raw_os_error(errno))),
    }
}

impl Signals {
    /// Blocks the signals that end a session or ask for a report.
    fn catch() -> Result<Self> {
        let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        let signals = SigSet::from_iter(ends.into_iter().chain([Signal::SIGUSR1]));
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let come = SignalFd::with_flags(&signals, flags)
            .map_err(|error| start("a descriptor for signals", error.into()))?;
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut before))
            .map_err(|error| start("the signal mask", error.into()))?;
        Ok(Self { come, before, thread: std::thread::current().id() })
    }

    fn next(&self) -> Option<siginfo> {
        self.come.read_signal().ok().flatten()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // What came is ours; who runs the session has the signals back behind it.
        while self.next().is_some() {}
        if self.thread == std::thread::current().id() {
            let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
        }
    }
}

fn look_around() -> Surroundings {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let page_size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").ok();
    let online_cpus = std::thread::available_parallelism().map_or(1, Into::into);
    Surroundings {
        possible_cpus: possible.and_then(|list| count_cpus(&list)).unwrap_or(online_cpus),
        online_cpus,
        page_size: page_size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096),
        // Linux before 6.13 has no such file and a limit of 256.
        max_pages_limit: number("/proc/sys/fs/fuse/max_pages_limit").unwrap_or(256),
        no_ring: Ring::new(1).err().map(|error| error.to_string()),
    }
}

/// Counts the CPUs of a list such as `0-3,8`.
fn count_cpus(list: &str) -> Option<usize> {
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        Some(last.checked_sub(first)? + 1)
    });
    ranges.sum()
}

fn handshake(
    config: &Config,
    around: &Surroundings,
    connection: &OwnedFd,
    wishes: InitFlags,
) -> Result<Terms> {
    let failed = |text: String| Error::Handshake(text);
    let mut buffer = vec![0; INIT_BUFFER];
    let len = device::read(connection, &mut buffer)
        .map_err(|error| failed(format!("reading it from /dev/fuse: {error}; see dmesg")))?;
    let message = &buffer[..len];
    let (header, argument, payload) =
        split(message, false).map_err(|error| failed(format!("{error}; report this kernel")))?;
    let Ok(Operation::Init(init)) = Operation::decode(&header, argument, payload) else {
        return Err(failed("the kernel's first message was another one; report this".to_owned()));
    };
    let offer = Offer::from(init);
    let plan = plan(config, around, offer.flags)?;
    let flags = plan::wishes(config, wishes | plan::ENGINE_WISHES, offer.flags, plan.transport);
    if flags.contains(InitFlags::PASSTHROUGH) && !offer.flags.contains(InitFlags::PASSTHROUGH) {
        tracing::warn!(
            "no passthrough: the kernel does not offer it (it takes Linux 6.9 or later, built with \
             CONFIG_FUSE_PASSTHROUGH); all data are served here"
        );
    }
    if config.writeback && plan::gives_up_writeback(config, wishes, offer.flags) {
        tracing::warn!("write-back is off: the kernel does not combine it with passthrough");
    }
    let wishes = Wishes {
        flags,
        max_write: u32::try_from(plan.max_write).unwrap_or(u32::MAX),
        max_readahead: config.read_ahead,
        max_background: config.max_background,
        default_permissions: config.default_permissions,
        ..Wishes::default()
    };
    let page_size = u32::try_from(around.page_size).unwrap_or(4096);
    let limits = Limits { page_size, max_pages_limit: around.max_pages_limit };
    let agreement = negotiate(&offer, &wishes, &limits)
        .map_err(|error| failed(format!("{error}; this engine needs Linux 5.4 or later")))?;
    for reason in agreement.reasons() {
        tracing::debug!("INIT: {reason}");
    }
    let mut reply = [0; 16 + 64];
    let body_len = agreement
        .encode(&mut reply[16..])
        .map_err(|error| failed(format!("{error}; this is a fault of the engine")))?;
    frame::put_out_header(&mut reply, &OutHeader::new(header.unique, Ok(()), body_len));
    device::write(connection, &reply[..16 + body_len])
        .map_err(|error| failed(format!("answering it: {error}; see dmesg")))?;
    Ok(Terms {
        plan,
        agreement,
        possible_cpus: around.possible_cpus,
        page_size: usize::try_from(around.page_size).unwrap_or(4096),
        has_rings: around.no_ring.is_none(),
    })
}

/// Serves the same connection over `/dev/fuse`, or says why that is no choice.
fn fall_back(
    config: &Config,
    around: &Surroundings,
    terms: &mut Terms,
    connection: &OwnedFd,
    error: &io::Error,
) -> Result<()> {
    let why = format!("the kernel refused an entry: {error}");
    if config.transport == crate::config::TransportChoice::Uring {
        return Err(Error::NoUring(why));
    }
    tracing::warn!("{why}; going on over /dev/fuse");
    withdraw_entries(connection.as_fd(), terms.page_size)
        .map_err(|error| start("the way back to /dev/fuse", error))?;
    let plan: Plan = plan(config, around, InitFlags::empty())?;
    terms.plan = Plan { why, ..plan };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(count_cpus("0-1\n"), Some(2));
        assert_eq!(count_cpus("0,2-3,8"), Some(4));
        assert_eq!(count_cpus("3-1"), None);
        assert_eq!(count_cpus(""), None);
    }
}
