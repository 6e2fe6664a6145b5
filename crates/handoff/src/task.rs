use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{CallerTask, Claimant, ClaimantKind, Delivery, PriorAttempt, StoredRequest, TaskId, TaskLimits};
use steadfast::chat::Message;

/// The longest preview of a request, in characters.
pub const PREVIEW: usize = 200;

/// A request that was handed to people, with its history.
///
/// Times are Unix milliseconds of the store's clock. Its JSON is the form that commands and pages show.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its state.
    pub state: TaskState,
    /// The product's feature that made the request.
    pub feature: Option<String>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// The request's tenant, where callers are distinguished.
    pub tenant: Option<String>,
    /// The creation time.
    pub created_at: u64,
    /// The end of the time for an answer.
    pub expires_at: u64,
    /// True if the caller asked for a person: models then take it only by order.
    pub requires_human: bool,
    /// The reason for which it was handed over, in one word: the [kind](steadfast::ErrorKind::name) of the first
    /// failure, `requires_human`, or another [reason](steadfast::DegradedReason::name).
    pub reason: String,
    /// The attempts before.
    pub attempts: Vec<PriorAttempt>,
    /// The caller's own data.
    #[serde(default)]
    pub caller: Option<CallerTask>,
    /// The request.
    pub request: StoredRequest,
    /// The claim, if it is claimed.
    pub claim: Option<TaskClaim>,
    /// The answer, if it is answered.
    pub answer: Option<TaskAnswer>,
    /// The messages about it.
    pub deliveries: Vec<Delivery>,
}

impl Task {
    /// Returns the result for the caller, without an output if the task is not answered yet.
    pub fn result(&self) -> TaskResult {
        let answer = self.answer.as_ref();
        TaskResult {
            task_id: self.id,
            state: self.state,
            output: answer.map(|answer| answer.message.text()),
            model: answer.map(|answer| answer.model.clone().unwrap_or_else(|| PERSON.to_owned())),
            provider: answer.and_then(|answer| answer.provider.clone()),
            tier: answer.map(|answer| answer.tier.clone().unwrap_or_else(|| TIER.to_owned())),
            answered_by: answer.map(|answer| answer.by.clone()),
            answered_at: answer.map(|answer| answer.at),
            feature: self.feature.clone(),
            session: self.session.clone(),
            caller: self.caller.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
        }
    }
}

/// The model's name if a person answered.
pub(crate) const PERSON: &str = "person";
/// The tier's name if a person answered.
const TIER: &str = "handoff";

impl fmt::Debug for Task {
    /// Hides request and answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("feature", &self.feature)
            .field("reason", &self.reason)
            .field("request", &self.request)
            .field("claim", &self.claim)
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}

/// A task's result for its caller: the response to polling, and the data of a callback.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskResult {
    /// The task's id.
    pub task_id: TaskId,
    /// Its state. With `answered`, the other fields are present.
    pub state: TaskState,
    /// The answer's text.
    pub output: Option<String>,
    /// The model that answered; `person` for a person.
    pub model: Option<String>,
    /// The provider of the model.
    pub provider: Option<String>,
    /// The tier that answered; `handoff` for a person.
    pub tier: Option<String>,
    /// The person or redrive that answered.
    pub answered_by: Option<Claimant>,
    /// The time of the answer, in Unix milliseconds.
    pub answered_at: Option<u64>,
    /// The product's feature that made the request.
    pub feature: Option<String>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// The caller's own data.
    #[serde(default)]
    pub caller: Option<CallerTask>,
    /// The creation time, in Unix milliseconds.
    pub created_at: u64,
    /// The end of the time for an answer, in Unix milliseconds.
    pub expires_at: u64,
}

impl fmt::Debug for TaskResult {
    /// Hides the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskResult")
            .field("task_id", &self.task_id)
            .field("state", &self.state)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// No one has claimed it.
    Waiting,
    /// A person has claimed it.
    Claimed,
    /// A model works on it again.
    Redriving,
    /// It is answered.
    Answered,
    /// It was not answered in time.
    Expired,
}

impl TaskState {
    /// All states, in order.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Claimed, Self::Redriving, Self::Answered, Self::Expired];

    /// Returns a task's state at a moment.
    pub(crate) fn at(now: u64, expires_at: u64, claim: Option<&TaskClaim>, is_answered: bool) -> Self {
        match claim.filter(|claim| now < claim.until) {
            _ if is_answered => Self::Answered,
            _ if expires_at <= now => Self::Expired,
            None => Self::Waiting,
            Some(claim) if claim.by.kind == ClaimantKind::Redrive => Self::Redriving,
            Some(_) => Self::Claimed,
        }
    }

    /// Returns its name: `waiting`, `claimed`, `redriving`, `answered`, `expired`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Claimed => "claimed",
            Self::Redriving => "redriving",
            Self::Answered => "answered",
            Self::Expired => "expired",
        }
    }

    /// Returns whether it can still be answered.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Claimed | Self::Redriving)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TaskState {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| format!("no state; there are {}", known()))
    }
}

