//! System calls that no safe crate has: file handles, mounts that nothing spreads to, the commands
//! of chattr(1), filters of system calls that leave a trace, and what ends another thread's call.
//!
//! All `unsafe` of this crate is here. Neighbours: `backing`, `jail`, `wait`; `filesystem` for
//! commands.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::mount::MountAttrFlags;
use rustix::thread::gettid;
use seccompiler::BpfProgram;

/// Kernel: include/linux/exportfs.h, `MAX_HANDLE_SZ`.
const HANDLE_MAX: usize = 128;

/// `struct file_handle` with room for the longest. Kernel: include/linux/fs.h.
#[repr(C)]
struct RawHandle {
    len: u32,
    kind: c_int,
    bytes: [u8; HANDLE_MAX],
}

/// `MS_PRIVATE`. Kernel: include/uapi/linux/mount.h.
const PRIVATE: u64 = 1 << 18;

/// `struct mount_attr`. Kernel: include/uapi/linux/mount.h, since 5.12.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What names an inode for as long as it exists, without keeping it open. Two handles of one
/// filesystem are equal if and only if they name one inode; a number that is used again comes with
/// another generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileHandle {
    kind: c_int,
    bytes: Box<[u8]>,
}

impl FileHandle {
    /// One that the kernel has told in another way.
    pub(crate) fn new(kind: c_int, bytes: &[u8]) -> Self {
        Self { kind, bytes: bytes.into() }
    }
}

/// The handle of what `fd` refers to; `O_PATH` will do. EOPNOTSUPP where a filesystem has none.
pub(crate) fn handle_of(fd: BorrowedFd<'_>) -> io::Result<FileHandle> {
    handle(fd, c"", libc::AT_EMPTY_PATH)
}

/// The handle of what `name` stands for in a directory, of a symbolic link itself if it is one.
pub(crate) fn handle_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<FileHandle> {
    handle(directory, name, 0)
}

fn handle(fd: BorrowedFd<'_>, name: &CStr, flags: c_int) -> io::Result<FileHandle> {
    let mut raw = RawHandle { len: 128, kind: 0, bytes: [0; HANDLE_MAX] };
    let mut mount: c_int = 0;
    // SAFETY: the pointers are to what outlives the call: a C string, a handle with the room that
    // its `len` tells, and an int for the mount's number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_raw_fd(),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount,
            flags,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let len = usize::try_from(raw.len).unwrap_or(HANDLE_MAX).min(HANDLE_MAX);
    Ok(FileHandle { kind: raw.kind, bytes: raw.bytes[..len].into() })
}

/// Opens what `handle` names on the mount that `mount`, an ordinary descriptor, lies on. ESTALE
/// where it is gone.
pub(crate) fn open_handle(
    mount: BorrowedFd<'_>,
    handle: &FileHandle,
    flags: c_int,
) -> io::Result<OwnedFd> {
    let len = handle.bytes.len().min(HANDLE_MAX);
    let mut raw = RawHandle { len: 0, kind: handle.kind, bytes: [0; HANDLE_MAX] };
    raw.len = u32::try_from(len).unwrap_or(0);
    raw.bytes[..len].copy_from_slice(&handle.bytes[..len]);
    // SAFETY: the pointer is to a local that outlives the call, with as many bytes as `len` says.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut raw, flags)
    };
    match c_int::try_from(fd) {
        // SAFETY: the kernel just made this descriptor for us, and nobody else knows of it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(match io::Error::last_os_error() {
            // The number of an inode that is gone may be in the hands of a new one's maker. Kernel:
            // fs/inode.c, iget_locked finds it I_CREATING, and ext4 takes that for want of memory.
            error if error.raw_os_error() == Some(libc::ENOMEM) => {
                io::Error::from_raw_os_error(libc::ESTALE)
            }
            error => error,
        }),
    }
}

