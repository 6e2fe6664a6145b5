use std::{fmt, sync::Arc, time::Duration};

use tower::Layer;

use super::{
    Balance, BalanceHandle, Deployments, HeadroomStore,
    exchange::Sharing,
    settings::{MAX_EJECTED, Settings},
    shared::Known,
};
use crate::{Classifier, InvalidConfig, RetryBudget};

/// Applies [`Balance`] to [`Deployments`]. See the [module docs](super).
///
/// Each service that it makes has deployments of its own, and so a handle of its own: [`Balance::handle`].
#[derive(Clone)]
pub struct BalanceLayer {
    settings: Settings,
    known: Option<Known>,
}

impl BalanceLayer {
    /// Creates a balancer with the default settings.
    pub fn new() -> Self {
        Self { settings: Settings::default(), known: None }
    }

    /// Sends requests that share a prefix to one deployment, whose provider has the prefix in its cache. Default: yes.
    #[must_use]
    pub fn affinity(mut self, affinity: bool) -> Self {
        self.settings.affinity = affinity;
        self
    }

    /// Prefers the deployments of this [zone](super::Deployment::zone) while they serve, and until they cost twice as
    /// much as others. Default: no zone.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.settings.zone = Some(zone.into());
        self
    }

    /// Sets the largest share of the deployments that open circuits may close off at once. Beyond it, requests pass a
    /// circuit that opened later than the others. That needs the deployments'
    /// [circuits](super::Deployment::circuit). Default: 1, all of them: then the request fails at once, and a
    /// fallback's next tier answers.
    ///
    /// A share that is not between 0 and 1 is an error of [`checked`](Self::checked). Unchecked, the default counts.
    #[must_use]
    pub fn max_ejected(mut self, share: f64) -> Self {
        self.settings.max_ejected = share;
        self
    }

    /// Returns the layer if all that it was told is valid.
    ///
    /// # Errors
    ///
    /// Fails if the largest [share](Self::max_ejected) that may be closed off is out of its range.
    pub fn checked(self) -> Result<Self, InvalidConfig> {
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let share = self.settings.max_ejected;
        if (0.0..=1.0).contains(&share) {
            return Ok(());
        }
        let problem = format!("{share} is no share; use a number from 0 to 1, such as 0.5");
        Err(InvalidConfig::new("balance max_ejected", problem))
    }

    /// Sets the time in which a deployment that comes back, or is new, gets its share by and by, from a tenth on.
    /// Default: 30 seconds. Zero gives it its whole share at once.
    #[must_use]
    pub fn slow_start(mut self, time: Duration) -> Self {
        self.settings.slow_start = time;
        self
    }

    /// Sets the table that decides which failures another deployment can help with. Default: the crate's.
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.settings.classifier = classifier;
        self
    }

    /// Sets the retry budget for calls to further deployments. A call after a refusal on this side costs none. Default:
    /// unlimited, since a circuit in each deployment has the same effect sooner.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.settings.budget = budget;
        self
    }

    /// Shares the deployments' [declared](super::Deployment::tokens_per_minute) limits with other replicas, in a store.
    /// `tier` names this balancer in it, the same in every replica. A limit that the provider's own headers report
    /// needs no sharing. No request waits for the store, and without it each replica goes on by itself. Default: none.
    #[must_use]
    pub fn shared_headroom(mut self, tier: impl Into<Arc<str>>, store: impl HeadroomStore) -> Self {
        self.settings.sharing = Some(Sharing { tier: tier.into(), store: Arc::new(store) });
        self
    }

    /// Makes the draws follow from a seed, for tests. Default: random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Takes over what another balancer knows of the deployments of the same names, and goes on with it: both may run
    /// at once. For a reload with other settings; [`BalanceHandle::set`] changes the deployments alone.
    #[must_use]
    pub fn state<S>(mut self, handle: &BalanceHandle<S>) -> Self {
        self.known = Some(handle.shared.known());
        self
    }
}

impl Default for BalanceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<Deployments<S>> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, deployments: Deployments<S>) -> Balance<S> {
        let mut settings = self.settings.clone();
        if let Err(invalid) = self.check() {
            tracing::error!(%invalid, "a balancer takes the default instead");
            settings.max_ejected = MAX_EJECTED;
        }
        Balance::new(deployments.0, settings, self.known.as_ref())
    }
}

impl fmt::Debug for BalanceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceLayer").field("settings", &self.settings).finish_non_exhaustive()
    }
}
