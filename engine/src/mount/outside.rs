//! What waits for answers of our own shards is done by another process: `umount` and `sync`.
//!
//! A thread of ours that waits in umount(2) or syncfs(2) for a page of ours cannot be killed, and a
//! process of which one thread lives closes nothing. A SIGKILL then left the connection open behind
//! shards that no longer serve it, and everybody who used it waiting. Another process has none of
//! our descriptors: ours end with us, and the connection and its waiters with them.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};

/// Unmounts as umount(2) does, as root. Where the program is missing it is the call.
///
/// # Errors
/// What the program prints.
pub(super) fn unmount(place: &Path) -> io::Result<()> {
    let mut command = Command::new("umount");
    // Neither looks at the place, which would ask our shards, nor runs a helper.
    command.args(["-c", "-i", "--"]).arg(place);
    match run(command) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(umount2(place, MntFlags::UMOUNT_NOFOLLOW)?)
        }
        other => other,
    }
}

/// Writes back the dirty pages of the filesystem at a place, or of all there are.
///
/// # Errors
/// What the program prints.
pub(super) fn sync(place: Option<&Path>) -> io::Result<()> {
    let mut command = Command::new("sync");
    if let Some(place) = place {
        command.args(["-f", "--"]).arg(place);
    }
    match run(command) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            nix::unistd::sync();
            Ok(())
        }
        other => other,
    }
}

fn run(mut command: Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    Err(io::Error::other(if text.is_empty() { output.status.to_string() } else { text.into() }))
}
