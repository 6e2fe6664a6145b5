//! Tests of levels of service: how far down a request may go, and where it begins.

use super::*;
use crate::{
    chat::{Chat, Message, Tool},
    layers::fallback::Capabilities,
};

/// A ladder of levels 1, 2 and 5, and each rung's leaf.
fn ladder() -> (FallbackLayer, [Strict; 3]) {
    let [full, small, fixed] = [Strict::new(), Strict::new(), Strict::new()];
    let layer = FallbackLayer::new("full")
        .push(Tier::new("small", small.clone()).level(2))
        .push(Tier::new("fixed", fixed.clone()).level(5));
    (layer, [full, small, fixed])
}

fn stepped(level: u8) -> LlmRequest {
    let mut request = prompt().with_feature("chat");
    request.context_mut().step_down(level);
    request
}

fn record(response: &LlmResponse) -> Vec<String> {
    response.attempts().iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_level_from_two_on_is_degraded() {
    for (level, is) in [(0, None), (1, None), (2, Some(2)), (9, Some(5))] {
        let response = FallbackLayer::new("a")
            .primary(TierSettings::new().level(level))
            .layer(Strict::new())
            .oneshot(prompt())
            .await
            .unwrap();
        assert_eq!(response.degraded().map(|degraded| degraded.level), is, "{level}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_stepped_down_begins_further_down_and_the_record_says_so() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let (layer, [full, ..]) = ladder();
    let llm = layer.events(events).layer(full.clone());
    let response = llm.clone().oneshot(stepped(2)).await.unwrap();
    assert_eq!((tier_of(&response).as_str(), response.degraded().is_some()), ("small", true));
    assert_eq!(record(&response), ["full: is of level 1, and the request was stepped down to 2; not asked"]);
    assert_eq!(response.attempts()[0].next, Next::Skipped);
    assert_eq!((response.served_by().attempts, full.calls()), (1, 0));
    assert_eq!(tier_of(&llm.clone().oneshot(stepped(3)).await.unwrap()), "fixed");
    assert_eq!(tier_of(&llm.oneshot(prompt()).await.unwrap()), "full");
    assert!(heard.try_recv().is_err(), "to step down is no switch");
}

#[tokio::test(start_paused = true)]
async fn a_step_down_gives_way_where_nothing_answers_below() {
    let down = || FallbackLayer::new("full").push(Tier::new("small", failing(ErrorKind::Server)).level(2));
    let stays_down = || down().feature("chat", FeaturePolicy::new().stays_down(true));
    let response = down().layer(Strict::new()).oneshot(stepped(2)).await.unwrap();
    assert_eq!(tier_of(&response), "full");
    assert_eq!(record(&response).len(), 2, "{:?}", record(&response));
    // No tier is that far down at all.
    assert_eq!(tier_of(&down().layer(Strict::new()).oneshot(stepped(4)).await.unwrap()), "full");

    let full = Strict::new();
    let error = stays_down().layer(full.clone()).oneshot(stepped(2)).await.unwrap_err();
    assert_eq!((error.kind(), full.calls()), (ErrorKind::Server, 0));
    let error = stays_down().layer(full.clone()).oneshot(stepped(4)).await.unwrap_err();
    assert_eq!((error.kind(), full.calls()), (ErrorKind::Exhausted, 0));
}

#[tokio::test(start_paused = true)]
async fn the_callers_mistake_does_not_bring_a_request_up_again() {
    let full = Strict::new();
    let layer = FallbackLayer::new("full").push(Tier::new("small", failing(ErrorKind::InvalidRequest)).level(2));
    let error = layer.layer(full.clone()).oneshot(stepped(2)).await.unwrap_err();
    assert_eq!((error.kind(), full.calls()), (ErrorKind::InvalidRequest, 0));
}

#[tokio::test(start_paused = true)]
async fn a_feature_falls_no_further_than_it_accepts() {
    let (layer, [_, small, fixed]) = ladder();
    let llm = accepting(accepting(layer, "code", 1), "chat", 2).layer(failing(ErrorKind::Server));
    let code = llm.clone().oneshot(prompt().with_feature("code")).await.unwrap_err();
    assert_eq!((code.kind(), small.calls()), (ErrorKind::Server, 0));
    let told: Vec<String> = code.attempts().iter().map(ToString::to_string).collect();
    assert!(told[1].starts_with("small: is of level 2, and none worse than 1 is accepted"), "{told:?}");
    assert_eq!(tier_of(&llm.clone().oneshot(prompt().with_feature("chat")).await.unwrap()), "small");
    assert_eq!(tier_of(&llm.clone().oneshot(prompt().with_feature("other")).await.unwrap()), "small");
    // The request's own limit counts too.
    let error = llm.oneshot(prompt().with_feature("chat").with_worst_level(1)).await.unwrap_err();
    assert_eq!((error.kind(), small.calls(), fixed.calls()), (ErrorKind::Server, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_step_down_below_what_a_feature_accepts_gives_way() {
    let (layer, [full, small, fixed]) = ladder();
    let llm = accepting(layer, "chat", 1).layer(full.clone());
    assert_eq!(tier_of(&llm.oneshot(stepped(2)).await.unwrap()), "full");
    assert_eq!((small.calls(), fixed.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_for_which_every_tier_is_too_bad_fails_at_once() {
    let leaf = Strict::new();
    let error = FallbackLayer::new("a")
        .primary(TierSettings::new().level(3))
        .layer(leaf.clone())
        .oneshot(prompt().with_worst_level(2))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), leaf.calls()), (ErrorKind::Exhausted, 0));
    assert_eq!(error.message(), "no tier can carry it: a is of level 3, and none worse than 2 is accepted");
}

fn degraded(response: &LlmResponse) -> Option<(u8, &'static str)> {
    response.degraded().map(|degraded| (degraded.level, degraded.reason.name()))
}

#[tokio::test(start_paused = true)]
async fn a_degraded_answer_says_its_level_and_what_led_there() {
    let (layer, [full, small, _]) = ladder();
    let steer = layer.handle();
    let llm = layer.model("tiny", ["small", "fixed"]).layer(full.clone());
    let ask = |request: LlmRequest| {
        let llm = llm.clone();
        async move { degraded(&llm.oneshot(request).await.unwrap()) }
    };
    assert_eq!(ask(prompt()).await, None);
    assert_eq!(ask(stepped(2)).await, Some((2, "stepped_down")));
    let tiny = LlmRequest::from(Chat::new([Message::user("hello")]).model("tiny"));
    assert_eq!(ask(tiny).await, Some((2, "order")), "nothing better was to be asked");
    steer.pin_level(Some(2));
    assert_eq!(ask(prompt()).await, Some((2, "pinned")));
    let _ = small.clone().fails(1, error(ErrorKind::Overloaded));
    assert_eq!(ask(prompt()).await, Some((5, "overloaded")), "no order is why it is this far down");
    steer.pin_level(None);
    steer.drain("full");
    assert_eq!(ask(prompt()).await, Some((2, "drained")));
    steer.undrain("full");
    let _ = full.clone().fails(1, error(ErrorKind::Timeout));
    let _ = small.clone().fails(1, error(ErrorKind::Overloaded));
    assert_eq!(ask(prompt()).await, Some((5, "timeout")), "the first failure leads");
    assert_eq!(ask(prompt()).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_a_tier_lacks_is_why_a_worse_one_answers() {
    let text = TierSettings::new().capabilities(Capabilities::new().tools(false));
    let layer = FallbackLayer::new("text").primary(text);
    let llm = layer.push(Tier::new("tools", Strict::new()).level(3)).layer(Strict::new());
    let tool = Tool::new("lookup", serde_json::json!({"type": "object"}));
    let request = LlmRequest::from(Chat::new([Message::user("hello")]).tool(tool));
    assert_eq!(degraded(&llm.oneshot(request).await.unwrap()), Some((3, "unsupported_feature")));
}

#[tokio::test(start_paused = true)]
async fn a_leafs_own_level_stands_where_it_is_worse_than_its_tiers() {
    for (level, is) in [(1, 5), (3, 5), (5, 5)] {
        let canned = Tier::new("canned", Canned::text("later")).level(level);
        let llm = FallbackLayer::new("full").push(canned).layer(failing(ErrorKind::Connect));
        assert_eq!(degraded(&llm.oneshot(prompt()).await.unwrap()), Some((is, "connect")));
    }
    // A reason from further in is nearer to the cause.
    let inner = FallbackLayer::new("a").push(Tier::new("b", Strict::new()).level(2)).layer(failing(ErrorKind::Timeout));
    let llm = FallbackLayer::new("full").push(Tier::new("inner", inner).level(3)).layer(failing(ErrorKind::Connect));
    assert_eq!(degraded(&llm.oneshot(prompt()).await.unwrap()), Some((3, "timeout")));
}
