//! Every recorded exchange with a real provider, both ways through the matching leaf: the recorded request goes out,
//! the recorded answer comes back from a server on loopback in pieces cut anywhere, and what the crate makes of it is
//! held against what the vendor's own SDK made of it ([`oracle`]), and against an independent reading of the recording
//! ([`expected`]).
//!
//! The recordings are not part of the repository; see [`recordings`]. `.ci/recorded` runs this on any folder.

mod bedrock;
mod codec;
mod commit;
mod doors;
mod events;
mod exceptions;
mod expected;
mod folder;
mod last_response;
mod mapping;
pub(crate) mod meaning;
mod oracle;
mod server;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use steadfast::{
    BoxLlmService, CommitPoint, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, StreamEvent,
    body::Accumulator,
    chat::Message,
    providers::{Anthropic, Gemini, OpenAi, OpenAiResponses, transport::HttpClient},
};
use tower::{Service, ServiceExt};

use crate::recordings::{Exchange, Recordings};

use self::{
    expected::{Expected, Said},
    server::Server,
};

/// The leaf of the exchange's provider, at the place of the exchange `n` on the server.
fn leaf(exchange: &Exchange, n: usize, server: &Server, client: &HttpClient, model: Option<&str>) -> BoxLlmService {
    let url = format!("http://{}/{n}/v1", server.address);
    macro_rules! ready {
        ($leaf:expr) => {{
            let leaf = $leaf.transport(client.clone()).commit(CommitPoint::FirstToken);
            BoxLlmService::new(match model {
                Some(model) => leaf.model(model),
                None => leaf,
            })
        }};
    }
    match exchange.provider.as_str() {
        "anthropic" => ready!(Anthropic::new("key").base_url(&url).expect("a URL")),
        "gemini" => ready!(Gemini::new("key").base_url(&url).expect("a URL")),
        "openai" => ready!(OpenAi::new("key").base_url(&url).expect("a URL")),
        "openai-responses" => {
            ready!(OpenAiResponses::compatible(exchange.server.as_str(), &url).expect("a URL").key("key"))
        }
        _ => ready!(OpenAi::compatible(exchange.server.as_str(), &url).expect("a URL").key("key")),
    }
}

async fn call(mut leaf: BoxLlmService, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    leaf.ready().await?.call(request).await
}

/// The outcome of an exchange: the message, and the provider's bytes as the crate gives them back.
struct Came {
    message: Message,
    raw: Vec<u8>,
    misplaced: Vec<String>,
}

async fn read(response: LlmResponse) -> Result<Came, LlmError> {
    let mut body = response.into_body();
    let (mut raw, mut misplaced) = (Vec::new(), Vec::new());
    let (mut whole, mut events) = (Accumulator::default(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        raw.extend(frame.raw().into_iter().flat_map(|(_, raw)| raw.iter().copied()));
        for event in frame.events() {
            whole.push(event);
            if !matches!(event, StreamEvent::KeepAlive | StreamEvent::Other) {
                events.push(event.clone());
            }
        }
    }
    if !matches!(events.first(), Some(StreamEvent::Start { .. })) {
        misplaced.push(format!("the first event is {:?}", events.first()));
    }
    let ends = events.iter().filter(|event| matches!(event, StreamEvent::End)).count();
    if ends != 1 || !matches!(events.last(), Some(StreamEvent::End)) {
        misplaced.push(format!("{ends} ends, the last event is {:?}", events.last()));
    }
    Ok(Came { message: whole.finish(), raw, misplaced })
}

/// The verdicts on one exchange.
#[derive(Default)]
struct Verdict {
    not_decoded: Vec<String>,
    not_equal: Vec<String>,
    not_identical: Vec<String>,
    request: Sent,
    oracle: Option<oracle::Verdict>,
}

/// The parts of the request that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    /// It was not recorded.
    #[default]
    Unrecorded,
    /// It is refused before it is sent, as its provider refused it.
    Refused,
    /// It was encoded again and compared.
    Compared,
}

