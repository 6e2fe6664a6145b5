//! Writes AWS's binary event stream (Smithy, "Amazon Event Stream Specification"): each message has its length, a
//! checksum of its first eight bytes, headers, a payload, and a checksum of all of it.

use bytes::Bytes;
use serde_json::{Value, json};
use steadfast_internal::base64;

/// The bytes in which a stream of events goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events, as the protocol writes them.
    Sse,
    /// A message for each event, whose payload is the event's data.
    Events,
    /// A message `chunk` for each event, whose payload has the data in base64.
    Chunks,
}

impl Framing {
    pub(super) fn is_binary(self) -> bool {
        self != Self::Sse
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream; charset=utf-8",
            Self::Events | Self::Chunks => "application/vnd.amazon.eventstream",
        }
    }

    /// Frames events. In the binary forms a line `exception: NAME` in place of `event: NAME` makes an exception.
    pub(super) fn frame(self, text: String) -> Bytes {
        if self == Self::Sse {
            return text.into();
        }
        let mut bytes = Vec::with_capacity(text.len() * 2);
        for block in text.split("\n\n").filter(|block| !block.is_empty()) {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let data = field("data: ").unwrap_or_default();
            if let Some(name) = field("exception: ") {
                let kinds = [(":exception-type", name), (":content-type", JSON), (":message-type", "exception")];
                message(&kinds, data.as_bytes(), &mut bytes);
                continue;
            }
            let name = field("event: ").unwrap_or("unknown");
            let (name, payload) = match self {
                Self::Chunks => ("chunk", chunk(data).to_string()),
                _ => (name, data.to_owned()),
            };
            let kinds = [(":event-type", name), (":content-type", JSON), (":message-type", "event")];
            message(&kinds, payload.as_bytes(), &mut bytes);
        }
        bytes.into()
    }
}

const JSON: &str = "application/json";

/// The letters of a payload's padding, which hides the length of a token.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Returns padding whose length follows from the data.
pub(super) fn padding(data: &str) -> &'static str {
    &LETTERS[..1 + crc32(data.as_bytes()) as usize % LETTERS.len()]
}

fn chunk(data: &str) -> Value {
    json!({ "bytes": base64::encode(data.as_bytes()), "p": padding(data) })
}

/// Writes one message with headers that are strings.
pub(super) fn message(headers: &[(&str, &str)], payload: &[u8], to: &mut Vec<u8>) {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        head.extend(name.as_bytes());
        // Type 7 is a string with a length of two bytes.
        head.push(7);
        head.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        head.extend(value.as_bytes());
    }
    let start = to.len();
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    to.extend(length(16 + head.len() + payload.len()));
    to.extend(length(head.len()));
    to.extend(crc32(&to[start..]).to_be_bytes());
    to.extend(head);
    to.extend(payload);
    to.extend(crc32(&to[start..]).to_be_bytes());
}

/// Returns the CRC-32 of ISO 3309, bit by bit: the streams are short.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        for (text, crc) in
            [("", 0), ("123456789", 0xcbf4_3926), ("The quick brown fox jumps over the lazy dog", 0x414f_a339)]
        {
            assert_eq!(crc32(text.as_bytes()), crc);
        }
    }

    /// The message "empty" of Smithy's test vectors, and its length with one header.
    #[test]
    fn messages_are_those_of_the_vectors() {
        let mut bytes = Vec::new();
        message(&[], b"", &mut bytes);
        assert_eq!(bytes, [0, 0, 0, 16, 0, 0, 0, 0, 5, 194, 72, 235, 125, 152, 200, 255]);
        let mut bytes = Vec::new();
        message(&[("content-type", "application/json")], b"{'foo':'bar'}", &mut bytes);
        assert_eq!((bytes.len(), &bytes[..8]), (61, &[0, 0, 0, 61, 0, 0, 0, 32][..]));
        assert_eq!((&bytes[8..12], &bytes[57..]), (&[7, 253, 131, 150][..], &[141, 156, 8, 177][..]));
    }
}
