//! The lane of paths that are no conversation: its tiers, and the pools in which they stand in for each other.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project::pin_project;
use tower::{Layer, Service};

use super::{
    StackContext,
    generation::Generation,
    plan::Plan,
    tier_runtime::{self, RetryBudgets, TierRuntime},
};
use crate::{CallKind, Config, Provider, Tier, classifier, vector_spaces::VectorSpace};
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    layers::fallback::{self, TierSettings},
};

/// The tiers that may serve a call, as [`Config::lane_pool`] finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanePool {
    /// The name of the pool: see [`OpaqueCall::with_pool`](steadfast::OpaqueCall::with_pool).
    pub name: Arc<str>,
    /// The model that the call names, or the one that it gets where it names none.
    pub model: Arc<str>,
    /// For embeddings, the dimensions of the vector space, as far as they are known.
    pub dimensions: Option<u32>,
}

impl Tier {
    /// Returns whether the tier serves calls of a kind; `None` where neither the file nor the model's name says so.
    pub(crate) fn serves_kind(&self, kind: CallKind) -> Option<bool> {
        match &self.serves {
            Some(kinds) => Some(kinds.contains(&kind)),
            None if kind == CallKind::Embeddings && self.space.is_some() => Some(true),
            None if kind == CallKind::Other => None,
            None => CallKind::of_model(self.model.as_deref()?).map(|own| own == kind),
        }
    }

    fn vector_space(&self) -> Option<VectorSpace<'_>> {
        match &self.space {
            Some(name) => VectorSpace::of_name(name).ok(),
            None => VectorSpace::of_model(self.model.as_deref()?),
        }
    }

    fn lane_dialect(&self) -> Option<Dialect> {
        match self.provider {
            Provider::OpenAi | Provider::Simulated => Some(Dialect::OpenAi),
            Provider::Gemini => Some(Dialect::Gemini),
            Provider::Anthropic => Some(Dialect::Anthropic),
            _ => None,
        }
    }

    fn is_named(&self, model: &str) -> bool {
        self.model.as_deref() == Some(model) || self.name == model
    }

    /// Returns the pool of the tier for calls of a kind.
    fn pool(&self, kind: CallKind) -> Option<String> {
        let dialect = self.lane_dialect()?;
        let words = match kind {
            CallKind::Embeddings => format!("the vector space {}", self.vector_space()?.name),
            _ if self.interchangeable == Some(true) => format!("{} by any model", kind.name()),
            _ => format!("the model {}", self.model.as_deref()?),
        };
        Some(if dialect == Dialect::OpenAi { words } else { format!("{words} by {dialect}'s API") })
    }

    /// Returns all pools of the tier.
    fn pools(&self) -> Vec<String> {
        const KINDS: [CallKind; 8] = [
            CallKind::Embeddings,
            CallKind::Rerank,
            CallKind::Speech,
            CallKind::Transcription,
            CallKind::Images,
            CallKind::Moderations,
            CallKind::Completions,
            CallKind::Other,
        ];
        let served = KINDS.into_iter().filter(|kind| self.serves_kind(*kind) != Some(false));
        let mut pools: Vec<String> = served.filter_map(|kind| self.pool(kind)).collect();
        pools.push(alone(&self.name));
        pools.sort_unstable();
        pools.dedup();
        pools
    }
}

/// Returns the name of a tier's own pool.
fn alone(tier: &str) -> String {
    format!("a call for the tier {tier} alone")
}

impl Config {
    /// Returns all tiers: those of conversations, then those of the lane.
    pub(crate) fn all_tiers(&self) -> impl Iterator<Item = &Tier> {
        self.tiers.iter().chain(self.lane.iter().flat_map(|lane| &lane.tiers))
    }

