//! Constants of the C header that are neither flags nor opcodes.
//!
//! Names are those of the header without `FUSE_`. Flags are in [`flags`](crate::flags).

/// The protocol's major version (`FUSE_KERNEL_VERSION`).
pub const KERNEL_VERSION: u32 = 7;
/// The minor version that this crate speaks (`FUSE_KERNEL_MINOR_VERSION`).
pub const KERNEL_MINOR_VERSION: u32 = 45;
/// The oldest minor version that [`negotiate`](crate::negotiate::negotiate) accepts: Linux 5.4.
pub const KERNEL_MINOR_VERSION_MIN: u32 = 31;

/// The least size of a buffer for read(2) on the device, bytes.
pub const MIN_READ_BUFFER: usize = 8192;
/// What uid and gid hold where an idmapped mount hides them (`FUSE_INVALID_UIDGID`).
pub const INVALID_UIDGID: u32 = u32::MAX;
/// Where the name begins in a record of READDIR.
pub const NAME_OFFSET: usize = 24;
/// Where the name begins in a record of READDIRPLUS.
pub const NAME_OFFSET_DIRENTPLUS: usize = 152;
/// Most `IoctlIovec` items in a reply with RETRY, both directions together.
pub const IOCTL_MAX_IOV: usize = 256;
/// Longest device information behind `CuseInitOut`, bytes.
pub const CUSE_INIT_INFO_MAX: usize = 4096;

/// Magic number of the device's ioctls.
pub const DEV_IOC_MAGIC: u8 = 229;
/// Joins a fresh descriptor of the device to a connection; the argument is the old one, a `u32`.
pub const DEV_IOC_CLONE: u32 = 0x8004_e500;
/// Registers a backing file; the argument is a `BackingMap`.
pub const DEV_IOC_BACKING_OPEN: u32 = 0x4010_e501;
/// Drops a backing file; the argument is its id, a `u32`.
pub const DEV_IOC_BACKING_CLOSE: u32 = 0x4004_e502;
/// Makes the mount wait for the answer to INIT; no argument.
pub const DEV_IOC_SYNC_INIT: u32 = 0xe503;

/// Length of `in_out` in a ring entry's header area, bytes.
pub const URING_IN_OUT_HEADER_SZ: usize = 128;
/// Length of `op_in` in a ring entry's header area, bytes.
pub const URING_OP_IN_OUT_SZ: usize = 128;

/// Length of `EntryOut` before 7.9, below the floor of this crate.
pub const COMPAT_ENTRY_OUT_SIZE: usize = 120;
/// Length of `AttrOut` before 7.9, below the floor of this crate.
pub const COMPAT_ATTR_OUT_SIZE: usize = 96;
/// Length of `MknodIn` before 7.12, below the floor of this crate.
pub const COMPAT_MKNOD_IN_SIZE: usize = 8;
/// Length of `WriteIn` before 7.9, below the floor of this crate.
pub const COMPAT_WRITE_IN_SIZE: usize = 24;
/// Length of `StatfsOut` before 7.4, below the floor of this crate.
pub const COMPAT_STATFS_SIZE: usize = 48;
/// Length of `InitOut` before 7.5, below the floor of this crate.
pub const COMPAT_INIT_OUT_SIZE: usize = 8;
/// Length of `InitOut` before 7.23, below the floor of this crate.
pub const COMPAT_22_INIT_OUT_SIZE: usize = 24;
/// Length of `InitIn` before 7.36, which the kernels from the floor up to 7.35 send.
pub const INIT_IN_SIZE_BEFORE_EXT: usize = 16;
