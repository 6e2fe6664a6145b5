use std::{fmt, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use tracing::Level;

use super::{LineLimit, StackView, setup::Setups};
use steadfast::{
    Attempt, ErrorKind,
    events::{CircuitState, Comparison, Event, HandedOver, HandoffStep, RequestEnded, Subscriber},
};

/// A [`Subscriber`] that writes the events to the log, through [`tracing`].
///
/// Each line has the target `steadfast`, and its kind in the field `event`. With a JSON formatter of
/// `tracing-subscriber` it is a line of JSON with a `timestamp`. No line contains a word of a prompt or an answer, or a
/// key. `error` has a provider's words as anybody may read them (`LlmError::public_message`).
///
/// | `event` | level | fields |
/// |---|---|---|
/// | `request` | INFO, see [`requests`](Self::requests) | `request_id`, `status`, `task_id`, `outcome`, `kind`, `feature`, `key` (its name), `team`, `session`, `tier`, `tier_number`, `provider`, `model`, `served_model` (by the answer, if it names another), `route`, `attempts`, `failures`, `failed_attempts`, `stream`, `degraded`, `degraded_level`, `degraded_reason`, `latency_ms`, `first_token_ms`, `latency_by_tier`, `input_tokens`, `output_tokens`, `cost_usd`, and of a stream that broke `delivered_frames`, `delivered_characters`, `delivered_bytes` |
/// | `setup_refused` | ERROR, once for a tier that has never answered | `tier`, `tier_number`, `provider`, `model`, `reason`, `status`, `error`, `request_id`, `advice` |
/// | `model_switched` | WARN | `from`, `to` (tiers), `from_model`, `to_model`, `reason`, `chain` (its id in the status), `first` (the chain's first tier), and of the failure behind it `kind`, `status`, `error`, `request_id` |
/// | `model_recovered` | INFO | `chain`, `from`, `to`, `from_model`, `to_model`, `reason` (`recovered`), `after_seconds` |
/// | `circuit_changed` | WARN if it opens, else INFO | `circuit`, `from`, `to`, `reason`, and of the failure that opened it `kind`, `status`, `error`, `request_id` |
/// | `recovery_checked` | INFO | `tier`, `works`, `reason`, `took_ms` |
/// | `hedged` | DEBUG | `tier`, `to`, `won`, `after_ms` |
/// | `all_tiers_failed` | ERROR, one line in [`AT_MOST_EVERY`](Self::AT_MOST_EVERY) | `feature`, `reason`, `unsaid` (how many had no line since the last) |
/// | `budget_reached` | WARN | `cap`, `key`, `percent`, `spent_usd`, `reserved_usd`, `limit_usd`, `resets_in_seconds` |
/// | `budget_reset` | INFO | `cap`, `key` |
/// | `usage_replaced` | WARN, one line in [`AT_MOST_EVERY`](Self::AT_MOST_EVERY) | `provider`, `model`, `input_tokens`, `output_tokens` (as the provider reports them), `counted_input_tokens`, `counted_output_tokens`, `unsaid` |
/// | `operated` | WARN | `operation`, `tier`, `feature`, `level`, `by` |
/// | `handed_over` | WARN if something did not arrive, else INFO | `step`, `task`, `feature`, `reason`, `by`, `after_seconds` |
/// | `mirrored` | as `request` | `feature`, `agrees`, `similarity`, `same_tools`, `candidate_kind`, and of `primary` and `candidate` each how it ended, `.._model`, `.._first_token_ms`, `.._latency_ms`, `.._cost_usd` |
/// | `not_compared` | DEBUG | `feature`, `reason` (why a request that was chosen to be mirrored was not) |
/// | `reloaded` | INFO | `kept` (tiers), `changed` (settings, by their paths) |
/// | `reload_refused` | WARN | `reason` |
/// | `events_lost` | WARN | `count` |
///
/// Empty fields are left out. `failures` lists the attempts that failed before, as `tier=kind`; `latency_by_tier` lists
/// each tier's time in milliseconds, as `tier=50.1`. `failed_attempts` has the same failures as a list in JSON: an
/// object for each with `attempt` (the first is 1), `tier`, `tier_number`, `provider`, `model`, `kind`, `status`,
/// `latency_ms`, `retry_after_ms` and `next`. A tier's number is its place in the configuration; the primary's is 1.
/// Tier numbers and the models of a switch need a [stack](Self::stack).
///
/// ```
/// use steadfast::Events;
/// use steadfast_subscribers::Logs;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let events = Events::new();
/// let _subscription = events.follow(Logs::new());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Logs {
    requests: Option<Level>,
    refused: LineLimit,
    replaced: LineLimit,
    stack: Option<Arc<dyn StackView>>,
    /// The stack's tiers in order, each with its model.
    tiers: Vec<(Arc<str>, Option<Arc<str>>)>,
    setups: Setups,
}

