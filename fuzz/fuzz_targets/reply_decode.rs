//! The body is in proto/src/fuzzing/reply_decode.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusewire_proto::fuzzing::reply_decode(data));
