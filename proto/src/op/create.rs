//! Making inodes: files, directories, nodes and symbolic links.
//!
//! These are the operations that may carry [`Extensions`].

use super::Extensions;
use crate::abi;
use crate::composer::Composer;
use crate::cursor::{DecodeError, Parts};
use crate::flags::{OpenFlags, OpenInFlags};
use crate::mode::Mode;
use crate::types::{Name, Text};

/// CREATE: make a regular file and open it, in one step.
///
/// - **From**: open(2) and friends with O_CREAT, where the name is not known to exist.
/// - **Reply**: an entry of a regular file and an opened handle. It counts one look-up.
/// - **Cached**: as for LOOKUP and OPEN.
/// - **Errors**: EEXIST with O_EXCL (without it an existing file is opened, and truncated with
///   O_TRUNC), EACCES, ENOSPC, EDQUOT, EROFS, ENAMETOOLONG. ENOSYS is remembered: MKNOD and OPEN
///   are sent instead. An invalid reply is EIO, and neither RELEASE nor FORGET follows.
/// - **Kernel**: fs/fuse/dir.c, `fuse_create_open`; since 7.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Create<'a> {
    /// The new name.
    pub name: &'a Name,
    /// Flags of open(2).
    pub flags: OpenFlags,
    /// Type and permission bits; the umask is applied unless DONT_MASK is agreed.
    pub mode: Mode,
    /// The caller's umask; counts only with DONT_MASK.
    pub umask: u32,
    /// What the open asks for beyond open(2).
    pub open_flags: OpenInFlags,
    /// Label and groups of the caller.
    pub extensions: Extensions<'a>,
}

/// TMPFILE: make and open a regular file without a name, in a directory.
///
/// - **From**: open(2) with O_TMPFILE.
/// - **Reply**: an entry with link count 0 and an opened handle. It counts one look-up.
/// - **Cached**: the attributes; no name.
/// - **Errors**: EOPNOTSUPP, EACCES, ENOSPC, EROFS. ENOSYS is remembered, and callers see
///   EOPNOTSUPP.
/// - **Kernel**: fs/fuse/dir.c, `fuse_tmpfile`; since 7.37.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TmpFile<'a> {
    /// Present on the wire, without meaning: the kernel sends `/`.
    pub name: &'a Text,
    /// Flags of open(2).
    pub flags: OpenFlags,
    /// Type and permission bits; the umask is applied unless DONT_MASK is agreed.
    pub mode: Mode,
    /// The caller's umask; counts only with DONT_MASK.
    pub umask: u32,
    /// What the open asks for beyond open(2).
    pub open_flags: OpenInFlags,
    /// Label and groups of the caller.
    pub extensions: Extensions<'a>,
}

/// MKNOD: make a file of any type but directory and symbolic link.
///
/// - **From**: mknod(2), bind(2) of a socket; open(2) with O_CREAT after ENOSYS to CREATE.
/// - **Reply**: an entry of the type asked for. It counts one look-up.
/// - **Cached**: as for LOOKUP.
/// - **Errors**: EEXIST, EACCES, EPERM (device nodes), ENOSPC, EROFS, ENAMETOOLONG.
/// - **Kernel**: fs/fuse/dir.c, `fuse_mknod`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MkNod<'a> {
    /// The new name.
    pub name: &'a Name,
    /// Type and permission bits; the umask is applied unless DONT_MASK is agreed.
    pub mode: Mode,
    /// Device number: `(minor & 0xff) | major << 8 | (minor & !0xff) << 12`.
    pub rdev: u32,
    /// The caller's umask; counts only with DONT_MASK.
    pub umask: u32,
    /// Label and groups of the caller.
    pub extensions: Extensions<'a>,
}