/// The target of every line.
const TARGET: &str = "steadfast";

/// Writes one line at a level known at run time.
macro_rules! line {
    ($level:expr, $($field:tt)*) => {
        match $level {
            Level::ERROR => tracing::event!(target: TARGET, Level::ERROR, $($field)*),
            Level::WARN => tracing::event!(target: TARGET, Level::WARN, $($field)*),
            Level::INFO => tracing::event!(target: TARGET, Level::INFO, $($field)*),
            Level::DEBUG => tracing::event!(target: TARGET, Level::DEBUG, $($field)*),
            _ => tracing::event!(target: TARGET, Level::TRACE, $($field)*),
        }
    };
}

impl Logs {
    /// The least time between two lines about all tiers failing: 10 s. An outage refuses every request, and an error
    /// line for each would bury the rest of the log. The metrics count them all.
    pub const AT_MOST_EVERY: Duration = Duration::from_secs(10);

    /// Creates logs of all events.
    pub fn new() -> Self {
        Self {
            requests: Some(Level::INFO),
            refused: LineLimit::new(1, Self::AT_MOST_EVERY),
            replaced: LineLimit::new(1, Self::AT_MOST_EVERY),
            stack: None,
            tiers: Vec::new(),
            setups: Setups::default(),
        }
    }

    /// Adds a stack, whose tiers' numbers and models then stand beside their names, after reloads too. Default: none.
    #[must_use]
    pub fn stack(mut self, stack: impl StackView) -> Self {
        self.stack = Some(Arc::new(stack));
        self.read_stack();
        self
    }

    fn read_stack(&mut self) {
        let Some(stack) = &self.stack else { return };
        self.tiers = stack.tiers();
    }

    /// Returns a tier's place, counted from 1.
    fn number(&self, tier: Option<&Arc<str>>) -> Option<usize> {
        let tier = tier?;
        self.tiers.iter().position(|(name, _)| name == tier).map(|place| place + 1)
    }

    /// Returns the id of a tier's model.
    fn model(&self, tier: &str) -> Option<&str> {
        self.tiers.iter().find(|(name, _)| **name == *tier)?.1.as_deref()
    }

    /// Sets the level of the line for each request; `None` writes none. Default: INFO.
    #[must_use]
    pub fn requests(mut self, level: impl Into<Option<Level>>) -> Self {
        self.requests = level.into();
        self
    }

    fn request(&self, ended: &RequestEnded) {
        let Some(level) = self.requests else { return };
        // All that costs something is made inside of the line, and so only if the line is written.
        line!(
            level,
            event = "request",
            request_id = ended.request_id.as_deref(),
            status = ended.status.map(|status| status.as_u16()),
            task_id = ended.task.as_deref(),
            outcome = ended.outcome.name(),
            kind = ended.outcome.kind().map(ErrorKind::name),
            feature = ended.feature.as_deref(),
            key = ended.key(),
            team = ended.caller.as_ref().and_then(|caller| caller.team.as_deref()),
            session = ended.caller.as_ref().and_then(|caller| caller.session.as_deref()),
            tier = ended.tier.as_deref(),
            tier_number = self.number(ended.tier.as_ref()),
            provider = ended.provider.as_deref(),
            model = ended.model.as_deref(),
            served_model = ended.served_model.as_deref(),
            route = ended.route.as_deref(),
            attempts = ended.attempts(),
            failures = ended.failures.as_ref().map(|_| Failures(ended).to_string()),
            failed_attempts = ended.failures.as_deref().map(|failures| self.failed_attempts(failures)),
            stream = ended.stream,
            degraded = ended.degraded.is_some(),
            degraded_level = ended.degraded.map(|degraded| degraded.level),
            degraded_reason = ended.degraded.map(|degraded| degraded.reason.name()),
            latency_ms = milliseconds(ended.took),
            first_token_ms = ended.is_served().then(|| milliseconds(ended.first_token)),
            latency_by_tier = ByTier(ended).to_string(),
            input_tokens = ended.usage.map(|usage| usage.input),
            output_tokens = ended.usage.map(|usage| usage.output),
            cost_usd = ended.cost.map(steadfast::prices::Usd::dollars),
            delivered_frames = ended.delivered.as_ref().map(|delivered| delivered.frames),
            delivered_characters = ended.delivered.as_ref().map(|delivered| delivered.characters),
            delivered_bytes = ended.delivered.as_ref().map(|delivered| delivered.bytes),
        );
    }

