//! The wire: what three providers say in pieces, and what happens to it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use steadfast::Dialect;
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service};

use super::Fault;

/// The phase in which it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    BeforeHeaders,
    AfterHeaders,
    AfterFirstDelta,
    InToolCall,
    BeforeEndMark,
}

impl Phase {
    pub(super) const ALL: [Self; 5] =
        [Self::BeforeHeaders, Self::AfterHeaders, Self::AfterFirstDelta, Self::InToolCall, Self::BeforeEndMark];
}

/// The next action of the wire.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Says(Bytes),
    Waits(Duration),
    Breaks,
    /// Says this again and again, each after so long.
    Repeats(Bytes, Duration),
    Silent,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Before the head: `None` where it never comes, with an error where the connection breaks.
    head: Option<Result<(), ()>>,
    content_type: &'static str,
    steps: Vec<Step>,
}

/// The pieces of a healthy stream, cut where the moments are: the start, the first delta, the first half of the tool
/// call, its rest, the reason to finish, the end mark.
fn streamed(dialect: Dialect) -> [String; 6] {
    let data = |json: &str| format!("data: {json}\n\n");
    let event = |name: &str, json: &str| format!("event: {name}\ndata: {json}\n\n");
    match dialect {
        Dialect::Anthropic => [
            event(
                "message_start",
                r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"c","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#,
            ) + &event(
                "content_block_start",
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            ),
            event(
                "content_block_delta",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello there"}}"#,
            ),
            event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#)
                + &event(
                    "content_block_start",
                    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"weather","input":{}}}"#,
                )
                + &event(
                    "content_block_delta",
                    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"city\":"}}"#,
                ),
            event(
                "content_block_delta",
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"Graz\"}"}}"#,
            ) + &event("content_block_stop", r#"{"type":"content_block_stop","index":1}"#),
            event(
                "message_delta",
                r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
            ),
            event("message_stop", r#"{"type":"message_stop"}"#),
        ],
        Dialect::Gemini => {
            let call = r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"weather","args":{"city":"Graz"}}}]},"index":0}],"modelVersion":"g"}"#;
            let (first, rest) = call.split_at(call.find("Graz").expect("it is there"));
            [
                data(r#"{"usageMetadata":{"promptTokenCount":3},"modelVersion":"g","responseId":"r"}"#),
                data(
                    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello there"}]},"index":0}],"modelVersion":"g"}"#,
                ),
                format!("data: {first}"),
                format!("{rest}\n\n"),
                data(
                    r#"{"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":9}}"#,
                ),
                String::new(),
            ]
        }
        _ => [
            data(
                r#"{"id":"c","object":"chat.completion.chunk","model":"g","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            ),
            data(
                r#"{"id":"c","object":"chat.completion.chunk","model":"g","choices":[{"index":0,"delta":{"content":"Hello there"},"finish_reason":null}]}"#,
            ),
            data(
                r#"{"id":"c","object":"chat.completion.chunk","model":"g","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"weather","arguments":"{\"city\":"}}]},"finish_reason":null}]}"#,
            ),
            data(
                r#"{"id":"c","object":"chat.completion.chunk","model":"g","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Graz\"}"}}]},"finish_reason":null}]}"#,
            ),
            data(
                r#"{"id":"c","object":"chat.completion.chunk","model":"g","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
            ),
            data("[DONE]"),
        ],
    }
}

/// The pieces of a healthy answer in one JSON, cut where the moments are.
fn unary(dialect: Dialect) -> [String; 6] {
    let json = match dialect {
        Dialect::Anthropic => {
            r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"Hello there"},{"type":"tool_use","id":"t1","name":"weather","input":{"city":"Graz"}}],"stop_reason":"tool_use","usage":{"input_tokens":3,"output_tokens":9}}"#
        }
        Dialect::Gemini => {
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello there"},{"functionCall":{"name":"weather","args":{"city":"Graz"}}}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3},"modelVersion":"g"}"#
        }
        _ => {
            r#"{"id":"c","object":"chat.completion","model":"g","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there","tool_calls":[{"id":"t1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Graz\"}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#
        }
    };
    let (hello, graz) = (json.find(" there").expect("text"), json.find("Graz").expect("a call"));
    let cuts = [0, hello, graz, json.len() - 20, json.len() - 1, json.len()];
    let mut from = 0;
    cuts.map(|to| {
        let piece = json[from..to].to_owned();
        from = to;
        piece
    })
}

/// So many of the pieces come before it goes wrong.
fn pieces_before(phase: Phase) -> usize {
    match phase {
        Phase::BeforeHeaders => 0,
        Phase::AfterHeaders => 1,
        Phase::AfterFirstDelta => 2,
        Phase::InToolCall => 3,
        Phase::BeforeEndMark => 5,
    }
}

