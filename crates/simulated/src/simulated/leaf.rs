//! The provider in process: a leaf on tokio's clock.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use http::StatusCode;
use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

use super::{
    Fault, Simulated,
    answer::tokens_of,
    handle::{Shared, SimulatedCall},
    opaque,
};
use crate::{
    CommitPoint, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{Chat, FinishReason, Message, Part, Role, ToolCall, Usage},
    commit::Commit,
};

/// The provider's name in answers and errors; the model is the [`Simulated`]'s name.
const PROVIDER: &str = "simulated";

impl Service<LlmRequest> for Simulated {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture {
        ResponseFuture { shared: self.shared.clone(), state: State::Unsent(request) }
    }
}

/// The future of [`Simulated`]. The call begins, and is counted, when it is first polled.
#[pin_project]
pub struct ResponseFuture {
    shared: Arc<Shared>,
    #[pin]
    state: State,
}

#[pin_project(project = StateProjection)]
enum State {
    Unsent(LlmRequest),
    Waiting(#[pin] Sleep, Option<Box<ActiveCall>>),
    /// Waits for ever, until its caller leaves.
    Hanging(#[allow(dead_code, reason = "its drop counts")] Box<ActiveCall>),
    Committing(Commit),
    /// A call that is no conversation.
    Opaque(#[pin] OpaqueFuture),
}

type OpaqueFuture = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

impl Future for ResponseFuture {
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let talk = match this.state.as_mut().project() {
                StateProjection::Unsent(request) if request.opaque().is_some() => {
                    let answering = Box::pin(opaque::answer(this.shared.clone(), request.clone()));
                    this.state.set(State::Opaque(answering));
                    continue;
                }
                StateProjection::Opaque(answering) => return answering.poll(cx),
                StateProjection::Unsent(request) => {
                    let talk = match ActiveCall::begin(this.shared, request) {
                        Ok(talk) => Box::new(talk),
                        Err(error) => return Poll::Ready(Err(of(this.shared, error))),
                    };
                    let wait = talk.wait();
                    if wait > Duration::ZERO {
                        this.state.set(State::Waiting(sleep(wait), Some(talk)));
                        continue;
                    }
                    talk
                }
                StateProjection::Waiting(sleep, talk) => {
                    ready!(sleep.poll(cx));
                    talk.take().expect("polled no more once it is ready")
                }
                StateProjection::Hanging(_) => return Poll::Pending,
                StateProjection::Committing(commit) => {
                    let body = ready!(Pin::new(commit).poll(cx)).map_err(|error| of(this.shared, error))?;
                    return Poll::Ready(Ok(response(this.shared, body)));
                }
            };
            match talk.say(this.shared) {
                Outcome::Whole(answer) => return Poll::Ready(answer),
                Outcome::Nothing(talk) => this.state.set(State::Hanging(talk)),
                Outcome::Stream(talk) => {
                    let point = talk.commit;
                    let frames = Frames { shared: this.shared.clone(), talk, next: Next::Start, timer: None };
                    this.state.set(State::Committing(Commit::new(LlmBody::from_frames(frames), point, None)));
                }
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("provider", &self.shared.name).finish_non_exhaustive()
    }
}

/// One call and its content.
struct ActiveCall {
    call: SimulatedCall,
    stream: bool,
    commit: CommitPoint,
    prompt_tokens: u64,
    tool: Option<ToolCall>,
    length: u32,
}

/// The course of a call after its first wait.
enum Outcome {
    Whole(Result<LlmResponse, LlmError>),
    Stream(Box<ActiveCall>),
    Nothing(Box<ActiveCall>),
}

impl ActiveCall {
    fn begin(shared: &Arc<Shared>, request: &LlmRequest) -> Result<Self, LlmError> {
        let chat = request.chat()?;
        let prompt_tokens = prompt_tokens(chat);
        let own = request.extensions().get::<Fault>();
        let mut call = shared.begin(Instant::now(), prompt_tokens, chat.max_tokens, own);
        let prefilled = chat.messages.last().is_some_and(|last| last.role == Role::Assistant);
        if call.plan.fault == Some(Fault::NoPrefill) && !prefilled {
            call.plan.fault = None;
        }
        let tool = call
            .follow_demands(chat)
            .map(|tool| ToolCall::new(format!("call_{:024x}", call.number), tool.name, tool.arguments.to_string()));
        let length = match (&call.plan.fault, &tool) {
            (Some(Fault::Empty), _) => 0,
            (_, Some(_)) => 1,
            (_, None) => call.plan.tokens,
        };
        let commit = request.context().commit.unwrap_or_else(|| shared.lock().commit);
        Ok(Self { call, stream: request.is_stream(), commit, prompt_tokens, tool, length })
    }

    /// Returns the time to the first sign: an error, the first token, or the whole answer.
    fn wait(&self) -> Duration {
        let plan = &self.call.plan;
        let whole = !self.stream && self.speaks();
        let words = if whole { plan.pace.saturating_mul(self.length) } else { Duration::ZERO };
        plan.delay.saturating_add(words)
    }

    /// Returns true if any of the answer is generated, even if it does not arrive.
    fn speaks(&self) -> bool {
        error_of(self.call.plan.fault.as_ref()).is_none()
    }

    fn say(mut self: Box<Self>, shared: &Shared) -> Outcome {
        let fault = self.call.plan.fault.clone();
        if let Some(error) = error_of(fault.as_ref()) {
            self.call.finish();
            return Outcome::Whole(Err(of(shared, error)));
        }
        if fault == Some(Fault::Hang) {
            return Outcome::Nothing(self);
        }
        if self.stream {
            return Outcome::Stream(self);
        }
        if matches!(fault, Some(Fault::StallAfter(_) | Fault::KeepAlivesOnly { .. })) {
            return Outcome::Nothing(self);
        }
        self.call.finish();
        Outcome::Whole(match broken(fault.as_ref()) {
            Some(error) => Err(of(shared, error)),
            None => Ok(response(shared, LlmBody::from_message(self.message(shared)))),
        })
    }

    fn message(&self, shared: &Shared) -> Message {
        let mut message = match &self.tool {
            Some(tool) => Message::new(Role::Assistant, vec![Part::ToolCall(tool.clone())]),
            None => Message::assistant((0..self.length).map(|n| self.call.voice.token(n)).collect::<String>()),
        };
        message.finish = Some(self.finish_reason());
        message.usage = Some(self.usage());
        message.id = Some(self.id());
        message.model = Some(shared.name.to_string());
        message
    }

    fn id(&self) -> String {
        format!("sim_{:024x}", self.call.number)
    }

    fn usage(&self) -> Usage {
        Usage::new(self.prompt_tokens, u64::from(self.length))
    }

    fn finish_reason(&self) -> FinishReason {
        match (&self.tool, self.call.cut_short) {
            (Some(_), _) => FinishReason::ToolUse,
            (None, true) => FinishReason::Length,
            (None, false) => FinishReason::Stop,
        }
    }
}

/// A streamed answer, up to the end in its plan.
struct Frames {
    shared: Arc<Shared>,
    talk: Box<ActiveCall>,
    next: Next,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy)]
enum Next {
    Start,
    Token(u32),
    Nothing,
}

impl Frames {
    fn pause(&mut self, wait: Duration) {
        if wait > Duration::ZERO {
            self.timer = Some(Box::pin(sleep(wait)));
        }
    }

    fn token(&self, index: u32) -> Frame {
        match &self.talk.tool {
            Some(tool) => Frame::events_of(vec![
                StreamEvent::ToolCall { index: 0, id: tool.id.clone(), name: tool.name.clone(), opaque: None },
                StreamEvent::Arguments { index: 0, json: tool.arguments.clone() },
            ]),
            None => Frame::text(self.talk.call.voice.token(index)),
        }
    }

    /// Polls the end, once all tokens of the plan are out.
    fn end(&mut self) -> Poll<Option<Result<Frame, LlmError>>> {
        let broken = |kind, message| Err(of(&self.shared, LlmError::new(kind, message).with_status(StatusCode::OK)));
        let last = match self.talk.call.plan.fault {
            Some(Fault::StallAfter(_)) => return Poll::Pending,
            Some(Fault::KeepAlivesOnly { every }) => {
                self.pause(every.max(Duration::from_millis(1)));
                return Poll::Ready(Some(Ok(Frame::event(StreamEvent::KeepAlive))));
            }
            Some(Fault::CutAfter(_)) => Some(broken(ErrorKind::StreamBroken, "the connection broke")),
            Some(Fault::ErrorEventAfter(0)) => Some(broken(ErrorKind::Overloaded, "an error inside the stream")),
            Some(Fault::MalformedAfter(0)) => Some(broken(ErrorKind::Malformed, "an event that is no JSON")),
            // After content the stream itself broke, as in a real leaf.
            Some(Fault::ErrorEventAfter(_)) => Some(broken(ErrorKind::StreamBroken, "an error inside the stream")),
            Some(Fault::MalformedAfter(_)) => Some(broken(ErrorKind::StreamBroken, "an event that is no JSON")),
            Some(Fault::TruncatedAfter(_)) => None,
            Some(Fault::NoEndMark) => Some(Ok(Frame::events_of(vec![
                StreamEvent::Usage(self.talk.usage()),
                StreamEvent::Finish(self.talk.finish_reason()),
            ]))),
            _ => Some(Ok(Frame::events_of(vec![
                StreamEvent::Usage(self.talk.usage()),
                StreamEvent::Finish(self.talk.finish_reason()),
                StreamEvent::End,
            ]))),
        };
        self.next = Next::Nothing;
        self.talk.call.finish();
        Poll::Ready(last)
    }
}

impl Stream for Frames {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(timer) = &mut this.timer {
            ready!(timer.as_mut().poll(cx));
            this.timer = None;
        }
        let index = match this.next {
            Next::Nothing => return Poll::Ready(None),
            Next::Start => {
                this.next = Next::Token(0);
                let (id, model) = (Some(this.talk.id()), Some(this.shared.name.to_string()));
                return Poll::Ready(Some(Ok(Frame::event(StreamEvent::Start { id, model }))));
            }
            Next::Token(index) => index,
        };
        let allowed = match this.talk.call.plan.fault {
            Some(
                Fault::CutAfter(tokens)
                | Fault::TruncatedAfter(tokens)
                | Fault::StallAfter(tokens)
                | Fault::MalformedAfter(tokens)
                | Fault::ErrorEventAfter(tokens),
            ) => tokens,
            Some(Fault::KeepAlivesOnly { .. }) => 0,
            _ => u32::MAX,
        };
        if index >= this.talk.length.min(allowed) {
            return this.end();
        }
        this.next = Next::Token(index + 1);
        this.pause(this.talk.call.plan.pace);
        Poll::Ready(Some(Ok(this.token(index))))
    }
}

/// Returns the error of a whole answer that begins and comes to no good end.
pub(super) fn broken(fault: Option<&Fault>) -> Option<LlmError> {
    let (kind, message) = match fault? {
        Fault::Empty => (ErrorKind::EmptyAnswer, "the answer has no content"),
        Fault::CutAfter(_) => (ErrorKind::StreamBroken, "the connection broke in the answer"),
        Fault::TruncatedAfter(_) => (ErrorKind::Malformed, "the answer ends in the middle"),
        Fault::MalformedAfter(_) => (ErrorKind::Malformed, "the answer is no JSON"),
        Fault::ErrorEventAfter(_) => (ErrorKind::Server, "an error inside a 200"),
        _ => return None,
    };
    Some(LlmError::new(kind, message).with_status(StatusCode::OK))
}

/// Returns the error in place of an answer, for a fault that is one.
pub(super) fn error_of(fault: Option<&Fault>) -> Option<LlmError> {
    let (kind, status, message) = match fault? {
        Fault::ServerError => (ErrorKind::Server, 500, "internal server error"),
        Fault::BadGateway => (ErrorKind::Server, 502, "bad gateway"),
        Fault::Unavailable => (ErrorKind::Overloaded, 503, "service unavailable"),
        Fault::Overloaded => (ErrorKind::Overloaded, 529, "overloaded"),
        Fault::RateLimited { retry_after } => {
            let error = error(ErrorKind::RateLimited, 429, "rate limit reached");
            return Some(match retry_after {
                Some(wait) => error.with_retry_after(*wait),
                None => error,
            });
        }
        Fault::ComeBackLater => (ErrorKind::Overloaded, 429, "come back later"),
        Fault::InsufficientQuota => {
            return Some(
                error(ErrorKind::QuotaExhausted, 429, "you exceeded your current quota")
                    .with_code("insufficient_quota"),
            );
        }
        Fault::Unauthorized => {
            return Some(error(ErrorKind::Auth, 401, "invalid key").with_code("authentication_error"));
        }
        Fault::BadRequest => (ErrorKind::InvalidRequest, 400, "the input does not match the expected shape"),
        Fault::ContextLength => (ErrorKind::ContextLength, 400, "the prompt is too long"),
        Fault::ContentFilter => (ErrorKind::ContentPolicy, 400, "against the policy"),
        Fault::NoPrefill => (ErrorKind::InvalidRequest, 400, "the conversation must end with a turn of the user's"),
        Fault::Status(status) => (kind_of(*status), *status, "a page in place of an answer"),
        Fault::HtmlPage => (ErrorKind::Malformed, 200, "a page in place of an answer"),
        Fault::Refused => return Some(LlmError::new(ErrorKind::Connect, "connection refused")),
        _ => return None,
    };
    Some(error(kind, status, message))
}

fn error(kind: ErrorKind, status: u16, message: &'static str) -> LlmError {
    let error = LlmError::new(kind, message);
    match StatusCode::from_u16(status) {
        Ok(status) => error.with_status(status),
        Err(_) => error,
    }
}

/// Returns the meaning of a status with a page that no API wrote.
fn kind_of(status: u16) -> ErrorKind {
    match StatusCode::from_u16(status) {
        Ok(status) if status.is_success() || status.is_redirection() => ErrorKind::Malformed,
        Ok(status) => ErrorKind::of_page(status, false, true),
        Err(_) => ErrorKind::Server,
    }
}

pub(super) fn of(shared: &Shared, error: LlmError) -> LlmError {
    error.with_model(PROVIDER, shared.name.clone())
}

pub(super) fn response(shared: &Shared, body: LlmBody) -> LlmResponse {
    LlmResponse::new(body).with_model(PROVIDER, shared.name.clone())
}

fn prompt_tokens(chat: &Chat) -> u64 {
    let said = chat.messages.iter().flat_map(|message| &message.content).filter_map(Part::as_text);
    let bytes: usize = said.map(str::len).sum();
    tokens_of(bytes + chat.system.as_ref().map_or(0, String::len))
}
