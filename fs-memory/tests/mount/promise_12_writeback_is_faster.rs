//! Promise 12: small writes to a large file are faster with write-back than without.
//!
//! Two mounts of one transport take turns, so that a busy machine slows both alike.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::common::{MIB, Place, Plan, cases, open_rw, pattern};

cases!(writeback, Plan::new().beside(false).seconds(180); small_writes_are_faster);

const PAIRS: usize = 5;
const TOTAL: usize = 64 * MIB;

/// Writes 64 MiB in pieces of 4 KiB to a new file; closing it belongs to the time.
fn time_of_writing(place: &Place) -> Duration {
    let path = place.path("f");
    let piece = pattern(4096, 12);
    let start = Instant::now();
    let mut file = open_rw(&path);
    for _ in 0..TOTAL / piece.len() {
        file.write_all(&piece).unwrap();
    }
    drop(file);
    let took = start.elapsed();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), TOTAL as u64, "size");
    std::fs::remove_file(&path).unwrap();
    took
}

fn small_writes_are_faster(place: &Place) {
    let (on, off) = (place, place.beside());
    assert!(on.keeps_dirty_pages() && !off.keeps_dirty_pages(), "one of each");
    let mut pairs: Vec<(Duration, Duration)> =
        (0..PAIRS).map(|_| (time_of_writing(on), time_of_writing(off))).collect();
    let ratio = |(on, off): &(Duration, Duration)| off.as_secs_f64() / on.as_secs_f64();
    pairs.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let (median, least, most) = (&pairs[PAIRS / 2], &pairs[0], &pairs[PAIRS - 1]);
    let speed = |time: Duration| 64.0 / time.as_secs_f64();
    place.figure(&format!(
        "4 KiB writes: write-back is {:.1} times as fast ({:.1} to {:.1} in {PAIRS} pairs; \
         {:.0} against {:.0} MiB/s)",
        ratio(median),
        ratio(least),
        ratio(most),
        speed(median.0),
        speed(median.1),
    ));
    let expected = (TOTAL * PAIRS) as u64;
    for side in [on, off] {
        assert_eq!(side.stats().bytes("WRITE"), expected, "bytes that arrived");
    }
    assert!(ratio(median) > 1.5, "median ratio {:.2}", ratio(median));
}