/// An event of a dialect's own, with this JSON.
fn event(dialect: Dialect, kind: &str, json: &str) -> String {
    match dialect {
        Dialect::Anthropic => format!("event: {kind}\ndata: {json}\n\n"),
        _ => format!("data: {json}\n\n"),
    }
}

fn alive(dialect: Dialect, stream: bool) -> &'static str {
    match dialect {
        _ if !stream => "\n",
        Dialect::Anthropic => "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        _ => ": alive\n\n",
    }
}

impl Answer {
    pub(super) fn healthy(dialect: Dialect, stream: bool) -> Self {
        let pieces = if stream { streamed(dialect) } else { unary(dialect) };
        let steps = pieces.into_iter().map(|piece| Step::Says(piece.into())).collect();
        let content_type = if stream { "text/event-stream" } else { "application/json" };
        Self { head: Some(Ok(())), content_type, steps }
    }

    /// The same bytes in pieces cut anywhere: of a byte or two, of some, of many.
    pub(super) fn cut_up(mut self, random: &mut fastrand::Rng) -> Self {
        let longest = [2, 30, 2000][random.usize(..3)];
        let mut rest: Vec<u8> = said(&self.steps);
        self.steps.clear();
        while !rest.is_empty() {
            let after = rest.split_off(random.usize(1..=rest.len().min(longest)));
            self.steps.push(Step::Says(std::mem::replace(&mut rest, after).into()));
        }
        self
    }

    /// The first of its bytes, then the end or a break; and how many they are.
    pub(super) fn cut_off(mut self, random: &mut fastrand::Rng) -> (Self, usize) {
        let bytes = said(&self.steps);
        // The ends are where the traps are.
        let from = if random.u8(0..4) == 0 { bytes.len() - 20 } else { 0 };
        let length = random.usize(from..bytes.len());
        let mut left = length;
        self.steps.retain_mut(|step| {
            let Step::Says(piece) = step else { return false };
            piece.truncate(left);
            left -= piece.len();
            !piece.is_empty()
        });
        if random.bool() {
            self.steps.push(Step::Breaks);
        }
        (self, length)
    }

    /// Of how many pieces it is.
    pub(super) fn pieces(&self) -> usize {
        self.steps.len()
    }

