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
    Callbacks, Claimant, ClaimantKind, Delivery, DeskError, NewAnswer, NewTask, Redrivable, Release, SWEPT_AT_ONCE,
    Settled, Task, TaskFilter, TaskId, TaskLimits, TaskScope, TaskState, TaskStats, TaskStore, TaskSummary,
    store::TaskFuture,
};
use crate::{
    Event, Events, LlmError, LlmRequest,
    chat::{FinishReason, Message},
    events::{HandedOver, HandoffStep},
    store::{StoreError, StoreErrorKind, StoreTrouble, trouble::Watch},
};

/// Where people find the tasks that were handed to them, and answer them.
///
/// Clones are the same desk: one is for the [`Handoff`](crate::handoff::Handoff) leaf, others for whatever people
/// work with. Desks over the same store see the same tasks, in other processes too.
///
/// ```
/// use steadfast::handoff::{Desk, MemoryTasks, TaskFilter, TaskState};
/// use steadfast::{LlmRequest, handoff::Handoff};
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
    /// Which tasks were answered here, for those who wait for one.
    told: broadcast::Sender<TaskId>,
    /// Something was written down here that is to be sent.
    written: Arc<Notify>,
    /// A redrive was asked for here.
    asked_for: Arc<Notify>,
    /// The last task could not be written down.
    refuses: Arc<AtomicBool>,
    /// What is the matter with the store.
    watch: Arc<Watch>,
}

/// What a desk goes by.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) visibility: Duration,
    pub(super) ttl: Duration,
    /// Where it was said.
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

/// How long a store may take where nobody has said it, but to write a task down.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many answers those who wait may be behind before they look for themselves.
const TOLD: usize = 256;
/// How long who waits for an answer leaves the store alone at first, and at the longest: another process may have
/// answered.
const LOOK_FIRST: Duration = Duration::from_millis(250);
const LOOK_LAST: Duration = Duration::from_secs(1);

impl Desk {
    /// A desk over this store. A claim stands for 15 minutes, a task may be answered for 7 days and is kept for 30
    /// more, and the store has 5 seconds for each call, a PostgreSQL
    /// half a second to write a task down.
    pub fn new(store: impl TaskStore) -> Self {
        Self::over(Arc::new(store))
    }

    /// A desk over a store that others have too.
    pub fn over(store: Arc<dyn TaskStore>) -> Self {
        Self {
            store,
            settings: Arc::default(),
            told: broadcast::channel(TOLD).0,
            written: Arc::default(),
            asked_for: Arc::default(),
            refuses: Arc::default(),
            watch: Arc::new(Watch::new("handoff")),
        }
    }

