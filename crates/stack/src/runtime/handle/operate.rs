//! Manual control of a running stack.
//!
//! An operator's orders are in two places, by their object. A circuit's force is in its state machine, under a
//! generation of its own like every other change. Drained tiers and pinned levels are in the `Orders` that fallbacks
//! follow (`layers/fallback/serve/orders.rs`). A request reads one flag of them; only where it is set does the
//! fallback look closer, and it finds tiers out of service as it finds tiers that lack something. A stack has one
//! `Orders` for all of its chains and generations, so that a reload has nothing to hand on. `StackHandle` and the
//! gateway's admin API only pass on.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use super::StackHandle;
use steadfast::{Event, FallbackHandle, InvalidConfig, events::Operation};

/// # By hand
///
/// An operator can force a tier's circuit, drain a tier and pin a level of service. `TIER/DEPLOYMENT` names a
/// deployment, whose circuit is forced and which is drained like a tier. Each order applies from the next
/// request on until it is withdrawn; requests in flight are not affected.
/// [`Event::Operated`](steadfast::Event::Operated) reports each order once, with its [actor](Self::acting_as), and
/// [`status`](Self::status) shows it.
///
/// **Over reloads**, drains and pins remain. A drain refers to a tier's name, so that a tier can be drained, changed
/// in the file and then put back; it ends when a reload removes the tier. The same holds for a deployment. A forced
/// circuit lasts as long as the circuit: as long as reloads leave the tier's leaf and its circuit breaker's settings
/// unchanged. A changed tier has
/// a new circuit, which is not forced. **A restarted process** has lost all orders: put permanent ones into the file.
/// The gateway keeps its operators' orders in the durable store, if the file has one.
///
/// ```
/// use steadfast::LlmRequest;
/// use steadfast_stack::{Stack, Config, Format};
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
    /// Opens a tier's circuit until it is [released](Self::release): see
    /// [`CircuitBreakerHandle::force_open`](steadfast::CircuitBreakerHandle::force_open). Returns whether that is a
    /// change.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn force_open(&self, tier: &str) -> Result<bool, InvalidConfig> {
        Ok(self.circuit(tier).ok_or_else(|| self.no_such(tier))?.force_open())
    }

    /// Closes a tier's circuit until it is [released](Self::release), whatever the results of its calls: see
    /// [`CircuitBreakerHandle::force_close`](steadfast::CircuitBreakerHandle::force_close). Returns whether that is a
    /// change.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn force_close(&self, tier: &str) -> Result<bool, InvalidConfig> {
        Ok(self.circuit(tier).ok_or_else(|| self.no_such(tier))?.force_close())
    }

    /// Returns a tier's circuit to automatic control: see
    /// [`CircuitBreakerHandle::release`](steadfast::CircuitBreakerHandle::release). Returns whether it was forced.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn release(&self, tier: &str) -> Result<bool, InvalidConfig> {
        Ok(self.circuit(tier).ok_or_else(|| self.no_such(tier))?.release())
    }

    /// Stops new requests to a tier, including those of cheaper chains: see [`FallbackHandle`]. Returns whether that is
    /// a change. [`CircuitBreakerHandle::in_flight`](steadfast::CircuitBreakerHandle::in_flight) returns how many calls
    /// are still in flight there.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn drain(&self, tier: &str) -> Result<bool, InvalidConfig> {
        // Locked, so that no reload is between its new tiers and its cleanup of removed ones.
        let _reload = self.shared.lock_reload();
        match self.set_drained(tier, true) {
            Some(changed) => Ok(changed),
            None => Ok(self.fallback().drain(self.name(tier)?)),
        }
    }

    /// Lets a tier take requests again. Returns whether that is a change.
    ///
    /// # Errors
    ///
    /// No tier has this name.
    pub fn undrain(&self, tier: &str) -> Result<bool, InvalidConfig> {
        match self.set_drained(tier, false) {
            Some(changed) => Ok(changed),
            None => Ok(self.fallback().undrain(&self.name(tier)?)),
        }
    }

    /// Drains a deployment, or ends that. `None` if no deployment has this name, or a tier has it.
    fn set_drained(&self, name: &str, drained: bool) -> Option<bool> {
        let current = self.shared.current.load();
        if current.tiers.get(name).is_some() {
            return None;
        }
        let (tier, deployment) = current.tiers.deployment(name)?;
        let changed = tier.set_drained(deployment, drained)?;
        if changed {
            let (tier, deployment) = name.rsplit_once('/').map(|(tier, own)| (tier.into(), own.into()))?;
            let operation = match drained {
                true => Operation::DeploymentDrained { tier, deployment },
                false => Operation::DeploymentUndrained { tier, deployment },
            };
            self.events().send(Event::Operated { operation, by: self.by.clone(), at: Instant::now() });
        }
        Some(changed)
    }

    /// Returns the names of the drained tiers.
    pub fn drained(&self) -> Vec<Arc<str>> {
        self.fallback().drained()
    }

    /// Steps all requests down to tiers of this level of service, from 1 to 5, or a worse one; `None` ends it. Returns
    /// whether that is a change. It applies from the next request on, and over reloads. Default: `None`.
    ///
    /// As with any [step-down](steadfast::Context::min_level), a better tier serves if no lower one answers, so the pin
    /// has no effect without a tier of that level or a worse one.
    pub fn pin_level(&self, level: Option<u8>) -> bool {
        self.fallback().pin_level(level)
    }

    /// Returns the level that all requests are stepped down to.
    pub fn pinned_level(&self) -> Option<u8> {
        self.fallback().pinned_level()
    }

    /// Works like [`pin_level`](Self::pin_level) for the requests of one feature, and takes precedence over the
    /// general pin: level 1 exempts the feature from it. The configuration need not name the feature. `None` ends it.
    pub fn pin_feature_level(&self, feature: impl Into<Arc<str>>, level: Option<u8>) -> bool {
        self.fallback().pin_feature_level(feature, level)
    }

    /// Returns the levels that are pinned for single features.
    pub fn pinned_features(&self) -> BTreeMap<Arc<str>, u8> {
        self.fallback().pinned_features()
    }

    /// Returns the handle that drains tiers and pins levels, in every chain of the stack and over its reloads.
    pub fn fallback(&self) -> FallbackHandle {
        let handle = &self.shared.context.fallback;
        self.by.as_ref().map_or_else(|| handle.clone(), |who| handle.acting_as(who.clone()))
    }

    /// Returns a tier's name from the configuration.
    fn name(&self, tier: &str) -> Result<Arc<str>, InvalidConfig> {
        let known = self.tiers().into_iter().map(|tier| tier.name).find(|name| **name == *tier);
        known.ok_or_else(|| self.no_such(tier))
    }

    fn no_such(&self, tier: &str) -> InvalidConfig {
        let tiers = self.tiers();
        let names: Vec<&str> = tiers.iter().map(|tier| &*tier.name).collect();
        let problem = match tier.rsplit_once('/').map(|(of, _)| (of, self.deployments(of))) {
            Some((of, deployments)) if !deployments.is_empty() => {
                let names: Vec<&str> = deployments.iter().map(|it| &*it.status.name).collect();
                format!("no deployment is named `{tier}`; those of `{of}` are {}", names.join(", "))
            }
            _ => format!("no tier is named `{tier}`; there are {}", names.join(", ")),
        };
        InvalidConfig::new("tier", problem)
    }
}
