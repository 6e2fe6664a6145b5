//! A call under a key, in a task of its own. It outlives the callers that wait for it, so that its answer is there
//! for the retry.

use std::{
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::future::join;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    calls::{CallEnd, Stage},
    holding::{ClaimAttempt, ClaimOutcome, KeyHold},
    place::Place,
    results::Resolution,
    settings::Settings,
};
use crate::{
    ErrorKind, LlmBody, LlmError, LlmRequest, LlmResponse, LlmService,
    cache::{Answer, Facts, Reader, Recording, RecordingStatus, Requester},
    call::Call,
    ledger::CallersDeadline,
    totals::count,
};

type Reply = oneshot::Sender<Result<LlmResponse, LlmError>>;

pub(super) struct Task {
    place: Place,
    settings: Settings,
    /// `None` if another claimant has taken the key over.
    held: Option<KeyHold>,
    /// True if the call may have been made before.
    is_doubtful: bool,
    /// The time that callers still give the stores once the call has ended.
    store_time: Duration,
    /// The end of that time.
    waits_until: Instant,
    reply: Option<Reply>,
}

/// The first and the longest time between two looks at a key whose record changes at once and yet remains busy.
const FIRST_GAP: Duration = Duration::from_millis(10);
const LONGEST_GAP: Duration = Duration::from_millis(40);
/// The least time that callers give the stores for the outcome of a call, and a call's end for a renewal.
const MIN_LEFT: Duration = Duration::from_millis(100);

impl Task {
    pub(super) fn new(place: Place, settings: Settings, reply: Reply) -> Self {
        let (store_time, waits_until) = (MIN_LEFT, Instant::now());
        Self { place, settings, held: None, is_doubtful: false, store_time, waits_until, reply: Some(reply) }
    }

    /// Claims the key, calls, and keeps the answer.
    pub(super) async fn run<S>(mut self, service: S, mut request: LlmRequest)
    where
        S: LlmService + Clone,
    {
        match self.claim().await {
            ClaimOutcome::Won => {}
            ClaimOutcome::Done(answer) => return self.end(CallEnd::Kept(answer)),
            ClaimOutcome::Conflict => {
                count(&self.place.shared.counters.conflicts);
                let problem = "this key was used before, with a different request";
                let conflict = LlmError::new(ErrorKind::IdempotencyConflict, problem);
                return self.end(CallEnd::Refused(conflict));
            }
            ClaimOutcome::Busy { .. } => return self.end(CallEnd::Nothing),
        }
        count(&self.place.shared.counters.calls);
        let requester = Requester::of(&request);
        if let Some(deadline) = request.context().deadline {
            request = request.with_extension(CallersDeadline(deadline));
        }
        let context = request.context_mut();
        // An answer after the caller's deadline is for the retry.
        context.deadline = context.deadline.and_then(|deadline| deadline.checked_add(self.settings.grace));
        let called = self.call(service, request).await;
        match called {
            Some(Ok(response)) => self.answered(response, requester).await,
            Some(Err(mut error)) => {
                if self.is_doubtful {
                    error.repeat();
                }
                let reply = self.reply.take();
                self.settle(self.release(), || send(reply, Err(error.clone()))).await;
                self.end(CallEnd::Failed(error));
            }
            None => {
                self.release().await;
                self.end(CallEnd::Nothing);
            }
        }
    }

    /// Claims the key, and waits while another process has it.
    ///
    /// The callers wait for another process's call for as long as it takes, but for a store's knowledge of it only for
    /// the store timeout: they believe a store that reports the call as under way, unless it may have missed the end.
    async fn claim(&mut self) -> ClaimOutcome {
        let Place { shared, same, call, .. } = &self.place;
        let limit = self.settings.store_timeout;
        let (mut held, first_at) = (KeyHold::default(), Instant::now());
        let (mut busy_at, mut gap) = (first_at, Duration::ZERO);
        let mut watched = None;
        loop {
            let begun = Instant::now();
            let is_first = watched.is_none();
            let attempt = ClaimAttempt {
                ends: begun + if is_first { limit } else { limit / 2 },
                is_first,
                is_overdue: begun.duration_since(busy_at) >= limit,
            };
            let claimed = shared.claim(same, &mut held, &self.settings, attempt).await;
            let ClaimOutcome::Busy { lease_left, is_certain } = claimed else {
                self.is_doubtful = held.is_doubtful;
                self.held = Some(held);
                let spent = first_at.elapsed() + MIN_LEFT;
                self.store_time = (limit * 2).saturating_sub(spent).max(MIN_LEFT);
                return claimed;
            };
            if is_certain {
                busy_at = begun;
            }
            let at_most = lease_left.min(limit.saturating_sub(busy_at.elapsed()));
            let waits = Instant::now();
            let mut changed = watched.take().unwrap_or_else(|| Box::pin(shared.changed(same, limit)));
            tokio::select! {
                _ = join(changed.as_mut(), sleep(gap.min(at_most))) => {}
                () = sleep(at_most) => {}
                () = async {
                    sleep(at_most.saturating_sub(limit / 4)).await;
                    shared.until_refused(&self.settings).await;
                } => {}
                () = call.stage.closed() => {
                    shared.inform(same, Resolution::Release, &held, &self.settings);
                    return claimed;
                }
            }
            // A busy record may change again and again, so each early change lengthens the next pause.
            gap = match waits.elapsed() < at_most.max(FIRST_GAP) {
                true => (gap * 2).clamp(FIRST_GAP, LONGEST_GAP),
                false => Duration::ZERO,
            };
            // Listen from here on: the record may change while the stores answer.
            let mut changed = Box::pin(shared.changed(same, limit));
            let is_changed = poll_fn(|cx| Poll::Ready(changed.as_mut().poll(cx).is_ready())).await;
            watched = Some(if is_changed { Box::pin(shared.changed(same, limit)) } else { changed });
        }
    }

