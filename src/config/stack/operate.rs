//! What an operator does to a running stack by hand.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;
use tower::BoxError;

use super::StackHandle;
use crate::{
    CacheHandle, Event, FallbackHandle, InvalidConfig,
    events::{CacheStatus, CircuitState, Operation, Status},
    layers::cache::{AnswerOwner, CacheStats},
    wall_clock,
};

/// # By hand
///
/// An operator can force a tier's circuit, drain a tier and pin a level of service. Each order holds from the next request
/// on and until it is taken back; requests under way end where they are. Each is told once, by
/// [`Event::Operated`](crate::Event::Operated), with [who](Self::acting_as) gave it, and shows in
/// [`status`](Self::status).
///
/// **Over reloads** drains and pins go on. A drain is of a tier's name, so that a tier can be drained, changed in the file
/// and then put back; it ends when a reload takes the tier away. A forced circuit goes on as long as the circuit does, which
/// is where a reload leaves the tier's leaf and its circuit breaker's settings as they are; a changed tier has a new
/// circuit, which nobody has forced. **A process that starts again** has forgotten all of it: what is to last belongs into
/// the file.
///
/// ```
/// use steadfast::{LlmRequest, Stack, config::{Config, Format}};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file = "tiers: [{ name: sonnet, provider: simulated }, { name: sorry, provider: canned, text: Later. }]";
/// let stack = Stack::from_config(Config::from_str(file, Format::Yaml)?)?;
/// let operator = stack.handle().acting_as("ana");
///
/// operator.drain("sonnet")?;
/// let answer = stack.service().oneshot(LlmRequest::prompt("Why?")).await?;
/// assert_eq!(answer.served_by().tier, Some("sorry"));
/// assert_eq!(answer.attempts()[0].to_string(), "sonnet: is drained by hand; not asked");
/// assert!(operator.status().tiers[0].drained);
///
/// operator.undrain("sonnet")?;
/// operator.force_open("sonnet")?;
/// assert_eq!(operator.status().tiers[0].forced, Some("open"));
/// operator.release("sonnet")?; // one request shows whether the provider is well
/// # Ok(()) }
/// ```
impl StackHandle {
    /// The same handle in the hands of somebody, who is named where it is told what was done by hand; so are the circuits
    /// and the [`fallback`](Self::fallback) that are looked up through it. Default: nobody is named.
    #[must_use]
    pub fn acting_as(&self, who: impl Into<Arc<str>>) -> Self {
        Self { by: Some(who.into()), ..self.clone() }
    }

    /// Who acts through this handle, where it was said.
    pub fn actor(&self) -> Option<&str> {
        self.by.as_deref()
    }

