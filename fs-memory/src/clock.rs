//! The time of day, as the kernel stamps files with it.

use fusewire::proto::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// The time of the last clock tick. The kernel takes its own stamps (write-back: size and times are
/// its) from the same clock, so ours and its never run backwards against each other.
pub(crate) fn now() -> Timestamp {
    match clock_gettime(ClockId::CLOCK_REALTIME_COARSE) {
        Ok(time) => Timestamp {
            seconds: time.tv_sec(),
            nanoseconds: u32::try_from(time.tv_nsec()).unwrap_or(0),
        },
        // clock_gettime(2) fails for unknown clocks only, and Linux has had this one since 2.6.32.
        Err(_) => Timestamp::EPOCH,
    }
}
