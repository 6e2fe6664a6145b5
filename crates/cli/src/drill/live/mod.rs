//! `steadfast drill --live`: a real drill, bounded in requests, time and money. It blocks the primary's provider:
//! another tier must answer, and after the block the primary must serve again.
//!
//! The drill has a stack of its own from the user's configuration. A running gateway is not affected, and an
//! interrupted drill leaves nothing to undo. The drill leaves out every part of the configuration that would reach
//! further: people, caches, idempotency, mirrors, alerts and replicas.

mod report;
mod switch;

use std::{io::Write as _, time::Duration};

use clap::Args;
use steadfast::{
    Chat, ErrorKind, LlmError, LlmRequest, LlmResponse,
    chat::{Message, Usage},
    events::CircuitState,
    prices::PriceTable,
    provider_fn,
};
use steadfast_stack::{Config, Handoff, Provider, Span, Stack, StackHandle, Stores};
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use self::{
    report::{LiveReport, Phase, Step, seconds},
    switch::{Blockage, Switch},
};
use crate::Failure;

/// The options of a drill against the real providers.
#[derive(Args, Debug)]
pub(crate) struct Live {
    /// Rehearse against the real providers: block the primary, see which tier answers, restore the primary, see it
    /// serve again. It costs real requests: at most 1 + n + max(n, 3) short ones, where n is --live-requests
    #[arg(long, requires = "config")]
    live: bool,
    /// The way in which the primary is blocked
    #[arg(long, requires = "live", value_enum, default_value_t)]
    live_fault: Blockage,
    /// The number of requests while the primary is blocked, and the largest number afterwards
    #[arg(long, requires = "live", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    live_requests: u32,
    /// The time for the primary to serve again
    #[arg(long, requires = "live", value_name = "TIME", default_value = "5m", value_parser = span)]
    live_limit: Duration,
    /// The feature whose tiers and limits apply
    #[arg(long, requires = "live", value_name = "NAME")]
    live_feature: Option<String>,
}

fn span(text: &str) -> Result<Duration, String> {
    text.parse::<Span>().map(|span| span.0).map_err(|error| error.to_string())
}

/// The prompt, with room for a model that reasons before it answers.
const PROMPT: &str = "Say ok.";
const MAX_TOKENS: u32 = 256;
/// A generous estimate of the prompt with the provider's overhead, in tokens.
const INPUT: u64 = 64;
/// The pauses before the first and the second further request to a primary whose circuit is closed.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Live {
    /// Returns true if the user asked for a live drill.
    pub(crate) fn is_asked(&self) -> bool {
        self.live
    }

    /// Runs the drill and prints its findings.
    ///
    /// # Errors
    ///
    /// The configuration cannot be drilled, or the drill failed.
    pub(crate) async fn run(&self, config: Config, json: bool) -> Result<(), Failure> {
        let switch = Switch::new(self.live_fault)
            .map_err(|error| Failure::usage(format_args!("no address to block: {error}")))?;
        let drill = Drill::new(self, config, switch)?;
        if !json {
            // Before the drill spends anything.
            writeln!(std::io::stdout(), "{}\n", drill.announced())?;
        }
        let found = drill.run().await;
        let mut out = std::io::stdout().lock();
        if json {
            let object = serde_json::to_string_pretty(&found).unwrap_or_default();
            writeln!(out, "{object}")?;
        } else {
            write!(out, "{found}")?;
        }
        match found.problems.as_slice() {
            [] => Ok(()),
            problems => {
                Err(Failure::Models(format!("the drill failed: {}", crate::terminal::on_a_line(&problems.join("; ")))))
            }
        }
    }
}

/// A drill that is ready to begin.
struct Drill<'a> {
    live: &'a Live,
    stack: Stack,
    switch: Switch,
    primary: String,
    /// The highest cost; `None` if a price is unknown.
    at_most: Option<f64>,
    begun: Instant,
}

