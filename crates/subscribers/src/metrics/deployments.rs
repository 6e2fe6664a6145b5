//! Metrics of the deployments of tiers, sampled.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use steadfast_internal::sync::{Mutex, lock};

use super::{series::Registry, table};
use crate::{StackView, status::DeploymentStatus};

/// The deployments with series of their own; all further ones share the name `other`.
const MOST: usize = 200;

/// The series of deployments, and the counts that the counters already include.
#[derive(Debug, Default)]
pub(super) struct DeploymentSeries {
    /// Not owned: a handle for samples must not keep a stack alive.
    stack: Option<Weak<dyn StackView>>,
    counted: HashMap<(Arc<str>, Arc<str>), [u64; 2]>,
}

/// Reads the deployments of the stack and records them.
pub(super) fn sample(series: &Mutex<DeploymentSeries>, registry: &Registry) {
    let stack = lock(series).stack.as_ref().and_then(Weak::upgrade);
    // Without the lock: the stack is foreign code.
    if let Some(stack) = stack {
        let now = stack.deployments();
        lock(series).record(now, registry);
    }
}

impl DeploymentSeries {
    pub(super) fn follow(&mut self, stack: Weak<dyn StackView>) {
        self.stack = Some(stack);
    }

    pub(super) fn record(&mut self, now: Vec<(Arc<str>, DeploymentStatus)>, registry: &Registry) {
        let mut before = std::mem::take(&mut self.counted);
        let mut others = 0.0;
        for (place, (tier, deployment)) in now.into_iter().enumerate() {
            let is_own = place < MOST;
            let name: Arc<str> = deployment.name.as_str().into();
            let key = (tier.clone(), name.clone());
            let shown: Arc<str> = if is_own { name } else { "other".into() };
            let counts = [deployment.answered, deployment.failed];
            let was = before.remove(&key).unwrap_or_default();
            for ((outcome, now), was) in ["answered", "failed"].into_iter().zip(counts).zip(was) {
                let labels = [tier.clone().into(), shown.clone().into(), outcome.into()];
                // A deployment that a reload removed and another one added again counts from zero.
                let more = if now >= was { now - was } else { now };
                registry.counter(&table::DEPLOYMENT_CALLS, labels).increment(more);
            }
            let labels = || [tier.clone().into(), shown.clone().into()];
            if is_own {
                registry.gauge(&table::DEPLOYMENT_IN_FLIGHT, labels()).set(deployment.in_flight as f64);
                registry.gauge(&table::DEPLOYMENT_SERVES, labels()).set(if deployment.serves() { 1.0 } else { 0.0 });
                registry.gauge(&table::DEPLOYMENT_HEADROOM, labels()).set(deployment.headroom);
            } else {
                others += deployment.in_flight as f64;
                registry.gauge(&table::DEPLOYMENT_IN_FLIGHT, labels()).set(others);
            }
            self.counted.insert(key, counts);
        }
        // A removed deployment serves nothing.
        for (tier, name) in before.into_keys() {
            let labels = || [tier.clone().into(), name.clone().into()];
            registry.gauge(&table::DEPLOYMENT_IN_FLIGHT, labels()).set(0.0);
            registry.gauge(&table::DEPLOYMENT_SERVES, labels()).set(0.0);
        }
    }
}
