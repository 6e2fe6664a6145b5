//! Readiness: one call to an inner service, from `poll_ready` to its result.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use pin_project::pin_project;
use tokio::time::Instant;
use tower::Service;

use super::{
    alarm::{self, Wake},
    clock::Reading,
    deadline,
};
use crate::{
    BoxLlmService, LlmError, LlmRequest, LlmResponse, LlmService,
    error::Phase,
    internal::sync::{Mutex, lock},
};

/// A source of services for further calls.
///
/// Cloning a service can be expensive (a provider's client contains boxes and counts), so it is cloned for a
/// further call, and not with every first one.
#[allow(missing_debug_implementations, reason = "a service need not have one")]
pub struct Spare<S>(Mutex<S>);

impl<S: Clone> Spare<S> {
    pub fn new(service: &S) -> Self {
        Self(Mutex::new(service.clone()))
    }

    /// Returns a service that was never polled.
    pub fn fresh(&self) -> S {
        lock(&self.0).clone()
    }
}

/// A service for the calls of all callers, such as a tier.
///
/// A call takes the service at hand while it is made, and puts it back. Only a call that finds none there, because
/// another one is being made, takes a clone.
#[allow(missing_debug_implementations, reason = "a service need not have one")]
pub struct Standby {
    service: BoxLlmService,
    at_hand: Mutex<Option<BoxLlmService>>,
}

impl Standby {
    pub fn new(service: BoxLlmService) -> Self {
        Self { service, at_hand: Mutex::default() }
    }

    /// Returns a service that was never polled.
    pub fn fresh(&self) -> BoxLlmService {
        self.service.clone()
    }

    /// Makes a call through the service at hand. The lock is not held meanwhile: the service is foreign code.
    fn call(&self, request: LlmRequest) -> BoxedCall {
        let taken = lock(&self.at_hand).take();
        let mut service = taken.unwrap_or_else(|| self.fresh());
        let call = Call::first(&mut service, request);
        // Another call's, which has put its own back meanwhile, is dropped outside of the lock.
        let _other = lock(&self.at_hand).replace(service);
        call
    }
}

/// A call under way.
///
/// There are two forms. The *first call* of a layer polls the service in hand, once. A ready service is called at
/// once, without a clone. Otherwise that very instance moves in here, since its place in a queue is its own, and a
/// fresh clone stays behind. The other way round, a polled instance that is never polled again would hold its
/// reservation for ever. *Every further call* (a retry, the next tier) waits for a fresh clone.
///
/// A call that has waited begins when it is made, and is not made at the request's deadline or after it.
// Two variants and no more: each layer checks the variant in each poll, and again on drop.
#[pin_project(project = CallProjection, project_replace = CallOwned)]
pub enum Call<S, F> {
    /// The service was called.
    Calling(#[pin] F),
    /// The service was not called yet, or the call is over.
    Uncalled(PendingCall<S>),
}

/// A call to a service whose type is erased: another tier, another chain.
pub type BoxedCall = Call<BoxLlmService, <BoxLlmService as Service<LlmRequest>>::Future>;

#[allow(missing_debug_implementations, reason = "a service need not have one")]
pub enum PendingCall<S> {
    /// Waits until the service is ready.
    Readying { service: S, request: LlmRequest },
    /// The service failed before it could be called.
    Failed(LlmError),
    /// No call is under way.
    Idle,
}

impl<S, F> Call<S, F> {
    /// Returns a value without a call.
    // Not a constant: writing a constant over a call copies as many bytes as the largest call has. This writes a word.
    #[inline(always)]
    pub fn idle() -> Self {
        Self::Uncalled(PendingCall::Idle)
    }

    /// Returns a call that failed before it could be made.
    pub fn failed(error: LlmError) -> Self {
        Self::Uncalled(PendingCall::Failed(error))
    }

