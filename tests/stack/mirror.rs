//! The mirror that a file describes.

use std::{sync::Arc, time::Duration};

use steadfast::{
    Event, LlmError, LlmRequest, LlmResponse, MirrorHandle,
    chat::{Message, Usage},
    events::{CircuitState, RequestOutcome},
    layers::mirror::Comparison,
    prices::Usd,
    provider_fn,
    providers::simulated::{Fault, FaultMix, Simulated},
};
use steadfast_stack::{Config, Format, Stack};
use tokio::{
    sync::broadcast::Receiver,
    time::{Instant, sleep},
};
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);
const TIERS: &str = "tiers: [{ name: main, provider: simulated }, { name: backup, provider: simulated }]";

fn config(mirror: &str) -> Config {
    let text = format!("{TIERS}\nprices: {{ next: {{ input: 1000, output: 1000 }} }}\n{mirror}\n");
    Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

fn ask(feature: &str) -> LlmRequest {
    LlmRequest::prompt("hello").with_feature(feature)
}

async fn ended(mirror: &MirrorHandle) {
    while mirror.under_way() > 0 {
        sleep(SECOND / 10).await;
    }
}

fn comparisons(heard: &mut Receiver<Event>) -> Vec<Arc<Comparison>> {
    let all = std::iter::from_fn(|| heard.try_recv().ok());
    all.filter_map(|event| if let Event::Mirrored(comparison) = event { Some(comparison) } else { None }).collect()
}

#[tokio::test(start_paused = true)]
async fn without_the_block_nothing_is_mirrored() {
    let stack = Stack::from_config(config("")).unwrap();
    assert!(stack.handle().mirror().is_none());
}

#[tokio::test(start_paused = true)]
async fn requests_of_its_features_go_to_the_candidate_too_and_callers_see_nothing_of_it() {
    let candidate = Simulated::new("next").latency(SECOND * 20).reply("Something else.");
    let file = config("mirror: { to: { name: next, provider: simulated }, share: 100%, features: [chat] }");
    let stack = Stack::builder().leaf("next", candidate.clone()).build(file).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mut heard = handle.events().subscribe();
    let mirror = handle.mirror().unwrap();
    for feature in ["chat", "summary", "chat"] {
        let begun = Instant::now();
        let response = llm.clone().oneshot(ask(feature).with_stream(true)).await.unwrap();
        assert_eq!(response.served_by().tier, Some("main"));
        assert!(response.text().await.unwrap().contains("simulated answer"));
        assert!(begun.elapsed() < SECOND * 5);
    }
    assert_eq!((handle.bulkhead().in_flight("chat"), mirror.under_way()), (0, 2));
    ended(&mirror).await;
    let told = comparisons(&mut heard);
    assert_eq!(told.len(), 2);
    for one in told {
        assert_eq!((one.feature.as_deref(), one.primary.tier.as_deref()), (Some("chat"), Some("main")));
        assert!(one.candidate.first_token >= Some(SECOND * 20), "{one:?}");
        assert_eq!((one.candidate.outcome, one.agrees), (RequestOutcome::Answered, Some(false)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_down_opens_no_circuit_of_a_tier_and_takes_no_retry() {
    let down = Simulated::new("backup").latency(SECOND / 10).fault_mix(FaultMix::new().with(1.0, Fault::ServerError));
    let stack =
        Stack::builder().leaf("backup", down.clone()).build(config("mirror: { to: backup, share: 1 }")).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mut heard = handle.events().subscribe();
    let mirror = handle.mirror().unwrap();
    for _ in 0..20 {
        llm.clone().oneshot(ask("chat")).await.unwrap();
        ended(&mirror).await;
    }
    assert_eq!(handle.circuits()["backup"].state(), CircuitState::Closed);
    // Its own has opened after five calls, each of which was one attempt.
    let told = comparisons(&mut heard);
    assert!(told.iter().all(|one| one.candidate.attempts == 1), "{told:?}");
    assert_eq!((told.len(), mirror.stats().refused), (5, 15));
}

#[tokio::test(start_paused = true)]
async fn a_cap_holds_over_a_reload_and_counts_nothing_of_the_callers() {
    let dear = provider_fn(|_| async {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(0, 1000));
        Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("openai", "next"))
    });
    let block = |more: &str| {
        config(&format!(
            "mirror: {{ to: {{ name: next, provider: openai, model: next }}, share: 1, usd_per_day: 3{more} }}"
        ))
    };
    let stack = Stack::builder().leaf("next", dear).build(block("")).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mirror = handle.mirror().unwrap();
    let run = async || {
        llm.clone().oneshot(ask("chat")).await.unwrap();
        ended(&mirror).await;
        handle.budget("mirror").unwrap().spent("mirror")
    };
    let dollars = |amount| Usd::from_dollars(amount).unwrap();
    assert_eq!((run().await, run().await), (dollars(1.0), dollars(2.0)));
    handle.reload(block(", max_in_flight: 3")).unwrap();
    assert_eq!((run().await, run().await), (dollars(3.0), dollars(3.0)));
    assert_eq!((mirror.stats().compared, mirror.stats().refused), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_begins_and_ends_it_and_leaves_what_is_under_way_alone() {
    let candidate = Simulated::new("next").latency(SECOND * 10);
    let block =
        |share: &str| config(&format!("mirror: {{ to: {{ name: next, provider: simulated }}, share: {share} }}"));
    let stack = Stack::builder().leaf("next", candidate.clone()).build(block("100%")).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mut heard = handle.events().subscribe();
    let mirror = handle.mirror().unwrap();
    let run = async || llm.clone().oneshot(ask("chat")).await.unwrap().text().await.unwrap();
    run().await;
    handle.reload(block("0%")).unwrap();
    run().await;
    assert_eq!((mirror.under_way(), handle.mirror().unwrap().under_way()), (1, 1));
    handle.reload(config("")).unwrap();
    run().await;
    assert!(handle.mirror().is_none());
    ended(&mirror).await;
    assert_eq!(comparisons(&mut heard).len(), 1, "what had begun has ended");
    handle.reload(block("100%")).unwrap();
    run().await;
    let mirror = handle.mirror().unwrap();
    assert_eq!(mirror.under_way(), 1);
    mirror.close().await;
    assert_eq!((mirror.under_way(), run().await.is_empty()), (0, false));
}

#[test]
fn a_candidate_without_its_key_is_an_error_that_names_it() {
    let file = config("mirror: { to: { name: next, provider: openai, model: next } }");
    let nothing = steadfast_stack::Environment::default();
    assert_eq!(file.missing_keys(&nothing)[0].tier.as_deref(), Some("next"));
    let error = Stack::builder().environment(nothing).build(file).unwrap_err().to_string();
    assert!(error.contains("mirror.to.api_key") && error.contains("OPENAI_API_KEY"), "{error}");
}
