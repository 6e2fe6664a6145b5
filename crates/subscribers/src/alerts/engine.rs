use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Alert, Origin, Rule, Rules, Severity,
    board::{AlertContent, Board, Span},
    causes::{Causes, details},
    counts::{LONGEST_GAP, TierCounts, TotalFailures},
    rules::MAX_TIERS,
};
use crate::{
    chains::{Chains, first_asked},
    window::Window,
};
use steadfast::{
    Attempt, ErrorKind,
    error::TimeoutLimit,
    events::{CircuitReason, CircuitState, Event, Failure, RequestEnded, RequestOutcome},
    prices::Usd,
};

/// A state machine that applies the rules: events and the time go in, alerts come out. It uses no clock, network or
/// task.
///
/// Its memory is bounded: it keeps counts by time, not by request.
///
/// ```
/// use std::time::Duration;
/// use steadfast::{ErrorKind, Event};
/// use steadfast_subscribers::alerts::{AlertEngine, AlertState, Rules};
/// use tokio::time::Instant;
///
/// let (mut engine, now) = (AlertEngine::new(Rules::new()), Instant::now());
/// let failed = Event::AllTiersFailed { feature: None, reason: ErrorKind::Server, at: now };
/// assert!(engine.on(&failed, now).is_empty(), "one request is bad luck");
/// let alerts = engine.on(&failed, now + Duration::from_secs(10));
/// assert_eq!(alerts[0].state, AlertState::Firing);
/// ```
#[derive(Debug)]
pub struct AlertEngine {
    rules: Rules,
    chains: Chains,
    failovers: Option<Window>,
    requests: Option<Window>,
    tiers: Option<TierCounts>,
    slow: Option<TierCounts>,
    totals: Option<TotalFailures>,
    /// The steps of the last request that failed.
    causes: Causes,
    /// Answers in all, and those from a tier other than the first.
    answers: Option<Window>,
    /// The reason for which each circuit last opened. A switch because of an open circuit names no cause of its own.
    open_reasons: Vec<(Arc<str>, CircuitReason)>,
    board: Board,
    /// True if events were lost, among them possibly a primary's return.
    may_have_missed_return: bool,
}

impl AlertEngine {
    /// Creates an engine that has seen no event.
    pub fn new(rules: Rules) -> Self {
        let mut board = Board::default();
        board.set_severities(rules.severities.clone());
        Self {
            chains: Chains::default(),
            failovers: rules.failovers.map(|often| Window::new(often.within)),
            requests: rules.failure_rate.map(|rate| Window::new(rate.within)),
            tiers: rules.tier_failure_rate.map(|rate| TierCounts::new(rate.within)),
            slow: rules.slow.map(|slow| TierCounts::new(slow.rate.within)),
            totals: rules.all_tiers_failed.map(TotalFailures::new),
            causes: Causes::default(),
            answers: rules.fallback_share.map(|share| Window::new(share.warn.within)),
            open_reasons: Vec::new(),
            board,
            may_have_missed_return: false,
            rules,
        }
    }

    /// Replaces the rules. Alerts that fire continue to their end, even if their rule is now off. Counts continue where
    /// a rule's window keeps its length.
    pub fn set_rules(&mut self, rules: Rules) {
        let before = std::mem::replace(&mut self.rules, rules);
        let within = |rules: &Rules| rules.failovers.map(|often| often.within);
        if within(&before) != within(&self.rules) {
            self.failovers = within(&self.rules).map(Window::new);
        }
        let within = |rules: &Rules| rules.failure_rate.map(|rate| rate.within);
        if within(&before) != within(&self.rules) {
            self.requests = within(&self.rules).map(Window::new);
        }
        let within = self.rules.tier_failure_rate.map(|rate| rate.within);
        if self.tiers.as_ref().map(TierCounts::within) != within {
            self.tiers = within.map(TierCounts::new);
        }
        let within = self.rules.slow.map(|slow| slow.rate.within);
        if self.slow.as_ref().map(TierCounts::within) != within {
            self.slow = within.map(TierCounts::new);
        }
        match (&mut self.totals, self.rules.all_tiers_failed) {
            (Some(totals), Some(rule)) => totals.set_rule(rule),
            (totals, rule) => *totals = rule.map(TotalFailures::new),
        }
        let within = |rules: &Rules| rules.fallback_share.map(|share| share.warn.within);
        if within(&before) != within(&self.rules) {
            self.answers = within(&self.rules).map(Window::new);
        }
        self.board.set_severities(self.rules.severities.clone());
    }

