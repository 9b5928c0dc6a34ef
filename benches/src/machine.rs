//! The machine: what stands beside every result, and what must be there before anything runs.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// Where a run was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many CPUs we may use.
    pub cpus: usize,
    /// MiB of memory.
    pub memory_mib: u64,
    /// `uname -r`.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// `fs.fuse.max_pages_limit`.
    pub max_pages_limit: String,
    /// Whether FUSE-over-io_uring is switched on.
    pub uring: bool,
    /// The load average of the last minute when the run began: others were here, if it is high.
    pub load: String,
    /// The version of fusewire.
    pub version: String,
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(text: &str, name: &str, separator: char) -> String {
    let line = |line: &str| {
        let (field, value) = line.split_once(separator)?;
        (field.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    };
    text.lines().find_map(line).unwrap_or_default()
}

/// Whether the kernel offers FUSE-over-io_uring.
#[must_use]
pub fn has_uring() -> bool {
    matches!(text("/sys/module/fuse/parameters/enable_uring").as_str(), "Y" | "1")
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let memory = field(&text("/proc/meminfo"), "MemTotal", ':');
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Self {
            cpu: field(&text("/proc/cpuinfo"), "model name", ':'),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib / 1024,
            kernel: text("/proc/sys/kernel/osrelease"),
            system: field(&text("/etc/os-release"), "PRETTY_NAME", '='),
            max_pages_limit: text("/proc/sys/fs/fuse/max_pages_limit"),
            uring: has_uring(),
            load: text("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Seconds of CPU time that all of the machine has taken, idle time not.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
pub fn busy() -> f64 {
    busy_ticks(&text("/proc/stat")) as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal guest guest_nice; guests are in user already.
    let busy = fields.iter().enumerate().filter(|(at, _)| !matches!(at, 3 | 4 | 7 | 8 | 9));
    busy.map(|(_, ticks)| ticks).sum()
}

/// What must be there; `uring` where a contender uses it.
///
/// # Errors
/// What is missing, and what to do.
pub fn require(uring: bool) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err("measuring mounts filesystems and ends connections: run it as root".to_owned());
    }
    if fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return Err(
            "/dev/fuse cannot be opened: modprobe fuse; in a container give it the device \
                    (docker run --device /dev/fuse --cap-add SYS_ADMIN)"
                .to_owned(),
        );
    }
    if uring && !has_uring() {
        return Err("FUSE-over-io_uring is off: as root, echo Y > \
                    /sys/module/fuse/parameters/enable_uring (Linux 6.14 and later); or leave it \
                    out: --peers '!fusewire-uring'"
            .to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_ticks() {
        assert_eq!(field("NAME=x\nPRETTY_NAME=\"A B\"\n", "PRETTY_NAME", '='), "A B");
        assert_eq!(field("model name\t: Some CPU @ 2: x\n", "model name", ':'), "Some CPU @ 2: x");
        assert_eq!(field("", "model name", ':'), "");
        assert_eq!(busy_ticks("cpu  1 20 300 9999 9999 4000 50000 9999 9999 9999\ncpu0 7"), 54321);
    }

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::this();
        assert!(machine.cpus > 0 && machine.memory_mib > 100 && !machine.kernel.is_empty());
        assert!(busy() > 0.0);
    }
}
