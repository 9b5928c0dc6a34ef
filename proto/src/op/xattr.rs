//! Extended attributes: setting, getting, listing, removing.
//!
//! Their names are strings of one byte or more; unlike names of files they may contain `/`.

use crate::abi;
use crate::composer::{Composer, wire_len};
use crate::cursor::{DecodeError, Parts};
use crate::flags::{SetXattrFlags, XattrFlags};
use crate::types::XattrName;

/// SETXATTR: set an extended attribute.
///
/// - **From**: setxattr(2) and its family, setting an ACL.
/// - **Reply**: empty.
/// - **Cached**: nothing, except ACLs with POSIX_ACL; attributes are asked again.
/// - **Errors**: EEXIST (CREATE), ENODATA (REPLACE), ENOSPC, EDQUOT, E2BIG,
///   EOPNOTSUPP, EPERM. ENOSYS is remembered: no xattr is set any more.
/// - **Kernel**: fs/fuse/xattr.c, `fuse_setxattr`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SetXattr<'a> {
    /// Name with its namespace, such as `user.mime`.
    pub name: &'a XattrName,
    /// The value, in place.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))]
    pub value: &'a [u8],
    /// Whether there must be one already, or none; nothing for either.
    pub flags: XattrFlags,
    /// The second word; empty unless SETXATTR_EXT is agreed.
    pub setxattr_flags: SetXattrFlags,
}

/// GETXATTR: the value of an extended attribute.
///
/// - **From**: getxattr(2) and its family; the kernel for ACLs and for capabilities before writes.
/// - **Reply**: the value; with `size` 0 only its length, as
///   [`Reply::XattrSize`](crate::reply::Reply::XattrSize).
/// - **Cached**: nothing, except ACLs with POSIX_ACL.
/// - **Errors**: ENODATA where it is missing, ERANGE where `size` is too small, E2BIG, EOPNOTSUPP.
///   ENOSYS is remembered: no xattr is asked for any more.
/// - **Kernel**: fs/fuse/xattr.c, `fuse_getxattr`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GetXattr<'a> {
    /// Name with its namespace.
    pub name: &'a XattrName,
    /// Room for the value, bytes; 0 asks for its length.
    pub size: u32,
}

/// LISTXATTR: the names of all extended attributes.
///
/// - **From**: listxattr(2) and its family.
/// - **Reply**: the names, each with its NUL; with `size` 0 only their length together, as
///   [`Reply::XattrSize`](crate::reply::Reply::XattrSize).
/// - **Cached**: nothing.
/// - **Errors**: ERANGE where `size` is too small, E2BIG, EOPNOTSUPP. ENOSYS is remembered. A name
///   that is empty or has no NUL is EIO.
/// - **Kernel**: fs/fuse/xattr.c, `fuse_listxattr`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ListXattr {
    /// Room for the names, bytes; 0 asks for their length.
    pub size: u32,
}

/// REMOVEXATTR: remove an extended attribute.
///
/// - **From**: removexattr(2) and its family.
/// - **Reply**: empty.
/// - **Cached**: nothing; attributes are asked again.
/// - **Errors**: ENODATA, EPERM, EOPNOTSUPP. ENOSYS is remembered.
/// - **Kernel**: fs/fuse/xattr.c, `fuse_removexattr`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RemoveXattr<'a> {
    /// Name with its namespace.
    pub name: &'a XattrName,
}

impl<'a> SetXattr<'a> {
    /// The argument's own length says its form: 16 bytes with SETXATTR_EXT agreed, else 8.
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed = if parts.argument_len() == abi::COMPAT_SETXATTR_IN_SIZE {
            let words: [u32; 2] = parts.argument()?;
            let [size, flags] = words;
            abi::SetxattrIn { size, flags, ..Default::default() }
        } else {
            parts.argument()?
        };
        let name = parts.xattr_name()?;
        let value = parts.data("value", fixed.size)?;
        parts.end()?;
        let abi::SetxattrIn { flags, setxattr_flags, .. } = fixed;
        Ok(Self { name, value, flags: flags.into(), setxattr_flags: setxattr_flags.into() })
    }

    /// The form is what was agreed; the shorter has no place for the second word of flags.
    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let (size, flags) = (wire_len(self.value), self.flags.bits());
        let setxattr_flags = self.setxattr_flags.bits();
        if out.forms.setxattr_ext {
            out.argument(&abi::SetxattrIn { size, flags, setxattr_flags, padding: 0 });
        } else {
            if setxattr_flags != 0 {
                out.unrepresentable("setxattr_flags");
            }
            out.argument(&[size, flags]);
        }
        out.string(self.name.as_bytes());
        out.data(self.value);
    }
}

impl<'a> GetXattr<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::GetxattrIn = parts.argument()?;
        let name = parts.xattr_name()?;
        parts.end()?;
        Ok(Self { name, size: fixed.size })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::GetxattrIn { size: self.size, padding: 0 });
        out.string(self.name.as_bytes());
    }
}

impl ListXattr {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::GetxattrIn = parts.argument()?;
        parts.end()?;
        Ok(Self { size: fixed.size })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::GetxattrIn { size: self.size, padding: 0 });
    }
}

impl<'a> RemoveXattr<'a> {
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let name = parts.xattr_name()?;
        parts.end()?;
        Ok(Self { name })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.string(self.name.as_bytes());
    }
}
