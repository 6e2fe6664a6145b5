//! The lane of paths that are no conversation.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;
use tower::{Layer, Service};

use super::{
    context::StackContext,
    retry_budgets::RetryBudgets,
    tier_runtime::{TierPlan, TierRuntime},
};
use crate::{Config, Tier, classifier};
use steadfast::{
    BoxLlmService, BudgetLayer, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    layers::fallback::{self, TierSettings},
};

/// The chain of the lane's tiers.
pub(crate) struct LaneState {
    service: BoxLlmService,
    /// Keeps the chain's state, which the service refers to.
    _fallback: FallbackLayer,
}

impl LaneState {
    /// Starts the lane's tiers, and returns them with their chain; unchanged ones continue. `None` if the file has no
    /// lane.
    pub(crate) fn new<'a>(
        config: &Config,
        plans: Vec<(TierPlan, Option<BudgetLayer>)>,
        retries: &RetryBudgets,
        context: &StackContext,
        before: impl Fn(&str) -> Option<&'a TierRuntime>,
    ) -> Option<(Vec<TierRuntime>, Self)> {
        let lane = config.lane.as_ref()?;
        let (mut runtimes, mut tiers) = (Vec::new(), Vec::new());
        for (tier, (plan, caps)) in lane.tiers.iter().zip(plans) {
            let runtime = TierRuntime::new(tier, plan, context, before(&tier.name));
            tiers.push((tier, runtime.service(tier, config, retries.of(tier), caps, context)));
            runtimes.push(runtime);
        }
        let mut tiers = tiers.into_iter();
        let (first, primary) = tiers.next()?;
        // It reports no switches: those are of the chain that serves conversations.
        let layer = FallbackLayer::new(first.name.as_str())
            .primary(settings(first))
            .steered_by(&context.fallback)
            .classifier(classifier(config));
        let layer = tiers.fold(layer, |layer, (tier, service)| {
            layer.push(fallback::Tier::new(tier.name.as_str(), service).settings(settings(tier)))
        });
        Some((runtimes, Self { service: BoxLlmService::new(layer.layer(primary)), _fallback: layer }))
    }

    pub(crate) fn service(&self) -> BoxLlmService {
        self.service.clone()
    }
}

fn settings(tier: &Tier) -> TierSettings {
    let model = tier.model.as_deref().unwrap_or(&tier.name);
    let settings = TierSettings::new().model(model).level(tier.service_level());
    let settings = match tier.min_useful {
        Some(time) => settings.min_useful(time.0),
        None => settings,
    };
    let settings = if tier.last_resort { settings.last_resort() } else { settings };
    tier.pools().into_iter().fold(settings, TierSettings::pool)
}

/// Sends opaque calls to the lane, and conversations to their chain. Clones share both.
#[derive(Clone)]
pub(crate) struct WithLane<S> {
    chain: S,
    lane: Option<BoxLlmService>,
}

impl<S> WithLane<S> {
    pub(crate) fn new(chain: S, lane: Option<&LaneState>) -> Self {
        Self { chain, lane: lane.map(LaneState::service) }
    }
}

impl<S> Service<LlmRequest> for WithLane<S>
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = WithLaneFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.chain.poll_ready(cx)
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        match &mut self.lane {
            // The library's layers are always ready.
            Some(lane) if request.opaque().is_some() => WithLaneFuture::Lane(lane.call(request)),
            _ => WithLaneFuture::Chain(self.chain.call(request)),
        }
    }
}

/// The future of [`WithLane`].
#[pin_project(project = Projected)]
pub(crate) enum WithLaneFuture<F> {
    Chain(#[pin] F),
    Lane(#[pin] <BoxLlmService as Service<LlmRequest>>::Future),
}

impl<F> Future for WithLaneFuture<F>
where
    F: Future<Output = Result<LlmResponse, LlmError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            Projected::Chain(future) => future.poll(cx),
            Projected::Lane(future) => future.poll(cx),
        }
    }
}
