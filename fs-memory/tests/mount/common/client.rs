//! A process that touches a mount in place of the test itself: this binary, run again.
//!
//! A call on a hung mount may never come back, not even after SIGKILL. So a test only watches,
//! and what it watches prints lines: `> ` in front means the test, everything else is kept for
//! the report of a failure.
//!
//! Neighbours: `run` uses this for the bodies of tests, `lifecycle` for clients of a dying mount.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::system::wait_for_exit;

/// The marker of lines that are meant for the test.
const MARK: &str = "> ";

/// Prints a line for the test that started this process.
pub(crate) fn tell(text: &str) {
    println!("\n{MARK}{text}");
}

/// A process of the test's own, killed with all its children when dropped.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Client {
    /// Runs one test of this binary again, with `variable` set; `errors` takes what goes wrong.
    pub(crate) fn start(test: &str, variable: &str, value: &str, errors: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"]);
        command.env(variable, value).env("RUST_BACKTRACE", "0");
        Self::spawn(&mut command, errors)
    }

    fn spawn(command: &mut Command, errors: &Path) -> Self {
        use std::os::unix::process::CommandExt;
        let file = std::fs::File::create(errors).expect("a file for errors");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).process_group(0);
        let mut child = command.spawn().expect("this binary runs again");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, stdin, lines, errors: errors.to_owned() }
    }

    /// The next line that is meant for the test; `None` at the end.
    ///
    /// # Panics
    /// When none comes in time.
    pub(crate) fn line(&self, limit: Duration) -> Option<String> {
        loop {
            match self.lines.recv_timeout(limit) {
                Ok(line) => {
                    if let Some(text) = line.strip_prefix(MARK) {
                        return Some(text.to_owned());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("a client said nothing for {limit:?}"),
            }
        }
    }

    /// Waits for one certain line.
    pub(crate) fn expect_line(&self, wanted: &str, limit: Duration) {
        let line = self.line(limit);
        assert_eq!(line.as_deref(), Some(wanted), "a client's line; {}", self.errors());
    }

    /// Sends a line to the process.
    pub(crate) fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("an open pipe");
        writeln!(stdin, "{text}").expect("the client reads");
    }

    /// Waits for the end; `None` when the limit passes first.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_for_exit(&mut self.child, limit)
    }

    /// All lines that were not taken yet, once the process has ended.
    pub(crate) fn rest(&self) -> Vec<String> {
        let limit = Duration::from_secs(1);
        std::iter::from_fn(|| self.lines.recv_timeout(limit).ok()).collect()
    }

    /// What went to standard error: the text of a panic, most of all.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Tells the process and its children to end.
    pub(crate) fn kill_without_waiting(&self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }

    /// Ends the process and its children; one that is stuck in the kernel is left to its fate.
    pub(crate) fn kill(&mut self) {
        self.kill_without_waiting();
        let _ = wait_for_exit(&mut self.child, Duration::from_secs(5));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}
