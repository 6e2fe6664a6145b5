//! The five layers around any number of models, with values that suit a kind of service.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use tower::{ServiceBuilder, util::BoxCloneSyncService};

use crate::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, FallbackLayer, InvalidConfig, LlmError, LlmService,
    RetryWithJitterLayer, TimeoutLayer,
    layers::{bulkhead::Limits, fallback::Tier},
};

/// Requests in flight, and as many that wait for a place: what one process holds with some megabytes of conversations.
const PLACES: usize = 256;

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
/// | requests in flight, and waiting for a place: [`BulkheadLayer`] | 256, 256 | 256, 256 |
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
        let (whole, attempt, first_token) = (60, 30, 10);
        Self::of(whole, attempt, first_token)
    }

    /// Creates a preset for agents and jobs, whose answers are long: the whole call has ten minutes, as in the SDKs of
    /// Anthropic and OpenAI.
    pub fn patient() -> Self {
        let (whole, attempt, first_token) = (600, 300, 60);
        Self::of(whole, attempt, first_token)
    }

    fn of(whole: u64, attempt: u64, first_token: u64) -> Self {
        let [whole, attempt, first_token] = [whole, attempt, first_token].map(Duration::from_secs);
        Self { whole, attempt, first_token, tiers: Vec::new() }
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
        let fallback = tiers.fold(FallbackLayer::new(name), |layer, (name, tier)| layer.push(Tier::new(name, tier)));
        let places = BulkheadLayer::new().default_limit(Limits::new(PLACES)).queue(PLACES).max_wait(self.attempt);
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
    BoxCloneSyncService::new(tower::ServiceExt::map_err(service, Into::<LlmError>::into))
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
