//! For each opcode, which ways of the codec are held by what is kept: recorded frames, corpora.
//!
//! Counted is what really went through: a message that was decoded and encoded again. The table is
//! printed by `cargo test -p fusewire-proto --lib fuzzing::table -- --nocapture`; where a cell has
//! two counts, they are of requests and of replies.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use super::golden::golden;
use super::oracle::number;
use super::reply_decode::{answered, answered_each};
use super::tests::files;
use super::{again, ring, seeds, with_length};
use crate::opcode::Opcode;

/// How many messages of one opcode went through.
#[derive(Default)]
struct Row {
    golden_requests: usize,
    golden_replies: usize,
    ring_requests: usize,
    ring_replies: usize,
    fuzzed_requests: usize,
    fuzzed_replies: usize,
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let kept = files(&dir).into_iter().map(|path| fs::read(path).unwrap());
    let made = seeds().into_iter().filter(|(name, _)| *name == target).map(|(_, bytes)| bytes);
    kept.chain(made).collect()
}

fn rows() -> BTreeMap<u32, Row> {
    let mut rows: BTreeMap<u32, Row> = BTreeMap::new();
    for path in files(&golden().join("requests")) {
        let request = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_short = name.starts_with("setxattr-short");
        let opcode = again::request(&request, !is_short).unwrap();
        let row = rows.entry(opcode).or_default();
        row.golden_requests += 1;
        let reply = fs::read(golden().join("replies").join(name));
        let (Ok(reply), false) = (reply, is_short) else { continue };
        let is_body = number(&reply, 4, 4) == 0;
        assert_eq!(answered(&request, &reply), is_body.then_some(opcode), "{name}");
        row.golden_replies += usize::from(is_body);
    }
    for (path, entry, ext) in ring::recorded() {
        let row = rows.entry(ring::request(&entry, ext)).or_default();
        row.ring_requests += 1;
        let commit = golden().join("ring/replies").join(path.file_name().unwrap());
        let reply = ring::reply(&entry, ext, &fs::read(commit).unwrap());
        row.ring_replies += usize::from(reply.is_some());
    }
    for bytes in corpus("request_decode") {
        let opcodes = [true, false].map(|ext| again::request(&with_length(&bytes), ext));
        if let Some(opcode) = opcodes[0].or(opcodes[1]) {
            rows.entry(opcode).or_default().fuzzed_requests += 1;
        }
    }
    for bytes in corpus("reply_decode") {
        let mut opcodes = answered_each(&bytes);
        opcodes.sort_unstable();
        opcodes.dedup();
        opcodes.into_iter().for_each(|it| rows.entry(it).or_default().fuzzed_replies += 1);
    }
    rows
}

#[test]
#[cfg_attr(miri, ignore = "goes through all that the other tests here go through")]
#[cfg_attr(all(target_endian = "big", not(miri)), ignore = "recorded on a little-endian machine")]
fn every_opcode_goes_every_way() {
    let rows = rows();
    let empty = Row::default();
    std::println!(
        "| opcode | decode, encode request | decode, encode reply | golden | of a ring | fuzzed |"
    );
    std::println!("|---|---|---|---|---|---|");
    for opcode in Opcode::ALL {
        let row = rows.get(&opcode.raw()).unwrap_or(&empty);
        let requests = row.golden_requests + row.ring_requests + row.fuzzed_requests;
        let replies = row.golden_replies + row.ring_replies + row.fuzzed_replies;
        let is_silent =
            matches!(opcode, Opcode::Forget | Opcode::BatchForget | Opcode::NotifyReply);
        let counted = |count: usize| if is_silent { String::from("-") } else { count.to_string() };
        std::println!(
            "| {opcode} | {requests} | {} | {} + {} | {} + {} | {} + {} |",
            counted(replies),
            row.golden_requests,
            counted(row.golden_replies),
            row.ring_requests,
            counted(row.ring_replies),
            row.fuzzed_requests,
            counted(row.fuzzed_replies),
        );
        // virtiofs, virtiofs, and a character device.
        let is_elsewhere =
            matches!(opcode, Opcode::SetupMapping | Opcode::RemoveMapping | Opcode::CuseInit);
        assert_eq!(row.golden_requests == 0, is_elsewhere, "{opcode}: recorded requests");
        let has_ring = !ring::ELSEWHERE.contains(opcode);
        assert_eq!(row.ring_requests > 0, has_ring, "{opcode}: recorded ring entries");
        assert!(row.fuzzed_requests > 0, "{opcode}: no request in the corpus");
        assert_eq!(row.fuzzed_replies == 0, is_silent, "{opcode}: replies in the corpus");
    }
}
