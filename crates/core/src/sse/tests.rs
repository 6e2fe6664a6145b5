use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use proptest::prelude::*;

use super::{Decoder, SseEvent, TooLong};

const LIMIT: usize = 1 << 20;

fn decode(pieces: impl IntoIterator<Item = Bytes>) -> Vec<SseEvent> {
    try_decode(LIMIT, pieces).expect("within the limit")
}

fn try_decode(limit: usize, pieces: impl IntoIterator<Item = Bytes>) -> Result<Vec<SseEvent>, TooLong> {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next_event()? {
            events.push(event);
        }
    }
    while let Some(event) = decoder.finish()? {
        events.push(event);
    }
    assert_eq!(decoder.buffered(), 0, "nothing is left behind");
    Ok(events)
}

fn whole(input: &'static [u8]) -> Vec<SseEvent> {
    decode([Bytes::from_static(input)])
}

/// `(event, data)` of the events that carry data.
fn payloads(events: &[SseEvent]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    events.iter().filter(|event| event.has_data()).map(|event| (text(event.event()), text(event.data()))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(event, data)| ((*event).to_owned(), (*data).to_owned())).collect()
}

fn cut(input: &[u8], size: usize) -> Vec<Bytes> {
    input.chunks(size).map(Bytes::copy_from_slice).collect()
}

fn joined(events: &[SseEvent]) -> Vec<u8> {
    events.iter().flat_map(|event| event.raw.clone()).collect()
}

#[test]
fn every_line_ending_gives_the_same_events() {
    for input in [
        &b"event: a\ndata: 1\n\ndata: 2\n\n"[..],
        b"event: a\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n",
        b"event: a\rdata: 1\r\rdata: 2\r\r",
        b"event: a\r\ndata: 1\r\r\ndata: 2\n\r\n",
        b"\xEF\xBB\xBFevent: a\ndata: 1\n\ndata: 2\n\n",
    ] {
        for size in 1..=input.len() {
            let events = decode(cut(input, size));
            assert_eq!(payloads(&events), pairs(&[("a", "1"), ("", "2")]), "{input:?} in pieces of {size}");
            assert_eq!(joined(&events), input);
        }
    }
}

#[test]
fn raw_is_exactly_what_came_for_the_event() {
    let events = whole(b": note\nevent: a\nid: 7\ndata: 1\n\ndata:2\r\n\r\n");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].raw, ": note\nevent: a\nid: 7\ndata: 1\n\n");
    assert_eq!(events[1].raw, "data:2\r\n\r\n");
    assert_eq!(events[1].data(), b"2");
}

#[test]
fn comments_and_blank_lines_are_keep_alives() {
    let events = whole(b": PROCESSING\n\n\n:\r\n\r\ndata: x\n\n");
    let kinds: Vec<_> = events.iter().map(SseEvent::is_keep_alive).collect();
    assert_eq!(kinds, [true, true, true, false]);
    assert!(!events[0].has_data());
    assert_eq!(events[0].raw, ": PROCESSING\n\n");
}

#[test]
fn block_without_data_is_delivered_but_is_no_keep_alive() {
    let events = whole(b"event: ping\n\n{\n  \"error\": {}\n}\n");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].event(), b"ping");
    for event in &events {
        assert!(!event.has_data() && !event.is_keep_alive());
    }
    assert_eq!(events[1].raw, "{\n  \"error\": {}\n}\n");
}

#[test]
fn only_one_space_after_the_colon_is_dropped() {
    for (input, data) in [
        (&b"data:x\n\n"[..], "x"),
        (b"data: x\n\n", "x"),
        (b"data:  x\n\n", " x"),
        (b"data:\n\n", ""),
        (b"data: \n\n", ""),
        (b"data\n\n", ""),
        (b"data::x\n\n", ":x"),
    ] {
        let events = whole(input);
        assert!(events[0].has_data(), "{input:?}");
        assert_eq!(events[0].data(), data.as_bytes(), "{input:?}");
    }
}

#[test]
fn names_that_only_start_like_a_field_are_other_fields() {
    let events = whole(b"database: x\nevents: y\nDATA: z\n data: w\n\n");
    assert_eq!(events.len(), 1);
    assert!(!events[0].has_data());
    assert_eq!(events[0].event(), b"");
}

#[test]
fn data_lines_are_joined_with_line_feeds() {
    let events = whole(b"data: a\ndata\nid: 1\ndata: b\r\ndata:c\rdata\n\n");
    assert_eq!(payloads(&events), pairs(&[("", "a\n\nb\nc\n")]));
}

#[test]
fn tail_without_a_blank_line_is_an_event() {
    for tail in [&b"data: end"[..], b"data: end\n", b"data: end\r", b"data: end\r\n"] {
        let input = [b"data: 1\n\n", tail].concat();
        for size in 1..=input.len() {
            let events = decode(cut(&input, size));
            assert_eq!(payloads(&events), pairs(&[("", "1"), ("", "end")]));
            assert_eq!(joined(&events), input);
        }
    }
}

