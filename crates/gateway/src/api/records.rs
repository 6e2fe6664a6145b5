//! Decision records: the outcome of the last requests, and the reasons.
//!
//! A record has no word of a request or an answer. [`Records`] keeps the last ones.

mod filter;
mod ring;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use steadfast::{
    Attempt, Degradation, Dialect, ErrorKind, LlmError, LlmResponse,
    chat::Usage,
    error::Reader,
    ledger::Next,
    prices::{Price, Usd},
};
use steadfast_internal::decimal::decimal;
use tokio::time::Instant;

pub(crate) use self::{filter::RecordFilter, ring::Records};
use super::{
    cache::CacheOutcome,
    keys::Denial,
    refusal,
    refusals::{OwnTime, Refusal, Refusals},
    repeats::Repeat,
};
use crate::lock::lock;

/// The record of one request.
#[derive(Debug)]
pub(crate) struct Record {
    number: u64,
    id: Arc<str>,
    /// The time of the request, since 1970.
    at: Duration,
    begun: Instant,
    dialect: Dialect,
    state: Mutex<RecordState>,
}

/// The outcome of a request, as far as it is known.
#[derive(Debug, Default)]
struct RecordState {
    key: Option<Arc<str>>,
    session: Option<Arc<str>>,
    feature: Option<Box<str>>,
    /// The kind of a call that is no conversation.
    call: Option<&'static str>,
    asked_model: Option<Arc<str>>,
    stream: bool,
    outcome: Outcome,
    failure: Option<ErrorKind>,
    /// The limit that refused the request, which is no failure of a provider. Boxed: few requests have one.
    refusal: Option<Box<Refusal>>,
    // Shared with the step that answered: each new record drops the oldest, whose own memory has left the processor's
    // cache by then.
    tier: Option<Arc<str>>,
    /// The tier's deployment, if it has several.
    deployment: Option<Arc<str>>,
    provider: Option<Arc<str>>,
    model: Option<Arc<str>>,
    /// The model by the answer's own word, if that is another.
    served_model: Option<Arc<str>>,
    /// The price of the model that answers.
    price: Option<Price>,
    /// True for an answer that was not made for this request: it was paid for before.
    is_kept: bool,
    degraded: Option<Degradation>,
    /// True if the call under its idempotency key may have been made before.
    repeated: bool,
    /// The task for people, if there is one.
    task: Option<Box<str>>,
    cache: Option<CacheOutcome>,
    notes: Vec<Cow<'static, str>>,
    steps: Vec<Attempt>,
    /// The number of attempts that were sent.
    sent: usize,
    overhead: Option<Duration>,
    first_token: Option<Duration>,
    took: Option<Duration>,
    usage: Option<Usage>,
    cost: Option<Usd>,
}

/// The state of a request, or its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    #[default]
    Running,
    Answered,
    Failed,
    /// The answer broke after it had begun.
    Broken,
    /// The caller disconnected.
    Abandoned,
}

