//! A provider that counts its calls and answers each differently.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{FinishReason, Message, Usage},
    provider_fn,
};
use tokio::time::sleep;
use tower::Service;

#[derive(Clone, Default)]
pub(crate) struct Provider {
    calls: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    errors: Arc<Mutex<VecDeque<LlmError>>>,
    down: Arc<Mutex<Option<ErrorKind>>>,
    takes: Duration,
    /// Between the frames of a stream.
    pace: Duration,
    breaks: bool,
    frames: usize,
    finish: Option<FinishReason>,
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self { frames: 3, finish: Some(FinishReason::Stop), ..Self::default() }
    }

    pub(crate) fn takes(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    pub(crate) fn pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// So many frames of text in a stream.
    pub(crate) fn frames(mut self, frames: usize) -> Self {
        self.frames = frames;
        self
    }

    pub(crate) fn finish(mut self, finish: FinishReason) -> Self {
        self.finish = Some(finish);
        self
    }

    /// Its streams break before their end.
    pub(crate) fn breaks(mut self) -> Self {
        self.breaks = true;
        self
    }

    /// The next call fails like this.
    pub(crate) fn fails(&self, kind: ErrorKind) {
        self.errors.lock().unwrap().push_back(LlmError::new(kind, "to order"));
    }

    pub(crate) fn is_down(&self, kind: Option<ErrorKind>) {
        *self.down.lock().unwrap() = kind;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Calls, and streams, that are under way.
    pub(crate) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    pub(crate) fn service(&self) -> BoxLlmService {
        let provider = self.clone();
        let leaf = provider_fn(move |request: LlmRequest| {
            let provider = provider.clone();
            let call = provider.calls.fetch_add(1, SeqCst) + 1;
            let running = Running::begin(&provider.running);
            async move {
                if !provider.takes.is_zero() {
                    sleep(provider.takes).await;
                }
                let failure = provider.errors.lock().unwrap().pop_front();
                let down = provider.down.lock().unwrap().map(|kind| LlmError::new(kind, "down"));
                if let Some(error) = failure.or(down) {
                    return Err(error);
                }
                let response = match request.is_stream() {
                    true => LlmResponse::new(provider.stream(call, running)),
                    false => {
                        let mut message = Message::assistant(format!("answer {call}"));
                        message.usage = Some(Usage::new(10, 10));
                        message.finish = provider.finish.clone();
                        let raw = Bytes::from(format!("{{\"answer\":{call}}}"));
                        LlmResponse::new(LlmBody::from_wire(Dialect::OpenAi, raw, message))
                    }
                };
                Ok(response.with_model("openai", "gpt-4o").with_request_id("req_1"))
            }
        });
        // Its streams begin with the call.
        BoxLlmService::new(leaf.inner_commits())
    }

    fn stream(&self, call: usize, running: Running) -> LlmBody {
        let (pace, breaks) = (self.pace, self.breaks);
        let raw = |event: StreamEvent, raw: String| {
            Frame::event(event).with_raw(Dialect::OpenAi, Bytes::from(format!("data: {raw}\n\n")))
        };
        let mut frames: Vec<_> = (0..self.frames)
            .map(|place| {
                let text = format!("{}{place} of {call}", if place == 0 { "" } else { ", " });
                Ok(raw(StreamEvent::Text { index: 0, text: text.clone() }, text))
            })
            .collect();
        match breaks {
            true => frames.push(Err(LlmError::new(ErrorKind::StreamBroken, "to order"))),
            false => {
                let finish = self.finish.clone().unwrap_or(FinishReason::Stop);
                let end = vec![StreamEvent::Usage(Usage::new(10, 10)), StreamEvent::Finish(finish), StreamEvent::End];
                frames.push(Ok(Frame::events_of(end).with_raw(Dialect::OpenAi, Bytes::from("data: [DONE]\n\n"))));
            }
        }
        LlmBody::from_frames(stream::unfold((frames.into_iter(), running), move |(mut frames, running)| async move {
            let frame = frames.next()?;
            if !pace.is_zero() {
                sleep(pace).await;
            }
            Some((frame, (frames, running)))
        }))
    }
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, SeqCst);
        Self(running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Calls, and reads the text of the answer.
pub(crate) async fn text<S>(llm: &S, request: LlmRequest) -> String
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone,
{
    call(llm, request).await.unwrap().text().await.unwrap()
}

pub(crate) async fn call<S>(llm: &S, request: LlmRequest) -> Result<LlmResponse, LlmError>
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone,
{
    tower::ServiceExt::oneshot(llm.clone(), request).await
}

/// The bytes of a body, as they would go out, and what they mean.
pub(crate) async fn frames(mut response: LlmResponse) -> (Vec<Bytes>, Vec<StreamEvent>) {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.unwrap();
        bytes.extend(frame.raw().map(|(_, raw)| raw.clone()));
        events.extend_from_slice(frame.events());
    }
    (bytes, events)
}
