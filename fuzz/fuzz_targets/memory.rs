//! The body is in fs-memory/src/fuzzing.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusewire_memory::fuzzing::memory(data));
