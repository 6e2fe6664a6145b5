//! Number 11: whatever goes wrong on the wire, at whatever moment, ends in time and as what it is. No hang, and no
//! short answer that looks whole.
//!
//! A fault below HTTP (names, TCP, TLS) comes to a leaf as one of these: no response, silence, a break, an end, or
//! bytes that come slowly. The client's own behaviour there is in `crates/http/src/transport/tests`.

mod bytes;
mod statuses;
mod wire;

use std::{collections::BTreeMap, time::Duration};

use steadfast::{
    Dialect, ErrorKind, LlmError, LlmRequest, TimeoutLayer,
    chat::{Message, Part},
    providers::{Anthropic, Gemini, OpenAi, http::Limits},
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

use self::wire::{Answer, Phase, Wire};

/// The limit of an attempt: to its first token, if it is streamed.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The longest silence of a stream, and the longest time with nothing but signs of life: the defaults.
const IDLE: Duration = Duration::from_secs(60);
const CEILING: Duration = Duration::from_secs(300);
/// The time that the goal allows beyond.
const SLACK: Duration = Duration::from_millis(50);

/// The faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing more: a host that is gone, a handshake that stalls, a close that never comes.
    Silence,
    /// Signs of life, every 15 s, and nothing else.
    KeepAlives,
    /// The same, ten times a second.
    PingFlood,
    /// The end, in good order.
    End,
    /// The connection breaks: a reset, a GOAWAY, a length that is not reached.
    Break,
    /// All of it comes, a byte at a time.
    OneByte,
    /// All of it comes, at a kilobyte a second.
    Slow,
    /// Bytes that are no text, and the end.
    Garbage,
    /// An event that is cut off within its JSON; then the rest.
    CutJson,
    /// JSON of the wrong types; then the rest.
    WrongTypes,
    /// JSON ten thousand deep; then the rest.
    Deep,
    /// An event with bytes that are no UTF-8; then the rest.
    NoUtf8,
    /// A page of HTML where an event should be, and the end.
    Page,
    /// The provider says that it is overloaded.
    ErrorEvent,
    /// An event that says a key twice; then the rest.
    KeyTwice,
    /// Harmless: a comment of 64 KB, an event that nobody knows, an event without data; then the rest.
    LongLine,
    Unknown,
    Empty,
    /// More than is read of an answer.
    Endless,
}

const FAULTS: [Fault; 19] = [
    Fault::Silence,
    Fault::KeepAlives,
    Fault::PingFlood,
    Fault::End,
    Fault::Break,
    Fault::OneByte,
    Fault::Slow,
    Fault::Garbage,
    Fault::CutJson,
    Fault::WrongTypes,
    Fault::Deep,
    Fault::NoUtf8,
    Fault::Page,
    Fault::ErrorEvent,
    Fault::LongLine,
    Fault::Unknown,
    Fault::Empty,
    Fault::KeyTwice,
    Fault::Endless,
];

/// The end that a fault must have.
struct Must {
    /// The kinds that name it; `None` among them stands for the whole answer.
    be: Vec<Option<ErrorKind>>,
    /// After the last that came before it.
    within: Duration,
}

const SILENT: &[Option<ErrorKind>] = &[Some(ErrorKind::Timeout)];
const BROKEN: &[Option<ErrorKind>] = &[Some(ErrorKind::StreamBroken)];
const MALFORMED: &[Option<ErrorKind>] = &[Some(ErrorKind::Malformed)];
const UNREADABLE: &[Option<ErrorKind>] = &[Some(ErrorKind::Malformed), Some(ErrorKind::EmptyAnswer)];
const WHOLE: &[Option<ErrorKind>] = &[None];

fn must(fault: Fault, dialect: Dialect, phase: Phase, stream: bool) -> Option<Must> {
    use Fault::*;
    let begun = stream && phase > Phase::AfterHeaders;
    let at_once = Duration::ZERO;
    // The limit of a stream's silence counts once it has begun.
    let silence = if begun { IDLE } else { ATTEMPT };
    // The reason to finish was there; where no more than `[DONE]` is missing, an end is one.
    let finished = stream && phase == Phase::BeforeEndMark && dialect != Dialect::Anthropic;
    let (be, within) = match fault {
        Silence => (SILENT, silence),
        // A body that is no stream has no signs of life but white space.
        KeepAlives | PingFlood if begun => (SILENT, CEILING),
        KeepAlives | PingFlood => (SILENT, ATTEMPT),
        End if finished => (WHOLE, at_once),
        // A body without a length that ends too soon is a text that is none.
        End if !stream => (UNREADABLE, at_once),
        End if !begun => (&[Some(ErrorKind::StreamBroken), Some(ErrorKind::EmptyAnswer)][..], at_once),
        End => (BROKEN, at_once),
        Break if phase == Phase::BeforeHeaders => (&[Some(ErrorKind::Connect)][..], at_once),
        Break => (BROKEN, at_once),
        OneByte | Slow => (WHOLE, Duration::from_secs(20)),
        Garbage | Page => (MALFORMED, at_once),
        CutJson | WrongTypes | NoUtf8 if stream => (MALFORMED, at_once),
        // Strictly read it is no JSON of theirs; passing over it loses nothing of the answer.
        Deep | KeyTwice if stream => (&[None, Some(ErrorKind::Malformed)][..], at_once),
        ErrorEvent if stream => (&[Some(ErrorKind::Overloaded)][..], at_once),
        LongLine | Unknown | Empty if stream => (WHOLE, Duration::from_secs(1)),
        Endless => (MALFORMED, Duration::from_secs(1)),
        // One JSON has no events.
        _ => return None,
    };
    Some(Must { be: be.to_vec(), within })
}