    /// Sets the place that alerts come from. An alert that fires keeps its own to its end.
    pub fn set_origin(&mut self, origin: Origin) {
        self.board.set_origin(origin);
    }

    /// Applies an event and returns the alerts that it causes.
    pub fn on(&mut self, event: &Event, now: Instant) -> Vec<Alert> {
        let mut alerts = Vec::new();
        match event {
            Event::RequestEnded(request) => self.request_ended(request, now, &mut alerts),
            Event::ModelSwitched { chain, first, to, reason, failure, .. } => {
                self.chains.switched(chain, first, to, now);
                self.model_switched(chain, [first, to], *reason, failure.as_ref(), now, &mut alerts);
            }
            Event::ModelRecovered { chain, from, to, after, .. } => {
                self.chains.recovered(chain);
                let of = requests_of(chain, to);
                let summary = || format!("{to} serves again in place of {from}{of}, after {}", Span(*after));
                self.board.end_if_it_lasts(Rule::Failover, chain, now, summary);
            }
            Event::AllTiersFailed { feature, reason, .. } => {
                self.all_tiers_failed(feature.as_deref(), *reason, now, &mut alerts);
            }
            Event::CircuitChanged { circuit, to: CircuitState::Open, reason, failure, .. } => {
                self.record_opened(circuit, *reason);
                if *reason == CircuitReason::Auth {
                    self.key_refused(circuit, failure.clone(), now, &mut alerts);
                }
            }
            Event::CircuitChanged { circuit, to: CircuitState::Closed, reason: CircuitReason::Recovered, .. } => {
                self.key_works(circuit, now, &mut alerts);
            }
            Event::BudgetReached { cap, key, percent, spent, reserved, limit, .. } => {
                self.budget(&cap_name(cap, key), *percent, [*spent, *reserved, *limit], now, &mut alerts);
            }
            Event::CredentialsFailed { source, problem, usable, .. } if self.rules.credentials => {
                let (severity, state, level) = match usable {
                    true => (Severity::Warning, "are not renewed", 0),
                    false => (Severity::Critical, "have ended", 1),
                };
                let content = || AlertContent {
                    severity,
                    summary: format!("the credentials of {source} {state}"),
                    fields: vec![("problem", problem.to_string())],
                };
                alerts.extend(self.board.fire(Rule::Credentials, source, level, now, content));
            }
            Event::CredentialsRenewed { source, .. } => {
                let summary = || format!("the credentials of {source} are renewed");
                alerts.extend(self.board.resolve(Rule::Credentials, source, now, summary));
            }
            Event::BudgetReset { cap, key, .. } => {
                let cap = cap_name(cap, key);
                let summary = || format!("a new period of the cap {cap} has begun");
                alerts.extend(self.board.resolve(Rule::Budget, &cap, now, summary));
            }
            Event::ReloadRefused { problem, .. } if self.rules.reload_refused => {
                let content = || AlertContent {
                    severity: Severity::Warning,
                    summary: format!(
                        "a new configuration was refused, and the one before goes on: {}",
                        cut(problem.lines().next().unwrap_or_default(), LONGEST_CAUSE)
                    ),
                    fields: vec![("problem", cut(problem, LONGEST_FIELD))],
                };
                alerts.extend(self.board.fire(Rule::ReloadRefused, &"".into(), 0, now, content));
            }
            Event::Reloaded { .. } => {
                let summary = || "a new configuration is active".to_owned();
                alerts.extend(self.board.resolve(Rule::ReloadRefused, "", now, summary));
            }
            Event::StoreChanged { store, available: true, .. } => {
                let summary = || format!("the store for {store} answers again");
                alerts.extend(self.board.resolve(Rule::StoreAway, store, now, summary));
            }
            Event::StoreChanged { store, .. } if self.rules.store_away => {
                let content = || AlertContent {
                    severity: Severity::Warning,
                    summary: format!(
                        "the store for {store} does not answer: each process goes on with what it knows itself"
                    ),
                    fields: vec![("store", store.to_string())],
                };
                alerts.extend(self.board.fire(Rule::StoreAway, store, 0, now, content));
            }
            Event::HandoffWaiting { waiting: 0, .. } => {
                let summary = || "no request waits for a person any more".to_owned();
                alerts.extend(self.board.resolve(Rule::HandoffWaiting, "", now, summary));
            }
            Event::HandoffWaiting { waiting, oldest, .. } if self.rules.handoff_waiting => {
                let content = || AlertContent {
                    severity: Severity::Warning,
                    summary: match waiting {
                        1 => "a request waits for a person".to_owned(),
                        many => format!("{many} requests wait for a person"),
                    },
                    fields: vec![("oldest", Span(oldest.unwrap_or_default()).to_string())],
                };
                alerts.extend(self.board.fire(Rule::HandoffWaiting, &"".into(), 0, now, content));
            }
            _ => {}
        }
        alerts
    }

