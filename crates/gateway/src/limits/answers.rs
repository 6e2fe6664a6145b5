//! The memory of answers that the gateway holds whole: embeddings, lists of objects, answers to calls without a stream,
//! streams that wait for their last event.
//!
//! A provider has been paid for an answer by the time its bytes come, so an answer waits for its memory: its leaf reads
//! no further meanwhile. Who finds none for [`LONGEST_WAIT`], or until its deadline, is refused with 503.
//!
//! Each byte counts [`WEIGHT`] times: for the provider's bytes, and what is decoded or encoded of them. Answers leave
//! an eighth of the [`Memory`] to small bodies. Half of the rest is set aside for one answer at a time, the
//! first that had to wait: with all of the memory in the hands of answers that are half there, one goes on. The answers
//! of one key leave as much free as they take, like its bodies.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use steadfast::body::{AnswerRoom, CoverFuture, FREE_ANSWER, OutOfMemory};
use tokio::time::{Instant, timeout_at};

use super::memory::{self, CallerShare, Memory, Reservation};
use crate::lock::lock;

/// The number of times that each byte of an answer counts.
const WEIGHT: usize = 2;
/// The longest wait of an answer for its memory.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The time after which there may be memory again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The memory of the answers to one request, until its caller has the last byte.
#[derive(Debug)]
pub(crate) struct AnswerSpace {
    reservation: Mutex<Reservation>,
    memory: Arc<Memory>,
    number: usize,
}

impl Memory {
    /// Returns an empty space for the answers to a caller's request.
    pub(crate) fn answers(self: &Arc<Self>, share: Option<&Arc<CallerShare>>) -> Arc<AnswerSpace> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let reservation = Mutex::new(self.reservation_for_answer(share));
        Arc::new(AnswerSpace { reservation, memory: self.clone(), number: NEXT.fetch_add(1, Relaxed) })
    }

    /// Returns the bytes for all answers.
    fn answers_limit(&self) -> usize {
        self.room - self.room / 8
    }
}

impl AnswerSpace {
    /// Takes the memory of an answer of `bytes`, of which `covered` are counted. An answer that may go on gets more, so
    /// that it need not ask for each piece.
    fn take(&self, covered: usize, bytes: usize, is_whole: bool) -> Result<usize, memory::OutOfMemory> {
        let limit = self.memory.answers_limit();
        let (limit_now, is_shared) = match self.is_elder() {
            true => (limit, false),
            false => (limit / 2, true),
        };
        let mut reservation = lock(&self.reservation);
        let more = |bytes: usize| (bytes - covered).saturating_mul(WEIGHT);
        if reservation.taken().saturating_add(more(bytes)) > limit {
            return Err(memory::OutOfMemory::Always);
        }
        let ample = if is_whole { bytes } else { bytes.saturating_mul(2) };
        for bytes in [ample, bytes] {
            if reservation.take(more(bytes), limit_now, is_shared).is_ok() {
                return Ok(bytes);
            }
        }
        Err(memory::OutOfMemory::Now)
    }

    fn is_elder(&self) -> bool {
        self.memory.elder.load(Relaxed) == self.number
    }

    /// Waits until there is memory for `bytes` in all.
    async fn waited(
        &self,
        covered: usize,
        bytes: usize,
        is_whole: bool,
        until: Option<Instant>,
    ) -> Result<usize, OutOfMemory> {
        let mut end = None;
        loop {
            let mut freed = pin!(self.memory.freed.notified());
            freed.as_mut().enable();
            match self.take(covered, bytes, is_whole) {
                Ok(covered) => return Ok(covered),
                Err(memory::OutOfMemory::Always) => return Err(never()),
                Err(memory::OutOfMemory::Now) => {}
            }
            if self.memory.elder.compare_exchange(0, self.number, Relaxed, Relaxed).is_ok() {
                continue;
            }
            let end = *end.get_or_insert_with(|| {
                let longest = Instant::now() + LONGEST_WAIT;
                until.map_or(longest, |until| until.min(longest))
            });
            if timeout_at(end, freed).await.is_err() {
                return Err(not_now());
            }
        }
    }

    /// Returns the bytes that are counted.
    fn covered(&self) -> usize {
        lock(&self.reservation).taken() / WEIGHT
    }

    /// Returns true if a response has more bytes than its connection's buffers.
    pub(crate) fn needs_count(&self, response: &Response<Body>) -> bool {
        length(response).max(self.covered()) > FREE_ANSWER
    }

    /// Waits until there is memory for `bytes` in all, of the only answer to the request.
    ///
    /// # Errors
    ///
    /// There is none in time.
    pub(crate) async fn grow(&self, bytes: usize) -> Result<(), OutOfMemory> {
        let covered = self.covered();
        if bytes > covered.max(FREE_ANSWER) {
            self.waited(covered, bytes, false, None).await?;
        }
        Ok(())
    }

    /// Returns a response whose bytes count until the last of them is sent: those that were read for it, or at least
    /// its own.
    ///
    /// # Errors
    ///
    /// There is no memory for a response that was not read for this request.
    pub(crate) async fn counted(self: Arc<Self>, response: Response<Body>) -> Result<Response<Body>, OutOfMemory> {
        if !self.needs_count(&response) {
            return Ok(response);
        }
        // The bytes that were read for it are gone: a translation, or an answer with a mark, has their place.
        let missing = length(&response).saturating_sub(lock(&self.reservation).taken());
        if missing > 0 {
            let covered = self.covered();
            self.waited(covered, covered + missing.div_ceil(WEIGHT), true, None).await?;
        }
        self.end();
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                frame.map_data(|data| Bytes::from_owner(CountedAnswer { data, _space: self.clone() }))
            }))
        }))
    }

    /// Ends the time as the elder.
    fn end(&self) {
        if self.memory.elder.compare_exchange(self.number, 0, Relaxed, Relaxed).is_ok() {
            self.memory.freed.notify_waiters();
        }
    }
}

impl AnswerRoom for AnswerSpace {
    fn cover(self: Arc<Self>, covered: usize, bytes: usize, is_whole: bool, until: Option<Instant>) -> CoverFuture {
        Box::pin(async move { self.waited(covered, bytes, is_whole, until).await })
    }

    fn give_back(&self, bytes: usize) {
        lock(&self.reservation).give_back(bytes.saturating_mul(WEIGHT));
        self.end();
    }
}

impl Drop for AnswerSpace {
    fn drop(&mut self) {
        self.end();
    }
}

/// A part of an answer, and the memory of the whole.
struct CountedAnswer {
    // Dropped first.
    data: Bytes,
    _space: Arc<AnswerSpace>,
}

impl AsRef<[u8]> for CountedAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Returns the length of a response that is there.
fn length(response: &Response<Body>) -> usize {
    usize::try_from(http_body::Body::size_hint(response.body()).lower()).unwrap_or(usize::MAX)
}

fn not_now() -> OutOfMemory {
    let message = "the gateway has no memory left for an answer of this size at the moment (`gateway.memory`)";
    OutOfMemory { message: message.into(), retry_after: Some(RETRY_AFTER) }
}

fn never() -> OutOfMemory {
    OutOfMemory {
        message: "the answer is over the gateway's memory for answers (`gateway.memory`)".into(),
        retry_after: None,
    }
}
