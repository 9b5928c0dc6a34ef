//! The counters of a daemon, as its `--stats` file tells them.
//!
//! Neighbours: `place` and `daemon` ask for a new file by SIGUSR1; see there.

use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

/// One reading of the counters.
#[derive(Debug)]
pub(crate) struct Stats(Value);

impl Stats {
    /// Has the daemon write its file anew and reads it.
    pub(crate) fn of_process(pid: Pid, file: &Path) -> Self {
        let renamed = Renamed::into(file);
        kill_process(pid, Signal::USR1).expect("the daemon lives");
        renamed.wait();
        Self::in_file(file).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Reads a file that a daemon has written.
    pub(crate) fn in_file(file: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let value = serde_json::from_str(&text);
        value.map(Self).map_err(|e| format!("{}: {e}: {text}", file.display()))
    }

    /// A field of the outermost object.
    pub(crate) fn field(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("stats without {name}: {}", self.0))
    }

    /// A number in the outermost object.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let field = self.field(name);
        field.as_u64().unwrap_or_else(|| panic!("{name} is not a number: {field}"))
    }

    /// Requests of an opcode; 0 for one that was never served.
    pub(crate) fn requests(&self, opcode: &str) -> u64 {
        self.of_opcode(opcode, "requests")
    }

    /// Bulk bytes of an opcode.
    pub(crate) fn bytes(&self, opcode: &str) -> u64 {
        self.of_opcode(opcode, "bytes")
    }

    /// Bulk bytes per request of an opcode; 0 for one that was never served.
    pub(crate) fn mean_bytes(&self, opcode: &str) -> u64 {
        self.bytes(opcode).checked_div(self.requests(opcode)).unwrap_or(0)
    }

    /// A counter of an opcode.
    pub(crate) fn of_opcode(&self, opcode: &str, counter: &str) -> u64 {
        let Some(one) = self.field("opcodes").get(opcode) else { return 0 };
        let value = one.get(counter).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("{opcode} without {counter}: {one}"))
    }

    /// Mean and longest time of an opcode's requests.
    pub(crate) fn latency(&self, opcode: &str) -> (Duration, Duration) {
        let times = &self.field("opcodes")[opcode]["latency_ns"];
        let time = |name| Duration::from_nanos(times[name].as_u64().expect("nanoseconds"));
        (time("mean"), time("max"))
    }

    /// The names of all opcodes served so far.
    pub(crate) fn opcodes(&self) -> Vec<String> {
        let opcodes = self.field("opcodes").as_object().expect("opcodes is an object");
        opcodes.keys().cloned().collect()
    }
}

/// Waits for a file to be replaced by a rename.
struct Renamed {
    watch: std::os::fd::OwnedFd,
    file: PathBuf,
}

impl Renamed {
    /// Watches from here on.
    fn into(file: &Path) -> Self {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
        let directory = file.parent().expect("a directory");
        let events = inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, directory, events).expect("a watch");
        Self { watch, file: file.to_owned() }
    }

    fn wait(self) {
        let limit = Timespec::try_from(LIMIT).expect("a short time");
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            let ready = poll(&mut [PollFd::new(&self.watch, PollFlags::IN)], Some(&limit));
            match ready {
                Ok(0) => panic!("no new stats file {LIMIT:?} after SIGUSR1"),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll of inotify: {error}"),
            }
            let mut events = inotify::Reader::new(&self.watch, &mut buffer);
            while let Ok(event) = events.next() {
                let name = event.file_name().map(|name| name.to_bytes().to_owned());
                if name.as_deref() == self.file.file_name().map(|name| name.as_encoded_bytes()) {
                    return;
                }
            }
        }
    }
}
