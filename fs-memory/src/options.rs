//! What a filesystem is made with.

/// Limits and the root directory.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bytes of file data, attribute values and link targets.
    pub size: u64,
    /// Most files of any type.
    pub inodes: u64,
    /// Whether reading moves access times; the mount option noatime asks for that to stop, but no
    /// request tells of it.
    pub atime: bool,
    /// Permission bits of the root directory.
    pub mode: u32,
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: 1 << 30, inodes: 1 << 20, atime: true, mode: 0o755, uid: 0, gid: 0 }
    }
}
