//! Callers that name a model get that model's chain.

use super::*;
use crate::chat::{Chat, Message};

fn naming(model: &str) -> LlmRequest {
    let mut chat = Chat::new([Message::user("hello")]);
    chat.model = Some(model.into());
    LlmRequest::from(chat)
}

/// Three tiers, and three names of one client.
fn layer() -> FallbackLayer {
    let layer = FallbackLayer::new("large").tier("usual", Strict::new()).tier("small", Strict::new());
    let layer = layer.model("claude-opus-*", ["large", "usual"]).unwrap();
    layer.model("claude-sonnet-*", ["usual", "large"]).unwrap().model("claude-haiku-*", ["small"]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn three_names_are_three_chains_and_other_names_have_all_tiers() {
    let llm = layer().layer(Strict::new());
    for (model, tier) in [
        ("claude-opus-4-1", "large"),
        ("claude-sonnet-4-5", "usual"),
        ("claude-haiku-4-5", "small"),
        ("gpt-4o", "large"),
        ("claude-haiku", "large"),
    ] {
        assert_eq!(tier_of(&llm.clone().oneshot(naming(model)).await.unwrap()), tier, "{model}");
    }
    assert_eq!(tier_of(&llm.oneshot(prompt()).await.unwrap()), "large", "a request that names none");
}

#[tokio::test(start_paused = true)]
async fn a_models_chain_is_gone_along_in_its_order_and_left_for_no_other() {
    let (usual, small) = (Strict::new(), Strict::new());
    let tiers = FallbackLayer::new("large").tier("usual", usual.clone()).tier("small", small.clone());
    let llm = tiers
        .model("both", ["usual", "large"])
        .unwrap()
        .model("only", ["large"])
        .unwrap()
        .layer(failing(ErrorKind::Overloaded));
    let response = llm.clone().oneshot(naming("both")).await.unwrap();
    assert_eq!((tier_of(&response).as_str(), response.attempts().len()), ("usual", 0));
    let error = llm.oneshot(naming("only")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (ErrorKind::Overloaded, 1));
    assert_eq!((usual.calls(), small.calls()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_small_model_in_the_background_is_no_switch_of_the_primary() {
    let events = Events::default();
    let mut seen = events.subscribe();
    let llm = layer().events(events).layer(Strict::new());
    for model in ["claude-haiku-4-5", "claude-opus-4-1", "claude-haiku-4-5"] {
        llm.clone().oneshot(naming(model)).await.unwrap();
    }
    assert!(seen.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_feature_bounds_what_a_name_can_reach() {
    let layer = layer().feature("cheap", ["usual", "small"]).unwrap().feature("last", ["small"]).unwrap();
    let llm = layer.layer(Strict::new());
    for (feature, model, tier) in [
        ("cheap", "claude-opus-4-1", "usual"),
        ("cheap", "claude-haiku-4-5", "small"),
        ("cheap", "gpt-4o", "usual"),
        ("last", "claude-sonnet-4-5", "small"),
        ("another", "claude-haiku-4-5", "small"),
    ] {
        let response = llm.clone().oneshot(naming(model).feature(feature)).await.unwrap();
        assert_eq!(tier_of(&response), tier, "{feature} {model}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_pinned_for_each_of_its_models() {
    let llm = layer().session(SessionPolicy::Pin).layer(Strict::new());
    for _ in 0..2 {
        for (model, tier) in [("claude-haiku-4-5", "small"), ("claude-sonnet-4-5", "usual"), ("gpt-4o", "large")] {
            let response = llm.clone().oneshot(naming(model).session("s")).await.unwrap();
            assert_eq!(tier_of(&response), tier, "{model}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sticky_session_stays_where_its_model_was_switched_to() {
    let usual = Strict::new().fails(1, error(ErrorKind::Overloaded));
    let layer = FallbackLayer::new("large").tier("usual", usual).session(SessionPolicy::Sticky);
    let llm = layer.model("sonnet", ["usual", "large"]).unwrap().layer(Strict::new());
    for (session, tier) in [("s", "large"), ("s", "large"), ("another", "usual")] {
        assert_eq!(tier_of(&llm.clone().oneshot(naming("sonnet").session(session)).await.unwrap()), tier);
    }
}

#[test]
fn a_model_of_a_tier_that_is_not_there_is_refused() {
    let error = FallbackLayer::new("a").model("gpt-4o", ["b"]).unwrap_err();
    assert_eq!(error.field(), "models.gpt-4o.tiers");
    assert!(FallbackLayer::new("a").model("gpt-4o", []).is_err());
}
