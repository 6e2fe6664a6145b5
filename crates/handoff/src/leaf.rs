use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout};
use tower::Service;

use crate::{
    CallerTask, Desk, DeskError, NewTask, PERSON, PriorAttempt, StoredRequest, Task, TaskId, redrive::RedriveMarker,
};
use steadfast::{
    Degradation, DegradedReason, ErrorKind, LlmError, LlmRequest, LlmResponse,
    ledger::{CallersDeadline, PriorAttempts},
    request::WORST_LEVEL,
    response::ResponseFuture,
};

/// A leaf that writes a request down as a task for people and answers *pending* at once, or [waits](Self::wait) for
/// their answer.
///
/// The answer *pending* is a sentence of level 5 with the [task's id](LlmResponse::task_id). It is a promise, so it
/// needs a durable task. If the task cannot be written down, the leaf fails, and the request goes on to the next tier
/// if there is one. The task stays if the caller leaves. A request that is repeated under its [idempotency
/// key](LlmRequest::with_idempotency_key) is the same task, and gets its answer once there is one.
///
/// Push it as a [tier of people](steadfast::layers::fallback::Tier::human), without retries or a circuit around it. A
/// caller that waits for a person occupies the layers around the leaf for as long: a place of a
/// [bulkhead](steadfast::Bulkhead), for one. Clones are the same leaf.
///
/// ```
/// use steadfast::{FallbackLayer, LlmRequest, layers::fallback::Tier, providers::Canned};
/// use steadfast_handoff::{Desk, Handoff, MemoryTasks};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // in a program of its own: `Desk::new(Sqlite::open("tasks.db")?)`
/// let desk = Desk::new(MemoryTasks::new());
/// let people = Handoff::new(&desk).allow_volatile();
/// let llm = ServiceBuilder::new()
///     .layer(FallbackLayer::new("model").push(Tier::new("people", people).human()))
///     .service(Canned::text("I am a model."));
///
/// let response = llm.oneshot(LlmRequest::prompt("Please cancel my contract.").with_human_required(true)).await?;
/// let task = response.task_id().unwrap().parse()?;
/// assert_eq!(response.text().await?, format!("A person will answer. Your request is {task}."));
///
/// let answered = desk.answer(task, "ana", "It is cancelled.").await?;
/// assert_eq!(answered.result().output.as_deref(), Some("It is cancelled."));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Handoff {
    desk: Desk,
    settings: Arc<Settings>,
}

#[derive(Clone, Debug)]
struct Settings {
    wait: Wait,
    pending: String,
    allow_volatile: bool,
    max_bytes: usize,
    provider: Arc<str>,
}

/// The wait for an answer.
#[derive(Clone, Copy, Debug)]
enum Wait {
    No,
    /// At most this long.
    UpTo(Duration),
    /// For as long as the caller waits.
    Deadline,
}

/// The model's name while no person has answered.
const PENDING: &str = "pending";
const PLACE: &str = "{task_id}";
/// The time to retry after at a limit on tasks: people answer, or claims and tasks expire.
const LIMIT_RETRY: Duration = Duration::from_secs(60);
/// The time to retry after for a store that heals by itself.
const OUTAGE_RETRY: Duration = Duration::from_secs(5);
/// The time to retry after for a store that an operator has to repair.
const REPAIR_RETRY: Duration = Duration::from_secs(30);
/// The part of a caller's time that is reserved for the answer *pending*.
const REPLY_MARGIN: Duration = Duration::from_millis(100);

impl Handoff {
    /// Creates a leaf that hands requests to this desk, and answers *pending* at once.
    pub fn new(desk: &Desk) -> Self {
        let settings = Settings {
            wait: Wait::No,
            pending: format!("A person will answer. Your request is {PLACE}."),
            allow_volatile: false,
            max_bytes: 4 * 1024 * 1024,
            provider: "handoff".into(),
        };
        Self { desk: desk.clone(), settings: Arc::new(settings) }
    }

    /// Waits for the answer until the request's deadline, and then answers *pending*: the task stays. Without a
    /// deadline it waits as long as the task can be answered. Default: does not wait.
    #[must_use]
    pub fn wait(self) -> Self {
        self.set(|settings| settings.wait = Wait::Deadline)
    }

