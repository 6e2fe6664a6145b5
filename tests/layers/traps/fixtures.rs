//! The leaf that the tests script, and small words for what they say often.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use steadfast::{ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent};
use tokio::time::sleep;
use tower::Service;

/// The behaviour of a [`Fake`] in a call.
pub(crate) enum Does {
    Answers,
    AnswersAfter(Duration),
    Fails(ErrorKind),
    FailsAfter(Duration, LlmError),
    /// After so long, is rate limited for so long from then on.
    LimitsAfter(Duration, Duration),
    Hangs,
    Streams(Vec<Says>),
    Panics,
}

/// A frame of a stream, or what breaks it, after so long.
pub(crate) type Says = (Duration, Result<Frame, LlmError>);

/// A leaf that does what a function says of the number of the call. Clones share the counts.
#[derive(Clone)]
pub(crate) struct Fake {
    does: Arc<dyn Fn(usize) -> Does + Send + Sync>,
    calls: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

impl Fake {
    pub(crate) fn new(does: impl Fn(usize) -> Does + Send + Sync + 'static) -> Self {
        Self { does: Arc::new(does), calls: Arc::default(), alive: Arc::default() }
    }

    pub(crate) fn answers() -> Self {
        Self::new(|_| Does::Answers)
    }

    pub(crate) fn answers_after(after: Duration) -> Self {
        Self::new(move |_| Does::AnswersAfter(after))
    }

    pub(crate) fn fails(kind: ErrorKind) -> Self {
        Self::new(move |_| Does::Fails(kind))
    }

    pub(crate) fn fails_with(error: LlmError) -> Self {
        Self::new(move |_| Does::FailsAfter(Duration::ZERO, error.clone()))
    }

    pub(crate) fn hangs() -> Self {
        Self::new(|_| Does::Hangs)
    }

    /// Returns the number of calls that it has seen.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Returns the number of its futures and streams that exist.
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(SeqCst)
    }
}

struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Service<LlmRequest> for Fake {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        let number = self.calls.fetch_add(1, SeqCst);
        let (does, alive) = ((self.does)(number), Alive::new(&self.alive));
        Box::pin(async move {
            let counter = alive.0.clone();
            let _alive = alive;
            match does {
                Does::Answers => Ok(LlmResponse::from_text("hello")),
                Does::AnswersAfter(after) => {
                    sleep(after).await;
                    Ok(LlmResponse::from_text("hello"))
                }
                Does::Fails(kind) => Err(LlmError::new(kind, "scripted")),
                Does::FailsAfter(after, error) => {
                    sleep(after).await;
                    Err(error)
                }
                Does::LimitsAfter(after, wait) => {
                    sleep(after).await;
                    Err(error(ErrorKind::RateLimited).with_retry_after(wait))
                }
                Does::Hangs => std::future::pending().await,
                Does::Streams(says) => {
                    let alive = Alive::new(&counter);
                    let frames = stream::iter(says).then(move |(after, said)| {
                        let _alive = &alive;
                        async move {
                            if !after.is_zero() {
                                sleep(after).await;
                            }
                            said
                        }
                    });
                    Ok(LlmResponse::new(LlmBody::from_frames(frames)))
                }
                Does::Panics => panic!("a leaf of the user's own"),
            }
        })
    }
}

/// A leaf that is never ready, and counts how often it is asked.
#[derive(Clone)]
pub(crate) struct NeverReady(pub(crate) Arc<AtomicUsize>);

impl Service<LlmRequest> for NeverReady {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = std::future::Ready<Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.0.fetch_add(1, SeqCst);
        Poll::Pending
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        unreachable!("it is never ready")
    }
}

/// A leaf as awkward as the contract allows: it borrows, it is neither `Send` nor `Sync`, and its future is not
/// `Unpin`.
#[derive(Clone)]
pub(crate) struct Borrowing<'a> {
    pub(crate) calls: &'a Cell<usize>,
}

pub(crate) struct Pinned<'a> {
    calls: &'a Cell<usize>,
    polled: Cell<bool>,
    _pinned: std::marker::PhantomPinned,
}

impl<'a> Service<LlmRequest> for Borrowing<'a> {
    type Response = LlmResponse;
    type Error = tower::BoxError;
    type Future = Pinned<'a>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        Pinned { calls: self.calls, polled: Cell::new(false), _pinned: std::marker::PhantomPinned }
    }
}

impl Future for Pinned<'_> {
    type Output = Result<LlmResponse, tower::BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.polled.replace(true), "polled after it was ready");
        self.calls.set(self.calls.get() + 1);
        Poll::Ready(Ok(LlmResponse::from_text("hello")))
    }
}

pub(crate) fn ask() -> LlmRequest {
    LlmRequest::prompt("Explain closures.").with_feature("chat")
}

pub(crate) fn error(kind: ErrorKind) -> LlmError {
    LlmError::new(kind, "scripted")
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn text(after: Duration, text: &str) -> Says {
    (after, Ok(Frame::text(text)))
}

pub(crate) fn event(after: Duration, event: StreamEvent) -> Says {
    (after, Ok(Frame::event(event)))
}

pub(crate) fn end(after: Duration) -> Says {
    event(after, StreamEvent::End)
}

pub(crate) fn breaks(after: Duration, kind: ErrorKind) -> Says {
    (after, Err(error(kind)))
}

/// The Kolmogorov-Smirnov distance of some values from the uniform distribution over `[from, to]`.
pub(crate) fn distance_from_uniform(mut values: Vec<Duration>, from: Duration, to: Duration) -> f64 {
    values.sort();
    let (count, width) = (values.len() as f64, (to - from).as_secs_f64());
    let share = |value: Duration| (value.saturating_sub(from).as_secs_f64() / width).clamp(0.0, 1.0);
    let steps = values.iter().enumerate().map(|(place, value)| {
        let (below, above) = (place as f64 / count, (place + 1) as f64 / count);
        (share(*value) - below).abs().max((above - share(*value)).abs())
    });
    steps.fold(0.0, f64::max)
}
