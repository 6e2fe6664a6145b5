use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{CallerTask, Delivery, StoredRequest, TaskId, TaskLimits, TriedBefore};
use crate::chat::Message;

/// How long a preview of what was asked is at most, in characters.
pub const PREVIEW: usize = 200;

/// A request that was handed to people, and what has become of it.
///
/// Times are Unix milliseconds of the store's clock. As JSON it is what a command or a page shows.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// How far it is.
    pub state: TaskState,
    /// The product's feature that asked.
    pub feature: Option<String>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// Whose request it is, where callers are told apart.
    pub tenant: Option<String>,
    /// When it was written down.
    pub created_at: u64,
    /// Until when it may be answered.
    pub expires_at: u64,
    /// Whether the caller asked for a person: then no model is asked by itself.
    pub requires_human: bool,
    /// Why it was handed over, in one word: the [kind](crate::ErrorKind::name) of the first failure, `requires_human`,
    /// or another [reason](crate::DegradedReason::name).
    pub reason: String,
    /// What was tried before.
    pub attempts: Vec<TriedBefore>,
    /// What its caller says of it.
    #[serde(default)]
    pub caller: Option<CallerTask>,
    /// What was asked.
    pub request: StoredRequest,
    /// Who is at it.
    pub claim: Option<TaskClaim>,
    /// What was answered.
    pub answer: Option<TaskAnswer>,
    /// What is told to others about it.
    pub deliveries: Vec<Delivery>,
}

impl Task {
    /// What came of it, for who asked: `None` where it is not answered yet.
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

/// In the place of a model, where a person answered.
pub(crate) const PERSON: &str = "person";
/// In the place of a tier, where a person answered.
const TIER: &str = "handoff";

impl fmt::Debug for Task {
    /// Shows nothing of what is asked or answered.
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

/// What came of a task, for who asked: what is polled, and what a callback brings.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskResult {
    /// The task's name.
    pub task_id: TaskId,
    /// How far it is. `answered`: the rest is there.
    pub state: TaskState,
    /// The answer's text.
    pub output: Option<String>,
    /// The model that answered: `person` for a person.
    pub model: Option<String>,
    /// The provider of the model.
    pub provider: Option<String>,
    /// The tier that answered: `handoff` for a person.
    pub tier: Option<String>,
    /// Who answered.
    pub answered_by: Option<Claimant>,
    /// When, in Unix milliseconds.
    pub answered_at: Option<u64>,
    /// The product's feature that asked.
    pub feature: Option<String>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// What its caller said of it.
    #[serde(default)]
    pub caller: Option<CallerTask>,
    /// When the task was written down, in Unix milliseconds.
    pub created_at: u64,
    /// Until when it may be answered, in Unix milliseconds.
    pub expires_at: u64,
}

impl fmt::Debug for TaskResult {
    /// Shows nothing of what is answered.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskResult")
            .field("task_id", &self.task_id)
            .field("state", &self.state)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskState {
    /// Nobody is at it.
    Waiting,
    /// A person is at it.
    Claimed,
    /// A model is asked once more.
    Redriving,
    /// It is answered.
    Answered,
    /// It was not answered in its time.
    Expired,
}

impl TaskState {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Claimed, Self::Redriving, Self::Answered, Self::Expired];

    /// What a task is at a moment.
    pub(crate) fn at(now: u64, expires_at: u64, claim: Option<&TaskClaim>, is_answered: bool) -> Self {
        match claim.filter(|claim| now < claim.until) {
            _ if is_answered => Self::Answered,
            _ if expires_at <= now => Self::Expired,
            None => Self::Waiting,
            Some(claim) if claim.by.kind == ClaimantKind::Redrive => Self::Redriving,
            Some(_) => Self::Claimed,
        }
    }

    /// Its name: `waiting`, `claimed`, `redriving`, `answered`, `expired`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Claimed => "claimed",
            Self::Redriving => "redriving",
            Self::Answered => "answered",
            Self::Expired => "expired",
        }
    }

    /// Whether it may still be answered.
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

/// Who works at a task or has answered it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claimant {
    /// A person, or a model that is asked once more.
    pub kind: ClaimantKind,
    /// The person's name, or the name of the one redrive.
    pub name: String,
}

/// What kind of a claimant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClaimantKind {
    /// A person.
    Person,
    /// A model that is asked once more.
    Redrive,
}

impl ClaimantKind {
    /// Its name: `person`, `redrive`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Redrive => "redrive",
        }
    }
}

impl Claimant {
    /// A person of this name.
    pub fn person(name: impl Into<String>) -> Self {
        Self { kind: ClaimantKind::Person, name: name.into() }
    }

    /// A redrive of this name; each has one of its own.
    pub fn redrive(name: impl Into<String>) -> Self {
        Self { kind: ClaimantKind::Redrive, name: name.into() }
    }
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ClaimantKind::Person => f.write_str(&self.name),
            ClaimantKind::Redrive => f.write_str("a redrive"),
        }
    }
}

/// That somebody is at a task, so that nobody else answers it meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskClaim {
    /// Who.
    pub by: Claimant,
    /// Until when, unless it is renewed.
    pub until: u64,
}

impl TaskClaim {
    pub(crate) fn new(by: Claimant, until: u64) -> Self {
        Self { by, until }
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskAnswer {
    /// When.
    pub at: u64,
    /// Who: a person, or a redrive, in which case a model made it.
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
    /// Whether it is this one, said again.
    pub(crate) fn is(&self, answer: &NewAnswer) -> bool {
        (&self.by, &self.message) == (&answer.by, &answer.message)
    }

    pub(crate) fn of(answer: NewAnswer, at: u64) -> Self {
        let NewAnswer { by, message, provider, model, tier } = answer;
        Self { at, by, message, provider, model, tier }
    }
}

/// An answer to be written down.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewAnswer {
    /// Who answers.
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
    /// Somebody's answer.
    pub fn new(by: Claimant, message: Message) -> Self {
        Self { by, message, provider: None, model: None, tier: None }
    }
}

/// A task to be written down.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct NewTask {
    /// Its name.
    pub id: TaskId,
    /// The product's feature that asks.
    pub feature: Option<String>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// Whose request it is.
    pub tenant: Option<String>,
    /// For how long it may be answered.
    pub ttl: Duration,
    /// Whether the caller asked for a person.
    pub requires_human: bool,
    /// Why it is handed over, in one word.
    pub reason: String,
    /// What was tried before.
    pub attempts: Vec<TriedBefore>,
    /// What its caller says of it.
    pub caller: Option<CallerTask>,
    /// What is asked.
    pub request: StoredRequest,
    /// By what a repeat of the same request is known: it gets this task's id, and no task of its own.
    pub same_as: Option<String>,
    /// Whether people are told that it is there.
    pub notify: bool,
    /// Who is told that it is answered.
    pub callback: Option<Callback>,
    /// How much there may be with it. Default: [`TaskLimits::default`].
    pub limits: TaskLimits,
}

impl NewTask {
    /// A task of a request, with a new name and a day to be answered.
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
    /// Shows nothing of what is asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTask")
            .field("id", &self.id)
            .field("feature", &self.feature)
            .field("reason", &self.reason)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Who is told that a task is answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Callback {
    /// Whom the settings name when it is answered.
    Settings,
    /// An address that came with the request.
    Url(String),
}

impl Callback {
    /// The address, where it came with the request.
    pub(crate) fn into_url(self) -> Option<String> {
        match self {
            Self::Settings => None,
            Self::Url(url) => Some(url),
        }
    }
}

impl fmt::Debug for Callback {
    /// An address can hold a key, so that it is not shown.
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
