//! The memory of answers that the gateway holds whole: embeddings, lists of objects, answers to calls without a stream,
//! streams that wait for their last event.
//!
//! A provider has been paid for an answer by the time its bytes come, so an answer waits for its memory: its leaf reads
//! no further meanwhile. Who finds none for [`LONGEST_WAIT`], or until its deadline, is refused with 503.
//!
//! Each byte counts [`WEIGHT`] times: for the provider's bytes, and what is decoded or encoded of them. Answers leave
//! an eighth of the [`Memory`] to small bodies. Of the rest, the limit, all but one may take half. The one is the
//! elder, the first that had to wait: it takes what there is, except what others hold that are half there, since those
//! wait too. That is a quarter at most; whole ones are read and let go, so that the elder goes on. The answers of one
//! key leave as much free as they take, like its bodies.

use std::{
    mem,
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
    taken: Mutex<Taken>,
    memory: Arc<Memory>,
    number: usize,
}

/// The bytes of the answers to one request.
#[derive(Debug)]
struct Taken {
    reservation: Reservation,
    /// The part for an answer that is half there, except the elder's.
    growing: usize,
}

impl Memory {
    /// Returns an empty space for the answers to a caller's request.
    pub(crate) fn answers(self: &Arc<Self>, share: Option<&Arc<CallerShare>>) -> Arc<AnswerSpace> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let taken = Mutex::new(Taken { reservation: self.reservation_for_answer(share), growing: 0 });
        Arc::new(AnswerSpace { taken, memory: self.clone(), number: NEXT.fetch_add(1, Relaxed) })
    }

    /// Returns the bytes for all answers.
    fn answers_limit(&self) -> usize {
        self.room - self.room / 8
    }

    /// Counts so many bytes more of answers that are half there, and returns false beyond this limit.
    fn grow(&self, more: usize, limit: usize) -> bool {
        let fits = |growing: usize| growing.checked_add(more).filter(|sum| *sum <= limit);
        more == 0 || self.growing.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    /// Counts an answer no more among those that are half there. Returns whether it was.
    fn stop_growing(&self, taken: &mut Taken) -> bool {
        let growing = mem::take(&mut taken.growing);
        self.growing.fetch_sub(growing, Relaxed);
        growing > 0
    }
}

impl AnswerSpace {
    /// Takes the memory of an answer of `bytes`, of which `covered` are counted. An answer that may go on gets more, so
    /// that it need not ask for each piece.
    fn take(&self, covered: usize, bytes: usize, is_whole: bool) -> Result<usize, memory::OutOfMemory> {
        let limit = self.memory.answers_limit();
        let is_elder = self.is_elder();
        let mut taken = lock(&self.taken);
        let more = |bytes: usize| (bytes - covered).saturating_mul(WEIGHT);
        let others = self.memory.growing.load(Relaxed).saturating_sub(taken.growing);
        if taken.reservation.taken().saturating_add(more(bytes)) > limit - others.min(limit / 4) {
            return Err(memory::OutOfMemory::Always);
        }
        if is_elder {
            self.memory.stop_growing(&mut taken);
        }
        let (limit_now, is_shared) = if is_elder { (limit, false) } else { (limit / 2, true) };
        let ample = if is_whole { bytes } else { bytes.saturating_mul(2) };
        for bytes in [ample, bytes] {
            let more = more(bytes);
            let growing = if is_elder || is_whole { 0 } else { more };
            if !self.memory.grow(growing, limit / 4) {
                continue;
            }
            if taken.reservation.take(more, limit_now, is_shared).is_ok() {
                taken.growing += growing;
                return Ok(bytes);
            }
            self.memory.growing.fetch_sub(growing, Relaxed);
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
                Err(memory::OutOfMemory::Always) if bytes.saturating_mul(WEIGHT) > self.memory.answers_limit() => {
                    return Err(never());
                }
                Err(memory::OutOfMemory::Always) => return Err(not_now()),
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
        lock(&self.taken).reservation.taken() / WEIGHT
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
        let missing = length(&response).saturating_sub(lock(&self.taken).reservation.taken());
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

    /// Ends its growth, and its time as the elder.
    fn end(&self) {
        let has_grown = self.memory.stop_growing(&mut lock(&self.taken));
        if self.memory.elder.compare_exchange(self.number, 0, Relaxed, Relaxed).is_ok() || has_grown {
            self.memory.freed.notify_waiters();
        }
    }
}

impl AnswerRoom for AnswerSpace {
    fn cover(self: Arc<Self>, covered: usize, bytes: usize, is_whole: bool, until: Option<Instant>) -> CoverFuture {
        Box::pin(async move { self.waited(covered, bytes, is_whole, until).await })
    }

    fn give_back(&self, bytes: usize) {
        lock(&self.taken).reservation.give_back(bytes.saturating_mul(WEIGHT));
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
