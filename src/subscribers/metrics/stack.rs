//! What the metrics know of a stack, and learn anew when it is reloaded.

use super::Metrics;
use crate::subscribers::StackView;

impl Metrics {
    /// Knows a stack: its tiers, circuits, bulkhead, budgets, cache and prices, and those of each configuration that a reload
    /// brings. In place of [`tier`](Self::tier), [`circuit`](Self::circuit), [`bulkhead`](Self::bulkhead),
    /// [`budget`](Self::budget), [`cache`](Self::cache) and [`prices`](Self::prices).
    ///
    /// A tier that a reload takes away keeps its counters; its circuit is in none of the three states.
    ///
    /// It keeps the stack: drop the [`Following`](crate::events::Following) to be done with both.
    ///
    /// ```
    /// use steadfast::{Stack, config::{Config, Format}, subscribers::metrics::Metrics};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = "tiers: [{ name: sonnet, provider: simulated }, { name: sorry, provider: canned, text: Later. }]";
    /// let stack = Stack::from_config(Config::from_str(file, Format::Yaml)?)?;
    /// let metrics = Metrics::new().stack(stack.handle());
    /// let sampled = metrics.handle();
    /// let _following = stack.handle().events().follow(metrics);
    /// # drop(sampled);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn stack(mut self, stack: impl StackView) -> Self {
        self.stack = Some(std::sync::Arc::new(stack));
        self.learn();
        self
    }

    /// Takes from the stack what it is made of now.
    pub(super) fn learn(&mut self) {
        let Some(stack) = &self.stack else { return };
        let circuits = stack.circuits();
        self.circuits.are(&circuits);
        self.watched = circuits;
        self.handle.set_bulkheads(vec![stack.bulkhead()]);
        self.handle.set_budgets(stack.budgets());
        #[cfg(feature = "cache")]
        self.handle.set_cache(stack.cache());
        self.requests.set_prices(stack.prices());
        let drained = stack.drained();
        for circuit in &self.watched {
            let tier = circuit.name();
            self.operated.drained(&tier, drained.contains(&tier));
        }
        self.operated.pinned(stack.pinned_level());
        if let Some((primary, _)) = stack.tiers().first() {
            self.switches.known(primary);
        }
    }
}
