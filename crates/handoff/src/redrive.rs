//! Redrives: tasks are given to a model again once one works, slowly enough that its recovery is not its next outage.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use tower::{ServiceExt as _, util::BoxCloneSyncService};

use super::{Claimant, Desk, DeskError, NewAnswer, RedriveScope, Release, Task, TaskId, id};
use steadfast::{
    BoxLlmService, Classifier, ErrorKind, Event, Events, LlmError, LlmService,
    classify::Failover,
    events::{CircuitState, Subscriber},
    request::BudgetKey,
};

/// A background job that gives tasks to a model again once one works: the oldest first, few at a time, and no more as
/// soon as it fails.
///
/// It begins with one task, whose outcome decides whether more run at once. Two failures in a row end the round: the
/// tasks are released, and the next round comes after a pause that doubles from [`every`](Self::every) to 10 minutes. A
/// task waits for a person if the request itself is at fault (too long, refused, against a policy), or if it fails
/// three times while others are answered. An answer of a [degraded](steadfast::LlmResponse::degraded) tier counts as a
/// failure: a caller who was promised a person must not get a fixed sentence. The task's [answer](super::TaskAnswer)
/// says that a model made it, and which.
///
/// While it works on a task no person can claim it, and the other way round; two redrives, in any processes, never have
/// the same one. Tasks that require a person are left to people, unless a person [orders](Desk::redrive) a redrive.
///
/// ```
/// use steadfast_handoff::{Desk, MemoryTasks, Redrive};
/// use steadfast::{Events, providers::Simulated};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let (desk, events) = (Desk::new(MemoryTasks::new()), Events::new());
/// let model = Simulated::new("gpt-4o"); // a stack of models, without people and fixed sentences
/// let _redriving = Redrive::new(&desk, model).per_second(0.5).events(&events).start();
/// # }
/// ```
#[must_use = "tasks are redriven only once it is started"]
#[derive(Clone)]
pub struct Redrive {
    desk: Desk,
    model: BoxLlmService,
    which: RedriveScope,
    gate: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    events: Option<Events>,
    every: Duration,
    pace: Duration,
    at_once: usize,
    timeout: Duration,
}

/// An extension of a task's request. It marks the request as one for models, which no tier of people takes again.
#[derive(Clone, Copy, Debug)]
pub struct RedriveMarker;

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// The time by which a claim outlasts the call, for writing the answer down.
const WRITE_TIME: Duration = Duration::from_secs(30);

impl Redrive {
    /// Creates a redrive of this desk's tasks through this service: one every second, two at once, with a minute for
    /// each.
    pub fn new<S>(desk: &Desk, model: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        Self {
            desk: desk.clone(),
            model: BoxCloneSyncService::new(model.map_err(Into::into)),
            which: RedriveScope::All,
            gate: None,
            events: None,
            every: Duration::from_secs(30),
            pace: Duration::from_secs(1),
            at_once: 2,
            timeout: Duration::from_secs(60),
        }
    }

    /// Redrives only tasks for which a person [ordered](Desk::redrive) it. Default: all.
    pub fn only_when_ordered(mut self) -> Self {
        self.which = RedriveScope::Ordered;
        self
    }

    /// Redrives only while this function returns true, for example while a circuit is closed. [Orders](Desk::redrive)
    /// ignore it. Default: always; a model shows by failing that it does not work.
    pub fn gate(mut self, gate: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.gate = Some(Arc::new(gate));
        self
    }

    /// Also looks for tasks as soon as a circuit closes or the primary serves again. Default: only at intervals.
    pub fn events(mut self, events: &Events) -> Self {
        self.events = Some(events.clone());
        self
    }

