use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};

use super::*;
use crate::chat::{Chat, Message, Part, Role, Tool, ToolCall, ToolResult};

fn provider() -> Simulated {
    Simulated::new("sonnet")
}

fn begin(provider: &Simulated) -> SimulatedCall {
    provider.shared.begin(Instant::now(), 10, None, None)
}

fn balanced(stats: &SimulatedStats) -> bool {
    stats.calls == stats.answered + stats.failed + stats.cancelled + stats.in_flight
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_in_exactly_one_count() {
    let provider = provider();
    let handle = provider.handle();
    let mut answered = begin(&provider);
    handle.fail_next(1, &Fault::CutAfter(3));
    let mut failed = begin(&provider);
    let dropped = begin(&provider);
    let still_there = begin(&provider);
    assert_eq!(handle.stats().in_flight, 4);

    answered.finish();
    answered.finish();
    failed.finish();
    drop((answered, failed, dropped));
    let stats = handle.stats();
    assert_eq!((stats.answered, stats.failed), (1, 1));
    assert_eq!((stats.cancelled, stats.in_flight), (1, 1));
    assert_eq!(stats.failed_by["cut"], 1);
    assert!(balanced(&stats));

    drop(still_there);
    assert_eq!(handle.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn outages_count_from_the_making_of_the_provider() {
    let second = Duration::from_secs(1);
    let provider = provider().outage(10 * second, 20 * second, Fault::Unavailable);
    assert_eq!(begin(&provider).plan.fault, None);
    advance(15 * second).await;
    assert_eq!(begin(&provider).plan.fault, Some(Fault::Unavailable));
    advance(5 * second).await;
    assert_eq!(begin(&provider).plan.fault, None);
}

#[tokio::test(start_paused = true)]
async fn the_handle_changes_behaviour_and_goes_back() {
    let provider = provider().fault_mix(Fault::Overloaded);
    let handle = provider.handle();
    assert_eq!(begin(&provider).plan.fault, Some(Fault::Overloaded));
    handle.heal();
    assert_eq!(begin(&provider).plan.fault, None);
    handle.fail(Fault::Hang);
    handle.fail_next(2, &Fault::HtmlPage);
    assert_eq!(begin(&provider).plan.fault, Some(Fault::HtmlPage));
    assert_eq!(begin(&provider).plan.fault, Some(Fault::HtmlPage));
    assert_eq!(begin(&provider).plan.fault, Some(Fault::Hang));
    handle.follow_script();
    assert_eq!(begin(&provider).plan.fault, Some(Fault::Overloaded));
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_asks_for_a_wait_that_is_enough() {
    let provider = provider().rate_limit(RateLimit::requests_per_minute(30).burst(1));
    assert_eq!(begin(&provider).plan.fault, None);
    let plan = begin(&provider).plan.clone();
    let Some(Fault::RateLimited { retry_after: Some(wait) }) = plan.fault else {
        panic!("{plan:?}");
    };
    assert_eq!(plan.rate.requests.unwrap().remaining, 0);
    assert!(wait <= Duration::from_secs(2) && wait > Duration::from_secs(1));
    advance(wait).await;
    assert_eq!(begin(&provider).plan.fault, None);
}

#[tokio::test(start_paused = true)]
async fn a_healed_provider_has_no_rate_limit() {
    let provider = provider().rate_limit(RateLimit::requests_per_minute(0));
    assert!(begin(&provider).plan.fault.is_some());
    provider.handle().heal();
    assert_eq!(begin(&provider).plan.fault, None);
    provider.handle().follow_script();
    assert!(begin(&provider).plan.fault.is_some());
    provider.handle().rate_limit(None);
    assert_eq!(begin(&provider).plan.fault, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_no_longer_than_the_caller_allows() {
    let provider = provider().tokens(20..=20);
    let call = provider.shared.begin(Instant::now(), 10, Some(5), None);
    assert_eq!((call.plan.tokens, call.cut_short), (5, true));
    let call = provider.shared.begin(Instant::now(), 10, Some(20), None);
    assert_eq!((call.plan.tokens, call.cut_short), (20, false));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_count_wakes_when_it_is_reached() {
    let provider = provider();
    let handle = provider.handle();
    let waiting = tokio::spawn(async move { handle.until(|stats| stats.answered == 2).await });
    for _ in 0..2 {
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        begin(&provider).finish();
    }
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn clones_share_script_and_counts() {
    let provider = provider();
    let clone = provider.clone();
    clone.handle().fail(Fault::Empty);
    assert_eq!(begin(&provider).plan.fault, Some(Fault::Empty));
    assert_eq!(clone.handle().stats().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn planned_calls_follow_one_another_in_each_turn() {
    let call = |name: &str| Part::ToolCall(ToolCall::new("1", name, "{}"));
    let result = || Part::ToolResult(ToolResult::new("1", "done"));
    let provider = provider().plan_calls([("b", json!({"x": 1})), ("a", json!(true))]);
    let mut chat = Chat::new([Message::user("?")]).tool(Tool::new("a", json!({"type": "object"})));
    let planned = |chat: &Chat| begin(&provider).follow_demands(chat).map(|call| (call.name, call.arguments));
    // The first planned tool is not offered.
    assert_eq!(planned(&chat), None);
    chat = chat.tool(Tool::new("b", json!({"type": "object"})));
    for _ in 0..2 {
        assert_eq!(planned(&chat), Some(("b".to_owned(), json!({"x": 1}))));
        chat.messages.push(Message::new(Role::Assistant, vec![call("b")]));
        chat.messages.push(Message::new(Role::User, vec![result()]));
        assert_eq!(planned(&chat), Some(("a".to_owned(), json!({}))));
        chat.messages.push(Message::new(Role::Assistant, vec![call("a")]));
        chat.messages.push(Message::new(Role::User, vec![result()]));
        assert_eq!(planned(&chat), None);
        chat.messages.extend([Message::assistant("Done."), Message::user("Again!")]);
    }
    provider.handle().plan_calls::<String>([]);
    assert_eq!(planned(&chat), None);
}

#[test]
fn two_names_have_two_seeds() {
    let now = Instant::now();
    let latency = Latency::percentiles(Duration::from_millis(100), Duration::from_secs(1));
    let a = Simulated::new("a").latency(latency);
    let b = Simulated::new("b").latency(latency);
    assert_ne!(a.decide(now, 0).delay, b.decide(now, 0).delay);
    let (a, b) = (a.seed(1), b.seed(1));
    assert_eq!(a.decide(now, 0).delay, b.decide(now, 0).delay);
}
