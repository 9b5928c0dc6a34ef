//! Error numbers on their way from the backing filesystem to the kernel.

use std::io;

use fusewire::proto::{Errno, Result};

/// Turns a result of a system call into an answer.
pub(crate) trait Answer<T> {
    /// The same with an error that the kernel may be told.
    fn answer(self) -> Result<T>;
}

impl<T> Answer<T> for rustix::io::Result<T> {
    fn answer(self) -> Result<T> {
        self.map_err(|error| from_raw(error.raw_os_error()))
    }
}

impl<T> Answer<T> for io::Result<T> {
    fn answer(self) -> Result<T> {
        self.map_err(|error| from_raw(error.raw_os_error().unwrap_or(0)))
    }
}

/// ENOSYS would be remembered by the kernel, for all files and for good; what one backing
/// filesystem lacks is no reason for that.
fn from_raw(raw: i32) -> Errno {
    match Errno::new(raw) {
        Some(Errno::ENOSYS) => Errno::EOPNOTSUPP,
        Some(errno) => errno,
        None => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_system_call_speaks_for_all_files() {
        let answer = |error: rustix::io::Errno| rustix::io::Result::<()>::Err(error).answer();
        assert_eq!(answer(rustix::io::Errno::NOSYS), Err(Errno::EOPNOTSUPP));
        assert_eq!(answer(rustix::io::Errno::NOENT), Err(Errno::ENOENT));
        assert_eq!(io::Result::<()>::Err(io::ErrorKind::Other.into()).answer(), Err(Errno::EIO));
    }
}