    /// Opens a tier's circuit until it is [released](Self::release): see
    /// [`CircuitBreakerHandle::force_open`](crate::CircuitBreakerHandle::force_open). Gives whether that is new.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn force_open(&self, tier: &str) -> Result<bool, InvalidConfig> {
        Ok(self.circuit(tier).ok_or_else(|| self.no_such(tier))?.force_open())
    }

    /// Closes a tier's circuit until it is [released](Self::release), whatever its calls come to: see
    /// [`CircuitBreakerHandle::force_close`](crate::CircuitBreakerHandle::force_close). Gives whether that is new.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn force_close(&self, tier: &str) -> Result<bool, InvalidConfig> {
        Ok(self.circuit(tier).ok_or_else(|| self.no_such(tier))?.force_close())
    }

    /// Lets a tier's circuit judge by itself again: see
    /// [`CircuitBreakerHandle::release`](crate::CircuitBreakerHandle::release). Gives whether it was forced.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn release(&self, tier: &str) -> Result<bool, InvalidConfig> {
        Ok(self.circuit(tier).ok_or_else(|| self.no_such(tier))?.release())
    }

    /// Sends no more new requests to a tier, those of a cheaper chain included: see [`FallbackHandle`]. Gives whether that
    /// is new. How many calls are still under way there,
    /// [`CircuitBreakerHandle::in_flight`](crate::CircuitBreakerHandle::in_flight) says.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn drain(&self, tier: &str) -> Result<bool, InvalidConfig> {
        // Not between a reload's new tiers and its forgetting of those that are gone.
        let _reload = self.shared.lock_reload();
        Ok(self.fallback().drain(self.name(tier)?))
    }

    /// Lets a tier take requests again. Gives whether that is new.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn undrain(&self, tier: &str) -> Result<bool, InvalidConfig> {
        Ok(self.fallback().undrain(&self.name(tier)?))
    }

    /// The tiers that are drained, by name.
    pub fn drained(&self) -> Vec<Arc<str>> {
        self.fallback().drained()
    }

    /// Steps all requests down to tiers of this level of service, from 1 to 5, or a worse one; `None` ends it. Gives
    /// whether that is new. From the next request on, and over reloads. Default: `None`.
    ///
    /// As with any [step-down](crate::Context::min_level), a better tier serves where nothing answers further down; so it
    /// changes nothing where no tier is of that level or a worse one.
    pub fn pin_level(&self, level: Option<u8>) -> bool {
        self.fallback().pin_level(level)
    }

    /// The level that all requests are stepped down to.
    pub fn pinned_level(&self) -> Option<u8> {
        self.fallback().pinned_level()
    }

    /// As [`pin_level`](Self::pin_level), for the requests of one feature, and before what is pinned for all: level 1 keeps
    /// the feature out of that. The configuration need not name the feature. `None` ends it.
    pub fn pin_feature_level(&self, feature: impl Into<Arc<str>>, level: Option<u8>) -> bool {
        self.fallback().pin_feature_level(feature, level)
    }

    /// The levels that features have pinned for themselves.
    pub fn pinned_features(&self) -> BTreeMap<Arc<str>, u8> {
        self.fallback().pinned_features()
    }

    /// Forgets the answers that the [cache](Self::cache) has kept: all, or those of one feature, such as after what they say has
    /// become wrong. What is under way is kept when it is there. Gives how many it had before and how many it has now; `None`
    /// where the configuration has no `cache`. A store that replicas share forgets for all of them.
    pub fn forget_answers(&self, feature: Option<&str>) -> Option<(usize, usize)> {
        let cache = self.cache()?;
        let before = cache.len();
        match feature {
            None => cache.clear(),
            Some(feature) => cache.invalidate(feature),
        }
        let operation = Operation::AnswersForgotten { feature: feature.map(Into::into) };
        self.events().send(Event::Operated { operation, by: self.by.clone(), at: Instant::now() });
        Some((before, cache.len()))
    }

    /// Forgets the answers that were made for a tenant (a gateway's key, by name) or a session: those of the
    /// [cache](Self::cache), and those under idempotency keys. What is under way is kept when it is there. Says how many of those
    /// under keys there were; of the cache's a store may not know, and may need a moment. Tasks for people are the
    /// [desk's](crate::handoff::Desk::forget).
    ///
    /// # Errors
    ///
    /// The store of the keys could not do it, or not for all. What the cache has is forgotten all the same.
    pub async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, BoxError> {
        if let Some(cache) = self.cache() {
            cache.forget_owner(owner);
        }
        let AnswerOwner { tenant, session, .. } = owner.clone();
        let operation = Operation::OwnerForgotten { tenant, session };
        self.events().send(Event::Operated { operation, by: self.by.clone(), at: Instant::now() });
        match self.idempotency() {
            Some(keys) => keys.forget_owner(owner).await,
            None => Ok(0),
        }
    }

    /// Removes what is over from where answers under idempotency keys are kept: it happens with requests too, and this is for
    /// when there are none. Call it now and then, such as every 10 minutes. Tasks for people go by
    /// [`hand_over`](Self::hand_over).
    ///
    /// # Errors
    ///
    /// The store could not do it.
    pub async fn sweep(&self) -> Result<(), BoxError> {
        match self.idempotency() {
            Some(keys) => keys.sweep().await,
            None => Ok(()),
        }
    }

    /// What drains tiers and pins levels, in every chain of the stack and over its reloads.
    pub fn fallback(&self) -> FallbackHandle {
        let handle = &self.shared.context.fallback;
        self.by.as_ref().map_or_else(|| handle.clone(), |who| handle.acting_as(who.clone()))
    }

    /// The name of a tier, as the configuration has it.
    fn name(&self, tier: &str) -> Result<Arc<str>, InvalidConfig> {
        let known = self.tiers().into_iter().map(|tier| tier.name).find(|name| **name == *tier);
        known.ok_or_else(|| self.no_such(tier))
    }

    fn no_such(&self, tier: &str) -> InvalidConfig {
        let tiers = self.tiers();
        let names: Vec<&str> = tiers.iter().map(|tier| &*tier.name).collect();
        InvalidConfig::new("tier", format!("no tier is named `{tier}`; there are {}", names.join(", ")))
    }

    /// What the tiers' models are, what was done by hand, when circuits look again and what the cache came to, from where it is
    /// known: events may have been lost, or sent before anybody listened.
    pub(super) fn add_orders(&self, status: &mut Status) {
        let orders = self.fallback();
        status.pinned_level = orders.pinned_level();
        status.cache = self.cache().map(|cache| of_cache(&cache));
        let drained = orders.drained();
        for tier in self.tiers() {
            let Some(model) = tier.model else { continue };
            for (of, id) in
                [(&status.active_tier, &mut status.active_model), (&status.primary_tier, &mut status.primary_model)]
            {
                if *of == *tier.name {
                    *id = model.as_ref().into();
                }
            }
            if let Some(shown) = status.tiers.iter_mut().find(|shown| *shown.name == *tier.name) {
                shown.model = Some(model.as_ref().into());
            }
        }
        let (now, since_1970) = (Instant::now(), wall_clock::since_1970());
        for (name, circuit) in self.shared.current.load().circuits() {
            let Some(tier) = status.tiers.iter_mut().find(|tier| *tier.name == *name) else { continue };
            tier.drained = drained.contains(&name);
            tier.forced = circuit.forced().map(CircuitState::name);
            let until = circuit.earliest_probe().filter(|_| circuit.state() == CircuitState::Open);
            tier.circuit_until = until.map(|at| wall_clock::rfc3339(since_1970 + at.saturating_duration_since(now)));
        }
    }
}

fn of_cache(cache: &CacheHandle) -> CacheStatus {
    let CacheStats { hits, misses, passed_by: bypassed, stale, shared, similar, .. } = cache.stats();
    CacheStatus { answers: cache.len(), bytes: cache.bytes(), hits, shared, misses, bypassed, stale, similar }
}