    /// Writes a line for each tier whose key or model is refused and that has never answered.
    fn setup(&mut self, ended: &RequestEnded) {
        let name = |tier: &Option<Arc<str>>, provider: &Option<Arc<str>>| tier.clone().or_else(|| provider.clone());
        for attempt in ended.failures.as_deref().unwrap_or_default() {
            let Some(tier) = name(&attempt.tier, &attempt.provider) else { continue };
            let is_new = |setups: &mut Setups| setups.of(&tier)?.failed(attempt, ended.at).then_some(());
            let (Some(()), Some(kind)) = (is_new(&mut self.setups), attempt.failure) else { continue };
            line!(
                Level::ERROR,
                event = "setup_refused",
                tier = &*tier,
                tier_number = self.number(Some(&tier)),
                provider = attempt.provider.as_deref(),
                model = attempt.model.as_deref(),
                reason = kind.name(),
                status = attempt.status.map(|status| status.as_u16()),
                error = Some(attempt.message.as_str()).filter(|words| !words.is_empty()),
                request_id = ended.request_id.as_deref(),
                advice = match kind {
                    ErrorKind::NotFound => "check the model's name and the base URL",
                    _ => "check the API key",
                },
            );
        }
        if ended.is_served()
            && let Some(tier) = name(&ended.tier, &ended.provider)
            && let Some(setup) = self.setups.of(&tier)
        {
            setup.answered(ended);
        }
    }

    /// Returns the failed attempts as a list in JSON.
    #[cold]
    fn failed_attempts(&self, failures: &[Attempt]) -> String {
        let failed = failures.iter().filter_map(|attempt| Some((attempt, attempt.failure?)));
        let of = |(place, (attempt, kind)): (usize, (&Attempt, ErrorKind))| {
            let mut fields = Map::new();
            let mut put = |name: &str, value: Value| {
                if !value.is_null() {
                    fields.insert(name.to_owned(), value);
                }
            };
            put("attempt", (place + 1).into());
            put("tier", attempt.tier.as_deref().into());
            put("tier_number", self.number(attempt.tier.as_ref()).into());
            put("provider", attempt.provider.as_deref().into());
            put("model", attempt.model.as_deref().into());
            put("kind", kind.name().into());
            put("status", attempt.status.map(|status| status.as_u16()).into());
            put("latency_ms", milliseconds(attempt.took).into());
            put("retry_after_ms", attempt.retry_after.map(milliseconds).into());
            put("next", attempt.next.to_string().into());
            Value::Object(fields)
        };
        Value::Array(failed.enumerate().map(of).collect()).to_string()
    }

    /// Writes the line of a switch to another tier.
    fn switch(&self, event: &Event) {
        match event {
            Event::ModelSwitched { chain, first, from, to, reason, failure, .. } => {
                let failure = failure.as_ref();
                line!(
                    Level::WARN,
                    event = "model_switched",
                    from = &**from,
                    to = &**to,
                    from_model = self.model(from),
                    to_model = self.model(to),
                    reason = reason.name(),
                    chain = &**chain,
                    first = &**first,
                    kind = failure.map(|failure| failure.kind.name()),
                    status = failure.and_then(|failure| failure.status),
                    error = failure.and_then(|failure| failure.message.as_deref()),
                    request_id = failure.and_then(|failure| failure.request_id.as_deref()),
                );
            }
            Event::ModelRecovered { chain, from, to, after, .. } => line!(
                Level::INFO,
                event = "model_recovered",
                chain = &**chain,
                from = &**from,
                to = &**to,
                from_model = self.model(from),
                to_model = self.model(to),
                reason = "recovered",
                after_seconds = after.as_secs_f64(),
            ),
            _ => {}
        }
    }

