//! Tests of the event of a request that every tier has failed.

use super::*;
use crate::CircuitBreakerLayer;

/// Returns the `AllTiersFailed` events.
fn all_failed(heard: &mut tokio::sync::broadcast::Receiver<Event>) -> Vec<(Option<Arc<str>>, ErrorKind)> {
    std::iter::from_fn(|| heard.try_recv().ok())
        .filter_map(|event| match event {
            Event::AllTiersFailed { feature, reason, .. } => Some((feature, reason)),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_every_tier_has_failed_is_told_once() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let layer = FallbackLayer::new("a").tier("b", failing(ErrorKind::Connect)).events(events);
    let llm = layer.feature("alone", ["a"]).layer(failing(ErrorKind::Overloaded));
    assert!(llm.clone().oneshot(prompt().with_feature("chat")).await.is_err());
    assert_eq!(all_failed(&mut heard), [(Some("chat".into()), ErrorKind::Overloaded)]);
    // By its policy it has no other tier.
    assert!(llm.clone().oneshot(prompt().with_feature("alone")).await.is_err());
    assert_eq!(all_failed(&mut heard), [(Some("alone".into()), ErrorKind::Overloaded)]);
    // Another tier was left, but no attempt.
    assert!(llm.oneshot(prompt().with_max_attempts(1)).await.is_err());
    assert_eq!(all_failed(&mut heard), []);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_because_of_itself_is_not_the_tiers_failure() {
    let about_itself = [
        ErrorKind::InvalidRequest,
        ErrorKind::ContextLength,
        ErrorKind::TooLarge,
        ErrorKind::ContentPolicy,
        ErrorKind::Refusal,
    ];
    for kind in about_itself {
        let events = Events::new();
        let mut heard = events.subscribe();
        let llm = FallbackLayer::new("a").tier("b", failing(kind)).events(events).layer(failing(kind));
        assert_eq!(llm.oneshot(prompt()).await.unwrap_err().kind(), kind);
        assert_eq!(all_failed(&mut heard), [], "{kind}");
    }
    // Nor does a session that is pinned to a failing tier.
    let events = Events::new();
    let mut heard = events.subscribe();
    let layer = FallbackLayer::new("a").tier("b", Strict::new()).events(events);
    let leaf = Strict::new().script([Ok(()), Err(error(ErrorKind::Server))]);
    let mut pinned = layer.session(SessionPolicy::Pin).layer(leaf);
    assert!(pinned.call(prompt().with_session("s")).await.is_ok());
    assert!(pinned.call(prompt().with_session("s")).await.is_err());
    assert_eq!(all_failed(&mut heard), []);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_probe_is_told_only_when_it_has_failed_for_good() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let open = |after: u64| {
        let refusal = error(ErrorKind::CircuitOpen).with_retry_after(Duration::from_secs(after));
        Strict::new().fails(1, refusal)
    };
    let layer = FallbackLayer::new("a")
        .tier("b", open(9))
        .default_policy(FeaturePolicy::new().all_open(AllOpen::Wait(Duration::from_secs(60))));
    assert!(layer.events(events).layer(open(5)).oneshot(prompt()).await.is_ok());
    assert_eq!(all_failed(&mut heard), []);
}

// What a translation has made of a request is wrong at one model: behind a failure one more is asked, and no more.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_called_wrong_behind_a_failure_gets_one_more_opinion() {
    for (first, led_by) in [(ErrorKind::Server, ErrorKind::Server), (ErrorKind::CircuitOpen, ErrorKind::InvalidRequest)]
    {
        let (wrong, again, never) =
            (failing(ErrorKind::InvalidRequest), failing(ErrorKind::InvalidRequest), Strict::new());
        let served = FallbackLayer::new("a").tier("b", wrong.clone()).tier("c", Strict::new()).layer(failing(first));
        assert_eq!(tier_of(&served.oneshot(prompt()).await.unwrap()), "c", "{first}");

        let layer = FallbackLayer::new("a").tier("b", wrong).tier("c", again.clone()).tier("d", never.clone());
        let error = layer.layer(failing(first)).oneshot(prompt()).await.unwrap_err();
        assert_eq!((error.kind(), again.calls(), never.calls()), (led_by, 1, 0), "{first}");
    }
    // A first tier's word needs no second.
    let layer = FallbackLayer::new("a").tier("b", Strict::new());
    let error = layer.layer(failing(ErrorKind::InvalidRequest)).oneshot(prompt()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
}

#[tokio::test(start_paused = true)]
async fn a_later_tier_that_calls_the_request_wrong_leads_only_where_the_first_never_saw_it() {
    let open = || Strict::new().fails(10_000, error(ErrorKind::CircuitOpen).with_retry_after(Duration::from_secs(9)));
    let wrong = || FallbackLayer::new("a").tier("b", failing(ErrorKind::InvalidRequest));
    let never = wrong().layer(open()).oneshot(prompt()).await.unwrap_err();
    assert_eq!(never.kind(), ErrorKind::InvalidRequest);

    // It failed there, and then its circuit kept the retry from it.
    let broke = Strict::new().script([Err(error(ErrorKind::StreamBroken)), Err(error(ErrorKind::CircuitOpen))]);
    let retried = wrong().layer(RetryWithJitterLayer::new().layer(broke)).oneshot(prompt()).await.unwrap_err();
    assert_eq!(retried.kind(), ErrorKind::CircuitOpen);
    let kinds: Vec<_> = retried.attempts().iter().filter_map(|attempt| attempt.failure).collect();
    assert_eq!(kinds, [ErrorKind::StreamBroken, ErrorKind::CircuitOpen, ErrorKind::InvalidRequest]);
}

#[tokio::test(start_paused = true)]
async fn with_every_circuit_open_single_requests_go_through_at_growing_intervals() {
    let circuit = |name| CircuitBreakerLayer::new(name).consecutive_failures(1).cooldown(Duration::from_secs(3600));
    let down = || Strict::new().fails(1_000, error(ErrorKind::Server));
    let (a, b) = (down(), down());
    let llm = FallbackLayer::new("a").tier("b", circuit("b").layer(b.clone())).layer(circuit("a").layer(a.clone()));
    let start = Instant::now();
    let mut calls = Vec::new();
    for second in 0..60 {
        let before = a.calls() + b.calls();
        let crowd = (0..20).map(|_| llm.clone().oneshot(prompt()));
        for ended in futures_util::future::join_all(crowd).await {
            let wait = ended.unwrap_err().retry_after().unwrap_or_default();
            assert!(wait <= Duration::from_secs(10), "{second}: {wait:?}");
        }
        calls.push(a.calls() + b.calls() - before);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(start.elapsed(), Duration::from_secs(60));
    // All of the first crowd came while the circuits were closed. Then each circuit lets through one after 1, 2
    // and 4 s, and one every 8 s.
    assert_eq!(calls[1..].iter().filter(|calls| **calls > 2).count(), 0, "{calls:?}");
    assert_eq!(calls[1..].iter().sum::<usize>(), 2 * 9, "{calls:?}");
}