/// MKDIR: make a directory.
///
/// - **From**: mkdir(2), mkdirat(2).
/// - **Reply**: an entry of a directory. It counts one look-up.
/// - **Cached**: as for LOOKUP.
/// - **Errors**: EEXIST, EACCES, EMLINK, ENOSPC, EROFS, ENAMETOOLONG.
/// - **Kernel**: fs/fuse/dir.c, `fuse_mkdir`; since 7.1. Inheriting the set-group-id bit is the
///   server's, whatever is agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MkDir<'a> {
    /// The new name.
    pub name: &'a Name,
    /// Permission bits, without the type.
    pub mode: Mode,
    /// The caller's umask; counts only with DONT_MASK.
    pub umask: u32,
    /// Label and groups of the caller.
    pub extensions: Extensions<'a>,
}

/// SYMLINK: make a symbolic link.
///
/// - **From**: symlink(2), symlinkat(2).
/// - **Reply**: an entry of a symbolic link. It counts one look-up.
/// - **Cached**: as for LOOKUP.
/// - **Errors**: EEXIST, EACCES, ENOSPC, EROFS, ENAMETOOLONG.
/// - **Kernel**: fs/fuse/dir.c, `fuse_symlink`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Symlink<'a> {
    /// The new name.
    pub name: &'a Name,
    /// What it points to: bytes of the caller, never to be resolved by the server.
    pub target: &'a Text,
    /// Label and groups of the caller.
    pub extensions: Extensions<'a>,
}

impl<'a> Create<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::CreateIn = parts.argument()?;
        let name = parts.name("name")?;
        let extensions = Extensions::decode(&mut parts)?;
        parts.end()?;
        let abi::CreateIn { flags, mode, umask, open_flags } = fixed;
        let (flags, open_flags) = (flags.into(), open_flags.into());
        Ok(Self { name, flags, mode: Mode(mode), umask, open_flags, extensions })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { mode: Mode(mode), umask, .. } = *self;
        let (flags, open_flags) = (self.flags.bits(), self.open_flags.bits());
        out.argument(&abi::CreateIn { flags, mode, umask, open_flags });
        out.string(self.name.as_bytes());
        self.extensions.encode(out);
    }
}

impl<'a> TmpFile<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::CreateIn = parts.argument()?;
        let name = parts.text("name")?;
        let extensions = Extensions::decode(&mut parts)?;
        parts.end()?;
        let abi::CreateIn { flags, mode, umask, open_flags } = fixed;
        let (flags, open_flags) = (flags.into(), open_flags.into());
        Ok(Self { name, flags, mode: Mode(mode), umask, open_flags, extensions })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { mode: Mode(mode), umask, .. } = *self;
        let (flags, open_flags) = (self.flags.bits(), self.open_flags.bits());
        out.argument(&abi::CreateIn { flags, mode, umask, open_flags });
        out.string(self.name.as_bytes());
        self.extensions.encode(out);
    }
}

impl<'a> MkNod<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::MknodIn = parts.argument()?;
        let name = parts.name("name")?;
        let extensions = Extensions::decode(&mut parts)?;
        parts.end()?;
        let abi::MknodIn { mode, rdev, umask, .. } = fixed;
        Ok(Self { name, mode: Mode(mode), rdev, umask, extensions })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { mode: Mode(mode), rdev, umask, .. } = *self;
        out.argument(&abi::MknodIn { mode, rdev, umask, padding: 0 });
        out.string(self.name.as_bytes());
        self.extensions.encode(out);
    }
}

impl<'a> MkDir<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::MkdirIn = parts.argument()?;
        let name = parts.name("name")?;
        let extensions = Extensions::decode(&mut parts)?;
        parts.end()?;
        Ok(Self { name, mode: Mode(fixed.mode), umask: fixed.umask, extensions })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::MkdirIn { mode: self.mode.0, umask: self.umask });
        out.string(self.name.as_bytes());
        self.extensions.encode(out);
    }
}

impl<'a> Symlink<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let name = parts.name("name")?;
        let target = parts.text("target")?;
        let extensions = Extensions::decode(&mut parts)?;
        parts.end()?;
        Ok(Self { name, target, extensions })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.string(self.name.as_bytes());
        out.string(self.target.as_bytes());
        self.extensions.encode(out);
    }
}