    fn mirrored(&self, comparison: &Comparison) {
        let Some(level) = self.requests else { return };
        let Comparison { feature, primary, candidate, .. } = comparison;
        line!(
            level,
            event = "mirrored",
            feature = feature.as_deref(),
            agrees = comparison.agrees,
            similarity = comparison.similarity,
            same_tools = comparison.same_tools,
            primary = primary.outcome.name(),
            primary_model = primary.model.as_deref(),
            primary_first_token_ms = primary.first_token.map(milliseconds),
            primary_latency_ms = milliseconds(primary.took),
            primary_cost_usd = primary.cost.map(steadfast::prices::Usd::dollars),
            candidate = candidate.outcome.name(),
            candidate_kind = candidate.outcome.kind().map(ErrorKind::name),
            candidate_model = candidate.model.as_deref(),
            candidate_first_token_ms = candidate.first_token.map(milliseconds),
            candidate_latency_ms = milliseconds(candidate.took),
            candidate_cost_usd = candidate.cost.map(steadfast::prices::Usd::dollars),
        );
    }
}

impl Default for Logs {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscriber for Logs {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RequestEnded(ended) => {
                self.request(ended);
                self.setup(ended);
            }
            Event::ModelSwitched { .. } | Event::ModelRecovered { .. } => self.switch(event),
            Event::CircuitChanged { .. }
            | Event::CallerHeldApart { .. }
            | Event::RecoveryChecked { .. }
            | Event::LateResult { .. }
            | Event::Hedged { .. } => tier(event),
            Event::AllTiersFailed { feature, reason, at } => {
                let Some(without_line) = self.refused.next(*at) else { return };
                line!(
                    Level::ERROR,
                    event = "all_tiers_failed",
                    feature = feature.as_deref(),
                    reason = reason.name(),
                    unsaid = (without_line > 0).then_some(without_line),
                );
            }
            Event::BudgetReached { .. } | Event::BudgetReset { .. } => budget(event),
            Event::Operated { operation, by, .. } => line!(
                Level::WARN,
                event = "operated",
                operation = operation.name(),
                tier = operation.tier().map(|tier| &**tier),
                deployment = operation.deployment().map(|deployment| &**deployment),
                feature = operation.feature().map(|feature| &**feature),
                level = operation.level(),
                of = operation.owner(),
                by = by.as_deref(),
            ),
            Event::HandedOver(handed_over) => handoff(handed_over),
            Event::Mirrored(comparison) => self.mirrored(comparison),
            Event::NotCompared { feature, why, .. } => {
                line!(Level::DEBUG, event = "not_compared", feature = feature.as_deref(), reason = why.name());
            }
            // Each of these requests has had its line.
            Event::HandoffWaiting { .. } => {}
            Event::Reloaded { kept, settings, .. } => {
                line!(Level::INFO, event = "reloaded", kept = *kept, changed = listed(settings));
                self.read_stack();
                self.setups.forget_refusals();
            }
            Event::ParameterRefused { provider, model, parameter, .. } => line!(
                Level::WARN,
                event = "parameter_refused",
                provider = &**provider,
                model = &**model,
                parameter = &**parameter,
            ),
            Event::UsageReplaced { provider, model, reported, counted, at } => {
                if let Some(unsaid) = self.replaced.next(*at) {
                    line!(
                        Level::WARN,
                        event = "usage_replaced",
                        provider = &**provider,
                        model = model.as_deref(),
                        input_tokens = reported.input,
                        output_tokens = reported.output,
                        counted_input_tokens = counted.input,
                        counted_output_tokens = counted.output,
                        unsaid = (unsaid > 0).then_some(unsaid),
                    );
                }
            }
            // The store, or the credentials, log this themselves, with the cause.
            Event::StoreChanged { .. } | Event::CredentialsFailed { .. } | Event::CredentialsRenewed { .. } => {}
            Event::ReloadRefused { problem, .. } => {
                line!(Level::WARN, event = "reload_refused", reason = &**problem);
            }
            // A kind of event that is younger than this package.
            _ => {}
        }
    }

    fn is_log(&self) -> bool {
        true
    }

    fn lost(&mut self, events: u64) {
        line!(Level::WARN, event = "events_lost", count = events);
        // The lost events may include a reload.
        self.read_stack();
    }
}

