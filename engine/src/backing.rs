//! Backing files of the kernel's passthrough: registered, the kernel serves their handles itself.
//!
//! Never known here: which files, and when. Neighbours: `context` registers for handlers.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Weak;

use fusewire_proto::{Errno, Result};

use crate::error::errno;
use crate::sys::device;

/// A file that is registered with the connection; dropped, it is taken back. Handles that are open
/// keep the file (`fs/fuse/backing.c`).
///
/// OPEN and CREATE name it in [`fusewire_proto::Opened`] beside `FOpenFlags::PASSTHROUGH`. All
/// handles of an inode that are open together must name the same one: a second, even of the same
/// file, is EIO to the caller, and so is a handle without passthrough that may use the page cache
/// (`fs/fuse/iomode.c`).
#[derive(Debug)]
pub struct Backing {
    connection: Weak<OwnedFd>,
    id: i32,
}

impl Backing {
    pub(crate) fn register(connection: &Weak<OwnedFd>, file: impl AsFd) -> Result<Self> {
        let open = connection.upgrade().ok_or(Errno::ENOTCONN)?;
        let id = device::backing_open(&open, file.as_fd()).map_err(|error| errno(&error))?;
        Ok(Self { connection: Weak::clone(connection), id })
    }

    /// The id for OPEN and CREATE.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.upgrade() {
            // ENOTCONN after an abort: then nothing is registered any more.
            let _ = device::backing_close(&connection, self.id);
        }
    }
}
