//! The tool as a whole, with fusewire-memory itself as what is measured: that it finds figures and
//! writes them down, that whoever fails is named, and that nothing is left behind, however it ends.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fusewire_benches::results::{FORMAT, Run};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const TOOL: &str = env!("CARGO_BIN_EXE_fusewire-bench");
const LIMIT: Duration = Duration::from_secs(60);

/// Whether mounts can be had here; where they must be, they have to.
fn can_mount(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let uring = fusewire_benches::machine::has_uring();
    if root && uring && Path::new("/dev/fuse").exists() {
        return true;
    }
    assert!(std::env::var_os("FUSEWIRE_REQUIRE_MOUNT").is_none(), "no mounts here");
    eprintln!("SKIPPED {test}: needs root, /dev/fuse and FUSE-over-io_uring");
    false
}

/// The directory of fusewire-memory, which is built where a test of the workspace has not.
fn binaries() -> PathBuf {
    let directory = Path::new(TOOL).parent().unwrap().to_owned();
    if !directory.join("fusewire-memory").exists() {
        let mut cargo = Command::new(env!("CARGO"));
        let status = cargo.args(["build", "-q", "-p", "fusewire-memory"]).status().unwrap();
        assert!(status.success());
    }
    directory
}

/// Daemons of a test's own: a script that may do something before it becomes fusewire-memory.
fn scripted(directory: &Path, before: &str) {
    let path = directory.join("fusewire-memory");
    let real = binaries().join("fusewire-memory");
    fs::write(&path, format!("#!/bin/sh\n{before}\nexec {} \"$@\"\n", real.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// One run of the tool, with a directory for all that it may leave.
struct Bench {
    place: TempDir,
    arguments: Vec<String>,
}

impl Bench {
    fn new(only: &str, binaries: &Path) -> Self {
        let place = tempfile::tempdir().unwrap();
        let binaries = binaries.to_str().unwrap();
        let small = ["--quick", "--rounds", "1", "--size", "4"];
        let words = small.into_iter().chain(["--only", only, "--binaries", binaries]);
        Self { place, arguments: words.map(str::to_owned).collect() }
    }

    fn with(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    fn start(&self) -> Child {
        let mut command = Command::new(TOOL);
        command.args(&self.arguments).arg("--disk").arg(self.place.path());
        command.env("TMPDIR", self.place.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn run(&self) -> Output {
        end(self.start())
    }

    /// Processes that were started for this run.
    fn processes(&self) -> Vec<String> {
        let place = self.place.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(place) {
                found.push(command);
            }
        }
        found
    }

    fn wait_for_processes(&self, wanted: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !wanted(&self.processes()) {
            assert!(Instant::now() < deadline, "{:?}", self.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn assert_clean(&self) {
        assert_eq!(self.processes(), [] as [String; 0]);
        let left: Vec<_> = fs::read_dir(self.place.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains(self.place.path().to_str().unwrap()), "{mounts}");
    }
}

/// Waits for the tool's end, within a limit.
fn end(child: Child) -> Output {
    let pid = Pid::from_child(&child);
    let (sender, ended) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = ended.recv_timeout(LIMIT).unwrap_or_else(|_| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("the tool does not end");
    });
    waiter.join().unwrap().unwrap();
    output.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn figures_are_found_shown_and_kept() {
    if !can_mount("figures_are_found_shown_and_kept") {
        return;
    }
    let kept = tempfile::tempdir().unwrap();
    let file = |name: &str| kept.path().join(name).to_str().unwrap().to_owned();
    let (json, html) = (file("a.json"), file("a.html"));
    let bench = Bench::new("memory/{write/4k-d8,names/create-c1}", &binaries());
    let bench = bench.with(&["--peers", "native", "--json", &json, "--html", &html]);
    let output = bench.run();
    assert!(output.status.success(), "{}", text(&output.stderr));
    bench.assert_clean();
    let run = Run::read(Path::new(&json)).unwrap();
    assert_eq!((run.format, run.interrupted, run.rows.len()), (FORMAT, false, 2));
    for row in &run.rows {
        assert!(row.failures.is_empty(), "{:?}", row.failures);
        for name in ["fusewire-uring", "fusewire-device", "native"] {
            let figures = row.figures(name);
            assert!(matches!(figures[..], [Some(figure)] if figure > 10.0), "{name}: {figures:?}");
            let cpu = row.values(name, |measure| measure.daemon_cpu);
            assert_eq!(cpu[0].is_some_and(|cpu| cpu > 0.0), name != "native", "{name}: {cpu:?}");
        }
    }
    let table = text(&output.stdout);
    assert!(table.contains("fusewire / native") && table.contains("geometric mean"), "{table}");
    assert!(fs::read_to_string(&html).unwrap().ends_with("</html>\n"));
    let compared = Command::new(TOOL).args(["--compare", &json, &json]).output().unwrap();
    assert!(compared.status.success());
    let same = text(&compared.stdout);
    assert!(same.contains(" 1.00\n") && !same.contains(" *\n"), "{same}");
}

#[test]
fn a_daemon_that_hangs_is_aborted_named_and_gone() {
    if !can_mount("a_daemon_that_hangs_is_aborted_named_and_gone") {
        return;
    }
    let daemons = tempfile::tempdir().unwrap();
    let stop = "for last; do :; done\n\
        (until [ -e $last/hole ]; do sleep 0.02; done; kill -STOP $$) >/dev/null 2>&1 &";
    scripted(daemons.path(), stop);
    let json = daemons.path().join("a.json");
    let words = ["--peers", "native,!fusewire-device", "--patience", "2", "--json"];
    let bench = Bench::new("memory/null/read-4k-d1", daemons.path()).with(&words);
    let bench = bench.with(&[json.to_str().unwrap()]);
    let output = bench.run();
    assert!(output.status.success(), "{}", text(&output.stderr));
    bench.assert_clean();
    let run = Run::read(&json).unwrap();
    let failures = &run.rows[0].failures;
    assert!(failures["fusewire-uring"].contains("did not end in time"), "{failures:?}");
    // Who waits for a request in service can be ended only once that is.
    let errors = text(&output.stderr);
    assert!(!errors.contains("does not end"), "its client was not freed: {errors}");
    assert_eq!(run.rows[0].figures("native").len(), 1, "the others go on");
    assert_eq!(run.rows[0].figures("fusewire-uring"), []);
}

#[test]
fn a_byte_that_somebody_spoils_costs_the_figure() {
    if !can_mount("a_byte_that_somebody_spoils_costs_the_figure") {
        return;
    }
    let daemons = tempfile::tempdir().unwrap();
    let spoil = "for last; do :; done\n\
        (for turn in $(seq 100); do printf x | dd of=$last/data bs=1 seek=5000 conv=notrunc; \
        sleep 0.03; done) >/dev/null 2>&1 &";
    scripted(daemons.path(), spoil);
    let json = daemons.path().join("a.json");
    let words = ["--peers", "native,!fusewire-uring", "--json", json.to_str().unwrap()];
    let output = Bench::new("memory/read/4k-d32", daemons.path()).with(&words).run();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let failures = &Run::read(&json).unwrap().rows[0].failures;
    assert!(failures["fusewire-device"].contains("wrong data at offset"), "{failures:?}");
    assert!(text(&output.stdout).contains("NO FIGURE: wrong data"));
}

#[test]
fn who_does_not_start_is_named() {
    if !can_mount("who_does_not_start_is_named") {
        return;
    }
    let daemons = tempfile::tempdir().unwrap();
    scripted(daemons.path(), "echo no such luck >&2; exit 3");
    let bench = Bench::new("memory/null/getattr", daemons.path()).with(&["--peers", "native"]);
    let output = bench.run();
    assert!(output.status.success(), "{}", text(&output.stderr));
    bench.assert_clean();
    let table = text(&output.stdout);
    assert!(table.contains("NO FIGURE: did not mount: exit status: 3; no such luck"), "{table}");
}

#[test]
fn a_signal_leaves_nothing_behind() {
    if !can_mount("a_signal_leaves_nothing_behind") {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let bench = Bench::new("memory/{read,write}/*", &binaries()).with(&["--peers", "native"]);
        let child = bench.start();
        bench.wait_for_processes(|found| found.iter().any(|one| one.contains("fusewire-memory")));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = end(child);
        assert!(!output.status.success());
        let errors = text(&output.stderr);
        assert!(errors.contains("ended by a signal"), "{errors}");
        bench.assert_clean();
    }
}

#[test]
fn nothing_runs_on_without_the_tool() {
    if !can_mount("nothing_runs_on_without_the_tool") {
        return;
    }
    let bench = Bench::new("memory/read/*", &binaries()).with(&["--peers", "native"]);
    let mut child = bench.start();
    bench.wait_for_processes(|found| found.iter().any(|one| one.contains("fusewire-memory")));
    child.kill().unwrap();
    child.wait().unwrap();
    bench.wait_for_processes(<[String]>::is_empty);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(bench.place.path().to_str().unwrap()), "{mounts}");
}

/// A parent may be killed before its child has asked to end with it.
#[test]
fn nothing_starts_for_a_tool_that_is_gone() {
    let own = std::process::id();
    for (parent, starts) in [(own, true), (own + 1, false)] {
        let words = ["under", "--parent", &parent.to_string(), "--", "echo", "started"];
        let output = Command::new(TOOL).args(words).output().unwrap();
        assert_eq!(output.status.success(), starts);
        assert_eq!(text(&output.stdout), if starts { "started\n" } else { "" });
        assert_eq!(text(&output.stderr).contains("is gone"), !starts);
    }
}

#[test]
fn what_is_not_known_is_refused() {
    for words in [["--only", "no/such/row"], ["--peers", "somebody"], ["--show", "/no/such/file"]] {
        let output = Command::new(TOOL).args(words).output().unwrap();
        assert!(!output.status.success(), "{words:?}");
        let why = text(&output.stderr);
        assert!(why.starts_with("error: ") && why.contains(words[1]), "{words:?}: {why}");
    }
}
