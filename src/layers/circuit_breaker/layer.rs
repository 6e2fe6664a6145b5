use std::{
    borrow::Cow,
    fmt,
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tower::{Layer, Service};

use super::{
    CircuitBreaker, CircuitBreakerHandle, Window,
    circuit::{Confirm, NamedCircuit, Policy},
    keyed::{KeyOf, Keyed},
    service::{Circuits, Shared},
    settings::{Rule, Settings},
};
use crate::{
    BoxLlmService, Classifier, Events, LlmError, LlmRequest, LlmResponse, events::CircuitState, layers::lanes::Lanes,
};

/// Applies [`CircuitBreaker`]. See the [module docs](super).
///
/// All services that one layer makes share its circuit, and so do clones of the layer. A setting makes it a layer of
/// its own again.
#[derive(Clone)]
pub struct CircuitBreakerLayer {
    name: Arc<str>,
    policy: Policy,
    keyed: Option<(Arc<KeyOf>, usize)>,
    seed: Option<u64>,
    /// Made when it is first asked for, when the settings are known.
    shared: Arc<OnceLock<Arc<Shared>>>,
}

impl CircuitBreakerLayer {
    /// A circuit of this name, which its errors and events say. It opens for 60 s after 5 failures in a row, then lets
    /// one probe through.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let policy = Policy {
            settings: Settings::default(),
            slow_after: None,
            abandoned_after: None,
            classifier: Classifier::default(),
            events: Events::default(),
            confirm: Confirm::default(),
        };
        Self { name: name.into(), policy, keyed: None, seed: None, shared: Arc::default() }
    }

    /// Opens after so many failures in a row; 0 means never for that. Default: 5.
    ///
    /// Rate limits that come without a time to wait count as failures here: many in a row are an overload.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.changed().consecutive_failures = NonZeroU32::new(failures);
        self
    }

    /// Opens when at least this share (0 to 1) of the calls in the window failed; outside of that the nearest is taken.
    /// It is looked at when a call fails. Default: no such rule.
    #[must_use]
    pub fn failure_rate(mut self, share: f64, window: Window) -> Self {
        self.changed().failure_rate = Some(Rule::new(share, window));
        self
    }

    /// Opens when at least this share (0 to 1) of the calls in the window took `after` or longer to their response
    /// (for a stream: to its first token). A slow probe is then a failed one. Default: no such rule.
    #[must_use]
    pub fn slow_calls(mut self, after: Duration, share: f64, window: Window) -> Self {
        self.changed().slow_rate = Some(Rule::new(share, window));
        self.policy.slow_after = Some(after);
        self
    }

    /// Counts a call as a failure that its caller leaves after this time or later, before anything came. Default: never, for who
    /// leaves says nothing about the provider. It is for callers whose own limits of time this stack does not know.
    #[must_use]
    pub fn abandoned_after(mut self, time: Duration) -> Self {
        self.changed();
        self.policy.abandoned_after = Some(time);
        self
    }

    /// Sets how long the circuit stays open before the first probe. Default: 60 s.
    #[must_use]
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.changed().cooldown = cooldown;
        self
    }

    /// Sets the factor from one cooldown to the next while probes fail, and the longest cooldown (not less than the
    /// first). A factor below 1 is taken as 1. It starts again after a recovery. Default: 1.0, so no growth.
    #[must_use]
    pub fn cooldown_growth(mut self, factor: f64, longest: Duration) -> Self {
        let settings = self.changed();
        settings.growth = factor.max(1.0);
        settings.max_cooldown = longest;
        self
    }

    /// Sets how much of a repeated cooldown chance may take off it, from 0 to 1. Default: 0.1.
    ///
    /// The first cooldown is exact, and none is ever lengthened: whoever recovers is back within one cooldown, and yet
    /// many processes do not go on probing in step.
    #[must_use]
    pub fn cooldown_jitter(mut self, share: f64) -> Self {
        self.changed().jitter = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self
    }

    /// Sets how many different requests in a row may be called invalid before a [`Fallback`](crate::Fallback) further out asks the
    /// next tier whether it sees the mistake too. Default: 2, for most such requests are their callers' mistakes, and each that is put
    /// to another tier is one call more. 0: each is, so that nobody is ever told of a mistake that is only the provider's; from 20
    /// on, only those of a storm are, which opens the circuit.
    #[must_use]
    pub fn second_opinion_after(mut self, requests: u32) -> Self {
        self.changed().second_opinion_after = requests;
        self
    }

    /// Sets how many probes may be under way at once while half-open; 0 is taken as 1. Default: 1.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.changed().probes = NonZeroU32::new(probes).unwrap_or(NonZeroU32::MIN);
        self
    }

    /// Sets how many probes must succeed before the circuit closes; 0 is taken as 1. Default: 1. A single failed one opens
    /// it again.
    #[must_use]
    pub fn probe_successes(mut self, successes: u32) -> Self {
        self.changed().successes = NonZeroU32::new(successes).unwrap_or(NonZeroU32::MIN);
        self
    }

    /// Sets after how long a probe that has neither ended nor been dropped may be replaced by another. Default: the
    /// cooldown, but at least 60 s.
    #[must_use]
    pub fn probe_lease(mut self, lease: Duration) -> Self {
        self.changed().probe_lease = Some(lease);
        self
    }

    /// Sets after how long the circuit probes again that opened because the quota is used up or the key refused.
    /// Default: 60 s. Providers have sent such errors falsely for hours, and then recovered.
    #[must_use]
    pub fn latch(mut self, interval: Duration) -> Self {
        self.changed().latch = interval;
        self
    }

    /// Sets how the circuit finds out whether the quota is used up or the key refused, where a single call says so that may have
    /// brought it about itself: a 400, 403 or 404, or whatever 4xx names no error of the API. Default: it does not, and such a
    /// failure is its call's own.
    ///
    /// `service` is what the breaker stands around, or a clone of it; through the breaker itself the request would count. It gets
    /// `request` after such a call, at most once in 10 s and for at most 30 s, in a task of its own on tokio's runtime. Meanwhile all
    /// are let through. If the request fails in the same way, the circuit opens; if not, nothing has happened. A small one will do:
    /// `LlmRequest::prompt("ping").max_tokens(1)`, with a model where the leaf has none of its own. No layer around this one counts it,
    /// budgets included.
    #[must_use]
    pub fn confirm_with<S>(mut self, service: S, request: LlmRequest) -> Self
    where
        S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static,
    {
        self.changed();
        self.policy.confirm = Confirm::Asked(BoxLlmService::new(service), request);
        self
    }

    /// Believes every call that says the quota is used up or the key refused, and opens at once: for circuits whose callers are all
    /// trusted.
    #[must_use]
    pub fn without_confirmation(mut self) -> Self {
        self.changed();
        self.policy.confirm = Confirm::Believed;
        self
    }

    /// Sets the longest time for which a provider's own `Retry-After` or reset time closes it off. Default: 5 min.
    #[must_use]
    pub fn max_throttle(mut self, longest: Duration) -> Self {
        self.changed().max_throttle = longest;
        self
    }

    /// Keeps one circuit for each key that the function gives, such as the model, and at most `capacity` of them (at
    /// least 1): when there is no room for another, one that is closed is forgotten, the longest unused first. One that is open, or
    /// that somebody has forced, never is: where all are, calls of a new key pass through a circuit that nobody remembers.
    /// Default: one circuit for all. A call then takes a short lock, to look its circuit up.
    ///
    /// ```
    /// use steadfast::CircuitBreakerLayer;
    ///
    /// let layer = CircuitBreakerLayer::new("openai")
    ///     .keyed(|request| request.model().unwrap_or("default").into(), 100);
    /// assert!(layer.states().is_empty());
    /// ```
    #[must_use]
    pub fn keyed<F>(mut self, key: F, capacity: usize) -> Self
    where
        F: for<'a> Fn(&'a LlmRequest) -> Cow<'a, str> + Send + Sync + 'static,
    {
        self.changed();
        self.keyed = Some((Arc::new(key), capacity));
        self
    }

    /// Sets the table that says which errors count. Default: [`Classifier::default`].
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.changed();
        self.policy.classifier = classifier;
        self
    }

    /// Sets where changes of state are told. Default: a channel of its own, see
    /// [`CircuitBreakerHandle::subscribe`].
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.changed();
        self.policy.events = events;
        self
    }

    /// Sets the seed of the jitter, for tests and simulations. Default: a random one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.changed();
        self.seed = Some(seed);
        self
    }

    /// A handle of the circuit; of a [`keyed`](Self::keyed) layer, of the circuit whose key is empty.
    pub fn handle(&self) -> CircuitBreakerHandle {
        self.handle_for("")
    }

    /// A handle of the circuit of this key. A layer that is not [`keyed`](Self::keyed) has one for all keys.
    pub fn handle_for(&self, key: impl Into<Arc<str>>) -> CircuitBreakerHandle {
        CircuitBreakerHandle::new(self.shared().clone(), key.into(), self.policy.events.clone())
    }

    /// The keys of a [`keyed`](Self::keyed) layer that have a circuit, in no order, with its state. Empty if not keyed.
    pub fn states(&self) -> Vec<(Arc<str>, CircuitState)> {
        match &self.shared().circuits {
            Circuits::One(_) => Vec::new(),
            Circuits::Keyed(keyed) => keyed.states(),
        }
    }

    /// The settings, to change one. Whoever has made a service or a handle before keeps the circuit of then.
    fn changed(&mut self) -> &mut Settings {
        self.shared = Arc::default();
        &mut self.policy.settings
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            let policy = Arc::new(self.policy.clone());
            let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
            let circuits = match &self.keyed {
                None => Circuits::One(Lanes::new(NamedCircuit::new(self.name.clone(), policy, seed))),
                Some((key_of, capacity)) => {
                    Circuits::Keyed(Keyed::new(self.name.clone(), policy, seed, key_of.clone(), *capacity))
                }
            };
            Arc::new(Shared { circuits })
        })
    }
}

impl<S> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        CircuitBreaker::new(inner, self.shared().clone())
    }
}

impl fmt::Debug for CircuitBreakerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("name", &self.name)
            .field("settings", &self.policy.settings)
            .field("keyed", &self.keyed.is_some())
            .finish_non_exhaustive()
    }
}
