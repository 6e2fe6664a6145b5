//! Tests of requests whose tiers have failed their caller a moment ago.

use super::*;
use crate::{RetryBudget, request::KnownFailures};

/// Returns the tiers of a request in the order in which they were asked; each of them fails. `passed` are those that
/// were passed over.
async fn order(layer: FallbackLayer, request: LlmRequest) -> (Vec<String>, Vec<String>) {
    let error = layer.layer(failing(ErrorKind::Server)).oneshot(request).await.unwrap_err();
    let named = |skipped: bool| {
        let steps = error.attempts().iter().filter(|step| (step.next == Next::Skipped) == skipped);
        steps.map(|step| step.tier.as_deref().unwrap_or_default().to_owned()).collect()
    };
    (named(false), named(true))
}

fn three() -> FallbackLayer {
    FallbackLayer::new("a").tier("b", failing(ErrorKind::Server)).tier("c", failing(ErrorKind::Server))
}

fn after(tiers: &[&'static str]) -> LlmRequest {
    let known = tiers.iter().fold(KnownFailures::new(), |known, tier| known.failed_at(*tier, ErrorKind::StreamBroken));
    prompt().with_known_failures(known)
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_failed_the_request_before_is_asked_after_the_other_models_and_not_left_out() {
    let cases: [(&[&'static str], [&str; 3], &[&str]); 6] = [
        (&[], ["a", "b", "c"], &[]),
        (&["a"], ["b", "c", "a"], &["a"]),
        (&["b"], ["a", "c", "b"], &[]),
        (&["a", "b"], ["c", "a", "b"], &["a", "b"]),
        (&["a", "b", "c"], ["a", "b", "c"], &[]),
        (&["gone"], ["a", "b", "c"], &[]),
    ];
    for (failed, asked, passed) in cases {
        let (order, skipped) = order(three(), after(failed)).await;
        assert_eq!(
            (order, skipped.iter().map(String::as_str).collect::<Vec<_>>()),
            (asked.map(str::to_owned).to_vec(), passed.to_vec())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_fixed_text_takes_the_place_of_a_model_that_may_work_again() {
    let layer =
        FallbackLayer::new("a").tier("b", failing(ErrorKind::Server)).push(Tier::new("text", Canned::text("t")));
    let leaf = Strict::new();
    let response = layer.layer(leaf.clone()).oneshot(after(&["a"])).await.unwrap();
    assert_eq!((tier_of(&response).as_str(), leaf.calls()), ("a", 1));
    let alone = FallbackLayer::new("a").push(Tier::new("text", Canned::text("t")));
    assert_eq!(
        tier_of(&alone.layer(Strict::new()).oneshot(after(&["a"])).await.unwrap()),
        "a",
        "no other model is left"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_go_to_one_tier_only_goes_there() {
    let (order, _) = order(three(), after(&["a"]).no_fallback()).await;
    assert_eq!(order, ["a"]);
    let pinned = || {
        let session = SessionPolicy::Pin;
        let layer = FallbackLayer::new("a").tier("b", Strict::new()).session(session);
        layer.layer(Strict::new())
    };
    let llm = pinned();
    let of_session = |request: LlmRequest| llm.clone().oneshot(request.with_session("s"));
    assert_eq!(tier_of(&of_session(prompt()).await.unwrap()), "a");
    assert_eq!(tier_of(&of_session(after(&["a"])).await.unwrap()), "a");
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_worse_tier_says_what_the_better_one_did() {
    let worse = Tier::new("b", Strict::new()).settings(TierSettings::new().level(2));
    let response = FallbackLayer::new("a").push(worse).layer(Strict::new()).oneshot(after(&["a"])).await.unwrap();
    let degraded = response.degraded().unwrap();
    assert_eq!(degraded.reason, crate::DegradedReason::Failure(ErrorKind::StreamBroken));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_impatient_where_its_caller_was_left_waiting_and_another_model_is_left() {
    let hangs = || provider_fn(|_| std::future::pending::<Result<LlmResponse, LlmError>>());
    let silent = |tiers: &[&'static str]| tiers.iter().fold(KnownFailures::new(), |known, tier| known.silent_at(*tier));
    let whole = || prompt().with_timeout(Duration::from_secs(60));
    let stream = || whole().with_stream(true);
    let hung = |request: LlmRequest| async move {
        let begun = Instant::now();
        let layer = FallbackLayer::new("a").tier("b", hangs()).reserve_for_fallbacks(Duration::from_secs(20));
        let error = TimeoutLayer::new(Duration::MAX).layer(layer.layer(hangs())).oneshot(request).await.unwrap_err();
        (error.attempts().iter().map(|step| step.took.as_secs()).collect::<Vec<_>>(), begun.elapsed().as_secs())
    };
    assert_eq!(hung(stream()).await, (vec![40, 20], 60));
    assert_eq!(hung(stream().with_known_failures(silent(&["a"]))).await, (vec![10, 50], 60));
    assert_eq!(
        hung(stream().with_known_failures(silent(&["a", "b"]))).await,
        (vec![10, 50], 60),
        "the last one has time"
    );
    assert_eq!(hung(whole().with_known_failures(silent(&["a"]))).await, (vec![40, 20], 60), "it may be at work");
}

#[tokio::test(start_paused = true)]
async fn a_tier_has_no_more_calls_than_are_left_for_the_request() {
    let retrying = || RetryWithJitterLayer::new().budget(RetryBudget::unlimited()).layer(failing(ErrorKind::Server));
    type Left<'a> = &'a [(&'static str, u16)];
    let left = |tiers: Left<'_>| {
        let known = KnownFailures::new();
        tiers.iter().fold(known, |known, (tier, calls)| known.calls_left_at(*tier, *calls))
    };
    let cases: [(Left<'_>, [usize; 2]); 7] = [
        (&[], [3, 3]),
        (&[("a", 3), ("b", 9)], [3, 3]),
        (&[("a", 1), ("b", 2)], [1, 2]),
        (&[("a", 0)], [0, 3]),
        (&[("b", 0)], [3, 0]),
        (&[("a", 0), ("b", 1)], [0, 1]),
        // Whoever sends it although nothing is left asks each once.
        (&[("a", 0), ("b", 0)], [1, 1]),
    ];
    for (known, calls) in cases {
        let request = prompt().with_known_failures(left(known));
        let layer = FallbackLayer::new("a").tier("b", retrying());
        let error = layer.layer(retrying()).oneshot(request).await.unwrap_err();
        let at = |tier| {
            let sent = error.attempts().iter().filter(|step| step.is_wasted());
            sent.filter(|step| step.tier.as_deref() == Some(tier)).count()
        };
        assert_eq!([at("a"), at("b")], calls, "{known:?}");
    }
}