    /// Sets how long a claim stands before another may take the task, unless it is renewed. Default: 15 minutes.
    #[must_use]
    pub fn visibility(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.settings).visibility = time;
        self
    }

    /// Sets how long a task may be answered. Default: 7 days.
    #[must_use]
    pub fn ttl(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.settings).ttl = time;
        self
    }

    /// Sets how long the store has for each call. Default: 5 s, and to write a task down, whose caller waits, as long as
    /// the [store says](TaskStore::patience).
    #[must_use]
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        Arc::make_mut(&mut self.settings).store_timeout = Some(limit);
        self
    }

    /// Sets how long tasks are kept that are answered or expired: so long who asked can ask for the answer. Default: 30
    /// days.
    #[must_use]
    pub fn keep(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.settings).keep = time;
        self
    }

    /// Sets how much may be handed to people, of all callers and of each. Default: [`TaskLimits::default`].
    #[must_use]
    pub fn limits(mut self, limits: TaskLimits) -> Self {
        Arc::make_mut(&mut self.settings).limits = limits;
        self
    }

    /// Tells people of each task from now on, once [deliveries](super::Deliveries) are started. Default: nobody.
    #[must_use]
    pub fn notify(mut self, notify: super::Notify) -> Self {
        Arc::make_mut(&mut self.settings).notify = Some(notify);
        self
    }

    /// Calls back who asked, once [deliveries](super::Deliveries) are started. Default: nobody.
    #[must_use]
    pub fn callbacks(mut self, callbacks: Callbacks) -> Self {
        Arc::make_mut(&mut self.settings).callbacks = Some(callbacks);
        self
    }

    /// Tells here what becomes of tasks: [`Event::HandedOver`]. Default: nowhere.
    #[must_use]
    pub fn events(mut self, events: &Events) -> Self {
        Arc::make_mut(&mut self.settings).events = Some(events.clone());
        self
    }

    /// The same desk with everything by default but where it tells of what happens.
    #[cfg(feature = "config")]
    pub(crate) fn without_settings(mut self) -> Self {
        let events = self.settings.events.clone();
        self.settings = Arc::new(Settings { events, ..Settings::default() });
        self
    }

    /// Tells how many tasks wait, where that is not what was told before.
    pub(super) async fn tell_waiting(&self, told: &mut u64) {
        let Some(events) = self.settings.events.as_ref().filter(|events| events.is_heard()) else { return };
        let Ok(TaskStats { waiting, oldest_waiting_ms, .. }) = self.stats().await else { return };
        if std::mem::replace(told, waiting) != waiting {
            let oldest = oldest_waiting_ms.map(Duration::from_millis);
            events.send(Event::HandoffWaiting { waiting, oldest, at: Instant::now() });
        }
    }

    /// Tells of a step of a task.
    pub(super) fn tell(&self, task: TaskId, feature: Option<&str>, step: impl FnOnce() -> HandoffStep) {
        let Some(events) = &self.settings.events else { return };
        events.send_with(|| {
            let (task, feature) = (task.to_string().into(), feature.map(Into::into));
            Event::HandedOver(HandedOver { task, feature, step: step(), at: Instant::now() })
        });
    }

    /// Whether its tasks outlive the process.
    pub fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    /// Writes a task down. Who has its id can be told that it is queued, where the desk is [durable](Self::is_durable).
    ///
    /// # Errors
    ///
    /// [`LimitReached`](DeskError::LimitReached), or the store's.
    pub async fn submit(&self, task: NewTask) -> Result<TaskId, DeskError> {
        // It may have been done by a call that failed: the same id is never two tasks.
        let what = "writing a task down";
        let (id, feature, reason) = (task.id, task.feature.clone(), task.reason.clone());
        let tries = async {
            match self.store.insert(task.clone()).await {
                Err(DeskError::Store(error)) if error.heals() => self.store.insert(task).await,
                done => done,
            }
        };
        // Both in the time of one: a caller waits for it.
        let done = within(self.patience(), what, Box::pin(tries)).await;
        self.written.notify_one();
        if let Some(events) = &self.settings.events {
            self.watch.tells(events);
        }
        match &done {
            Err(DeskError::Store(problem)) => self.watch.fails(problem.kind(), problem, Instant::now()),
            Ok(_) => self.watch.works(Instant::now()),
            Err(_) => {}
        }
        match &done {
            // A caller's own doing, as often as it likes: an event each, for metrics and the log's own bounds.
            Err(DeskError::LimitReached { limit, .. }) => {
                self.tell(id, feature.as_deref(), || HandoffStep::Refused { limit: limit.name() });
            }
            // Said once until it works again: who asked is told of the models' failure.
            Err(problem) if !self.refuses.swap(true, Relaxed) => {
                tracing::error!(event = "handoff_refused", %problem);
            }
            Ok(_) if self.refuses.swap(false, Relaxed) => tracing::info!(event = "handoff_works_again"),
            _ => {}
        }
        let written = done?;
        // A repeat is told of once.
        if written == id {
            self.tell(id, feature.as_deref(), || HandoffStep::Queued { reason: reason.into() });
        }
        Ok(written)
    }

    /// Returns how long a caller waits for the store.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.store_timeout.unwrap_or_else(|| self.store.patience())
    }

    /// What is the matter with the store that tasks are written to, if something is.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        self.watch.trouble()
    }

    /// Fills in what the desk says of each task, and by what a repeat of its request is known.
    pub(crate) fn prepare(&self, task: &mut NewTask, request: &LlmRequest) -> Result<(), LlmError> {
        task.callback = Callbacks::of(self.settings.callbacks.as_ref(), request)?;
        task.notify = self.settings.notify.is_some();
        task.ttl = self.settings.ttl;
        task.limits = self.settings.limits;
        task.same_as = request.idempotency().filter(|key| !key.is_empty()).map(|key| same_as(task, key));
        Ok(())
    }

    /// The whole of a task.
    ///
    /// # Errors
    ///
    /// [`DeskError::Unknown`], or the store's.
    pub async fn show(&self, id: TaskId) -> Result<Task, DeskError> {
        self.asked("reading a task", self.store.get(id)).await
    }

    /// The tasks that a filter describes.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn list(&self, filter: TaskFilter) -> Result<Vec<TaskSummary>, DeskError> {
        self.asked("listing tasks", self.store.list(filter)).await
    }

    /// How much there is to do.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn stats(&self) -> Result<TaskStats, DeskError> {
        self.asked("counting tasks", self.store.stats()).await
    }

    /// Claims a task for a person, so that nobody else answers it meanwhile. Again: renews the claim.
    ///
    /// # Errors
    ///
    /// [`ClaimedByAnother`](DeskError::ClaimedByAnother), [`AlreadyAnswered`](DeskError::AlreadyAnswered),
    /// [`Expired`](DeskError::Expired), [`Unknown`](DeskError::Unknown), [`Invalid`](DeskError::Invalid) for an empty
    /// name, or the store's.
    pub async fn claim(&self, id: TaskId, who: &str) -> Result<Task, DeskError> {
        let visibility = self.settings.visibility;
        let by = person(who)?;
        let task = self.asked("claiming a task", self.store.claim(id, by.clone(), visibility)).await?;
        self.tell(id, task.feature.as_deref(), || HandoffStep::Claimed { by: by.name.into() });
        Ok(task)
    }

    /// Lengthens a person's claim, and says until when it is, in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// As of [`claim`](Self::claim), and [`NotClaimed`](DeskError::NotClaimed).
    pub async fn renew(&self, id: TaskId, who: &str) -> Result<u64, DeskError> {
        let visibility = self.settings.visibility;
        self.asked("renewing a claim", self.store.renew(id, person(who)?, visibility)).await
    }

    /// Gives a person's claim back.
    ///
    /// # Errors
    ///
    /// As of [`renew`](Self::renew).
    pub async fn release(&self, id: TaskId, who: &str) -> Result<(), DeskError> {
        let by = person(who)?;
        self.asked("releasing a claim", self.store.release(id, by.clone(), Release::Free)).await?;
        self.tell(id, None, || HandoffStep::Released { by: by.name.into() });
        Ok(())
    }

    /// Answers a task: a text, or a whole message. It need not be claimed, but nobody else may be at it.
    ///
    /// Who waits for it has the answer at once, and those in other processes within a second or so.
    ///
    /// # Errors
    ///
    /// As of [`claim`](Self::claim), and [`Invalid`](DeskError::Invalid) for an answer with nothing in it.
    pub async fn answer(&self, id: TaskId, who: &str, answer: impl Into<Answered>) -> Result<Task, DeskError> {
        self.answers(id, NewAnswer::new(person(who)?, answer.into().0), false).await
    }

    /// Answers a task that somebody else is at.
    ///
    /// # Errors
    ///
    /// As of [`answer`](Self::answer), without [`ClaimedByAnother`](DeskError::ClaimedByAnother).
    pub async fn answer_over(&self, id: TaskId, who: &str, answer: impl Into<Answered>) -> Result<Task, DeskError> {
        self.answers(id, NewAnswer::new(person(who)?, answer.into().0), true).await
    }

    /// Writes an answer down and tells those who wait for it.
    pub(super) async fn answers(&self, id: TaskId, answer: NewAnswer, force: bool) -> Result<Task, DeskError> {
        if answer.message.is_empty() {
            return Err(DeskError::Invalid { problem: "there is nothing in the answer" });
        }
        let task = self.asked("writing an answer down", self.store.answer(id, answer, force)).await?;
        // An error says that nobody waits here.
        let _ = self.told.send(id);
        self.written.notify_one();
        if let Some(answer) = &task.answer {
            let after = Duration::from_millis(answer.at.saturating_sub(task.created_at));
            self.tell(id, task.feature.as_deref(), || match answer.by.kind {
                ClaimantKind::Person => HandoffStep::Answered { by: answer.by.name.as_str().into(), after },
                ClaimantKind::Redrive => {
                    HandoffStep::Redriven { model: answer.model.as_deref().map(Into::into), after }
                }
            });
        }
        Ok(task)
    }

    /// Asks for a task to be given to a model again, by whoever [redrives](super::Redrive) this store's tasks, in any
    /// process. A person who is at it goes first.
    ///
    /// # Errors
    ///
    /// [`AlreadyAnswered`](DeskError::AlreadyAnswered), [`Expired`](DeskError::Expired),
    /// [`Unknown`](DeskError::Unknown), or the store's.
    pub async fn redrive(&self, id: TaskId) -> Result<(), DeskError> {
        self.ask_redrive(Some(id)).await.map(drop)
    }

    /// The same for all tasks that may still be answered. Says of how many.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn redrive_all(&self) -> Result<u64, DeskError> {
        self.ask_redrive(None).await
    }

    async fn ask_redrive(&self, id: Option<TaskId>) -> Result<u64, DeskError> {
        let done = self.asked("asking for a redrive", self.store.ask_redrive(id)).await;
        self.asked_for.notify_one();
        done
    }

    /// Forgets tasks for good, whatever their state: what was asked, what was answered, and what is still to be told of it.
    /// Says how many there were. Who waits for one of them hears that it is unknown. `by` is who orders it, for the log and
    /// [`HandoffStep::Forgotten`](crate::events::HandoffStep::Forgotten).
    ///
    /// # Errors
    ///
    /// [`Unknown`](DeskError::Unknown) of one that is not there, or the store's.
    pub async fn forget(&self, which: TaskScope, by: &str) -> Result<u64, DeskError> {
        let forgotten = self.asked("forgetting tasks", self.store.forget(which.clone())).await?;
        // Of a whole scope no names are known.
        tracing::warn!(event = "tasks_forgotten", by, scope = which.name(), forgotten);
        if let TaskScope::Task(id) = which {
            if forgotten == 0 {
                return Err(DeskError::Unknown { task: id });
            }
            let _ = self.told.send(id);
            self.tell(id, None, || HandoffStep::Forgotten { by: by.into() });
        }
        Ok(forgotten)
    }

    /// Waits until a task is answered, and gives the whole of it. Through a store that cannot be reached it goes on
    /// waiting.
    ///
    /// # Errors
    ///
    /// [`Expired`](DeskError::Expired), [`Unknown`](DeskError::Unknown), or the store's where it does not heal by
    /// itself.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the task as it is.
    pub async fn wait(&self, id: TaskId) -> Result<Task, DeskError> {
        // Before the first look, so that no answer comes in between.
        let mut told = self.told.subscribe();
        let mut pause = LOOK_FIRST;
        loop {
            match self.asked("looking for an answer", self.store.state(id)).await {
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
                () = heard(&mut told, id) => {}
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    /// Says when a redrive was asked for here.
    pub(super) fn asked_for(&self) -> Arc<Notify> {
        self.asked_for.clone()
    }

    pub(super) async fn claim_oldest(
        &self,
        by: Claimant,
        visibility: Duration,
        which: Redrivable,
    ) -> Result<Option<Task>, DeskError> {
        self.asked("claiming the oldest task", self.store.claim_oldest(by, visibility, which)).await
    }

    pub(super) async fn give_back(&self, id: TaskId, by: Claimant, then: Release) -> Result<(), DeskError> {
        self.asked("releasing a claim", self.store.release(id, by, then)).await
    }

    /// Says when something was written down here that is to be sent.
    pub(super) fn written(&self) -> Arc<Notify> {
        self.written.clone()
    }

    pub(super) async fn due(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>, DeskError> {
        self.asked("looking for deliveries", self.store.due(limit, lease)).await
    }

    pub(super) async fn settle(&self, delivery: Delivery, outcome: Settled) -> Result<bool, DeskError> {
        self.asked("settling a delivery", self.store.settle(delivery, outcome)).await
    }

    /// Removes tasks that were kept for their time. [Deliveries](super::Deliveries) do it every 10 minutes. Says how
    /// many.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn sweep(&self) -> Result<u64, DeskError> {
        let mut all = 0;
        loop {
            let swept = self.asked("removing old tasks", self.store.sweep(self.settings.keep)).await?;
            all += swept;
            if swept < SWEPT_AT_ONCE as u64 {
                return Ok(all);
            }
        }
    }

    /// What a store says in its time.
    pub(super) async fn asked<T>(&self, what: &'static str, asked: TaskFuture<'_, T>) -> Result<T, DeskError> {
        within(self.settings.store_timeout.unwrap_or(STORE_TIMEOUT), what, asked).await
    }
}

async fn within<T>(limit: Duration, what: &'static str, asked: TaskFuture<'_, T>) -> Result<T, DeskError> {
    match timeout(limit, asked).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::new(StoreErrorKind::Unavailable, format!("{what}: no answer in time")).into()),
    }
}

