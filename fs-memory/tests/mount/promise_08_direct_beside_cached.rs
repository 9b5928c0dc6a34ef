//! Promise 8: direct reads and writes beside cached ones never see or leave old data.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::common::{
    PAGE, PAGE_U64, Place, Random, cases, drop_pages, open_direct, open_rw, pattern, read_at,
    read_direct, same_bytes, write_direct,
};

cases!(
    everywhere;
    direct_read_sees_cached_writes,
    direct_read_after_close_of_the_writer,
    cached_read_sees_direct_writes,
    direct_write_over_dirty_pages,
    neighbours_of_a_direct_write_stay,
    direct_write_extends_a_dirty_file,
    direct_read_across_a_dirty_end,
    random_pages_through_both,
);

const ROUNDS: u64 = 30;

fn direct_read_sees_cached_writes(place: &Place) {
    let direct = open_direct(&place.path("f"));
    let cached = open_rw(&place.path("f"));
    for round in 0..ROUNDS {
        let data = pattern(8 * PAGE, round);
        cached.write_all_at(&data, 0).unwrap();
        same_bytes(&read_direct(&direct, 8 * PAGE, 0), &data, &format!("round {round}"));
    }
}

fn direct_read_after_close_of_the_writer(place: &Place) {
    for round in 0..ROUNDS {
        let data = pattern(4 * PAGE, round);
        std::fs::write(place.path("f"), &data).unwrap();
        let direct = open_direct(&place.path("f"));
        same_bytes(&read_direct(&direct, 4 * PAGE, 0), &data, &format!("round {round}"));
    }
}

fn cached_read_sees_direct_writes(place: &Place) {
    std::fs::write(place.path("f"), vec![0; 8 * PAGE]).unwrap();
    let cached = File::open(place.path("f")).unwrap();
    let direct = open_direct(&place.path("f"));
    for round in 0..ROUNDS {
        read_at(&cached, 8 * PAGE, 0);
        let (data, at) = (pattern(2 * PAGE, round), (round % 7) * PAGE_U64);
        write_direct(&direct, &data, at);
        same_bytes(&read_at(&cached, 2 * PAGE, at), &data, &format!("round {round}"));
    }
}

fn direct_write_over_dirty_pages(place: &Place) {
    let cached = open_rw(&place.path("f"));
    let direct = open_direct(&place.path("f"));
    for round in 0..ROUNDS {
        let (old, new) = (pattern(6 * PAGE, round), pattern(2 * PAGE, 1000 + round));
        cached.write_all_at(&old, 0).unwrap();
        write_direct(&direct, &new, 2 * PAGE_U64);
        let wanted = [&old[..2 * PAGE], &new, &old[4 * PAGE..]].concat();
        same_bytes(&read_at(&cached, 6 * PAGE, 0), &wanted, &format!("round {round}"));
        drop_pages(&cached);
        let what = format!("round {round}, from the file system");
        same_bytes(&read_at(&cached, 6 * PAGE, 0), &wanted, &what);
    }
}

/// The pages on both sides are made dirty after the direct write, then before the next one.
fn neighbours_of_a_direct_write_stay(place: &Place) {
    let cached = open_rw(&place.path("f"));
    let direct = open_direct(&place.path("f"));
    let mut wanted = pattern(9 * PAGE, 99);
    cached.write_all_at(&wanted, 0).unwrap();
    for round in 0..ROUNDS {
        let middle = pattern(PAGE, round);
        write_direct(&direct, &middle, 4 * PAGE_U64);
        wanted[4 * PAGE..5 * PAGE].copy_from_slice(&middle);
        for page in [3, 5] {
            let piece = pattern(PAGE / 2, 500 + round + page);
            let at = page * PAGE_U64 + 1000;
            cached.write_all_at(&piece, at).unwrap();
            let at = usize::try_from(at).unwrap();
            wanted[at..at + PAGE / 2].copy_from_slice(&piece);
        }
        same_bytes(&read_direct(&direct, 9 * PAGE, 0), &wanted, &format!("round {round}, direct"));
        same_bytes(&read_at(&cached, 9 * PAGE, 0), &wanted, &format!("round {round}, cached"));
    }
}

fn direct_write_extends_a_dirty_file(place: &Place) {
    let cached = open_rw(&place.path("f"));
    let direct = open_direct(&place.path("f"));
    cached.write_all_at(&[b'c'; 100], 0).unwrap();
    write_direct(&direct, &[b'd'; PAGE], 4 * PAGE_U64);
    let wanted = [&[b'c'; 100][..], &[0; 4 * PAGE - 100], &[b'd'; PAGE]].concat();
    assert_eq!(cached.metadata().unwrap().len(), 5 * PAGE_U64, "size");
    same_bytes(&read_at(&cached, 9 * PAGE, 0), &wanted, "cached");
    drop_pages(&cached);
    same_bytes(&read_at(&cached, 9 * PAGE, 0), &wanted, "from the file system");
}

fn direct_read_across_a_dirty_end(place: &Place) {
    let cached = open_rw(&place.path("f"));
    let direct = open_direct(&place.path("f"));
    cached.write_all_at(&[b'c'; PAGE + 100], 0).unwrap();
    same_bytes(&read_direct(&direct, 4 * PAGE, 0), &[b'c'; PAGE + 100], "content");
    same_bytes(&read_direct(&direct, PAGE, 2 * PAGE_U64), &[], "past the end");
}

fn random_pages_through_both(place: &Place) {
    const PAGES: u64 = 32;
    let seed = u64::from(std::process::id());
    let mut random = Random::new(seed);
    let cached = open_rw(&place.path("f"));
    let direct = open_direct(&place.path("f"));
    let mut wanted = pattern(32 * PAGE, seed);
    cached.write_all_at(&wanted, 0).unwrap();
    for round in 0..400 {
        let page = random.below(PAGES - 4);
        let len = random.pick(&[1, 2, 4]) * PAGE;
        let at = usize::try_from(page * PAGE_U64).unwrap();
        let what = format!("seed {seed}, round {round}, page {page}");
        match random.below(4) {
            0 => {
                let data = random.bytes(len);
                write_direct(&direct, &data, page * PAGE_U64);
                wanted[at..at + len].copy_from_slice(&data);
            }
            1 => {
                let data = random.bytes(len - 300);
                cached.write_all_at(&data, page * PAGE_U64 + 150).unwrap();
                wanted[at + 150..at + len - 150].copy_from_slice(&data);
            }
            2 => same_bytes(
                &read_direct(&direct, len, page * PAGE_U64),
                &wanted[at..at + len],
                &format!("{what}, direct"),
            ),
            _ => same_bytes(
                &read_at(&cached, len, page * PAGE_U64),
                &wanted[at..at + len],
                &format!("{what}, cached"),
            ),
        }
    }
    drop_pages(&cached);
    same_bytes(&read_at(&cached, wanted.len(), 0), &wanted, "at the end");
}