    /// Applies the time and returns the alerts that end or repeat. Call it about every ten seconds while
    /// [`is_firing`](Self::is_firing).
    pub fn tick(&mut self, now: Instant) -> Vec<Alert> {
        let (mut alerts, mut over, mut board) = (Vec::new(), Vec::new(), std::mem::take(&mut self.board));
        for firing in board.iter_mut() {
            let (rule, key) = (firing.alert.rule, firing.alert.key.clone());
            if self.is_exceeded(rule, &key, now) {
                firing.last = now;
            }
            let quiet = match rule {
                // Silence is no answer.
                Rule::AllTiersFailed if self.totals.as_ref().is_some_and(TotalFailures::goes_on) => LONGEST_GAP,
                Rule::AllTiersFailed => QUIET_TIME,
                Rule::Failovers | Rule::FailureRate | Rule::TierFailureRate | Rule::FallbackShare | Rule::Slow => {
                    SETTLING_TIME
                }
                // Only an event ends these.
                _ => Duration::MAX,
            };
            let ended = firing.ended_at().is_some_and(|at| now.saturating_duration_since(at) >= SETTLING_TIME);
            if ended || now.saturating_duration_since(firing.last) >= quiet {
                over.push((rule, key));
            } else if let Some(every) = self.rules.repeat {
                alerts.extend(firing.repeat(every, now));
            }
        }
        self.board = board;
        for (rule, key) in over {
            let goes_on = self.totals.as_ref().is_some_and(TotalFailures::goes_on);
            if rule == Rule::AllTiersFailed {
                let count = self.totals.as_ref().map_or(0, TotalFailures::count);
                self.board.add_field(rule, &key, ("requests", count.to_string()));
            }
            let summary = match rule {
                Rule::AllTiersFailed if goes_on => "no request has come for an hour",
                Rule::AllTiersFailed => "requests are answered again",
                Rule::Slow => "calls are quick again",
                Rule::Failovers => "the model is no longer switched back and forth",
                Rule::FallbackShare => "the share of answers by fallbacks is below its limit again",
                _ => "the failure rate is below its limit again",
            };
            alerts.extend(self.board.resolve(rule, &key, now, || summary.to_owned()));
        }
        alerts
    }

    /// Returns whether any alert fires, so that [`tick`](Self::tick) is needed.
    pub fn is_firing(&self) -> bool {
        !self.board.is_empty()
    }

    /// Records that events were lost. Later events resolve the affected alerts where they can.
    pub fn lost(&mut self) {
        self.may_have_missed_return = true;
    }

