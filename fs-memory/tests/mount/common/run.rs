//! Runs the body of a test on every kind of place, each in a process of its own.
//!
//! `cases!` makes a test of each body and kind. The test starts what the kind needs, runs this
//! binary again for the body alone, and ends a body that takes too long by aborting its mount.
//!
//! Neighbours: `daemon` and `client` do the work; the files of tests list their bodies.

use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;
use tempfile::TempDir;

use super::client::Client;
use super::daemon::{Daemon, Setup, Transport, open_to_all};
use super::place::{Place, VARIABLE};
use super::system;

/// What a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory on tmpfs: the bar.
    Native,
    /// FUSE-over-io_uring, write-back on.
    Uring,
    /// `/dev/fuse`, write-back on.
    Device,
    /// FUSE-over-io_uring, write-back off.
    UringThrough,
    /// `/dev/fuse`, write-back off.
    DeviceThrough,
    /// FUSE-over-io_uring, and the kernel serves the data itself.
    #[allow(dead_code, reason = "made where `kernel_cases` makes any")]
    UringKernel,
    /// `/dev/fuse`, and the kernel serves the data itself.
    #[allow(dead_code, reason = "made where `kernel_cases` makes any")]
    DeviceKernel,
}

impl Kind {
    /// How to start the daemon; `None` where there is none.
    pub(crate) fn setup(self) -> Option<Setup> {
        let setup = |transport, writeback| Some(Setup { writeback, ..Setup::new(transport) });
        let kernel = |transport| setup(transport, false).map(|it| it.with(&["--io", "kernel"]));
        match self {
            Self::Native => None,
            Self::Uring => setup(Transport::Uring, true),
            Self::Device => setup(Transport::Device, true),
            Self::UringThrough => setup(Transport::Uring, false),
            Self::DeviceThrough => setup(Transport::Device, false),
            Self::UringKernel => kernel(Transport::Uring),
            Self::DeviceKernel => kernel(Transport::Device),
        }
    }
}

/// What a case needs beyond a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    options: &'static [&'static str],
    limit: Duration,
    beside: Option<bool>,
    on_disk: bool,
}

impl Plan {
    /// A minute, and the daemon's defaults.
    pub(crate) const fn new() -> Self {
        Self { options: &[], limit: Duration::from_secs(60), beside: None, on_disk: false }
    }

    /// More words on the daemon's command line.
    pub(crate) const fn options(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    /// More time.
    pub(crate) const fn seconds(self, seconds: u64) -> Self {
        Self { limit: Duration::from_secs(seconds), ..self }
    }

    /// With what belongs to the daemon on a disk, instead of where `work` of the tests' root says.
    #[allow(dead_code, reason = "for daemons that keep their data elsewhere than in memory")]
    pub(crate) const fn on_disk(self) -> Self {
        Self { on_disk: true, ..self }
    }

    /// A second mount on the same transport, with write-back on or off.
    pub(crate) const fn beside(self, writeback: bool) -> Self {
        Self { beside: Some(writeback), ..self }
    }
}

/// Runs a body on one kind of place; in the process of a body, runs just that.
pub(crate) fn run(module: &str, function: &str, plan: Plan, kind: Kind, body: fn(&Place)) {
    if let Some(place) = Place::handed_over() {
        umask(Mode::from_raw_mode(0o022));
        body(&place);
        super::client::tell("done");
        return;
    }
    let (_, module) = module.split_once("::").expect("a module below the root");
    let test = format!("{module}::{function}");
    let setup = kind.setup();
    let why = setup.as_ref().map_or_else(system::why_no_test, |setup| why_not(setup.transport));
    if let Some(why) = why {
        return system::skipped(&test, &why);
    }
    let Some(setup) = setup else {
        return on_tmpfs(&test, plan, body_directory());
    };
    on_mount(&test, plan, &Setup { on_disk: plan.on_disk, ..setup.with(plan.options) });
}

/// Why a transport cannot be had on this machine.
pub(crate) fn why_not(transport: Transport) -> Option<String> {
    let uring = || (transport == Transport::Uring).then(system::why_no_uring).flatten();
    system::why_no_mount().or_else(uring)
}

/// A new directory on tmpfs where there is one.
pub(crate) fn body_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    open_to_all(tempfile::Builder::new().prefix("fusewire-test-").tempdir_in(base))
}

fn on_tmpfs(test: &str, plan: Plan, directory: TempDir) {
    let errors = tempfile::NamedTempFile::new().expect("a file for errors");
    let place = Place::plain(directory.path()).to_string();
    let mut client = Client::start(test, VARIABLE, &place, errors.path());
    let result = outcome(&mut client, test, plan.limit);
    result.unwrap_or_else(|why| panic!("on tmpfs: {why}"));
}

fn on_mount(test: &str, plan: Plan, setup: &Setup) {
    let mut daemon = Daemon::start(setup);
    let second = |writeback| Daemon::start(&Setup { writeback, ..setup.clone() });
    let mut beside = plan.beside.map(second);
    let mut place = Place::mounted(&daemon);
    if let Some(beside) = &beside {
        place["beside"] = Place::mounted(beside);
    }
    let errors = daemon.work().join("body-errors");
    let mut client = Client::start(test, VARIABLE, &place.to_string(), &errors);
    let result = outcome(&mut client, test, plan.limit);
    if result.is_err() {
        // The body may hang in the kernel, and dies only when its request is answered.
        daemon.abort();
        beside.iter().for_each(Daemon::abort);
    }
    client.kill();
    result.unwrap_or_else(|why| panic!("{why}\nthe daemon said: {}", daemon.messages()));
    daemon.umount();
    if let Some(beside) = &mut beside {
        beside.umount();
    }
}