/// Takes a mount out of its peer group: what is mounted elsewhere no longer shows up in it. The
/// attributes hold for all that is reached by this mount, and no other.
pub(crate) fn make_private(mount: BorrowedFd<'_>, set: MountAttrFlags) -> io::Result<()> {
    // Attributes about access times are one value, which is cleared before it is set.
    let times = set.contains(MountAttrFlags::MOUNT_ATTR_NOATIME);
    let clear = if times { libc::MOUNT_ATTR__ATIME } else { 0 };
    let attr = MountAttr { set: set.bits().into(), clear, propagation: PRIVATE, userns_fd: 0 };
    // SAFETY: the pointers are to an empty C string and to a local that outlives the call, whose
    // size goes along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A command about a file's flags. Kernel: include/uapi/linux/fs.h, as the kernel itself sends
/// them and 64-bit callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlagsCommand {
    number: u32,
    /// Bytes that it reads or writes: an int, or a `struct fsxattr`.
    pub(crate) len: usize,
    /// Whether it changes the file.
    pub(crate) sets: bool,
}

/// FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR.
const FLAGS_COMMANDS: [FlagsCommand; 4] = [
    FlagsCommand { number: 0x8008_6601, len: 4, sets: false },
    FlagsCommand { number: 0x4008_6602, len: 4, sets: true },
    FlagsCommand { number: 0x801c_581f, len: FLAGS_LEN, sets: false },
    FlagsCommand { number: 0x401c_5820, len: FLAGS_LEN, sets: true },
];

/// `struct fsxattr`, the larger of the two forms.
pub(crate) const FLAGS_LEN: usize = 28;

impl FlagsCommand {
    /// The command of this number, if it is one of these.
    pub(crate) fn of(number: u32) -> Option<Self> {
        FLAGS_COMMANDS.into_iter().find(|command| command.number == number)
    }

    /// The numbers of all of these.
    pub(crate) fn numbers() -> impl Iterator<Item = u32> {
        FLAGS_COMMANDS.into_iter().map(|command| command.number)
    }

    /// Runs it on an open file.
    pub(crate) fn run(self, fd: BorrowedFd<'_>, data: &mut [u8; FLAGS_LEN]) -> io::Result<()> {
        // SAFETY: the four commands read or write at most `FLAGS_LEN` bytes at the pointer, which
        // is to that many bytes and outlives the call.
        let result = unsafe {
            libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(self.number) as _, data.as_mut_ptr())
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Lets this thread make the calls that a filter lets pass, and no other, until it ends. What is
/// refused shows in the kernel's audit log, where there is one; that is what `seccompiler` itself
/// does not ask for.
pub(crate) fn restrict_calls(filter: &BpfProgram) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The two declarations of `struct sock_filter` are of one layout.
    const _: () = assert!(size_of::<seccompiler::sock_filter>() == size_of::<libc::sock_filter>());
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: the pointer is to a local that outlives the call, with the address and the number of
    // the filter's instructions, which the kernel copies and does not change.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends the system call that one thread is in, or is about to make.
///
/// A signal that comes before the call has begun is lost on it. So a timer of the kernel's sends
/// it, again and again until this is dropped: the call ends a millisecond after its beginning at
/// the latest. Nothing is lost by a signal too many, as the handler does nothing.
#[derive(Debug)]
pub(crate) struct Bell {
    timer: c_int,
}

/// What it sends: a signal that nobody misses, as by default it is ignored.
const RINGS: Signal = Signal::SIGURG;
/// `SIGEV_THREAD_ID`. Kernel: include/uapi/asm-generic/siginfo.h.
const TO_THREAD: c_int = 4;
const AGAIN: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// `struct sigevent`, of at least its 64 bytes. Kernel: include/uapi/asm-generic/siginfo.h.
#[repr(C)]
struct SigEvent {
    value: usize,
    signal: c_int,
    how: c_int,
    thread: c_int,
    rest: [c_int; 12],
}

extern "C" fn nothing(_: c_int) {}

impl Bell {
    /// One for the thread that asks, which must drop it once its call is over.
    pub(crate) fn for_this_thread() -> io::Result<Self> {
        let action =
            SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing, so it may run at any time and on any thread.
        unsafe { sigaction(RINGS, &action) }?;
        let mut signals = SigSet::empty();
        signals.add(RINGS);
        signals.thread_unblock()?;
        let thread = gettid().as_raw_nonzero().get();
        let (signal, rest) = (RINGS as c_int, [0; 12]);
        let event = SigEvent { value: 0, signal, how: TO_THREAD, thread, rest };
        let mut timer: c_int = 0;
        // SAFETY: the pointers are to locals that outlive the call: an event of the size that the
        // kernel reads, and an int for the timer's number.
        let result = unsafe {
            libc::syscall(
                libc::SYS_timer_create,
                libc::CLOCK_MONOTONIC,
                &raw const event,
                &raw mut timer,
            )
        };
        if result == 0 { Ok(Self { timer }) } else { Err(io::Error::last_os_error()) }
    }

    /// Ends the call after `delay`, which is less than a second; from any thread.
    pub(crate) fn ring(&self, delay: Duration) {
        // None at all would stop the timer.
        let nanoseconds = delay.subsec_nanos().max(1);
        let first = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds.into() };
        let when = libc::itimerspec { it_interval: AGAIN, it_value: first };
        let before = std::ptr::null_mut::<libc::itimerspec>();
        // SAFETY: the pointer is to a local that outlives the call; the time before is not wanted.
        let result = unsafe {
            libc::syscall(libc::SYS_timer_settime, self.timer, 0, &raw const when, before)
        };
        debug_assert_eq!(result, 0, "a timer of ours and a valid time");
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // SAFETY: the call takes a number and no memory; the timer is ours, and nobody uses it now.
        unsafe { libc::syscall(libc::SYS_timer_delete, self.timer) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Rung before, at any moment around, and long after the beginning of the call.
    #[test]
    fn no_call_misses_the_bell() {
        let (reader, _writer) = io::pipe().unwrap();
        for round in 0..200_u32 {
            let (sender, bell) = std::sync::mpsc::channel();
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| {
                    sender.send(std::sync::Arc::new(Bell::for_this_thread().unwrap())).unwrap();
                    rustix::io::read(&reader, &mut [0; 1])
                });
                let bell = bell.recv().unwrap();
                for _ in 0..round * 10 {
                    std::hint::spin_loop();
                }
                bell.ring(Duration::ZERO);
                assert_eq!(waits.join().unwrap(), Err(rustix::io::Errno::INTR), "{round}");
            });
        }
    }

