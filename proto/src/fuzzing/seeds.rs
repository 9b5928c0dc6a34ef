//! First inputs for the fuzzers, made by the encoders; recorded frames are the others.

use arbitrary::{Arbitrary, Unstructured};
use std::vec::Vec;

use super::oracle::ORACLE;
use super::{notifications, replies};
use crate::abi::{CuseInitOut, InitOut, OutHeader};
use crate::dirent::{DirentPlusWriter, DirentWriter};
use crate::frame;
use crate::mode::FileType;
use crate::reply::{Entry, Reply};
use crate::types::{Errno, Unique};

/// Inputs, each with the name of its target: requests and replies of every opcode, notifications
/// of every kind, streams of both kinds.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    for name in ORACLE.names() {
        seeds.push(("reply_decode", answered(ORACLE.ask(name, &[]), Err(Errno::ENOSYS), &[])));
        for pattern in [0, u64::MAX, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa] {
            let request = ORACLE.ask(name, &ORACLE.every_field(name, pattern));
            seeds.push(("request_decode", request.clone()));
            seeds.push(("differential", request));
        }
    }
    for form in 0..32 {
        let bytes = material(form);
        let material = replies::Material::arbitrary(&mut Unstructured::new(&bytes)).unwrap();
        let iovecs = material.iovecs();
        let (reply, body) = material.encoded(&iovecs);
        seeds.push(("reply_decode", answered(replies::question(&reply), Ok(()), &body)));
        let material = notifications::Material::arbitrary(&mut Unstructured::new(&bytes)).unwrap();
        seeds.push(("notify_decode", material.encoded(&material.nodes()).1));
    }
    let init = Reply::Init(InitOut { major: 7, minor: 45, ..InitOut::default() });
    let cuse = CuseInitOut { major: 7, minor: 45, ..CuseInitOut::default() };
    for reply in [init, Reply::CuseInit(cuse, b"DEVNAME=x\0")] {
        let mut body = std::vec![0; reply.encoded_len()];
        reply.encode(&mut body).unwrap();
        seeds.push(("reply_decode", answered(replies::question(&reply), Ok(()), &body)));
    }
    seeds.extend(streams().into_iter().map(|stream| ("dirents", stream)));
    seeds
}

/// Bytes from which a message of this form is made: the form, and a run of odd numbers.
fn material(form: u8) -> Vec<u8> {
    core::iter::once(form).chain((0..255).map(|it: u8| it.wrapping_mul(form | 1))).collect()
}

/// A request and its reply behind it.
fn answered(request: Vec<u8>, answer: Result<(), Errno>, body: &[u8]) -> Vec<u8> {
    let mut header = [0; OutHeader::LEN];
    let reply = OutHeader::new(Unique(0), answer, body.len());
    assert!(frame::put_out_header(&mut header, &reply));
    [request.as_slice(), &header, body].concat()
}

fn streams() -> [Vec<u8>; 2] {
    let names: [&[u8]; 4] = [b".", b"..", b"name", b"of eight"];
    let mut buffers = [std::vec![0; 1024], std::vec![0; 1024]];
    let [plain, plus] = &mut buffers;
    let entry = Entry { nodeid: 2.into(), ..Entry::default() };
    let (mut writer, mut writer_plus) = (DirentWriter::new(plain), DirentPlusWriter::new(plus));
    for (name, offset) in names.into_iter().zip(1..) {
        assert!(writer.add(1, offset, FileType::DIRECTORY, name));
        assert!(writer_plus.add(Some(&entry), 1, offset, FileType::DIRECTORY, name));
    }
    let lens = [writer.len(), writer_plus.len()];
    buffers.iter_mut().zip(lens).for_each(|(buffer, len)| buffer.truncate(len));
    buffers
}
