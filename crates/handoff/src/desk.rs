use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
    },
    time::{Instant, sleep, timeout},
};

use super::{
    Callbacks, Claimant, ClaimantKind, Delivery, DeliveryOutcome, DeskError, NewAnswer, NewTask, RedriveScope, Release,
    SWEEP_LIMIT, Task, TaskFilter, TaskId, TaskLimits, TaskScope, TaskState, TaskStats, TaskStore, TaskSummary,
    store::TaskFuture,
};
use steadfast::{
    Event, Events, LlmError, LlmRequest,
    chat::{FinishReason, Message},
    events::{HandedOver, HandoffStep},
    store::{StoreError, StoreErrorKind, StoreTrouble, StoreWatch},
};
use steadfast_internal::hex;

/// The place where people find the tasks that were handed to them, and answer them.
///
/// Clones are the same desk: one is for the [`Handoff`](crate::Handoff) leaf, others for people's tools.
/// Desks over the same store see the same tasks, in other processes too.
///
/// ```
/// use steadfast_handoff::{Desk, MemoryTasks, TaskFilter, TaskState};
/// use steadfast::LlmRequest;
/// use steadfast_handoff::Handoff;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let desk = Desk::new(MemoryTasks::new());
/// let asked = tokio::spawn(Handoff::new(&desk).wait().oneshot(LlmRequest::prompt("May I?")));
///
/// let task = loop {
///     if let [task] = &desk.list(TaskFilter::new().state(TaskState::Waiting)).await?[..] {
///         break task.id;
///     }
///     tokio::task::yield_now().await;
/// };
/// desk.claim(task, "ana").await?;
/// desk.answer(task, "ana", "You may.").await?;
/// assert_eq!(asked.await??.text().await?, "You may.");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Desk {
    store: Arc<dyn TaskStore>,
    pub(super) settings: Arc<Settings>,
    /// The ids of tasks that were answered here, for tasks' waiters.
    answered: broadcast::Sender<TaskId>,
    /// Signals that this desk wrote a message to send.
    new_messages: Arc<Notify>,
    /// Signals that this desk received an order to redrive.
    redrive_orders: Arc<Notify>,
    /// True if the last task could not be written down.
    refuses: Arc<AtomicBool>,
    /// The health of the store.
    watch: Arc<StoreWatch>,
}

/// A desk's settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) visibility: Duration,
    pub(super) ttl: Duration,
    /// `None` means the defaults.
    pub(super) store_timeout: Option<Duration>,
    pub(super) keep: Duration,
    pub(super) limits: TaskLimits,
    pub(super) notify: Option<super::Notify>,
    pub(super) callbacks: Option<Callbacks>,
    pub(super) events: Option<Events>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            visibility: Duration::from_secs(15 * 60),
            ttl: Duration::from_secs(7 * 24 * 60 * 60),
            store_timeout: None,
            keep: Duration::from_secs(30 * 24 * 60 * 60),
            limits: TaskLimits::default(),
            notify: None,
            callbacks: None,
            events: None,
        }
    }
}

/// The default time limit of a store's call, except for writing a task down.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of answers by which a waiter may lag before it asks the store.
const REPORTS_KEPT: usize = 256;
/// The first and the longest interval at which a waiter asks the store, because another process may have answered.
const FIRST_POLL: Duration = Duration::from_millis(250);
const LONGEST_POLL: Duration = Duration::from_secs(1);

impl Desk {
    /// Creates a desk over this store. A claim holds for 15 minutes; a task can be answered for 7 days and stays for 30
    /// more. The store has 5 seconds for each call, and a PostgreSQL half a second to write a task down.
    pub fn new(store: impl TaskStore) -> Self {
        Self::over(Arc::new(store))
    }

    /// Creates a desk over a shared store.
    pub fn over(store: Arc<dyn TaskStore>) -> Self {
        Self {
            store,
            settings: Arc::default(),
            answered: broadcast::channel(REPORTS_KEPT).0,
            new_messages: Arc::default(),
            redrive_orders: Arc::default(),
            refuses: Arc::default(),
            watch: Arc::new(StoreWatch::new("handoff")),
        }
    }