    /// Counts a request that every tier failed, and fires if it is not alone.
    fn all_tiers_failed(&mut self, feature: Option<&str>, reason: ErrorKind, now: Instant, alerts: &mut Vec<Alert>) {
        let Some(totals) = &mut self.totals else { return };
        if !totals.failed(now) {
            return;
        }
        let (count, lasted, causes) = (totals.count(), totals.lasted(), &self.causes);
        let content = || {
            let mut fields = vec![("feature", feature.unwrap_or("none").to_owned()), ("reason", reason.to_string())];
            fields.extend(causes.request_id().map(|id| ("request_id", id.to_owned())));
            let summary = format!("every tier failed {count} requests within {} ({reason}){causes}", Span(lasted));
            AlertContent { severity: Severity::Critical, summary, fields }
        };
        alerts.extend(self.board.fire(Rule::AllTiersFailed, &"".into(), 0, now, content));
    }

    fn record_opened(&mut self, circuit: &Arc<str>, reason: CircuitReason) {
        // A failed probe is not the original cause.
        if reason == CircuitReason::ProbeFailed {
            return;
        }
        if let Some((_, last)) = self.open_reasons.iter_mut().find(|(name, _)| name == circuit) {
            *last = reason;
        } else if self.open_reasons.len() < MAX_TIERS {
            self.open_reasons.push((circuit.clone(), reason));
        }
    }

    /// Returns in words why a tier does not serve.
    fn reason_text(&self, tier: &str, reason: ErrorKind) -> String {
        let opened = self.open_reasons.iter().find(|(circuit, _)| &**circuit == tier);
        match opened.filter(|_| reason == ErrorKind::CircuitOpen) {
            Some((_, why)) => format!("{reason}: {why}"),
            None => reason.to_string(),
        }
    }

    fn model_switched(
        &mut self,
        chain: &Arc<str>,
        [first, to]: [&Arc<str>; 2],
        reason: ErrorKind,
        failure: Option<&Failure>,
        now: Instant,
        alerts: &mut Vec<Alert>,
    ) {
        self.board.goes_on(Rule::Failover, chain);
        if self.rules.failover && self.board.find(Rule::Failover, chain).is_none() {
            let why = self.reason_text(first, reason);
            let content = || {
                let words = match failure {
                    // It says the same and more.
                    Some(failure) if failure.kind == reason => failure.to_string(),
                    Some(failure) => format!("{why}; {failure}"),
                    None => why.clone(),
                };
                let mut fields = vec![("from", first.to_string()), ("to", to.to_string()), ("reason", why.clone())];
                let of = requests_of(chain, first);
                fields.extend((!of.is_empty()).then(|| ("chain", chain.to_string())));
                fields.extend(failure.into_iter().flat_map(details));
                let summary = format!("{to} serves in place of {first}{of} ({words})");
                AlertContent { severity: Severity::Warning, summary, fields }
            };
            alerts.extend(self.board.fire(Rule::Failover, chain, 0, now, content));
        }
        if let (Some(window), Some(often)) = (&mut self.failovers, self.rules.failovers) {
            window.add(now, [1, 0]);
            let [count, _] = window.sums(now);
            if count > often.more_than {
                let content = || AlertContent {
                    severity: Severity::Warning,
                    summary: format!("the model was switched {count} times within {}", Span(often.within)),
                    fields: vec![("to", to.to_string()), ("reason", reason.to_string())],
                };
                alerts.extend(self.board.fire(Rule::Failovers, &"".into(), 0, now, content));
            }
        }
    }

