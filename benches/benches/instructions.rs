//! Instructions that codec and engine spend, counted by callgrind, with limits that fail the run.
//!
//! Counted is what runs between entering and leaving a function of a module `measured`; the inputs
//! are made before. Where the engine serves, what the simulated kernel does is left out. The limits
//! and their reasons stand in `guards.json`. `scripts/count-instructions` runs this and installs
//! what it needs.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench is no library and may fail")]

use fusewire_benches::codec::{self, Message, measured};
use fusewire_benches::served::{self, Served};
use fusewire_proto::{
    Agreement, Attributes, DecodeError, Entry, Limits, NegotiateError, Offer, Operation, Reply,
    TooSmall, Wishes,
};
use gungraun::{
    Callgrind, EntryPoint, EventKind, LibraryBenchmarkConfig, library_benchmark,
    library_benchmark_group, main,
};
use serde_json::Value;

fn counted() -> Callgrind {
    let mut callgrind = Callgrind::default();
    callgrind.entry_point(EntryPoint::Custom("*::measured::*".into()));
    // Each of these turns the counting off, and on again at its end.
    callgrind.args(["toggle-collect=*Wire::deliver*", "toggle-collect=*Wire::take*"]);
    callgrind
}

/// With the limit that `guards.json` has under this name.
fn guarded(name: &str) -> LibraryBenchmarkConfig {
    let guards: Vec<Value> = serde_json::from_str(include_str!("../guards.json")).unwrap();
    let guard = guards.iter().find(|guard| guard["name"] == name);
    let most = guard.unwrap_or_else(|| panic!("no guard {name}"))["most"].as_u64().unwrap();
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(counted().hard_limits([(EventKind::Ir, most)]).clone());
    config
}

type Decoded = Result<Operation<'static>, DecodeError>;

#[library_benchmark(config = guarded("instructions: decode READ, WRITE"))]
#[bench::read(codec::read())]
#[bench::write(codec::write())]
fn decode_io(message: Message) -> Decoded {
    message.decode()
}

// A name of one byte, so that scanning it does not count; the other length tells the slope.
#[library_benchmark(config = guarded("instructions: decode LOOKUP of 1 byte"))]
#[bench::name_1(codec::lookup(1))]
fn decode_lookup(message: Message) -> Decoded {
    message.decode()
}

#[library_benchmark]
#[bench::lookup_name_17(codec::lookup(17))]
#[bench::lookup_name_255(codec::lookup(255))]
#[bench::getattr(codec::getattr())]
fn decode(message: Message) -> Decoded {
    message.decode()
}

#[library_benchmark]
#[bench::read(codec::read())]
#[bench::lookup_name_1(codec::lookup(1))]
fn split_and_decode(message: Message) -> Decoded {
    message.split_and_decode()
}

#[library_benchmark(config = guarded("instructions: reply header"))]
#[bench::success([0; 64])]
fn reply_header(mut out: [u8; 64]) -> bool {
    measured::reply_header(&mut out, codec::UNIQUE, 4096)
}

#[library_benchmark(config = guarded("instructions: reply header"))]
#[bench::error([0; 64])]
fn error_header(mut out: [u8; 64]) -> bool {
    measured::error_header(&mut out, codec::UNIQUE)
}

#[library_benchmark]
#[bench::entry((Reply::Entry(Entry::default()), [0; 256]))]
#[bench::attributes((Reply::Attributes(Attributes::default()), [0; 256]))]
#[bench::written((Reply::Written(4096), [0; 256]))]
fn reply_body((reply, mut out): (Reply<'static>, [u8; 256])) -> Result<usize, TooSmall> {
    measured::reply_body(&reply, &mut out)
}

#[library_benchmark]
#[bench::getattr((codec::getattr(), [0; 256]))]
fn decode_and_reply((message, mut out): (Message, [u8; 256])) -> usize {
    message.getattr(&mut out)
}

#[library_benchmark]
#[bench::name_1((1, [0; 256]))]
#[bench::name_17((17, [0; 256]))]
fn dirent((len, mut out): (usize, [u8; 256])) -> bool {
    measured::dirent(&mut out, codec::NAME.get(..len).unwrap())
}

#[library_benchmark]
#[bench::all_flags((codec::offer(), codec::wishes()))]
fn negotiate((offer, wishes): (Offer, Wishes)) -> Result<Agreement, NegotiateError> {
    measured::negotiate(&offer, &wishes, &Limits::default())
}

#[library_benchmark(config = guarded("instructions: serve LOOKUP, GETATTR"))]
#[bench::lookup_name_1(served::lookup(1))]
#[bench::getattr(served::getattr(1))]
fn serve(served: Served) -> Served {
    served.serve()
}

#[library_benchmark(config = guarded("instructions: serve 64 GETATTRs, 8 at a time"))]
#[bench::getattr(served::getattr(64))]
fn serve_many(served: Served) -> Served {
    served.serve()
}

// No limit grows with the size: nobody copies.
#[library_benchmark(config = guarded("instructions: serve READ, WRITE of any size"))]
#[bench::read_4_kib(served::read(4096))]
#[bench::read_1_mib(served::read(1 << 20))]
#[bench::write_4_kib(served::write(4096))]
#[bench::write_1_mib(served::write(1 << 20))]
fn serve_data(served: Served) -> Served {
    served.serve()
}

library_benchmark_group!(name = engine_cost, benchmarks = [serve, serve_many, serve_data]);

library_benchmark_group!(
    name = codec_cost,
    benchmarks = [
        decode_io,
        decode_lookup,
        decode,
        split_and_decode,
        reply_header,
        error_header,
        reply_body,
        decode_and_reply,
        dirent,
        negotiate
    ]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(counted()),
    library_benchmark_groups = [codec_cost, engine_cost]
);
