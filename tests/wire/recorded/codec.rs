//! Every recorded exchange through `providers::codec`, as the adapter of a client of one's own would take it: what
//! comes of it is what the leaf makes of the same bytes over its transport, and what the vendor's own SDK made of them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use steadfast::{
    BoxLlmService, ErrorKind, LlmError, LlmResponse,
    chat::{Message, Part},
    providers::{Anthropic, Gemini, OpenAi, OpenAiResponses, codec, codec::Codec},
};
use tower::service_fn;

use super::{Came, call, events, oracle, read, server::pieces};
use crate::recordings::{Exchange, Recordings};

type Outcome = Result<Came, LlmError>;

/// Returns the request that the leaf sends, and its outcome for the recorded answer.
async fn by_leaf(exchange: &Exchange) -> (Option<Request<Bytes>>, Outcome) {
    let sent = Arc::new(Mutex::new(None));
    let (kept, status, headers, body) =
        (sent.clone(), exchange.status, exchange.headers.clone(), exchange.body.clone());
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let mut response = Response::new(Full::new(body.clone()));
        (*response.status_mut(), *response.headers_mut()) = (status, headers.clone());
        let kept = kept.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await.expect("it is in memory").to_bytes();
            *kept.lock().unwrap() = Some(Request::from_parts(head, body));
            Ok::<_, Infallible>(response)
        }
    });
    macro_rules! ready {
        ($leaf:expr) => {{
            let leaf = $leaf.transport(transport);
            BoxLlmService::new(match exchange.unnamed() {
                Some(model) => leaf.model(model),
                None => leaf,
            })
        }};
    }
    let leaf = match exchange.provider.as_str() {
        "anthropic" => ready!(Anthropic::new("key")),
        "gemini" => ready!(Gemini::new("key")),
        "openai" => ready!(OpenAi::new("key")),
        "openai-responses" => {
            let leaf = OpenAiResponses::compatible(exchange.server.as_str(), "http://localhost").expect("a URL");
            ready!(leaf.key("key"))
        }
        _ => ready!(OpenAi::compatible(exchange.server.as_str(), "http://localhost").expect("a URL").key("key")),
    };
    let outcome = came(call(leaf, exchange.request()).await).await;
    (sent.lock().unwrap().take(), outcome)
}

async fn came(response: Result<LlmResponse, LlmError>) -> Outcome {
    read(response?).await
}

fn codec(exchange: &Exchange) -> Codec {
    let codec = match exchange.provider.as_str() {
        "anthropic" | "gemini" | "openai" => Codec::new(exchange.dialect),
        "openai-responses" => Codec::new(exchange.dialect).named(exchange.server.as_str()),
        _ => Codec::compatible(exchange.server.as_str()),
    };
    match exchange.unnamed() {
        Some(model) => codec.key("key").model(model),
        None => codec.key("key"),
    }
}

/// A client that hands over the bytes as they came.
async fn by_bytes(exchange: &Exchange, to: codec::Exchange) -> Outcome {
    let body = exchange.body.clone();
    if !exchange.status.is_success() {
        return Err(to.error(exchange.status, &exchange.headers, body));
    }
    let to = to.response_headers(exchange.headers.clone());
    if !exchange.is_sse {
        return came(to.answer(body)).await;
    }
    let pieces = pieces(&body, &mut fastrand::Rng::with_seed(7)).into_iter().map(Bytes::copy_from_slice);
    came(to.stream_sse(stream::iter(pieces.map(Ok::<_, Infallible>).collect::<Vec<_>>())).await).await
}

/// The events that a client yields: all that have data, up to the `[DONE]` that it keeps to itself. `None`: the server
/// wrote something between them that such a client cannot hand on.
fn data(exchange: &Exchange) -> Option<Vec<String>> {
    let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
    let blocks = events::blocks(text);
    let whole = text.ends_with("\n\n") || text.ends_with("\r\n\r\n");
    let last = blocks.len();
    let mut data = Vec::new();
    for (place, block) in blocks.into_iter().enumerate() {
        match block.data {
            Some(done) if done.trim() == "[DONE]" => break,
            // The recording cut it off, so that it is no event.
            Some(cut) if place + 1 == last && !whole && serde_json::from_str::<Value>(&cut).is_err() => {}
            Some(event) => data.push(event),
            None if block.bare.is_empty() => {}
            None => return None,
        }
    }
    Some(data)
}

