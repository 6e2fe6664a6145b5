use proptest::prelude::*;

use super::*;

/// The published messages of AWS's own implementations: an empty one, a payload alone, and a header.
const EMPTY: &[u8] = b"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2H\xeb}\x98\xc8\xff";
const PAYLOAD: &[u8] = b"\x00\x00\x00\x1d\x00\x00\x00\x00\xfdR\x8cZ{'foo':'bar'}\xc3e96";
const HEADER: &[u8] =
    b"\x00\x00\x00+\x00\x00\x00\x0e4\x8b\xec{\x08event-id\x04\x00\x00\xa0\x0c{'foo':'bar'}\xd3\x89\x02\x85";

/// Reads messages out of pieces. Returns them, and the damage that ended the stream.
fn read(pieces: impl IntoIterator<Item = Bytes>, limit: usize) -> (Vec<Message>, Option<Damage>) {
    let mut decoder = Decoder::new(limit);
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(damage) => {
                    assert_eq!(decoder.buffered(), 0, "a damaged decoder keeps nothing");
                    assert_eq!(decoder.next_message(), Err(damage), "it stays damaged");
                    return (messages, Some(damage));
                }
            }
        }
    }
    (messages, decoder.finish().err())
}

fn whole(bytes: &[u8]) -> (Vec<Message>, Option<Damage>) {
    read([Bytes::copy_from_slice(bytes)], MAX_MESSAGE)
}

/// A message with a header of each type.
fn every_type() -> Vec<u8> {
    let headers = [
        (":event-type", HeaderValue::Text("chunk")),
        ("yes", HeaderValue::Bool(true)),
        ("no", HeaderValue::Bool(false)),
        ("byte", HeaderValue::Byte(-7)),
        ("short", HeaderValue::Int16(-300)),
        ("int", HeaderValue::Int32(70_000)),
        ("long", HeaderValue::Int64(i64::MIN)),
        ("bytes", HeaderValue::Bytes(&[0, 255])),
        ("time", HeaderValue::Timestamp(1_700_000_000_000)),
        ("id", HeaderValue::Uuid([9; 16])),
    ];
    let bytes = encode(&headers, b"{\"p\":\"abc\"}").unwrap();
    let (messages, damage) = whole(&bytes);
    assert_eq!((messages.len(), damage), (1, None));
    assert_eq!(messages[0].headers().collect::<Vec<_>>(), headers);
    assert_eq!(messages[0].event_type(), Some("chunk"));
    assert_eq!(messages[0].text("byte"), None, "a number is no text");
    bytes
}

#[test]
fn published_messages_are_read() {
    let (messages, damage) = whole(&[EMPTY, PAYLOAD, HEADER].concat());
    assert_eq!(damage, None);
    let payloads: Vec<&[u8]> = messages.iter().map(|message| &message.payload()[..]).collect();
    assert_eq!(payloads, [&b""[..], b"{'foo':'bar'}", b"{'foo':'bar'}"]);
    assert_eq!(messages[2].headers().collect::<Vec<_>>(), [("event-id", HeaderValue::Int32(0xa00c))]);
    assert_eq!(encode(&[("event-id", HeaderValue::Int32(0xa00c))], b"{'foo':'bar'}").unwrap(), HEADER);
}

#[test]
fn messages_are_the_same_however_they_are_cut() {
    let bytes = [EMPTY, &every_type(), HEADER, &every_type()].concat();
    let (expected, _) = whole(&bytes);
    assert_eq!(expected.len(), 4);
    for first in 0..=bytes.len() {
        for second in [first, (first + 1).min(bytes.len()), bytes.len()] {
            let cuts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            let (messages, damage) = read(cuts.map(Bytes::copy_from_slice), MAX_MESSAGE);
            assert_eq!((messages, damage), (expected.clone(), None), "cut at {first} and {second}");
        }
    }
    let single = bytes.iter().map(|byte| Bytes::copy_from_slice(&[*byte]));
    assert_eq!(read(single, MAX_MESSAGE), (expected, None));
}

#[test]
fn a_stream_that_ends_within_a_message_is_cut() {
    let bytes = [HEADER, PAYLOAD].concat();
    for end in 0..bytes.len() {
        let (messages, damage) = whole(&bytes[..end]);
        assert_eq!(messages.len(), usize::from(end >= HEADER.len()));
        let is_between = end == 0 || end == HEADER.len();
        let cut = Damage { kind: DamageKind::Cut, at: end as u64 };
        assert_eq!(damage, (!is_between).then_some(cut));
    }
}

/// A checksum of 32 bits finds every error of a single bit.
#[test]
fn every_damaged_bit_is_found_and_named() {
    let good = every_type();
    for bit in 0..good.len() * 8 {
        let mut bytes = [EMPTY, &good].concat();
        bytes[EMPTY.len() + bit / 8] ^= 1 << (bit % 8);
        let (messages, damage) = whole(&bytes);
        assert_eq!(messages.len(), 1, "the message before it is whole");
        let start = EMPTY.len() as u64;
        let expected = match bit / 8 {
            ..PRELUDE => Damage { kind: DamageKind::PreludeChecksum, at: start + 8 },
            _ => Damage { kind: DamageKind::MessageChecksum, at: start + good.len() as u64 - 4 },
        };
        assert_eq!(damage, Some(expected), "bit {bit}");
    }
    assert_eq!(
        Damage { kind: DamageKind::MessageChecksum, at: 40 }.to_string(),
        "the event stream is damaged: the message's checksum does not match, at byte 40"
    );
}