    fn request_ended(&mut self, request: &RequestEnded, now: Instant, alerts: &mut Vec<Alert>) {
        let failure = request.outcome.kind();
        let steps = request.failures.as_deref().unwrap_or_default();
        if let Some(window) = &mut self.requests
            && request.outcome != RequestOutcome::Abandoned
            && !failure.is_some_and(ErrorKind::is_callers_own)
        {
            window.add(now, [1, u64::from(failure.is_some())]);
            if self.is_exceeded(Rule::FailureRate, "", now) {
                self.rate_exceeded(Rule::FailureRate, &"".into(), now, alerts);
            }
        }
        if let (Some(totals), false) = (&mut self.totals, request.cached.is_some()) {
            if request.outcome != RequestOutcome::Abandoned {
                totals.ended(request.outcome == RequestOutcome::Answered, now);
            }
            if matches!(request.outcome, RequestOutcome::Failed(kind) if !kind.is_callers_own()) {
                // Refusals on this side have another's cause.
                let is_call = request.failures.as_deref().unwrap_or_default().iter().any(|step| !step.is_local());
                if is_call {
                    self.causes = Causes::of(request);
                }
            }
        }
        self.count_slow(request, now, alerts);
        if self.tiers.is_some() {
            for step in steps.iter().filter(|step| !step.is_local()) {
                if let (Some(tier), Some(kind)) = (&step.tier, step.failure)
                    && !kind.is_callers_own()
                {
                    self.count_call(tier, true, now, alerts);
                }
            }
            if let (Some(tier), true) = (&request.tier, request.outcome != RequestOutcome::Abandoned) {
                self.count_call(tier, failure.is_some(), now, alerts);
            }
        }
        if self.answers.is_some() && request.cached.is_none() {
            self.count_answer(request, now, alerts);
        }
        for step in steps.iter().filter(|step| step.failure == Some(ErrorKind::Auth)) {
            let name = step.tier.as_ref().or(step.provider.as_ref()).cloned();
            let failure = Failure::of_attempt(step, request.request_id.clone());
            self.key_refused(&name.unwrap_or_default(), failure, now, alerts);
        }
        if !self.board.is_empty() && request.outcome == RequestOutcome::Answered {
            self.resolve_disproved(request, now, alerts);
        }
    }

    /// Counts an answer, and fires if too many come from tiers other than the first.
    fn count_answer(&mut self, request: &RequestEnded, now: Instant, alerts: &mut Vec<Alert>) {
        let (Some(tier), Some(share)) = (&request.tier, self.rules.fallback_share) else { return };
        let first = request.failures.as_deref().and_then(|steps| steps.first());
        let by_fallback = first.is_some_and(|first| first.tier.is_some() && first.tier != request.tier)
            || self.chains.stands_in(tier);
        if let Some(window) = &mut self.answers {
            window.add(now, [1, u64::from(by_fallback)]);
        }
        let [all, fallbacks] = self.counts(Rule::FallbackShare, "", now);
        if !share.warn.is_exceeded(all, fallbacks) {
            return;
        }
        let pages = share.page_share.is_some_and(|page| fallbacks as f64 > page * all as f64);
        let content = || {
            let percent = format!("{:.1} %", fallbacks as f64 * 100.0 / all.max(1) as f64);
            AlertContent {
                severity: if pages { Severity::Critical } else { Severity::Warning },
                summary: format!("{percent} of {all} answers came from fallbacks"),
                fields: vec![("fallbacks", fallbacks.to_string()), ("of", all.to_string()), ("share", percent)],
            }
        };
        alerts.extend(self.board.fire(Rule::FallbackShare, &"".into(), u8::from(pages), now, content));
    }

    /// Resolves the alerts that an answer disproves.
    fn resolve_disproved(&mut self, request: &RequestEnded, now: Instant, alerts: &mut Vec<Alert>) {
        let Some(begun) = request.at.checked_sub(request.took) else { return };
        // Without a Fallback no layer names tiers; the refusal then names the provider.
        for name in [&request.tier, &request.provider].into_iter().flatten() {
            if self.board.find(Rule::KeyRefused, name).is_some_and(|refused| refused.last <= begun) {
                self.key_works(name, now, alerts);
            }
        }
        if self.may_have_missed_return
            && let Some(tier) = &request.tier
            && let chain = request.chain.as_ref().filter(|_| first_asked(request) == Some(tier)).unwrap_or(tier)
            && self.board.find(Rule::Failover, chain).is_some_and(|away| away.alert.since <= begun)
        {
            self.chains.recovered(chain);
            let of = requests_of(chain, tier);
            alerts.extend(self.board.resolve(Rule::Failover, chain, now, || format!("{tier} serves again{of}")));
        }
    }

