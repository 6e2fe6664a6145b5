//! Tests that a tier does not get requests that it cannot carry.

use super::*;
use crate::{
    CircuitBreakerLayer, Dialect, Wire,
    chat::{Chat, Image, Media, Message, Part, Role},
    events::CircuitState,
    layers::fallback::Capabilities,
};

fn picture() -> LlmRequest {
    let image = Image { media: Media::Url("https://example.com/a.png".into()) };
    LlmRequest::from(Chat::new([Message::new(Role::User, vec![Part::Image(image)])]))
}

fn blind() -> Capabilities {
    Capabilities::new().images(false)
}

fn record(attempts: &[crate::Attempt]) -> Vec<String> {
    attempts.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_cannot_is_skipped_and_nothing_of_it_is_touched() {
    let (primary, backup) = (Strict::new(), Strict::new());
    let circuit = CircuitBreakerLayer::new("a").consecutive_failures(1);
    let handle = circuit.handle();
    let events = Events::new();
    let mut receiver = events.subscribe();
    let llm = FallbackLayer::new("a")
        .primary(TierSettings::new().capabilities(blind()))
        .tier("b", backup.clone())
        .events(events)
        .layer(circuit.layer(primary.clone()));
    let response = llm.clone().oneshot(picture().with_max_attempts(1)).await.unwrap();
    assert_eq!((tier_of(&response), response.served_by().attempts), ("b".to_owned(), 1));
    assert_eq!(record(response.attempts()), ["a: lacks images (messages[0]); not asked"]);
    assert_eq!(response.attempts()[0].failure, Some(ErrorKind::UnsupportedFeature));
    assert!(response.attempts()[0].is_local());
    assert_eq!((primary.calls(), primary.polled_ready(), handle.state()), (0, 0, CircuitState::Closed));
    assert!(receiver.try_recv().is_err(), "the primary serves as before");

    assert_eq!(tier_of(&llm.oneshot(prompt()).await.unwrap()), "a");
    assert_eq!(backup.seen()[0].context().tiers_left, 0, "nobody is left after the backup");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_cannot_is_passed_over_after_a_failure_in_the_order_of_the_walk() {
    let (b, c) = (Strict::new(), Strict::new());
    let primary = failing(ErrorKind::Server);
    let llm = FallbackLayer::new("a")
        .push(Tier::new("b", b.clone()).capabilities(blind()))
        .tier("c", c.clone())
        .layer(primary.clone());
    let response = llm.oneshot(picture()).await.unwrap();
    assert_eq!(tier_of(&response), "c");
    assert_eq!(
        record(response.attempts()),
        ["a: server after 0ns; went to the next tier", "b: lacks images (messages[0]); not asked"]
    );
    assert_eq!(b.calls(), 0);
    assert_eq!(primary.seen()[0].context().tiers_left, 1, "the one that cannot is no place to go");
}

#[tokio::test(start_paused = true)]
async fn no_time_is_kept_back_for_a_tier_that_cannot() {
    let llm = FallbackLayer::new("a")
        .push(Tier::new("b", Strict::new()).capabilities(blind()))
        .layer(Strict::new().takes(Duration::from_secs(9)));
    let response = llm.clone().oneshot(picture().with_timeout(Duration::from_secs(10))).await.unwrap();
    assert_eq!(tier_of(&response), "a", "with somewhere else to go it would have had five seconds");
    assert_eq!(tier_of(&llm.oneshot(prompt().with_timeout(Duration::from_secs(10))).await.unwrap()), "b");
}

#[tokio::test(start_paused = true)]
async fn the_failure_leads_where_what_is_left_cannot() {
    let llm = FallbackLayer::new("a")
        .push(Tier::new("b", Strict::new()).capabilities(blind()))
        .layer(failing(ErrorKind::Overloaded));
    let error = llm.oneshot(picture()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(
        record(error.attempts()),
        ["a: overloaded after 0ns; stopped: no tier is left", "b: lacks images (messages[0]); not asked"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_no_tier_can_carry_says_which_fields_and_which_tiers() {
    let (a, b) = (Strict::new(), Strict::new());
    let llm = FallbackLayer::new("a")
        .primary(TierSettings::new().capabilities(blind().max_output(100)))
        .push(Tier::new("b", b.clone()).capabilities(blind()))
        .layer(a.clone());
    let mut chat = picture().chat().unwrap().clone();
    chat.max_tokens = Some(101);
    let error = llm.oneshot(LlmRequest::from(chat)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    assert_eq!(
        error.message(),
        "no tier can carry it: a lacks images (messages[0]), max_output (max_tokens is 101, at most 100); \
         b lacks images (messages[0])"
    );
    assert_eq!((error.attempts().len(), a.calls(), b.calls()), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_too_long_for_every_tier_is_too_long() {
    let llm = FallbackLayer::new("a")
        .primary(TierSettings::new().context_window(1000))
        .push(Tier::new("b", Strict::new()).context_window(2000))
        .layer(Strict::new());
    let long = |bytes| LlmRequest::prompt("x".repeat(bytes));
    let error = llm.clone().oneshot(long(20_000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextLength);
    assert!(error.attempts().iter().all(crate::Attempt::is_local));
    assert_eq!(tier_of(&llm.clone().oneshot(long(6_000)).await.unwrap()), "b");
    assert_eq!(tier_of(&llm.oneshot(long(5_000)).await.unwrap()), "a", "near the limit the provider decides");
}

#[tokio::test(start_paused = true)]
async fn a_pinned_session_whose_tier_cannot_fails_clearly() {
    let mut llm = FallbackLayer::new("a")
        .primary(TierSettings::new().capabilities(blind()))
        .tier("b", Strict::new())
        .session(SessionPolicy::Pin)
        .layer(Strict::new());
    llm.call(prompt().with_session("s")).await.unwrap();
    let error = llm.call(picture().with_session("s")).await.unwrap_err();
    assert!(error.message().starts_with("the tier that the session is pinned to"), "{error}");
    assert_eq!(error.attempts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_route_passes_over_a_tier_that_cannot() {
    let llm = FallbackLayer::new("a")
        .push(Tier::new("b", Strict::new()).capabilities(blind()))
        .tier("c", Strict::new())
        .route(ErrorKind::Refusal, ["b", "c"])
        .layer(failing(ErrorKind::Refusal));
    assert_eq!(tier_of(&llm.oneshot(picture()).await.unwrap()), "c");
}

#[tokio::test(start_paused = true)]
async fn a_route_for_what_a_tier_lacks_is_taken_without_asking_it() {
    let (a, b) = (Strict::new(), Strict::new());
    let llm = FallbackLayer::new("a")
        .primary(TierSettings::new().context_window(1000))
        .tier("b", b.clone())
        .push(Tier::new("large", Strict::new()).context_window(1_000_000))
        .feature("chat", ["a"])
        .route(ErrorKind::ContextLength, ["large"])
        .layer(a.clone());
    for request in [prompt().with_feature("chat"), prompt()] {
        assert_eq!(tier_of(&llm.clone().oneshot(request).await.unwrap()), "a");
    }
    let long = LlmRequest::prompt("x".repeat(20_000));
    for request in [long.clone().with_feature("chat"), long] {
        let response = llm.clone().oneshot(request).await.unwrap();
        assert_eq!(tier_of(&response), "large");
        assert_eq!(response.attempts()[0].failure, Some(ErrorKind::ContextLength));
    }
    assert_eq!((a.calls(), b.calls()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_earliest_probe_is_not_kept_from_by_a_tier_that_cannot() {
    let open = error(ErrorKind::CircuitOpen).with_retry_after(Duration::from_secs(3));
    let llm = FallbackLayer::new("a")
        .push(Tier::new("b", Strict::new()).capabilities(blind()))
        .default_policy(FeaturePolicy::new().all_open(AllOpen::Wait(Duration::from_secs(10))))
        .layer(Strict::new().fails(2, open));
    let response = llm.oneshot(picture()).await.unwrap();
    assert_eq!(tier_of(&response), "a");
    assert_eq!(response.attempts().len(), 2, "{:?}", response.attempts());
}

#[tokio::test(start_paused = true)]
async fn bytes_are_decoded_only_where_a_tier_has_said_what_it_can_do() {
    // A request of its dialect, as far as its first fields show.
    let undecodable = || LlmRequest::from(Wire::new(Dialect::OpenAi, r#"{"messages":7}"#).unwrap());
    let llm = FallbackLayer::new("a").tier("b", Strict::new()).layer(Strict::new());
    assert_eq!(tier_of(&llm.oneshot(undecodable()).await.unwrap()), "a");
    // A request that cannot be decoded may still go to a tier that understands it.
    let llm = FallbackLayer::new("a")
        .primary(TierSettings::new().capabilities(blind()))
        .tier("b", Strict::new())
        .layer(Strict::new());
    assert_eq!(tier_of(&llm.oneshot(undecodable()).await.unwrap()), "a");

    let body =
        r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://e.com/a"}}]}]}"#;
    let wire = || LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap());
    let allocations = |capabilities: Capabilities, request: LlmRequest| {
        let mut llm = FallbackLayer::new("a")
            .push(Tier::new("b", Canned::text("later")).capabilities(capabilities))
            .layer(provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello")))));
        allocation_counter::measure(|| {
            let call = std::pin::pin!(llm.call(request.clone()));
            let polled = call.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(polled.is_ready());
        })
        .count_total
    };
    assert_eq!(allocations(Capabilities::new(), wire()), 0);
    assert!(allocations(blind(), wire()) > 0, "then it is decoded");
    assert_eq!(allocations(blind(), prompt()), 0, "a typed request that every tier can carry costs a look at it");
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_does_not_restart_with_a_tier_that_cannot() {
    let breaking = provider_fn(|_| {
        let frames = [Ok(Frame::text("half")), Err(error(ErrorKind::StreamBroken))];
        std::future::ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter(frames)))))
    });
    let b = Strict::new();
    let llm = FallbackLayer::new("a")
        .push(Tier::new("b", b.clone()).capabilities(blind()))
        .tier("c", Canned::text("whole"))
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart))
        .layer(breaking);
    let response = llm.oneshot(picture()).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "whole");
    assert_eq!(b.calls(), 0);
}
