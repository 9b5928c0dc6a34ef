//! Notifications: any bytes are taken or refused as the kernel would, and come out again.

use super::oracle::number;
use super::{Aligned, again, rules, with_length};
use crate::frame;
use crate::notify::Notification;

/// Body of the target `notify_decode`.
pub fn notify_decode(data: &[u8]) {
    decode(data);
    decode(&with_length(data));
}

fn decode(message: &[u8]) {
    let Some(header) = frame::out_header(message) else { return };
    let body = Aligned::new(&message[16..]);
    let decoded = Notification::decode(&header, body.bytes());
    assert_eq!(decoded.is_ok(), rules::notified(message), "only one takes it: {decoded:?}");
    let notification = match decoded {
        Ok(notification) => notification,
        Err(error) => {
            assert_eq!(error.code, header.error);
            assert!(std::format!("{error}").contains(": "), "{error}");
            return;
        }
    };
    let mut out = std::vec![0xa5; notification.encoded_len()];
    assert_eq!(notification.encode(&mut out), Ok(message.len()));
    assert_eq!(out[..16], message[..16], "header of {notification:?}");
    let name = again::notification(number(message, 4, 4)).unwrap();
    let (old, new) = (&message[16..], &out[16..]);
    let behind = again::same(&name, old, new, |_, value| value);
    assert_eq!(new[behind..], old[behind..], "behind the struct of {notification:?}");
    assert!(!std::format!("{notification}").is_empty());
}