    /// Waits likewise, but at most this long.
    #[must_use]
    pub fn wait_up_to(self, time: Duration) -> Self {
        self.set(|settings| settings.wait = Wait::UpTo(time))
    }

    /// Sets the text of the answer *pending*; `{task_id}` stands for the task's id. Default: `A person will answer.
    /// Your request is {task_id}.`
    #[must_use]
    pub fn pending_text(self, text: impl Into<String>) -> Self {
        self.set(|settings| settings.pending = text.into())
    }

    /// Also answers *pending* for tasks that end with the process. Default: no, because that promise cannot be kept.
    #[must_use]
    pub fn allow_volatile(self) -> Self {
        self.set(|settings| settings.allow_volatile = true)
    }

    /// Sets the largest request that can be handed over, in bytes. Default: 4 MiB.
    #[must_use]
    pub fn max_bytes(self, bytes: usize) -> Self {
        self.set(|settings| settings.max_bytes = bytes)
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    async fn hand_over(self, request: LlmRequest) -> Result<LlmResponse, LlmError> {
        if request.extensions().get::<RedriveMarker>().is_some() {
            return Err(LlmError::new(ErrorKind::Exhausted, "the request is a task's already"));
        }
        let promises = self.desk.is_durable() || self.settings.allow_volatile;
        if !promises && matches!(self.settings.wait, Wait::No) {
            return Err(self.error(
                "a task in memory ends with the process, so the request cannot be queued; use a durable store",
            ));
        }
        let until = self.waits_until(&request, Instant::now());
        let task = self.task(&request)?;
        let reason = reason(&request);
        drop(request);
        let new = task.id;
        let id = self.desk.submit(task).await.map_err(|error| self.submit_error(error))?;
        let answered = match until {
            Until::Now if id == new => None,
            Until::Now => self.answered_before(id).await,
            Until::Answered => self.answer(id).await?,
            Until::At(at) => {
                tokio::select! {
                    biased;
                    answered = self.answer(id) => answered?,
                    () = sleep_until(at) => None,
                }
            }
        };
        match answered {
            Some(task) => Ok(self.response_of(&task)),
            None if promises => Ok(self.pending(id, reason)),
            None => Err(self.error("no person answered in time, and a task in memory ends with the process")),
        }
    }

    fn task(&self, request: &LlmRequest) -> Result<NewTask, LlmError> {
        let stored = StoredRequest::of(request)?;
        let caller = request.extensions().get::<CallerTask>();
        let (size, most) = (stored.size() + caller.map_or(0, CallerTask::size), self.settings.max_bytes);
        if size > most {
            let text = format!("a request of {size} bytes is too large to hand over; the limit is {most}");
            return Err(LlmError::new(ErrorKind::TooLarge, text).with_model(self.settings.provider.clone(), PENDING));
        }
        let id = TaskId::new().map_err(|error| self.submit_error(error.into()))?;
        let before = request.extensions().get::<PriorAttempts>();
        let mut task = NewTask::new(id, stored);
        // No database accepts this character.
        let kept = |name: &str| name.replace('\0', "");
        task.feature = request.feature().map(kept);
        task.session = request.session().map(kept);
        task.tenant = request.tenant().map(|tenant| kept(tenant));
        task.caller = caller.map(CallerTask::storable);
        task.requires_human = request.is_human_required();
        task.reason = reason(request).name().to_owned();
        task.attempts = before.map_or(&[][..], |before| &before.attempts).iter().map(PriorAttempt::of).collect();
        self.desk.prepare(&mut task, request)?;
        Ok(task)
    }

    /// Returns the moment until which the caller waits.
    fn waits_until(&self, request: &LlmRequest, now: Instant) -> Until {
        // An answer at the deadline itself comes too late.
        let callers = request.extensions().get::<CallersDeadline>().map(|callers| callers.0);
        let deadline = callers.into_iter().chain(request.context().deadline).min().map(|deadline| {
            let left = deadline.saturating_duration_since(now);
            now + left.saturating_sub(REPLY_MARGIN.min(left / 10))
        });
        match (self.settings.wait, deadline) {
            (Wait::No, _) => Until::Now,
            (Wait::Deadline, None) => Until::Answered,
            (Wait::Deadline, Some(at)) => Until::At(at),
            (Wait::UpTo(time), deadline) => match now.checked_add(time).into_iter().chain(deadline).min() {
                Some(at) => Until::At(at),
                None => Until::Answered,
            },
        }
    }

    /// Returns the answer of a task that stood for the request already.
    async fn answered_before(&self, id: TaskId) -> Option<Task> {
        // If a slow store does not answer now, the caller can ask later.
        let task = timeout(self.desk.insert_timeout(), self.desk.show(id)).await.ok()?.ok()?;
        task.answer.is_some().then_some(task)
    }

    /// Waits for the answer; `None` if the store cannot say whether there is one.
    async fn answer(&self, id: TaskId) -> Result<Option<Task>, LlmError> {
        match self.desk.wait(id).await {
            Ok(task) => Ok(Some(task)),
            Err(DeskError::Store(_)) => Ok(None),
            Err(error) => Err(self.error(format!("no answer: {error}")).with_source(error)),
        }
    }

    fn response_of(&self, task: &Task) -> LlmResponse {
        let Some(answer) = &task.answer else {
            return self.pending(task.id, DegradedReason::Order);
        };
        let id = task.id.to_string();
        let model = answer.model.as_deref().unwrap_or(PERSON);
        let response =
            LlmResponse::from_message(answer.message.clone()).with_model(self.settings.provider.clone(), model);
        let note = match (&answer.model, &answer.tier) {
            (None, _) => format!("handoff: answered by a person as {id}"),
            (Some(model), None) => format!("handoff: answered by the model {model} as {id}, once it worked again"),
            (Some(model), Some(tier)) => {
                format!("handoff: answered by {tier} (the model {model}) as {id}, once it worked again")
            }
        };
        response.with_task_id(id).with_note(note)
    }

    fn pending(&self, id: TaskId, reason: DegradedReason) -> LlmResponse {
        let id = id.to_string();
        LlmResponse::from_text(self.settings.pending.replace(PLACE, &id))
            .with_model(self.settings.provider.clone(), PENDING)
            .with_degraded(Degradation::new(WORST_LEVEL, reason))
            .with_note(format!("handoff: pending as {id}"))
            .with_task_id(id)
    }

    fn error(&self, message: impl Into<std::borrow::Cow<'static, str>>) -> LlmError {
        LlmError::new(ErrorKind::Server, message).with_model(self.settings.provider.clone(), PENDING)
    }

    fn submit_error(&self, error: DeskError) -> LlmError {
        if let DeskError::LimitReached { .. } = error {
            // Like a bulkhead's refusal: nothing has happened, and only the caller or the operator can help.
            return LlmError::new(ErrorKind::BulkheadFull, error.to_string())
                .with_model(self.settings.provider.clone(), PENDING)
                .with_retry_after(LIMIT_RETRY)
                .with_source(error);
        }
        let DeskError::Store(store) = &error else {
            return self.error(format!("the request was not handed over: {error}")).with_source(error);
        };
        // The store's address is for the log only.
        let text = format!("the request was not handed over: {}", store.kind().sentence());
        let wait = if store.heals() { OUTAGE_RETRY } else { REPAIR_RETRY };
        LlmError::new(ErrorKind::Store, text)
            .with_model(self.settings.provider.clone(), PENDING)
            .with_retry_after(wait)
            .with_source(error)
    }
}

/// Returns the reason for which the request goes to people.
fn reason(request: &LlmRequest) -> DegradedReason {
    if request.is_human_required() {
        return DegradedReason::RequiresHuman;
    }
    request.extensions().get::<PriorAttempts>().map_or(DegradedReason::Order, |before| before.reason)
}

enum Until {
    Now,
    At(Instant),
    Answered,
}

impl Service<LlmRequest> for Handoff {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture {
        ResponseFuture::new(self.clone().hand_over(request))
    }
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff").field("desk", &self.desk).field("settings", &self.settings).finish_non_exhaustive()
    }
}
