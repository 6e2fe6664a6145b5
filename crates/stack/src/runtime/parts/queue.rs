//! A durable queue: a request that no tier answered in time becomes a task, which goes to a model as soon as one
//! works.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::{Service, ServiceExt as _};

use super::handoff::HandoffState;
use crate::{Config, classifier, queues::is_queue};
use steadfast::{
    BoxLlmService, Classifier, DegradedReason, LlmError, LlmRequest, LlmResponse, classify::Failover,
    ledger::PriorAttempts,
};
use steadfast_handoff::{Handoff, RedriveMarker};

/// The part of a caller's time that is reserved to store a task and report it.
const WRITE_TIME: Duration = Duration::from_millis(500);
/// The text that reports a queued request.
const QUEUED_TEXT: &str = "Your request is queued as {task_id}.";

/// The queues of a configuration.
#[derive(Clone)]
pub(crate) struct Queues(Arc<Inner>);

struct Inner {
    leaf: Handoff,
    /// The setting of each named feature.
    features: HashMap<String, bool>,
    others: bool,
    classifier: Classifier,
}

impl Queues {
    /// Creates the queues; `None` if nothing is queued, or no store outlives the process.
    pub(crate) fn new(config: &Config, handoff: Option<&HandoffState>) -> Option<Self> {
        if !config.queues() {
            return None;
        }
        let leaf = handoff?.queue(QUEUED_TEXT);
        let features = config.features.iter().map(|(name, feature)| (name.clone(), is_queue(config.all_open(feature))));
        let others = config.default_feature.as_ref().map_or(config.fallback.all_open, |other| config.all_open(other));
        let (features, others) = (features.collect(), is_queue(others));
        Some(Self(Arc::new(Inner { leaf, features, others, classifier: classifier(config) })))
    }

    pub(crate) fn around<S>(self, inner: S) -> BoxLlmService
    where
        S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static,
    {
        BoxLlmService::new(Queue { inner, queues: self })
    }
}

impl Inner {
    /// Returns whether a request is queued. A task's request is already queued.
    fn takes(&self, request: &LlmRequest) -> bool {
        let own = request.feature().and_then(|feature| self.features.get(feature));
        own.copied().unwrap_or(self.others)
            && !request.is_human_required()
            && request.extensions().get::<RedriveMarker>().is_none()
    }

    /// Returns whether another tier, or the same one later, may succeed.
    fn is_outage(&self, error: &LlmError) -> bool {
        matches!(self.classifier.classify(error).failover, Failover::Yes)
    }
}

/// A service that stores a request as a task if it was queued in vain.
#[derive(Clone)]
struct Queue<S> {
    inner: S,
    queues: Queues,
}

impl<S> Service<LlmRequest> for Queue<S>
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

    /// Always ready, as the layers are.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: LlmRequest) -> Self::Future {
        let queues = self.queues.0.clone();
        if !queues.takes(&request) {
            return Box::pin(self.inner.clone().oneshot(request));
        }
        let queued = request.clone();
        let context = request.context_mut();
        let earlier = context.deadline.and_then(|deadline| deadline.checked_sub(WRITE_TIME));
        context.limit_deadline(earlier);
        let answering = self.inner.clone().oneshot(request);
        Box::pin(async move {
            let error = match answering.await {
                Err(error) if queues.is_outage(&error) => error,
                answered => return answered,
            };
            let reason = DegradedReason::Failure(error.kind());
            let before = PriorAttempts::new(reason, error.attempts());
            match queues.leaf.clone().oneshot(queued.with_extension(before)).await {
                Ok(mut pending) => {
                    pending.follow(&error);
                    Ok(pending)
                }
                // The caller learns of the original failure.
                Err(problem) => {
                    tracing::warn!(event = "not_queued", kind = problem.kind().name(), "queued request not stored");
                    Err(error)
                }
            }
        })
    }
}
