use std::{fmt, time::Duration};

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{ReplicaStore, SharedState, exchange::Exchange};

/// A background task that synchronizes a replica's shared state with the others. Dropping it stops the task, and each
/// replica continues alone.
///
/// The [module docs](super) explain the shared state and its precision.
///
/// ```
/// use std::time::Duration;
/// use steadfast::{CircuitBreakerLayer, events::CircuitState};
/// use steadfast_stores::replicas::{MemoryReplicas, SharedState, ReplicaSync};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let store = MemoryReplicas::new(); // in production, `steadfast_stores::redis::Redis`
/// let (here, there) = (CircuitBreakerLayer::new("sonnet"), CircuitBreakerLayer::new("sonnet"));
/// let shares = |layer: &CircuitBreakerLayer| SharedState::new().circuit("sonnet", layer.handle());
/// let _one = ReplicaSync::start(store.clone(), shares(&here));
/// let _other = ReplicaSync::start(store, shares(&there));
/// # let down = steadfast::provider_fn(|_| async {
/// #     Err::<steadfast::LlmResponse, _>(steadfast::LlmError::new(steadfast::ErrorKind::Server, "down"))
/// # });
/// # let llm = tower::ServiceBuilder::new().layer(&here).service(down);
/// # for _ in 0..5 {
/// #     let _ = tower::ServiceExt::oneshot(llm.clone(), steadfast::LlmRequest::prompt("hello")).await;
/// # }
/// // The provider has failed five times in a row, here.
/// assert_eq!(here.handle().state(), CircuitState::Open);
/// tokio::time::sleep(Duration::from_secs(1)).await;
/// assert_eq!(there.handle().state(), CircuitState::Open);
/// # }
/// ```
#[must_use = "dropping it stops the task"]
pub struct ReplicaSync {
    state: watch::Sender<SharedState>,
    task: AbortHandle,
}

/// The longest time between two exchanges.
const EVERY: Duration = Duration::from_millis(500);
/// The interval of checks for changes to report at once.
const LOOK: Duration = Duration::from_millis(100);
/// The shortest time between two exchanges.
const REST: Duration = Duration::from_millis(20);
/// The time limit of an exchange. A store may be stricter.
const LIMIT: Duration = Duration::from_secs(1);

impl ReplicaSync {
    /// Shares this state over a store.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(store: impl ReplicaStore, state: SharedState) -> Self {
        let (sender, receiver) = watch::channel(state);
        // Zero means no replica.
        let exchange = Exchange::new(fastrand::u64(1..));
        Self { state: sender, task: tokio::spawn(synchronize(store, exchange, receiver)).abort_handle() }
    }

    /// Replaces the shared state. The state of names that remain is kept.
    pub fn share(&self, state: SharedState) {
        self.state.send_replace(state);
    }
}

async fn synchronize(store: impl ReplicaStore, mut exchange: Exchange, mut state: watch::Receiver<SharedState>) {
    state.mark_changed();
    loop {
        if state.has_changed().unwrap_or(true) {
            let state = state.borrow_and_update().clone();
            exchange.share(&state, Instant::now());
        }
        if state.borrow().is_empty() {
            if state.changed().await.is_err() {
                return;
            }
            state.mark_changed();
            continue;
        }
        let report = exchange.report(Instant::now());
        match timeout(LIMIT, store.exchange(&report)).await {
            Ok(Ok(snapshot)) => exchange.apply(&snapshot, Instant::now()),
            // The store itself reports this once.
            Ok(Err(_)) | Err(_) => exchange.record_failure(),
        }
        sleep(REST).await;
        tokio::select! {
            () = store.changed(EVERY) => {}
            () = wait_for_news(&exchange) => {}
            changed = state.changed() => match changed {
                Ok(()) => state.mark_changed(),
                Err(_) => return,
            },
        }
    }
}

/// Completes when there is a change to report.
async fn wait_for_news(exchange: &Exchange) {
    while !exchange.has_news(Instant::now()) {
        sleep(LOOK).await;
    }
}

impl Drop for ReplicaSync {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for ReplicaSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").field("shares", &*self.state.borrow()).finish_non_exhaustive()
    }
}