    #[test]
    fn a_handle_names_one_inode() {
        let directory = tempfile::tempdir().unwrap();
        let mount = std::fs::File::open(directory.path()).unwrap();
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&first, "first").unwrap();
        std::fs::write(&second, "second").unwrap();
        let of = |path| handle_of(std::fs::File::open(path).unwrap().as_fd());
        let handle = of(&first).unwrap();
        assert_eq!(handle, of(&first).unwrap());
        assert_ne!(handle, of(&second).unwrap());
        assert_eq!(handle, handle_at(mount.as_fd(), c"a").unwrap());
        match open_handle(mount.as_fd(), &handle, libc::O_RDONLY | libc::O_CLOEXEC) {
            Ok(fd) => {
                let text = std::io::read_to_string(std::fs::File::from(fd)).unwrap();
                assert_eq!(text, "first");
                std::fs::remove_file(&first).unwrap();
                let gone = open_handle(mount.as_fd(), &handle, libc::O_RDONLY);
                assert_eq!(gone.unwrap_err().raw_os_error(), Some(libc::ESTALE));
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "needs root"),
        }
    }

    /// Others make files meanwhile, so that its number is now and again in the hands of one.
    #[test]
    fn a_handle_of_what_is_gone_is_stale_whoever_gets_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let mount = std::fs::File::open(directory.path()).unwrap();
        let churn = |name: &str| {
            std::fs::write(directory.path().join(name), "x").unwrap();
            let handle = handle_at(mount.as_fd(), &std::ffi::CString::new(name).unwrap());
            std::fs::remove_file(directory.path().join(name)).unwrap();
            handle.unwrap()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..20_000).for_each(|_| drop(churn("others"))));
            let answers: std::collections::BTreeSet<_> = (0..20_000)
                .map(|_| open_handle(mount.as_fd(), &churn("gone"), libc::O_PATH))
                .map(|answer| answer.err().and_then(|error| error.raw_os_error()))
                .collect();
            let expected =
                if nix::unistd::geteuid().is_root() { libc::ESTALE } else { libc::EPERM };
            assert_eq!(answers, [Some(expected)].into());
        });
    }
}
