use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{ChainSetup, Status, machine::Machine};
use steadfast::events::{Event, Subscriber};
use steadfast_internal::{
    sync::{Mutex, MutexGuard, lock},
    wall_clock,
};

/// A [`Subscriber`] that maintains a [`Status`], and the handle to read it. Clones are the same board.
///
/// It follows each chain by its first tier, and says of the whole what is true of the worst. It shows only tiers that
/// events name.
///
/// It needs the events of `Fallback` and of the circuit breakers, and for the rates those of an `ObserveLayer`. Its
/// memory is bounded.
///
/// ```
/// use steadfast::{
///     Events, FallbackLayer, LlmError, LlmRequest, LlmResponse, ObserveLayer, provider_fn, providers::Canned,
/// };
/// use steadfast_subscribers::{ServingState, StatusBoard};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let (events, board) = (Events::new(), StatusBoard::new("sonnet").tiers(["canned"]));
/// let _subscription = events.follow(board.clone());
/// let llm = ServiceBuilder::new()
///     .layer(ObserveLayer::new(events.clone()))
///     .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")).events(events))
///     .service(provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("hello")) }));
/// llm.oneshot(LlmRequest::prompt("Say hello.")).await.unwrap();
/// tokio::task::yield_now().await;
///
/// let status = board.snapshot();
/// assert_eq!((status.state, status.active_tier.as_str()), (ServingState::Primary, "sonnet"));
/// assert_eq!((status.tiers[0].calls, status.tiers[1].calls), (1, 0));
/// # }
/// ```
#[derive(Clone)]
pub struct StatusBoard {
    machine: Arc<Mutex<Machine>>,
}

impl StatusBoard {
    /// Creates a board for the stack with this primary, the name given to `FallbackLayer::new`.
    pub fn new(primary: impl Into<Arc<str>>) -> Self {
        Self { machine: Arc::new(Mutex::new(Machine::new(primary.into(), Instant::now()))) }
    }

    /// Names the tiers after the primary, in their order, so that the board shows them before their first event.
    #[must_use]
    pub fn tiers<T: Into<Arc<str>>>(self, names: impl IntoIterator<Item = T>) -> Self {
        let names: Vec<_> = names.into_iter().map(Into::into).collect();
        self.lock().name_tiers(names);
        self
    }

    /// Replaces the primary and the other tiers, after a reload. Tiers that remain keep their data.
    pub fn set_tiers<T: Into<Arc<str>>>(&self, primary: impl Into<Arc<str>>, others: impl IntoIterator<Item = T>) {
        // Foreign code runs outside of the lock.
        let (primary, others) = (primary.into(), others.into_iter().map(Into::into).collect());
        self.lock().change_tiers(primary, others, Instant::now());
    }

    /// Names the chains, after [`set_tiers`](Self::set_tiers): the one of most requests first. Chains that remain keep
    /// their data. Default: one, of all tiers.
    pub fn set_chains(&self, chains: Vec<ChainSetup>) {
        self.lock().configure(chains, Instant::now());
    }

    /// Names the circuits of deployments, `TIER/DEPLOYMENT`, in place of those named before: the board does not take
    /// them for tiers.
    pub fn set_deployments(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let names = names.into_iter().collect();
        self.lock().name_deployments(names);
    }

    /// Resets the circuits of these tiers, and the proof of their setup.
    pub fn renew(&self, tiers: &[Arc<str>]) {
        self.lock().reset_circuits(tiers);
    }

    /// Returns the current status. It takes microseconds and delays no request.
    pub fn snapshot(&self) -> Status {
        self.lock().status(Instant::now(), wall_clock::since_1970())
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        // No code under this lock panics halfway through a change.
        lock(&self.machine)
    }
}

impl Subscriber for StatusBoard {
    fn event(&mut self, event: &Event) {
        self.lock().event(event);
    }

    fn events(&mut self, events: &[Event]) {
        self.lock().events(events);
    }

    fn lost(&mut self, events: u64) {
        self.lock().lost(events);
    }
}

impl fmt::Debug for StatusBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatusBoard").field(&self.snapshot()).finish()
    }
}