/// Writes a message with these lengths and headers, whatever they are, and right checksums.
fn forged(total: u32, headers: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
    bytes.extend(crc32(&bytes).to_be_bytes());
    bytes.extend(rest);
    bytes.extend(crc32(&bytes).to_be_bytes());
    bytes
}

#[test]
fn impossible_lengths_are_refused_by_the_prelude_alone() {
    for (total, headers) in [(0, 0), (15, 0), (16, 1), (100, u32::MAX), (100, 85)] {
        let bytes = forged(total, headers, b"");
        let (_, damage) = whole(&bytes[..PRELUDE]);
        assert_eq!(damage, Some(Damage { kind: DamageKind::Length, at: 0 }), "{total} {headers}");
    }
    let (_, damage) = read([Bytes::from(forged(101, 0, b""))], 100);
    assert_eq!(damage.unwrap().kind, DamageKind::TooLong { length: 101, limit: 100 });
    let (_, damage) = whole(&forged(u32::MAX, 0, b""));
    let too_long = DamageKind::TooLong { length: u32::MAX as usize, limit: MAX_MESSAGE };
    assert_eq!(damage.unwrap().kind, too_long);
}

#[test]
fn a_message_as_long_as_the_limit_is_read() {
    let (messages, damage) = read([Bytes::copy_from_slice(PAYLOAD)], PAYLOAD.len());
    assert_eq!((messages.len(), damage), (1, None));
}

#[test]
fn malformed_headers_are_refused_by_their_place() {
    for (headers, place) in [
        // No name, an unknown type, a text that is not UTF-8, a value that is not all there.
        (&b"\x00\x00"[..], 0),
        (b"\x01a\x00\x01b\x0a", 3),
        (b"\x01a\x07\x00\x01\xff", 0),
        (b"\x01a\x04\x00\x00\x00", 0),
        (b"\x01a\x00\x05b", 3),
    ] {
        let bytes = forged((headers.len() + FRAME) as u32, headers.len() as u32, headers);
        let (messages, damage) = whole(&bytes);
        assert_eq!(messages, []);
        assert_eq!(damage, Some(Damage { kind: DamageKind::Header, at: (PRELUDE + place) as u64 }));
    }
}

#[test]
fn what_has_no_length_is_not_encoded() {
    let long = "x".repeat(70_000);
    assert_eq!(encode(&[(&long, HeaderValue::Bool(true))], b""), None);
    assert_eq!(encode(&[("", HeaderValue::Bool(true))], b""), None);
    assert_eq!(encode(&[("a", HeaderValue::Text(&long))], b""), None);
}

#[test]
fn a_message_in_one_piece_is_not_copied() {
    let piece = Bytes::copy_from_slice(&[HEADER, PAYLOAD].concat());
    let within = piece.as_ptr_range();
    let (messages, _) = read([piece.clone()], MAX_MESSAGE);
    for message in &messages {
        assert!(within.contains(&message.payload().as_ptr()));
    }
}

#[test]
fn debug_shows_no_content() {
    let (messages, _) = whole(&encode(&[], b"secret").unwrap());
    let mut decoder = Decoder::default();
    decoder.push(Bytes::from_static(b"secret"));
    assert!(!format!("{messages:?} {decoder:?}").contains("secret"));
}

proptest! {
    /// Whatever the bytes and the cuts: the same messages, and the same damage.
    #[test]
    fn any_bytes_are_read_or_named_damage(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..5),
        damage in prop::option::of((any::<prop::sample::Index>(), 1_u8..)),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let header = [(":event-type", HeaderValue::Text("chunk"))];
        let good: Vec<Vec<u8>> = payloads.iter().map(|payload| encode(&header, payload).unwrap()).collect();
        let mut bytes = good.concat();
        let damage = damage.filter(|_| !bytes.is_empty()).map(|(at, by)| (at.index(bytes.len()), by));
        if let Some((at, by)) = damage {
            bytes[at] ^= by;
        }
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|pair| Bytes::copy_from_slice(&bytes[pair[0]..pair[1]]));
        let (messages, found) = read(pieces, MAX_MESSAGE);
        prop_assert_eq!((&messages, found), (&whole(&bytes).0, whole(&bytes).1));
        // Those before the damaged one come, and no other.
        let mut end = 0;
        let before = good.iter().take_while(|message| {
            end += message.len();
            damage.is_none_or(|(at, _)| at >= end)
        });
        prop_assert_eq!(messages.len(), before.count());
        prop_assert_eq!(found.is_some(), damage.is_some());
        for (message, payload) in messages.iter().zip(&payloads) {
            prop_assert_eq!(&message.payload()[..], &payload[..]);
        }
    }
}