    /// A healthy answer in which this goes wrong; `None` where it cannot.
    pub(super) fn with(dialect: Dialect, stream: bool, phase: Phase, fault: Fault) -> Option<Self> {
        let mut answer = Self::healthy(dialect, stream);
        if phase == Phase::BeforeHeaders {
            answer.head = match fault {
                Fault::Silence => None,
                Fault::Break => Some(Err(())),
                _ => return None,
            };
            return Some(answer);
        }
        // In the middle of Gemini's tool call is the middle of a line: an event there is bytes of the call.
        let in_a_line = !stream || dialect == Dialect::Gemini && phase == Phase::InToolCall;
        let rest = answer.steps.split_off(pieces_before(phase));
        let inserted = |kind: &str, json: &str| Step::Says(event(dialect, kind, json).into());
        let (then, goes_on) = match fault {
            Fault::Silence => (vec![Step::Silent], false),
            Fault::KeepAlives | Fault::PingFlood if stream && in_a_line => return None,
            Fault::KeepAlives => (vec![Step::Repeats(alive(dialect, stream).into(), Duration::from_secs(15))], false),
            Fault::PingFlood => (vec![Step::Repeats(alive(dialect, stream).into(), Duration::from_millis(100))], false),
            Fault::End => (vec![], false),
            Fault::Break => (vec![Step::Breaks], false),
            Fault::OneByte => {
                (said(&rest).into_iter().map(|byte| Step::Says(Bytes::copy_from_slice(&[byte]))).collect(), false)
            }
            Fault::Slow => {
                let slices = said(&rest).chunks(64).map(Bytes::copy_from_slice).collect::<Vec<_>>();
                let wait = Duration::from_millis(63);
                (slices.into_iter().flat_map(|slice| [Step::Waits(wait), Step::Says(slice)]).collect(), false)
            }
            Fault::Garbage => {
                let mut random = fastrand::Rng::with_seed(11);
                let garbage: Vec<u8> = (0..300).map(|_| random.u8(128..)).collect();
                (vec![Step::Says([b"data: ".as_slice(), &garbage, b"\n\n"].concat().into())], false)
            }
            Fault::Page => {
                let page = "<html><head><title>502 Bad Gateway</title></head></html>\n\n";
                (
                    vec![Step::Says(Bytes::from(if in_a_line { page.to_owned() } else { format!("data: {page}") }))],
                    false,
                )
            }
            Fault::Endless => {
                let more = event(dialect, "content_block_delta", &endless(dialect));
                (vec![Step::Repeats(if stream { more.into() } else { "x".repeat(8192).into() }, Duration::ZERO)], false)
            }
            _ if in_a_line => return None,
            Fault::CutJson => {
                (vec![inserted("content_block_delta", r#"{"type":"content_block_delta","choices":[{"ind"#)], true)
            }
            Fault::WrongTypes => {
                let json =
                    r#"{"type":"content_block_delta","index":"zero","delta":7,"choices":"none","candidates":{"a":1}}"#;
                (vec![inserted("content_block_delta", json)], true)
            }
            Fault::Deep => {
                let json = ["[".repeat(10_000), "]".repeat(10_000)].concat();
                (vec![inserted("content_block_delta", &json)], true)
            }
            Fault::NoUtf8 => {
                let mut bytes = event(dialect, "content_block_delta", &text(dialect, "~~")).into_bytes();
                bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xFF);
                (vec![Step::Says(bytes.into())], true)
            }
            Fault::ErrorEvent => {
                let json = match dialect {
                    Dialect::Anthropic => {
                        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#
                    }
                    Dialect::Gemini => {
                        r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#
                    }
                    _ => {
                        r#"{"error":{"message":"Overloaded","type":"service_unavailable_error","code":"server_is_overloaded"}}"#
                    }
                };
                (vec![inserted("error", json)], false)
            }
            Fault::LongLine => (vec![Step::Says(format!(": {}\n\n", "x".repeat(64 << 10)).into())], true),
            Fault::Unknown => (vec![Step::Says(event(dialect, "news", r#"{"type":"news","news":[1]}"#).into())], true),
            Fault::Empty => (vec![Step::Says("event: ping\n\n\r\n\r\n:\n\n".into())], true),
            Fault::KeyTwice => (vec![inserted("ping", r#"{"type":"ping","type":"ping"}"#)], true),
        };
        answer.steps.extend(then);
        if goes_on {
            answer.steps.extend(rest);
        }
        Some(answer)
    }
}

/// The bytes of all that these say.
fn said(steps: &[Step]) -> Vec<u8> {
    let said = steps.iter().filter_map(|step| if let Step::Says(said) = step { Some(&said[..]) } else { None });
    said.flatten().copied().collect()
}

/// A delta with this text.
fn text(dialect: Dialect, text: &str) -> String {
    match dialect {
        Dialect::Anthropic => {
            format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#)
        }
        Dialect::Gemini => format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}},"index":0}}]}}"#),
        _ => format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#),
    }
}

fn endless(dialect: Dialect) -> String {
    text(dialect, &"more ".repeat(1600))
}

/// A transport that gives one answer.
#[derive(Clone)]
pub(super) struct Wire {
    answer: Answer,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Wire {
    pub(super) fn new(answer: Answer) -> Self {
        Self { answer, last: Arc::default() }
    }

    /// Returns the time of the last content, or of the end or break.
    pub(super) fn last(&self) -> Arc<Mutex<Option<Instant>>> {
        self.last.clone()
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>;

fn frames(steps: Vec<Step>, last: Arc<Mutex<Option<Instant>>>) -> Frames {
    let steps = steps.into_iter().collect::<std::collections::VecDeque<_>>();
    Box::pin(stream::unfold((steps, last), |(mut steps, last)| async move {
        loop {
            let data = |said: Bytes| Some(Ok(Frame::data(said)));
            match steps.front()?.clone() {
                Step::Repeats(said, every) => {
                    sleep(every).await;
                    return Some((data(said)?, (steps, last)));
                }
                Step::Silent => std::future::pending().await,
                step => {
                    steps.pop_front();
                    *last.lock().unwrap() = Some(Instant::now());
                    match step {
                        Step::Waits(wait) => sleep(wait).await,
                        Step::Says(said) if said.is_empty() => {}
                        Step::Says(said) => return Some((data(said)?, (steps, last))),
                        _ => return Some((Err(io::ErrorKind::ConnectionReset.into()), (steps, last))),
                    }
                }
            }
        }
    }))
}

impl Service<Request<Full<Bytes>>> for Wire {
    type Response = Response<StreamBody<Frames>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        let (answer, last) = (self.answer.clone(), self.last.clone());
        Box::pin(async move {
            match answer.head {
                None => std::future::pending().await,
                Some(Err(())) => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
                Some(Ok(())) => {
                    let mut response = Response::new(StreamBody::new(frames(answer.steps, last)));
                    let content_type = answer.content_type.parse().expect("a header");
                    response.headers_mut().insert("content-type", content_type);
                    Ok(response)
                }
            }
        })
    }
}