    /// Returns the pool of tiers that may serve a call of this kind, by the model that it names. A call without a model
    /// gets the first tier's that serves the kind.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the file has no `lane`, or none of its tiers serves the model; for embeddings also
    /// [`ErrorKind::InvalidRequest`] if the model's vector space is unknown.
    pub fn lane_pool(&self, kind: CallKind, dialect: Dialect, model: Option<&str>) -> Result<LanePool, LlmError> {
        let none = |message: String| LlmError::new(ErrorKind::NotFound, message).with_code("model_not_found");
        let Some(lane) = &self.lane else {
            let message = format!("this gateway serves no {}: its file has no `lane`", kind.name());
            return Err(none(message));
        };
        let speaks = |tier: &&Tier| tier.lane_dialect() == Some(dialect);
        let serves = |tier: &&Tier| tier.serves_kind(kind) != Some(false);
        let tiers = || lane.tiers.iter().filter(speaks).filter(serves);
        let found = match model {
            Some(model) => tiers().find(|tier| tier.is_named(model)),
            None if kind == CallKind::Other => tiers().next(),
            None => tiers().find(|tier| tier.serves_kind(kind) == Some(true)),
        };
        let Some(tier) = found else {
            let mut names: Vec<&str> = tiers().filter_map(|tier| tier.model.as_deref()).collect();
            names.dedup();
            let what = match model {
                Some(_) => format!("no tier of the lane serves {} by this model", kind.name()),
                None => format!("the request names no model, and no tier of the lane is for {}", kind.name()),
            };
            return Err(none(match names.as_slice() {
                [] => what,
                names => format!("{what}; there are {}", names.join(", ")),
            }));
        };
        let model: Arc<str> = model.or(tier.model.as_deref()).unwrap_or(&tier.name).into();
        if kind == CallKind::Other {
            return Ok(LanePool { name: alone(&tier.name).into(), model, dimensions: None });
        }
        let Some(name) = tier.pool(kind) else {
            let message =
                format!("the vector space of `{model}` is not known; the tier `{}` needs a `space`", tier.name);
            return Err(LlmError::new(ErrorKind::InvalidRequest, message));
        };
        let space = tier.vector_space().filter(|_| kind == CallKind::Embeddings);
        Ok(LanePool { name: name.into(), model, dimensions: space.and_then(|space| space.dimensions) })
    }
}

/// The lane's tiers at work.
pub(super) struct LaneState {
    pub(super) runtimes: Vec<TierRuntime>,
    service: BoxLlmService,
    /// Keeps the chain's state, which the service refers to.
    _fallback: FallbackLayer,
}

impl LaneState {
    /// Starts the lane's tiers; unchanged ones continue. `None` if the file has no lane.
    pub(super) fn new(
        plan: &mut Plan,
        retries: &RetryBudgets,
        context: &StackContext,
        before: Option<&Generation>,
    ) -> Option<Self> {
        let config = plan.config.clone();
        let lane = config.lane.as_ref()?;
        let (mut runtimes, mut tiers) = (Vec::new(), Vec::new());
        let plans = std::mem::take(&mut plan.lane).into_iter().zip(&plan.caps.tiers[config.tiers.len()..]);
        for (tier, (tier_plan, caps)) in lane.tiers.iter().zip(plans) {
            let known = before.and_then(|before| before.runtime(&tier.name));
            let runtime = TierRuntime::new(tier, tier_plan, context, known);
            let budget = tier_runtime::retry_budget(retries, tier);
            tiers.push((tier, runtime.service(tier, &config, budget, caps.clone(), context)));
            runtimes.push(runtime);
        }
        let mut tiers = tiers.into_iter();
        let (first, primary) = tiers.next()?;
        // It reports no switches: those are of the chain that serves conversations.
        let layer = FallbackLayer::new(first.name.as_str())
            .primary(settings(first))
            .steered_by(&context.fallback)
            .classifier(classifier(&config));
        let layer = tiers.fold(layer, |layer, (tier, service)| {
            layer.push(fallback::Tier::new(tier.name.as_str(), service).settings(settings(tier)))
        });
        Some(Self { runtimes, service: BoxLlmService::new(layer.layer(primary)), _fallback: layer })
    }

    pub(super) fn service(&self) -> BoxLlmService {
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
pub(super) struct WithLane<S> {
    chain: S,
    lane: Option<BoxLlmService>,
}

impl<S> WithLane<S> {
    pub(super) fn new(chain: S, lane: Option<&LaneState>) -> Self {
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
pub(super) enum WithLaneFuture<F> {
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
