use std::{collections::BTreeMap, fmt, sync::Arc};

use tokio::time::Instant;

use super::orders::{OrderSnapshot, Orders};
use crate::{
    Event, Events,
    events::Operation,
    layers::draft::{Plan, View},
    request::{BEST_LEVEL, WORST_LEVEL},
};

/// A handle that steers a fallback by hand: it drains tiers, and pins the level of service. Clones are the same
/// handle.
///
/// [`FallbackLayer::handle`](crate::FallbackLayer::handle) creates it. Or create it first and give it to [several
/// fallbacks](crate::FallbackLayer::steered_by), which then follow the same orders. [`Event::Operated`] reports
/// each order once, if it changes anything. Orders are kept in memory: a process that starts again has none.
///
/// A forced state of a [circuit](crate::CircuitBreakerHandle::force_open) is separate: it concerns a provider that
/// fails or works, and a fallback only sees the circuit's refusals.
///
/// # Draining
///
/// A drained tier takes no new requests, whatever its circuit's state and even if it is the [last
/// resort](crate::layers::fallback::Tier::last_resort). Requests under way there end as they would, their retries
/// included; a request that fails over meanwhile passes it. It costs no attempt, and the record says `sonnet: is
/// drained by hand; not asked`. A request whose session is [pinned](crate::layers::fallback::SessionPolicy::Pin) to it
/// fails clearly, since such a session may not switch. If every tier that could serve a request is drained, it fails at
/// once with [`ErrorKind::OutOfService`](crate::ErrorKind::OutOfService), and [`Event::AllTiersFailed`] reports it.
///
/// # Levels
///
/// A pinned level steps requests down as a budget can. Tiers of a [better level](crate::layers::fallback::Tier::level)
/// are skipped, and serve only if no tier further down answers, unless the feature [stays
/// down](crate::layers::fallback::FeaturePolicy::stays_down). A feature's own pin overrides the pin for all, so that
/// level 1 exempts the feature.
///
/// While the primary is drained, or the pin for all excludes it, another tier serves. One [`Event::ModelSwitched`]
/// reports that, and one [`Event::ModelRecovered`] its return.
///
/// # Example
///
/// ```
/// use steadfast::{FallbackLayer, LlmRequest, layers::fallback::Tier, providers::Canned};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let fallback = FallbackLayer::new("sonnet")
///     .push(Tier::new("haiku", Canned::text("in short")).level(2))
///     .push(Tier::new("sorry", Canned::text("later")).level(5));
/// let steer = fallback.handle();
/// let llm = ServiceBuilder::new().layer(fallback).service(Canned::text("at length"));
/// let served = async || {
///     let answer = llm.clone().oneshot(LlmRequest::prompt("Why?").with_feature("chat")).await.unwrap();
///     answer.served_by().tier.unwrap().to_owned()
/// };
///
/// steer.acting_as("ana").drain("sonnet");
/// assert_eq!(served().await, "haiku");
/// steer.pin_feature_level("chat", Some(5));
/// assert_eq!(served().await, "sorry");
/// steer.undrain("sonnet");
/// steer.pin_feature_level("chat", None);
/// assert_eq!(served().await, "sonnet");
/// # }
/// ```
#[derive(Clone)]
pub struct FallbackHandle {
    view: View<Steering>,
    by: Option<Arc<str>>,
}

/// The orders that a handle gives, and where it reports them.
#[derive(Clone, Default)]
pub(crate) struct Steering {
    pub(crate) orders: Arc<Orders>,
    pub(crate) events: Option<Events>,
}

impl Plan for Steering {
    type State = Self;

    fn make(self: &Arc<Self>, _: Option<&Self>) -> Arc<Self> {
        self.clone()
    }
}

impl FallbackHandle {
    /// Creates a handle of orders that no fallback follows yet, reported on this channel.
    pub fn new(events: Events) -> Self {
        let steering = Steering { orders: Arc::default(), events: Some(events) };
        Self { view: View::Settled(Arc::new(steering)), by: None }
    }

    pub(crate) fn of(view: View<Steering>) -> Self {
        Self { view, by: None }
    }