    /// Sets the time for which a claim holds before another person may take the task, unless it is renewed. Default: 15
    /// minutes.
    #[must_use]
    pub fn visibility(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.settings).visibility = time;
        self
    }

    /// Sets the time for which a task can be answered. Default: 7 days.
    #[must_use]
    pub fn ttl(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.settings).ttl = time;
        self
    }

    /// Sets the time limit of each call to the store. Default: 5 s, and for writing a task down, while the caller
    /// waits, the [store's own limit](TaskStore::call_timeout).
    #[must_use]
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        Arc::make_mut(&mut self.settings).store_timeout = Some(limit);
        self
    }

    /// Sets the time for which answered or expired tasks are kept, and so for which callers can read the answer.
    /// Default: 30 days.
    #[must_use]
    pub fn keep(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.settings).keep = time;
        self
    }

    /// Sets limits on tasks, in all and for each caller. Default: [`TaskLimits::default`].
    #[must_use]
    pub fn limits(mut self, limits: TaskLimits) -> Self {
        Arc::make_mut(&mut self.settings).limits = limits;
        self
    }

    /// Sends a notification for each new task, once [deliveries](super::Deliveries) are started. Default: none.
    #[must_use]
    pub fn notify(mut self, notify: super::Notify) -> Self {
        Arc::make_mut(&mut self.settings).notify = Some(notify);
        self
    }

    /// Sends a callback for each answer, once [deliveries](super::Deliveries) are started. Default: none.
    #[must_use]
    pub fn callbacks(mut self, callbacks: Callbacks) -> Self {
        Arc::make_mut(&mut self.settings).callbacks = Some(callbacks);
        self
    }

    /// Sends [`Event::HandedOver`] for tasks' steps to this channel. Default: none.
    #[must_use]
    pub fn events(mut self, events: &Events) -> Self {
        Arc::make_mut(&mut self.settings).events = Some(events.clone());
        self
    }

    /// Returns the same desk with default settings, except for its events.
    pub fn without_settings(mut self) -> Self {
        let events = self.settings.events.clone();
        self.settings = Arc::new(Settings { events, ..Settings::default() });
        self
    }

    /// Reports the number of waiting tasks if it has changed.
    pub(super) async fn report_waiting(&self, reported: &mut u64) {
        let Some(events) = self.settings.events.as_ref().filter(|events| events.has_subscribers()) else { return };
        let Ok(TaskStats { waiting, oldest_waiting_ms, .. }) = self.stats().await else { return };
        if std::mem::replace(reported, waiting) != waiting {
            let oldest = oldest_waiting_ms.map(Duration::from_millis);
            events.send(Event::HandoffWaiting { waiting, oldest, at: Instant::now() });
        }
    }

    /// Reports a step of a task.
    pub(super) fn report(&self, task: TaskId, feature: Option<&str>, step: impl FnOnce() -> HandoffStep) {
        let Some(events) = &self.settings.events else { return };
        events.send_with(|| {
            let (task, feature) = (task.to_string().into(), feature.map(Into::into));
            Event::HandedOver(HandedOver::new(task, feature, step()))
        });
    }

    /// Returns whether its tasks outlive the process.
    pub fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    /// Writes a task down and returns its id. If the desk is [durable](Self::is_durable), the caller can rely on it.
    ///
    /// # Errors
    ///
    /// Returns [`LimitReached`](DeskError::LimitReached), or the store's error.
    pub async fn submit(&self, task: NewTask) -> Result<TaskId, DeskError> {
        // A failed call may have written the task: one id never makes two tasks.
        let what = "writing a task down";
        let (id, feature, reason) = (task.id, task.feature.clone(), task.reason.clone());
        let tries = async {
            match self.store.insert(task.clone()).await {
                Err(DeskError::Store(error)) if error.heals() => self.store.insert(task).await,
                done => done,
            }
        };
        // Both attempts share the time of one, because a caller waits for them.
        let done = within(self.insert_timeout(), what, Box::pin(tries)).await;
        self.new_messages.notify_one();
        if let Some(events) = &self.settings.events {
            self.watch.set_events(events);
        }
        match &done {
            Err(DeskError::Store(problem)) => self.watch.record_failure(problem.kind(), problem, Instant::now()),
            Ok(_) => self.watch.record_success(Instant::now()),
            Err(_) => {}
        }
        match &done {
            // Callers can cause this at will: each refusal is an event, for metrics and the log's own bounds.
            Err(DeskError::LimitReached { limit, .. }) => {
                self.report(id, feature.as_deref(), || HandoffStep::Refused { limit: limit.name() });
            }
            // Reported once until the store works again; the caller gets the models' failure.
            Err(problem) if !self.refuses.swap(true, Relaxed) => {
                tracing::error!(event = "handoff_refused", %problem);
            }
            Ok(_) if self.refuses.swap(false, Relaxed) => tracing::info!(event = "handoff_works_again"),
            _ => {}
        }
        let written = done?;
        // A repeat is reported once.
        if written == id {
            self.report(id, feature.as_deref(), || HandoffStep::Queued { reason: reason.into() });
        }
        Ok(written)
    }

    /// Returns how long a caller waits for the store.
    pub(crate) fn insert_timeout(&self) -> Duration {
        self.settings.store_timeout.unwrap_or_else(|| self.store.call_timeout())
    }

    /// Returns the trouble of the store of tasks, if there is any.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        self.watch.trouble()
    }

    /// Fills in the desk's settings for each task, and the key by which a repeat of its request is recognised.
    pub(crate) fn prepare(&self, task: &mut NewTask, request: &LlmRequest) -> Result<(), LlmError> {
        task.callback = Callbacks::of(self.settings.callbacks.as_ref(), request)?;
        task.notify = self.settings.notify.is_some();
        task.ttl = self.settings.ttl;
        task.limits = self.settings.limits;
        task.same_as = request.idempotency_key().filter(|key| !key.is_empty()).map(|key| same_as(task, key));
        Ok(())
    }

    /// Returns a whole task.
    ///
    /// # Errors
    ///
    /// Returns [`DeskError::Unknown`], or the store's error.
    pub async fn show(&self, id: TaskId) -> Result<Task, DeskError> {
        self.call_store("reading a task", self.store.get(id)).await
    }

    /// Returns the tasks that match a filter.
    ///
    /// # Errors
    ///
    /// Returns the store's error.
    pub async fn list(&self, filter: TaskFilter) -> Result<Vec<TaskSummary>, DeskError> {
        self.call_store("listing tasks", self.store.list(filter)).await
    }

    /// Returns the number of tasks by state.
    ///
    /// # Errors
    ///
    /// Returns the store's error.
    pub async fn stats(&self) -> Result<TaskStats, DeskError> {
        self.call_store("counting tasks", self.store.stats()).await
    }

    /// Claims a task for a person, so that no other person answers it meanwhile. A second call renews the claim.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimedByAnother`](DeskError::ClaimedByAnother), [`AlreadyAnswered`](DeskError::AlreadyAnswered),
    /// [`Expired`](DeskError::Expired), [`Unknown`](DeskError::Unknown), [`Invalid`](DeskError::Invalid) for an empty
    /// name, or the store's error.
    pub async fn claim(&self, id: TaskId, who: &str) -> Result<Task, DeskError> {
        let visibility = self.settings.visibility;
        let by = person(who)?;
        let task = self.call_store("claiming a task", self.store.claim(id, by.clone(), visibility)).await?;
        self.report(id, task.feature.as_deref(), || HandoffStep::Claimed { by: by.name.into() });
        Ok(task)
    }

    /// Extends a person's claim and returns its end, in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`claim`](Self::claim), and [`NotClaimed`](DeskError::NotClaimed).
    pub async fn renew(&self, id: TaskId, who: &str) -> Result<u64, DeskError> {
        let visibility = self.settings.visibility;
        self.call_store("renewing a claim", self.store.renew(id, person(who)?, visibility)).await
    }

    /// Releases a person's claim.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`renew`](Self::renew).
    pub async fn release(&self, id: TaskId, who: &str) -> Result<(), DeskError> {
        let by = person(who)?;
        self.call_store("releasing a claim", self.store.release(id, by.clone(), Release::Free)).await?;
        self.report(id, None, || HandoffStep::Released { by: by.name.into() });
        Ok(())
    }

    /// Answers a task with a text or a whole message. The task need not be claimed, but no other person may hold a
    /// claim.
    ///
    /// Waiters of this process receive the answer at once, those of other processes within a second or so.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`claim`](Self::claim), and [`Invalid`](DeskError::Invalid) for an empty answer.
    pub async fn answer(&self, id: TaskId, who: &str, answer: impl Into<PersonAnswer>) -> Result<Task, DeskError> {
        self.write_answer(id, NewAnswer::new(person(who)?, answer.into().0), false).await
    }

    /// Answers a task that another person may have claimed.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`answer`](Self::answer), without [`ClaimedByAnother`](DeskError::ClaimedByAnother).
    pub async fn force_answer(
        &self,
        id: TaskId,
        who: &str,
        answer: impl Into<PersonAnswer>,
    ) -> Result<Task, DeskError> {
        self.write_answer(id, NewAnswer::new(person(who)?, answer.into().0), true).await
    }

    /// Writes an answer down and wakes the waiters.
    pub(super) async fn write_answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> Result<Task, DeskError> {
        if answer.message.is_empty() {
            return Err(DeskError::Invalid { problem: "the answer is empty" });
        }
        let task = self.call_store("writing an answer down", self.store.answer(id, answer, force)).await?;
        // An error means that there is no waiter here.
        let _ = self.answered.send(id);
        self.new_messages.notify_one();
        if let Some(answer) = &task.answer {
            let after = Duration::from_millis(answer.at.saturating_sub(task.created_at));
            self.report(id, task.feature.as_deref(), || match answer.by.kind {
                ClaimantKind::Person => HandoffStep::Answered { by: answer.by.name.as_str().into(), after },
                ClaimantKind::Redrive => {
                    HandoffStep::Redriven { model: answer.model.as_deref().map(Into::into), after }
                }
            });
        }
        Ok(task)
    }

    /// Orders that a [redrive](super::Redrive) of any process gives the task to a model again. A person's claim comes
    /// first.
    ///
    /// # Errors
    ///
    /// Returns [`AlreadyAnswered`](DeskError::AlreadyAnswered), [`Expired`](DeskError::Expired),
    /// [`Unknown`](DeskError::Unknown), or the store's error.
    pub async fn redrive(&self, id: TaskId) -> Result<(), DeskError> {
        self.order_redrive(Some(id)).await.map(drop)
    }

    /// Orders the same for all tasks that can still be answered, and returns their number.
    ///
    /// # Errors
    ///
    /// Returns the store's error.
    pub async fn redrive_all(&self) -> Result<u64, DeskError> {
        self.order_redrive(None).await
    }

    async fn order_redrive(&self, id: Option<TaskId>) -> Result<u64, DeskError> {
        let done = self.call_store("ordering a redrive", self.store.order_redrive(id)).await;
        self.redrive_orders.notify_one();
        done
    }

    /// Deletes tasks for good, whatever their state: request, answer, and messages still to send. Returns their number.
    /// A waiter gets [`Unknown`](DeskError::Unknown). `by` names the person who orders it, for the log and
    /// [`HandoffStep::Forgotten`](steadfast::events::HandoffStep::Forgotten).
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](DeskError::Unknown) for a single task that does not exist, or the store's error.
    pub async fn forget(&self, which: TaskScope, by: &str) -> Result<u64, DeskError> {
        let forgotten = self.call_store("forgetting tasks", self.store.forget(which.clone())).await?;
        // A whole scope has no known ids.
        tracing::warn!(event = "tasks_forgotten", by, scope = which.name(), forgotten);
        if let TaskScope::Task(id) = which {
            if forgotten == 0 {
                return Err(DeskError::Unknown { task: id });
            }
            let _ = self.answered.send(id);
            self.report(id, None, || HandoffStep::Forgotten { by: by.into() });
        }
        Ok(forgotten)
    }

    /// Waits until a task is answered, and returns it whole. It keeps waiting while the store is unavailable.
    ///
    /// # Errors
    ///
    /// Returns [`Expired`](DeskError::Expired), [`Unknown`](DeskError::Unknown), or the store's error if that does not
    /// heal by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the task unchanged.
    pub async fn wait(&self, id: TaskId) -> Result<Task, DeskError> {
        // Subscribes before the first look, so that it misses no answer in between.
        let mut answered = self.answered.subscribe();
        let mut pause = FIRST_POLL;
        loop {
            match self.call_store("looking up an answer", self.store.state(id)).await {
                Ok(state) if state.is_open() => {}
                Err(DeskError::Store(error)) if error.heals() => {}
                Err(error) => return Err(error),
                Ok(_) => match self.show(id).await {
                    Ok(task) if task.state == TaskState::Expired => {
                        return Err(DeskError::Expired { task: id, at: task.expires_at });
                    }
                    Err(DeskError::Store(error)) if error.heals() => {}
                    done => return done,
                },
            }
            tokio::select! {
                () = wait_for_report(&mut answered, id) => {}
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_POLL);
        }
    }

    /// Returns the signal for orders to redrive on this desk.
    pub(super) fn redrive_orders(&self) -> Arc<Notify> {
        self.redrive_orders.clone()
    }

    pub(super) async fn claim_oldest(
        &self,
        by: Claimant,
        visibility: Duration,
        which: RedriveScope,
    ) -> Result<Option<Task>, DeskError> {
        self.call_store("claiming the oldest task", self.store.claim_oldest(by, visibility, which)).await
    }

    pub(super) async fn give_back(&self, id: TaskId, by: Claimant, then: Release) -> Result<(), DeskError> {
        self.call_store("releasing a claim", self.store.release(id, by, then)).await
    }

    /// Returns the signal for new messages to send on this desk.
    pub(super) fn new_messages(&self) -> Arc<Notify> {
        self.new_messages.clone()
    }

    pub(super) async fn due(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>, DeskError> {
        self.call_store("reading due deliveries", self.store.due(limit, lease)).await
    }

    pub(super) async fn settle(&self, delivery: Delivery, outcome: DeliveryOutcome) -> Result<bool, DeskError> {
        self.call_store("settling a delivery", self.store.settle(delivery, outcome)).await
    }

    /// Removes tasks at the end of their retention and returns their number. [Deliveries](super::Deliveries) do this
    /// every 10 minutes.
    ///
    /// # Errors
    ///
    /// Returns the store's error.
    pub async fn sweep(&self) -> Result<u64, DeskError> {
        let mut all = 0;
        loop {
            let swept = self.call_store("removing old tasks", self.store.sweep(self.settings.keep)).await?;
            all += swept;
            if swept < SWEEP_LIMIT as u64 {
                return Ok(all);
            }
        }
    }

    /// Runs a store's call within the time limit.
    pub(super) async fn call_store<T>(&self, what: &'static str, call: TaskFuture<'_, T>) -> Result<T, DeskError> {
        within(self.settings.store_timeout.unwrap_or(STORE_TIMEOUT), what, call).await
    }
}