    /// Sets the interval between looks for tasks. Default: 30 s.
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time.max(Duration::from_millis(1));
        self
    }

    /// Sets the largest number of tasks that begin in a second. Default: 1.
    pub fn per_second(mut self, tasks: f64) -> Self {
        self.pace = Duration::try_from_secs_f64(1.0 / tasks).unwrap_or(LONGEST_PAUSE);
        self
    }

    /// Sets the largest number of concurrent tasks; 0 counts as 1. Default: 2.
    pub fn at_once(mut self, tasks: usize) -> Self {
        self.at_once = tasks.max(1);
        self
    }

    /// Sets the time limit of each task. Default: a minute.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Starts the background task. It ends when the handle is dropped; tasks under way are free again at the end of
    /// their claim.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(self) -> RedriveHandle {
        RedriveHandle(tokio::spawn(self.run()).abort_handle())
    }

    async fn run(self) {
        let redrive_orders = self.desk.redrive_orders();
        let recovered = Arc::new(Notify::new());
        let follow = |events: &Events| events.follow_only(RecoverySignal::wanted, RecoverySignal(recovered.clone()));
        let _subscription = self.events.as_ref().map(follow);
        let (mut pause, mut strikes) = (self.every, HashMap::new());
        loop {
            let worked = self.round(&mut strikes).await;
            // A failing model is left alone for longer each time, unless an event reports that it works.
            pause = if worked { self.every } else { (pause * 2).min(LONGEST_PAUSE.max(self.every)) };
            tokio::select! {
                () = sleep(pause) => {}
                () = redrive_orders.notified() => {}
                () = recovered.notified() => {}
            }
        }
    }

    /// Redrives all waiting tasks until the model fails. Returns false if it failed.
    async fn round(&self, strikes: &mut HashMap<TaskId, u32>) -> bool {
        let which = match &self.gate {
            Some(gate) if !gate() => RedriveScope::Ordered,
            _ => self.which,
        };
        let mut calls = JoinSet::new();
        let (mut tally, mut next_at) = (RoundTally::default(), Instant::now());
        while tally.continues() {
            // The first task decides whether more run at once, and so does the first after a failure.
            let at_once = if tally.is_sure() { self.at_once } else { 1 };
            if calls.len() >= at_once {
                tally.record(calls.join_next().await);
                continue;
            }
            sleep_until(next_at).await;
            // A call may have failed meanwhile.
            if let Some(outcome) = calls.try_join_next() {
                tally.record(Some(outcome));
                continue;
            }
            let Some((task, by)) = self.next(which).await else { break };
            next_at = Instant::now() + self.pace;
            calls.spawn(self.clone().redrive(task, by));
        }
        while let Some(outcome) = calls.join_next().await {
            tally.record(Some(outcome));
        }
        let worked = tally.continues() && (tally.answered > 0 || tally.failed.is_empty());
        for (task, by) in tally.failed {
            // With answers to others, the model is not the only cause. Tasks that fail must not block the rest.
            let is_for_people = tally.answered > 0 && {
                let strikes = strikes.entry(task).or_default();
                *strikes += 1;
                *strikes >= STRIKES
            };
            let then = if is_for_people { Release::ForPeople } else { Release::Free };
            if is_for_people {
                strikes.remove(&task);
            }
            // Otherwise its claim expires by itself.
            let _ = self.desk.give_back(task, by, then).await;
        }
        if strikes.len() > MAX_TASKS_WITH_STRIKES {
            strikes.clear();
        }
        worked
    }

    async fn next(&self, which: RedriveScope) -> Option<(Task, Claimant)> {
        // Each redrive has its own name, so that a late one is not mistaken for another.
        let name: [u8; 8] = id::random().ok()?;
        let by = Claimant::redrive(format!("{:016x}", u64::from_be_bytes(name)));
        match self.desk.claim_oldest(by.clone(), self.timeout.saturating_add(WRITE_TIME), which).await {
            Ok(task) => task.map(|task| (task, by)),
            Err(error) => {
                tracing::debug!(event = "handoff_not_redriven", problem = %error);
                None
            }
        }
    }

    async fn redrive(self, task: Task, by: Claimant) -> RedriveOutcome {
        match self.call_model(&task, &by).await {
            Ok(answer) => self.write(&task, answer).await,
            Err(error) if is_about_the_request(&error) => {
                let _ = self.desk.give_back(task.id, by, Release::ForPeople).await;
                RedriveOutcome::NotByAModel
            }
            Err(error) => {
                tracing::debug!(event = "handoff_not_redriven", task = %task.id, kind = error.kind().name());
                RedriveOutcome::ModelFailed(task.id, by)
            }
        }
    }

    /// Writes a model's answer down, with retries, because the answer was paid for.
    async fn write(&self, task: &Task, answer: NewAnswer) -> RedriveOutcome {
        for _ in 0..WRITES {
            match self.desk.write_answer(task.id, answer.clone(), false).await {
                Err(DeskError::Store(error)) if error.heals() => sleep(Duration::from_secs(1)).await,
                Err(DeskError::Store(error)) => {
                    tracing::warn!(event = "handoff_not_redriven", task = %task.id, problem = %error);
                    break;
                }
                // Or another claimant was faster, or the task has expired.
                Ok(_) | Err(_) => return RedriveOutcome::Answered,
            }
        }
        RedriveOutcome::ModelFailed(task.id, answer.by)
    }

    async fn call_model(&self, task: &Task, by: &Claimant) -> Result<NewAnswer, LlmError> {
        let mut request =
            task.request.request()?.with_stream(false).with_timeout(self.timeout).with_extension(RedriveMarker);
        if let Some(feature) = &task.feature {
            request = request.with_feature(feature.as_str());
        }
        if let Some(session) = &task.session {
            request = request.with_session(session.as_str());
        }
        if let Some(tenant) = &task.tenant {
            request = request.with_extension(BudgetKey::new(tenant.as_str()));
        }
        let call = async {
            let response = self.model.clone().oneshot(request).await?;
            if let Some(degraded) = response.degraded() {
                let said = format!("the answer is of level {}, below full service", degraded.level);
                return Err(LlmError::new(ErrorKind::Overloaded, said));
            }
            let served = response.served_by();
            let owned = |name: Option<&str>| name.map(str::to_owned);
            let (provider, model, tier) = (owned(served.provider), owned(served.model), owned(served.tier));
            let message = response.collect().await?;
            if message.is_empty() {
                return Err(LlmError::new(ErrorKind::EmptyAnswer, "the answer is empty"));
            }
            let model = model.or_else(|| message.model.clone()).or_else(|| Some("unnamed".to_owned()));
            Ok(NewAnswer { provider, model, tier, ..NewAnswer::new(by.clone(), message) })
        };
        let limit = tokio::time::timeout(self.timeout, call);
        limit.await.unwrap_or_else(|_| Err(LlmError::new(ErrorKind::Timeout, "no answer in time")))
    }
}

