//! Replies: any bytes, as the answer to any request, are taken or refused as the kernel would.

use std::sync::LazyLock;
use std::vec::Vec;

use super::oracle::ORACLE;
use super::rules::{Question, values_fit};
use super::{Aligned, again, with_length};
use crate::abi::OutHeader;
use crate::frame;
use crate::opcode::Opcode;
use crate::reply::{Asked, Known, Lane, Verdict, decode, judge};
use crate::request::{Operation, split};
use crate::types::Errno;

/// Values of fields on which the form or the validity of an answer depends.
const VARIANTS: [&[(&str, u64)]; 4] = [
    &[],
    &[("size", 64), ("out_size", 64), ("len", 64), ("mode", 0o100_644)],
    &[("size", 4096), ("out_size", 4096), ("len", 1 << 40), ("flags", 2)],
    &[("out_size", 4), ("cmd", 0x8008_6601), ("mode", 0o020_600)],
];

/// Requests of every opcode, and what they ask. They stay for as long as the process.
static QUESTIONS: LazyLock<Vec<(Asked, Question<'static>)>> = LazyLock::new(|| {
    let all = ORACLE.names().flat_map(|name| VARIANTS.map(|values| ORACLE.ask(name, values)));
    let mut questions: Vec<(Asked, Question<'_>)> = Vec::new();
    for message in all {
        match asked(&message) {
            Some(asked) if questions.iter().all(|it| it.0 != asked) => {
                questions.push((asked, Question::new(message.leak())));
            }
            _ => {}
        }
    }
    questions
});

/// What a request asks, if it is one.
pub(super) fn asked(message: &[u8]) -> Option<Asked> {
    let message = Aligned::new(message);
    let (header, argument, payload) = split(message.bytes(), true).ok()?;
    Operation::decode(&header, argument, payload).ok().map(|op| Asked::new(&op))
}

/// Body of the target `reply_decode`: a reply, or a request and its reply behind it.
pub fn reply_decode(data: &[u8]) {
    answered_each(data);
}

/// The opcodes to which `data` is a success that was decoded and encoded again.
pub(super) fn answered_each(data: &[u8]) -> Vec<u32> {
    let reply = Reply::new(&with_length(data));
    let whole = |(asked, question): &(Asked, Question<'_>)| answer(asked, question, &reply);
    let mut opcodes: Vec<u32> = QUESTIONS.iter().filter_map(whole).collect();
    let cut = data.first_chunk().map_or(usize::MAX, |len| u32::from_ne_bytes(*len) as usize);
    if let Some((request, reply)) = data.split_at_checked(cut) {
        opcodes.extend(answered(request, reply));
        opcodes.extend(answered(request, &with_length(reply)));
    }
    opcodes
}

/// The same for one request and its reply.
pub(super) fn answered(request: &[u8], reply: &[u8]) -> Option<u32> {
    let (asked, reply) = (asked(request)?, Reply::new(reply));
    let Reply(Some((header, body))) = &reply else { return None };
    if let Err(error) = decode(&asked, header, body.bytes()) {
        // Here and not for every question, of which most are not met.
        assert!(std::format!("{error}").contains(": "), "{error}");
    }
    answer(&asked, &Question::new(request), &reply)
}

/// A reply in pieces, if it has a header.
struct Reply(Option<(OutHeader, Aligned)>);

impl Reply {
    fn new(message: &[u8]) -> Self {
        let header = frame::out_header(message);
        Self(header.map(|header| (header, Aligned::new(&message[OutHeader::LEN..]))))
    }
}

/// The same as a commit on the ring.
fn committed(asked: &Asked, question: &Question<'_>, header: &OutHeader, body: &[u8]) {
    let asked = asked.with_lane(Lane::Ring);
    let framed = question.committed(header.unique.0, header.error, body);
    let decoded = decode(&asked, header, body);
    // Here the unique is the caller's business.
    assert!(decoded.is_ok() == framed.is_ok() || header.unique.0 == 0, "{asked:?}: {decoded:?}");
    let verdict = judge(&asked, &Known::default(), header, body);
    let expected = match framed {
        Err(()) => Some(false),
        Ok(None) => Some(!question.is_start()),
        Ok(Some(_)) => values_fit(question, body),
    };
    match verdict {
        Verdict::Accepted { .. } => assert_ne!(expected, Some(false), "{asked:?}"),
        Verdict::Refused(refusal) => {
            assert_ne!(expected, Some(true), "{asked:?}: {refusal:?}");
            assert_eq!(refusal.writer, None, "a commit succeeds");
        }
    }
}

/// One reply to one request: the codec, `judge` and the rules by the offsets of the header agree.
/// Gives the opcode if there was a body.
fn answer(asked: &Asked, question: &Question<'_>, reply: &Reply) -> Option<u32> {
    let Reply(Some((header, body))) = reply else { return None };
    let body = body.bytes();
    let known = Known::default();
    let decoded = decode(asked, header, body);
    let framed = question.framed(header.len, header.error, body);
    assert_eq!(decoded.is_ok(), framed.is_ok(), "{asked:?}: {decoded:?}");
    let verdict = judge(asked, &known, header, body);
    if let Verdict::Accepted { answer, .. } = &verdict {
        match (answer, decoded.unwrap()) {
            (Err(Errno::ENOTTY), Err(Errno::ENOSYS)) => {}
            (theirs, ours) => assert_eq!(*theirs, ours),
        }
    }
    let is_taken = matches!(verdict, Verdict::Accepted { .. });
    if let Verdict::Refused(refusal) = &verdict
        && question.is_plain()
    {
        assert_eq!(refusal.writer.is_some(), framed.is_err(), "{asked:?}: {refusal:?}");
    }
    committed(asked, question, header, body);
    match decoded {
        Err(error) => {
            assert!(!is_taken, "{error}");
            None
        }
        Ok(Err(errno)) => {
            assert_eq!(errno.raw(), -header.error);
            assert_eq!(is_taken, !question.is_start(), "{asked:?}");
            None
        }
        Ok(Ok(reply)) => {
            if let Some(form) = framed.unwrap() {
                again::reply(form, &reply, body);
            }
            if let Some(fits) = values_fit(question, body) {
                assert_eq!(is_taken, fits, "{asked:?}: {reply:?}: {verdict:?}");
            }
            assert!(std::format!("{reply}").len() < 2000 + 8 * body.len());
            asked.opcode().map(Opcode::raw)
        }
    }
}