impl<'a> Drill<'a> {
    fn new(live: &'a Live, config: Config, switch: Switch) -> Result<Self, Failure> {
        let (config, silent) = alone(config)?;
        let primary = config.tiers[0].name.clone();
        let models: Vec<(Provider, Option<String>)> =
            config.tiers.iter().map(|tier| (tier.provider, tier.model.clone())).collect();
        let mut builder = Stack::builder().transport(switch.clone());
        for tier in silent {
            let refusal =
                |_| async { Err::<LlmResponse, _>(LlmError::new(ErrorKind::NotFound, "not asked in a drill")) };
            builder = builder.leaf(tier, provider_fn(refusal));
        }
        let stack = builder.build(config)?;
        let at_most = at_most(&stack.handle().prices(), &models).map(|each| each * f64::from(live.most_requests()));
        Ok(Self { live, stack, switch, primary, at_most, begun: Instant::now() })
    }

    /// Returns the announcement of the drill and its highest cost.
    fn announced(&self) -> String {
        let cost = match self.at_most {
            Some(cost) => format!("at most ${cost:.4} at list prices"),
            None => "the price of a model is not known".to_owned(),
        };
        format!(
            "live drill of {}: at most {} requests of at most {MAX_TOKENS} output tokens ({cost}), {} to recover",
            crate::terminal::on_a_line(&self.primary),
            self.live.most_requests(),
            words(self.live.live_limit),
        )
    }

    async fn run(self) -> LiveReport {
        let handle = self.stack.handle();
        let mut found = LiveReport {
            primary: self.primary.clone(),
            fault: self.live.live_fault,
            passed: false,
            problems: Vec::new(),
            switched_to: Vec::new(),
            lost: 0,
            circuit_opened: false,
            recovery_s: None,
            cost: 0.0,
            cost_at_most: self.at_most,
            steps: Vec::new(),
        };
        // The drill could not see a primary recover that does not serve now.
        let before = self.ask(&handle, Phase::Before).await;
        let serves = before.tier.as_deref() == Some(&self.primary);
        if serves {
            found.steps.push(before);
            self.block(&handle, &mut found).await;
            self.restore(&handle, &mut found).await;
        } else {
            let who = before.tier.as_deref().map_or("no tier", |tier| tier);
            found.problems.push(format!("{} does not serve before anything is blocked: {who} answered", self.primary));
            found.steps.push(before);
        }
        found.lost = found.steps.iter().filter(|step| step.tier.is_none()).count();
        found.cost = found.steps.iter().map(|step| step.cost).sum();
        found.passed = found.problems.is_empty();
        found
    }

    /// Sends requests while the primary is blocked; another tier must answer every one.
    async fn block(&self, handle: &StackHandle, found: &mut LiveReport) {
        self.switch.close();
        for _ in 0..self.live.live_requests {
            let step = self.ask(handle, Phase::Blockage).await;
            match &step.tier {
                Some(tier) if *tier == self.primary => {
                    found.problems.push(format!("{tier} answers though it is blocked"));
                }
                Some(tier) if !found.switched_to.contains(tier) => found.switched_to.push(tier.clone()),
                Some(_) => {}
                None => {
                    let why = step.failure.as_deref().unwrap_or("no answer");
                    found.problems.push(format!("a request was lost while {} was blocked: {why}", self.primary));
                }
            }
            found.circuit_opened |= step.circuit != CircuitState::Closed.name();
            found.steps.push(step);
        }
    }

