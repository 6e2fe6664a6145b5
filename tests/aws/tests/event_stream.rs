//! Bedrock's event streams beside `aws-smithy-eventstream`: random messages that either writes, the other reads the
//! same; and both refuse damaged ones.
//!
//! `cargo test --manifest-path crates/adapters/Cargo.toml -p steadfast-aws-tests --target-dir target -- --nocapture`

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder, read_message_from, write_message_to};
use aws_smithy_types::{
    DateTime,
    event_stream::{Header, HeaderValue as Theirs, Message as TheirMessage},
};
use bytes::Bytes;
use fastrand::Rng;
use steadfast::providers::bedrock::event_stream::{Decoder, HeaderValue, Message, encode};

const MESSAGES: usize = 30_000;

fn text(rng: &mut Rng, longest: usize) -> String {
    let length = rng.usize(..=longest);
    (0..length).map(|_| if rng.u8(..) < 20 { rng.char(..) } else { rng.alphanumeric() }).collect()
}

fn name(rng: &mut Rng) -> String {
    const COMMON: [&str; 4] = [":event-type", ":message-type", ":content-type", ":exception-type"];
    match rng.u8(..3) {
        0 => (*rng.choice(&COMMON).unwrap()).to_owned(),
        _ => format!("{}{}", rng.alphabetic(), text(rng, 20)),
    }
}

fn bytes(rng: &mut Rng, longest: usize) -> Vec<u8> {
    let length = rng.usize(..=longest);
    (0..length).map(|_| rng.u8(..)).collect()
}

/// A random message, mostly short.
fn message(rng: &mut Rng) -> TheirMessage {
    let longest = if rng.u8(..) == 0 { 40_000 } else { 200 };
    let mut message = TheirMessage::new(bytes(rng, longest));
    for _ in 0..rng.usize(..6) {
        let longest = if rng.u8(..) == 0 { 30_000 } else { 30 };
        let value = match rng.u8(..9) {
            0 => Theirs::Bool(rng.bool()),
            1 => Theirs::Byte(rng.i8(..)),
            2 => Theirs::Int16(rng.i16(..)),
            3 => Theirs::Int32(rng.i32(..)),
            4 => Theirs::Int64(rng.i64(..)),
            5 => Theirs::ByteArray(bytes(rng, longest).into()),
            6 => Theirs::String(text(rng, longest).into()),
            7 => Theirs::Timestamp(DateTime::from_millis(rng.i64(-1 << 45..1 << 45))),
            _ => Theirs::Uuid(rng.u128(..)),
        };
        message = message.add_header(Header::new(name(rng), value));
    }
    message
}

fn ours(theirs: &Theirs) -> HeaderValue<'_> {
    match theirs {
        Theirs::Bool(value) => HeaderValue::Bool(*value),
        Theirs::Byte(value) => HeaderValue::Byte(*value),
        Theirs::Int16(value) => HeaderValue::Int16(*value),
        Theirs::Int32(value) => HeaderValue::Int32(*value),
        Theirs::Int64(value) => HeaderValue::Int64(*value),
        Theirs::ByteArray(value) => HeaderValue::Bytes(value),
        Theirs::String(value) => HeaderValue::Text(value.as_str()),
        Theirs::Timestamp(value) => HeaderValue::Timestamp(value.to_millis().unwrap()),
        Theirs::Uuid(value) => HeaderValue::Uuid(value.to_be_bytes()),
        _ => unreachable!("there are no other types"),
    }
}

fn is_same(theirs: &TheirMessage, own: &Message) -> bool {
    let headers = theirs.headers().iter().map(|header| (header.name().as_str(), ours(header.value())));
    headers.eq(own.headers()) && theirs.payload() == own.payload()
}

/// All of a stream in random pieces, as we read it: the messages, and whether it is damaged.
fn read(stream: &[u8], rng: &mut Rng) -> (Vec<Message>, bool) {
    let (mut decoder, mut messages, mut rest) = (Decoder::default(), Vec::new(), stream);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.usize(1..=rest.len().min(5000)));
        decoder.push(Bytes::copy_from_slice(piece));
        rest = behind;
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, decoder.finish().is_err())
}

/// The same by AWS's decoder of frames. It reports damage where it stops.
fn read_by_smithy(stream: &[u8]) -> (Vec<TheirMessage>, bool) {
    let (mut decoder, mut messages) = (MessageFrameDecoder::new(), Vec::new());
    let mut buffer = Bytes::copy_from_slice(stream);
    // A prelude alone leaves the buffer empty.
    let mut rest = buffer.len();
    loop {
        match decoder.decode_frame(&mut buffer) {
            Ok(DecodedFrame::Complete(message)) => {
                messages.push(message);
                rest = buffer.len();
            }
            Ok(DecodedFrame::Incomplete) => return (messages, rest > 0),
            Err(_) => return (messages, true),
        }
    }
}

#[test]
fn random_messages_are_the_same_to_both() {
    let mut rng = Rng::with_seed(21);
    let (mut written, mut stream, mut batch) = (0, Vec::new(), Vec::new());
    while written < MESSAGES {
        let message = message(&mut rng);
        let from = stream.len();
        write_message_to(&message, &mut stream).unwrap();
        let headers: Vec<_> =
            message.headers().iter().map(|header| (header.name().as_str(), ours(header.value()))).collect();
        assert_eq!(encode(&headers, message.payload()).unwrap(), &stream[from..], "we write the same bytes");
        assert_eq!(read_message_from(&mut &stream[from..]).unwrap(), message);
        batch.push(message);
        written += 1;
        if batch.len() == 100 {
            let (messages, is_damaged) = read(&stream, &mut rng);
            assert!(!is_damaged && messages.len() == batch.len());
            assert!(batch.iter().zip(&messages).all(|(theirs, own)| is_same(theirs, own)));
            (stream, batch) = (Vec::new(), Vec::new());
        }
    }
    println!("event stream: {written} messages of aws-smithy-eventstream read and written the same");
}

#[test]
fn damaged_messages_are_refused_by_both() {
    let mut rng = Rng::with_seed(22);
    let (mut flipped, mut cut) = (0, 0);
    for _ in 0..MESSAGES {
        let mut stream = Vec::new();
        let number = rng.usize(1..4);
        (0..number).for_each(|_| write_message_to(&message(&mut rng), &mut stream).unwrap());
        if rng.bool() {
            // Up to four bytes side by side: an error burst that a checksum of 32 bits always finds.
            let at = rng.usize(..stream.len());
            let end = stream.len().min(at + rng.usize(1..=4));
            stream[at..end].iter_mut().for_each(|byte| *byte ^= rng.u8(1..));
            flipped += 1;
        } else {
            stream.truncate(rng.usize(..stream.len()));
            cut += 1;
        }
        let (own, is_damaged) = read(&stream, &mut rng);
        let (theirs, is_damaged_there) = read_by_smithy(&stream);
        // A cut between two messages leaves whole ones.
        assert_eq!(is_damaged, is_damaged_there);
        assert_eq!(own.len(), theirs.len());
        assert!(own.iter().zip(&theirs).all(|(own, theirs)| is_same(theirs, own)));
        assert!(is_damaged || own.len() < number, "the damage is found");
    }
    println!("event stream: {flipped} with damaged bytes and {cut} cut, the same to aws-smithy-eventstream");
}
