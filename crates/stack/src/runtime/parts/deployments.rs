//! The deployments of a tier: a balancer in the place of the tier's leaf.
//!
//! Each deployment has a circuit, limits of time and a leaf of its own, with the tier's settings. The tier's own
//! circuit stays closed unless an operator forces it: the deployments' circuits judge, and the balancer refuses at once
//! if none of them admits a request. A reload makes a balancer of the new settings over the state of the old one, so
//! that both know the same requests in flight, and keeps the leaf and the circuit of each unchanged deployment.

use std::sync::Arc;

use tower::{Layer, ServiceBuilder};

use super::{
    context::StackContext,
    headroom::SharedHeadroom,
    leaf::Leaf,
    leaf_plan::LeafPlan,
    resume::{Resume, ResumeLayer},
    settings,
};
use crate::{
    Balance, CircuitBreaker as BreakerSettings, Config, OnError, Tier, TierTimeout, Timeout as Limits, classifier,
};
use steadfast::{
    BalanceLayer, BoxLlmService, CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer, Classifier,
    CommitOnFirstToken, CommitOnFirstTokenLayer, CommitPoint, Events, InvalidConfig, Timeout,
    classify::Count,
    layers::{
        balance::{BalanceHandle, Deployment, DeploymentStatus, Deployments},
        timeout::Silence,
    },
};

/// The stack of a deployment.
type DeploymentService = CommitOnFirstToken<CircuitBreaker<Timeout<Resume<Leaf>>>>;

/// The checked settings of a tier's deployments.
pub(crate) struct BalancePlan {
    tier: Arc<str>,
    settings: BalanceSettings,
    layer: BalanceLayer,
    deployments: Vec<DeploymentPlan>,
}

/// The settings of a balancer, besides its deployments.
#[derive(Clone, PartialEq)]
struct BalanceSettings {
    balance: Balance,
    /// The limits of an attempt at a deployment.
    timeout: Option<TierTimeout>,
    /// True if an attempt whose time is over is repeated.
    repeats: bool,
    /// The commit point of the file, if it has one.
    commit: Option<CommitPoint>,
    breaker: BreakerSettings,
    on_error: Option<Vec<OnError>>,
    /// The store in which replicas share the deployments' headroom.
    headroom: Option<SharedHeadroom>,
}

struct DeploymentPlan {
    name: Arc<str>,
    facts: DeploymentFacts,
    leaf: LeafPlan,
    breaker: CircuitBreakerLayer,
}

/// The facts of a deployment that the balancer weighs.
#[derive(Clone, Debug, PartialEq)]
struct DeploymentFacts {
    weight: Option<f64>,
    zone: Option<String>,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    max_in_flight: Option<u32>,
}

impl BalancePlan {
    /// Checks the settings of a tier's balancer and of its deployments' circuits. `leaves` are the deployments', in
    /// order.
    ///
    /// # Errors
    ///
    /// A weight, a limit or a share is invalid, or two deployments have one name.
    pub(crate) fn new(
        tier: &Tier,
        place: &str,
        leaves: Vec<LeafPlan>,
        breaker: &BreakerSettings,
        config: &Config,
        context: &StackContext,
        events: &Events,
    ) -> Result<Self, InvalidConfig> {
        let balance = tier.balance.clone().unwrap_or_default().or(config.balance.clone());
        let own = || tier.balance.as_ref()?.apply(BalanceLayer::new()).err();
        let mut layer = balance
            .apply(BalanceLayer::new().classifier(classifier(config)))
            .map_err(|error| settings::in_block("balance", error, own(), place))?;
        if let Some(seed) = context.seed(&format!("{} balance", tier.name)) {
            layer = layer.seed(seed);
        }
        let list = tier.deployments.as_deref().unwrap_or_default();
        let mut deployments: Vec<DeploymentPlan> = Vec::with_capacity(list.len());
        for ((own, name), leaf) in list.iter().zip(tier.deployment_names()).zip(leaves) {
            let circuit = format!("{}/{name}", tier.name);
            let mut layer =
                CircuitBreakerLayer::new(circuit.as_str()).classifier(classifier(config)).events(events.clone());
            if let Some(seed) = context.seed(&circuit) {
                layer = layer.seed(seed);
            }
            let plan = DeploymentPlan {
                facts: DeploymentFacts {
                    weight: own.weight,
                    zone: own.zone.clone(),
                    requests_per_minute: own.requests_per_minute,
                    tokens_per_minute: own.tokens_per_minute,
                    max_in_flight: own.max_in_flight,
                },
                breaker: settings::breaker(place, tier.circuit_breaker.as_ref(), layer, breaker)?,
                name: name.into(),
                leaf,
            };
            plan.facts.apply(Deployment::new(plan.name.clone(), ())).map_err(|error| {
                let field = format!("{place}.{}", error.field());
                InvalidConfig::new(field, error.problem().to_owned())
            })?;
            if deployments.iter().any(|other| other.name == plan.name) {
                let problem = format!("two deployments are named `{}`; give each a name of its own", plan.name);
                return Err(InvalidConfig::new(format!("{place}.deployments"), problem));
            }
            deployments.push(plan);
        }
        if deployments.is_empty() {
            let problem = "there are no deployments; name at least one";
            return Err(InvalidConfig::new(format!("{place}.deployments"), problem));
        }
        let settings = BalanceSettings {
            balance,
            timeout: tier.timeout,
            repeats: settings::repeats_timeouts(tier, config),
            commit: config.stream.commit,
            breaker: breaker.clone(),
            on_error: config.fallback.on_error.clone(),
            headroom: None,
        };
        Ok(Self { tier: tier.name.as_str().into(), settings, layer, deployments })
    }

