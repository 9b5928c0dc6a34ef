//! Instructions from the whole request to the filesystem, in fusewire and its peers.

#![allow(missing_docs, reason = "a bench is no library")]

use fuser::Session;
use fusewire_benches::codec::{self, Message};
use fusewire_peers::{backend, fuser_peer, polyfuse_peer};
use gungraun::{
    Callgrind, EntryPoint, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use polyfuse::Request;

const HAND_OVER: &str = env!("CARGO_BIN_EXE_hand-over");

const FUSER: &[&str] =
    &["fuser::request::RequestWithSender::new*", "fuser::request::RequestWithSender::dispatch*"];

/// Counts inside of `functions`, and not any more once the filesystem is reached.
fn inside(functions: &[&str]) -> LibraryBenchmarkConfig {
    let toggles = functions.iter().copied().chain(["fusewire_peers::handler_reached*"]);
    let mut callgrind =
        Callgrind::with_args(toggles.map(|function| format!("--toggle-collect={function}")));
    callgrind.entry_point(EntryPoint::None);
    LibraryBenchmarkConfig::default().tool(callgrind).clone()
}

#[library_benchmark(config = inside(&["*::codec::measured::*"]))]
#[bench::read(codec::read())]
#[bench::write(codec::write())]
#[bench::lookup_1(codec::lookup(1))]
#[bench::lookup_17(codec::lookup(17))]
#[bench::lookup_255(codec::lookup(255))]
#[bench::getattr(codec::getattr())]
fn fusewire(message: Message) {
    let _ = std::hint::black_box(message.decode());
}

#[library_benchmark(config = inside(&["*::codec::measured::*"]))]
#[bench::read(codec::read())]
#[bench::write(codec::write())]
#[bench::lookup_1(codec::lookup(1))]
#[bench::lookup_17(codec::lookup(17))]
#[bench::lookup_255(codec::lookup(255))]
#[bench::getattr(codec::getattr())]
fn fusewire_split(message: Message) {
    let _ = std::hint::black_box(message.split_and_decode());
}

#[library_benchmark(config = inside(&["fusewire_peers::polyfuse_peer::measured*"]))]
#[bench::read(polyfuse_peer::request(codec::read(), HAND_OVER))]
#[bench::write(polyfuse_peer::request(codec::write(), HAND_OVER))]
#[bench::lookup_1(polyfuse_peer::request(codec::lookup(1), HAND_OVER))]
#[bench::lookup_17(polyfuse_peer::request(codec::lookup(17), HAND_OVER))]
#[bench::lookup_255(polyfuse_peer::request(codec::lookup(255), HAND_OVER))]
#[bench::getattr(polyfuse_peer::request(codec::getattr(), HAND_OVER))]
fn polyfuse_request(request: Request) {
    let _ = std::hint::black_box(polyfuse_peer::measured_polyfuse(&request));
}

#[library_benchmark(config = inside(&["fusewire_peers::backend::measured*"]))]
#[bench::read(backend::prepare(codec::read()))]
#[bench::write(backend::prepare(codec::write()))]
#[bench::lookup_1(backend::prepare(codec::lookup(1)))]
#[bench::lookup_17(backend::prepare(codec::lookup(17)))]
#[bench::lookup_255(backend::prepare(codec::lookup(255)))]
#[bench::getattr(backend::prepare(codec::getattr()))]
fn fuse_backend_rs(prepared: backend::Prepared) {
    backend::measured_backend(prepared)
}

#[library_benchmark(config = inside(FUSER))]
#[bench::read(fuser_peer::prepare(codec::read()))]
#[bench::write(fuser_peer::prepare(codec::write()))]
#[bench::lookup_1(fuser_peer::prepare(codec::lookup(1)))]
#[bench::lookup_17(fuser_peer::prepare(codec::lookup(17)))]
#[bench::lookup_255(fuser_peer::prepare(codec::lookup(255)))]
#[bench::getattr(fuser_peer::prepare(codec::getattr()))]
fn fuser_session(session: Session<fuser_peer::Nothing>) {
    fuser_peer::run(session)
}

library_benchmark_group!(
    name = decode,
    benchmarks = [fusewire, fusewire_split, polyfuse_request, fuse_backend_rs, fuser_session]
);

main!(library_benchmark_groups = decode);
