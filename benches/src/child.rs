//! Processes of ours: daemons and loads, none of which may keep us waiting or outlive us.
//!
//! Each is started by way of this binary itself (`under`), which asks the kernel to end it with us
//! and keeps a Ctrl-C of the terminal from it. Every wait has a limit, and ends early once a signal
//! has asked for the end ([`Stop`]).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::Failure;
use crate::load::{Order, Outcome, Said};

/// How often a wait looks whether it is to end early.
const SLICE: Duration = Duration::from_millis(50);

/// Whether a signal has asked for the end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for the end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a load came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It said so: an error, a wrong byte.
    Failed(Failure),
    /// It did not end in time.
    Hung,
    /// We are to end.
    Stopped,
}

/// This binary, by which processes are started.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Where it is.
    pub binary: PathBuf,
    /// Whether to end.
    pub stop: Stop,
}

/// What a load brought, with what the clocks showed around it.
#[derive(Clone, Debug)]
pub struct Timed<C> {
    /// What it brought.
    pub outcome: Outcome,
    /// Before.
    pub before: C,
    /// After.
    pub after: C,
}

/// Becomes a program that ends with `parent`, the process that started us.
///
/// # Errors
/// Where the program does not start, or the parent is gone; else this does not return.
pub fn under(parent: u32, program: &OsStr, words: &[std::ffi::OsString]) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("prctl: {error}"))?;
    // The kernel tells nothing of a parent that was gone before it was asked to.
    if std::os::unix::process::parent_id() != parent {
        return Err("the process that started this one is gone".to_owned());
    }
    let error = Command::new(program).args(words).exec();
    Err(format!("{}: {error}", program.display()))
}

impl Tool {
    /// A command that ends with us and that the terminal's signals do not reach.
    #[must_use]
    pub fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(&self.binary);
        let parent = std::process::id().to_string();
        command.args(["under", "--parent", &parent, "--"]).arg(program);
        command.process_group(0).stdin(Stdio::null());
        command
    }

    /// Runs a load; `clock` is read when its timed part begins and when it is over. Where it hangs,
    /// or the end is asked for, `free` has to make the filesystem let go of it.
    ///
    /// # Errors
    /// See [`Trouble`]. The process is gone in any case.
    pub fn load<C>(
        &self,
        order: &Order,
        limit: Duration,
        clock: impl Fn() -> C,
        free: impl FnOnce(),
    ) -> Result<Timed<C>, Trouble> {
        let deadline = Instant::now() + limit;
        let mut command = self.command(self.binary.as_os_str());
        command.arg("load").stdin(Stdio::piped()).stdout(Stdio::piped());
        let failed = |why: String| Trouble::Failed(why);
        let child = command.spawn().map_err(|e| failed(format!("a load: {e}")))?;
        let mut talk = Talk::new(child);
        let result = self.talk(&mut talk, order, deadline, clock);
        if matches!(result, Err(Trouble::Hung | Trouble::Stopped)) {
            free();
        }
        talk.end();
        result
    }

    fn talk<C>(
        &self,
        talk: &mut Talk,
        order: &Order,
        deadline: Instant,
        clock: impl Fn() -> C,
    ) -> Result<Timed<C>, Trouble> {
        let text = serde_json::to_string(order).map_err(|e| Trouble::Failed(e.to_string()))?;
        talk.tell(&text);
        let said = || self.next(&talk.lines, deadline);
        let Said::Ready = said()? else { return Err(unexpected()) };
        let before = clock();
        tell(&mut talk.input, "go");
        let Said::Timed(outcome) = said()? else { return Err(unexpected()) };
        let after = clock();
        tell(&mut talk.input, "go");
        let Said::Right = said()? else { return Err(unexpected()) };
        Ok(Timed { outcome, before, after })
    }

    /// The next line of a load; what it says of a failure is an error.
    fn next(&self, lines: &Receiver<String>, deadline: Instant) -> Result<Said, Trouble> {
        loop {
            if self.stop.asked() {
                return Err(Trouble::Stopped);
            }
            match lines.recv_timeout(SLICE) {
                Ok(line) => {
                    let said = serde_json::from_str(&line);
                    return match said.map_err(|e| Trouble::Failed(format!("{line}: {e}")))? {
                        Said::Failed(why) => Err(Trouble::Failed(why)),
                        said => Ok(said),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Trouble::Failed("the load's process has died".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Err(Trouble::Hung);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

fn unexpected() -> Trouble {
    Trouble::Failed("the load's process speaks out of turn".to_owned())
}

/// A process that is talked with by lines.
struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    fn new(mut child: Child) -> Self {
        let input = child.stdin.take();
        let output = child.stdout.take();
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines());
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, input, lines }
    }

    fn tell(&mut self, line: &str) {
        tell(&mut self.input, line);
    }

    fn end(mut self) {
        drop(self.input.take());
        end(&mut self.child, Duration::from_millis(500));
    }
}

/// Whoever does not listen any more will show it by what it says next.
fn tell(input: &mut Option<ChildStdin>, line: &str) {
    if let Some(input) = input {
        let _ = writeln!(input, "{line}");
    }
}

/// Waits for a child's end.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Gives a child some time to end, then ends it.
pub fn end(child: &mut Child, patience: Duration) {
    if wait(child, patience).is_some() {
        return;
    }
    signal(child, Signal::KILL);
    if wait(child, Duration::from_secs(10)).is_none() {
        eprintln!("process {} does not end", child.id());
    }
}

/// Sends a signal to a child that was not waited for yet.
pub fn signal(child: &Child, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_child(child), signal);
}