async fn judge(
    exchange: &Exchange,
    reading: Option<&oracle::Reading>,
    n: usize,
    server: &Server,
    client: &HttpClient,
) -> Verdict {
    let mut verdict = Verdict::default();
    let outcome = match call(leaf(exchange, n, server, client, exchange.unnamed()), exchange.request()).await {
        Ok(response) => read(response).await,
        Err(error) => Err(error),
    };
    verdict.oracle =
        reading.map(|reading| oracle::compare(exchange, reading, outcome.as_ref().map(|came| &came.message)));
    match (expected::of(exchange), outcome) {
        (Expected::Answer(said), Ok(came)) => {
            verdict.not_decoded.extend(said.differences(Said::of(&came.message)));
            verdict.not_decoded.extend(came.misplaced);
            if exchange.is_sse {
                verdict.not_decoded.extend(commit::misplaced(exchange).await);
            }
            if came.raw != expected::up_to_the_end(exchange) {
                verdict.not_identical.push(format!(
                    "the answer's bytes: {} came, {} were given back",
                    exchange.body.len(),
                    came.raw.len()
                ));
            }
        }
        (Expected::Failure { kind, raw }, Err(error)) => {
            if error.kind() != kind {
                verdict.not_decoded.push(format!("expected {kind}, found {:?}: {error}", error.kind()));
            }
            if error.status() != Some(exchange.status) {
                verdict.not_decoded.push(format!("status {:?}", error.status()));
            }
            let waits =
                matches!(kind, ErrorKind::RateLimited | ErrorKind::Overloaded | ErrorKind::Server | ErrorKind::Timeout);
            if waits && !exchange.status.is_success() {
                let (asked, kept) = (expected::wait(exchange), error.retry_after());
                let near = |a: Duration, b: Duration| a.abs_diff(b) < Duration::from_secs(2);
                if asked.is_some() != kept.is_some() || asked.zip(kept).is_some_and(|(asked, kept)| !near(asked, kept))
                {
                    verdict.not_decoded.push(format!("expected a wait of {asked:?}, found {kept:?}"));
                }
            }
            let given = error.raw().map(|raw| String::from_utf8_lossy(raw).trim().to_owned());
            if let Some(raw) = raw
                && given.as_deref() != Some(raw.trim())
            {
                let given = given.unwrap_or_else(|| "nothing".to_owned());
                verdict.not_identical.push(format!("the error's bytes: {given:.80} in place of {:.80}", raw.trim()));
            }
        }
        (expected, Ok(came)) => {
            let expected: String = format!("{expected:?}").chars().take(200).collect();
            verdict.not_decoded.push(format!("expected {expected}, found {:?}", came.message));
        }
        (expected, Err(error)) => {
            let expected: String = format!("{expected:?}").chars().take(200).collect();
            verdict.not_decoded.push(format!("expected {expected}, found {:?}: {error}", error.kind()));
        }
    }
    if exchange.request.body.is_some() && exchange.wire().is_none() {
        verdict.request = Sent::Refused;
        if !exchange.status.is_client_error() {
            verdict.not_equal.push("the request's bytes are refused".to_owned());
        }
    }
    if let Some(sent) = exchange.request.body.as_ref().filter(|_| exchange.wire().is_some()) {
        forwarded(exchange, sent, n, server, client, &mut verdict).await;
        encoded_again(exchange, sent, n, server, client, &mut verdict).await;
    }
    verdict
}

/// The request's bytes and headers as they arrived, and once more with another model.
async fn forwarded(
    exchange: &Exchange,
    sent: &Bytes,
    n: usize,
    server: &Server,
    client: &HttpClient,
    verdict: &mut Verdict,
) {
    let received = server.received(n);
    let spliced = |model: &str| match serde_json::from_slice::<Value>(sent) {
        Ok(json) if json["model"].is_string() && exchange.dialect != Dialect::Gemini => {
            let text = std::str::from_utf8(sent).expect("JSON is text");
            let at = text.rfind(&format!("{}", json["model"])).map(|at| at..at + json["model"].to_string().len());
            at.map(|at| [&text[..at.start], "\"", model, "\"", &text[at.end..]].concat()).unwrap_or_default()
        }
        _ => String::from_utf8_lossy(sent).into_owned(),
    };
    if exchange.names_model() && received.body != *sent {
        verdict.not_identical.push("the request's bytes".to_owned());
    }
    for (name, value) in &exchange.request.headers {
        let forwarded = name.as_str().starts_with("anthropic-") || name.as_str().starts_with("openai-");
        if forwarded && received.headers.get(name) != Some(value) {
            verdict.not_identical.push(format!("the request's {name}"));
        }
    }
    if exchange.names_model() {
        let _ = call(leaf(exchange, n, server, client, Some("another-model")), exchange.request()).await;
        let received = server.received(n);
        let same = match exchange.dialect {
            Dialect::Gemini => received.body == *sent && received.path.contains("/another-model:"),
            // The model's name may stand elsewhere too: what was replaced is put back and compared.
            _ => {
                let text = String::from_utf8_lossy(&received.body).into_owned();
                text == spliced("another-model")
                    || replaced_once(&text, "\"another-model\"", &format!("\"{}\"", exchange.model))
                        .any(|text| text.as_bytes() == &sent[..])
            }
        };
        if !same {
            verdict.not_identical.push("the request's bytes with another model".to_owned());
        }
    }
}

