//! Extended attributes of one node.
//!
//! Never known here: who may set which; the kernel checks that (`fs/xattr.c, xattr_permission`).
//! Neighbours: `acl` for the two attributes that have a meaning, `node` keeps the map.

use std::collections::BTreeMap;
use std::sync::Arc;

use fusewire::proto::flags::XattrFlags;
use fusewire::proto::{Errno, Result};

use crate::limits::{Lease, Limits};

/// The longest name and value that the kernel lets through (include/uapi/linux/limits.h).
const NAME_MAX: usize = 255;
const VALUE_MAX: usize = 65536;
/// The longest list of names that listxattr(2) can return.
const LIST_MAX: usize = 65536;
/// What an attribute takes beside its bytes, about.
const OVERHEAD: usize = 64;

const SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// A node's attributes, the access control lists included.
#[derive(Debug)]
pub(crate) struct Xattrs {
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
    lease: Lease,
}

fn cost(name: &[u8], value: &[u8]) -> u64 {
    (name.len() + value.len() + OVERHEAD) as u64
}

/// Whether attributes of this name are kept.
fn check(name: &[u8]) -> Result<()> {
    let space = SPACES.iter().find(|space| name.starts_with(space));
    let known = space.map(|space| name.len() > space.len());
    let acl = name == crate::acl::ACCESS || name == crate::acl::DEFAULT;
    match known {
        _ if name.len() > NAME_MAX => Err(Errno::ERANGE),
        Some(true) => Ok(()),
        None if acl => Ok(()),
        Some(false) => Err(Errno::EINVAL),
        None => Err(Errno::EOPNOTSUPP),
    }
}

impl Xattrs {
    pub(crate) fn new(limits: &Arc<Limits>) -> Self {
        Self { values: BTreeMap::new(), lease: Lease::new(limits) }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Result<&[u8]> {
        match self.values.get(name) {
            Some(value) => Ok(value),
            None => check(name).and(Err(Errno::ENODATA)),
        }
    }

    /// Sets a value under the rules of `flags`.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        check(name)?;
        let old = self.values.get(name).map(|old| cost(name, old));
        match (flags, old) {
            (XattrFlags::CREATE, Some(_)) => return Err(Errno::EEXIST),
            (XattrFlags::REPLACE, None) => return Err(Errno::ENODATA),
            (XattrFlags::CREATE | XattrFlags::REPLACE, _) => {}
            _ if flags.is_empty() => {}
            _ => return Err(Errno::EINVAL),
        }
        if value.len() > VALUE_MAX {
            return Err(Errno::E2BIG);
        }
        let listed: usize = self.values.keys().map(|name| name.len() + 1).sum();
        if old.is_none() && listed + name.len() + 1 > LIST_MAX {
            return Err(Errno::ENOSPC);
        }
        // Only the difference, so that a value of the same length can be set on a full filesystem.
        let (new, old) = (cost(name, value), old.unwrap_or(0));
        self.lease.grow(new.saturating_sub(old))?;
        self.values.insert(name.into(), value.into());
        self.lease.shrink(old.saturating_sub(new));
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Result<()> {
        match self.values.remove(name) {
            Some(old) => {
                self.lease.shrink(cost(name, &old));
                Ok(())
            }
            None => check(name).and(Err(Errno::ENODATA)),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.values.keys().map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_limits_and_spaces() {
        let limits = Limits::new(150_000, 1);
        let mut xattrs = Xattrs::new(&limits);
        assert_eq!(xattrs.get(b"user.a"), Err(Errno::ENODATA));
        assert_eq!(xattrs.get(b"other.a"), Err(Errno::EOPNOTSUPP));
        assert_eq!(xattrs.set(b"user.", b"", XattrFlags::empty()), Err(Errno::EINVAL));
        assert_eq!(xattrs.set(b"user.a", b"1", XattrFlags::REPLACE), Err(Errno::ENODATA));
        xattrs.set(b"user.a", b"1", XattrFlags::CREATE).unwrap();
        assert_eq!(xattrs.set(b"user.a", b"2", XattrFlags::CREATE), Err(Errno::EEXIST));
        xattrs.set(b"user.a", b"22", XattrFlags::REPLACE).unwrap();
        assert_eq!(xattrs.get(b"user.a"), Ok(b"22".as_slice()));
        assert_eq!(xattrs.set(b"user.b", &[0; 65537], XattrFlags::empty()), Err(Errno::E2BIG));
        xattrs.set(b"user.b", &[0; 65536], XattrFlags::empty()).unwrap();
        xattrs.set(b"user.c", &[0; 65536], XattrFlags::empty()).unwrap();
        assert_eq!(xattrs.set(b"user.d", &[0; 65536], XattrFlags::empty()), Err(Errno::ENOSPC));
        // The room is full but for what the old value takes.
        xattrs.set(b"user.b", &[1; 65536], XattrFlags::empty()).unwrap();
        for name in [b"user.a", b"user.b", b"user.c"] {
            xattrs.remove(name).unwrap();
        }
        assert_eq!(xattrs.remove(b"user.a"), Err(Errno::ENODATA));
        assert_eq!((xattrs.names().count(), limits.bytes().1), (0, 0));
    }
}