    /// Counts a call to a tier and its outcome.
    fn count_call(&mut self, tier: &Arc<str>, failed: bool, now: Instant, alerts: &mut Vec<Alert>) {
        let Some(tiers) = &mut self.tiers else { return };
        tiers.add(tier, failed, now);
        if self.is_exceeded(Rule::TierFailureRate, tier, now) {
            self.rate_exceeded(Rule::TierFailureRate, tier, now, alerts);
        }
    }

    /// Counts the calls of a request, and those of them that were slow.
    fn count_slow(&mut self, request: &RequestEnded, now: Instant, alerts: &mut Vec<Alert>) {
        let (Some(limits), false) = (self.rules.slow, request.cached.is_some()) else { return };
        let ran_out = |step: &Attempt| step.timeout.is_some_and(|out| out.limit != TimeoutLimit::Deadline);
        for step in request.failures.as_deref().unwrap_or_default().iter().filter(|step| !step.is_local()) {
            if let Some(tier) = &step.tier {
                let is_late = step.failure == Some(ErrorKind::Timeout) && ran_out(step);
                self.count_quickness(tier, is_late, step.took, now, alerts);
            }
        }
        if let (Some(tier), true) = (&request.tier, request.is_served()) {
            let limit = if request.stream { limits.first_token } else { limits.answer };
            self.count_quickness(tier, request.served_in > limit, request.served_in, now, alerts);
        }
    }

    fn count_quickness(
        &mut self,
        tier: &Arc<str>,
        is_slow: bool,
        took: Duration,
        now: Instant,
        alerts: &mut Vec<Alert>,
    ) {
        let (Some(slow), Some(limits)) = (&mut self.slow, self.rules.slow) else { return };
        slow.add(tier, is_slow, now);
        if !is_slow || !self.is_exceeded(Rule::Slow, tier, now) {
            return;
        }
        let [all, late] = self.counts(Rule::Slow, tier, now);
        let content = || {
            let percent = format!("{:.1} %", late as f64 * 100.0 / all.max(1) as f64);
            let (first, answer, within) = (Span(limits.first_token), Span(limits.answer), Span(limits.rate.within));
            AlertContent {
                severity: Severity::Warning,
                summary: format!(
                    "{percent} of {all} calls to {tier} within {within} were slow: no first token after {first}, no \
                     whole answer after {answer}, or a limit ran out; the last took {}",
                    Span(took)
                ),
                fields: vec![("tier", tier.to_string()), ("slow", late.to_string()), ("of", all.to_string())],
            }
        };
        alerts.extend(self.board.fire(Rule::Slow, tier, 0, now, content));
    }

    /// Returns whether a rule's count is over its limit now.
    fn is_exceeded(&mut self, rule: Rule, key: &str, now: Instant) -> bool {
        let [all, failed] = self.counts(rule, key, now);
        match rule {
            Rule::Failovers => self.rules.failovers.is_some_and(|often| all > often.more_than),
            Rule::FailureRate => self.rules.failure_rate.is_some_and(|rate| rate.is_exceeded(all, failed)),
            Rule::TierFailureRate => self.rules.tier_failure_rate.is_some_and(|rate| rate.is_exceeded(all, failed)),
            Rule::FallbackShare => self.rules.fallback_share.is_some_and(|share| share.warn.is_exceeded(all, failed)),
            Rule::Slow => self.rules.slow.is_some_and(|slow| slow.rate.is_exceeded(all, failed)),
            _ => false,
        }
    }

    fn counts(&mut self, rule: Rule, key: &str, now: Instant) -> [u64; 2] {
        let window = match rule {
            Rule::Failovers => self.failovers.as_mut(),
            Rule::FailureRate => self.requests.as_mut(),
            Rule::FallbackShare => self.answers.as_mut(),
            Rule::Slow => return self.slow.as_mut().map_or([0; 2], |slow| slow.sums(key, now)),
            _ => return self.tiers.as_mut().map_or([0; 2], |tiers| tiers.sums(key, now)),
        };
        window.map_or([0; 2], |window| window.sums(now))
    }

