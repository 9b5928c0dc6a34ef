//! The body is in proto/src/fuzzing/round_trip.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusewire_proto::fuzzing::round_trip(data));
