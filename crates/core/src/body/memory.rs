//! The memory of answers that are held whole.

use std::{
    borrow::Cow,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use crate::{ErrorKind, LlmError, error::ReachedLimit};

/// The room for the answers to one request, in a program that bounds its memory.
///
/// A leaf asks it before it holds more of an answer than [`FREE_ANSWER`] bytes, and holds nothing more until there is
/// room. What a request's answers have taken is the room's own to count once the leaf has handed one over: until the
/// program has let it go.
pub trait AnswerRoom: Send + Sync + 'static {
    /// Waits until an answer of `bytes` fits, of which `covered` are counted already, but for no longer than `until`.
    /// `is_whole`: it does not get longer. Returns the bytes that are counted from now on, `bytes` or more.
    fn cover(self: Arc<Self>, covered: usize, bytes: usize, is_whole: bool, until: Option<Instant>) -> CoverFuture;

    /// Counts so many bytes no more. An answer that has asked for room ends with it, though it gives nothing back.
    fn give_back(&self, bytes: usize);
}

/// The future of [`AnswerRoom::cover`].
pub type CoverFuture = Pin<Box<dyn Future<Output = Result<usize, OutOfMemory>> + Send>>;

/// The bytes of an answer that need no room: buffers of connections hold as much.
pub const FREE_ANSWER: usize = 16 << 10;

/// The failure of an answer that finds no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// The limit, and its name.
    pub message: Cow<'static, str>,
    /// The time after which there may be room; `None` for an answer that never fits.
    pub retry_after: Option<Duration>,
}

impl From<OutOfMemory> for LlmError {
    fn from(OutOfMemory { message, retry_after }: OutOfMemory) -> Self {
        let kind = if retry_after.is_some() { ErrorKind::BulkheadFull } else { ErrorKind::TooLarge };
        let mut error = Self::new(kind, message);
        error.reach(ReachedLimit::Memory);
        match retry_after {
            Some(time) => error.with_retry_after(time),
            None => error,
        }
    }
}

/// The bound on the memory of a request's answers: an [extension](crate::LlmRequest::with_extension) of the request.
#[derive(Clone)]
pub struct AnswerMemory(Arc<dyn AnswerRoom>);

impl AnswerMemory {
    /// Creates it from a room.
    pub fn new(room: Arc<dyn AnswerRoom>) -> Self {
        Self(room)
    }
}

impl fmt::Debug for AnswerMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerMemory")
    }
}

/// The memory of one answer, given back on drop.
#[derive(Default)]
#[doc(hidden)]
pub struct HeldMemory {
    room: Option<Arc<dyn AnswerRoom>>,
    until: Option<Instant>,
    covered: usize,
    wait: Option<CoverFuture>,
    /// True once it has asked its room.
    has_asked: bool,
}

impl HeldMemory {
    /// Creates an empty one. Without a room all answers fit.
    pub fn new(memory: Option<&AnswerMemory>, until: Option<Instant>) -> Self {
        // The tier is not at fault where there is no room, so the wait ends before its time.
        let until = until.map(|until| until.checked_sub(BEFORE_DEADLINE).unwrap_or(until));
        Self { room: memory.map(|memory| memory.0.clone()), until, covered: 0, wait: None, has_asked: false }
    }

    /// Polls for room for so many bytes in all.
    pub(crate) fn poll_cover(
        &mut self,
        bytes: usize,
        is_whole: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), LlmError>> {
        let Some(room) = self.room.as_ref().filter(|_| bytes > self.covered.max(FREE_ANSWER)) else {
            return Poll::Ready(Ok(()));
        };
        let (covered, until) = (self.covered, self.until);
        let wait = self.wait.get_or_insert_with(|| room.clone().cover(covered, bytes, is_whole, until));
        self.has_asked = true;
        let ended = ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(ended.map(|covered| self.covered = covered).map_err(LlmError::from))
    }

    /// Waits for room for so many bytes in all.
    pub async fn cover(&mut self, bytes: usize, is_whole: bool) -> Result<(), LlmError> {
        std::future::poll_fn(|cx| self.poll_cover(bytes, is_whole, cx)).await
    }

    /// Leaves so many bytes to the room, which counts them for as long as the request's answer is there.
    pub fn leave(mut self, bytes: usize) {
        self.covered = self.covered.saturating_sub(bytes);
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        if let Some(room) = &self.room
            && self.has_asked
        {
            room.give_back(self.covered);
        }
    }
}

impl fmt::Debug for HeldMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldMemory").field("covered", &self.covered).finish_non_exhaustive()
    }
}

/// The time before a deadline at which a wait for room ends.
const BEFORE_DEADLINE: Duration = Duration::from_millis(100);
