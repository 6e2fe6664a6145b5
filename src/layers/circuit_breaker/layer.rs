use std::{borrow::Cow, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use tower::{Layer, Service};

use super::{
    CircuitBreaker, CircuitBreakerHandle, Window,
    circuit::{Confirm, Policy},
    plan::Plan,
    settings::{Rule, Settings},
    shared::Circuits,
};
use crate::{
    BoxLlmService, Classifier, Events, LlmError, LlmRequest, LlmResponse, events::CircuitState, layers::draft::Draft,
};

/// Applies [`CircuitBreaker`]. See the [module docs](super).
///
/// All services of one layer share its circuit, and so do clones of the layer. A [`handle`](Self::handle) follows the
/// settings that come after it. A layer that is changed once it has wrapped a service, or beside a clone, has a circuit
/// of its own again.
#[derive(Clone)]
pub struct CircuitBreakerLayer {
    draft: Draft<Plan>,
}

impl CircuitBreakerLayer {
    /// Creates a layer whose circuit has this name, which its errors and events contain. It opens after 5
    /// failures in a row, and lets one probe through after each [`cooldown`](Self::cooldown).
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let policy = Policy {
            settings: Settings::default(),
            slow_after: None,
            abandoned_after: None,
            classifier: Classifier::default(),
            events: Events::default(),
            confirm: Confirm::default(),
        };
        Self { draft: Draft::new(Plan { name: name.into(), policy, keyed: None, seed: None }) }
    }

    /// Sets after how many failures in a row it opens; 0 disables the rule. Default: 5.
    ///
    /// Failures of one cause count once: calls that were under way together and failed within 60 ms, or with one
    /// connection. A call that waited ten seconds or more in vain counts as half of the number set here.
    ///
    /// Rate limits that come without a time to wait count as failures here: many in a row are an overload.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.draft.change(|plan| plan.policy.settings.consecutive_failures = NonZeroU32::new(failures));
        self
    }

    /// Opens if at least this share (0 to 1) of the calls in the window failed; a share outside of that is clamped.
    /// The rule is checked when a call fails. Default: no such rule.
    #[must_use]
    pub fn failure_rate(mut self, share: f64, window: Window) -> Self {
        self.draft.change(|plan| plan.policy.settings.failure_rate = Some(Rule::new(share, window)));
        self
    }

    /// Opens if at least this share (0 to 1) of the calls in the window took `after` or longer to their response
    /// (for a stream: to its first token). A slow probe is then a failed one. Default: no such rule.
    #[must_use]
    pub fn slow_calls(mut self, after: Duration, share: f64, window: Window) -> Self {
        self.draft.change(|plan| {
            plan.policy.settings.slow_rate = Some(Rule::new(share, window));
            plan.policy.slow_after = Some(after);
        });
        self
    }

    /// Counts a call as a failure if its caller leaves after this time or later, before anything came. Default:
    /// never, since a caller that leaves shows nothing about the provider. Use it for callers whose own limits of
    /// time this stack does not know.
    #[must_use]
    pub fn abandoned_after(mut self, time: Duration) -> Self {
        self.draft.change(|plan| plan.policy.abandoned_after = Some(time));
        self
    }

    /// Sets how long the circuit stays open before each probe.
    ///
    /// Default: 1, 2, 4 and then 8 s; at most 2 s if no connection could be made, since to try that costs the
    /// provider nothing. Once it has not been closed for more than six minutes, a fiftieth of that time, up to 60 s.
    ///
    /// After a call that waited in vain, at least twice as long as it waited, up to 60 s: each probe of a silent
    /// provider costs a caller its time. Streams that can go on to another model probe it after 10 s, and wait no
    /// longer than 10 s there.
    ///
    /// Where a [`Fallback`](crate::Fallback) has nowhere else to go, the circuit lets single calls through after 1, 2,
    /// 4 and then 8 s, whatever was set. If no connection could be made, it lets a hundred at once through after half a
    /// second: alone, each of their callers would try too.
    #[must_use]
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.draft.change(|plan| plan.policy.settings.cooldown = Some(cooldown));
        self
    }

    /// Sets the factor from one cooldown to the next while probes fail, and the longest cooldown (not less than the
    /// first). A factor below 1 counts as 1. It starts again after a recovery. Default: no growth of a
    /// [`cooldown`](Self::cooldown) that was set. The first is a second if none was.
    #[must_use]
    pub fn cooldown_growth(mut self, factor: f64, longest: Duration) -> Self {
        self.draft.change(|plan| plan.policy.settings.growth = Some((factor.max(1.0), longest)));
        self
    }

    /// Sets the share of a repeated cooldown that chance may take off, from 0 to 1. Default: 0.1.
    ///
    /// The first cooldown is exact, and none is ever lengthened. A provider that recovers is thus back within one
    /// cooldown, and many processes still do not go on probing in step.
    #[must_use]
    pub fn cooldown_jitter(mut self, share: f64) -> Self {
        self.draft
            .change(|plan| plan.policy.settings.jitter = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) });
        self
    }

    /// Sets how many different requests in a row may be called invalid before a [`Fallback`](crate::Fallback)
    /// further out asks the next tier for a second opinion. Default: 2, since most such requests are their callers'
    /// mistakes, and each second opinion is one more call. With 0 each gets one, so that no caller gets an error
    /// that is only the provider's. From 20 on only those of a storm do, which opens the circuit.
    #[must_use]
    pub fn second_opinion_after(mut self, requests: u32) -> Self {
        self.draft.change(|plan| plan.policy.settings.second_opinion_after = requests);
        self
    }

    /// Sets how many probes may be under way at once while half-open; 0 counts as 1. Default: 1.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.draft.change(|plan| plan.policy.settings.probes = NonZeroU32::new(probes).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Sets how many probes must succeed before the circuit closes; 0 counts as 1. Default: 1. A single failed one
    /// opens it again.
    #[must_use]
    pub fn probe_successes(mut self, successes: u32) -> Self {
        self.draft
            .change(|plan| plan.policy.settings.successes = NonZeroU32::new(successes).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Sets after how long a probe that has neither ended nor been dropped may be replaced by another. Default: the
    /// cooldown, but at least 60 s.
    #[must_use]
    pub fn probe_lease(mut self, lease: Duration) -> Self {
        self.draft.change(|plan| plan.policy.settings.probe_lease = Some(lease));
        self
    }

    /// Sets after how long the circuit probes again if it opened because the quota is used up or the key rejected.
    /// Default: 60 s. Providers have sent such errors falsely for hours, and then recovered.
    #[must_use]
    pub fn latch(mut self, interval: Duration) -> Self {
        self.draft.change(|plan| plan.policy.settings.latch = interval);
        self
    }

    /// Sets a probe that confirms a used-up quota or a rejected key, if a single call reports it, which may have
    /// caused it itself. Default: none. Then a 401, 402 or 429 that names its error waits for another call that meets
    /// the same, and any other 4xx counts only for its call.
    ///
    /// `service` is the service that the breaker wraps, or a clone of it; through the breaker itself the request
    /// would count. It gets `request` after such a call, at most once in 10 s and for at most 30 s, in a task of
    /// its own on tokio's runtime. Meanwhile all calls are admitted. If the request fails in the same way, the
    /// circuit opens; otherwise nothing changes. A small request suffices:
    /// `LlmRequest::prompt("ping").with_max_tokens(1)`, with a model if the leaf has none of its own. No layer around
    /// this one counts it, budgets included.
    #[must_use]
    pub fn confirm_with<S>(mut self, service: S, request: LlmRequest) -> Self
    where
        S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static,
    {
        self.draft.change(|plan| plan.policy.confirm = Confirm::Asked(BoxLlmService::new(service), request));
        self
    }

    /// Opens at once on every call that reports a used-up quota or a rejected key: for circuits whose callers are
    /// all trusted.
    #[must_use]
    pub fn without_confirmation(mut self) -> Self {
        self.draft.change(|plan| plan.policy.confirm = Confirm::Believed);
        self
    }

    /// Sets the longest time for which a provider's own `Retry-After` or reset time closes it off. Default: 5 min.
    #[must_use]
    pub fn max_throttle(mut self, longest: Duration) -> Self {
        self.draft.change(|plan| plan.policy.settings.max_throttle = longest);
        self
    }

    /// Keeps one circuit for each key that the function returns, such as the model, and at most `capacity` of them
    /// (at least 1). Without room for another, the layer forgets a closed one, the least recently used first. It
    /// never forgets an open or forced one: if all are, calls of a new key pass through a temporary circuit.
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
        self.draft.change(|plan| plan.keyed = Some((Arc::new(key), capacity)));
        self
    }

    /// Sets the table that decides which errors count. Default: [`Classifier::default`].
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.draft.change(|plan| plan.policy.classifier = classifier);
        self
    }

    /// Sets where changes of state are sent. Default: a channel of its own, see
    /// [`CircuitBreakerHandle::subscribe`].
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.draft.change(|plan| plan.policy.events = events);
        self
    }

    /// Sets the seed of the jitter, for tests and simulations. Default: a random one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.draft.change(|plan| plan.seed = Some(seed));
        self
    }

    /// Returns a handle of the circuit; of a [`keyed`](Self::keyed) layer, of the circuit whose key is empty.
    pub fn handle(&self) -> CircuitBreakerHandle {
        self.handle_for("")
    }

    /// Returns a handle of the circuit of this key. A layer that is not [`keyed`](Self::keyed) has one for all
    /// keys.
    pub fn handle_for(&self, key: impl Into<Arc<str>>) -> CircuitBreakerHandle {
        CircuitBreakerHandle::new(self.draft.view(), key.into())
    }

    /// Returns the keys of a [`keyed`](Self::keyed) layer that have a circuit, in no order, with its state. Empty
    /// if not keyed.
    pub fn states(&self) -> Vec<(Arc<str>, CircuitState)> {
        match &self.draft.view().state().circuits {
            Circuits::One(_) => Vec::new(),
            Circuits::Keyed(keyed) => keyed.states(),
        }
    }
}

impl<S> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        CircuitBreaker::new(inner, self.draft.settle())
    }
}

impl fmt::Debug for CircuitBreakerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { name, policy, keyed, .. } = &*self.draft.plan();
        f.debug_struct("CircuitBreakerLayer")
            .field("name", name)
            .field("policy", policy)
            .field("keyed", &keyed.is_some())
            .finish_non_exhaustive()
    }
}