/// A claim on a task, during which no other claimant answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskClaim {
    /// The holder.
    pub by: Claimant,
    /// The end of the claim unless it is renewed.
    pub until: u64,
}

impl TaskClaim {
    /// Creates a claim until this time, in Unix milliseconds.
    pub fn new(by: Claimant, until: u64) -> Self {
        Self { by, until }
    }
}

/// The answer to a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskAnswer {
    /// The time of the answer.
    pub at: u64,
    /// The person who answered, or the redrive through which a model did.
    pub by: Claimant,
    /// The answer.
    pub message: Message,
    /// The model's provider; `None` for a person.
    pub provider: Option<String>,
    /// The model that made it; `None` for a person.
    pub model: Option<String>,
    /// The tier that made it; `None` for a person.
    pub tier: Option<String>,
}

impl TaskAnswer {
    /// Returns whether a new answer repeats this one.
    pub fn is(&self, answer: &NewAnswer) -> bool {
        (&self.by, &self.message) == (&answer.by, &answer.message)
    }

    /// Creates an answer that was given at this time, in Unix milliseconds.
    pub fn of(answer: NewAnswer, at: u64) -> Self {
        let NewAnswer { by, message, provider, model, tier } = answer;
        Self { at, by, message, provider, model, tier }
    }
}

/// An answer to write down.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewAnswer {
    /// The person or redrive that answers.
    pub by: Claimant,
    /// The answer.
    pub message: Message,
    /// The model's provider; `None` for a person.
    pub provider: Option<String>,
    /// The model that made it; `None` for a person.
    pub model: Option<String>,
    /// The tier that made it; `None` for a person.
    pub tier: Option<String>,
}

impl NewAnswer {
    /// Creates an answer of this claimant.
    pub fn new(by: Claimant, message: Message) -> Self {
        Self { by, message, provider: None, model: None, tier: None }
    }
}

/// A task to write down.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// The product's feature that makes the request.
    pub feature: Option<String>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// The request's tenant.
    pub tenant: Option<String>,
    /// The time for which it can be answered.
    pub ttl: Duration,
    /// True if the caller asked for a person.
    pub requires_human: bool,
    /// The reason for which it is handed over, in one word.
    pub reason: String,
    /// The attempts before.
    pub attempts: Vec<PriorAttempt>,
    /// The caller's own data.
    pub caller: Option<CallerTask>,
    /// The request.
    pub request: StoredRequest,
    /// The key by which a repeat of the request is recognised. A repeat gets this task's id, and no task of its own.
    pub same_as: Option<String>,
    /// True if people are to be notified.
    pub notify: bool,
    /// The receiver of the callback.
    pub callback: Option<Callback>,
    /// The limits on tasks. Default: [`TaskLimits::default`].
    pub limits: TaskLimits,
}

impl NewTask {
    /// Creates a task for a request, with a day for the answer.
    pub fn new(id: TaskId, request: StoredRequest) -> Self {
        Self {
            id,
            feature: None,
            session: None,
            tenant: None,
            ttl: Duration::from_secs(86_400),
            requires_human: false,
            reason: "order".to_owned(),
            attempts: Vec::new(),
            caller: None,
            request,
            same_as: None,
            notify: false,
            callback: None,
            limits: TaskLimits::default(),
        }
    }
}

impl fmt::Debug for NewTask {
    /// Hides the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTask")
            .field("id", &self.id)
            .field("feature", &self.feature)
            .field("reason", &self.reason)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// The receiver of the message that a task is answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Callback {
    /// The address that the settings name at the time of the answer.
    Settings,
    /// An address that came with the request.
    Url(String),
}

impl Callback {
    /// Returns the address, if it came with the request.
    pub fn into_url(self) -> Option<String> {
        match self {
            Self::Settings => None,
            Self::Url(url) => Some(url),
        }
    }
}

impl fmt::Debug for Callback {
    /// Hides the address: it can contain a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "Settings",
            Self::Url(_) => "Url(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_by_the_clock_and_an_answer_is_for_ever() {
        let claim = |by| TaskClaim::new(by, 50);
        let (person, redrive) = (claim(Claimant::person("ana")), claim(Claimant::redrive("1")));
        let cases = [
            (10, None, false, TaskState::Waiting),
            (10, Some(&person), false, TaskState::Claimed),
            (10, Some(&redrive), false, TaskState::Redriving),
            (50, Some(&person), false, TaskState::Waiting),
            (100, None, false, TaskState::Expired),
            (100, Some(&person), true, TaskState::Answered),
        ];
        for (now, claim, answered, state) in cases {
            assert_eq!(TaskState::at(now, 100, claim, answered), state);
            assert_eq!(state.name().parse(), Ok(state));
        }
        assert!("gone".parse::<TaskState>().is_err());
    }
}
