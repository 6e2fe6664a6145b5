//! Caps that go on from the ledger: over a restart, and over what other replicas spend.

use std::sync::Arc;

use crate::runtime::{StackHandle, parts::grants::Scope};
use steadfast::store::StoreError;

impl StackHandle {
    /// Counts under each cap what the ledger has for its period, and agrees with other replicas on what each may spend.
    /// Call it before the first request, and every second: a grant ends after five. Without a
    /// [ledger](Self::ledger) it ends an agreement that a reload has left behind.
    ///
    /// It asks one question for each length of period, over sums by the hour, in one transaction.
    ///
    /// # Errors
    ///
    /// The store failed. The grants last for four seconds; then each cap goes by `caps.when_away`.
    pub async fn recount_spend(&self) -> Result<(), StoreError> {
        let (state, scopes, when_away) = {
            let current = self.shared.current.load();
            let Some(state) = current.ledger.clone() else {
                // A reload may have taken the ledger away.
                current.spend().iter().for_each(|(_, handle)| handle.end_agreement());
                return Ok(());
            };
            let scopes = current.spend().iter().flat_map(|(tier, handle)| Scope::all(tier.as_deref(), handle));
            let scopes: Vec<Scope> = scopes.collect();
            (state, scopes, current.config.caps.clone().unwrap_or_default().when_away)
        };
        if scopes.is_empty() {
            return Ok(());
        }
        state.agreement.lock().await.renew(&state.ledger, scopes, when_away).await
    }

    /// Gives up this process's grants, for the other replicas. Call it after the last request.
    ///
    /// # Errors
    ///
    /// The store failed. It ends the grants by itself.
    pub async fn return_grants(&self) -> Result<(), StoreError> {
        let Some(ledger) = self.ledger() else { return Ok(()) };
        ledger.take_grants(Vec::new(), Arc::new(|_| Vec::new())).await
    }
}