/// Returns the kind of a failure: of a broken stream, the kind of the break, if that has a name.
fn what(error: &LlmError) -> ErrorKind {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<LlmError>());
    match (error.kind(), source) {
        (ErrorKind::StreamBroken, Some(source)) => source.kind(),
        (kind, _) => kind,
    }
}

/// The answer that all three give when nothing is wrong.
fn is_whole(message: &Message) -> bool {
    let text: String = message
        .content
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let call = message.content.iter().any(|part| match part {
        Part::ToolCall(call) => call.name == "weather" && call.arguments == r#"{"city":"Graz"}"#,
        _ => false,
    });
    text == "Hello there" && call
}

async fn ask(dialect: Dialect, answer: Answer, stream: bool) -> (Result<Message, LlmError>, Duration) {
    let wire = Wire::new(answer);
    let last = wire.last();
    let limits = Limits::default().answer(1 << 20).event(1 << 18);
    let limit = TimeoutLayer::new(ATTEMPT);
    let llm = match dialect {
        Dialect::Anthropic => {
            steadfast::BoxLlmService::new(limit.layer(Anthropic::new("k").model("m").limits(limits).transport(wire)))
        }
        Dialect::Gemini => {
            steadfast::BoxLlmService::new(limit.layer(Gemini::new("k").model("m").limits(limits).transport(wire)))
        }
        _ => steadfast::BoxLlmService::new(limit.layer(OpenAi::new("k").model("m").limits(limits).transport(wire))),
    };
    let begun = Instant::now();
    let read = async {
        let response = llm.oneshot(LlmRequest::prompt("hello").with_stream(stream)).await?;
        response.collect().await
    };
    // Nothing may take longer: a hang of the test is one of the crate.
    let result = tokio::time::timeout(Duration::from_secs(3600), read).await.expect("a hang");
    let since = last.lock().unwrap().unwrap_or(begun).elapsed();
    (result, since)
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_moment_ends_in_time_and_as_what_it_is() {
    let (mut cells, mut hangs, mut slowest) = (0, 0, Duration::ZERO);
    let mut kinds = BTreeMap::<_, usize>::new();
    let mut wrong = Vec::new();
    for dialect in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini] {
        for stream in [true, false] {
            // First of all, it is right when nothing is wrong.
            let healthy = ask(dialect, Answer::healthy(dialect, stream), stream).await.0.unwrap();
            assert!(is_whole(&healthy), "{dialect} {stream}: {healthy:?}");
            for phase in Phase::ALL {
                for fault in FAULTS {
                    let Some(answer) = Answer::with(dialect, stream, phase, fault) else { continue };
                    let Some(must) = must(fault, dialect, phase, stream) else { continue };
                    cells += 1;
                    let (result, since) = ask(dialect, answer, stream).await;
                    let short = result.as_ref().is_ok_and(|message| !is_whole(message));
                    let kind = result.as_ref().err().map(what);
                    *kinds.entry(kind.map_or("answered", ErrorKind::name)).or_default() += 1;
                    // Nobody may take what broke in the middle for a failure before the first token, which can be
                    // repeated.
                    let begun = stream && phase > Phase::AfterHeaders;
                    let named = result.as_ref().err().is_none_or(|error| {
                        let kinds = [ErrorKind::StreamBroken, ErrorKind::Timeout];
                        !begun || kinds.contains(&error.kind()) || fault == Fault::Endless
                    });
                    let limited = must.within >= ATTEMPT;
                    slowest = slowest.max(if limited { since.saturating_sub(must.within) } else { Duration::ZERO });
                    hangs += usize::from(since > CEILING + SLACK);
                    if short || !named || !must.be.contains(&kind) || since > must.within + SLACK {
                        wrong.push(format!(
                            "{dialect}, stream {stream}, {phase:?}, {fault:?}: must be {:?} within {:?}, is {result:?} after \
                             {since:?}",
                            must.be, must.within
                        ));
                    }
                }
            }
        }
    }
    println!(
        "number 11: {cells} faults (kind x moment x dialect x streamed or not): {hangs} hangs, at most {slowest:?} after \
         their limit; {kinds:?}"
    );
    assert!(wrong.is_empty(), "{} of {cells}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cells > 300, "{cells}");
}
