//! POSIX access control lists, in the form that they have as attribute values.
//!
//! Form: include/uapi/linux/posix_acl_xattr.h: a version word of 2, then entries of tag, rights
//! and id, little-endian. Meaning: acl(5). The kernel checks access by them; here they are
//! checked, kept in step with the mode, and inherited.
//!
//! Never known here: nodes. Neighbour: `xattr`.

use fusewire::proto::{Errno, Result};

/// Name of the list that governs access.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Name of the list that new entries of a directory inherit.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER_LEN: usize = 4;
const ENTRY_LEN: usize = 8;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    rights: u16,
    id: u32,
}

/// A checked list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl(Vec<Entry>);

impl Acl {
    /// Checks an attribute value. An empty list is `None`: it takes the attribute away.
    pub(crate) fn parse(value: &[u8]) -> Result<Option<Self>> {
        let (version, rest) = value.split_first_chunk::<HEADER_LEN>().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        if rest.len() % ENTRY_LEN != 0 {
            return Err(Errno::EINVAL);
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let entries = rest.chunks_exact(ENTRY_LEN).map(|bytes| Entry {
            tag: u16::from_le_bytes([bytes[0], bytes[1]]),
            rights: u16::from_le_bytes([bytes[2], bytes[3]]),
            id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        });
        let acl = Self(entries.collect());
        if acl.is_valid() { Ok(Some(acl)) } else { Err(Errno::EINVAL) }
    }

    /// Entries ascend by tag and id; one of each owner, group, other; a mask if there are names.
    fn is_valid(&self) -> bool {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let known = [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER];
        let named = count(USER) + count(GROUP) > 0;
        let key = |entry: &Entry| {
            (entry.tag, if matches!(entry.tag, USER | GROUP) { entry.id } else { 0 })
        };
        self.0.iter().all(|entry| known.contains(&entry.tag) && entry.rights <= 7)
            && count(USER_OBJ) == 1
            && count(GROUP_OBJ) == 1
            && count(OTHER) == 1
            && count(MASK) <= 1
            && (!named || count(MASK) == 1)
            && self.0.windows(2).all(|pair| key(&pair[0]).0 <= key(&pair[1]).0)
    }

    /// The attribute value.
    pub(crate) fn bytes(&self) -> Box<[u8]> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.tag.to_le_bytes());
            bytes.extend_from_slice(&entry.rights.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes.into()
    }

    /// Whether the mode says all that the list says.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.iter().all(|entry| matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    fn rights(&self, tag: u16) -> Option<u16> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.rights)
    }

    fn rights_mut(&mut self, tag: u16) -> Option<&mut u16> {
        self.0.iter_mut().find(|entry| entry.tag == tag).map(|entry| &mut entry.rights)
    }

    /// The nine permission bits that stand for the list; the mask stands for the group.
    pub(crate) fn mode(&self) -> u32 {
        let group = self.rights(MASK).or(self.rights(GROUP_OBJ));
        let bits = [self.rights(USER_OBJ), group, self.rights(OTHER)];
        bits.into_iter().fold(0, |mode, rights| mode << 3 | u32::from(rights.unwrap_or(0)))
    }

    /// chmod(2): the list follows the mode.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        let class = if self.rights(MASK).is_some() { MASK } else { GROUP_OBJ };
        for (tag, shift) in [(USER_OBJ, 6), (class, 3), (OTHER, 0)] {
            if let Some(rights) = self.rights_mut(tag) {
                *rights = u16::try_from(mode >> shift & 7).unwrap_or(0);
            }
        }
    }

    /// What a new entry gets of its directory's default list: the list, and the mode, each
    /// limited by the other (acl(5), object creation).
    pub(crate) fn inherited(&self, mode: u32) -> (Self, u32) {
        let mut acl = self.clone();
        let limited = mode & acl.mode();
        acl.set_mode(limited);
        (acl, mode & !0o777 | limited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let acl =
            entries.iter().map(|(tag, rights, id)| Entry { tag: *tag, rights: *rights, id: *id });
        Acl(acl.collect()).bytes().into()
    }

    const NONE: u32 = u32::MAX;

    #[test]
    fn only_lists_that_make_sense() {
        let plain = [(USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 1, NONE)];
        let acl = Acl::parse(&value(&plain)).unwrap().unwrap();
        assert_eq!((acl.mode(), acl.is_plain()), (0o751, true));
        assert_eq!(Acl::parse(&2_u32.to_le_bytes()), Ok(None));
        let named = [(USER_OBJ, 7, NONE), (USER, 6, 5), (GROUP_OBJ, 5, NONE), (OTHER, 1, NONE)];
        for bad in [
            value(&plain[..2]),
            value(&named),
            value(&[(USER_OBJ, 8, NONE), plain[1], plain[2]]),
            value(&[plain[1], plain[0], plain[2]]),
            value(&[plain[0], plain[1], plain[2], (0x40, 0, 0)]),
            value(&plain)[..13].to_vec(),
            vec![2, 0],
        ] {
            assert_eq!(Acl::parse(&bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(Acl::parse(&3_u32.to_le_bytes()), Err(Errno::EOPNOTSUPP));
    }

    #[test]
    fn the_mask_stands_for_the_group() {
        let list = [
            (USER_OBJ, 7, NONE),
            (USER, 6, 5),
            (GROUP_OBJ, 5, NONE),
            (MASK, 4, NONE),
            (OTHER, 0, NONE),
        ];
        let mut acl = Acl::parse(&value(&list)).unwrap().unwrap();
        assert_eq!((acl.mode(), acl.is_plain()), (0o740, false));
        acl.set_mode(0o627);
        assert_eq!((acl.rights(MASK), acl.rights(GROUP_OBJ)), (Some(2), Some(5)));
        assert_eq!(acl.mode(), 0o627);
        let (child, mode) = acl.inherited(0o100_664);
        assert_eq!(mode, 0o100_624);
        assert_eq!(child.mode(), 0o624);
    }
}
