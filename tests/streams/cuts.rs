//! A recorded stream that is cut anywhere is a failure with a name, or the whole correct answer; never a short success.
//!
//! The recordings are not part of the repository, see `common/recordings.rs`. `STEADFAST_CUTS` sets how many cuts are
//! tried.

use std::{collections::BTreeMap, convert::Infallible, io};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{Full, StreamBody};
use steadfast::{
    BoxLlmService, CommitPoint, Dialect, ErrorKind, LlmError, LlmResponse,
    chat::{Message, Part, ToolCall},
    providers::{Anthropic, Gemini, OpenAi, OpenAiResponses},
    translate::StreamEncoder,
};
use tower::{Service, ServiceExt};

use crate::recordings::{Exchange, Recordings, folders, recordings};

/// The number of cuts that a plain run tries, in a few seconds without optimisation.
const CUTS: usize = 6_000;

/// The end of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A whole body's end. HTTP/1.0 and broken proxies end a cut one like this too.
    Clean,
    /// With the connection.
    Broken,
}

/// Returns the leaf's reading of the first `length` bytes.
async fn read(exchange: &Exchange, length: usize, end: End, rng: &mut fastrand::Rng) -> Result<Message, LlmError> {
    call(exchange.dialect, &exchange.headers, exchange.body.slice(..length), end, rng).await?.collect().await
}

/// Calls a leaf whose answer is these bytes, in pieces.
async fn call(
    dialect: Dialect,
    headers: &HeaderMap,
    mut rest: Bytes,
    end: End,
    rng: &mut fastrand::Rng,
) -> Result<LlmResponse, LlmError> {
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let longest = if rng.u8(..) < 32 { 7 } else { 4096 };
        let piece = rest.split_to(rng.usize(1..=rest.len().min(longest)));
        frames.push(Ok(http_body::Frame::data(piece)));
    }
    if end == End::Broken {
        frames.push(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
    }
    let body = std::sync::Mutex::new(Some(StreamBody::new(futures_util::stream::iter(frames))));
    let headers = headers.clone();
    let body = std::sync::Arc::new(body);
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let body = body.lock().unwrap().take().expect("one request");
        let mut response = Response::new(body);
        *response.headers_mut() = headers.clone();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let point = if rng.bool() { CommitPoint::FirstToken } else { CommitPoint::Complete };
    let mut leaf = match dialect {
        Dialect::Anthropic => BoxLlmService::new(Anthropic::new("k").model("m").commit(point).transport(transport)),
        Dialect::Gemini => BoxLlmService::new(Gemini::new("k").model("m").commit(point).transport(transport)),
        Dialect::Responses => {
            BoxLlmService::new(OpenAiResponses::new("k").model("m").commit(point).transport(transport))
        }
        _ => BoxLlmService::new(OpenAi::new("k").model("m").commit(point).transport(transport)),
    };
    let request = steadfast::LlmRequest::prompt("hello").with_stream(true);
    leaf.ready().await?.call(request).await
}

/// Returns the bytes that a caller of another dialect is sent, and whether the answer is whole.
async fn translated(response: LlmResponse, to: Dialect) -> (Bytes, bool) {
    let (mut body, mut encoder, mut bytes) = (response.into_body(), StreamEncoder::new(to), BytesMut::new());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&encoder.frame(&frame)),
            Err(error) => {
                bytes.extend_from_slice(&encoder.error(&error));
                return (bytes.freeze(), false);
            }
        }
    }
    (bytes.freeze(), true)
}

/// Returns the reading of such a caller. The gateway ends every answer in good order.
async fn read_translated(to: Dialect, bytes: Bytes, rng: &mut fastrand::Rng) -> Result<Message, LlmError> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))]);
    call(to, &headers, bytes, End::Clean, rng).await?.collect().await
}

/// Returns the content of an answer. The tokens used may come behind the end of it, and so may where it is from.
fn content(message: &Message) -> Vec<Part> {
    message.content.iter().filter(|part| !matches!(part, Part::Extra { .. })).cloned().collect()
}

