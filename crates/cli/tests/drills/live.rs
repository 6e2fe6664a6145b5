//! `steadfast drill --live` against two providers of this machine: who answers while the primary is blocked, and that
//! it serves again afterwards.

use std::{sync::mpsc, thread};

use serde_json::Value;
use steadfast::providers::simulated::{Fault, Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;
use tokio::runtime::Builder;

use crate::common::{Folder, Ran, steadfast};

/// Two providers on a thread of their own, for as long as this lives.
struct Providers {
    addresses: [String; 2],
    primary: SimulatedHandle,
    backup: SimulatedHandle,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Providers {
    fn start() -> Self {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
                let primary = SimulatedServer::start(Simulated::new("large").reply("ok")).await.unwrap();
                let backup = SimulatedServer::start(Simulated::new("small").reply("ok")).await.unwrap();
                tell.send(([primary.base_url(), backup.base_url()], primary.handle(), backup.handle())).unwrap();
                let _ = stopped.await;
            });
        });
        let (addresses, primary, backup) = told.recv().unwrap();
        Self { addresses, primary, backup, _stop: stop }
    }

    /// A configuration of both, whose primary recovers within a second. It has the default time for an answer, however
    /// busy the machine is.
    fn config(&self) -> String {
        let [primary, backup] = &self.addresses;
        format!(
            "tiers:\n\
             - name: sonnet\n  provider: anthropic\n  model: claude-sonnet-4-5\n\
             \x20 base_url: {primary}\n  api_key: ${{DRILL_KEY}}\n\
             \x20 circuit_breaker: {{ consecutive_failures: 3, cooldown: 600ms }}\n\
             - name: backup\n  provider: openai\n  model: gpt-4o\n  base_url: {backup}/v1\n"
        )
    }
}

const KEY: &str = "sk-secret-marker";

fn drill(file: &str, more: &[&str]) -> Ran {
    let folder = Folder::new("live");
    let file = folder.file("steadfast.yaml", file);
    let arguments = ["drill", "--live", "--config", file.to_str().unwrap()];
    let ran = steadfast(arguments.into_iter().chain(more.iter().copied()), &[("DRILL_KEY", KEY)]);
    for said in [&ran.out, &ran.err] {
        assert!(!said.contains(KEY) && !said.contains("Say ok"), "a key or a prompt: {said}");
    }
    ran
}

#[test]
fn the_fallback_answers_while_the_primary_is_blocked_and_the_primary_serves_again() {
    let providers = Providers::start();
    let ran = drill(&providers.config(), &["--live-requests", "4"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    for said in [
        "at most 9 requests",
        "backup (gpt-4o)",
        "fallback: backup answered in the place of sonnet",
        "recovery: sonnet serves again",
        "open",
    ] {
        assert!(ran.out.contains(said), "{said} is missing:\n{}", ran.out);
    }
    let (primary, backup) = (providers.primary.stats(), providers.backup.stats());
    assert_eq!(backup.answered, 4, "one for each request while the primary was blocked");
    assert!((2..=3).contains(&primary.calls), "before, and when it could be reached again: {}", primary.calls);
    assert_eq!(primary.failed + backup.failed, 0, "nothing reached the primary while it was blocked");
}

#[test]
fn a_silent_provider_can_be_drilled_with_a_report_in_json() {
    let providers = Providers::start();
    // The first request that hangs opens the circuit.
    let config = providers.config().replace("consecutive_failures: 3", "consecutive_failures: 1");
    let config = config.replace("  circuit_breaker", "  timeout: 3s\n  circuit_breaker");
    let ran = drill(&config, &["--live-fault", "hang", "--json", "--live-requests", "3"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((found["primary"].as_str(), found["fault"].as_str()), (Some("sonnet"), Some("hang")));
    assert_eq!((&found["passed"], &found["lost"], &found["circuit_opened"]), (&true.into(), &0.into(), &true.into()));
    assert_eq!(found["switched_to"], serde_json::json!(["backup"]));
    assert!(found["recovery_s"].is_f64() && found["cost_at_most"].as_f64().unwrap() > 0.0, "{found}");
    let blocked: Vec<_> = found["steps"].as_array().unwrap().iter().filter(|step| step["phase"] == "blocked").collect();
    assert_eq!(blocked.len(), 3);
    assert!(blocked[0]["took_ms"].as_f64().unwrap() >= 3000.0, "it waited for the primary: {blocked:?}");
}

#[test]
fn a_fallback_that_does_not_answer_fails_the_drill() {
    let providers = Providers::start();
    providers.backup.fail(Fault::ServerError);
    let ran = drill(&providers.config(), &["--live-requests", "1"]);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(
        ran.out.contains("FAILED") && ran.err.contains("a request was lost while sonnet was blocked"),
        "{}{}",
        ran.out,
        ran.err
    );
}

#[test]
fn a_primary_that_does_not_come_back_in_time_fails_the_drill() {
    let providers = Providers::start();
    let config = providers.config().replace("cooldown: 600ms", "cooldown: 60s");
    let ran = drill(&config, &["--live-limit", "1s", "--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&found["passed"], &found["recovery_s"]), (&false.into(), &Value::Null));
    assert!(ran.err.contains("sonnet did not serve again"), "{}", ran.err);
}

#[test]
fn a_primary_that_is_down_already_is_not_drilled() {
    let providers = Providers::start();
    providers.primary.fail(Fault::ServerError);
    let ran = drill(&providers.config(), &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("sonnet does not serve before anything is blocked: backup answered"), "{}", ran.err);
    assert_eq!(providers.backup.stats().calls, 1, "one request, and no more");
}

#[test]
fn a_drill_that_cannot_run_exits_with_code_2() {
    let simulated = "tiers:\n  - { name: a, provider: simulated }\n  - { name: b, provider: simulated }\n";
    assert_eq!(drill(simulated, &[]).code, Some(2));
    let alone = drill("tiers:\n  - { name: a, provider: anthropic, model: m, base_url: 'http://127.0.0.1:9' }\n", &[]);
    assert_eq!(alone.code, Some(2));
    assert!(alone.err.contains("no fallback"), "{}", alone.err);
    for more in
        [["--live-requests", "0"], ["--live-requests", "51"], ["--live-limit", "soon"], ["--live-fault", "none"]]
    {
        assert_eq!(drill(simulated, &more).code, Some(2), "{more:?}");
    }
    assert_eq!(steadfast(["drill", "--live"], &[]).code, Some(2), "it needs a configuration");
    assert_eq!(steadfast(["drill", "--live-requests", "2"], &[]).code, Some(2), "and these are of --live only");
}
