use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tokio::time::Instant;
use tower::Service;

use super::{
    Answer, CacheHandle, CallClaim, ClaimFuture,
    flights::{FlightResult, Follower, Leader, Step},
    lookup::{Lookup, PendingLookup},
    recording::Recording,
};
use crate::{
    LlmBody, LlmError, LlmRequest, LlmResponse, LlmService, call::Call, chat::Message, response::CacheReason,
    totals::count,
};

/// The future of [`Cache`](super::Cache).
///
/// Dropping it drops the call, or the place of a request that waits for another's. A call with other followers
/// passes to one of them.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    stage: Stage<S>,
}

enum Stage<S> {
    /// Returns the call's result as it is.
    Bypass,
    /// The answer was kept.
    Hit(Option<LlmResponse>),
    Looking(LookupFuture, Box<PendingCall<S>>),
    /// The request leads in this process, and claims the call among all processes.
    Claiming(ClaimFuture, Leader, Box<PendingCall<S>>),
    Leader(Leader, Box<PendingLookup>),
    Follower(Follower, Box<PendingCall<S>>),
    /// Collects another request's stream into a whole message.
    Collecting(CollectFuture, Arc<Recording>, Box<PendingCall<S>>),
    Done,
}

type LookupFuture = Pin<Box<dyn Future<Output = Option<Arc<Answer>>> + Send>>;
type CollectFuture = Pin<Box<dyn Future<Output = Result<Message, LlmError>> + Send>>;

/// A request that may still have to call.
struct PendingCall<S> {
    lookup: PendingLookup,
    service: S,
    request: LlmRequest,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    pub(super) fn passes_by(call: Call<S, S::Future>) -> Self {
        Self { call, stage: Stage::Bypass }
    }

    pub(super) fn hit(answer: &Answer, request: &LlmRequest, handle: &CacheHandle) -> Self {
        count(&handle.counters().hits);
        let response = answer.response(request.is_stream(), CacheReason::Fresh, Instant::now());
        Self { call: Call::idle(), stage: Stage::Hit(Some(response)) }
    }

    pub(super) fn looks(looking: LookupFuture, lookup: PendingLookup, service: S, request: LlmRequest) -> Self {
        Self { call: Call::idle(), stage: Stage::Looking(looking, Box::new(PendingCall { lookup, service, request })) }
    }

    pub(super) fn leads(call: Call<S, S::Future>, lookup: PendingLookup, lead: Leader) -> Self {
        lookup.count_miss();
        Self { call, stage: Stage::Leader(lead, Box::new(lookup)) }
    }

    pub(super) fn follows(lookup: PendingLookup, follow: Follower, service: S, request: LlmRequest) -> Self {
        Self { call: Call::idle(), stage: Stage::Follower(follow, Box::new(PendingCall { lookup, service, request })) }
    }
}

/// The outcome of a stage.
enum Next<S> {
    Ready(Result<LlmResponse, LlmError>),
    Goes(Stage<S>),
    Calls(Box<PendingCall<S>>, Leader),
}

impl<S> PendingCall<S> {
    /// Begins again: the request is answered by now, leads, or follows.
    fn begin(self: Box<Self>) -> Next<S> {
        match self.lookup.begin() {
            Lookup::Hit(answer) => Next::Ready(Ok(self.lookup.hit_response(&answer))),
            Lookup::Leader(lead) => match self.lookup.claim(&lead) {
                Some(claiming) => Next::Goes(Stage::Claiming(claiming, lead, self)),
                None => self.calls(lead),
            },
            Lookup::Follower(follow) => Next::Goes(Stage::Follower(follow, self)),
        }
    }

    /// Takes the answer that the store has for the request, if it has one.
    fn looked_up(mut self: Box<Self>, found: Option<Arc<Answer>>) -> Next<S> {
        match found {
            Some(answer) if self.lookup.is_fresh(&answer) => Next::Ready(Ok(self.lookup.hit_response(&answer))),
            found => {
                self.lookup.set_stale(found);
                self.begin()
            }
        }
    }

    /// Takes the outcome of the claim among all processes, or the failure of a claim that reached the deadline.
    fn claimed(mut self: Box<Self>, lead: Leader, claimed: Result<CallClaim, LlmError>) -> Next<S> {
        match claimed {
            Ok(CallClaim::Granted(call)) => {
                self.lookup.set_call(call);
                self.calls(lead)
            }
            Ok(CallClaim::Answered(answer)) => self.given(lead, answer),
            Err(late) => Next::Ready(self.lookup.failed(lead, late)),
        }
    }

    fn calls(self: Box<Self>, lead: Leader) -> Next<S> {
        Next::Calls(self, lead)
    }

    fn calls_alone(self: Box<Self>) -> Next<S> {
        let lead = self.lookup.solo_leader();
        Next::Calls(self, lead)
    }

    /// Reads along with another request's stream.
    fn read_along(self: Box<Self>, recording: Arc<Recording>) -> Next<S> {
        // The stream may have lost its beginning and all its readers: then another flight begins soon, or none is left.
        let Some(reader) = recording.read() else { return self.begin() };
        let body = LlmBody::from_frames(reader);
        if !self.lookup.wants_stream() {
            return Next::Goes(Stage::Collecting(Box::pin(body.collect()), recording, self));
        }
        match self.lookup.read_along(&recording, body) {
            Some(response) => Next::Ready(Ok(response)),
            None => self.calls_alone(),
        }
    }