impl Outcome {
    /// Each of them.
    const ALL: [Self; 5] = [Self::Running, Self::Answered, Self::Failed, Self::Broken, Self::Abandoned];

    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Record {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Writes the id into headers: under its own name, and under the dialect's if the provider has set none.
    pub(crate) fn write_id(&self, headers: &mut HeaderMap) {
        put(headers, REQUEST_ID, self.id.as_bytes());
        let name = refusal::request_id_header(self.dialect);
        if !headers.contains_key(&name) {
            put(headers, name, self.id.as_bytes());
        }
    }

    /// Returns the record as JSON. With `words` it has the failures' messages.
    pub(crate) fn json(&self, words: bool) -> Value {
        let state = lock(&self.state);
        let steps: Vec<Value> = state.steps.iter().map(|step| self.step(step, words)).collect();
        let mut value = json!({
            "id": &*self.id,
            "at_ms": millis(self.at),
            "dialect": self.dialect.to_string(),
            "key": state.key.as_deref(),
            "session": state.session.as_deref(),
            "feature": state.feature,
            "asked_model": state.asked_model.as_deref(),
            "stream": state.stream,
            "outcome": state.outcome.name(),
            "failure": state.failure(),
            "tier": state.tier.as_deref(),
            "provider": state.provider.as_deref(),
            "model": state.model.as_deref(),
            "served_model": state.served_model.as_deref(),
            "attempts": state.sent,
            "fallback_reason": state.reason().map(ErrorKind::name),
            "degraded": state.degraded,
            "repeated": state.repeated.then_some(POSSIBLE),
            "task_id": state.task,
            "cache": state.cache.map(CacheOutcome::json),
            "notes": state.notes,
            "overhead_ms": state.overhead.map(fine),
            "first_token_ms": state.first_token.map(fine),
            "took_ms": state.took.map(fine),
            "usage": state.usage.map(|usage| json!({
                "input": usage.input, "output": usage.output,
                "cache_read": usage.cache_read, "cache_write": usage.cache_write, "reasoning": usage.reasoning,
                "service_tier": usage.service_tier,
            })),
            "cost_usd": state.cost.map(Usd::dollars),
            "steps": steps,
        });
        if let Some(deployment) = &state.deployment {
            value["deployment"] = deployment.as_ref().into();
        }
        if let Some(call) = state.call {
            value["call"] = call.into();
        }
        if let Some(Refusal { reason, scope, limit, shown }) = state.refusal.as_deref() {
            value["refusal"] = json!({"reason": reason.name(), "scope": scope.name(), "limit": limit});
            if let Some(hash) = shown {
                value["refusal"]["key_hash"] = hash.to_string().into();
            }
        }
        value
    }

    /// Returns whether the request came with the key of this name.
    pub(crate) fn is_by(&self, key: &str) -> bool {
        lock(&self.state).key.as_deref() == Some(key)
    }

    /// Returns whether the filter wants it.
    pub(crate) fn matches(&self, filter: &RecordFilter) -> bool {
        filter.wants(&lock(&self.state))
    }

    fn step(&self, step: &Attempt, words: bool) -> Value {
        let mut value = json!({
            "tier": step.tier.as_deref(),
            "provider": step.provider.as_deref(),
            "model": step.model.as_deref(),
            "begun_ms": fine(step.begun.saturating_duration_since(self.begun)),
            "took_ms": fine(step.took),
            "failure": step.failure.map(ErrorKind::name),
            "next": step.next.to_string(),
        });
        if let Some(deployment) = &step.deployment {
            value["deployment"] = deployment.as_ref().into();
        }
        if let Some(status) = step.status {
            value["status"] = status.as_u16().into();
        }
        if let Some(wait) = step.retry_after {
            value["retry_after_ms"] = millis(wait).into();
        }
        if words && step.message != "" {
            value["message"] = step.message.as_str().into();
        }
        value
    }
}

impl RecordState {
    /// Returns the name of the limit that refused the request, or of the failure.
    fn failure(&self) -> Option<&'static str> {
        let refused = self.refusal.as_ref().map(|refusal| refusal.reason.name());
        refused.or_else(|| self.failure.map(ErrorKind::name))
    }

    /// Takes the answer's tokens, as far as they are known, with what they cost at this hour.
    fn set_usage(&mut self, usage: Option<Usage>) {
        let cost = || usage?.cost_at(self.price.as_ref());
        (self.cost, self.usage) = (if self.is_kept { Some(Usd::ZERO) } else { cost() }, usage);
    }

    /// Returns the reason for which the first tier did not serve.
    fn reason(&self) -> Option<ErrorKind> {
        let away = self.steps.iter().find(|step| matches!(step.next, Next::FailedOver | Next::Skipped))?;
        Some(away.failure.unwrap_or(ErrorKind::UnsupportedFeature))
    }
}

