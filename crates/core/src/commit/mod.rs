//! The commit point: the moment at which a caller may see a stream.
//!
//! A failure before it is a service error, handled by timeouts, retries, breakers and fallbacks like any other. A
//! failure after it reaches the caller, in the body.

mod empty;
mod whole;

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures_core::Stream;

#[doc(hidden)]
pub use self::empty::EmptyTurn;
#[doc(hidden)]
pub use self::whole::whole;
#[doc(no_inline)]
pub use crate::body::CommitPoint;
use crate::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, Progress,
    body::{FailedAnswer, HeldMemory, StreamEvent},
    chat::FinishReason,
    ledger,
};

/// Bytes of frames held back before a commit point short of `Complete`. Reasoning beyond them commits all the same;
/// empty events beyond them are dropped.
const HELD: usize = 1024 * 1024;
/// Bytes of frames held back for `Complete`.
const HELD_COMPLETE: usize = 64 * 1024 * 1024;
/// Bytes of keep-alives held back with the rest, enough for days. Those beyond are counted, and a comment in their
/// place gives the number.
const HELD_ALIVE: usize = 1024 * 1024;
/// Frames that one poll takes before it yields: a flood must not keep a timeout from being polled.
const FRAMES_A_POLL: usize = 128;

/// Holds a stream's frames back until its commit point, then yields them and the rest as one body.
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct Commit {
    body: Option<LlmBody>,
    /// The request, where it may explain an empty answer.
    request: Option<LlmRequest>,
    point: CommitPoint,
    held: VecDeque<Frame>,
    bytes: usize,
    /// The keep-alives since the last held frame, joined, and their dialect.
    alive: (Option<Dialect>, BytesMut),
    /// Bytes of all keep-alives that are held.
    alive_held: usize,
    /// Bytes of the keep-alives that are not held.
    alive_missing: usize,
    content: bool,
    /// True if the model thought, or the provider counts its tokens.
    has_tokens: bool,
    finish: Option<FinishReason>,
    memory: HeldMemory,
}

impl Commit {
    pub fn new(body: LlmBody, point: CommitPoint, request: Option<LlmRequest>) -> Self {
        let memory = request.as_ref().map(memory_for).unwrap_or_default();
        Self {
            body: Some(body),
            memory,
            request,
            point,
            held: VecDeque::new(),
            bytes: 0,
            alive: (None, BytesMut::new()),
            alive_held: 0,
            alive_missing: 0,
            content: false,
            has_tokens: false,
            finish: None,
        }
    }

    /// Holds a keep-alive's bytes back for a caller of the same dialect: a stream may bring many before its first
    /// token.
    fn keep_alive(&mut self, frame: &Frame) {
        let Some((dialect, raw)) = frame.raw() else { return };
        self.alive.0 = Some(dialect);
        if self.alive_missing == 0 && self.alive_held + raw.len() <= HELD_ALIVE {
            self.alive_held += raw.len();
            self.alive.1.extend_from_slice(raw);
        } else {
            self.alive_missing = self.alive_missing.saturating_add(raw.len());
        }
    }

    /// Holds a frame back, behind the keep-alives before it.
    fn hold(&mut self, frame: Frame) {
        let (dialect, mut alive) = (self.alive.0.take(), std::mem::take(&mut self.alive.1));
        if let Some(dialect) = dialect {
            if self.alive_missing > 0 {
                let told = format!(": {} bytes of keep-alives are left out here\n\n", self.alive_missing);
                alive.extend_from_slice(told.as_bytes());
                self.alive_missing = 0;
            }
            self.held.push_back(Frame::event(StreamEvent::KeepAlive).with_raw(dialect, alive.freeze()));
        }
        self.held.push_back(frame);
    }

    fn committed(&mut self) -> LlmBody {
        let rest = self.body.take().expect("a commit is polled no more once it is ready");
        let held = std::mem::take(&mut self.held);
        let model = held.iter().rev().flat_map(Frame::events).find_map(|event| match event {
            StreamEvent::Start { model, .. } => Some(model.as_deref().map(Into::into)),
            _ => None,
        });
        let mut body = LlmBody::from_frames(ResumedStream { held, rest, memory: std::mem::take(&mut self.memory) });
        if let Some(model) = model.flatten() {
            body.set_model(model);
        }
        body
    }

    /// Returns the error for an answer without content.
    fn empty(&self) -> Option<LlmError> {
        let usage =
            self.held.iter().rev().flat_map(|frame| frame.events().iter().rev()).find_map(|event| match event {
                StreamEvent::Usage(usage) => Some(*usage),
                _ => None,
            });
        let turn = EmptyTurn { finish: self.finish.as_ref(), has_tokens: self.has_tokens, usage };
        let answer = || FailedAnswer::Streamed(self.held.iter().cloned().collect());
        let error = turn.failure(self.request.as_ref(), answer)?;
        let raw: Vec<u8> = self.held.iter().filter_map(Frame::raw).flat_map(|(_, raw)| raw.iter().copied()).collect();
        Some(if raw.is_empty() { error } else { error.with_raw(raw.into()) })
    }
}

