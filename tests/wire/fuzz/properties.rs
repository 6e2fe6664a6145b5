//! Properties that hold for any bytes. Shared by the property tests beside this file and the cargo-fuzz targets in
//! `fuzz/`.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::value::RawValue;
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, LlmError, LlmRequest, StreamEvent, Wire,
    body::Accumulator,
    chat::{Chat, Part},
    providers::{
        Anthropic, Gemini, OpenAi, OpenAiResponses,
        http::Limits,
        sse::{Decoder, SseEvent},
    },
    retry_after,
};
use tower::{Service, ServiceExt};

pub(crate) const DIALECTS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses];

/// The most bytes that the leaves read in these tests.
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

/// Returns true if an escape is half of a character without the other half beside it (RFC 8259, 8.2).
fn has_lone_half(bytes: &[u8]) -> bool {
    let unit = |at: usize| {
        let digits = std::str::from_utf8(bytes.get(at..at + 6)?.strip_prefix(b"\\u")?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    while at < bytes.len() {
        at += match (bytes[at], unit(at)) {
            (b'\\', Some(0xd800..0xdc00)) if matches!(unit(at + 6), Some(0xdc00..0xe000)) => 12,
            (b'\\', Some(0xd800..0xe000)) => return true,
            (b'\\', _) => 2,
            _ => 1,
        };
    }
    false
}

/// Returns a leaf's outcome for these bytes: an answer, or an error with a name.
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
    // A half of a character is read as U+FFFD, in the bytes too.
    let has_halves = has_lone_half(bytes);
    now(async {
        let response = match leaf.oneshot(LlmRequest::prompt("hello").with_stream(stream)).await {
            Ok(response) => response,
            Err(error) => return classified(&error),
        };
        let mut body = response.into_body();
        if let Some((_, raw)) = body.wire() {
            assert!(has_halves || raw == bytes, "the bytes of a whole answer");
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
                    if let Some((_, raw)) = frame.raw().filter(|_| !has_halves) {
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

/// A request in the leaf's own dialect goes out with another model and no other byte changed, or not at all. What
/// `serde_json` takes for an object is one, with its fields in the same places.
pub(crate) fn splice(dialect: Dialect, bytes: &[u8]) {
    const MODEL: &str = "a \"model\" of one's own";
    let outline = outline(bytes);
    if let Ok(fields) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(bytes) {
        let place = |raw: &RawValue| raw.get().as_ptr() as usize - bytes.as_ptr() as usize;
        let fields: BTreeMap<_, _> =
            fields.into_iter().map(|(name, raw)| (name, place(raw)..place(raw) + raw.get().len())).collect();
        let outline = outline.as_ref().expect("it is an object");
        assert_eq!(outline.fields.iter().cloned().collect::<BTreeMap<_, _>>(), fields);
    }
    let places = |name: &str| {
        let fields = outline.iter().flat_map(|outline| &outline.fields);
        fields.filter(|field| field.0 == name).map(|field| field.1.clone()).collect::<Vec<_>>()
    };
    let (models, streams) = (places("model"), places("stream"));
    let is_text = |place: &Range<usize>| serde_json::from_slice::<Option<String>>(&bytes[place.clone()]).is_ok();
    let is_bool = |place: &Range<usize>| serde_json::from_slice::<Option<bool>>(&bytes[place.clone()]).is_ok();
    let is_once = ONCE.iter().all(|name| places(name).len() <= 1)
        && outline.iter().flat_map(|outline| &outline.fields).all(|(name, _)| !is_respelled(name));
    let is_clear = is_once && models.iter().all(is_text) && streams.iter().all(is_bool);
    let wire = match Wire::new(dialect, Bytes::copy_from_slice(bytes)) {
        Ok(wire) => wire,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            return assert!(outline.is_none() || !is_clear, "{error}: {}", String::from_utf8_lossy(bytes));
        }
    };
    assert!(is_clear, "a field twice, or a model that is no text: {}", String::from_utf8_lossy(bytes));
    let open = outline.as_ref().map(|outline| outline.open).expect("what is no object is refused");
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
    let expected = match &models[..] {
        [place] => [&bytes[..place.start], model.as_bytes(), &bytes[place.end..]].concat(),
        _ => {
            let comma = if bytes[open..].trim_ascii_start().starts_with(b"}") { "" } else { "," };
            [&bytes[..open], b"\"model\":", model.as_bytes(), comma.as_bytes(), &bytes[open..]].concat()
        }
    };
    assert!(sent == expected, "{}\n{}", String::from_utf8_lossy(&sent), String::from_utf8_lossy(&expected));
}

/// The fields that a request may have once, whatever its dialect.
const ONCE: [&str; 19] = [
    "model",
    "stream",
    "messages",
    "tools",
    "system",
    "contents",
    "max_tokens",
    "max_completion_tokens",
    "generationConfig",
    "generation_config",
    "thinking",
    "reasoning_effort",
    "input",
    "instructions",
    "max_output_tokens",
    "reasoning",
    "previous_response_id",
    "conversation",
    "background",
];

/// Returns true if some servers read the name as one of these: in any case, of Unicode too, or up to a NUL.
fn is_respelled(name: &str) -> bool {
    let folded = name.split('\0').next().unwrap_or_default().replace('ſ', "s").replace('\u{212a}', "k");
    ONCE.iter().any(|once| name != *once && folded.eq_ignore_ascii_case(once))
}

/// An object and its fields.
struct Outline {
    /// The start of its content.
    open: usize,
    /// Each field's name, and where its value stands.
    fields: Vec<(String, Range<usize>)>,
}

/// An own reading of an object, byte by byte, so that the crate's is not held against itself: strict in what is at the
/// top, and in what is further in only as to texts that end and brackets that balance.
fn outline(json: &[u8]) -> Option<Outline> {
    let space = |mut at: usize| {
        while json.get(at).is_some_and(|byte| b" \t\r\n".contains(byte)) {
            at += 1;
        }
        at
    };
    let text = |mut at: usize| {
        at += 1;
        while *json.get(at)? != b'"' {
            at += if json[at] == b'\\' { 2 } else { 1 };
        }
        Some(at + 1)
    };
    let mut at = space(0);
    if json.get(at) != Some(&b'{') {
        return None;
    }
    let open = at + 1;
    let mut fields = Vec::new();
    at = space(open);
    while json.get(at) != Some(&b'}') || !fields.is_empty() {
        if json.get(at) != Some(&b'"') {
            return None;
        }
        let name = at..text(at)?;
        let name_read = serde_json::from_slice::<String>(&json[name.clone()]).ok()?;
        at = space(name.end);
        if json.get(at) != Some(&b':') {
            return None;
        }
        at = space(at + 1);
        let start = at;
        match *json.get(at)? {
            b'"' => at = text(at)?,
            first @ (b'{' | b'[') => {
                let mut depth = 0;
                loop {
                    match *json.get(at)? {
                        b'"' => {
                            at = text(at)?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        b'\\' => return None,
                        _ => {}
                    }
                    at += 1;
                    if depth == 0 {
                        break;
                    }
                }
                if json[at - 1] != first + 2 {
                    return None;
                }
            }
            _ => {
                while json.get(at).is_some_and(|byte| !b" \t\r\n,}]".contains(byte)) {
                    at += 1;
                }
                serde_json::from_slice::<serde::de::IgnoredAny>(&json[start..at]).ok()?;
            }
        }
        fields.push((name_read, start..at));
        at = space(at);
        match *json.get(at)? {
            b',' => at = space(at + 1),
            b'}' => break,
            _ => return None,
        }
    }
    (space(at + 1) == json.len()).then_some(Outline { open, fields })
}

/// Any bytes as a request: decoded or refused, and so is what they are translated to.
pub(crate) fn request(dialect: Dialect, bytes: &[u8]) {
    let wire = match Wire::new(dialect, Bytes::copy_from_slice(bytes)) {
        Ok(wire) => wire,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::InvalidRequest),
    };
    let request = LlmRequest::from(wire);
    if let Err(error) = request.chat() {
        // It is wrong, or over a limit.
        assert!(matches!(error.kind(), ErrorKind::InvalidRequest | ErrorKind::TooLarge), "{error:?}");
        return classified(&error.clone());
    }
    if dialect == Dialect::Responses
        && let Ok(chat) = request.chat()
    {
        again(chat.clone().model("m"));
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

/// A Responses request is the same conversation once it is encoded and decoded again.
fn again(mut chat: Chat) {
    let (_, sent) = send(Dialect::Responses, "m", chat.clone().into());
    let Some(sent) = sent else { return };
    let wire = Wire::new(Dialect::Responses, sent.clone()).expect("an object goes out");
    let request = LlmRequest::from(wire);
    let Ok(read) = request.chat() else {
        return assert!(chat.messages.is_empty(), "a request goes out: {}", String::from_utf8_lossy(&sent));
    };
    if chat.tools.is_empty() {
        // Nothing is there to choose from, so that no choice goes out.
        chat.tool_choice = None;
        if let Some(extra) = &mut chat.extra {
            let mut fields: BTreeMap<String, serde_json::Value> = extra.fields.read().expect("an object");
            fields.remove("tool_choice");
            extra.fields = serde_json::json!(fields).into();
        }
    }
    for part in chat.messages.iter_mut().flat_map(|message| &mut message.content) {
        if let Part::ToolCall(call) = part
            && call.arguments.trim().is_empty()
        {
            call.arguments = "{}".to_owned();
        }
    }
    for (read, chat) in read.messages.iter().zip(&chat.messages) {
        assert!(read == chat, "{read:?}\n{chat:?}\n{}", String::from_utf8_lossy(&sent));
    }
    assert!(*read == chat, "{read:?}\n{chat:?}\n{}", String::from_utf8_lossy(&sent));
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
        static LEAVES: (Anthropic, OpenAi, Gemini, OpenAiResponses) = {
            let limits = Limits::default().event(EVENT).answer(ANSWER).error(ERROR);
            let openai = OpenAi::new("k").limits(limits);
            let (anthropic, gemini) = (Anthropic::new("k").limits(limits), Gemini::new("k").limits(limits));
            (anthropic, openai.clone(), gemini, openai.responses())
        };
    }
    let (anthropic, openai, gemini, responses) = LEAVES.with(Clone::clone);
    match dialect {
        Dialect::Anthropic => BoxLlmService::new(anthropic.model(model).transport(transport)),
        Dialect::Gemini => BoxLlmService::new(gemini.model(model).transport(transport)),
        Dialect::Responses => BoxLlmService::new(responses.model(model).transport(transport)),
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
