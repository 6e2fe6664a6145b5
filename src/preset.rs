//! The five layers around any number of models, with values that suit a kind of service.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use tower::{ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};

use crate::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, FallbackLayer, InvalidConfig, LlmService, RetryWithJitterLayer,
    TimeoutLayer,
};

/// The requests in flight: as many as the gateway has connections. A caller whose own client would have sent the
/// request is not refused for the number of others.
const PLACES: usize = 20_000;
const SECOND: Duration = Duration::from_secs(1);

/// All five layers around any number of models.
///
/// Use it to begin. Write the layers yourself as soon as you want a handle, a feature's own places, events, or values
/// of your own: [the order](crate::layers) is the one of [`build`](Self::build).
///
/// | | `fast` | `patient` |
/// |---|---:|---:|
/// | the whole call: [`TimeoutLayer::new`] | 60 s | 10 min |
/// | one attempt at a tier: [`TimeoutLayer::new`] | 30 s | 5 min |
/// | its first token: [`TimeoutLayer::first_token`] | 10 s | 60 s |
/// | with reasoning: [`TimeoutLayer::thinking`] | 30 s | 5 min |
/// | requests in flight: [`BulkheadLayer::default_limit`] | 20,000 | 20,000 |
///
/// All else has the default of its layer. A silent tier is left earlier if it usually answers sooner
/// ([`TimeoutLayer::adaptive`]); the last one has the rest of the call's time ([`TimeoutLayer::patient`]).
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use steadfast::{LlmRequest, Preset, providers::{Simulated, simulated::Fault}};
/// use tower::ServiceExt;
///
/// # let (sonnet, gpt) = (Simulated::new("sonnet"), Simulated::new("gpt-4o").reply("A function."));
/// // With keys: `Anthropic::from_env()?.model("claude-sonnet-4-5")`, `OpenAi::from_env()?.model("gpt-4o")`.
/// sonnet.handle().fail(Fault::Overloaded);
/// let llm = Preset::fast().tier("sonnet", sonnet).tier("gpt-4o", gpt).build()?;
///
/// let answer = llm.oneshot(LlmRequest::prompt("What is a closure?")).await?;
/// assert_eq!(answer.served_by().tier.as_deref(), Some("gpt-4o"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a preset does nothing until it is built"]
pub struct Preset {
    whole: Duration,
    attempt: Duration,
    first_token: Duration,
    tiers: Vec<(Arc<str>, BoxLlmService)>,
}

impl Preset {
    /// Creates a preset for a person who waits for the answer.
    pub fn fast() -> Self {
        Self { whole: 60 * SECOND, attempt: 30 * SECOND, first_token: 10 * SECOND, tiers: Vec::new() }
    }

    /// Creates a preset for agents and jobs, whose answers are long: the whole call has ten minutes, as in the SDKs of
    /// Anthropic and OpenAI.
    pub fn patient() -> Self {
        Self { whole: 600 * SECOND, attempt: 300 * SECOND, first_token: 60 * SECOND, tiers: Vec::new() }
    }

    /// Adds a model after those so far, with retries, a circuit and limits of time of its own. The first one is asked
    /// as long as it answers. The name is the circuit's too.
    pub fn tier<S>(mut self, name: impl Into<Arc<str>>, service: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let name = name.into();
        let attempt = TimeoutLayer::new(self.attempt)
            .first_token(self.first_token)
            .thinking(self.attempt)
            .patient(Duration::MAX)
            .adaptive();
        let tier = ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new())
            .layer(CircuitBreakerLayer::new(name.clone()))
            .layer(attempt)
            .service(service);
        self.tiers.push((name, boxed(tier)));
        self
    }

    /// Makes the service: the call's deadline, places, the fallback, and the tiers within.
    ///
    /// # Errors
    ///
    /// If there is no tier, or two have the same name.
    pub fn build(self) -> Result<BoxLlmService, InvalidConfig> {
        let mut names = HashSet::new();
        if let Some((name, _)) = self.tiers.iter().find(|(name, _)| !names.insert(name)) {
            return Err(InvalidConfig::new("Preset", format!("`{name}` is the name of two tiers: rename one")));
        }
        let mut tiers = self.tiers.into_iter();
        let Some((name, primary)) = tiers.next() else {
            return Err(InvalidConfig::new("Preset", "has no tier: add one with `tier`"));
        };
        let fallback = tiers.fold(FallbackLayer::new(name), |layer, (name, tier)| layer.tier(name, tier));
        let places = BulkheadLayer::new().default_limit(PLACES);
        let stack =
            ServiceBuilder::new().layer(TimeoutLayer::new(self.whole)).layer(places).layer(fallback).service(primary);
        Ok(boxed(stack))
    }
}

fn boxed<S>(service: S) -> BoxLlmService
where
    S: LlmService + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    BoxCloneSyncService::new(service.map_err(Into::into))
}

impl fmt::Debug for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.tiers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Preset")
            .field("whole", &self.whole)
            .field("attempt", &self.attempt)
            .field("first_token", &self.first_token)
            .field("tiers", &names)
            .finish()
    }
}
