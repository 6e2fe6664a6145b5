//! A stack's parts, read again after each reload.

use std::sync::Arc;

use super::Metrics;
use crate::StackView;

impl Metrics {
    /// Follows a stack: its tiers, circuits, bulkhead, budgets, cache and prices, after reloads too. Use it in place of
    /// [`tier`](Self::tier), [`circuit`](Self::circuit), [`bulkhead`](Self::bulkhead), [`budget`](Self::budget),
    /// [`cache`](Self::cache) and [`prices`](Self::prices).
    ///
    /// A tier that a reload removes keeps its counters; its circuit is in none of the three states.
    ///
    /// The metrics own the stack: drop the [`Subscription`](steadfast::events::Subscription) to release both.
    ///
    /// ```
    /// use steadfast_stack::{Stack, Config, Format};
    /// use steadfast_subscribers::metrics::Metrics;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = "tiers: [{ name: sonnet, provider: simulated }, { name: sorry, provider: canned, text: Later. }]";
    /// let stack = Stack::from_config(Config::from_str(file, Format::Yaml)?)?;
    /// let metrics = Metrics::new().stack(stack.handle());
    /// let sampled = metrics.handle();
    /// let _subscription = stack.handle().events().follow(metrics);
    /// # drop(sampled);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn stack(mut self, stack: impl StackView) -> Self {
        self.stack = Some(Arc::new(stack));
        self.read_stack();
        self
    }

    /// Reads the stack's current parts.
    pub(super) fn read_stack(&mut self) {
        let Some(stack) = &self.stack else { return };
        self.handle.follow_deployments(Arc::downgrade(stack));
        let circuits = stack.circuits();
        self.circuits.replace(&circuits);
        self.circuit_handles = circuits;
        self.handle.set_bulkheads(vec![stack.bulkhead()]);
        self.handle.set_budgets(stack.budgets());
        self.handle.set_cache(stack.cache());
        self.requests.set_prices(stack.prices());
        let drained = stack.drained();
        for circuit in &self.circuit_handles {
            let tier = circuit.name();
            self.operations.set_drained(&tier, drained.contains(&tier));
        }
        self.operations.set_pinned(stack.pinned_level());
        for chain in stack.chains() {
            self.switches.ensure_chain(&chain.id);
        }
    }
}