    fn collected(self: Box<Self>, recording: &Recording, collected: Result<Message, LlmError>) -> Next<S> {
        let message = match collected {
            Ok(message) => message,
            Err(error) => return Next::Ready(self.lookup.instead_of(error)),
        };
        match self.lookup.read_along(recording, LlmBody::from_message(message)) {
            Some(response) => Next::Ready(Ok(response)),
            None => self.calls_alone(),
        }
    }

    /// Returns another process's answer, and gives it to all followers here.
    fn given(self: Box<Self>, mut lead: Leader, answer: Arc<Answer>) -> Next<S> {
        lead.end(FlightResult::Answered(answer.clone()));
        self.ended(FlightResult::Answered(answer))
    }

    fn ended(mut self: Box<Self>, ended: FlightResult) -> Next<S> {
        match ended {
            FlightResult::Failed(error) => Next::Ready(self.lookup.instead_of(error)),
            FlightResult::Unshared if self.lookup.follows_another() => self.begin(),
            FlightResult::Unshared => self.calls_alone(),
            FlightResult::Answered(answer) => match self.lookup.shared_response(&answer) {
                Some(response) => Next::Ready(Ok(response)),
                None => self.calls_alone(),
            },
        }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            // Poll each stage's future in place, and take it out when the stage ends.
            let next = match this.stage {
                Stage::Bypass => {
                    let polled = this.call.as_mut().poll(cx);
                    if let Poll::Ready(Err(_)) = polled {
                        this.call.abandon();
                    }
                    return polled;
                }
                Stage::Hit(response) => {
                    let response = response.take().expect("polled after it was ready");
                    return Poll::Ready(Ok(response));
                }
                Stage::Leader(_, lookup) => {
                    let polled = match this.call.as_mut().poll(cx) {
                        // A stale answer is better than none when the deadline passes.
                        Poll::Pending if lookup.has_stale() => Err(ready!(lookup.poll_deadline(cx))),
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(polled) => polled,
                    };
                    let Stage::Leader(lead, mut lookup) = mem::replace(this.stage, Stage::Done) else {
                        unreachable!("it leads")
                    };
                    // Release the call now: a permit that ends with it must not wait for the stream.
                    this.call.abandon();
                    return Poll::Ready(match polled {
                        Ok(response) => Ok(lookup.answered(lead, response)),
                        Err(error) => lookup.failed(lead, error),
                    });
                }
                _ => ready!(this.stage.poll_uncalled(cx)),
            };
            match next {
                Next::Ready(result) => return Poll::Ready(result),
                Next::Goes(stage) => *this.stage = stage,
                Next::Calls(pending, lead) => {
                    let PendingCall { lookup, service, request } = *pending;
                    lookup.count_miss();
                    this.call.set(Call::further(service, request));
                    *this.stage = Stage::Leader(lead, Box::new(lookup));
                }
            }
        }
    }
}

impl<S> Stage<S> {
    /// Polls a stage in which the request has made no call.
    ///
    /// # Panics
    ///
    /// Panics if the request is answered.
    #[inline]
    fn poll_uncalled(&mut self, cx: &mut Context<'_>) -> Poll<Next<S>> {
        Poll::Ready(match self {
            Self::Looking(looking, _) => {
                let found = ready!(looking.as_mut().poll(cx));
                let Self::Looking(_, pending) = mem::replace(self, Self::Done) else { unreachable!("it looks") };
                pending.looked_up(found)
            }
            Self::Claiming(claiming, _, pending) => {
                let claimed = match claiming.as_mut().poll(cx) {
                    Poll::Ready(claimed) => Ok(claimed),
                    Poll::Pending => Err(ready!(pending.lookup.poll_deadline(cx))),
                };
                let Self::Claiming(_, lead, pending) = mem::replace(self, Self::Done) else {
                    unreachable!("it claims")
                };
                pending.claimed(lead, claimed)
            }
            Self::Follower(follow, pending) => {
                let step = match follow.step(cx) {
                    Step::Wait => {
                        let late = ready!(pending.lookup.poll_deadline(cx));
                        Step::End(FlightResult::Failed(late))
                    }
                    step => step,
                };
                let Self::Follower(_, pending) = mem::replace(self, Self::Done) else { unreachable!("it follows") };
                match step {
                    Step::Leader(lead) => pending.calls(lead),
                    Step::Read(recording) => pending.read_along(recording),
                    Step::End(ended) => pending.ended(ended),
                    Step::Wait => unreachable!("it was an end above"),
                }
            }
            Self::Collecting(collecting, _, pending) => {
                let collected = match collecting.as_mut().poll(cx) {
                    Poll::Ready(collected) => collected,
                    Poll::Pending => Err(ready!(pending.lookup.poll_deadline(cx))),
                };
                let Self::Collecting(_, recording, pending) = mem::replace(self, Self::Done) else {
                    unreachable!("it collects")
                };
                pending.collected(&recording, collected)
            }
            Self::Bypass | Self::Hit(_) | Self::Leader(..) => unreachable!("the future polls these itself"),
            Self::Done => panic!("polled after it was ready"),
        })
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Bypass => "passes by",
            Stage::Hit(_) => "hit",
            Stage::Looking(..) => "looks",
            Stage::Claiming(..) => "claims",
            Stage::Leader(..) => "leads",
            Stage::Follower(..) => "follows",
            Stage::Collecting(..) => "collects",
            Stage::Done => "done",
        };
        f.debug_struct("cache::ResponseFuture").field("call", &self.call).field("stage", &stage).finish_non_exhaustive()
    }
}
