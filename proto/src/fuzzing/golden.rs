//! The recorded frames say what `tests/golden/requests.txt` has written down.
//!
//! The text was made by a script that knows the C header only, and read by a person.

use std::fs;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

use super::Aligned;
use super::fields::{extensions, fields, pairs, strings, tail};
use super::oracle::{ORACLE, number};
use super::ring;
use super::tests::{files, one_of};
use crate::abi::InHeader;
use crate::opcode::Opcode;
use crate::request::{Operation, split};

pub(super) fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// `0x1f` or nothing.
fn hex(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// A line of the text, in pieces.
struct Written<'a> {
    opcode: &'a str,
    /// unique, nodeid, uid, gid, pid.
    header: Vec<u64>,
    fields: Vec<(&'a str, u64)>,
    /// Strings, `tail=`, `label=` and `group=` as they stand there.
    rest: Vec<&'a str>,
}

impl<'a> Written<'a> {
    fn parse(line: &'a str) -> (&'a str, Self) {
        let (name, text) = line.split_once(": ").unwrap();
        let mut words = text.split(' ');
        let opcode = words.next().unwrap();
        let pair = |word: &'a str| {
            let (name, value) = word.split_once('=')?;
            (!matches!(name, "group" | "label" | "tail")).then_some((name, hex(value)?))
        };
        let header = words.by_ref().take(5).map(|word| pair(word).unwrap().1).collect();
        let words: Vec<_> = words.collect();
        let fields = words.iter().map_while(|word| pair(word)).collect::<Vec<_>>();
        let rest = words[fields.len()..].to_vec();
        (name, Self { opcode, header, fields, rest })
    }

    fn value(&self, what: &str) -> u64 {
        let (name, bits) = what.split_once(':').unwrap_or((what, ""));
        let value = self.fields.iter().find(|(label, _)| *label == name).map_or(0, |it| it.1);
        if bits.is_empty() { value } else { (value & ORACLE.constant(bits) != 0).into() }
    }
}

/// Strings, tail, labels and groups in the form of the text.
fn rest(op: &Operation<'_>) -> Vec<String> {
    let plain = |byte: u8| (33..127).contains(&byte) && byte != b'"' && byte != b'\\';
    let byte = |&byte: &u8| match plain(byte) {
        true => String::from(char::from(byte)),
        false => std::format!("\\x{byte:02x}"),
    };
    let quoted = |raw: &[u8]| std::format!("\"{}\"", raw.iter().map(byte).collect::<String>());
    let hex = |raw: &[u8]| raw.iter().map(|it| std::format!("{it:02x}")).collect::<String>();
    let mut words: Vec<String> = strings(op).into_iter().map(quoted).collect();
    let pairs = pairs(op).into_iter().flat_map(|(a, b)| [a.to_ne_bytes(), b.to_ne_bytes()]);
    let all = [tail(op), &pairs.flatten().collect::<Vec<u8>>()].concat();
    let has_tail = matches!(
        op,
        Operation::Write(_)
            | Operation::SetXattr(_)
            | Operation::IoCtl(_)
            | Operation::NotifyReply(_)
            | Operation::BatchForget(_)
    );
    if has_tail {
        words.push(std::format!("tail={}", hex(&all)));
    }
    let found = extensions(op).unwrap_or_default();
    let label = |name: &[u8], label: &[u8]| std::format!("label={}:{}", quoted(name), hex(label));
    words.extend(found.security_contexts().map(|it| label(it.name, it.label)));
    words.extend(found.groups().map(|gid| std::format!("group={gid:#x}")));
    words
}

/// Compares a request in pieces with its line.
fn same(name: &str, written: &Written<'_>, (header, argument, payload): (InHeader, &[u8], &[u8])) {
    let op = Operation::decode(&header, argument, payload).unwrap();
    assert_eq!(op.opcode().unwrap().name(), written.opcode, "{name}");
    let ids = [header.unique.0, header.nodeid.0];
    let words = [header.uid, header.gid, header.pid].map(u64::from);
    assert_eq!([&ids[..], &words[..]].concat(), written.header, "{name}");
    for (what, value) in fields(&op).0 {
        assert_eq!(value, written.value(what), "{name}: {what}");
    }
    assert_eq!(rest(&op), written.rest, "{name}");
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn recorded_requests_say_what_is_written_down() {
    let text = fs::read_to_string(golden().join("requests.txt")).unwrap();
    let mut count = 0;
    for line in text.lines().step_by(one_of(8)) {
        let (name, written) = Written::parse(line);
        let path = golden().join(std::format!("requests/{name}.bin"));
        let message = Aligned::new(&fs::read(path).unwrap());
        let short = name.starts_with("setxattr-short");
        same(name, &written, split(message.bytes(), !short).unwrap());
        count += 1;
    }
    assert_eq!(count, files(&golden().join("requests")).len().div_ceil(one_of(8)));
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn recorded_ring_entries_say_what_is_written_down() {
    let text = fs::read_to_string(golden().join("ring/requests.txt")).unwrap();
    let mut lines = text.lines().step_by(one_of(8));
    for (path, entry, ext) in ring::recorded().step_by(one_of(8)) {
        let (name, written) = Written::parse(lines.next().unwrap());
        assert_eq!(path.file_stem().unwrap().to_str(), Some(name));
        same(name, &written, ring::pieces(&entry, ext));
    }
    assert_eq!(lines.next(), None);
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn recorded_replies_answer_their_requests() {
    for path in files(&golden().join("replies")).iter().step_by(one_of(8)) {
        let reply = fs::read(path).unwrap();
        let request = golden().join("requests").join(path.file_name().unwrap());
        let request = fs::read(request).unwrap();
        let name = path.display();
        assert_eq!(number(&reply, 0, 4), reply.len() as u64, "{name}");
        assert_eq!(reply[8..16], request[8..16], "{name}: unique");
        let error = (number(&reply, 4, 4) as u32).cast_signed();
        let failed = path.file_stem().unwrap().to_str().unwrap().ends_with("-error");
        assert_eq!(failed, error != 0, "{name}");
        assert!((-511..=0).contains(&error) && (error == 0 || reply.len() == 16), "{name}");
        let lens = ORACLE.reply_lens(number(&request, 4, 4));
        let fits = |(least, most): &(usize, usize)| (16 + least..=16 + most).contains(&reply.len());
        assert!(error != 0 || lens.iter().any(fits), "{name}: {} bytes", reply.len());
    }
}

/// The opcodes that no line of the text is about.
pub(super) fn missing(text: &str) -> Vec<Opcode> {
    let recorded: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let all = Opcode::ALL.iter().copied();
    all.filter(|opcode| !recorded.contains(&opcode.name())).collect()
}

#[test]
fn every_opcode_of_a_mount_was_recorded() {
    let text = fs::read_to_string(golden().join("requests.txt")).unwrap();
    // virtiofs, virtiofs, and a character device.
    let elsewhere = [Opcode::SetupMapping, Opcode::RemoveMapping, Opcode::CuseInit];
    assert_eq!(missing(&text), elsewhere);
}
