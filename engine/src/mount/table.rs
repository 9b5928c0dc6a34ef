//! The table of mounts, read without touching any of them: `/proc/self/mountinfo`, proc(5).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Whether the topmost mount on `path` is of a FUSE filesystem.
pub(super) fn fuse_at(path: &Path) -> bool {
    fs::read("/proc/self/mountinfo").is_ok_and(|table| is_fuse(&table, path))
}

fn is_fuse(table: &[u8], path: &Path) -> bool {
    let mut lines = table.split(|byte| *byte == b'\n').rev();
    let kind = lines.find_map(|line| kind_at(line, path));
    kind.is_some_and(|kind| kind == b"fuse" || kind.starts_with(b"fuse."))
}

/// Type of the filesystem of the line, if it is of a mount on `path`.
fn kind_at<'a>(line: &'a [u8], path: &Path) -> Option<&'a [u8]> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mounted_on = fields.nth(4)?;
    if unescaped(mounted_on).as_bytes() != path.as_os_str().as_bytes() {
        return None;
    }
    fields.skip_while(|field| *field != b"-").nth(1)
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, code) {
            (b'\\', Some(code)) => {
                plain.push(code);
                rest = &others[3..];
            }
            _ => {
                plain.push(*first);
                rest = others;
            }
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
40 22 0:51 / /mnt/a\\040b rw,nosuid,nodev shared:7 - fuse.x x rw,user_id=0\n\
41 22 0:52 / /mnt/c rw - fuse x rw\n\
42 41 0:53 / /mnt/c rw - tmpfs x rw\n";

    #[test]
    fn finds_the_topmost_mount() {
        assert!(is_fuse(TABLE, Path::new("/mnt/a b")));
        assert!(!is_fuse(TABLE, Path::new("/mnt/c")), "a tmpfs covers it");
        assert!(!is_fuse(TABLE, Path::new("/")));
        assert!(!is_fuse(TABLE, Path::new("/mnt/d")));
    }
}
