//! The tree as its peers see it.

use super::*;

const FILE: Maker = Maker { mode: libc::S_IFREG | 0o644, uid: 1, gid: 2 };
const DIRECTORY: Maker = Maker { mode: libc::S_IFDIR | 0o755, uid: 0, gid: 0 };

fn read(tree: &Tree, ino: u64, offset: u64, size: u32) -> Vec<u8> {
    tree.read(ino, offset, size, |pieces| pieces.concat()).unwrap()
}

#[test]
fn names_come_move_and_go() {
    let tree = Tree::new();
    let a = tree.make(ROOT, b"a", FILE).unwrap();
    assert_eq!(tree.make(ROOT, b"a", FILE).unwrap_err(), libc::EEXIST);
    let d = tree.make(ROOT, b"d", DIRECTORY).unwrap();
    assert_eq!(tree.getattr(ROOT).unwrap().nlink, 3);
    tree.rename(ROOT, b"a", d.ino, b"b").unwrap();
    assert_eq!(tree.lookup(ROOT, b"a").unwrap_err(), libc::ENOENT);
    assert_eq!(tree.lookup(d.ino, b"b").unwrap().ino, a.ino);
    assert_eq!(tree.rmdir(ROOT, b"d").unwrap_err(), libc::ENOTEMPTY);
    assert_eq!(tree.unlink(ROOT, b"d").unwrap_err(), libc::EISDIR);
    tree.make(d.ino, b"c", FILE).unwrap();
    tree.rename(d.ino, b"c", d.ino, b"b").unwrap();
    assert_eq!(tree.getattr(a.ino).unwrap().nlink, 0, "replaced");
    tree.forget(a.ino, 2);
    assert_eq!(tree.getattr(a.ino).unwrap_err(), libc::ESTALE, "gone once forgotten");
    tree.unlink(d.ino, b"b").unwrap();
    tree.rmdir(ROOT, b"d").unwrap();
    assert_eq!(tree.getattr(ROOT).unwrap().nlink, 2);
}

#[test]
fn what_is_written_is_read() {
    let tree = Tree::new();
    let file = tree.make(ROOT, b"f", FILE).unwrap().ino;
    tree.write(file, 10, b"abc").unwrap();
    assert_eq!(read(&tree, file, 9, 100), b"\0abc");
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    tree.write(file, 1_000_000, &large).unwrap();
    assert_eq!(read(&tree, file, 1_000_000, 3_000_000), large);
    assert_eq!(read(&tree, file, 500_000, 16), [0; 16], "a hole");
    let change = Change { size: Some(12), ..Change::default() };
    assert_eq!(tree.setattr(file, change).unwrap().size, 12);
    let change = Change { size: Some(14), ..Change::default() };
    tree.setattr(file, change).unwrap();
    assert_eq!(read(&tree, file, 9, 100), b"\0ab\0\0", "what was cut off is not there again");
}

#[test]
fn a_directory_is_listed_in_pieces() {
    let tree = Tree::new();
    for name in ["a", "b", "c"] {
        tree.make(ROOT, name.as_bytes(), FILE).unwrap();
    }
    let mut seen = Vec::new();
    let mut from = 0;
    for _ in 0..3 {
        let mut room = 1;
        tree.list(ROOT, from, false, |entry| {
            if room > 0 {
                seen.push(entry.name.to_vec());
                from = entry.next;
            }
            room -= 1;
            room >= 0
        })
        .unwrap();
    }
    assert_eq!(seen, [b"a", b"b", b"c"]);
}
