//! What must hold for any bytes. Shared by the property tests beside this file and the cargo-fuzz targets in `fuzz/`.

use std::{
    convert::Infallible,
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, LlmError, LlmRequest, StreamEvent, Wire,
    chat::Accumulator,
    providers::{
        Anthropic, Gemini, OpenAi,
        http::Limits,
        sse::{Decoder, SseEvent},
    },
    retry_after,
};
use tower::{Service, ServiceExt};

pub(crate) const DIALECTS: [Dialect; 3] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini];

/// What the leaves read at most in these tests.
pub(crate) const ANSWER: usize = 256 << 10;
const EVENT: usize = 64 << 10;
const ERROR: usize = 8 << 10;

/// Whatever the pieces: the same events, nothing lost, and no more held than the limit.
pub(crate) fn sse(bytes: &[u8], seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let limit = if rng.u8(..) < 64 { rng.usize(..100) } else { 1 << 20 };
    let (whole, failed) = events(limit, [Bytes::copy_from_slice(bytes)]);
    for longest in [1, 7, 4096] {
        let (cut, cut_failed) = events(limit, pieces(bytes, longest, &mut rng));
        assert_eq!((&cut, cut_failed), (&whole, failed), "in pieces of up to {longest} bytes");
    }
    let raw: Vec<u8> = whole.iter().flat_map(|event| event.raw.iter().copied()).collect();
    assert!(bytes.starts_with(&raw), "what comes out is what went in");
    assert!(failed || raw.len() == bytes.len(), "nothing is lost");
    assert!(whole.iter().all(|event| event.raw.len() <= limit));
}

/// All events, and whether one was too long.
fn events(limit: usize, pieces: impl IntoIterator<Item = Bytes>) -> (Vec<SseEvent>, bool) {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    let mut failed = false;
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        assert!(decoder.buffered() <= limit, "{} bytes are held", decoder.buffered());
    }
    while !failed {
        match decoder.finish() {
            Ok(Some(event)) => events.push(event),
            Ok(None) => break,
            Err(_) => failed = true,
        }
    }
    if failed {
        decoder.push(Bytes::from_static(b"data: more\n\n"));
        assert_eq!(decoder.buffered(), 0, "a failed decoder keeps nothing");
    }
    (events, failed)
}

fn pieces(mut bytes: &[u8], longest: usize, rng: &mut fastrand::Rng) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.usize(1..=bytes.len().min(longest)));
        pieces.push(Bytes::copy_from_slice(piece));
        bytes = rest;
    }
    pieces
}

/// What comes back from a leaf for these bytes: an answer, or an error with a name.
pub(crate) fn answer(dialect: Dialect, bytes: &[u8], stream: bool, status: u16, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let longest = if bytes.len() < 4096 { rng.usize(1..64) } else { rng.usize(512..8192) };
    let pieces = pieces(bytes, longest, &mut rng);
    let broken = rng.u8(..) < 32;
    let content_type = if stream { "text/event-stream" } else { "application/json" };
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let frames: Vec<_> = pieces.iter().cloned().map(|piece| Ok(http_body::Frame::data(piece))).collect();
        let end = broken.then(|| Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames.into_iter().chain(end))));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let leaf = leaf(dialect, transport);
    now(async {
        let response = match leaf.oneshot(LlmRequest::prompt("hello").stream(stream)).await {
            Ok(response) => response,
            Err(error) => return classified(&error),
        };
        let mut body = response.into_body();
        if let Some((_, raw)) = body.wire() {
            assert_eq!(raw, bytes, "the bytes of a whole answer");
        }
        let mut message = Accumulator::default();
        let mut rest = bytes;
        let mut ended = false;
        while let Some(frame) = body.frame().await {
            assert!(!ended, "an end is the last frame");
            match frame {
                Err(error) => {
                    classified(&error);
                    ended = true;
                }
                Ok(frame) => {
                    frame.events().iter().for_each(|event| message.push(event));
                    ended = frame.events().contains(&StreamEvent::End);
                    if let Some((_, raw)) = frame.raw() {
                        let at = memchr::memmem::find(rest, raw).expect("the frames are the bytes, in their order");
                        rest = &rest[at + raw.len()..];
                    }
                }
            }
        }
        assert!(ended, "a stream ends with a mark or an error");
        let _message = message.finish();
    });
}

/// An error that a caller can act on, and that does not carry the whole answer in its text.
fn classified(error: &LlmError) {
    assert_ne!(error.kind(), ErrorKind::Connect, "{error:?}");
    assert!(!error.kind().is_local(), "{error:?}");
    assert!(error.to_string().len() <= 16 << 10, "a message of {} bytes", error.to_string().len());
    assert!(error.retry_after().is_none_or(|wait| wait <= retry_after::LONGEST));
}

/// Any headers and any text: no wait beyond the longest, and none of zero but from a date.
pub(crate) fn retry(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    let names = ["retry-after", "retry-after-ms", "date", "x-should-retry"].map(HeaderName::from_static);
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(names[usize::from(*name) % names.len()].clone(), value);
        }
    }
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_781_504_400);
    let text = String::from_utf8_lossy(bytes);
    let said = retry_after::from_message(&text);
    assert!(said.is_none_or(|wait| !wait.is_zero() && wait <= retry_after::LONGEST));
    assert!(retry_after::duration(&text).is_none_or(|wait| wait <= retry_after::LONGEST));
    for hint in [None, said, Some(Duration::ZERO), Some(Duration::MAX)] {
        let wait = retry_after::from_headers(&headers, hint, wall);
        assert!(wait.is_none_or(|wait| wait <= retry_after::LONGEST));
        let dated = headers
            .get_all("retry-after")
            .iter()
            .any(|value| value.to_str().is_ok_and(|v| v.contains("GMT") || v.contains(':')));
        assert!(wait != Some(Duration::ZERO) || dated, "{headers:?}");
    }
    let _decision = retry_after::should_retry(&headers);
}

