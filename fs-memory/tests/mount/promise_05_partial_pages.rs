//! Promise 5: a write into the middle of a page keeps the rest of it, also on a handle that may
//! only write.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};

use rustix::io::Errno;

use crate::common::{
    PAGE, PAGE_U64, Place, Plan, as_nobody, cases, fails, forget_pages, open_append, open_wo,
    pattern, same_bytes,
};

cases!(
    everywhere;
    middle_of_a_page,
    end_of_file_inside_a_page,
    far_past_the_end_of_file,
    first_and_last_page_of_one_write,
    single_bytes_in_many_pages,
    append_behind_a_partial_page,
);
cases!(everywhere, Plan::new().options(&["--allow-other"]); a_file_that_may_only_be_written);
cases!(writeback; the_rest_of_the_page_is_read_first, a_whole_page_is_not_read_first);

fn middle_of_a_page(place: &Place) {
    let path = place.path("f");
    let mut data = pattern(3 * PAGE, 1);
    fs::write(&path, &data).unwrap();
    forget_pages(&path);
    let file = open_wo(&path);
    file.write_all_at(&[b'x'; 100], PAGE_U64 + 1000).unwrap();
    drop(file);
    data[PAGE + 1000..PAGE + 1100].fill(b'x');
    same_bytes(&fs::read(&path).unwrap(), &data, "from the cache");
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &data, "from the file system");
}

/// Bytes of READs that a write of 100 bytes at an offset costs.
fn bytes_read_for(place: &Place, len: usize, offset: u64) -> u64 {
    let path = place.path("f");
    fs::write(&path, pattern(64 * PAGE, 1)).unwrap();
    forget_pages(&path);
    let file = open_wo(&path);
    let before = place.stats().bytes("READ");
    file.write_all_at(&vec![b'x'; len], offset).unwrap();
    place.stats().bytes("READ") - before
}

fn the_rest_of_the_page_is_read_first(place: &Place) {
    let read = bytes_read_for(place, 100, PAGE_U64 + 1000);
    assert!(read >= PAGE_U64, "only {read} bytes were read before a partial write");
}

fn a_whole_page_is_not_read_first(place: &Place) {
    let page = rustix::param::page_size();
    let read = bytes_read_for(place, page, page as u64);
    assert_eq!(read, 0, "bytes were read before the write of a whole page");
}

fn end_of_file_inside_a_page(place: &Place) {
    let path = place.path("f");
    let mut data = pattern(5000, 1);
    fs::write(&path, &data).unwrap();
    forget_pages(&path);
    open_wo(&path).write_all_at(&[b'y'; 20], 4990).unwrap();
    data.resize(5010, 0);
    data[4990..].fill(b'y');
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &data, "content");
}

fn far_past_the_end_of_file(place: &Place) {
    let path = place.path("f");
    fs::write(&path, [b'a'; 100]).unwrap();
    forget_pages(&path);
    open_wo(&path).write_all_at(&[b'z'; 10], 10_000).unwrap();
    let wanted = [&[b'a'; 100][..], &[0; 9900], &[b'z'; 10]].concat();
    same_bytes(&fs::read(&path).unwrap(), &wanted, "from the cache");
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &wanted, "from the file system");
}

fn first_and_last_page_of_one_write(place: &Place) {
    let path = place.path("f");
    let mut data = pattern(40 * PAGE, 1);
    fs::write(&path, &data).unwrap();
    forget_pages(&path);
    let new = pattern(35 * PAGE + 77, 2);
    open_wo(&path).write_all_at(&new, PAGE_U64 + 123).unwrap();
    data[PAGE + 123..PAGE + 123 + new.len()].copy_from_slice(&new);
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &data, "content");
}

fn single_bytes_in_many_pages(place: &Place) {
    let path = place.path("f");
    let mut data = pattern(64 * PAGE, 1);
    fs::write(&path, &data).unwrap();
    forget_pages(&path);
    let file = open_wo(&path);
    for at in (0..data.len()).step_by(PAGE - 1) {
        file.write_all_at(b"#", at as u64).unwrap();
        data[at] = b'#';
    }
    drop(file);
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &data, "content");
}

fn append_behind_a_partial_page(place: &Place) {
    let path = place.path("f");
    let data = pattern(PAGE + 1234, 1);
    fs::write(&path, &data).unwrap();
    forget_pages(&path);
    open_append(&path).write_all(b"tail").unwrap();
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &[&data[..], b"tail"].concat(), "content");
}

/// The owner may not read the file, yet the kernel must be able to for him.
fn a_file_that_may_only_be_written(place: &Place) {
    let path = place.path("f");
    let mut data = pattern(2 * PAGE, 1);
    fs::write(&path, &data).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o200)).unwrap();
    forget_pages(&path);
    as_nobody(|| {
        fails(fs::File::open(&path), Errno::ACCESS, "open for reading");
        open_wo(&path).write_all_at(&[b'w'; 10], 10).unwrap();
    });
    data[10..20].fill(b'w');
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &data, "content");
}
