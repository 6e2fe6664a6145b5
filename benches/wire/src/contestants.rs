//! The contestants.

use std::{collections::VecDeque, convert::Infallible, hint::black_box};

use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures::{
    StreamExt,
    executor::block_on,
    stream::{self, Stream},
};
use http::{HeaderValue, Request, Response};
use http_body_util::{Full, StreamBody};
use serde_json::Value;
use steadfast::{
    BoxLlmService, Dialect, LlmRequest, Wire,
    providers::{Anthropic, Gemini, OpenAi, OpenAiResponses, http::RequestBody, sse::Decoder},
};
use tower::ServiceExt;

use crate::material;

pub struct Contestant {
    pub group: String,
    pub name: &'static str,
    /// The bytes that one run reads.
    pub bytes: usize,
    /// The events in it; a request is one.
    pub frames: usize,
    pub run: Box<dyn FnMut()>,
}

pub const OURS: &str = "steadfast";
/// The yardstick of a request.
pub const COPY: &str = "a plain copy of the bytes";
/// The beginning of the names of all copies.
pub const COPIES: &str = "a plain copy";

pub fn all() -> Vec<Contestant> {
    let mut list = Vec::new();
    let (anthropic, openai) = (vec![material::anthropic()], vec![material::openai()]);
    for (name, size) in [("1460-byte pieces", 1460), ("16 KiB pieces", 16 << 10)] {
        framing(&mut list, &format!("framing, OpenAI stream, {name}"), &openai, size, true);
    }
    // eventsource-stream takes the square of the event's size: it would run for minutes.
    framing(&mut list, "framing, one 4 MiB event, 1460-byte pieces", &[material::picture()], 1460, false);
    decoding(&mut list, "decode and forward, Anthropic stream", Dialect::Anthropic, &anthropic);
    decoding(&mut list, "decode and forward, OpenAI stream", Dialect::OpenAi, &openai);
    decoding(&mut list, "decode and forward, Responses stream", Dialect::Responses, &[material::responses()]);
    let mut recorded = material::recorded();
    // Some end as an error, which is no answer to forward.
    recorded.retain(|body| {
        let leaf = leaf(Dialect::Anthropic, vec![body.clone()]);
        block_on(async { leaf.oneshot(LlmRequest::prompt("hello").with_stream(true)).await?.collect().await }).is_ok()
    });
    if !recorded.is_empty() {
        let group = format!("decode and forward, {} recorded Anthropic streams", recorded.len());
        decoding(&mut list, &group, Dialect::Anthropic, &recorded);
    }
    requests(&mut list, "request of 1 KB", material::request(1 << 10));
    requests(&mut list, "request of 100 KB", material::request(100 << 10));
    requests(&mut list, "request of 5 MB, a long conversation", material::request(5 << 20));
    if let Some(request) = material::recorded_request(5 << 20) {
        requests(&mut list, "request of 5 MB, recorded turns", request);
    }
    requests(&mut list, "request of 5 MB, a picture", material::with_picture(5 << 20));
    list
}

type Pieces = Vec<Vec<Bytes>>;

fn source(pieces: &[Bytes]) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin + use<> {
    stream::iter(Vec::from(pieces).into_iter().map(Ok))
}

/// Cutting a stream into events.
fn framing(list: &mut Vec<Contestant>, group: &str, bodies: &[Bytes], size: usize, with_eventsource: bool) {
    let pieces: Pieces = bodies.iter().map(|body| material::pieces(body, size)).collect();
    let bytes = bodies.iter().map(Bytes::len).sum();
    let frames = bodies.iter().map(|body| events(body)).sum();
    let mut add = |name, run: fn(&[Bytes])| {
        let pieces = pieces.clone();
        let run = Box::new(move || pieces.iter().for_each(|pieces| run(pieces)));
        list.push(Contestant { group: group.to_owned(), name, bytes, frames, run });
    };
    add(OURS, |pieces| {
        let mut decoder = Decoder::new(16 << 20);
        for piece in pieces {
            decoder.push(piece.clone());
            while let Ok(Some(event)) = decoder.next_event() {
                black_box(event);
            }
        }
    });
    add("steadfast, as a Stream", |pieces| {
        let mut decoder = Decoder::new(16 << 20);
        let events = source(pieces).flat_map(move |piece| {
            decoder.push(piece.unwrap_or_default());
            let mut events = Vec::new();
            while let Ok(Some(event)) = decoder.next_event() {
                events.push(event);
            }
            stream::iter(events)
        });
        block_on(events.for_each(|event| {
            black_box(event);
            std::future::ready(())
        }));
    });
    add("sse-stream", |pieces| {
        block_on(sse_stream::SseStream::from_bytes_stream(source(pieces)).for_each(|event| {
            black_box(event).expect("a good stream");
            std::future::ready(())
        }));
    });
    if with_eventsource {
        add("eventsource-stream", |pieces| {
            block_on(source(pieces).eventsource().for_each(|event| {
                black_box(event).expect("a good stream");
                std::future::ready(())
            }));
        });
    }
}

fn events(body: &[u8]) -> usize {
    body.windows(2).filter(|pair| *pair == b"\n\n").count().max(1)
}