/// A request in the leaf's own dialect goes out with another model and no other byte changed, or not at all.
pub(crate) fn splice(dialect: Dialect, bytes: &[u8]) {
    const MODEL: &str = "a \"model\" of one's own";
    let wire = match Wire::new(dialect, Bytes::copy_from_slice(bytes)) {
        Ok(wire) => wire,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::InvalidRequest),
    };
    let (result, sent) = send(dialect, MODEL, wire.into());
    let Some(sent) = sent else {
        let error = result.expect_err("nothing was sent");
        return assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error:?}");
    };
    if dialect == Dialect::Gemini {
        // Its path names the model.
        return assert!(sent == bytes, "{}", String::from_utf8_lossy(&sent));
    }
    let model = serde_json::to_string(MODEL).expect("a text");
    let (open, places) = top_level(bytes, "model");
    let expected = match &places[..] {
        [place] => [&bytes[..place.start], model.as_bytes(), &bytes[place.end..]].concat(),
        [] => {
            let comma = if bytes[open..].trim_ascii_start().starts_with(b"}") { "" } else { "," };
            [&bytes[..open], b"\"model\":", model.as_bytes(), comma.as_bytes(), &bytes[open..]].concat()
        }
        _ => panic!("two models, and it was sent"),
    };
    assert!(sent == expected, "{}\n{}", String::from_utf8_lossy(&sent), String::from_utf8_lossy(&expected));
}

/// Where the object's content begins, and where the values of a top-level field stand. An own reading of JSON that is
/// known to be well-formed, so that the crate's is not held against itself.
fn top_level(json: &[u8], field: &str) -> (usize, Vec<Range<usize>>) {
    let open = json.iter().position(|byte| *byte == b'{').expect("an object") + 1;
    let space = |mut at: usize| {
        while json.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let text = |mut at: usize| {
        at += 1;
        while json[at] != b'"' {
            at += if json[at] == b'\\' { 2 } else { 1 };
        }
        at + 1
    };
    let mut found = Vec::new();
    let mut at = space(open);
    while json[at] != b'}' {
        let key = at..text(at);
        // The colon, and the value behind it.
        at = space(space(key.end) + 1);
        let start = at;
        let mut depth = 0;
        loop {
            match json[at] {
                b'"' => {
                    at = text(at);
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b',' | b'}' if depth == 0 => break,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            at += 1;
        }
        let value = json[start..at].trim_ascii_end();
        if serde_json::from_slice::<String>(&json[key]).is_ok_and(|key| key == field) {
            found.push(start..start + value.len());
        }
        if json[at] == b',' {
            at = space(at + 1);
        }
    }
    (open, found)
}

/// Any bytes as a request: decoded or refused, and so is what they are translated to.
pub(crate) fn request(dialect: Dialect, bytes: &[u8]) {
    let wire = match Wire::new(dialect, Bytes::copy_from_slice(bytes)) {
        Ok(wire) => wire,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::InvalidRequest),
    };
    let request = LlmRequest::from(wire);
    if let Err(error) = request.chat() {
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error:?}");
        return classified(&error.clone());
    }
    for target in DIALECTS.into_iter().filter(|target| *target != dialect) {
        let (result, sent) = send(target, "m", request.clone());
        match (sent, result) {
            (Some(sent), _) => {
                assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&sent).is_ok(), "JSON goes out");
            }
            (None, Err(error)) => {
                let kinds = [ErrorKind::InvalidRequest, ErrorKind::UnsupportedFeature, ErrorKind::ContextLength];
                assert!(kinds.contains(&error.kind()), "{error:?}");
            }
            (None, Ok(_)) => panic!("an answer to what was not sent"),
        }
    }
}

/// Sends a request, and tells what came out on the other side.
fn send(dialect: Dialect, model: &'static str, request: LlmRequest) -> (Result<(), LlmError>, Option<Bytes>) {
    let sent = Arc::new(Mutex::new(None));
    let seen = sent.clone();
    let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let seen = seen.clone();
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            *seen.lock().expect("nobody panics with it") = Some(body);
            let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok::<_, Infallible>(response)
        }
    });
    let leaf = named(dialect, model, transport);
    let result = now(leaf.oneshot(request)).map(drop);
    let sent = sent.lock().expect("nobody panics with it").take();
    (result, sent)
}

fn leaf<S, B>(dialect: Dialect, transport: S) -> BoxLlmService
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    named(dialect, "m", transport)
}

fn named<S, B>(dialect: Dialect, model: &'static str, transport: S) -> BoxLlmService
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    // A leaf comes with an HTTP client of its own, which takes longer to make than most inputs to read.
    thread_local! {
        static LEAVES: (Anthropic, OpenAi, Gemini) = {
            let limits = Limits::default().event(EVENT).answer(ANSWER).error(ERROR);
            (Anthropic::new("k").limits(limits), OpenAi::new("k").limits(limits), Gemini::new("k").limits(limits))
        };
    }
    let (anthropic, openai, gemini) = LEAVES.with(Clone::clone);
    match dialect {
        Dialect::Anthropic => BoxLlmService::new(anthropic.model(model).transport(transport)),
        Dialect::Gemini => BoxLlmService::new(gemini.model(model).transport(transport)),
        _ => BoxLlmService::new(openai.model(model).transport(transport)),
    }
}

/// Runs what waits for nothing but itself.
fn now<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime without I/O");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