/// By what the same request under the same key is known: whose it is, the key, and what is asked, none of which can be
/// read from it.
fn same_as(task: &NewTask, key: &str) -> String {
    let asked = serde_json::to_vec(&(&task.tenant, &task.feature, key, &task.request)).unwrap_or_default();
    Sha256::digest(&asked).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Until this task is told of, or so many were that it may have been among them.
async fn heard(told: &mut broadcast::Receiver<TaskId>, id: TaskId) {
    loop {
        match told.recv().await {
            Ok(answered) if answered != id => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // Not while there is a desk to wait at.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// The longest name of a person, in bytes.
const LONGEST_NAME: usize = 200;

fn person(who: &str) -> Result<Claimant, DeskError> {
    match who.trim() {
        "" => Err(DeskError::Invalid { problem: "say who it is" }),
        who if who.len() > LONGEST_NAME || who.chars().any(char::is_control) => {
            Err(DeskError::Invalid { problem: "a name is on one line, and of 200 bytes at the most" })
        }
        who => Ok(Claimant::person(who)),
    }
}

/// What a person answers: a text, or a whole message.
#[derive(Clone, Debug)]
pub struct Answered(Message);

impl From<Message> for Answered {
    fn from(message: Message) -> Self {
        Self(message)
    }
}

impl From<String> for Answered {
    fn from(text: String) -> Self {
        let mut message = Message::assistant(text);
        message.finish = Some(FinishReason::Stop);
        Self(message)
    }
}

impl From<&str> for Answered {
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
