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
    Answer, CacheHandle, Claimed, Claiming,
    asked::{Asked, Begun},
    flights::{Ended, Follow, Lead, Step},
    recording::Recording,
};
use crate::{
    LlmBody, LlmError, LlmRequest, LlmResponse,
    chat::Message,
    layers::{call::Call, totals::count},
    response::CacheReason,
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
    PassesBy,
    /// The answer was kept.
    Hit(Option<LlmResponse>),
    Looks(Looking, Box<Waits<S>>),
    /// The request leads in this process, and claims the call among all processes.
    Claims(Claiming, Lead, Box<Waits<S>>),
    Leads(Lead, Box<Asked>),
    Follows(Follow, Box<Waits<S>>),
    /// Collects another request's stream into a whole message.
    Collects(Collecting, Arc<Recording>, Box<Waits<S>>),
    Done,
}

type Looking = Pin<Box<dyn Future<Output = Option<Arc<Answer>>> + Send>>;
type Collecting = Pin<Box<dyn Future<Output = Result<Message, LlmError>> + Send>>;

/// A request that may still have to call.
struct Waits<S> {
    asked: Asked,
    service: S,
    request: LlmRequest,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    pub(super) fn passes_by(call: Call<S, S::Future>) -> Self {
        Self { call, stage: Stage::PassesBy }
    }

    pub(super) fn hit(answer: &Answer, request: &LlmRequest, handle: &CacheHandle) -> Self {
        count(&handle.counters().hits);
        let response = answer.response(request.is_stream(), CacheReason::Fresh, Instant::now());
        Self { call: Call::idle(), stage: Stage::Hit(Some(response)) }
    }

    pub(super) fn looks(looking: Looking, asked: Asked, service: S, request: LlmRequest) -> Self {
        Self { call: Call::idle(), stage: Stage::Looks(looking, Box::new(Waits { asked, service, request })) }
    }

    pub(super) fn leads(call: Call<S, S::Future>, asked: Asked, lead: Lead) -> Self {
        asked.misses();
        Self { call, stage: Stage::Leads(lead, Box::new(asked)) }
    }

    pub(super) fn follows(asked: Asked, follow: Follow, service: S, request: LlmRequest) -> Self {
        Self { call: Call::idle(), stage: Stage::Follows(follow, Box::new(Waits { asked, service, request })) }
    }
}

/// The outcome of a stage.
enum Next<S> {
    Ready(Result<LlmResponse, LlmError>),
    Goes(Stage<S>),
    Calls(Box<Waits<S>>, Lead),
}

impl<S> Waits<S> {
    /// Begins again: the request is answered by now, leads, or follows.
    fn begin(self: Box<Self>) -> Next<S> {
        match self.asked.begin() {
            Begun::Hits(answer) => Next::Ready(Ok(self.asked.hits(&answer))),
            Begun::Leads(lead) => match self.asked.claims(&lead) {
                Some(claiming) => Next::Goes(Stage::Claims(claiming, lead, self)),
                None => self.calls(lead),
            },
            Begun::Follows(follow) => Next::Goes(Stage::Follows(follow, self)),
        }
    }

    fn calls(self: Box<Self>, lead: Lead) -> Next<S> {
        Next::Calls(self, lead)
    }

    fn calls_alone(self: Box<Self>) -> Next<S> {
        let lead = self.asked.leads_none();
        Next::Calls(self, lead)
    }

    /// Reads along with another request's stream.
    fn reads(self: Box<Self>, recording: Arc<Recording>) -> Next<S> {
        // The stream's beginning may be gone, and all its readers: then there is soon another flight, or none.
        let Some(reader) = recording.read() else { return self.begin() };
        let body = LlmBody::from_frames(reader);
        if !self.asked.wants_stream() {
            return Next::Goes(Stage::Collects(Box::pin(body.collect()), recording, self));
        }
        match self.asked.reads(&recording, body) {
            Some(response) => Next::Ready(Ok(response)),
            None => self.calls_alone(),
        }
    }

    fn collected(self: Box<Self>, recording: &Recording, message: Message) -> Next<S> {
        match self.asked.reads(recording, LlmBody::from_message(message)) {
            Some(response) => Next::Ready(Ok(response)),
            None => self.calls_alone(),
        }
    }

    /// Returns another process's answer, and gives it to all followers here.
    fn given(self: Box<Self>, mut lead: Lead, answer: Arc<Answer>) -> Next<S> {
        lead.ends(Ended::Answered(answer.clone()));
        self.ended(Ended::Answered(answer))
    }