/// Returns a caller's name as a record has it.
fn bounded(name: &Arc<str>) -> Arc<str> {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => name[..end].into(),
        None => name.clone(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns milliseconds with three decimals.
fn fine(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Returns the same as text; formatting a float takes long.
fn fine_text(time: Duration) -> String {
    let rounded = time.saturating_add(Duration::from_nanos(500));
    decimal(u64::try_from(rounded.as_micros()).unwrap_or(u64::MAX), 3, 0)
}

/// Returns the steps with the words that an operator may read: a provider's message may repeat a whole prompt.
fn for_operators(mut steps: Vec<Attempt>) -> Vec<Attempt> {
    for step in &mut steps {
        step.message = step.operators_message();
        step.message.truncate(MAX_MESSAGE);
    }
    steps
}

fn count_sent(steps: &[Attempt]) -> usize {
    steps.iter().filter(|step| !step.is_local()).count()
}

/// A handle to the record of a request in flight. Dropped before the end, it records that the caller disconnected, or
/// that the request panicked.
#[derive(Debug)]
pub(crate) struct Entry {
    record: Arc<Record>,
    /// The counter and the log of refusals.
    refusals: Arc<Refusals>,
    /// The time that the caller gives its request, from its begin.
    own_time: Option<Duration>,
    /// The reader of its errors.
    reader: Reader,
    /// The time at which the request went to the models.
    called: Option<Instant>,
    /// True if the stack has a cache.
    has_cache: bool,
    /// Remembers the request's failures for its next repeat.
    repeat: Option<Repeat>,
    /// The time for which its stream has been silent.
    quiet: Duration,
}

impl Entry {
    fn new(record: Arc<Record>, refusals: Arc<Refusals>) -> Self {
        Self {
            record,
            refusals,
            own_time: None,
            reader: Reader::Caller,
            called: None,
            has_cache: false,
            repeat: None,
            quiet: Duration::ZERO,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// Returns the record.
    pub(crate) fn record(&self) -> Arc<Record> {
        self.record.clone()
    }

    /// Returns the id, shared.
    pub(crate) fn shared_id(&self) -> Arc<str> {
        self.record.id.clone()
    }

    /// Records the caller's key.
    pub(crate) fn set_key(&self, key: &Arc<str>) {
        lock(&self.record.state).key = Some(key.clone());
    }

    /// Returns the name of the caller's key.
    pub(crate) fn key(&self) -> Option<Arc<str>> {
        lock(&self.record.state).key.clone()
    }

    /// Returns the feature of a request that goes to the models.
    pub(crate) fn feature(&self) -> Option<Box<str>> {
        lock(&self.record.state).feature.clone()
    }

    /// Records that the request goes to the models.
    pub(crate) fn set_request(&mut self, model: Option<&Arc<str>>, feature: Option<Box<str>>, stream: bool) {
        self.called = Some(Instant::now());
        let model = model.map(bounded);
        let mut state = lock(&self.record.state);
        state.asked_model = model;
        (state.feature, state.stream) = (feature, stream);
    }

    /// Records the caller's session.
    pub(crate) fn set_session(&self, session: Option<&str>) {
        lock(&self.record.state).session = session.map(|session| bounded(&session.into()));
    }

    /// Makes the program that has the stack the reader of the request's errors.
    pub(crate) fn set_embedded(&mut self) {
        self.reader = Reader::Programmer;
    }

    /// Returns the reader of the request's errors.
    pub(crate) fn reader(&self) -> Reader {
        self.reader
    }

    /// Sets the time that the caller gives its request.
    pub(crate) fn set_own_time(&mut self, own_time: Option<Duration>) {
        self.own_time = own_time;
    }

    /// Records the tier that alone may answer.
    pub(crate) fn set_tier(&self, tier: &Arc<str>) {
        lock(&self.record.state).tier = Some(tier.clone());
    }

    /// Records that the request is a call of this kind, and no conversation.
    pub(crate) fn set_call(&self, kind: &'static str) {
        lock(&self.record.state).call = Some(kind);
    }

    /// Sets the memory of the request's failures.
    pub(crate) fn set_repeat(&mut self, repeat: Repeat) {
        self.repeat = Some(repeat);
    }

    /// Records for how long the stream has been silent.
    pub(crate) fn set_quiet(&mut self, quiet: Duration) {
        self.quiet = quiet;
    }

    /// Records whether the stack has a cache.
    pub(crate) fn set_cache(&mut self, has_cache: bool) {
        self.has_cache = has_cache;
    }

    /// Records the start of the answer.
    ///
    /// It takes the steps out of the response.
    pub(crate) fn served(&self, response: &mut LlmResponse) {
        let cache = CacheOutcome::of(response, self.has_cache);
        let now = Instant::now();
        let sent = response.served_by().attempts;
        let steps = for_operators(response.take_attempts());
        if let Some(repeat) = &self.repeat {
            repeat.served(&steps);
        }
        let by = response.served_by();
        let last = steps.last();
        let tier = shared(by.tier, last.and_then(|step| step.tier.as_ref()));
        let deployment = shared(by.deployment, last.and_then(|step| step.deployment.as_ref()));
        let provider = shared(by.provider, last.and_then(|step| step.provider.as_ref()));
        let model = shared(by.model, last.and_then(|step| step.model.as_ref()));
        let mut state = lock(&self.record.state);
        (state.tier, state.provider, state.model) = (tier, provider, model);
        state.deployment = deployment;
        (state.served_model, state.price) = (response.served_model(), response.price().copied());
        state.is_kept = response.cached().is_some();
        state.set_usage(response.usage());
        (state.degraded, state.sent) = (response.degraded(), sent);
        state.cache = cache;
        state.repeated = response.is_possible_repeat();
        state.task = response.task_id().map(Into::into);
        state.notes.extend_from_slice(response.notes());
        // Without a recorded attempt, the whole call was a provider's time.
        let recorded = steps.iter().any(|step| step.next == Next::Answered);
        let elsewhere = match self.called {
            Some(called) if !recorded => now - called,
            _ => steps.iter().map(|step| step.took).sum(),
        };
        let until_now = now - self.record.begun;
        state.overhead = Some(until_now.saturating_sub(elsewhere));
        state.first_token = Some(until_now);
        state.steps = steps;
    }

    /// Records what was left out on the way to the caller.
    pub(crate) fn note(&self, notes: Vec<Cow<'static, str>>) {
        if !notes.is_empty() {
            lock(&self.record.state).notes.extend(notes);
        }
    }

    /// Records that the caller is denied the request, and reports it.
    pub(crate) fn denied(&self, denied: &Denial) {
        let refusal = Refusal::of_denial(denied);
        self.report(&refusal, refusal::status_of_denial(denied));
        let mut state = lock(&self.record.state);
        state.refusal = Some(Box::new(refusal));
        self.end(&mut state, Outcome::Failed);
    }

    /// Counts and logs a refusal.
    fn report(&self, refusal: &Refusal, status: StatusCode) {
        self.refusals.report(refusal, self.key(), self.id(), status);
    }

    /// Returns the number of failures like this one without a line since the last, if this one may have a line.
    pub(crate) fn next_failure_line(&self, kind: ErrorKind) -> Option<u64> {
        self.refusals.next_failure_line(kind, self.key())
    }

    /// Returns the state of the time that the caller gives its request.
    fn own_time(&self) -> OwnTime {
        match self.own_time {
            None => OwnTime::Unset,
            Some(time) if self.record.begun.elapsed() >= time => OwnTime::Over,
            Some(_) => OwnTime::Running,
        }
    }

    /// Records a failure, or the end of a broken answer. Returns true for a refusal on this side, which it reports.
    pub(crate) fn failed(&self, outcome: Outcome, error: &LlmError) -> bool {
        let tier = lock(&self.record.state).tier.clone();
        let refusal = Refusal::of(error, self.own_time());
        let is_refused = refusal.is_some();
        let status = || refusal::status_of(self.reader, self.record.dialect)(error);
        if let Some(refusal) = &refusal {
            self.report(refusal, status());
        }
        match (&self.repeat, tier) {
            (Some(repeat), _) if outcome == Outcome::Failed => {
                repeat.failed(error, self.called.is_some(), status());
            }
            (Some(repeat), Some(tier)) if outcome == Outcome::Broken => repeat.broke(&tier, error.kind()),
            _ => {}
        }
        let steps = (outcome == Outcome::Failed).then(|| for_operators(error.attempts().to_vec()));
        let mut state = lock(&self.record.state);
        state.failure = Some(error.kind());
        state.refusal = refusal.map(Box::new);
        state.repeated |= error.is_possible_repeat();
        if let Some(steps) = steps {
            let unrecorded = steps.is_empty() && self.called.is_some() && !error.kind().is_local();
            state.sent = count_sent(&steps) + usize::from(unrecorded);
            state.steps = steps;
        }
        self.end(&mut state, outcome);
        is_refused
    }

    /// Records that the answer is complete.
    pub(crate) fn answered(&self, usage: Option<Usage>) {
        let mut state = lock(&self.record.state);
        // A whole answer's were known when it began.
        if usage.is_none() || state.usage != usage {
            state.set_usage(usage);
        }
        if let Some(repeat) = &self.repeat {
            repeat.answered(state.tier.as_ref());
        }
        self.end(&mut state, Outcome::Answered);
    }

    fn end(&self, state: &mut RecordState, outcome: Outcome) {
        if state.outcome == Outcome::Running {
            state.outcome = outcome;
            state.took = Some(self.record.begun.elapsed());
        }
    }

    /// Writes what is known so far into headers.
    pub(crate) fn write_headers(&self, explain: bool, headers: &mut HeaderMap) {
        self.record.write_id(headers);
        {
            let state = lock(&self.record.state);
            for (name, value) in [(TIER, &state.tier), (MODEL, &state.model)] {
                if let Some(value) = value {
                    put(headers, name, value.as_bytes());
                }
            }
            if state.outcome != Outcome::Running || state.first_token.is_some() {
                headers.insert(ATTEMPTS, number(state.sent));
            }
            if let Some(cost) = state.cost {
                put(headers, COST, cost.plain().as_bytes());
            }
            if let Some(reason) = state.reason() {
                headers.insert(FALLBACK_REASON, HeaderValue::from_static(reason.name()));
            }
            if let Some(degraded) = state.degraded {
                put(headers, DEGRADED, degraded.to_string().as_bytes());
            }
            if state.repeated {
                headers.insert(REPEATED, HeaderValue::from_static(POSSIBLE));
            }
            if let Some(task) = &state.task {
                put(headers, TASK_ID, task.as_bytes());
            }
            if let Some(outcome) = state.cache {
                outcome.write_headers(headers);
            }
            if !state.notes.is_empty() {
                let notes = state.notes.join("; ");
                let end = notes.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_HEADER).unwrap_or(notes.len());
                put(headers, NOTES, &notes.as_bytes()[..end]);
            }
            if let Some(overhead) = state.overhead {
                put(headers, OVERHEAD, fine_text(overhead).as_bytes());
            }
        }
        if explain {
            put(headers, DECISION, self.decision().as_bytes());
        }
    }

    /// Returns the decision record on one line, in ASCII and of bounded length.
    fn decision(&self) -> String {
        for words in [true, false] {
            let text = ascii(&self.record.json(words).to_string());
            if text.len() <= MAX_HEADER {
                return text;
            }
        }
        json!({"id": &*self.record.id, "too_long": format!("see /requests/{}", self.record.id)}).to_string()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = lock(&self.record.state);
        let outcome = match thread::panicking() {
            true => {
                state.failure.get_or_insert(ErrorKind::Other);
                Outcome::Failed
            }
            false => Outcome::Abandoned,
        };
        if let Some(repeat) = &self.repeat
            && outcome == Outcome::Abandoned
            && state.outcome == Outcome::Running
        {
            repeat.left(state.tier.as_ref().map(|tier| (tier, self.quiet)));
        }
        self.end(&mut state, outcome);
    }
}

/// Returns a name, shared if a copy exists.
fn shared(name: Option<&str>, there: Option<&Arc<str>>) -> Option<Arc<str>> {
    let name = name?;
    Some(there.filter(|there| ***there == *name).map_or_else(|| name.into(), Arc::clone))
}

/// Escapes everything beyond ASCII: headers can carry nothing else for sure.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut units = [0; 2];
    for char in json.chars() {
        match char {
            ' '..='~' => text.push(char),
            _ => char.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    text
}

/// Inserts a header; leaves out a value that no header may carry.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(name, value);
    }
}

/// Returns a number as a header's value, without allocation if it has one digit.
fn number(value: usize) -> HeaderValue {
    const DIGITS: &str = "0123456789";
    DIGITS.get(value..=value).map_or_else(|| value.into(), HeaderValue::from_static)
}

/// The longest name of a model or a session in a record, in characters: only the body's limit bounds the caller's text.
const MAX_NAME: usize = 200;
/// The longest message of a failure in a record, in bytes.
const MAX_MESSAGE: usize = 500;
/// The longest header of ours, in bytes: some proxies take 8 KB of headers in all.
const MAX_HEADER: usize = 4096;

/// The id of the request's record, for `GET /requests/{id}`, on each response.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-steadfast-request-id");
/// The tier that answered.
pub(crate) const TIER: HeaderName = HeaderName::from_static("x-steadfast-tier");
/// The model that answered.
const MODEL: HeaderName = HeaderName::from_static("x-steadfast-model");
/// The number of calls that were sent for the request.
const ATTEMPTS: HeaderName = HeaderName::from_static("x-steadfast-attempts");
/// The cost of a whole answer, in US dollars: the provider's own figure, or else by the price of the model that served.
/// Missing on streams, whose tokens come at their end, and where no price is known.
const COST: HeaderName = HeaderName::from_static("x-steadfast-cost-usd");
/// The kind of failure for which the first tier did not answer.
const FALLBACK_REASON: HeaderName = HeaderName::from_static("x-steadfast-fallback-reason");
/// The level of a lesser answer, from 2 (a lesser model) to 5 (a fixed sentence), and its reason:
/// `2;reason=circuit_open`.
const DEGRADED: HeaderName = HeaderName::from_static("x-steadfast-degraded");
/// `possible` where the call under the request's idempotency key may have been made before.
const REPEATED: HeaderName = HeaderName::from_static("x-steadfast-repeated");
/// The value for a call that may have been made twice.
const POSSIBLE: &str = "possible";
/// The task of a request that was handed to people, for `GET /handoff/answers/{id}`.
const TASK_ID: HeaderName = HeaderName::from_static("x-steadfast-task-id");
/// The parts of the request that were left out or taken otherwise on the way, in sentences.
pub(super) const NOTES: HeaderName = HeaderName::from_static("x-steadfast-notes");
/// The gateway's own share of the time to the first token, in milliseconds.
const OVERHEAD: HeaderName = HeaderName::from_static("x-steadfast-overhead-ms");
/// The whole decision record in JSON, for a request with `x-steadfast-explain`.
const DECISION: HeaderName = HeaderName::from_static("x-steadfast-decision");