/// Writes the line of an event of one tier: of its circuit, a check of its recovery, or a hedge.
fn tier(event: &Event) {
    match event {
        Event::CircuitChanged { circuit, from, to, reason, failure, .. } => {
            let failure = failure.as_ref();
            line!(
                if *to == CircuitState::Open { Level::WARN } else { Level::INFO },
                event = "circuit_changed",
                circuit = &**circuit,
                from = from.name(),
                to = to.name(),
                reason = reason.to_string(),
                kind = failure.map(|failure| failure.kind.name()),
                status = failure.and_then(|failure| failure.status),
                error = failure.and_then(|failure| failure.message.as_deref()),
                request_id = failure.and_then(|failure| failure.request_id.as_deref()),
            );
        }
        Event::CallerHeldApart { circuit, caller, failure, .. } => line!(
            Level::WARN,
            event = "caller_held_apart",
            circuit = &**circuit,
            key = caller.as_deref(),
            reason = failure.map(|kind| kind.name()),
        ),
        Event::RecoveryChecked { tier, failure, took, .. } => line!(
            Level::INFO,
            event = "recovery_checked",
            tier = &**tier,
            works = failure.is_none(),
            reason = failure.map(|kind| kind.name()),
            took_ms = milliseconds(*took),
        ),
        Event::LateResult { circuit, failure, .. } => {
            line!(Level::DEBUG, event = "late_result", circuit = &**circuit, failure = failure.map(|kind| kind.name()));
        }
        Event::Hedged { tier, to, won, after, .. } => line!(
            Level::DEBUG,
            event = "hedged",
            tier = &**tier,
            to = &**to,
            won = *won,
            after_ms = after.as_secs_f64() * 1e3,
        ),
        _ => {}
    }
}

/// Writes the line of a budget.
fn budget(event: &Event) {
    match event {
        Event::BudgetReached { cap, key, percent, spent, reserved, limit, resets_at, at } => line!(
            Level::WARN,
            event = "budget_reached",
            cap = &**cap,
            key = key.as_deref(),
            percent = *percent,
            spent_usd = spent.dollars(),
            reserved_usd = reserved.dollars(),
            limit_usd = limit.dollars(),
            resets_in_seconds = resets_at.saturating_duration_since(*at).as_secs_f64(),
        ),
        Event::BudgetReset { cap, key, .. } => {
            line!(Level::INFO, event = "budget_reset", cap = &**cap, key = key.as_deref());
        }
        _ => {}
    }
}

/// Writes the line of a step of a task for people.
fn handoff(HandedOver { task, feature, step, .. }: &HandedOver) {
    line!(
        if matches!(step, HandoffStep::NotDelivered { .. } | HandoffStep::Refused { .. }) {
            Level::WARN
        } else {
            Level::INFO
        },
        event = "handed_over",
        step = step.name(),
        task = &**task,
        feature = feature.as_deref(),
        reason = step.reason(),
        by = step.by(),
        after_seconds = step.after().map(|after| after.as_secs_f64()),
    );
}

/// Returns the changed settings in one text: the first of many, and the number of the others.
fn listed(settings: &[Box<str>]) -> String {
    const MOST: usize = 20;
    match settings {
        [] => "none".to_owned(),
        few if few.len() <= MOST => few.join(", "),
        many => format!("{}, and {} more", many[..MOST].join(", "), many.len() - MOST),
    }
}

/// Rounds to a tenth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// The name of a tier without one, where there is no `Fallback`.
const UNNAMED: &str = "unnamed";

/// Displays the failed attempts, each with its kind.
struct Failures<'a>(&'a RequestEnded);

impl fmt::Display for Failures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for attempt in self.0.failures.as_deref().unwrap_or_default() {
            let Some(kind) = attempt.failure else { continue };
            write!(f, "{between}{}={}", attempt.tier.as_deref().unwrap_or(UNNAMED), kind.name())?;
            between = " ";
        }
        Ok(())
    }
}

/// Displays the time that each tier took, in the order of the calls.
struct ByTier<'a>(&'a RequestEnded);

impl fmt::Display for ByTier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.0.failures.as_deref().unwrap_or_default();
        let failed = failed.iter().map(|attempt| (attempt.tier.as_deref(), attempt.took));
        let served = self.0.is_served().then_some((self.0.tier.as_deref(), self.0.served_in));
        let mut steps = failed.chain(served).peekable();
        let mut between = "";
        while let Some((tier, mut took)) = steps.next() {
            while let Some((_, more)) = steps.next_if(|(next, _)| *next == tier) {
                took = took.saturating_add(more);
            }
            write!(f, "{between}{}={}", tier.unwrap_or(UNNAMED), milliseconds(took))?;
            between = " ";
        }
        Ok(())
    }
}