    /// Shares the deployments' headroom with replicas, if there is a store for that.
    pub(crate) fn share(&mut self, headroom: Option<SharedHeadroom>) {
        self.settings.headroom = headroom;
    }
}

impl DeploymentFacts {
    /// Gives them to a deployment of the balancer.
    fn apply<S>(&self, mut deployment: Deployment<S>) -> Result<Deployment<S>, InvalidConfig> {
        if let Some(weight) = self.weight {
            deployment = deployment.weight(weight)?;
        }
        if let Some(zone) = &self.zone {
            deployment = deployment.zone(zone.as_str());
        }
        if let Some(requests) = self.requests_per_minute {
            deployment = deployment.requests_per_minute(requests)?;
        }
        if let Some(tokens) = self.tokens_per_minute {
            deployment = deployment.tokens_per_minute(tokens)?;
        }
        if let Some(requests) = self.max_in_flight {
            deployment = deployment.max_in_flight(requests as usize)?;
        }
        Ok(deployment)
    }
}

/// Returns a tier's circuit that judges nothing: only an operator opens it.
pub(crate) fn passive(breaker: CircuitBreakerLayer) -> CircuitBreakerLayer {
    let no_failure = Classifier::overridden(|_, mut class| {
        class.circuit = Count::Success;
        class
    });
    breaker.classifier(no_failure).without_confirmation()
}

/// The deployments of a tier at work.
#[derive(Clone)]
pub(crate) struct BalancedTier {
    settings: BalanceSettings,
    deployments: Vec<DeploymentRuntime>,
    leaf: Leaf,
    handle: BalanceHandle<DeploymentService>,
}

/// The state of a deployment that a reload keeps if it leaves the deployment unchanged.
#[derive(Clone)]
struct DeploymentRuntime {
    name: Arc<str>,
    facts: DeploymentFacts,
    plan: LeafPlan,
    leaf: Leaf,
    breaker: CircuitBreakerLayer,
    silence: Arc<Silence>,
}

impl BalancedTier {
    /// Starts a tier's deployments. They continue with what is known of earlier ones of their names.
    pub(crate) fn new(plan: BalancePlan, context: &StackContext, before: Option<&Self>) -> Self {
        let BalancePlan { tier, settings, mut layer, deployments } = plan;
        let is_unchanged = |before: &Self| {
            let new = deployments.iter().map(|new| (&new.name, &new.facts, &new.leaf));
            before.settings == settings && before.parts().eq(new)
        };
        if let Some(before) = before.filter(|before| is_unchanged(before)) {
            return before.clone();
        }
        let of_name = |name: &str| before.and_then(|before| before.deployment(name));
        let keeps_circuits = before.is_some_and(|before| {
            let is_same = (&before.settings.breaker, &before.settings.on_error);
            is_same == (&settings.breaker, &settings.on_error)
        });
        let start = |new: DeploymentPlan| {
            let known = of_name(&new.name);
            DeploymentRuntime::new(new, &settings, context, known, keeps_circuits)
        };
        let runtimes: Vec<DeploymentRuntime> = deployments.into_iter().map(start).collect();
        let members = |only: &dyn Fn(&DeploymentRuntime) -> bool| {
            let members = runtimes.iter().filter(|it| only(it)).map(|it| it.deployment(&settings));
            Deployments::new(members).ok()
        };
        let all = members(&|_| true).expect("a plan has deployments of different names");
        // The balancer begins with those that stay, so that it knows which are new and begin slowly.
        let kept = before.and_then(|_| members(&|it| of_name(&it.name).is_some()));
        if let Some(headroom) = &settings.headroom {
            layer = layer.shared_headroom(tier, headroom.clone());
        }
        let layer = match before {
            Some(before) => layer.state(&before.handle),
            None => layer,
        };
        let balance = layer.layer(kept.unwrap_or_else(|| all.clone()));
        let handle = balance.handle();
        if before.is_some() {
            handle.set(all);
        }
        let leaf = Leaf::Own(BoxLlmService::new(balance));
        Self { settings, deployments: runtimes, leaf, handle }
    }