    /// Sends requests after the block; the primary must serve and its circuit must close within the limit.
    async fn restore(&self, handle: &StackHandle, found: &mut LiveReport) {
        self.switch.open();
        let restored = Instant::now();
        let limit = restored + self.live.live_limit;
        let (mut served, mut pause) = (None, PAUSE);
        for _ in 0..self.live.live_requests.max(LEAST_LOOKS) {
            // A request before the circuit's next probe would show nothing, and cost money.
            let probe = handle.circuit(&self.primary).and_then(|circuit| circuit.earliest_probe());
            if probe.is_some_and(|at| at > limit) {
                break;
            }
            tokio::time::sleep_until(probe.unwrap_or_else(Instant::now).min(limit)).await;
            let step = self.ask(handle, Phase::Restored).await;
            let lost = step.tier.is_none();
            if step.tier.as_deref() == Some(&self.primary) {
                served.get_or_insert_with(|| restored.elapsed());
            }
            let closed = step.circuit == CircuitState::Closed.name();
            found.steps.push(step);
            if lost {
                found.problems.push(format!("a request was lost after {} was restored", self.primary));
            }
            if closed && served.is_some() {
                found.recovery_s = Some(seconds(restored.elapsed()));
                return;
            }
            if Instant::now() >= limit {
                break;
            }
            sleep(pause.min(limit.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let waited = words(restored.elapsed().max(Duration::from_secs(1)));
        let what = match served {
            Some(_) => "answered, but its circuit did not close".to_owned(),
            None => {
                format!("did not serve again within {} requests in {waited}", self.live.live_requests.max(LEAST_LOOKS))
            }
        };
        found.problems.push(format!("{} {what}; its circuit's cooldown may be longer than --live-limit", self.primary));
    }

    async fn ask(&self, handle: &StackHandle, phase: Phase) -> Step {
        let begun = Instant::now();
        let mut request = LlmRequest::from(Chat::new([Message::user(PROMPT)]).max_tokens(MAX_TOKENS));
        if let Some(feature) = &self.live.live_feature {
            request = request.with_feature(feature.as_str());
        }
        let mut step = Step {
            phase,
            at_s: seconds(begun - self.begun),
            took_ms: 0.0,
            tier: None,
            model: None,
            attempts: 0,
            failure: None,
            circuit: CircuitState::Closed.name(),
            cost: 0.0,
        };
        let answered = match self.stack.service().oneshot(request).await {
            Ok(response) => {
                let served = response.served_by();
                step.tier = Some(served.tier.unwrap_or(&self.primary).to_owned());
                step.model = served.model.map(str::to_owned);
                step.attempts = served.attempts;
                step.cost = response.cost().map_or(0.0, steadfast::prices::Usd::dollars);
                response.collect().await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = answered {
            step.tier = None;
            step.attempts = step.attempts.max(error.attempts().iter().filter(|attempt| !attempt.is_local()).count());
            step.failure = Some(error.kind().name().to_owned());
        }
        step.took_ms = (begun.elapsed().as_secs_f64() * 1e4).round() / 10.0;
        step.circuit = handle.circuit(&self.primary).map_or("-", |circuit| circuit.state().name());
        step
    }
}

/// The smallest number of requests for the primary to show its recovery.
const LEAST_LOOKS: u32 = 3;

impl Live {
    /// Returns the largest number of requests of a drill.
    fn most_requests(&self) -> u32 {
        1 + self.live_requests + self.live_requests.max(LEAST_LOOKS)
    }
}

/// Returns the configuration without the parts that would reach further than the drill, and the tiers that do not
/// answer in it.
fn alone(config: Config) -> Result<(Config, Vec<String>), Failure> {
    let mut config = Config {
        alerts: steadfast_stack::Alerts::default(),
        cache: None,
        handoff: None::<Handoff>,
        idempotency: None,
        mirror: None,
        // The drill's requests are short, and would go to the cheap tier.
        routes: Vec::new(),
        stores: Stores::default(),
        ..config
    };
    let Some(primary) = config.tiers.first_mut() else {
        return Err(Failure::usage("the configuration has no tiers: a live drill needs a primary and a fallback"));
    };
    if primary.provider.is_local() {
        let (name, provider) = (&primary.name, primary.provider.name());
        return Err(Failure::usage(format_args!(
            "the primary `{name}` is {provider}: a live drill needs one that speaks to a provider; without --live all providers are simulated"
        )));
    }
    Switch::stop(primary);
    let mut silent = Vec::new();
    for tier in &mut config.tiers {
        if matches!(tier.provider, Provider::Cached | Provider::Handoff) {
            silent.push(tier.name.clone());
            tier.level = Some(tier.service_level());
            // A stand-in answers, so that these tiers need nothing.
            (tier.provider, tier.similar) = (Provider::Canned, None);
        }
    }
    if silent.len() + 1 >= config.tiers.len() {
        return Err(Failure::usage(
            "the primary has no fallback that a live drill may ask: people and kept answers are left out of it",
        ));
    }
    Ok((config, silent))
}

/// Returns the highest cost of one request; `None` if a model's price is unknown.
fn at_most(prices: &PriceTable, models: &[(Provider, Option<String>)]) -> Option<f64> {
    let usage = Usage::new(INPUT, u64::from(MAX_TOKENS));
    models.iter().filter(|(provider, _)| !provider.is_local()).try_fold(0.0_f64, |most, (provider, model)| {
        let cost = prices.cost(Some(provider.name()), model.as_deref()?, &usage)?;
        Some(most.max(cost.dollars()))
    })
}

fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 120 && seconds.is_multiple_of(60) { format!("{} min", seconds / 60) } else { format!("{seconds} s") }
}

#[cfg(test)]
mod tests {
    use steadfast_stack::Format;

    use super::*;

    fn config(tiers: &str) -> Config {
        Config::from_str(&format!("tiers:\n{tiers}"), Format::Yaml).unwrap()
    }

    const PRIMARY: &str = "  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5 }\n";

    fn refused(tiers: &str) -> String {
        match alone(config(tiers)) {
            Err(Failure::Config(message)) => message,
            _ => panic!("it was taken"),
        }
    }

    #[test]
    fn what_cannot_be_drilled_is_said_plainly() {
        assert!(
            refused("  - { name: a, provider: simulated }\n  - { name: b, provider: simulated }\n")
                .contains("`a` is simulated")
        );
        assert!(refused(PRIMARY).contains("no fallback"));
    }

    #[test]
    fn nobody_beyond_the_drill_is_reached() {
        let file = format!(
            "tiers:\n{PRIMARY}  - {{ name: small, provider: openai, model: gpt-4o }}\n\
             \x20 - {{ name: kept, provider: cached }}\n\
             \x20 - {{ name: people, provider: handoff }}\n\
             features: {{ chat: {{ tiers: [sonnet, people] }} }}\ncache: {{}}\n\
             stores: {{ durable: 'sqlite:never-made.db' }}\nhandoff: {{ notify: {{ url: 'https://example.com/x' }} }}\n\
             routes: [{{ name: short, when: {{ max_input_tokens: 100 }}, tiers: [small] }}]\nmirror: {{ to: small, share: 100% }}\n"
        );
        let (config, silent) = alone(Config::from_str(&file, Format::Yaml).unwrap()).map_err(|_| ()).unwrap();
        assert_eq!(silent, ["kept", "people"]);
        assert!(
            config.cache.is_none() && config.handoff.is_none() && config.routes.is_empty() && config.mirror.is_none()
        );
        assert_eq!(config.stores, Stores::default());
        // Tiers keep their index and level: features name them.
        let levels: Vec<_> = config.tiers.iter().map(|tier| (tier.name.as_str(), tier.service_level())).collect();
        assert_eq!(levels, [("sonnet", 1), ("small", 1), ("kept", 4), ("people", 1)]);
    }

    #[test]
    fn the_most_that_it_can_cost_is_that_of_the_dearest_model() {
        let models = [(Provider::Anthropic, Some("claude-sonnet-4-5".to_owned())), (Provider::Canned, None)];
        let cost = at_most(&PriceTable::builtin(), &models).unwrap();
        assert!((0.001..0.01).contains(&cost), "{cost}");
        assert_eq!(at_most(&PriceTable::builtin(), &[(Provider::OpenAi, Some("nobody-knows".to_owned()))]), None);
    }
}
