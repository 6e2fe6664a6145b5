//! A provider that is watched: each call is in the books, and some have only so much capacity.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures_util::{Stream, future::BoxFuture};
use http::StatusCode;
use steadfast::{ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent, providers::Simulated};
use tokio::time::{Instant, sleep_until};
use tower::{Service, ServiceExt};

use crate::simulation::{
    books::{Books, UnderWay},
    plan::{Capacity, Plan},
    traffic::Id,
};

/// The leaf of a tier.
#[derive(Clone)]
pub(crate) struct Watched {
    tier: usize,
    inner: Simulated,
    line: Option<Arc<Line>>,
    books: Arc<Books>,
}

/// The servers of a provider with a capacity. What its callers no longer wait for is done all the same.
struct Line {
    capacity: Capacity,
    plan: Arc<Plan>,
    tier: usize,
    start: Instant,
    free_at: Mutex<Vec<Instant>>,
}

impl Watched {
    pub(crate) fn new(plan: &Arc<Plan>, tier: usize, books: &Arc<Books>) -> Self {
        let provider = &plan.tiers[tier].provider;
        let inner = Simulated::new(plan.name(tier))
            .seed(provider.seed)
            .latency(provider.latency)
            .pace(provider.pace)
            .reply(plan.reply(tier))
            .outages(provider.faults.outages.clone());
        let inner = match provider.faults.rate_limit {
            Some(limit) => inner.rate_limit(limit),
            None => inner,
        };
        let start = Instant::now();
        let line = provider.capacity.clone().map(|capacity| {
            let free_at = Mutex::new(vec![start; capacity.servers]);
            Arc::new(Line { capacity, plan: plan.clone(), tier, start, free_at })
        });
        Self { tier, inner, line, books: books.clone() }
    }

    pub(crate) fn simulated(&self) -> &Simulated {
        &self.inner
    }

    /// Returns whether its servers still work on earlier requests.
    pub(crate) fn is_busy(&self) -> bool {
        let now = Instant::now();
        self.line.as_ref().is_some_and(|line| line.free_at.lock().unwrap().iter().all(|free_at| *free_at > now))
    }
}

impl Line {
    /// Takes the first server that is free: when the work on this call begins that is not the call's own latency.
    fn enter(&self) -> Result<Instant, LlmError> {
        let now = Instant::now();
        let (from, to) = self.capacity.slow;
        let usual = self.plan.tiers[self.tier].provider.latency;
        let mut free_at = self.free_at.lock().unwrap();
        let server = free_at.iter_mut().min().expect("at least one server");
        let begins = now.max(*server);
        if begins - now > self.capacity.longest_queue {
            let full = LlmError::new(ErrorKind::Overloaded, "the queue is full");
            return Err(full.with_status(StatusCode::from_u16(529).expect("a status")));
        }
        let times = if (from..to).contains(&(begins - self.start)) { self.capacity.times } else { 1 };
        *server = begins + usual * times;
        Ok(begins + usual * (times - 1))
    }
}

impl Service<LlmRequest> for Watched {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = BoxFuture<'static, Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let Id(id) = *request.extensions().get().expect("every request has its number");
        let mut call = self.books.admitted(self.tier, id);
        let Self { inner, line, .. } = self.clone();
        Box::pin(async move {
            call.sent();
            if let Some(line) = line {
                let name = inner.name().to_owned();
                let begins = line.enter().map_err(|error| error.with_model("simulated", name))?;
                sleep_until(begins).await;
            }
            let response = inner.oneshot(request).await?;
            Ok(response.map_body(|body| match body.arrives_in_frames() {
                true => LlmBody::from_frames(Carried { body, call: Some(call) }),
                false => body,
            }))
        })
    }
}

/// A stream that is in the books until its end.
struct Carried {
    body: LlmBody,
    call: Option<UnderWay>,
}

impl Stream for Carried {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.body.poll_frame(cx);
        let goes_on = match &polled {
            Poll::Ready(Some(Ok(frame))) => !frame.events().contains(&StreamEvent::End),
            Poll::Ready(_) => false,
            Poll::Pending => true,
        };
        if !goes_on {
            self.call = None;
        }
        polled
    }
}
