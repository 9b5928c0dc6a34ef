//! Names: looking up, removing, moving and linking; and giving look-ups back.

use zerocopy::IntoBytes;

use crate::abi;
use crate::composer::{Composer, wire_count};
use crate::cursor::{DecodeError, Parts};
use crate::flags::RenameFlags;
use crate::types::{LookupCount, Name, NodeId};

/// LOOKUP: find `name` in a directory.
///
/// - **From**: any path walk that misses the dentry cache, or whose entry timeout is over.
/// - **Reply**: an entry. It counts one look-up of its nodeid, if the kernel received it.
/// - **Cached**: the name for `entry_valid`, the attributes for `attr_valid`. An entry with nodeid
///   0 says "no such name" and is cached likewise; ENOENT says the same and is not cached.
/// - **Errors**: ENOENT, EACCES, ENOTDIR, ENAMETOOLONG, ESTALE. A reply with nodeid 1 or an
///   invalid type is EIO for the caller, and no FORGET follows.
/// - **Kernel**: fs/fuse/dir.c, `fuse_lookup_name`; since 7.1. With EXPORT_SUPPORT `name` may be
///   `.` or `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Lookup<'a> {
    /// The name that is looked for.
    pub name: &'a Name,
}

/// FORGET: the kernel gives look-ups of one nodeid back. Never answered.
///
/// - **From**: eviction of an inode. Not at unmount: the end of the session ends all nodeids.
/// - **Reply**: none.
/// - **Cached**: nothing; at a count of zero the nodeid may be used for another inode.
/// - **Errors**: none possible.
/// - **Kernel**: fs/fuse/dev.c, `fuse_read_single_forget`; since 7.1. Comes by `/dev/fuse` even
///   when the ring is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Forget {
    /// How many to take off: never set the count to zero instead.
    pub lookups: LookupCount,
}

/// BATCH_FORGET: several FORGETs in one message; the header's nodeid is 0. Never answered.
///
/// - **From**: eviction while two or more forgets wait.
/// - **Reply**: none.
/// - **Cached**: nothing.
/// - **Errors**: none possible.
/// - **Kernel**: fs/fuse/dev.c, `fuse_read_batch_forget`; since 7.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BatchForget<'a> {
    /// The nodeids and their counts, in place: the payload must begin at a multiple of 8.
    pub items: &'a [abi::ForgetOne],
}

/// UNLINK: remove a name that is not a directory's.
///
/// - **From**: unlink(2), unlinkat(2).
/// - **Reply**: empty.
/// - **Cached**: the kernel lowers its own link count and drops the name. The inode stays known by
///   its nodeid until FORGET, and open handles go on working.
/// - **Errors**: ENOENT, EACCES, EPERM, EISDIR, EBUSY, EROFS.
/// - **Kernel**: fs/fuse/dir.c, `fuse_unlink`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Unlink<'a> {
    /// The name to remove.
    pub name: &'a Name,
}

/// RMDIR: remove an empty directory.
///
/// - **From**: rmdir(2), unlinkat(2) with AT_REMOVEDIR.
/// - **Reply**: empty.
/// - **Cached**: the name is dropped, the inode's link count cleared.
/// - **Errors**: ENOTEMPTY, ENOENT, ENOTDIR, EACCES, EPERM, EBUSY, EROFS.
/// - **Kernel**: fs/fuse/dir.c, `fuse_rmdir`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RmDir<'a> {
    /// The name to remove.
    pub name: &'a Name,
}