    /// Returns the phase that it waits in.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Uncalled(PendingCall::Readying { .. }) => Phase::Readiness,
            _ => Phase::Answer,
        }
    }

    /// Drops the call, under way or ended, so that its resources are free. Each layer does so with a failed call,
    /// since its caller may keep the future.
    #[cold]
    pub fn abandon(mut self: Pin<&mut Self>) {
        self.set(Self::idle());
    }
}

impl BoxedCall {
    /// Makes a call to another tier or chain. The request leaves its primary, whose transport may be the caller's own.
    pub fn elsewhere(fresh: BoxLlmService, mut request: LlmRequest) -> Self {
        request.context_mut().prospects.note_left_primary();
        Self::further(fresh, request)
    }

    /// Makes a call to another tier as a first call, which begins at the time in the request's context, unless it
    /// waits. It saves a clone, and a reading of the clock where that time has just been read.
    pub fn elsewhere_now(tier: &Standby, mut request: LlmRequest) -> Self {
        let context = request.context_mut();
        context.prospects.note_left_primary();
        let Some(now) = context.begun else { return Self::further(tier.fresh(), request) };
        if let Some(late) = deadline::late(context, now) {
            return Self::failed(late);
        }
        let _reading = Reading::begin(now);
        tier.call(request)
    }
}

impl<S: LlmService> Call<S, S::Future> {
    /// Makes the first call: through the service in hand.
    // Always inlined, here and in the layers' `call` and `poll`; see `steadfast::layers`.
    #[inline(always)]
    pub fn first(service: &mut S, request: LlmRequest) -> Self
    where
        S: Clone,
    {
        // No task waits yet. If it is pending, the future polls it again with its task's waker.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Self::Calling(service.call(request)),
            Poll::Ready(Err(error)) => {
                // A service that failed its readiness must be thrown away.
                *service = service.clone();
                Self::failed(error.into())
            }
            Poll::Pending => {
                let fresh = service.clone();
                Self::further(mem::replace(service, fresh), request)
            }
        }
    }

    /// Makes a further call: through a fresh clone.
    pub fn further(fresh: S, request: LlmRequest) -> Self {
        Self::Uncalled(PendingCall::Readying { service: fresh, request })
    }

    /// Makes the call as soon as its service is ready.
    #[cold]
    fn poll_uncalled(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        let readiness = match self.as_mut().project() {
            CallProjection::Uncalled(PendingCall::Readying { service, request }) => match service.poll_ready(cx) {
                Poll::Ready(readiness) => readiness.map_err(Into::into),
                Poll::Pending => Err(ready!(poll_deadline(request.context(), cx))),
            },
            _ => Ok(()),
        };
        let CallOwned::Uncalled(uncalled) = self.as_mut().project_replace(Self::idle()) else {
            unreachable!("it was not called a line above")
        };
        let (mut service, mut request) = match uncalled {
            PendingCall::Readying { service, request } => (service, request),
            PendingCall::Failed(error) => return Poll::Ready(Err(error)),
            PendingCall::Idle => panic!("polled after it was ready"),
        };
        readiness?;
        // The attempt begins now, after any wait: the layers inside divide the time that is left.
        let now = Instant::now();
        let context = request.context_mut();
        context.begun = Some(now);
        if let Some(late) = deadline::late(context, now) {
            return Poll::Ready(Err(late));
        }
        let reading = Reading::begin(now);
        let future = service.call(request);
        drop(reading);
        self.set(Self::Calling(future));
        Poll::Ready(Ok(()))
    }
}

/// Completes with the failure of a call whose deadline comes while it waits for readiness. The layer that keeps the
/// deadline only knows that the call waits; this one knows that nothing was sent.
fn poll_deadline(request: &crate::Context, cx: &Context<'_>) -> Poll<LlmError> {
    match request.deadline {
        Some(deadline) if alarm::request_wake(cx, deadline) == Wake::Due => {
            let had = request.begun.map_or(Duration::ZERO, |begun| deadline.saturating_duration_since(begun));
            Poll::Ready(LlmError::deadline_passed(Phase::Readiness, had))
        }
        _ => Poll::Pending,
    }
}