async fn within<T>(limit: Duration, what: &'static str, call: TaskFuture<'_, T>) -> Result<T, DeskError> {
    match timeout(limit, call).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::new(StoreErrorKind::Unavailable, format!("{what}: no answer in time")).into()),
    }
}

/// Returns the key of requests that are the same under the same idempotency key. It is a digest of the tenant, the key
/// and the request, from which none of them can be read.
fn same_as(task: &NewTask, key: &str) -> String {
    let identity = serde_json::to_vec(&(&task.tenant, &task.feature, key, &task.request)).unwrap_or_default();
    hex::encode(&Sha256::digest(&identity))
}

/// Waits until this task is reported as answered, or until reports were lost that may have named it.
async fn wait_for_report(answered: &mut broadcast::Receiver<TaskId>, id: TaskId) {
    loop {
        match answered.recv().await {
            Ok(answered) if answered != id => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // This cannot happen while there is a desk to wait at.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// The longest name of a person, in bytes.
const LONGEST_NAME: usize = 200;

fn person(who: &str) -> Result<Claimant, DeskError> {
    match who.trim() {
        "" => Err(DeskError::Invalid { problem: "name the person" }),
        who if who.len() > LONGEST_NAME || who.chars().any(char::is_control) => {
            Err(DeskError::Invalid { problem: "a name must be one line of at most 200 bytes" })
        }
        who => Ok(Claimant::person(who)),
    }
}

/// A person's answer: a text, or a whole message.
#[derive(Clone, Debug)]
pub struct PersonAnswer(Message);

impl From<Message> for PersonAnswer {
    fn from(message: Message) -> Self {
        Self(message)
    }
}

impl From<String> for PersonAnswer {
    fn from(text: String) -> Self {
        let mut message = Message::assistant(text);
        message.finish = Some(FinishReason::Stop);
        Self(message)
    }
}

impl From<&str> for PersonAnswer {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("durable", &self.is_durable())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
