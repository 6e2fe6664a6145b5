//! Tests that callers that name a model get that model's chain.

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
    let layer = layer.model("claude-opus-*", ["large", "usual"]);
    layer.model("claude-sonnet-*", ["usual", "large"]).model("claude-haiku-*", ["small"])
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
    let llm = tiers.model("both", ["usual", "large"]).model("only", ["large"]).layer(failing(ErrorKind::Overloaded));
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
    let layer = layer().feature("cheap", ["usual", "small"]).feature("last", ["small"]);
    let llm = layer.layer(Strict::new());
    for (feature, model, tier) in [
        ("cheap", "claude-opus-4-1", "usual"),
        ("cheap", "claude-haiku-4-5", "small"),
        ("cheap", "gpt-4o", "usual"),
        ("last", "claude-sonnet-4-5", "small"),
        ("another", "claude-haiku-4-5", "small"),
    ] {
        let response = llm.clone().oneshot(naming(model).with_feature(feature)).await.unwrap();
        assert_eq!(tier_of(&response), tier, "{feature} {model}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_pinned_for_each_of_its_models() {
    let llm = layer().session(SessionPolicy::Pin).layer(Strict::new());
    for _ in 0..2 {
        for (model, tier) in [("claude-haiku-4-5", "small"), ("claude-sonnet-4-5", "usual"), ("gpt-4o", "large")] {
            let response = llm.clone().oneshot(naming(model).with_session("s")).await.unwrap();
            assert_eq!(tier_of(&response), tier, "{model}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sticky_session_stays_where_its_model_was_switched_to() {
    let usual = Strict::new().fails(1, error(ErrorKind::Overloaded));
    let layer = FallbackLayer::new("large").tier("usual", usual).session(SessionPolicy::Sticky);
    let llm = layer.model("sonnet", ["usual", "large"]).layer(Strict::new());
    for (session, tier) in [("s", "large"), ("s", "large"), ("another", "usual")] {
        assert_eq!(tier_of(&llm.clone().oneshot(naming("sonnet").with_session(session)).await.unwrap()), tier);
    }
}

#[test]
fn a_model_of_a_tier_that_is_not_there_is_refused() {
    let error = FallbackLayer::new("a").model("gpt-4o", ["b"]).checked().unwrap_err();
    assert_eq!(error.field(), "models.gpt-4o.tiers");
    assert!(FallbackLayer::new("a").model("gpt-4o", []).checked().is_err());
}

/// Three tiers with models of their own, each with its capabilities, and a fixed sentence between them.
fn named(leaves: [Strict; 2]) -> FallbackLayer {
    let [usual, small] = leaves;
    FallbackLayer::new("large")
        .primary(TierSettings::new().model("opus"))
        .push(Tier::new("sorry", Canned::text("In a minute, please.")).model("sorry").level(5))
        .push(Tier::new("usual", usual).model("sonnet"))
        .push(Tier::new("small", small).model("haiku"))
}

fn order(response: &LlmResponse) -> Vec<String> {
    let failed = response.attempts().iter().map(|step| step.tier.as_deref().unwrap_or("none").to_owned());
    failed.chain([tier_of(response)]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_tiers_name_or_model_is_where_a_request_begins() {
    let llm = named([Strict::new(), Strict::new()]).layer(Strict::new());
    for (model, tier) in [
        ("opus", "large"),
        ("large", "large"),
        ("sonnet", "usual"),
        ("usual", "usual"),
        ("haiku", "small"),
        ("small", "small"),
        ("sorry", "sorry"),
        ("sonne", "large"),
        ("", "large"),
    ] {
        let response = llm.clone().oneshot(naming(model)).await.unwrap();
        assert_eq!((tier_of(&response).as_str(), response.attempts().len()), (tier, 0), "{model}");
    }
}

/// Bedrock's id of a model and its maker's name stand for the same, at either tier.
#[tokio::test(start_paused = true)]
async fn the_first_door_of_a_model_is_where_any_of_its_names_begins() {
    const NAME: &str = "claude-sonnet-4-5";
    for id in ["anthropic.claude-sonnet-4-5-20250929-v1:0", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"] {
        for (models, begins) in [
            ([id, NAME, "gpt-4o"], "0"),
            ([NAME, id, "gpt-4o"], "0"),
            (["gpt-4o", id, NAME], "1"),
            (["gpt-4o", NAME, id], "1"),
            (["gpt-4o", "claude-opus-4-1", id], "2"),
        ] {
            let tiers = FallbackLayer::new("0").primary(TierSettings::new().model(models[0]));
            let tiers = tiers.push(Tier::new("1", Strict::new()).model(models[1]));
            let llm = tiers.push(Tier::new("2", Strict::new()).model(models[2])).layer(Strict::new());
            for asked in ["claude-sonnet-4-5-20250929", "claude-sonnet-4-5[1m]", "anthropic/claude-sonnet-4.5"] {
                assert_eq!(order(&llm.clone().oneshot(naming(asked)).await.unwrap()), [begins], "{models:?} {asked}");
            }
            // A name that a tier has exactly is that tier's.
            let exact = models.iter().position(|model| *model == id).unwrap().to_string();
            assert_eq!(order(&llm.oneshot(naming(id)).await.unwrap()), [exact], "{models:?}");
        }
    }
}

/// Tiers without models: requests cannot name them.
#[tokio::test(start_paused = true)]
async fn tiers_without_a_model_are_not_begun_at() {
    let llm = FallbackLayer::new("large").tier("usual", Strict::new()).layer(Strict::new());
    assert_eq!(tier_of(&llm.oneshot(naming("usual")).await.unwrap()), "large");
}

#[tokio::test(start_paused = true)]
async fn models_after_the_named_tier_come_first_then_those_before_it_and_a_fixed_sentence_last() {
    let down = || failing(ErrorKind::Overloaded);
    let llm = named([down(), down()]).layer(down());
    for (model, tiers) in [
        ("opus", ["large", "sorry"].as_slice()),
        ("sonnet", &["usual", "small", "large", "sorry"]),
        ("haiku", &["small", "large", "usual", "sorry"]),
        ("sorry", &["sorry"]),
    ] {
        assert_eq!(order(&llm.clone().oneshot(naming(model)).await.unwrap()), tiers, "{model}");
    }
    let only = llm.oneshot(naming("sonnet").no_fallback()).await.unwrap_err();
    assert_eq!((only.kind(), only.attempts().len()), (ErrorKind::Overloaded, 1));
}

#[tokio::test(start_paused = true)]
async fn where_every_tier_failed_for_a_named_model_the_last_says_so() {
    let down = || failing(ErrorKind::Overloaded);
    let tiers = FallbackLayer::new("large")
        .primary(TierSettings::new().model("opus"))
        .push(Tier::new("usual", down()).model("sonnet"));
    let error = tiers.layer(down()).oneshot(naming("sonnet")).await.unwrap_err();
    let steps: Vec<_> = error.attempts().iter().map(|step| (step.tier.as_deref().unwrap(), step.next)).collect();
    assert_eq!(steps, [("usual", Next::FailedOver), ("large", Next::Stopped(Stop::LastTier))]);
}

/// A chain for exactly this name is what the operator wants of it; one for a pattern begins at the tier, if it is
/// in it.
#[tokio::test(start_paused = true)]
async fn chains_and_features_say_which_tiers_and_a_name_where_to_begin() {
    let layer = named([Strict::new(), Strict::new()])
        .model("haiku", ["large", "small"])
        .model("s*", ["large", "usual"])
        .feature("cheap", ["usual", "small"]);
    let llm = layer.layer(Strict::new());
    for (feature, model, tier) in [
        ("any", "haiku", "large"),
        ("any", "sonnet", "usual"),
        ("any", "small", "large"),
        ("any", "usual", "usual"),
        ("cheap", "small", "usual"),
        ("cheap", "opus", "usual"),
        ("cheap", "haiku", "small"),
    ] {
        let response = llm.clone().oneshot(naming(model).with_feature(feature)).await.unwrap();
        assert_eq!(tier_of(&response), tier, "{feature} {model}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_tiers_with_one_model_the_first_of_the_chain_is_begun_at() {
    let tiers = FallbackLayer::new("large").primary(TierSettings::new().model("opus"));
    let tiers = tiers
        .push(Tier::new("here", Strict::new()).model("sonnet"))
        .push(Tier::new("there", Strict::new()).model("sonnet"))
        .push(Tier::new("sonnet", Strict::new()).model("another"));
    let llm = tiers.clone().layer(Strict::new());
    assert_eq!(tier_of(&llm.oneshot(naming("sonnet")).await.unwrap()), "sonnet", "a tier's own name is the closest");
    let llm = tiers.feature("f", ["large", "there", "here"]).layer(Strict::new());
    assert_eq!(tier_of(&llm.oneshot(naming("sonnet").with_feature("f")).await.unwrap()), "there");
}

#[tokio::test(start_paused = true)]
async fn a_named_tier_that_is_drained_or_cannot_carry_it_is_passed() {
    let layer = named([Strict::new(), Strict::new()]);
    let operator = layer.handle();
    let llm = accepting(layer, "code", 1).layer(Strict::new());
    operator.drain("usual");
    let response = llm.clone().oneshot(naming("sonnet")).await.unwrap();
    assert_eq!(order(&response), ["usual", "small"]);
    assert_eq!(response.attempts()[0].failure, Some(ErrorKind::OutOfService));
    operator.undrain("usual");
    assert_eq!(order(&llm.clone().oneshot(naming("sonnet")).await.unwrap()), ["usual"]);
    assert_eq!(order(&llm.oneshot(naming("sorry").with_feature("code")).await.unwrap()), ["sorry", "usual"]);
}

#[tokio::test(start_paused = true)]
async fn a_named_tier_is_a_session_of_its_own_and_its_failover_no_switch_of_the_primary() {
    for policy in [SessionPolicy::Pin, SessionPolicy::Sticky] {
        let events = Events::default();
        let mut seen = events.subscribe();
        let llm = named([Strict::new(), Strict::new().fails(1, error(ErrorKind::Overloaded))]);
        let llm = llm.session(policy).events(events).layer(Strict::new());
        for (model, tier) in [("sonnet", "usual"), ("opus", "large"), ("sonnet", "usual"), ("unknown", "large")] {
            let response = llm.clone().oneshot(naming(model).with_session("s")).await.unwrap();
            assert_eq!(tier_of(&response), tier, "{policy:?} {model}");
        }
        for (session, tier) in [("t", "large"), ("t", "large"), ("u", "small")] {
            let response = llm.clone().oneshot(naming("haiku").with_session(session)).await.unwrap();
            assert_eq!(tier_of(&response), tier, "{policy:?} {session}");
        }
        assert!(matches!(seen.try_recv(), Ok(Event::ModelSwitched { first, .. }) if *first == *"small"), "{policy:?}");
        assert!(matches!(seen.try_recv(), Ok(Event::ModelRecovered { to, .. }) if *to == *"small"), "{policy:?}");
        assert!(seen.try_recv().is_err());
    }
}