impl<S: LlmService> Future for Call<S, S::Future> {
    type Output = Result<LlmResponse, LlmError>;

    /// # Panics
    ///
    /// Panics if polled after it was ready.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Self::Uncalled(_) = *self {
            ready!(self.as_mut().poll_uncalled(cx))?;
        }
        match self.project() {
            CallProjection::Calling(future) => future.poll(cx).map_err(Into::into),
            CallProjection::Uncalled(_) => unreachable!("it was called a line above"),
        }
    }
}

impl<S, F> fmt::Debug for Call<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calling(_) => "Calling",
            Self::Uncalled(PendingCall::Readying { .. }) => "Readying",
            Self::Uncalled(PendingCall::Failed(_)) => "Failed",
            Self::Uncalled(PendingCall::Idle) => "Idle",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::AssertUnwindSafe,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use tokio_test::{assert_pending, assert_ready, task};
    use tower::{ServiceBuilder, ServiceExt as _, limit::ConcurrencyLimitLayer};

    use super::super::testing::Strict;
    use super::*;
    use crate::ErrorKind;

    #[tokio::test(start_paused = true)]
    async fn a_pending_service_moves_into_the_future_with_its_place_in_the_queue() {
        let mut limited = ServiceBuilder::new()
            .layer(ConcurrencyLimitLayer::new(1))
            .service(Strict::new().takes(Duration::from_secs(1)));
        let mut first = task::spawn(Call::first(&mut limited, LlmRequest::prompt("a")));
        assert_pending!(first.poll());
        let mut second = task::spawn(Call::first(&mut limited, LlmRequest::prompt("b")));
        assert_pending!(second.poll());
        let mut third = task::spawn(Call::first(&mut limited, LlmRequest::prompt("c")));
        assert_pending!(third.poll());

        tokio::time::advance(Duration::from_secs(1)).await;
        assert_ready!(first.poll()).unwrap();
        drop(first);
        assert!(second.is_woken(), "the place in the queue is the second's");
        assert_pending!(second.poll());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_ready!(second.poll()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_its_readiness_is_replaced() {
        let mut service = Strict::new().fails_readiness(1);
        let error = Call::first(&mut service, LlmRequest::prompt("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        Call::first(&mut service, LlmRequest::prompt("b")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_dropped_while_it_waits_gives_its_reservation_back() {
        let mut limited = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(Strict::new().pending(5));
        for _ in 0..1000 {
            let mut call = task::spawn(Call::first(&mut limited, LlmRequest::prompt("a")));
            assert_pending!(call.poll());
            drop(call);
        }
        Call::first(&mut limited, LlmRequest::prompt("b")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_ready_service_is_called_at_once_without_a_clone() {
        let mut service = Strict::new();
        let call = Call::first(&mut service, LlmRequest::prompt("a"));
        assert_eq!((service.calls(), service.polled_ready(), call.phase()), (1, 1, Phase::Answer));
        call.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_call_waits_for_the_readiness_of_a_clone() {
        let mut service = Strict::new().pending(3);
        let call = Call::further(service.clone(), LlmRequest::prompt("a"));
        assert_eq!((service.calls(), call.phase()), (0, Phase::Readiness));
        call.await.unwrap();
        assert_eq!((service.calls(), service.polled_ready()), (1, 4));
        // The clone's readiness is not the service's.
        assert_eq!(Call::first(&mut service, LlmRequest::prompt("b")).phase(), Phase::Readiness);
    }

    #[tokio::test(start_paused = true)]
    async fn a_readiness_that_fails_while_it_is_waited_for_is_the_calls_error() {
        let service = Strict::new().fails_readiness(1);
        assert!(Call::further(service.clone(), LlmRequest::prompt("a")).await.is_err());
        assert_eq!(service.calls(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_at_once_begins_as_its_context_says_unless_it_waits() {
        for (polls, later) in [(0, 0), (2, 4)] {
            let (service, second) = (Strict::new().pending(polls), Duration::from_secs(1));
            let begun = Instant::now();
            tokio::time::advance(second).await;
            let mut call = task::spawn(BoxedCall::elsewhere_now(&standby(&service), begun_at(begun)));
            while call.poll().is_pending() {
                tokio::time::advance(second * 3).await;
            }
            assert_eq!(service.seen()[0].context().begun, Some(begun + second * later), "pending {polls}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_at_once_is_not_made_at_its_deadline() {
        let service = Strict::new();
        let mut request = begun_at(Instant::now());
        request.context_mut().deadline = request.context().begun;
        let error = BoxedCall::elsewhere_now(&standby(&service), request).await.unwrap_err();
        assert_eq!((error.kind(), service.calls()), (ErrorKind::Deadline, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_share_the_service_at_hand_and_each_waits_with_one_of_its_own() {
        // Counts the clones, which a call makes only to leave one behind.
        struct Counted(Strict, Arc<AtomicUsize>);
        impl Clone for Counted {
            fn clone(&self) -> Self {
                self.1.fetch_add(1, Relaxed);
                Self(self.0.clone(), self.1.clone())
            }
        }
        impl Service<LlmRequest> for Counted {
            type Response = LlmResponse;
            type Error = LlmError;
            type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

            fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
                self.0.poll_ready(cx).map_err(Into::into)
            }

            fn call(&mut self, request: LlmRequest) -> Self::Future {
                let call = self.0.call(request);
                Box::pin(async { call.await.map_err(Into::into) })
            }
        }
        let clones = Arc::new(AtomicUsize::new(0));
        let tier = |service| Standby::new(BoxLlmService::new(Counted(service, clones.clone())));
        let ready = tier(Strict::new());
        for _ in 0..3 {
            BoxedCall::elsewhere_now(&ready, begun_at(Instant::now())).await.unwrap();
            assert_eq!(clones.load(Relaxed), 1, "the first call's, which stays at hand");
        }
        let service = Strict::new().pending(2);
        let (slow, mut calls) = (tier(service.clone()), Vec::new());
        for _ in 0..3 {
            calls.push(task::spawn(BoxedCall::elsewhere_now(&slow, begun_at(Instant::now()))));
        }
        for call in &mut calls {
            assert_pending!(call.poll());
            assert_ready!(call.poll()).unwrap();
        }
        assert_eq!(service.calls(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_outlives_a_call_that_panics() {
        let panics = tower::service_fn(|request: LlmRequest| {
            assert!(!request.is_stream(), "a stream");
            std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello")))
        });
        let tier = Standby::new(BoxLlmService::new(panics));
        for is_stream in [false, true, true, false] {
            let request = begun_at(Instant::now()).with_stream(is_stream);
            let made = AssertUnwindSafe(|| BoxedCall::elsewhere_now(&tier, request));
            let made = std::panic::catch_unwind(made);
            assert_eq!(made.is_err(), is_stream);
            if let Ok(call) = made {
                call.await.unwrap();
            }
        }
    }

    fn standby(service: &Strict) -> Standby {
        Standby::new(BoxLlmService::new(service.clone().map_err(LlmError::from)))
    }

    fn begun_at(begun: Instant) -> LlmRequest {
        let mut request = LlmRequest::prompt("a");
        request.context_mut().begun = Some(begun);
        request
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_call_holds_nothing() {
        let mut service = Strict::new().takes(Duration::from_secs(60));
        let mut call = std::pin::pin!(Call::first(&mut service, LlmRequest::prompt("a")));
        assert_eq!(service.running(), 1);
        call.as_mut().abandon();
        assert_eq!((service.running(), format!("{call:?}").as_str()), (0, "Idle"));
    }
}
