//! Tests that a switch belongs to a chain, and has its cause.

use http::StatusCode;

use super::*;
use crate::{
    chat::{Chat, Message},
    providers::simulated::{Fault, Simulated},
};

/// A request of a chain: by its feature, or by the model that it names.
fn of(feature: Option<&str>, model: Option<&str>) -> LlmRequest {
    let mut chat = Chat::new([Message::user("hello")]);
    chat.model = model.map(Into::into);
    let request = LlmRequest::from(chat).with_id("req-7");
    match feature {
        Some(feature) => request.with_feature(feature),
        None => request,
    }
}

/// The ways to a chain that begins at `gpt`, with the chain's id: a rule and a feature of the same tiers share one.
fn ways() -> [(&'static str, LlmRequest); 4] {
    [
        ("gpt", of(None, Some("gpt-4o"))),
        ("gpt", of(Some("code"), None)),
        ("gpt (others)", of(None, Some("gpt"))),
        ("gpt (others)", of(None, Some("gpt-5.2"))),
    ]
}

/// A tier that fails as often, as a provider does.
fn down(times: usize) -> Strict {
    let failure = LlmError::new(ErrorKind::Server, "Service unavailable").with_status(StatusCode::SERVICE_UNAVAILABLE);
    Strict::new().fails(times, failure)
}

fn layer(events: &Events, gpt: Strict) -> FallbackLayer {
    let layer = FallbackLayer::new("sonnet")
        .push(Tier::new("gpt", gpt).model("gpt-5.2"))
        .push(Tier::new("gemini", Strict::new()).level(2).model("gemini-3"))
        .events(events.clone());
    layer.model("gpt-4*", ["gpt", "gemini"]).feature("code", ["gpt", "gemini"])
}

fn switches(heard: &mut tokio::sync::broadcast::Receiver<Event>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(event) = heard.try_recv() {
        told.push(match event {
            Event::ModelSwitched { chain, from, to, reason, .. } => format!("{chain}: {from} > {to}, {reason}"),
            Event::ModelRecovered { chain, from, to, after, .. } => format!("{chain}: {from} > {to} after {after:?}"),
            other => format!("{other:?}"),
        });
    }
    told
}

#[tokio::test(start_paused = true)]
async fn every_chain_tells_its_switch_and_its_return() {
    for (way, request) in ways() {
        let events = Events::new();
        let mut heard = events.subscribe();
        let llm = layer(&events, down(30)).layer(Strict::new());
        for call in 0..31 {
            let answer = llm.clone().oneshot(request.clone()).await.unwrap();
            assert_eq!(tier_of(&answer), if call < 30 { "gemini" } else { "gpt" }, "{way}");
            llm.clone().oneshot(prompt()).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let expected = [format!("{way}: gpt > gemini, server"), format!("{way}: gemini > gpt after 30s")];
        assert_eq!(switches(&mut heard), expected, "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn chains_that_begin_elsewhere_are_apart() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let llm = layer(&events, down(1)).layer(down(1));
    for request in [prompt(), of(Some("code"), None), prompt(), of(Some("code"), None)] {
        llm.clone().oneshot(request).await.unwrap();
    }
    let first = ["sonnet: sonnet > gemini, server", "sonnet: gemini > sonnet after 0ns"];
    assert_eq!(switches(&mut heard), first, "gpt failed for the first request only, whose chain begins at sonnet");
}

#[tokio::test(start_paused = true)]
async fn a_switch_has_its_cause_though_circuits_refused_the_request_that_told_it() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let refused = LlmError::new(ErrorKind::CircuitOpen, "refused");
    // The first chain's request meets the failure, and a circuit refuses the second one's.
    let gpt = down(1).fails(1, refused);
    let llm = layer(&events, gpt).layer(down(1));
    llm.clone().oneshot(of(None, None)).await.unwrap();
    assert_eq!(switches(&mut heard).len(), 1);
    let met = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    llm.clone().oneshot(of(Some("code"), None)).await.unwrap();
    let Ok(Event::ModelSwitched { first, reason, failure, .. }) = heard.try_recv() else { panic!() };
    assert_eq!((&*first, reason), ("gpt", ErrorKind::CircuitOpen));
    let failure = failure.unwrap();
    assert_eq!((failure.kind, failure.status, failure.at), (ErrorKind::Server, Some(503), met));
    assert_eq!(failure.message.as_deref(), Some("Service unavailable"));
    assert_eq!(failure.request_id.as_deref(), Some("req-7"));
}

#[tokio::test(start_paused = true)]
async fn what_only_one_request_fails_by_is_no_switch() {
    for kind in [ErrorKind::ContextLength, ErrorKind::UnsupportedFeature, ErrorKind::TooLarge] {
        let events = Events::new();
        let mut heard = events.subscribe();
        let layer = layer(&events, failing(kind)).route(kind, ["gemini"]);
        let llm = layer.layer(failing(kind));
        for request in [prompt(), of(Some("code"), None)] {
            assert_eq!(tier_of(&llm.clone().oneshot(request).await.unwrap()), "gemini", "{kind}");
        }
        assert_eq!(switches(&mut heard), [""; 0], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_first_tier_is_a_switch_of_its_chain() {
    for (way, request) in ways() {
        let events = Events::new();
        let mut heard = events.subscribe();
        let layer = layer(&events, Strict::new());
        let steer = layer.handle();
        let llm = layer.layer(Strict::new());
        steer.drain("gpt");
        for _ in 0..3 {
            assert_eq!(tier_of(&llm.clone().oneshot(request.clone()).await.unwrap()), "gemini", "{way}");
            llm.clone().oneshot(prompt()).await.unwrap();
        }
        steer.undrain("gpt");
        llm.clone().oneshot(request).await.unwrap();
        let told = switches(&mut heard).into_iter().filter(|told| told.starts_with("gpt")).collect::<Vec<_>>();
        let expected = [format!("{way}: gpt > gemini, out_of_service"), format!("{way}: gemini > gpt after 0ns")];
        assert_eq!(told, expected, "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn chains_with_one_first_tier_and_others_after_it_do_not_disturb_each_other() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let layer = layer(&events, Strict::new()).feature("brief", ["sonnet", "gemini"]);
    let llm = layer.layer(down(20));
    for _ in 0..10 {
        assert_eq!(tier_of(&llm.clone().oneshot(prompt()).await.unwrap()), "gpt");
        assert_eq!(tier_of(&llm.clone().oneshot(of(Some("brief"), None)).await.unwrap()), "gemini");
    }
    let told = switches(&mut heard);
    assert_eq!(told, ["sonnet: sonnet > gpt, server", "sonnet (feature brief): sonnet > gemini, server"]);
    // An answer of their first tier shows for both that it serves again.
    llm.clone().oneshot(prompt()).await.unwrap();
    let told = switches(&mut heard);
    assert_eq!(told, ["sonnet: gpt > sonnet after 0ns", "sonnet (feature brief): gemini > sonnet after 0ns"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_anothers_place_tells_since_when_that_one_does_not_serve() {
    const MINUTE: Duration = Duration::from_secs(60);
    let sonnet = Simulated::new("sonnet");
    let llm = FallbackLayer::new("sonnet").tier("gpt", Strict::new()).layer(sonnet.clone());
    // A relapse tells its own beginning, though it is not reported yet.
    for round in 0..3 {
        sonnet.handle().fail_next(2, &Fault::Unavailable);
        let begin = Instant::now();
        for (after, since) in [(0, Some(begin)), (1, Some(begin)), (2, None)] {
            let response = llm.clone().oneshot(prompt()).await.unwrap();
            assert_eq!(response.away_since(), since, "after {after} min, round {round}");
            tokio::time::advance(MINUTE).await;
        }
    }
}