#[test]
fn event_with_bare_cr_is_not_held_back_for_the_next_one() {
    let mut decoder = Decoder::new(LIMIT);
    decoder.push(Bytes::from_static(b"data: 1\r\r"));
    let event = decoder.next_event().unwrap().expect("the whole event");
    assert_eq!(event.data(), b"1");
    assert!(decoder.finish().unwrap().is_none());
}

#[test]
fn event_within_one_piece_is_a_slice_of_it() {
    let piece = Bytes::from_static(b"data: one\n\ndata: two\n\n");
    let range = piece.as_ptr_range();
    for event in decode([piece]) {
        assert!(range.contains(&event.raw.as_ptr()));
        assert!(range.contains(&event.data().as_ptr()));
    }
}

#[test]
fn line_without_an_end_is_refused_at_the_limit() {
    let mut decoder = Decoder::new(1000);
    for _ in 0..10 {
        decoder.push(Bytes::from_static(&[b'x'; 100]));
        assert_eq!(decoder.next_event(), Ok(None));
    }
    decoder.push(Bytes::from_static(b"x"));
    let error = decoder.next_event().unwrap_err();
    assert_eq!(error.limit(), 1000);
    assert_eq!(decoder.buffered(), 0, "what was held is given back");
    decoder.push(Bytes::from_static(b"\n\ndata: later\n\n"));
    assert_eq!(decoder.next_event(), Err(error), "and it stays refused");
    assert_eq!(decoder.finish(), Err(error));
}

#[test]
fn limit_counts_each_event_for_itself() {
    let input = Bytes::from_static(b"data: 12\n\ndata: 34\n\n");
    assert_eq!(try_decode(10, [input.clone()]).unwrap().len(), 2);
    assert!(try_decode(9, [input]).is_err());
}

#[test]
fn large_event_in_small_pieces_is_read_once() {
    // 16 MiB in 1460-byte pieces: a decoder that starts again with each piece looks at 96 GB.
    let size = 16 << 20;
    let mut input = b"data: ".to_vec();
    input.resize(size, b'x');
    input.extend_from_slice(b"\n\n");
    let begin = wall_time();
    let events = try_decode(size + 2, cut(&input, 1460)).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].data().len(), size - 6);
    assert!(wall_time() - begin < Duration::from_secs(5));
}

/// The limit above is a hundred times what the linear decoder needs in a debug build.
#[allow(clippy::disallowed_types, clippy::disallowed_methods)] // measures the computer, not the program's timers
fn wall_time() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "data: ?[a-zé€😀:{}\"]{0,12}",
        1 => "event: ?[a-z]{0,6}",
        1 => ":[ a-z]{0,6}",
        1 => "(id|retry|data|event|dat|datas): ?[0-9]{0,3}",
        1 => "(data|event|\u{FEFF}data: 1|\u{FEFF}|x)",
        2 => Just(String::new()),
    ]
}

prop_compose! {
    fn stream_of_lines()(
        mark in any::<bool>(),
        lines in prop::collection::vec((line(), 0..3usize), 0..24),
        tail in line(),
    ) -> Vec<u8> {
        let mut out = String::new();
        if mark {
            out.push('\u{FEFF}');
        }
        for (line, end) in lines {
            out.push_str(&line);
            out.push_str(["\n", "\r\n", "\r"][end]);
        }
        out.push_str(&tail);
        out.into_bytes()
    }
}

fn cut_at(input: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    places.extend([0, input.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| Bytes::copy_from_slice(&input[pair[0]..pair[1]])).collect()
}

proptest! {
    #[test]
    fn any_cutting_gives_the_same_events(
        input in stream_of_lines(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let expected = decode([Bytes::copy_from_slice(&input)]);
        let events = decode(cut_at(&input, &cuts));
        prop_assert_eq!(&events, &expected);
        prop_assert_eq!(&decode(cut(&input, 1)), &expected);
        prop_assert_eq!(joined(&events), input);
    }

    #[test]
    fn any_bytes_are_given_back_whole(
        input in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b':')], 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let events = decode(cut_at(&input, &cuts));
        prop_assert_eq!(joined(&events), input.clone());
        prop_assert_eq!(events, decode([Bytes::from(input)]));
    }

    #[test]
    fn events_are_those_of_another_decoder(
        mut input in stream_of_lines(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        // The other decoder drops an unterminated tail, as the standard says.
        input.extend_from_slice(b"\n\n\n");
        let theirs: Vec<_> = tokio_test::block_on(
            sse_stream::SseStream::from_bytes_stream(stream::iter(
                cut_at(&input, &cuts).into_iter().map(Ok::<_, std::convert::Infallible>),
            ))
            .map(|event| event.expect("valid UTF-8"))
            .filter_map(async |event| event.data.map(|data| (event.event.unwrap_or_default(), data)))
            .collect(),
        );
        let ours = decode(cut_at(&input, &cuts));
        prop_assert_eq!(payloads(&ours), theirs);
    }
}

#[test]
fn after_a_failure_nothing_more_is_held() {
    let mut decoder = Decoder::new(4);
    decoder.push(Bytes::from_static(b"data: too long"));
    decoder.next_event().unwrap_err();
    decoder.push(Bytes::from_static(b"data: more\n\n"));
    assert_eq!(decoder.buffered(), 0);
}