    /// Returns the call's result, or `None` if the call had no callers for too long.
    async fn call<S>(&mut self, service: S, request: LlmRequest) -> Option<Result<LlmResponse, LlmError>>
    where
        S: LlmService + Clone,
    {
        let mut call = pin!(Call::further(service, request));
        let place = &self.place;
        let mut left = pin!(left(place, self.settings.grace));
        let renewing = AtomicBool::new(false);
        let mut renewal = pin!(renewal(place, &mut self.held, self.settings, &renewing));
        let called = tokio::select! {
            biased;
            called = call.as_mut() => Some(called),
            () = left.as_mut() => None,
            () = renewal.as_mut() => None,
        };
        self.waits_until = Instant::now() + self.store_time;
        renewed(renewal, &renewing).await;
        called
    }

    async fn answered(mut self, mut response: LlmResponse, requester: Requester) {
        if self.is_doubtful {
            response = response.with_possible_repeat();
        }
        let facts = Facts::kept_for(&response, requester, self.settings.ttl, Duration::ZERO);
        if response.body().arrives_in_frames() {
            return self.streams(response, facts).await;
        }
        let body = response.body_mut();
        let message = body.message().map(|message| message.into_owned());
        let Some(message) = message else {
            self.release().await;
            self.replies(Ok(response));
            return self.end(CallEnd::Nothing);
        };
        let answer = Arc::new(Answer::whole(message, body.wire(), facts));
        // Keep the answer before giving it out: a caller that has it and asks again finds the same one.
        let (reply, ended) = (self.reply.take(), CallEnd::Answered(answer.clone()));
        let keeping = self.keep(&answer, self.place.call.is_left());
        let gives = || {
            send(reply, Ok(response));
            self.place.call.stage.send_replace(Stage::Ended(ended.clone()));
        };
        self.settle(keeping, gives).await;
        self.end(ended);
    }

    /// Reports the outcome to the stores, then gives it to the callers. They do not wait for the stores for longer than
    /// their time.
    async fn settle(&self, reports: impl Future<Output = ()>, gives: impl FnOnce()) {
        let mut reports = pin!(reports);
        let is_over = timeout_at(self.waits_until, reports.as_mut()).await.is_ok();
        gives();
        if !is_over {
            reports.await;
        }
    }

    /// Passes a stream to the waiting requests, and reads it to its end once they have all left.
    async fn streams(mut self, mut response: LlmResponse, facts: Facts) {
        let body = std::mem::replace(response.body_mut(), LlmBody::from_text(""));
        let first = Recording::watched(body, facts, self.settings.max_answer);
        let recording = first.recording().clone();
        let Some(reader) = recording.read() else {
            self.release().await;
            return self.end(CallEnd::Nothing);
        };
        self.place.call.stage.send_replace(Stage::Streaming(recording));
        self.replies(Ok(response.map_body(|_| LlmBody::from_frames(first))));
        let mut guard = Guard { reader, alone: None, grace: self.settings.grace, is_alone: false };
        let over = {
            let place = &self.place;
            let mut closed = place.shared.closed.subscribe();
            let mut closes = pin!(closed.wait_for(|closed| *closed));
            let mut is_closed = false;
            let renewing = AtomicBool::new(false);
            let mut renewal = pin!(renewal(place, &mut self.held, self.settings, &renewing));
            let over = poll_fn(|cx| {
                is_closed = is_closed || closes.as_mut().poll(cx).is_ready();
                if let Poll::Ready(over) = guard.poll(cx, is_closed) {
                    return Poll::Ready(over);
                }
                let _ = renewal.as_mut().poll(cx);
                Poll::Pending
            })
            .await;
            renewed(renewal, &renewing).await;
            over
        };
        let late = guard.is_alone;
        // The call's permits must be free before its key is.
        drop(guard);
        match over {
            Some(Ok(Some(answer))) => {
                self.keep(&answer, late).await;
                self.end(CallEnd::Answered(answer));
            }
            Some(Ok(None)) | None => {
                self.release().await;
                self.end(CallEnd::Nothing);
            }
            Some(Err(error)) => {
                self.release().await;
                self.end(CallEnd::Failed(error));
            }
        }
    }

