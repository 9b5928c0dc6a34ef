//! The body is in proto/src/fuzzing/dirents.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusewire_proto::fuzzing::dirents(data));