impl Future for Commit {
    type Output = Result<LlmBody, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        for _ in 0..FRAMES_A_POLL {
            ready!(this.memory.poll_cover(this.bytes + this.alive_held, false, cx))?;
            let body = this.body.as_mut().expect("a commit is polled no more once it is ready");
            let frame = match body.poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                // A cut stream reports its end itself: this stream was read to its end before.
                Poll::Ready(None) => {
                    let message = "the stream was read before its commit point";
                    return Poll::Ready(Err(LlmError::new(ErrorKind::StreamBroken, message)));
                }
            };
            let progress = frame.progress();
            for event in frame.events() {
                this.content |= event.is_content();
                match event {
                    StreamEvent::Finish(reason) => this.finish = Some(reason.clone()),
                    StreamEvent::Restarted { .. } => {
                        (this.content, this.has_tokens, this.finish) = (false, false, None);
                    }
                    _ => {}
                }
            }
            // A flood of keep-alives or of empty events is waited out and not stored.
            let full = this.bytes > HELD && this.point != CommitPoint::Complete;
            if full && frame.events().iter().all(StreamEvent::is_idle) && progress == Progress::Lifecycle {
                continue;
            }
            // Anthropic's streams begin with a count of their own, which is none of the answer's.
            let counts = this.finish.is_some();
            let counted = |event: &StreamEvent| matches!(event, StreamEvent::Usage(usage) if usage.output > 0);
            this.has_tokens |= progress == Progress::Reasoning || (counts && frame.events().iter().any(counted));
            if progress == Progress::KeepAlive {
                this.keep_alive(&frame);
                continue;
            }
            this.bytes += frame.size();
            this.hold(frame);
            if progress == Progress::End
                && !this.content
                && let Some(error) = this.empty()
            {
                return Poll::Ready(Err(error));
            }
            if this.point.is_reached(progress) {
                return Poll::Ready(Ok(this.committed()));
            }
            match this.point {
                CommitPoint::FirstText if this.bytes > HELD && progress == Progress::Reasoning => {
                    return Poll::Ready(Ok(this.committed()));
                }
                _ if this.bytes > HELD_COMPLETE => {
                    let message = format!("the answer exceeds the {HELD_COMPLETE} bytes that can be held back");
                    return Poll::Ready(Err(LlmError::new(ErrorKind::Malformed, message)));
                }
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The frames that were held back, then the rest.
struct ResumedStream {
    held: VecDeque<Frame>,
    rest: LlmBody,
    /// The memory of the frames that are held.
    memory: HeldMemory,
}

impl Stream for ResumedStream {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.held.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => {
                drop(std::mem::take(&mut self.memory));
                self.rest.poll_frame(cx)
            }
        }
    }
}

/// Returns the memory for an answer to a request: none where the program around the stack bounds it not.
#[doc(hidden)]
pub fn memory_for(request: &LlmRequest) -> HeldMemory {
    HeldMemory::new(request.extensions().get(), request.context().deadline)
}

/// Returns the error for a complete answer without content; see [`EmptyTurn`].
#[doc(hidden)]
pub fn empty_whole(response: &LlmResponse, request: &LlmRequest) -> Option<LlmError> {
    // An opaque call's answer is bytes, and has no message.
    if !response.body().is_empty_message() || request.opaque().is_some() {
        return None;
    }
    let message = response.body().message()?;
    let wire = || response.body().wire().map(|(dialect, raw)| (dialect, raw.clone()));
    let answer = || FailedAnswer::Whole(message.clone().into_owned(), wire());
    Some(broken(EmptyTurn::of(&message)?.failure(Some(request), answer)?, response))
}

/// An answer whose stream is held back until its commit point.
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct HeldAnswer {
    response: LlmResponse,
    commit: Commit,
}

impl HeldAnswer {
    pub fn new(mut response: LlmResponse, point: CommitPoint, request: LlmRequest) -> Box<Self> {
        let body = std::mem::replace(response.body_mut(), LlmBody::from_text(""));
        Box::new(Self { response, commit: Commit::new(body, point, Some(request)) })
    }

    /// Polls until the body reaches its commit point, or breaks before it.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<LlmBody, LlmError>> {
        Pin::new(&mut self.commit).poll(cx)
    }

    /// Returns the answer with that body.
    pub fn response_with(self, body: Result<LlmBody, LlmError>) -> Result<LlmResponse, LlmError> {
        match body {
            Ok(body) => Ok(self.response.map_body(|_| body)),
            Err(error) => Err(broken(error, &self.response)),
        }
    }
}

/// Completes the error of an answer that broke while it was held: adds its provider and the steps that failed before.
#[doc(hidden)]
pub fn broken(error: LlmError, response: &LlmResponse) -> LlmError {
    let mut error = with_origin(error, response);
    ledger::note_after(&mut error, response.attempts());
    error
}

/// Adds the response's provider and model to an error that came in its body.
#[doc(hidden)]
pub fn with_origin(mut error: LlmError, response: &LlmResponse) -> LlmError {
    if let (Some(provider), model) = response.names() {
        error = error.or_model(&provider, model.as_ref());
    }
    match response.request_id() {
        Some(id) if error.request_id().is_none() => error.with_request_id(id),
        _ => error,
    }
}

#[cfg(test)]
mod tests;
