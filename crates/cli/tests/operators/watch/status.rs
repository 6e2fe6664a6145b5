//! `GET /status`, `/healthz`, `/readyz`, and the alerts of the file.

use steadfast::providers::simulated::Fault;

use super::{SOON, harness::*, outage};
use crate::common::within;

#[test]
fn the_status_says_who_serves_from_outage_to_recovery() {
    let watched = Watched::start(&[], &[]);
    let head = watched.get("/status").head;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("cache-control: no-store") && head.contains("access-control-allow-origin: *"), "{head}");
    let status = watched.status();
    assert_eq!((&status["state"], &status["activeTier"]), (&"untried".into(), &"sonnet".into()));
    assert_eq!((&status["activeModel"], &status["tiers"][1]["model"]), (&"claude-sonnet-4-5".into(), &"gpt-4o".into()));
    assert_eq!(status["tiers"].as_array().unwrap().len(), 3);

    watched.primary().fail(Fault::Unavailable);
    assert_eq!(watched.tier("chat", true), "gpt");
    within(SOON, "no fallback", || watched.status()["state"] == "fallback");
    let status = watched.status();
    assert_eq!((&status["activeModel"], &status["primaryModel"]), (&"gpt-4o".into(), &"claude-sonnet-4-5".into()));
    assert_eq!((&status["activeTier"], &status["primaryTier"]), (&"gpt".into(), &"sonnet".into()));
    assert_eq!(status["recentSwitches"][0]["reason"], "server");

    watched.backup().fail(Fault::Unavailable);
    assert!(watched.ask("strict", false).status >= 500);
    within(SOON, "it seems to serve", || watched.status()["state"] == "failing");
    let seen = watched.get("/status");
    let status = seen.json();
    assert_eq!((seen.status, &status["tiers"][0]["lastFailure"]["status"]), (200, &503.into()), "{seen:?}");
    // Others would get the sentence.
    let strict = status["chains"].as_array().unwrap().iter().find(|chain| chain["id"] == status["chain"]).unwrap();
    assert_eq!((&strict["names"][0], &strict["state"]), (&"feature strict".into(), &"unavailable".into()), "{status}");

    watched.primary().heal();
    within(SOON, "no recovery", || {
        watched.ask("chat", true);
        watched.status()["state"] == "primary"
    });
    assert!(watched.status()["lastRecoverySeconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_status_is_503_while_nothing_serves() {
    let watched = Watched::start(&[], &[]);
    watched.primary().fail(Fault::Unavailable);
    watched.backup().fail(Fault::Unavailable);
    assert!(watched.ask("strict", false).status >= 500);
    within(SOON, "it seems to serve", || watched.get("/status").status == 503);
    assert_eq!(watched.status()["state"], "unavailable");
}

#[test]
fn requests_that_fail_turn_the_status_though_every_circuit_is_closed() {
    let watched = Watched::start(&[], &[]);
    assert_eq!(watched.tier("chat", false), "sonnet");
    watched.primary().fail(Fault::Unavailable);
    let body = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hello"}]}"#;
    let refused = watched.gateway.ask("POST /v1/messages", "x-steadfast-no-fallback: 1\r\n", body);
    assert_eq!(refused.status, 503, "{refused:?}");
    within(SOON, "the status is green", || watched.status()["state"] == "failing");
    let status = watched.status();
    let tier = &status["tiers"][0];
    assert_eq!((&tier["circuit"], &tier["health"]), (&"closed".into(), &"failing".into()), "{status}");
    assert_eq!((&status["requests"]["ended"], &status["requests"]["failed"]), (&2.into(), &1.into()), "{status}");
    watched.primary().heal();
    assert_eq!(watched.tier("chat", false), "sonnet");
    within(SOON, "it is not green again", || watched.status()["state"] == "primary");
}

#[test]
fn an_outage_is_no_reason_to_send_requests_elsewhere() {
    let watched = Watched::start(&[], &[]);
    watched.primary().fail(Fault::Unavailable);
    watched.backup().fail(Fault::Unavailable);
    watched.ask("strict", false);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(watched.get(path).status, 200, "{path}");
    }
}

#[test]
fn a_failover_is_told_to_the_webhook_of_the_file() {
    let watched = Watched::start(&[], &[]);
    outage(&watched);
    let told = |state: &str| watched.alerts().iter().any(|alert| alert.to_string().contains(state));
    within(SOON, "no alert", || told("failover"));
    // It is over once the primary has served for a minute: the engine's own tests have that.
    let alerts = watched.alerts();
    for secret in SECRETS {
        assert!(!format!("{alerts:?}").contains(secret), "{alerts:?}");
    }
}