    fn ended(self: Box<Self>, ended: Ended) -> Next<S> {
        match ended {
            Ended::Failed(error) => Next::Ready(self.asked.instead_of(error)),
            Ended::Alone => self.calls_alone(),
            Ended::Answered(answer) => match self.asked.shares(&answer) {
                Some(response) => Next::Ready(Ok(response)),
                None => self.calls_alone(),
            },
        }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<LlmRequest, Response = LlmResponse>,
    S::Error: Into<LlmError>,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            // Each stage's future is polled in place, and taken out when the stage ends.
            let next = match this.stage {
                Stage::PassesBy => {
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
                Stage::Leads(_, asked) => {
                    let polled = match this.call.as_mut().poll(cx) {
                        // A stale answer is better than none when the deadline passes.
                        Poll::Pending if asked.has_stale() => Err(ready!(asked.poll_deadline(cx))),
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(polled) => polled,
                    };
                    let Stage::Leads(lead, mut asked) = mem::replace(this.stage, Stage::Done) else {
                        unreachable!("it leads")
                    };
                    // Release the call now: a permit that ends with it must not wait for the stream.
                    this.call.abandon();
                    return Poll::Ready(match polled {
                        Ok(response) => Ok(asked.answered(lead, response)),
                        Err(error) => asked.failed(lead, error),
                    });
                }
                Stage::Looks(looking, _) => {
                    let found = ready!(looking.as_mut().poll(cx));
                    let Stage::Looks(_, mut waits) = mem::replace(this.stage, Stage::Done) else {
                        unreachable!("it looks")
                    };
                    match found {
                        Some(answer) if waits.asked.is_fresh(&answer) => Next::Ready(Ok(waits.asked.hits(&answer))),
                        found => {
                            waits.asked.found(found);
                            waits.begin()
                        }
                    }
                }
                Stage::Claims(claiming, _, waits) => {
                    let claimed = match claiming.as_mut().poll(cx) {
                        Poll::Ready(claimed) => Ok(claimed),
                        Poll::Pending => Err(ready!(waits.asked.poll_deadline(cx))),
                    };
                    let Stage::Claims(_, lead, mut waits) = mem::replace(this.stage, Stage::Done) else {
                        unreachable!("it claims")
                    };
                    match claimed {
                        Ok(Claimed::Calls(call)) => {
                            waits.asked.calls(call);
                            waits.calls(lead)
                        }
                        Ok(Claimed::Answered(answer)) => waits.given(lead, answer),
                        Err(late) => Next::Ready(waits.asked.failed(lead, late)),
                    }
                }
                Stage::Follows(follow, waits) => {
                    let step = match follow.step(cx) {
                        Step::Wait => {
                            let late = ready!(waits.asked.poll_deadline(cx));
                            Step::End(Ended::Failed(late))
                        }
                        step => step,
                    };
                    let Stage::Follows(_, waits) = mem::replace(this.stage, Stage::Done) else {
                        unreachable!("it follows")
                    };
                    match step {
                        Step::Lead(lead) => waits.calls(lead),
                        Step::Read(recording) => waits.reads(recording),
                        Step::End(ended) => waits.ended(ended),
                        Step::Wait => unreachable!("it was an end above"),
                    }
                }
                Stage::Collects(collecting, _, waits) => {
                    let collected = match collecting.as_mut().poll(cx) {
                        Poll::Ready(collected) => collected,
                        Poll::Pending => Err(ready!(waits.asked.poll_deadline(cx))),
                    };
                    let Stage::Collects(_, recording, waits) = mem::replace(this.stage, Stage::Done) else {
                        unreachable!("it collects")
                    };
                    match collected {
                        Ok(message) => waits.collected(&recording, message),
                        Err(error) => Next::Ready(waits.asked.instead_of(error)),
                    }
                }
                Stage::Done => panic!("polled after it was ready"),
            };
            match next {
                Next::Ready(result) => return Poll::Ready(result),
                Next::Goes(stage) => *this.stage = stage,
                Next::Calls(waits, lead) => {
                    let Waits { asked, service, request } = *waits;
                    asked.misses();
                    this.call.set(Call::further(service, request));
                    *this.stage = Stage::Leads(lead, Box::new(asked));
                }
            }
        }
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::PassesBy => "passes by",
            Stage::Hit(_) => "hit",
            Stage::Looks(..) => "looks",
            Stage::Claims(..) => "claims",
            Stage::Leads(..) => "leads",
            Stage::Follows(..) => "follows",
            Stage::Collects(..) => "collects",
            Stage::Done => "done",
        };
        f.debug_struct("cache::ResponseFuture").field("call", &self.call).field("stage", &stage).finish_non_exhaustive()
    }
}