/// Chooses a length and an end. `is_answer` is true if the whole stream is one.
fn cut(exchange: &Exchange, is_answer: bool, rng: &mut fastrand::Rng) -> (usize, End) {
    let length = match rng.u8(..) {
        // The ends are where the traps are.
        0..64 => exchange.body.len() - rng.usize(0..=exchange.body.len().min(400)),
        _ => rng.usize(0..=exchange.body.len()),
    };
    // An error may follow an answer that has ended. Then only a broken connection shows that something is missing.
    let clean = rng.bool() && end_marks(exchange) <= 1 && is_answer;
    (length, if clean { End::Clean } else { End::Broken })
}

/// Returns the number of cuts to try.
fn cuts() -> usize {
    std::env::var("STEADFAST_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(CUTS)
}

/// The streams of Responses, which only the second folder has.
fn streams_of_responses() -> Vec<Exchange> {
    let read = folders().into_iter().skip(1).map(|folder| Recordings::read(&folder));
    let exchanges = read.flat_map(|read| read.unwrap_or_else(|error| panic!("{error}")).exchanges);
    let is_stream = |exchange: &Exchange| exchange.is_sse && exchange.status.is_success();
    exchanges.filter(|exchange| exchange.dialect == Dialect::Responses && is_stream(exchange)).collect()
}

/// Returns the number of end marks in it. With one in every chunk, a clean end after any of them looks whole.
fn end_marks(exchange: &Exchange) -> usize {
    let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
    match exchange.dialect {
        Dialect::Gemini => text.matches("\"finishReason\"").count(),
        _ => 1,
    }
}

#[tokio::test]
async fn a_cut_stream_is_never_a_short_success() {
    let Some(mut exchanges) = recordings() else { return };
    exchanges.extend(streams_of_responses());
    let cuts = cuts();
    let mut rng = fastrand::Rng::with_seed(20_261_120);
    let mut streams: BTreeMap<String, Vec<(Exchange, Option<Message>)>> = BTreeMap::new();
    for exchange in exchanges.into_iter().filter(|exchange| exchange.is_sse && exchange.status.is_success()) {
        // One that is a failure when it is whole must be one when it is cut.
        let whole = read(&exchange, exchange.body.len(), End::Clean, &mut rng).await.ok();
        streams.entry(exchange.dialect.to_string()).or_default().push((exchange, whole));
    }
    let (mut whole, mut broken) = (0_usize, BTreeMap::<_, usize>::new());
    for n in 0..cuts {
        let of_dialect = streams.values().nth(n % streams.len()).expect("within their number");
        let (exchange, complete) = &of_dialect[rng.usize(..of_dialect.len())];
        let (length, end) = cut(exchange, complete.is_some(), &mut rng);
        match (read(exchange, length, end, &mut rng).await, complete) {
            (Err(error), _) => *broken.entry(error.kind()).or_default() += 1,
            (Ok(message), Some(complete)) => {
                let short = |what: &str| format!("{}: {what} after {length} bytes, {end:?}", exchange.id);
                assert_eq!(content(&message), content(complete), "{}", short("a short answer"));
                assert_eq!(message.finish, complete.finish, "{}", short("another end"));
                whole += 1;
            }
            (Ok(_), None) => panic!("{}: an answer of {length} bytes of a failure, {end:?}", exchange.id),
        }
    }
    println!("{cuts} cuts: {whole} were the whole answer, the others failures: {broken:?}");
}

/// The places where a text would end without a trace, if something other than the mark were an end: behind an event.
#[tokio::test]
async fn no_event_of_responses_but_its_mark_is_an_end() {
    let mut rng = fastrand::Rng::with_seed(20_261_122);
    let (mut streams, mut cuts) = (0, 0);
    for exchange in streams_of_responses() {
        let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
        let blank = if text.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
        let ends: Vec<usize> = text.match_indices(blank).map(|(at, _)| at + blank.len()).collect();
        let is_mark = |event: &str| {
            let data = event.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or_default();
            let event: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
            matches!(event["type"].as_str(), Some("response.completed" | "response.incomplete"))
        };
        let mark = (1..ends.len()).find(|at| is_mark(&text[ends[at - 1]..ends[*at]])).unwrap_or(ends.len());
        streams += 1;
        // The newest events, and some of the others.
        let others: Vec<usize> = (0..12).map(|_| rng.usize(..mark)).collect();
        for at in (mark.saturating_sub(4)..mark).chain(others) {
            for end in [End::Clean, End::Broken] {
                let answer = read(&exchange, ends[at], end, &mut rng).await;
                assert!(answer.is_err(), "{}: a short answer of {} bytes, {end:?}", exchange.id, ends[at]);
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts of {streams} streams of Responses behind an event: all are failures");
}

/// Between Responses and each other dialect, either way: an answer that a caller of another dialect takes for whole is
/// the whole one, and a failure is one for it too.
#[tokio::test]
async fn a_cut_stream_is_never_a_short_success_in_another_dialect() {
    let Some(mut exchanges) = recordings() else { return };
    exchanges.extend(streams_of_responses());
    exchanges.retain(|exchange| exchange.is_sse && exchange.status.is_success());
    let others = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini];
    let pairs = others.iter().flat_map(|other| [(Dialect::Responses, *other), (*other, Dialect::Responses)]);
    let mut rng = fastrand::Rng::with_seed(20_261_123);
    for (from, to) in pairs {
        let mut streams = Vec::new();
        for exchange in exchanges.iter().filter(|exchange| exchange.dialect == from) {
            let all = exchange.body.clone();
            // One that is a failure when it is whole has no answer to compare with.
            let Ok(response) = call(from, &exchange.headers, all, End::Clean, &mut rng).await else { continue };
            let (bytes, true) = translated(response, to).await else { continue };
            match read_translated(to, bytes, &mut rng).await {
                Ok(whole) => streams.push((exchange, whole)),
                // All of its items are such as the caller's dialect has none of, or it is a refusal and no more.
                Err(error) if [ErrorKind::EmptyAnswer, ErrorKind::ContentPolicy].contains(&error.kind()) => {}
                Err(error) => panic!("{} to {to}: {error}", exchange.id),
            }
        }
        let (mut whole, mut broken, mut unbegun) = (0, 0, 0);
        for _ in 0..cuts() / 12 {
            let (exchange, complete) = &streams[rng.usize(..streams.len())];
            let (length, end) = match rng.u8(..) {
                0..16 => (exchange.body.len(), End::Clean),
                _ => cut(exchange, true, &mut rng),
            };
            let answer = call(from, &exchange.headers, exchange.body.slice(..length), end, &mut rng).await;
            let Ok(response) = answer else {
                unbegun += 1;
                continue;
            };
            let (bytes, is_whole) = translated(response, to).await;
            match read_translated(to, bytes, &mut rng).await {
                Ok(message) => {
                    let short = |what: &str| format!("{} to {to}: {what} after {length} bytes, {end:?}", exchange.id);
                    assert!(is_whole, "{}", short("an answer out of a failure"));
                    // Some ids are made for each translation.
                    let said = |message: &Message| {
                        let call = |call: &ToolCall| (call.name.clone(), call.arguments.clone());
                        (message.text(), message.tool_calls().map(call).collect::<Vec<_>>(), message.finish.clone())
                    };
                    assert_eq!(said(&message), said(complete), "{}", short("a short answer"));
                    whole += 1;
                }
                Err(error) => {
                    assert!(!is_whole, "{} to {to}: a failure out of an answer: {error}", exchange.id);
                    broken += 1;
                }
            }
        }
        println!("{from} to {to}, {} streams: {whole} whole, {broken} failed, {unbegun} not begun", streams.len());
    }
}
