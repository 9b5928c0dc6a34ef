//! The body is in proto/src/fuzzing/notify_decode.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusewire_proto::fuzzing::notify_decode(data));