/// Waits for a body; prints its figures.
fn outcome(client: &mut Client, test: &str, limit: Duration) -> Result<(), String> {
    let status = client.wait(limit).ok_or_else(|| format!("TIMEOUT after {limit:?}"));
    let status = status.map_err(|why| format!("{why}: {}", client.errors()))?;
    let mut done = false;
    for line in client.rest() {
        done |= line == "> done";
        if let Some(figure) = line.strip_prefix("> figure: ") {
            println!("figure: {test}: {figure}");
        } else if let Some(why) = line.strip_prefix("> skipped: ") {
            system::say(&format!("SKIPPED a part of {test}: {why}"));
        }
    }
    if status.success() && done {
        return Ok(());
    }
    Err(format!("the body ended with {status}, done: {done}\n{}", client.errors()))
}

/// Runs a test that drives daemons itself, where its transport can be had.
pub(crate) fn drill(module: &str, transport: Transport, body: fn(Transport)) {
    match why_not(transport) {
        Some(why) => system::skipped(&format!("{module}::{}", transport.name()), &why),
        None => body(transport),
    }
}

/// Makes a module per function that drives daemons itself, with a test per transport.
macro_rules! drills {
    ($($name:ident),+ $(,)?) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn uring() {
                    $crate::common::drill(module_path!(), Transport::Uring, $name);
                }

                #[test]
                fn device() {
                    $crate::common::drill(module_path!(), Transport::Device, $name);
                }
            }
        )+
    };
}
pub(crate) use drills;

/// Makes a module per body, with a test per kind of place.
///
/// `everywhere` is tmpfs and all mounts, `mounts` all mounts, `writeback` the mounts that have
/// it on, `through` those that have it off, `served` all but those where the kernel serves data
/// itself, `kernel` those alone, `served_through` what is in both of `served` and `through`,
/// `device` those over `/dev/fuse`; an optional plan comes before the names. Where the kernel
/// serves data there are cases only if `kernel_cases` of the root of the tests makes them.
macro_rules! cases {
    (everywhere $($rest:tt)*) => {
        $crate::common::cases!(@plan [native: Native, uring: Uring, device: Device,
            uring_through: UringThrough, device_through: DeviceThrough;
            uring_kernel: UringKernel, device_kernel: DeviceKernel] $($rest)*);
    };
    (mounts $($rest:tt)*) => {
        $crate::common::cases!(@plan [uring: Uring, device: Device,
            uring_through: UringThrough, device_through: DeviceThrough;
            uring_kernel: UringKernel, device_kernel: DeviceKernel] $($rest)*);
    };
    (served $($rest:tt)*) => {
        $crate::common::cases!(@plan [uring: Uring, device: Device,
            uring_through: UringThrough, device_through: DeviceThrough;] $($rest)*);
    };
    (writeback $($rest:tt)*) => {
        $crate::common::cases!(@plan [uring: Uring, device: Device;] $($rest)*);
    };
    (through $($rest:tt)*) => {
        $crate::common::cases!(@plan
            [uring_through: UringThrough, device_through: DeviceThrough;
            uring_kernel: UringKernel, device_kernel: DeviceKernel] $($rest)*);
    };
    (served_through $($rest:tt)*) => {
        $crate::common::cases!(@plan
            [uring_through: UringThrough, device_through: DeviceThrough;] $($rest)*);
    };
    (kernel $($rest:tt)*) => {
        $crate::common::cases!(@plan
            [; uring_kernel: UringKernel, device_kernel: DeviceKernel] $($rest)*);
    };
    (device $($rest:tt)*) => {
        $crate::common::cases!(@plan [device: Device, device_through: DeviceThrough;
            device_kernel: DeviceKernel] $($rest)*);
    };
    (@plan $kinds:tt, $plan:expr; $($name:ident),+ $(,)?) => {
        $( $crate::common::cases!(@case $kinds $plan, $name); )+
    };
    (@plan $kinds:tt; $($name:ident),+ $(,)?) => {
        $( $crate::common::cases!(@case $kinds $crate::common::Plan::new(), $name); )+
    };
    (@case [$($test:ident: $kind:ident),*; $($more:ident: $kernel:ident),*]
        $plan:expr, $name:ident) => {
        mod $name {
            use super::*;
            $( $crate::common::cases!(@test $test $kind $plan, $name); )*
            $crate::kernel_cases! {
                $( $crate::common::cases!(@test $more $kernel $plan, $name); )*
            }
        }
    };
    (@test $test:ident $kind:ident $plan:expr, $name:ident) => {
        #[test]
        fn $test() {
            let kind = $crate::common::Kind::$kind;
            $crate::common::run(module_path!(), stringify!($test), $plan, kind, $name);
        }
    };
}
pub(crate) use cases;