/// A leaf whose answer is this, in these pieces.
fn leaf(dialect: Dialect, pieces: Vec<Bytes>) -> BoxLlmService {
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let frames = pieces.clone().into_iter().map(|piece| Ok::<_, Infallible>(http_body::Frame::data(piece)));
        let mut response = Response::new(StreamBody::new(stream::iter(frames)));
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    match dialect {
        Dialect::Anthropic => BoxLlmService::new(Anthropic::new("k").model("m").transport(transport)),
        Dialect::Gemini => BoxLlmService::new(Gemini::new("k").model("m").transport(transport)),
        Dialect::Responses => BoxLlmService::new(OpenAiResponses::new("k").model("m").transport(transport)),
        _ => BoxLlmService::new(OpenAi::new("k").model("m").transport(transport)),
    }
}

/// From the pieces of a socket to the events' meaning and the bytes to send on. Ours is the whole leaf: the request,
/// the status, the commit point. The usual way is a decoder and a `Value`, of which the bytes are written anew.
fn decoding(list: &mut Vec<Contestant>, group: &str, dialect: Dialect, bodies: &[Bytes]) {
    let bytes = bodies.iter().map(Bytes::len).sum();
    let frames = bodies.iter().map(|body| events(body)).sum();
    let pieces: Pieces = bodies.iter().map(|body| material::pieces(body, 1460)).collect();
    let leaves: Vec<BoxLlmService> = pieces.iter().map(|pieces| leaf(dialect, pieces.clone())).collect();
    let run = Box::new(move || {
        for leaf in &leaves {
            block_on(async {
                let request = LlmRequest::prompt("hello").with_stream(true);
                let mut body = leaf.clone().oneshot(request).await.expect("a good stream").into_body();
                while let Some(frame) = body.frame().await {
                    let frame = frame.expect("a good stream");
                    black_box((frame.raw(), frame.events()));
                }
            });
        }
    });
    list.push(Contestant { group: group.to_owned(), name: OURS, bytes, frames, run });
    let mut add = |name, run: fn(&[Bytes])| {
        let pieces = pieces.clone();
        let run = Box::new(move || pieces.iter().for_each(|pieces| run(pieces)));
        list.push(Contestant { group: group.to_owned(), name, bytes, frames, run });
    };
    add("sse-stream and Value", |pieces| {
        block_on(sse_stream::SseStream::from_bytes_stream(source(pieces)).for_each(|event| {
            let event = event.expect("a good stream");
            forward(event.event.as_deref().unwrap_or_default(), event.data.as_deref().unwrap_or_default());
            std::future::ready(())
        }));
    });
    add("eventsource-stream and Value", |pieces| {
        block_on(source(pieces).eventsource().for_each(|event| {
            let event = event.expect("a good stream");
            forward(&event.event, &event.data);
            std::future::ready(())
        }));
    });
}

fn forward(event: &str, data: &str) {
    match serde_json::from_str::<Value>(data) {
        Ok(value) => drop(black_box(format!("event: {event}\ndata: {value}\n\n"))),
        Err(_) => drop(black_box(format!("data: {data}\n\n"))),
    }
}

/// From a caller's bytes to what the transport gets, with another model.
fn requests(list: &mut Vec<Contestant>, group: &str, body: Bytes) {
    let mut add = |name, run: Box<dyn FnMut()>| {
        list.push(Contestant { group: group.to_owned(), name, bytes: body.len(), frames: 1, run });
    };
    let asked = body.clone();
    add(OURS, forwarding::<RequestBody>(asked));
    let asked = body.clone();
    add("steadfast, to a transport that wants one piece", forwarding::<Full<Bytes>>(asked));
    let asked = body.clone();
    add(COPY, Box::new(move || drop(black_box(Bytes::from(black_box(&asked).to_vec())))));
    // The one above finds its memory warm from the run before. A server has several requests in hand.
    let asked = body.clone();
    let mut in_hand = VecDeque::from(vec![Bytes::new(); 8]);
    add(
        "a plain copy, eight of them in hand",
        Box::new(move || {
            in_hand.push_back(black_box(Bytes::from(black_box(&asked).to_vec())));
            in_hand.pop_front();
        }),
    );
    let asked = body.clone();
    add(
        "Value, there and back",
        Box::new(move || {
            let mut value: Value = serde_json::from_slice(&asked).expect("a good request");
            value["model"] = "claude-haiku-4-5".into();
            black_box(serde_json::to_vec(&value)).expect("a value can be written");
        }),
    );
}

/// The whole way of a request through the leaf, to a transport that takes this body and answers at once.
fn forwarding<B: From<RequestBody> + 'static>(asked: Bytes) -> Box<dyn FnMut()> {
    let transport = tower::service_fn(|request: Request<B>| {
        black_box(request);
        let answer = r#"{"content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(answer.as_bytes())))))
    });
    let leaf = Anthropic::new("k").model("claude-haiku-4-5").transport(transport);
    Box::new(move || {
        let wire = Wire::new(Dialect::Anthropic, asked.clone()).expect("a good request");
        let response = block_on(leaf.clone().oneshot(wire.into()));
        black_box(response).expect("a good answer");
    })
}