    /// Returns the balancer, in the place of a leaf.
    pub(crate) fn leaf(&self) -> Leaf {
        self.leaf.clone()
    }

    /// Returns whether nothing of an earlier tier has changed.
    pub(crate) fn is_unchanged_since(&self, before: &Self) -> bool {
        self.settings == before.settings && self.parts().eq(before.parts())
    }

    /// Returns the parts of each deployment that a reload may change.
    fn parts(&self) -> impl Iterator<Item = (&Arc<str>, &DeploymentFacts, &LeafPlan)> {
        self.deployments.iter().map(|it| (&it.name, &it.facts, &it.plan))
    }

    fn deployment(&self, name: &str) -> Option<&DeploymentRuntime> {
        self.deployments.iter().find(|it| *it.name == *name)
    }

    /// Returns the account of a deployment.
    pub(crate) fn account(&self, deployment: &str) -> Option<Arc<str>> {
        self.deployment(deployment)?.plan.account()
    }

    /// Returns the state of each deployment, with its circuit.
    pub(crate) fn status(&self) -> Vec<(DeploymentStatus, CircuitBreakerHandle)> {
        // The balancer has them in the same order.
        self.handle.deployments().into_iter().zip(self.circuits()).collect()
    }

    /// Returns the circuit of a deployment.
    pub(crate) fn circuit(&self, deployment: &str) -> Option<CircuitBreakerHandle> {
        self.deployment(deployment).map(|it| it.breaker.handle())
    }

    /// Drains a deployment, or ends that. Returns whether it is a change; `None` if no deployment has this name.
    pub(crate) fn set_drained(&self, deployment: &str, drained: bool) -> Option<bool> {
        self.deployment(deployment)?;
        Some(if drained { self.handle.drain(deployment) } else { self.handle.undrain(deployment) })
    }

    /// Returns each deployment's circuit, in order.
    pub(crate) fn circuits(&self) -> impl Iterator<Item = CircuitBreakerHandle> {
        self.deployments.iter().map(|it| it.breaker.handle())
    }

    /// Returns the circuit of each deployment whose key a provider has given, with the name of the fact that it has
    /// worked.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Arc<str>, CircuitBreakerHandle)> {
        self.deployments.iter().filter_map(|it| {
            let circuit = it.breaker.handle();
            Some((it.plan.key_name(&circuit.name())?, circuit))
        })
    }

    /// Returns the server of each deployment that replaces the provider's own, in order.
    #[cfg(feature = "redis")]
    pub(crate) fn servers(&self) -> impl Iterator<Item = Option<&str>> {
        self.deployments.iter().map(|it| it.plan.server())
    }
}

impl DeploymentRuntime {
    fn new(
        plan: DeploymentPlan,
        settings: &BalanceSettings,
        context: &StackContext,
        before: Option<&Self>,
        keeps_circuit: bool,
    ) -> Self {
        let DeploymentPlan { name, facts, leaf: plan, breaker } = plan;
        let known = before.filter(|known| known.plan == plan);
        if let Some(known) = known.filter(|_| keeps_circuit) {
            return Self { facts, ..known.clone() };
        }
        let leaf = known.map_or_else(|| plan.leaf(context), |known| known.leaf.clone());
        let asked = Limits::from(settings.timeout).attempt_layer().layer(leaf.clone());
        let breaker = settings.breaker.apply_confirmation(breaker, Some(asked));
        let silence = known.map_or_else(Arc::default, |known| known.silence.clone());
        Self { name, facts, plan, leaf, breaker, silence }
    }

    fn deployment(&self, settings: &BalanceSettings) -> Deployment<DeploymentService> {
        let service = ServiceBuilder::new()
            // Below the balancer, so that another deployment answers if an answer breaks that is held back.
            .layer(CommitOnFirstTokenLayer::new().inner_commits().at(settings.commit.unwrap_or_default()))
            .layer(&self.breaker)
            // Inside the circuit breaker, so that a timeout counts as a failure.
            .layer(Limits::from(settings.timeout).adaptive_layer((self.plan.thinks(), settings.repeats), &self.silence))
            .layer(ResumeLayer::new(self.plan.account()))
            .service(self.leaf.clone());
        let deployment = Deployment::new(self.name.clone(), service).circuit(self.breaker.handle());
        self.facts.apply(deployment).expect("the plan has checked the facts")
    }
}
