use std::{fmt, time::Duration};

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{ReplicaStore, Shares, desk::Desk};

/// A background task that synchronizes a replica's shared state with the others. Dropping it stops the task, and each
/// replica continues alone.
///
/// The [module docs](super) explain the shared state and its precision.
///
/// ```
/// use std::time::Duration;
/// use steadfast::{CircuitBreakerLayer, events::CircuitState, store::replicas::{MemoryReplicas, Shares, Sharing}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let store = MemoryReplicas::new(); // in production, `steadfast::store::redis::Redis`
/// let (here, there) = (CircuitBreakerLayer::new("sonnet"), CircuitBreakerLayer::new("sonnet"));
/// let shares = |layer: &CircuitBreakerLayer| Shares::new().circuit("sonnet", layer.handle());
/// let _one = Sharing::start(store.clone(), shares(&here));
/// let _other = Sharing::start(store, shares(&there));
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
#[must_use = "dropped, it ends"]
pub struct Sharing {
    shares: watch::Sender<Shares>,
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

impl Sharing {
    /// Shares this state over a store.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(store: impl ReplicaStore, shares: Shares) -> Self {
        let (sender, receiver) = watch::channel(shares);
        // Zero means no replica.
        let desk = Desk::new(fastrand::u64(1..));
        Self { shares: sender, task: tokio::spawn(keep(store, desk, receiver)).abort_handle() }
    }

    /// Replaces the shared state. The state of names that remain is kept.
    pub fn share(&self, shares: Shares) {
        self.shares.send_replace(shares);
    }
}

async fn keep(store: impl ReplicaStore, mut desk: Desk, mut shares: watch::Receiver<Shares>) {
    shares.mark_changed();
    loop {
        if shares.has_changed().unwrap_or(true) {
            let shares = shares.borrow_and_update().clone();
            desk.share(&shares, Instant::now());
        }
        if shares.borrow().is_empty() {
            if shares.changed().await.is_err() {
                return;
            }
            shares.mark_changed();
            continue;
        }
        let said = desk.says(Instant::now());
        match timeout(LIMIT, store.exchange(&said)).await {
            Ok(Ok(heard)) => desk.hears(&heard, Instant::now()),
            // The store itself reports this once.
            Ok(Err(_)) | Err(_) => desk.fails(),
        }
        sleep(REST).await;
        tokio::select! {
            () = store.changed(EVERY) => {}
            () = news(&desk) => {}
            changed = shares.changed() => match changed {
                Ok(()) => shares.mark_changed(),
                Err(_) => return,
            },
        }
    }
}

/// Completes when there is a change to report.
async fn news(desk: &Desk) {
    while !desk.has_news(Instant::now()) {
        sleep(LOOK).await;
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").field("shares", &*self.shares.borrow()).finish_non_exhaustive()
    }
}