    pub(crate) fn orders(&self) -> Arc<Orders> {
        self.view.look(|steering| steering.orders.clone())
    }

    /// Returns the handle for an operator of this name, which appears in the events of its orders. Default: no
    /// name.
    #[must_use]
    pub fn acting_as(&self, who: impl Into<Arc<str>>) -> Self {
        Self { by: Some(who.into()), ..self.clone() }
    }

    /// Stops new requests to a tier. Returns whether that is new. A name of no tier has no effect.
    pub fn drain(&self, tier: impl Into<Arc<str>>) -> bool {
        let tier = tier.into();
        self.change(|orders| orders.drained.insert(tier.clone()), || Operation::TierDrained { tier: tier.clone() })
    }

    /// Lets a tier take requests again. Returns whether that is new.
    pub fn undrain(&self, tier: &str) -> bool {
        self.change(|orders| orders.drained.remove(tier), || Operation::TierUndrained { tier: tier.into() })
    }

    /// Returns the names of the tiers that are drained.
    pub fn drained(&self) -> Vec<Arc<str>> {
        self.orders().current().drained.iter().cloned().collect()
    }

    /// Returns whether a tier is drained.
    pub fn is_drained(&self, tier: &str) -> bool {
        self.orders().current().drained.contains(tier)
    }

    /// Steps all requests down to tiers of this level of service, from 1 to 5, or a worse one; `None`, or 1, ends
    /// it. Returns whether that is new. Default: `None`.
    pub fn pin_level(&self, level: Option<u8>) -> bool {
        let level = level.map(clamped).filter(|level| *level > BEST_LEVEL);
        let operation = || match level {
            Some(level) => Operation::LevelPinned { level, feature: None },
            None => Operation::LevelUnpinned { feature: None },
        };
        self.change(|orders| std::mem::replace(&mut orders.level, level) != level, operation)
    }

    /// Returns the level that all requests are stepped down to.
    pub fn pinned_level(&self) -> Option<u8> {
        self.orders().current().level
    }

    /// Pins the level for the requests of one feature, and overrides the [pin](Self::pin_level) for all: level 1
    /// exempts the feature. `None` ends it.
    pub fn pin_feature_level(&self, feature: impl Into<Arc<str>>, level: Option<u8>) -> bool {
        let (feature, level) = (feature.into(), level.map(clamped));
        let change = |orders: &mut OrderSnapshot| match level {
            Some(level) => orders.features.insert(feature.clone(), level) != Some(level),
            None => orders.features.remove(&feature).is_some(),
        };
        let operation = || match level {
            Some(level) => Operation::LevelPinned { level, feature: Some(feature.clone()) },
            None => Operation::LevelUnpinned { feature: Some(feature.clone()) },
        };
        self.change(change, operation)
    }

    /// Returns the levels of features with a pin of their own.
    pub fn pinned_features(&self) -> BTreeMap<Arc<str>, u8> {
        self.orders().current().features.clone()
    }

    /// Forgets, without a report, the drains of tiers that no longer exist: a later tier of the same name must not
    /// inherit them.
    pub fn forget_all_but(&self, is_there: impl Fn(&str) -> bool) {
        self.orders().change(|orders| orders.drained.retain(|tier| is_there(tier)));
    }

    fn change(&self, change: impl FnOnce(&mut OrderSnapshot) -> bool, operation: impl FnOnce() -> Operation) -> bool {
        let steering = self.view.state();
        let changed = steering.orders.change(change);
        if changed && let Some(events) = &steering.events {
            let by = self.by.clone();
            events.send_with(|| Event::Operated { operation: operation(), by, at: Instant::now() });
        }
        changed
    }
}

fn clamped(level: u8) -> u8 {
    level.clamp(BEST_LEVEL, WORST_LEVEL)
}

impl Default for FallbackHandle {
    fn default() -> Self {
        Self { view: View::Settled(Arc::default()), by: None }
    }
}

impl fmt::Debug for FallbackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OrderSnapshot { drained, level, features } = &*self.orders().current();
        f.debug_struct("FallbackHandle")
            .field("drained", drained)
            .field("level", level)
            .field("features", features)
            .finish_non_exhaustive()
    }
}