/// A client that hands over the data of each event, or its own types.
async fn by_events(exchange: &Exchange, to: codec::Exchange, typed: bool) -> Option<Outcome> {
    if !exchange.status.is_success() {
        return None;
    }
    if !exchange.is_sse {
        let answer: Value = serde_json::from_slice(&exchange.body).ok()?;
        return Some(came(to.answer_json(&answer)).await);
    }
    let events = data(exchange)?;
    Some(if typed {
        let values: Result<Vec<Value>, _> = events.iter().map(|event| serde_json::from_str(event)).collect();
        came(to.stream_json(stream::iter(values.ok()?.into_iter().map(Ok::<_, Infallible>))).await).await
    } else {
        came(to.stream(stream::iter(events.into_iter().map(Ok::<_, Infallible>))).await).await
    })
}

/// Returns all fields of an error but its wait.
fn facts(error: &LlmError) -> impl PartialEq + std::fmt::Debug {
    let names = [error.provider(), error.model(), error.code(), error.request_id(), Some(error.message())];
    let names = names.map(|name| name.map(str::to_owned));
    (error.kind(), error.status(), names, error.should_retry(), error.dialect(), error.raw().cloned())
}

fn is_same_wait(one: &LlmError, other: &LlmError) -> bool {
    match (one.retry_after(), other.retry_after()) {
        (Some(one), Some(other)) => one.abs_diff(other) < Duration::from_secs(2),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// The message with the arguments of its calls spelled as types spell them.
fn respelled(message: &Message) -> Message {
    let mut message = message.clone();
    for part in &mut message.content {
        if let Part::ToolCall(call) = part
            && let Ok(arguments) = serde_json::from_str::<Value>(&call.arguments)
        {
            call.arguments = arguments.to_string();
        }
    }
    unsigned(&message)
}

/// Returns a message without the digits of its account in the tokens of Chat Completions: a codec has an account of its
/// own.
fn unsigned(message: &Message) -> Message {
    let mut message = message.clone();
    for part in &mut message.content {
        let opaque = match part {
            Part::Reasoning(reasoning) => reasoning.opaque.as_mut(),
            Part::ToolCall(call) => call.opaque.as_mut(),
            _ => None,
        };
        if let Some(opaque) = opaque.filter(|opaque| opaque.dialect == steadfast::Dialect::OpenAi) {
            opaque.token = opaque.token.split_once(':').expect("digits").1.to_owned();
        }
    }
    message
}

/// Returns the difference between the two outcomes' content. It ignores bytes and statuses, which events do not have.
fn differs(leaf: &Outcome, other: &Outcome) -> Option<String> {
    match (leaf, other) {
        (Ok(leaf), Ok(other)) if respelled(&leaf.message) == respelled(&other.message) => None,
        (Err(leaf), Err(other)) if leaf.kind() == other.kind() => None,
        (leaf, other) => {
            let short = |outcome: &Outcome| match outcome {
                Ok(came) => format!("{:?}", came.message).chars().take(300).collect::<String>(),
                Err(error) => format!("{:?}: {error}", error.kind()),
            };
            Some(format!("the leaf: {}; the codec: {}", short(leaf), short(other)))
        }
    }
}

/// The counts over a folder of recordings.
#[derive(Default)]
struct Count {
    exchanges: usize,
    by_events: usize,
    errors: usize,
    errors_by_fields: usize,
    /// Errors whose kind the fields alone do not tell: the leaf's kind, and that of the fields.
    statuses_missed: BTreeMap<(ErrorKind, ErrorKind), usize>,
    /// Streams that only a `[DONE]` ends: without a finish reason, or with one for some of several choices.
    ended_by_done_alone: usize,
    wrong: Vec<String>,
}

impl Count {
    async fn take(&mut self, exchange: &Exchange, reading: Option<&oracle::Reading>) {
        let mut wrong = Vec::new();
        let (sent, leaf) = by_leaf(exchange).await;
        let to = match codec(exchange).encode(&exchange.request()).await {
            Ok(to) => to,
            Err(refused) => {
                let same = leaf.as_ref().is_err_and(|error| facts(error) == facts(&refused) && sent.is_none());
                if !same {
                    self.wrong.push(format!("{}: refused: {refused}", exchange.id));
                }
                return;
            }
        };
        self.exchanges += 1;
        let sent = sent.expect("it is sent where it is not refused");
        if sent.body() != &to.body() {
            wrong.push("the request's bytes differ".to_owned());
        }
        let path = sent.uri().path_and_query().map_or("", |path| path.as_str());
        if sent.headers() != to.headers() || !path.ends_with(to.path()) {
            wrong.push(format!("the request's head differs: {path} and {}", to.path()));
        }
        let bytes = by_bytes(exchange, to.clone()).await;
        match (&leaf, &bytes) {
            (Ok(leaf), Ok(ours)) if unsigned(&leaf.message) == unsigned(&ours.message) && leaf.raw == ours.raw => {}
            (Err(leaf), Err(ours)) if facts(leaf) == facts(ours) && is_same_wait(leaf, ours) => {}
            (Err(leaf), Err(ours)) => wrong.push(format!("by bytes: {:?} and {:?}", facts(leaf), facts(ours))),
            _ => wrong.push(format!("by bytes: {:?}", differs(&leaf, &bytes))),
        }
        for typed in [false, true] {
            let to = to.clone().response_headers(exchange.headers.clone());
            let Some(ours) = by_events(exchange, to, typed).await else { continue };
            self.by_events += usize::from(!typed);
            let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
            let broken = ours.as_ref().is_err_and(|error| error.kind() == ErrorKind::StreamBroken);
            if leaf.is_ok() && broken && text.contains("[DONE]") {
                self.ended_by_done_alone += usize::from(!typed);
                continue;
            }
            wrong.extend(differs(&leaf, &ours).map(|what| format!("by events (typed: {typed}): {what}")));
            // The SDK reads events too.
            let verdict = reading.map(|reading| oracle::compare(exchange, reading, ours.as_ref().map(|c| &c.message)));
            if let Some(oracle::Verdict::Different(what)) = verdict {
                wrong.extend(what.iter().map(|what| format!("by events (typed: {typed}), the SDK: {what}")));
            }
        }
        if let (false, Err(leaf)) = (exchange.status.is_success(), &leaf) {
            self.errors += 1;
            self.by_fields(exchange, &to, leaf, &mut wrong);
        }
        self.wrong.extend(wrong.into_iter().map(|what| format!("{}: {what}", exchange.id)));
    }

    /// A client that keeps the fields of an error.
    fn by_fields(&mut self, exchange: &Exchange, to: &codec::Exchange, leaf: &LlmError, wrong: &mut Vec<String>) {
        let Ok(body) = serde_json::from_slice::<Value>(&exchange.body) else { return };
        let Some(fields) = body.get("error").filter(|error| error.is_object()) else { return };
        self.errors_by_fields += 1;
        // A kind may depend on a wait, which stands in the headers alone.
        let headers = &exchange.headers;
        let waits = ["retry-after", "retry-after-ms"].iter().any(|name| headers.contains_key(*name));
        let ours = to.error_json(exchange.status, fields);
        if (ours.kind(), ours.code(), ours.message(), ours.status())
            != (leaf.kind(), leaf.code(), leaf.message(), leaf.status())
            && !waits
        {
            wrong.push(format!("by fields: {:?} and {:?}", facts(leaf), facts(&ours)));
        }
        let ours = to.error_json(None, fields);
        assert_eq!(ours.status(), None);
        if ours.kind() != leaf.kind() && !waits {
            *self.statuses_missed.entry((leaf.kind(), ours.kind())).or_default() += 1;
            println!(
                "{}: {} without its status: {:?} in place of {:?}",
                exchange.id,
                exchange.status,
                ours.kind(),
                leaf.kind()
            );
        }
    }
}

#[tokio::test]
async fn every_recorded_exchange_comes_out_of_a_codec_as_of_the_leaf() {
    let folders = crate::recordings::folders();
    if folders.is_empty() {
        println!("skipped: no recordings beside the repository");
    }
    for folder in folders {
        let recordings = Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}"));
        let readings = oracle::file(&folder).map(|file| oracle::read(&file, &recordings).expect("they are readings"));
        let mut count = Count::default();
        for exchange in &recordings.exchanges {
            let reading = readings.as_ref().and_then(|readings| readings.get(&exchange.id));
            count.take(exchange, reading).await;
        }
        count.wrong.iter().for_each(|what| println!("{what}"));
        println!(
            "codec: {} exchanges, {} by events, {} errors, {} by fields; {} streams are ended by [DONE] alone; {:?}",
            count.exchanges,
            count.by_events,
            count.errors,
            count.errors_by_fields,
            count.ended_by_done_alone,
            count.statuses_missed
        );
        assert_eq!(count.wrong.len(), 0, "what a codec makes of it is what the leaf makes of it");
        let missed: usize = count.statuses_missed.values().sum();
        assert!(missed * 20 <= count.errors_by_fields, "the fields of an error nearly always tell its kind");
        assert!(count.ended_by_done_alone * 100 <= count.by_events, "nearly every stream has a finish reason");
    }
}
