use std::{collections::HashSet, fmt, sync::Arc};

use crate::{CircuitBreakerHandle, InvalidConfig};

/// A deployment of a model: a service with its name, and with what is known of it beforehand.
///
/// The service is the whole stack of the deployment, usually a [`CircuitBreaker`](crate::CircuitBreaker) and a
/// [`Timeout`](crate::Timeout) around a leaf with a key or a region of its own.
#[derive(Clone)]
pub struct Deployment<S> {
    pub(super) service: S,
    pub(super) facts: DeploymentFacts,
}

/// The facts about a deployment.
// In the order in which a choice needs them.
#[repr(C)]
#[derive(Clone, Debug)]
pub(super) struct DeploymentFacts {
    pub(super) max_in_flight: usize,
    pub(super) circuit: Option<CircuitBreakerHandle>,
    pub(super) name: Arc<str>,
    pub(super) weight: f32,
    pub(super) zone: Option<Arc<str>>,
    pub(super) requests_per_minute: Option<u64>,
    pub(super) tokens_per_minute: Option<u64>,
}

impl<S> Deployment<S> {
    /// Creates a deployment of this name, with weight 1 and without known limits. `name` is in events and records.
    pub fn new(name: impl Into<Arc<str>>, service: S) -> Self {
        let facts = DeploymentFacts {
            name: name.into(),
            weight: 1.0,
            zone: None,
            circuit: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            max_in_flight: usize::MAX,
        };
        Self { service, facts }
    }

    /// Sets its share of the requests, relative to the others' weights. Default: 1.
    ///
    /// # Errors
    ///
    /// Fails if it is not between a millionth and a million.
    pub fn weight(mut self, weight: f64) -> Result<Self, InvalidConfig> {
        if !(1e-6..=1e6).contains(&weight) {
            let problem = "a weight is more than 0 and at most a million; to give it no requests, drain or remove it";
            return Err(self.invalid("weight", format!("{weight}: {problem}")));
        }
        self.facts.weight = weight as f32;
        Ok(self)
    }

    /// Sets its zone. A balancer with a [zone](super::BalanceLayer::zone) prefers its own. Default: none.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.facts.zone = Some(zone.into());
        self
    }

    /// Sets the circuit of the deployment's service, so that the balancer knows its state before it calls. Default:
    /// none; the balancer learns the state from refusals, and asks again after a second at the latest.
    #[must_use]
    pub fn circuit(mut self, circuit: CircuitBreakerHandle) -> Self {
        self.facts.circuit = Some(circuit);
        self
    }

    /// Sets the provider's limit on requests. Default: unknown; it is read from the headers of answers, or learned
    /// from a 429.
    ///
    /// # Errors
    ///
    /// Fails for 0.
    pub fn requests_per_minute(mut self, requests: u64) -> Result<Self, InvalidConfig> {
        self.facts.requests_per_minute = Some(self.limit("requests_per_minute", requests)?);
        Ok(self)
    }

    /// Sets the provider's limit on tokens, of prompts and answers together. Default: unknown; it is read from the
    /// headers of answers.
    ///
    /// # Errors
    ///
    /// Fails for 0.
    pub fn tokens_per_minute(mut self, tokens: u64) -> Result<Self, InvalidConfig> {
        self.facts.tokens_per_minute = Some(self.limit("tokens_per_minute", tokens)?);
        Ok(self)
    }

    /// Sets how many requests it may serve at once; a stream counts until its end. Default: any number.
    ///
    /// # Errors
    ///
    /// Fails for 0.
    pub fn max_in_flight(mut self, requests: usize) -> Result<Self, InvalidConfig> {
        self.limit("max_in_flight", requests as u64)?;
        self.facts.max_in_flight = requests;
        Ok(self)
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    fn limit(&self, field: &str, limit: u64) -> Result<u64, InvalidConfig> {
        if limit == 0 {
            let problem = "0 would admit no request; to give it no requests, drain or remove it";
            return Err(self.invalid(field, problem.to_owned()));
        }
        Ok(limit)
    }

    fn invalid(&self, field: &str, problem: String) -> InvalidConfig {
        InvalidConfig::new(format!("deployments.{}.{field}", self.facts.name), problem)
    }
}

impl<S> fmt::Debug for Deployment<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// The deployments of a tier: at least one, and each with a name of its own.
#[derive(Clone, Debug)]
pub struct Deployments<S>(pub(super) Vec<Deployment<S>>);

impl<S> Deployments<S> {
    /// Creates the list of these deployments.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or if two have one name.
    pub fn new(deployments: impl IntoIterator<Item = Deployment<S>>) -> Result<Self, InvalidConfig> {
        let deployments: Vec<_> = deployments.into_iter().collect();
        if deployments.is_empty() {
            return Err(InvalidConfig::new("deployments", "there is none; add at least one"));
        }
        let mut names = HashSet::new();
        if let Some(twice) = deployments.iter().find(|deployment| !names.insert(deployment.name())) {
            let problem = format!("two have the name {:?}; give each a name of its own", twice.name());
            return Err(InvalidConfig::new("deployments", problem));
        }
        Ok(Self(deployments))
    }
}
