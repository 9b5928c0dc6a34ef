//! A mount on a temporary directory that goes away, whatever happens.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::run::Run;

pub(crate) struct Mounted {
    dir: TempDir,
    device: Option<LoopDevice>,
    /// The connection's number: the minor of the mount's device.
    connection: String,
    mounted: bool,
}

impl Mounted {
    /// Mounts; gives the descriptor to be served.
    pub(crate) fn new(run: Run) -> io::Result<(Self, File)> {
        let dir = TempDir::with_prefix("fusewire-capture-")?;
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let mut options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", fuse.as_raw_fd());
        let device = if run == Run::Block { Some(LoopDevice::new()?) } else { None };
        let (kind, source) = match &device {
            Some(device) => ("fuseblk", device.path.clone()),
            None => ("fuse", "fusewire-capture".to_owned()),
        };
        if device.is_some() {
            options.push_str(",blksize=512");
        }
        mount(
            Some(source.as_str()),
            dir.path(),
            Some(kind),
            MsFlags::MS_NODEV,
            Some(options.as_str()),
        )?;
        let mut mounted = Self { dir, device, connection: String::new(), mounted: true };
        mounted.connection = mounted.find_connection()?;
        Ok((mounted, fuse))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where to write in order to abort this connection and no other.
    pub(crate) fn abort_path(&self) -> PathBuf {
        Path::new("/sys/fs/fuse/connections").join(&self.connection).join("abort")
    }

    /// The mount table knows the device number; nothing needs to be asked of the mount.
    fn find_connection(&self) -> io::Result<String> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        let path = self.path().to_str().ok_or(io::ErrorKind::InvalidData)?;
        let line = table.lines().find(|line| line.split(' ').nth(4) == Some(path));
        let device = line.and_then(|line| line.split(' ').nth(2)).ok_or(io::ErrorKind::NotFound)?;
        let (major, minor) = device.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        let (major, minor): (u32, u32) =
            (major.parse().unwrap_or_default(), minor.parse().unwrap_or_default());
        // A connection has the number of its device as the kernel packs it.
        Ok((major << 20 | minor).to_string())
    }

    /// Unmounts, in another process because a block device's unmount sends requests.
    pub(crate) fn unmount(&mut self) {
        let status = Command::new("umount").arg("-i").arg(self.path()).status();
        self.mounted = !status.is_ok_and(|status| status.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted {
            // Both fail where it is gone already, which is what is wanted.
            let _aborted = std::fs::write(self.abort_path(), "1");
            let _unmounted = umount2(self.path(), MntFlags::MNT_DETACH);
        }
        drop(self.device.take());
    }
}

/// A block device over a temporary file.
struct LoopDevice {
    path: String,
    _file: tempfile::NamedTempFile,
}

impl LoopDevice {
    fn new() -> io::Result<Self> {
        let file = tempfile::NamedTempFile::with_prefix("fusewire-capture-")?;
        file.as_file().set_len(1 << 20)?;
        let output = Command::new("losetup").args(["-f", "--show"]).arg(file.path()).output()?;
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if path.is_empty() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(Self { path, _file: file })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let status = Command::new("losetup").args(["-d", &self.path]).status();
        if !status.is_ok_and(|status| status.success()) {
            println!("{} is left: losetup -d", self.path);
        }
    }
}