/// The outcome of a redrive.
#[derive(Debug)]
enum RedriveOutcome {
    Answered,
    /// No model will answer this task.
    NotByAModel,
    /// The task stays claimed, so that the next one is another.
    ModelFailed(TaskId, Claimant),
}

/// The outcomes of a round.
#[derive(Debug, Default)]
struct RoundTally {
    answered: u32,
    failed: Vec<(TaskId, Claimant)>,
    failed_in_a_row: u32,
}

impl RoundTally {
    fn record(&mut self, outcome: Option<Result<RedriveOutcome, JoinError>>) {
        match outcome {
            Some(Ok(RedriveOutcome::Answered)) => {
                self.answered += 1;
                self.failed_in_a_row = 0;
            }
            Some(Ok(RedriveOutcome::NotByAModel)) | None => {}
            Some(Ok(RedriveOutcome::ModelFailed(task, by))) => {
                self.failed.push((task, by));
                self.failed_in_a_row += 1;
            }
            Some(Err(_)) => self.failed_in_a_row += 1,
        }
    }

    /// Two failures in a row are the model's; a single one may be the task's.
    fn continues(&self) -> bool {
        self.failed_in_a_row < 2
    }

    fn is_sure(&self) -> bool {
        self.answered > 0 && self.failed_in_a_row == 0
    }
}

/// The number of failures among others' answers after which a task waits for a person.
const STRIKES: u32 = 3;
/// The number of failing tasks that a redrive remembers.
const MAX_TASKS_WITH_STRIKES: usize = 1000;
/// The number of attempts to write an answer down.
const WRITES: u32 = 10;

/// Returns whether the request would fail the same way at every model.
fn is_about_the_request(error: &LlmError) -> bool {
    let fails_anywhere = |kind: ErrorKind| match kind {
        ErrorKind::ContextLength
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedFeature
        | ErrorKind::InvalidOutput
        // No tier that is a model may take it.
        | ErrorKind::Exhausted => true,
        kind => {
            let class = Classifier::default().classify(&LlmError::new(kind, ""));
            matches!(class.failover, Failover::No | Failover::IfRouted)
        }
    };
    let mut tried = error.attempts().iter().filter_map(|attempt| attempt.failure).peekable();
    match tried.peek() {
        None => fails_anywhere(error.kind()),
        Some(_) => tried.all(fails_anywhere),
    }
}

/// A subscriber that wakes the redrive when a model works again.
struct RecoverySignal(Arc<Notify>);

impl RecoverySignal {
    fn wanted(event: &Event) -> bool {
        matches!(event, Event::ModelRecovered { .. } | Event::CircuitChanged { to: CircuitState::Closed, .. })
    }
}

impl Subscriber for RecoverySignal {
    fn event(&mut self, _: &Event) {
        self.0.notify_one();
    }

    fn lost(&mut self, _: u64) {
        // The lost events may include a recovery.
        self.0.notify_one();
    }
}

impl fmt::Debug for Redrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redrive")
            .field("desk", &self.desk)
            .field("which", &self.which)
            .field("every", &self.every)
            .field("pace", &self.pace)
            .field("at_once", &self.at_once)
            .finish_non_exhaustive()
    }
}

/// A running redrive. Dropping the handle stops it.
#[derive(Debug)]
#[must_use = "dropping it stops the task"]
pub struct RedriveHandle(AbortHandle);

impl Drop for RedriveHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}