    fn rate_exceeded(&mut self, rule: Rule, key: &Arc<str>, now: Instant, alerts: &mut Vec<Alert>) {
        let [all, failed] = self.counts(rule, key, now);
        let percent = format!("{:.1} %", failed as f64 * 100.0 / all.max(1) as f64);
        let content = || {
            let (severity, what) = match rule {
                Rule::TierFailureRate => (Severity::Warning, format!("calls to {key}")),
                _ => (Severity::Critical, "requests".to_owned()),
            };
            let fields = vec![("failed", failed.to_string()), ("of", all.to_string()), ("share", percent.clone())];
            AlertContent { severity, summary: format!("{percent} of {all} {what} failed"), fields }
        };
        alerts.extend(self.board.fire(rule, key, 0, now, content));
    }

    fn key_refused(&mut self, tier: &Arc<str>, failure: Option<Failure>, now: Instant, alerts: &mut Vec<Alert>) {
        if !self.rules.key_refused {
            return;
        }
        let content = || {
            let mut summary = match &**tier {
                "" => "a provider refuses its key".to_owned(),
                tier => format!("the key of {tier} is refused"),
            };
            let mut fields = vec![("tier", tier.to_string())];
            if let Some(failure) = &failure {
                summary.push_str(&format!(" ({failure})"));
                fields.extend(details(failure));
            }
            AlertContent { severity: Severity::Critical, summary, fields }
        };
        alerts.extend(self.board.fire(Rule::KeyRefused, tier, 0, now, content));
    }

    fn key_works(&mut self, tier: &Arc<str>, now: Instant, alerts: &mut Vec<Alert>) {
        alerts.extend(self.board.resolve(Rule::KeyRefused, tier, now, || format!("the key of {tier} works again")));
    }

    fn budget(
        &mut self,
        cap: &Arc<str>,
        percent: u8,
        [spent, reserved, limit]: [Usd; 3],
        now: Instant,
        alerts: &mut Vec<Alert>,
    ) {
        if self.rules.budget_from.is_none_or(|from| percent < from) {
            return;
        }
        let content = || AlertContent {
            severity: if percent >= 100 { Severity::Critical } else { Severity::Warning },
            summary: match reserved {
                Usd::ZERO => format!("{percent} % of the cap {cap} is used: {spent} of {limit}"),
                _ => format!("{percent} % of the cap {cap} is used: {spent} spent and {reserved} reserved of {limit}"),
            },
            fields: vec![
                ("cap", cap.to_string()),
                ("percent", percent.to_string()),
                ("spent", spent.to_string()),
                ("reserved", reserved.to_string()),
                ("limit", limit.to_string()),
            ],
        };
        // A cap's next share is news, although its alert fires already.
        alerts.extend(self.board.fire(Rule::Budget, cap, percent, now, content));
    }
}

/// Returns the words for the requests of a chain that is not the first one that begins at this tier.
fn requests_of(chain: &str, first: &str) -> String {
    let name = chain.strip_prefix(first).map(str::trim).filter(|name| !name.is_empty());
    name.map_or_else(String::new, |name| format!(" for {}", name.trim_matches(['(', ')'])))
}

/// Returns the first part of a text of any length, with a sign where it is cut.
fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the cap's name, with the key where the cap is per key.
fn cap_name(cap: &Arc<str>, key: &Option<Arc<str>>) -> Arc<str> {
    key.as_ref().map_or_else(|| cap.clone(), |key| format!("{cap} ({key})").into())
}

/// The time for which a rate must stay below its limit, and a primary must serve again. A rate that swings around the
/// limit is one alert, and so is a primary that comes and goes: here, or at the replicas that share the alert's id.
const SETTLING_TIME: Duration = Duration::from_secs(60);
/// In characters: a receiver shows a few lines.
const LONGEST_FIELD: usize = 500;
const LONGEST_CAUSE: usize = 150;
/// The time without another total failure after which requests count as answered again.
const QUIET_TIME: Duration = Duration::from_secs(300);