/// RENAME and RENAME2: move a name, replacing the target if there is one.
///
/// - **From**: rename(2), renameat2(2). RENAME is sent where `flags` would be empty.
/// - **Reply**: empty.
/// - **Cached**: the dentry moves; attributes of both inodes and directories are asked again. A
///   replaced inode lives on by nodeid until FORGET.
/// - **Errors**: ENOENT, EEXIST (NOREPLACE), ENOTEMPTY, EISDIR, ENOTDIR, EXDEV, EINVAL (a
///   directory into itself, or flags not supported), EACCES, EPERM. ENOSYS to RENAME2 is
///   remembered, and callers with flags see EINVAL from then on.
/// - **Kernel**: fs/fuse/dir.c, `fuse_rename2`; RENAME since 7.1, RENAME2 since 7.23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Rename<'a> {
    /// The name in the directory of the header.
    pub old_name: &'a Name,
    /// The directory that gets the name.
    pub new_parent: NodeId,
    /// The name there.
    pub new_name: &'a Name,
    /// What renameat2(2) was told; empty for RENAME.
    pub flags: RenameFlags,
}

/// LINK: give an inode another name, in the directory of the header.
///
/// - **From**: link(2), linkat(2).
/// - **Reply**: an entry with the source's nodeid. It counts one look-up.
/// - **Cached**: as for LOOKUP; the link count of the source is raised.
/// - **Errors**: EEXIST, EMLINK, EPERM, EXDEV, EACCES, ENOSPC, EROFS. ENOSYS is remembered, and
///   callers see EPERM. A reply of another type than the source's is EIO.
/// - **Kernel**: fs/fuse/dir.c, `fuse_link`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Link<'a> {
    /// The inode that gets the name.
    pub source: NodeId,
    /// The new name.
    pub name: &'a Name,
}

impl<'a> Lookup<'a> {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let name = parts.name("name")?;
        parts.end()?;
        Ok(Self { name })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.string(self.name.as_bytes());
    }
}

impl Forget {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::ForgetIn = parts.argument()?;
        parts.end()?;
        Ok(Self { lookups: fixed.nlookup })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::ForgetIn { nlookup: self.lookups });
    }
}

impl<'a> BatchForget<'a> {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::BatchForgetIn = parts.argument()?;
        let items = parts.items("items", fixed.count)?;
        parts.end()?;
        Ok(Self { items })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::BatchForgetIn { count: wire_count(self.items), dummy: 0 });
        out.data(self.items.as_bytes());
    }
}

impl<'a> Unlink<'a> {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let name = parts.name("name")?;
        parts.end()?;
        Ok(Self { name })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.string(self.name.as_bytes());
    }
}

impl<'a> RmDir<'a> {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let name = parts.name("name")?;
        parts.end()?;
        Ok(Self { name })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.string(self.name.as_bytes());
    }
}

impl<'a> Rename<'a> {
    /// The older form: RENAME, without flags.
    pub(crate) fn decode_plain(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::RenameIn = parts.argument()?;
        Self::decode_names(parts, fixed.newdir, RenameFlags::empty())
    }

    /// The form with flags: RENAME2.
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::Rename2In = parts.argument()?;
        Self::decode_names(parts, fixed.newdir, fixed.flags.into())
    }

    fn decode_names(
        mut parts: Parts<'a>,
        new_parent: NodeId,
        flags: RenameFlags,
    ) -> Result<Self, DecodeError> {
        let old_name = parts.name("old_name")?;
        let new_name = parts.name("new_name")?;
        parts.end()?;
        Ok(Self { old_name, new_parent, new_name, flags })
    }

    /// The older form, which has no place for flags.
    pub(crate) fn encode_plain(&self, out: &mut Composer<'_>) {
        if !self.flags.is_empty() {
            out.unrepresentable("flags");
        }
        out.argument(&abi::RenameIn { newdir: self.new_parent });
        self.encode_names(out);
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let (newdir, flags) = (self.new_parent, self.flags.bits());
        out.argument(&abi::Rename2In { newdir, flags, padding: 0 });
        self.encode_names(out);
    }

    fn encode_names(&self, out: &mut Composer<'_>) {
        out.string(self.old_name.as_bytes());
        out.string(self.new_name.as_bytes());
    }
}

impl<'a> Link<'a> {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::LinkIn = parts.argument()?;
        let name = parts.name("name")?;
        parts.end()?;
        Ok(Self { source: fixed.oldnodeid, name })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::LinkIn { oldnodeid: self.source });
        out.string(self.name.as_bytes());
    }
}
