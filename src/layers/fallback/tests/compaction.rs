//! Tests of requests that compact a conversation.

use super::*;
use crate::{Fallback, Wire};

fn compaction() -> LlmRequest {
    Wire::compaction(r#"{"model":"gpt-5","input":"hello"}"#).unwrap().into()
}

fn account(name: &str) -> TierSettings {
    TierSettings::new().compaction(name)
}

/// A chain of a tier that cannot compact, two of one account, and one of another.
fn chain(tiers: [&Strict; 4], set: fn(FallbackLayer) -> FallbackLayer) -> Fallback<Strict> {
    let [claude, first, other, second] = tiers.map(Strict::clone);
    set(FallbackLayer::new("claude"))
        .push(Tier::new("first", first).settings(account("a")))
        .push(Tier::new("other", other).settings(account("b")))
        .push(Tier::new("second", second).settings(account("a")))
        .layer(claude)
}

#[tokio::test(start_paused = true)]
async fn a_compaction_goes_to_the_first_tier_that_can_and_then_to_its_account_only() {
    let (claude, other) = (Strict::new(), Strict::new());
    for (first, second, answers) in [
        (Strict::new(), Strict::new(), Some("first")),
        (failing(ErrorKind::Server), Strict::new(), Some("second")),
        // Nothing was sent to the first tier: its account still is the conversation's.
        (failing(ErrorKind::CircuitOpen), Strict::new(), Some("second")),
        (failing(ErrorKind::Overloaded), failing(ErrorKind::Server), None),
    ] {
        let answer = chain([&claude, &first, &other, &second], |layer| layer).oneshot(compaction()).await;
        match answers {
            Some(tier) => assert_eq!(tier_of(&answer.unwrap()), tier),
            None => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Overloaded),
        }
    }
    assert_eq!((claude.calls(), other.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_route_for_a_kind_of_failure_does_not_lead_to_another_account() {
    let tiers = [Strict::new(), failing(ErrorKind::Server), Strict::new(), failing(ErrorKind::Server)];
    let route = |layer: FallbackLayer| layer.tier("routed", Strict::new()).route(ErrorKind::Server, ["routed"]);
    let [claude, first, other, second] = &tiers;
    assert!(chain([claude, first, other, second], route).oneshot(compaction()).await.is_err());
    assert_eq!((first.calls(), second.calls(), other.calls()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_tier_that_can_a_compaction_is_refused_by_name() {
    let (primary, backup) = (Strict::new(), Strict::new());
    let llm = FallbackLayer::new("claude").tier("backup", backup.clone()).layer(primary.clone());
    let error = llm.clone().oneshot(compaction()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::UnsupportedFeature, Some("unsupported_path")));
    assert!(error.message().contains("claude lacks /v1/responses/compact"), "{error}");
    assert_eq!((primary.calls(), backup.calls()), (0, 0));
    assert_eq!(tier_of(&llm.oneshot(prompt()).await.unwrap()), "claude");
}
