//! One line of a log, or one record.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use steadfast::ErrorKind;
use steadfast_internal::wall_clock::parse_rfc3339;

/// A line's content, as far as a replay needs it.
#[derive(Debug)]
pub(super) enum Entry {
    Request(Box<LoggedRequest>),
    /// A probe that the gateway made by itself.
    Check(LoggedCheck),
    /// Several records in one object or list.
    Records(Vec<Box<RawValue>>),
    /// A line about something else.
    Other,
}

/// A request that ended.
#[derive(Debug)]
pub(super) struct LoggedRequest {
    /// Its arrival, since 1970.
    pub(super) at: Duration,
    pub(super) feature: Option<String>,
    pub(super) key: Option<String>,
    pub(super) session: Option<String>,
    pub(super) stream: bool,
    pub(super) end: LoggedEnd,
    /// The tier that served.
    pub(super) tier: Option<String>,
    /// The time to the first token, if there was one.
    pub(super) first_token: Option<Duration>,
    /// The part of it at the tier that served.
    pub(super) served_in: Duration,
    pub(super) took: Duration,
    /// The steps that failed.
    pub(super) failures: Vec<LoggedFailure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoggedEnd {
    Answered { degraded: bool, handed_off: bool },
    Failed(ErrorKind),
    Broken(ErrorKind),
    Abandoned,
}

/// A step of a request that failed.
#[derive(Debug)]
pub(super) struct LoggedFailure {
    pub(super) tier: Option<String>,
    pub(super) kind: ErrorKind,
    pub(super) status: Option<u16>,
    pub(super) took: Duration,
    pub(super) retry_after: Option<Duration>,
    /// True if nothing was sent.
    pub(super) is_local: bool,
}

/// A probe of a tier without a caller's request.
#[derive(Debug)]
pub(super) struct LoggedCheck {
    pub(super) at: Duration,
    pub(super) tier: String,
    pub(super) failure: Option<ErrorKind>,
    pub(super) took: Duration,
}

/// The fields of both forms; a line has those of one.
#[derive(Deserialize)]
struct Fields {
    event: Option<String>,
    message: Option<Box<RawValue>>,
    timestamp: Option<String>,
    outcome: Option<String>,
    kind: Option<String>,
    reason: Option<String>,
    feature: Option<String>,
    key: Option<String>,
    session: Option<String>,
    tier: Option<String>,
    stream: Option<bool>,
    /// A flag in a line of the log, an object or nothing in a record.
    degraded: Option<Box<RawValue>>,
    task_id: Option<String>,
    latency_ms: Option<f64>,
    first_token_ms: Option<f64>,
    latency_by_tier: Option<String>,
    failures: Option<String>,
    /// A list, or a text that has it: not every JSON formatter writes lists.
    failed_attempts: Option<Box<RawValue>>,
    works: Option<bool>,
    took_ms: Option<f64>,
    at_ms: Option<u64>,
    failure: Option<String>,
    call: Option<String>,
    steps: Option<Vec<Step>>,
    requests: Option<Vec<Box<RawValue>>>,
}

/// A step, under the names of both forms.
#[derive(Deserialize)]
struct Step {
    tier: Option<String>,
    #[serde(alias = "failure")]
    kind: Option<String>,
    status: Option<u16>,
    #[serde(alias = "took_ms")]
    latency_ms: Option<f64>,
    retry_after_ms: Option<f64>,
    next: Option<String>,
}

/// Reads a line.
///
/// # Errors
///
/// A sentence about what is wrong with it.
pub(super) fn entry(text: &str) -> Result<Entry, String> {
    if text.starts_with('[') {
        return serde_json::from_str(text).map(Entry::Records).map_err(|_| "is no list of records".to_owned());
    }
    if !text.starts_with('{') {
        return Err("is no JSON".to_owned());
    }
    let fields: Fields = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("is of another program: {}", said(&error)),
        _ => "is no whole JSON object".to_owned(),
    })?;
    if let Some(records) = fields.requests {
        return Ok(Entry::Records(records));
    }
    match (fields.event.as_deref(), fields.steps.is_some() || fields.at_ms.is_some()) {
        (Some("request"), _) => of_log(fields).map(|request| Entry::Request(Box::new(request))),
        (Some("recovery_checked"), _) => Ok(check(fields).map_or(Entry::Other, Entry::Check)),
        (Some(_), _) => Ok(Entry::Other),
        (None, true) => of_record(fields),
        (None, false) if fields.message.is_some() => Ok(Entry::Other),
        (None, false) => Err("has no field `event`".to_owned()),
    }
}

/// Returns what a JSON error says, without its place in the line.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or_else(|| text.clone(), |(said, _)| said.to_owned())
}

fn missing(field: &str) -> String {
    format!("has no field `{field}`")
}

fn of_log(fields: Fields) -> Result<LoggedRequest, String> {
    let ended = fields.timestamp.as_deref().ok_or_else(|| missing("timestamp"))?;
    let ended = parse_rfc3339(ended).ok_or_else(|| "has no time in `timestamp`".to_owned())?;
    let took = span(fields.latency_ms.ok_or_else(|| missing("latency_ms"))?);
    let steps: Vec<Step> = match fields.failed_attempts.as_deref() {
        Some(list) => steps(list).ok_or_else(|| "has no list in `failed_attempts`".to_owned())?,
        None if fields.failures.is_some() => return Err(missing("failed_attempts")),
        None => Vec::new(),
    };
    let failures = failures(steps);
    let kind = fields.kind.as_deref().map(kind_of);
    let end = end(fields.outcome.as_deref(), kind, fields.degraded.as_deref(), fields.task_id.is_some())?;
    let first_token = fields.first_token_ms.map(span);
    let served_in = served_in(fields.latency_by_tier.as_deref(), fields.tier.as_deref(), first_token, &failures);
    Ok(LoggedRequest {
        at: ended.saturating_sub(took),
        feature: fields.feature,
        key: fields.key,
        session: fields.session,
        stream: fields.stream.unwrap_or_default(),
        end,
        tier: fields.tier,
        first_token,
        served_in,
        took,
        failures,
    })
}