/// The text with one occurrence of `from` replaced, for each of them.
fn replaced_once<'a>(text: &'a str, from: &'a str, to: &'a str) -> impl Iterator<Item = String> + 'a {
    text.match_indices(from).map(move |(at, _)| [&text[..at], to, &text[at + from.len()..]].concat())
}

/// The request decoded to the neutral form and encoded again, by what arrives.
async fn encoded_again(
    exchange: &Exchange,
    sent: &Bytes,
    n: usize,
    server: &Server,
    client: &HttpClient,
    verdict: &mut Verdict,
) {
    let request = exchange.request();
    let chat = match request.chat() {
        Ok(chat) => chat.clone(),
        // A request that the provider refused too is no loss.
        Err(error) if error.kind() == ErrorKind::InvalidRequest && exchange.status.is_client_error() => {
            verdict.request = Sent::Refused;
            return;
        }
        Err(error) => {
            verdict.request = Sent::Refused;
            verdict.not_equal.push(format!("the request is refused: {error}"));
            return;
        }
    };
    let _ = call(leaf(exchange, n, server, client, exchange.unnamed()), chat.into()).await;
    verdict.request = Sent::Compared;
    let mut received: Value = serde_json::from_slice(&server.received(n).body).expect("the crate writes JSON");
    if !exchange.names_model()
        && let Some(fields) = received.as_object_mut()
    {
        // It stands in the path there.
        fields.remove("model");
    }
    let recorded: Value = serde_json::from_slice(sent).expect("it was decoded");
    let (recorded, received) = (meaning::of(exchange.dialect, &recorded), meaning::of(exchange.dialect, &received));
    if recorded != received {
        verdict.not_equal.push(format!("the request encoded again: {}", difference("", &recorded, &received)));
    }
}

/// The first place where two JSON values differ.
fn difference(at: &str, a: &Value, b: &Value) -> String {
    let short = |value: &Value| value.to_string().chars().take(200).collect::<String>();
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let differing = names.into_iter().find(|name| left.get(*name) != right.get(*name));
            let name = differing.map(String::as_str).unwrap_or_default();
            match (left.get(name), right.get(name)) {
                (Some(a), Some(b)) => difference(&format!("{at}.{name}"), a, b),
                (a, b) => format!(
                    "{at}.{name}: {} became {}",
                    a.map_or_else(|| "nothing".to_owned(), short),
                    b.map_or_else(|| "nothing".to_owned(), short)
                ),
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let place = left.iter().zip(right).position(|(a, b)| a != b).unwrap_or(0);
            difference(&format!("{at}[{place}]"), &left[place], &right[place])
        }
        _ => format!("{at}: {} became {}", short(a), short(b)),
    }
}

impl Exchange {
    /// A model for the leaf, where the request names none.
    fn unnamed(&self) -> Option<&str> {
        (!self.names_model()).then_some(self.model.as_str())
    }

    fn names_model(&self) -> bool {
        self.wire().is_none_or(|wire| LlmRequest::from(wire).model().is_some())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_exchange_goes_both_ways_without_loss() {
    let folders = crate::recordings::folders();
    if folders.is_empty() {
        println!("skipped: no recordings beside the repository");
    }
    // Of recordings that nobody here has seen a few may differ.
    let seen = std::env::var_os("STEADFAST_FIXTURES").is_none();
    let mut all = Vec::new();
    for folder in folders {
        let recordings = Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}"));
        let none = recordings.exchanges.is_empty() && recordings.foreign.is_empty();
        assert!(!none, "{}: there are no recordings", folder.display());
        let readings = oracle::file(&folder).map(|file| oracle::read(&file, &recordings));
        let readings = readings.transpose().unwrap_or_else(|error| panic!("{error}"));
        all.push(folder::judged(recordings, readings).await);
    }
    all.iter().for_each(|judged| judged.assert(seen));
}