    fn replies(&mut self, result: Result<LlmResponse, LlmError>) {
        send(self.reply.take(), result);
    }

    fn end(mut self, ended: CallEnd) {
        self.place.end(ended);
    }

    /// Keeps an answer, unless it is degraded: such an answer must not stand in the way of a retry.
    async fn keep(&self, answer: &Arc<Answer>, late: bool) {
        if answer.is_degraded() || answer.size() > self.settings.max_answer as u64 {
            return self.release().await;
        }
        let (Some(held), Place { shared, same, .. }) = (&self.held, &self.place) else { return };
        if shared.complete(same, held, answer, &self.settings).await {
            count(&shared.counters.kept);
            if late {
                count(&shared.counters.late);
            }
        }
    }

    /// Releases the key, so that a retry can try again.
    async fn release(&self) {
        let (Some(held), Place { shared, same, .. }) = (&self.held, &self.place) else { return };
        shared.release(same, held, &self.settings).await;
    }
}

fn send(reply: Option<Reply>, result: Result<LlmResponse, LlmError>) {
    if let Some(reply) = reply {
        // The send fails if the caller has left.
        let _ = reply.send(result);
    }
}

/// Completes when the call has had no callers for as long as it may go on alone.
async fn left(place: &Place, grace: Duration) {
    let mut closed = place.shared.closed.subscribe();
    loop {
        place.call.stage.closed().await;
        let joined = place.call.joined();
        tokio::select! {
            () = sleep(grace) => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
        // A caller may have come in the meantime, and left again.
        if place.call.is_left() && (place.call.joined() == joined || *place.shared.closed.borrow()) {
            return;
        }
    }
}

/// Renews the lease as long as this task holds it: at intervals, and when a store comes back that may have lost it.
/// It never completes. `renewing` is true while it asks.
async fn renewal(place: &Place, holds: &mut Option<KeyHold>, settings: Settings, renewing: &AtomicBool) {
    let Place { shared, same, .. } = place;
    while let Some(held) = holds {
        tokio::select! {
            () = sleep(settings.lease / 3) => {}
            () = shared.returned() => {}
        }
        renewing.store(true, Relaxed);
        if !shared.renew(same, held, &settings).await {
            *holds = None;
        }
        renewing.store(false, Relaxed);
    }
    pending().await
}

/// Waits a moment for a renewal under way: it may claim the key again.
async fn renewed(mut renewal: Pin<&mut impl Future<Output = ()>>, renewing: &AtomicBool) {
    let over = poll_fn(|cx| {
        if renewing.load(Relaxed) {
            let _ = renewal.as_mut().poll(cx);
        }
        if renewing.load(Relaxed) { Poll::Pending } else { Poll::Ready(()) }
    });
    // If the wait runs out, the ticket of the claim is known all the same.
    let _ = timeout(MIN_LEFT, over).await;
}

/// A holder of a stream's place, for the retry.
struct Guard {
    reader: Reader,
    /// The time until which it reads without other readers.
    alone: Option<Pin<Box<Sleep>>>,
    grace: Duration,
    /// True if there is no other reader.
    is_alone: bool,
}

impl Guard {
    /// Returns `None` if the stream had no readers for too long.
    fn poll(&mut self, cx: &mut Context<'_>, is_closed: bool) -> Poll<Option<Result<Option<Arc<Answer>>, LlmError>>> {
        loop {
            match self.reader.watch(cx) {
                RecordingStatus::Over(over) => return Poll::Ready(Some(over)),
                RecordingStatus::Held => {
                    self.alone = None;
                    self.is_alone = false;
                    return Poll::Pending;
                }
                RecordingStatus::Alone => {}
            }
            self.is_alone = true;
            let until = || Instant::now().checked_add(self.grace);
            let over = match (&mut self.alone, until()) {
                (Some(alone), _) => alone.as_mut().poll(cx).is_ready(),
                (None, Some(until)) => {
                    let alone = self.alone.insert(Box::pin(sleep_until(until)));
                    alone.as_mut().poll(cx).is_ready()
                }
                (None, None) => false,
            };
            if over || is_closed {
                return Poll::Ready(None);
            }
            if Pin::new(&mut self.reader).poll_next(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