fn of_record(fields: Fields) -> Result<Entry, String> {
    let at = Duration::from_millis(fields.at_ms.ok_or_else(|| missing("at_ms"))?);
    let outcome = fields.outcome.as_deref().ok_or_else(|| missing("outcome"))?;
    // A request under way has no end, and a call that is no conversation has other tiers.
    if outcome == "running" || fields.call.is_some() {
        return Ok(Entry::Other);
    }
    let steps = fields.steps.ok_or_else(|| missing("steps"))?;
    let took = span(fields.took_ms.ok_or_else(|| missing("took_ms"))?);
    let answered = steps.last().filter(|step| step.kind.is_none()).and_then(|step| step.latency_ms);
    let failures = failures(steps);
    // A limit at the door has a name that is no kind; nobody was called.
    let kind = fields.failure.as_deref().map(|name| known_kind(name).unwrap_or(ErrorKind::Budget));
    let end = end(Some(outcome), kind, fields.degraded.as_deref(), fields.task_id.is_some())?;
    let first_token = fields.first_token_ms.map(span);
    let served_in = match answered {
        Some(ms) => span(ms),
        None => served_in(None, fields.tier.as_deref(), first_token, &failures),
    };
    Ok(Entry::Request(Box::new(LoggedRequest {
        at,
        feature: fields.feature,
        key: fields.key,
        session: fields.session,
        stream: fields.stream.unwrap_or_default(),
        end,
        // A failed request may name the only tier that it was meant for.
        tier: fields.tier.filter(|_| !matches!(end, LoggedEnd::Failed(_))),
        first_token,
        served_in,
        took,
        failures,
    })))
}

fn check(fields: Fields) -> Option<LoggedCheck> {
    let (ended, took) = (parse_rfc3339(fields.timestamp.as_deref()?)?, span(fields.took_ms?));
    let failure = fields.reason.as_deref().map(kind_of);
    let failure = if fields.works? { None } else { Some(failure.unwrap_or(ErrorKind::Other)) };
    Some(LoggedCheck { at: ended.saturating_sub(took), tier: fields.tier?, failure, took })
}

fn end(
    outcome: Option<&str>,
    kind: Option<ErrorKind>,
    degraded: Option<&RawValue>,
    handed_off: bool,
) -> Result<LoggedEnd, String> {
    let kind = kind.unwrap_or(ErrorKind::Other);
    match outcome.ok_or_else(|| missing("outcome"))? {
        "answered" => {
            let degraded = degraded.is_some_and(|value| !matches!(value.get(), "false" | "null"));
            Ok(LoggedEnd::Answered { degraded, handed_off })
        }
        "failed" => Ok(LoggedEnd::Failed(kind)),
        "broken" => Ok(LoggedEnd::Broken(kind)),
        "abandoned" => Ok(LoggedEnd::Abandoned),
        other => Err(format!("has an unknown `outcome`, `{}`", other.escape_debug())),
    }
}

fn steps(list: &RawValue) -> Option<Vec<Step>> {
    if list.get().starts_with('"') {
        let text: String = serde_json::from_str(list.get()).ok()?;
        return serde_json::from_str(&text).ok();
    }
    serde_json::from_str(list.get()).ok()
}

fn failures(steps: Vec<Step>) -> Vec<LoggedFailure> {
    let failure = |step: Step| {
        let kind = kind_of(step.kind.as_deref()?);
        Some(LoggedFailure {
            is_local: kind.is_local() || step.next.as_deref() == Some("not asked"),
            tier: step.tier,
            kind,
            status: step.status,
            took: step.latency_ms.map(span).unwrap_or_default(),
            retry_after: step.retry_after_ms.map(span),
        })
    };
    steps.into_iter().filter_map(failure).collect()
}

/// Returns the time of the tier that served, without its own failures before.
fn served_in(
    by_tier: Option<&str>,
    tier: Option<&str>,
    first_token: Option<Duration>,
    failures: &[LoggedFailure],
) -> Duration {
    let failed: Duration = failures.iter().map(|failure| failure.took).sum();
    let rest = first_token.unwrap_or_default().saturating_sub(failed);
    let last = by_tier.and_then(|all| all.rsplit(' ').next()?.rsplit_once('='));
    let Some((name, ms)) = last.filter(|(name, _)| tier.is_some_and(|tier| tier.ends_with(*name))) else { return rest };
    let Ok(ms) = ms.parse::<f64>() else { return rest };
    let own = failures.iter().rev().take_while(|failure| failure.tier.as_deref() == Some(name));
    span(ms).saturating_sub(own.map(|failure| failure.took).sum())
}

fn known_kind(name: &str) -> Option<ErrorKind> {
    ErrorKind::ALL.iter().copied().find(|kind| kind.name() == name)
}

fn kind_of(name: &str) -> ErrorKind {
    known_kind(name).unwrap_or(ErrorKind::Other)
}

/// Returns a time from milliseconds; none for what is no time.
fn span(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
}
