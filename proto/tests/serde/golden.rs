//! Every recorded frame has its line.

use std::path::PathBuf;
use std::{fs, io};

use fusewire_proto::abi::OutHeader;
use fusewire_proto::reply::{Asked, decode};
use fusewire_proto::{Notification, Operation, frame, request};
use serde::Serialize;
use serde_json::Value;
use zerocopy::IntoBytes;

/// Of so many frames Miri, which is some thousand times slower, takes one.
const ONE_OF: usize = if cfg!(miri) { 8 } else { 1 };

fn golden(dir: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(dir)
}

/// The names of the frames of one directory.
fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(golden(dir)).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// One frame at an aligned address, and its length.
fn frame_of(dir: &str, name: &str) -> io::Result<(Vec<u64>, usize)> {
    let bytes = fs::read(golden(dir).join(name))?;
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    words.as_mut_bytes()[..bytes.len()].copy_from_slice(&bytes);
    Ok((words, bytes.len()))
}

/// The fields behind the one variant of a message, which `line`, its `Display`, begins with.
fn fields(message: &impl Serialize, line: &str) -> Value {
    let json = serde_json::to_string(message).unwrap();
    assert!(!json.contains('\n'), "{json}");
    let word = line.split(' ').next().unwrap();
    let fields = match serde_json::from_str(&json).unwrap() {
        Value::String(unit) if unit == word => Value::Null,
        Value::Object(mut variant) if variant.len() == 1 => variant.remove(word).unwrap(),
        other => panic!("{other} for {line}"),
    };
    assert!(no_bare_bytes(&fields, ""), "{json}");
    fields
}

/// Whether no list of numbers stands where data should.
fn no_bare_bytes(value: &Value, field: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|it| {
            (!it.is_number() || matches!(field, "groups" | "nodes")) && no_bare_bytes(it, "")
        }),
        Value::Object(fields) => fields.iter().all(|(name, it)| no_bare_bytes(it, name)),
        _ => true,
    }
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn requests_and_replies() {
    let mut counts = (0, 0);
    for name in names("requests").iter().step_by(ONE_OF) {
        let (words, len) = frame_of("requests", name).unwrap();
        let ext = !name.starts_with("setxattr-short");
        let (header, argument, payload) = request::split(&words.as_bytes()[..len], ext).unwrap();
        let header_json = serde_json::to_value(header).unwrap();
        assert_eq!(header_json["unique"], header.unique.0, "{name}");
        assert_eq!(header_json.as_object().unwrap().len(), 8, "all but the padding");
        let op = Operation::decode(&header, argument, payload).unwrap();
        let json = fields(&op, &op.to_string());
        if let Operation::Write(write) = op {
            assert_eq!(json["data"]["len"], write.data.len(), "{name}");
        }
        counts.0 += 1;

        let Ok((words, len)) = frame_of("replies", name) else { continue };
        let reply = &words.as_bytes()[..len];
        let header = frame::out_header(reply).unwrap();
        assert_eq!(serde_json::to_value(header).unwrap()["error"], header.error, "{name}");
        match decode(&Asked::new(&op), &header, &reply[OutHeader::LEN..]).unwrap() {
            Ok(reply) => drop(fields(&reply, &reply.to_string())),
            Err(errno) => assert_eq!(serde_json::to_value(errno).unwrap(), errno.name().unwrap()),
        }
        counts.1 += 1;
    }
    assert!(counts.0 > 100 / ONE_OF && counts.1 > 80 / ONE_OF, "{counts:?} frames");
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn notifications() {
    let mut count = 0;
    for name in names("notifications") {
        let (words, len) = frame_of("notifications", &name).unwrap();
        let message = &words.as_bytes()[..len];
        let header = frame::out_header(message).unwrap();
        let notification = Notification::decode(&header, &message[OutHeader::LEN..]).unwrap();
        let json = fields(&notification, &notification.to_string());
        assert!(json.is_object() || matches!(&*name, "resend.bin" | "inc-epoch.bin"), "{name}");
        count += 1;
    }
    assert!(count >= 9, "{count} frames");
}
