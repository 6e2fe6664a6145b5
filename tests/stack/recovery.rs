//! A tier that was down and is well again is found out without a request.

use std::{collections::BTreeMap, time::Duration};

use steadfast::{
    BoxLlmService, Event, LlmRequest,
    events::CircuitState,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_stack::{Config, Format, RecoveryCheckTask, Stack, StackHandle};
use steadfast_subscribers::{ServingState, Status};
use tokio::{sync::broadcast::Receiver, time::sleep};
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const FILE: &str = "
retry: { max_attempts: 1 }
fallback: { recovery_check: { every: 60s, active: true } }
tiers:
  - { name: sonnet, provider: simulated, model: claude-sonnet-4-5 }
  - { name: gpt, provider: simulated, model: gpt-4o }
  - { name: sorry, provider: canned, text: Later. }
";

/// A stack whose models can be broken, and what was told.
struct World {
    handle: StackHandle,
    llm: BoxLlmService,
    models: BTreeMap<&'static str, SimulatedHandle>,
    told: Receiver<Event>,
    checking: Option<RecoveryCheckTask>,
}

fn config(file: &str) -> Config {
    Config::from_str(file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

impl World {
    fn new(file: &str) -> Self {
        let models = ["sonnet", "gpt"].map(|name| (name, Simulated::new(name)));
        let handles = models.iter().map(|(name, model)| (*name, model.handle())).collect();
        let builder = models.into_iter().fold(Stack::builder().seed(3), |stack, (name, model)| stack.leaf(name, model));
        let stack = builder.build(config(file)).unwrap();
        let handle = stack.handle();
        let (told, checking) = (handle.events().subscribe(), Some(handle.check_recovery()));
        Self { llm: stack.service(), handle, models: handles, told, checking }
    }

    async fn ask(&self, times: usize) {
        for _ in 0..times {
            if let Ok(answer) = self.llm.clone().oneshot(LlmRequest::prompt("Why?")).await {
                let _ = answer.collect().await;
            }
        }
        // The events have reached their subscribers.
        sleep(Duration::from_millis(1)).await;
    }

    fn breaks(&self, tier: &str) {
        self.models[tier].fail(Fault::Unavailable);
    }

    fn calls(&self, tier: &str) -> u64 {
        self.models[tier].stats().calls
    }

    fn status(&self) -> Status {
        self.handle.status()
    }

    fn circuit(&self, tier: &str) -> CircuitState {
        self.handle.circuit(tier).unwrap().state()
    }

    /// Each tier that was asked since the last look, and whether it worked.
    fn checked(&mut self) -> Vec<(String, bool)> {
        let mut checked = Vec::new();
        while let Ok(event) = self.told.try_recv() {
            if let Event::RecoveryChecked { tier, failure, .. } = event {
                checked.push((tier.to_string(), failure.is_none()));
            }
        }
        checked
    }
}

/// Asserts the status of a stack where all is well.
fn assert_green(status: &Status) {
    assert_eq!((status.state, status.active_tier.as_str()), (ServingState::Primary, "sonnet"), "{status:?}");
    assert_eq!(status.time_on_fallback.current_seconds, 0.0);
    assert!(status.tiers.iter().all(|tier| tier.circuit == "closed"), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stack_is_green_within_one_interval_of_the_end_of_an_outage() {
    // Wherever in the interval it ends.
    for heals_after in [0, 1, 30, 59, 61, 119, 150] {
        let mut world = World::new(FILE);
        world.breaks("sonnet");
        world.ask(6).await;
        let status = world.status();
        assert_eq!((status.state, status.active_tier.as_str()), (ServingState::Fallback, "gpt"));
        assert_eq!(world.circuit("sonnet"), CircuitState::Open);
        let (calls, others) = (world.calls("sonnet"), world.calls("gpt"));
        sleep(heals_after * SECOND).await;
        world.models["sonnet"].heal();
        sleep(MINUTE + SECOND).await;
        assert_green(&world.status());
        assert!(world.status().time_on_fallback.total_seconds <= f64::from(heals_after + 61));
        // No caller's request; and of what is left alone, nothing was asked.
        let asked = world.checked();
        assert_eq!(world.calls("sonnet") - calls, asked.len() as u64, "after {heals_after}: {asked:?}");
        assert!(asked.iter().all(|(tier, _)| tier == "sonnet") && asked.last().unwrap().1, "{asked:?}");
        assert_eq!(world.calls("gpt"), others);
        // From then on nobody is asked.
        let calls = world.calls("sonnet");
        sleep(60 * MINUTE).await;
        assert_eq!((world.calls("sonnet"), world.checked().len()), (calls, 0));
        world.ask(1).await;
        assert_eq!(world.calls("sonnet"), calls + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_while_all_is_well_or_where_the_file_does_not_ask_for_it() {
    let world = World::new(FILE);
    sleep(60 * MINUTE).await;
    world.ask(100).await;
    assert_eq!((world.calls("sonnet"), world.calls("gpt")), (100, 0));

    for passive in ["fallback: { recovery_check: 60s }", "fallback: { recovery_check: { every: 60s } }", ""] {
        let world = World::new(&FILE.replace("fallback: { recovery_check: { every: 60s, active: true } }", passive));
        world.breaks("sonnet");
        world.ask(6).await;
        world.models["sonnet"].heal();
        let calls = world.calls("sonnet");
        sleep(60 * MINUTE).await;
        assert_eq!((world.calls("sonnet"), world.status().state), (calls, ServingState::Fallback), "{passive}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_stays_down_is_asked_once_in_each_interval_and_once_at_a_time() {
    for fault in [Fault::Unavailable, Fault::Hang] {
        let mut world = World::new(FILE);
        world.breaks("sonnet");
        world.ask(6).await;
        world.models["sonnet"].fail(fault.clone());
        let calls = world.calls("sonnet");
        world.checked();
        sleep(30 * MINUTE).await;
        let (asked, told) = (world.calls("sonnet") - calls, world.checked());
        // A silent one is waited for half a minute, and left alone for an interval after that.
        let expected = if matches!(fault, Fault::Hang) { 19..=21 } else { 29..=30 };
        assert!(expected.contains(&asked), "{fault:?}: {asked}");
        assert!(told.len() as u64 + 1 >= asked && told.iter().all(|(_, works)| !works));
        assert_eq!(world.status().state, ServingState::Fallback);
        world.models["sonnet"].heal();
        sleep(2 * MINUTE).await;
        assert_green(&world.status());
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_has_taken_out_of_service_is_not_asked() {
    let world = World::new(FILE);
    world.breaks("sonnet");
    world.ask(6).await;
    world.models["sonnet"].heal();
    let calls = world.calls("sonnet");
    world.handle.drain("sonnet").unwrap();
    sleep(10 * MINUTE).await;
    assert_eq!(world.calls("sonnet"), calls, "drained");
    world.handle.force_open("sonnet").unwrap();
    world.handle.undrain("sonnet").unwrap();
    sleep(10 * MINUTE).await;
    assert_eq!(world.calls("sonnet"), calls, "opened by hand");
    world.handle.release("sonnet").unwrap();
    sleep(MINUTE).await;
    assert_green(&world.status());
}

#[tokio::test(start_paused = true)]
async fn recovery_checks_end_with_a_reload_without_them_and_with_their_handle() {
    let mut world = World::new(FILE);
    world.breaks("sonnet");
    world.ask(6).await;
    world.handle.reload(config(&FILE.replace(", active: true", ""))).unwrap();
    let calls = world.calls("sonnet");
    sleep(10 * MINUTE).await;
    assert_eq!(world.calls("sonnet"), calls);
    world.handle.reload(config(FILE)).unwrap();
    sleep(SECOND).await;
    assert_eq!(world.calls("sonnet"), calls + 1, "its time was over long ago");
    drop(world.checking.take());
    world.models["sonnet"].heal();
    sleep(10 * MINUTE).await;
    assert_eq!((world.calls("sonnet"), world.circuit("sonnet")), (calls + 1, CircuitState::Open));
}

#[tokio::test(start_paused = true)]
async fn a_primary_whose_circuit_never_opened_is_back_too() {
    let mut world = World::new(FILE);
    world.models["sonnet"].fail_next(1, &Fault::Unavailable);
    world.ask(1).await;
    assert_eq!((world.status().state, world.circuit("sonnet")), (ServingState::Fallback, CircuitState::Closed));
    sleep(MINUTE + SECOND).await;
    assert_green(&world.status());
    assert_eq!(world.checked(), [("sonnet".to_owned(), true)]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_provider_asked_for_is_over_by_itself() {
    let mut world = World::new(FILE);
    world.models["sonnet"].fail_next(1, &Fault::RateLimited { retry_after: Some(90 * SECOND) });
    world.ask(2).await;
    assert_eq!((world.status().tiers[0].circuit, world.calls("sonnet")), ("open", 1));
    sleep(89 * SECOND).await;
    assert_eq!(world.checked(), [], "the provider has said when");
    sleep(2 * SECOND).await;
    assert_green(&world.status());
    assert_eq!(world.checked(), [("sonnet".to_owned(), true)]);
}

#[tokio::test(start_paused = true)]
async fn where_all_had_failed_one_that_works_shows_that_not_all_do() {
    let file = FILE.replace("  - { name: sorry, provider: canned, text: Later. }\n", "");
    let world = World::new(&file);
    world.breaks("sonnet");
    world.breaks("gpt");
    world.ask(2).await;
    assert_eq!((world.status().state, world.circuit("gpt")), (ServingState::Unavailable, CircuitState::Closed));
    world.models["gpt"].heal();
    sleep(MINUTE + SECOND).await;
    assert_ne!(world.status().state, ServingState::Unavailable);
    world.models["sonnet"].heal();
    sleep(MINUTE + SECOND).await;
    assert_green(&world.status());
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_wants_more_than_one_answer_gets_them_soon() {
    let mut world = World::new(&format!("circuit_breaker: {{ probe_successes: 3 }}\n{FILE}"));
    world.breaks("sonnet");
    world.ask(6).await;
    world.models["sonnet"].heal();
    sleep(MINUTE + 3 * SECOND).await;
    assert_green(&world.status());
    assert_eq!(world.checked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn where_the_money_is_spent_nobody_is_asked() {
    let capped = "budgets: [{ name: day, usd: 0.000001, period: day, at_cap: refuse }]\n";
    for (budgets, asks) in [("", true), (capped, false)] {
        let mut world = World::new(&format!("{budgets}{FILE}"));
        world.handle.circuit("sonnet").unwrap().force_open();
        world.handle.circuit("sonnet").unwrap().release();
        let calls = world.calls("sonnet");
        sleep(10 * MINUTE).await;
        assert_eq!(world.calls("sonnet") > calls, asks, "{budgets}: {:?}", world.checked());
    }
}

#[tokio::test(start_paused = true)]
async fn a_settings_json_asks_by_itself() {
    let file = r#"{ "model": { "primaryModel": "sonnet", "provider": "anthropic",
        "fallbackModels": [{ "model": "gpt", "provider": "openai" }],
        "failover": { "triggerOnStatusCodes": [429, 500, 502, 503], "retriesBeforeFailover": 2,
                      "primaryRecoveryCheckIntervalMs": 60000 } } }"#;
    let models = ["sonnet", "gpt"].map(|name| (name, Simulated::new(name)));
    let sonnet = models[0].1.handle();
    let builder = models.into_iter().fold(Stack::builder().seed(3), |stack, (name, model)| stack.leaf(name, model));
    let stack = builder.build(Config::from_str(file, Format::Json).unwrap()).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let _checking = handle.check_recovery();
    sonnet.fail(Fault::Unavailable);
    llm.oneshot(LlmRequest::prompt("Why?")).await.unwrap().collect().await.unwrap();
    sleep(SECOND).await;
    assert_eq!(handle.status().state, ServingState::Fallback);
    sonnet.heal();
    sleep(MINUTE).await;
    assert_green(&handle.status());
}
