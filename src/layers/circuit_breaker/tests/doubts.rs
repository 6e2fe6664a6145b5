//! Tests of doubts: that a request is invalid, that a provider is down. A doubt decides nothing.

use tokio::time::{Instant, advance, sleep};
use tower::{Layer as _, ServiceExt as _};

use super::*;
use crate::{
    FallbackLayer, TimeoutLayer,
    events::CircuitState,
    layers::fallback::{AllOpen, FeaturePolicy, Tier},
    ledger::{Next, Stop},
};

#[tokio::test(start_paused = true)]
async fn the_third_request_that_is_called_invalid_is_put_to_the_next_tier() {
    let backup = Strict::new();
    let sick = Strict::new().fails(100, error(ErrorKind::InvalidRequest));
    let breaker = layer();
    let llm = FallbackLayer::new("sonnet").tier("backup", backup.clone()).layer(breaker.layer(sick));
    // However far apart: in traffic so thin a storm is never seen.
    for n in 0..8 {
        let answer = llm.clone().oneshot(question(n)).await;
        assert_eq!(answer.is_ok(), n >= 2, "{n}: {answer:?}");
        sleep(300 * SECOND).await;
    }
    assert_eq!((backup.calls(), breaker.handle().state()), (6, CircuitState::Closed));

    // A mistake that the next tier sees too is one, and the caller gets the first one's message.
    let _ = backup.clone().fails(1, error(ErrorKind::InvalidRequest));
    let mistaken = llm.clone().oneshot(question(8)).await.expect_err("a mistake");
    assert_eq!((mistaken.kind(), mistaken.attempts().len()), (ErrorKind::InvalidRequest, 2));
    // The same holds without a next tier.
    let alone = llm.oneshot(question(9).no_fallback()).await.expect_err("a mistake");
    assert_eq!((alone.kind(), alone.attempts().len()), (ErrorKind::InvalidRequest, 1));
}

#[tokio::test(start_paused = true)]
async fn how_many_are_taken_at_their_word_can_be_said() {
    for (believed, answered) in [(0, 6), (1, 5), (4, 2), (u32::MAX, 0)] {
        let sick = Strict::new().fails(100, error(ErrorKind::InvalidRequest));
        let breaker = layer().second_opinion_after(believed);
        let llm = FallbackLayer::new("sonnet").tier("backup", Strict::new()).layer(breaker.layer(sick));
        let mut well = 0;
        for n in 0..6 {
            well += u32::from(llm.clone().oneshot(question(n)).await.is_ok());
        }
        assert_eq!(well, answered, "{believed}");
        // Nor does the same one come to be believed.
        assert_eq!(llm.oneshot(question(0)).await.is_ok(), believed != u32::MAX, "{believed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_doubted_goes_to_models_only_and_to_no_third_after_the_second_says_the_same() {
    let wrong = || Strict::new().fails(100, error(ErrorKind::InvalidRequest));
    let [people, kept, second, third] = [Strict::new(), Strict::new(), wrong(), Strict::new()];
    let around = |leaf| layer().second_opinion_after(0).layer(leaf);
    let kept_tier = || Tier::new("kept", kept.clone()).level(4);
    let fallback = FallbackLayer::new("sonnet").push(Tier::new("people", people.clone()).human()).push(kept_tier());
    let alone = fallback.clone().layer(around(wrong()));
    let mistaken = alone.oneshot(question(0)).await.expect_err("nobody else can say");
    assert_eq!((mistaken.kind(), mistaken.attempts().len()), (ErrorKind::InvalidRequest, 1));
    assert_eq!(mistaken.attempts()[0].next, Next::Stopped(Stop::Kind));

    let three = fallback.tier("gpt", around(second.clone())).tier("gemini", third.clone()).layer(around(wrong()));
    let mistaken = three.clone().oneshot(question(0)).await.expect_err("two say so");
    assert_eq!((mistaken.kind(), mistaken.attempts().len()), (ErrorKind::InvalidRequest, 2));
    assert_eq!((second.calls(), third.calls()), (1, 0));

    // A tier that is down has no opinion.
    let down = Strict::new().fails(1, server());
    let fallback = FallbackLayer::new("sonnet").tier("gpt", down).push(kept_tier()).tier("gemini", third.clone());
    fallback.layer(around(wrong())).oneshot(question(0)).await.expect("the third one's answer");
    assert_eq!((people.calls(), kept.calls(), third.calls()), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn one_callers_bug_is_put_to_nobody_else() {
    let backup = Strict::new();
    let bug = || error(ErrorKind::InvalidRequest);
    let llm = FallbackLayer::new("sonnet").tier("backup", backup.clone());
    // The same request again and again; and different ones between healthy answers.
    for (wrong, well, same) in [(10, 0, true), (1, 4, false)] {
        let leaf = Strict::new();
        let llm = llm.clone().layer(layer().layer(leaf.clone()));
        for n in 0..20 {
            let _ = leaf.clone().fails(wrong, bug());
            for step in 0..wrong {
                llm.clone().oneshot(question(if same { 0 } else { n + step })).await.expect_err("its bug");
            }
            for _ in 0..well {
                llm.clone().oneshot(question(1000)).await.expect("an answer");
            }
        }
    }
    assert_eq!(backup.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_called_invalid_is_put_to_the_next_tier() {
    let backup = Strict::new();
    let leaf = Strict::new().fails(5, server()).fails(1, error(ErrorKind::InvalidRequest));
    let breaker = layer();
    let llm = FallbackLayer::new("sonnet").tier("backup", backup.clone()).layer(breaker.layer(leaf));
    for n in 0..5 {
        llm.clone().oneshot(question(n)).await.expect("the backup's answer");
    }
    advance(COOLDOWN).await;
    llm.clone().oneshot(question(5)).await.expect("the backup's answer");
    assert_eq!((backup.calls(), breaker.handle().state()), (6, CircuitState::HalfOpen));
    llm.oneshot(question(6)).await.expect("its own answer");
    assert_eq!((backup.calls(), breaker.handle().state()), (6, CircuitState::Closed));
}

#[tokio::test(start_paused = true)]
async fn what_was_called_invalid_before_an_outage_is_not_believed_anew_after_it() {
    let invalid = || error(ErrorKind::InvalidRequest);
    let leaf = Strict::new().fails(2, invalid()).fails(5, server()).script([Ok(()), Err(invalid())]);
    let breaker = layer();
    let llm = FallbackLayer::new("sonnet").tier("backup", Strict::new()).layer(breaker.layer(leaf));
    for n in 0..7 {
        assert_eq!(llm.clone().oneshot(question(n)).await.is_ok(), n >= 2, "{n}");
    }
    assert_eq!(breaker.handle().state(), CircuitState::Open);
    advance(COOLDOWN).await;
    llm.clone().oneshot(question(7)).await.expect("the probe's answer");
    assert_eq!(breaker.handle().state(), CircuitState::Closed);
    let third = llm.oneshot(question(8)).await.expect("the backup's answer");
    assert_eq!(third.attempts()[0].failure, Some(ErrorKind::InvalidRequest));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_second_opinion_does_not_take_the_first_ones_for_it() {
    let sick = Strict::new().fails(100, error(ErrorKind::InvalidRequest));
    let backup = layer().consecutive_failures(1).cooldown(2 * SECOND).layer(Strict::new().fails(1, server()));
    let fallback = FallbackLayer::new("sonnet")
        .tier("backup", backup)
        .default_policy(FeaturePolicy::new().all_open(AllOpen::Queue(60 * SECOND)));
    let llm = fallback.layer(layer().second_opinion_after(0).layer(sick.clone()));
    llm.oneshot(question(0)).await.expect("the backup's answer");
    assert!(sick.calls() > 1, "it was asked again meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_is_in_a_hurry_decides_nothing_and_the_third_is_answer_enough() {
    use CircuitState::{Closed, HalfOpen, Open};
    // The seconds that the callers of the probes have, with answers of eight seconds.
    for probes in [vec![(2, HalfOpen), (9, Closed)], vec![(2, HalfOpen), (2, HalfOpen), (2, Open)]] {
        let slow = Strict::new().fails(5, server()).takes(8 * SECOND);
        let breaker = layer();
        let llm = breaker.layer(TimeoutLayer::new(30 * SECOND).layer(slow));
        for n in 0..5 {
            llm.clone().oneshot(question(n)).await.expect_err("a failure");
        }
        advance(COOLDOWN).await;
        for (patience, state) in probes {
            let answer = llm.clone().oneshot(question(5).with_timeout(patience * SECOND)).await;
            assert_eq!((answer.is_ok(), breaker.handle().state()), (state == Closed, state));
        }
    }
}

/// What a probe of a silent provider costs its caller, and when the next one goes.
#[tokio::test(start_paused = true)]
async fn a_probe_of_a_silent_provider_waits_ten_seconds_where_a_stream_can_go_on() {
    for (stream, reasons, backup, waits, rests) in [
        (true, false, true, 10, 20),
        (false, false, true, 30, 60),
        (true, true, true, 30, 60),
        (true, false, false, 30, 60),
    ] {
        let case = format!("stream {stream}, reasons {reasons}, backup {backup}");
        let breaker = CircuitBreakerLayer::new("sonnet").cooldown_jitter(0.0).consecutive_failures(1);
        let handle = breaker.handle();
        let silent = breaker.layer(TimeoutLayer::new(30 * SECOND).layer(Strict::new().takes(3600 * SECOND)));
        let fallback = FallbackLayer::new("sonnet");
        let fallback = if backup { fallback.tier("backup", Strict::new()) } else { fallback };
        let llm = fallback.layer(silent);
        let effort = if reasons { r#""reasoning_effort":"high","# } else { "" };
        let ask = async |n: usize| {
            let body =
                format!(r#"{{{effort}"stream":{stream},"messages":[{{"role":"user","content":"question {n}"}}]}}"#);
            let begun = Instant::now();
            let answer = llm.clone().oneshot(LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap())).await;
            assert_eq!(answer.is_ok(), backup, "{case}");
            begun.elapsed()
        };
        assert_eq!(ask(0).await, 30 * SECOND, "{case}: nobody knows yet");
        assert_eq!(ask(1).await, Duration::ZERO, "{case}");
        // Who would wait for a shorter time need not wait as long for the turn either.
        sleep(10 * SECOND).await;
        if backup {
            assert_eq!(ask(2).await, if waits == 10 { 10 * SECOND } else { Duration::ZERO }, "{case}");
        }
        sleep(50 * SECOND).await;
        assert_eq!(ask(3).await, waits * SECOND, "{case}");
        let next = handle.earliest_probe().map(|at| at.saturating_duration_since(Instant::now()));
        assert_eq!(next, Some(rests * SECOND), "{case}");
    }
}

/// Nobody is kept away for longer than half a second if no connection can be made and nothing else is left:
/// alone, each caller would try too, and the provider sees none of it.
#[tokio::test(start_paused = true)]
async fn an_only_way_to_which_no_connection_can_be_made_is_tried_by_all() {
    for (kind, second, tried) in
        [(ErrorKind::Connect, (ErrorKind::Connect, 2), 20), (ErrorKind::Server, (ErrorKind::CircuitOpen, 1), 1)]
    {
        let breaker = layer().consecutive_failures(1);
        let away = Strict::new().takes(SECOND / 10).fails(1_000, error(kind));
        let llm = FallbackLayer::new("sonnet").layer(breaker.layer(away.clone()));
        llm.clone().oneshot(question(0)).await.unwrap_err();
        let begun = Instant::now();
        let failed = llm.clone().oneshot(question(1)).await.unwrap_err();
        assert_eq!((failed.kind(), away.calls()), second, "{kind}");
        assert!(begun.elapsed() <= SECOND * 6 / 10, "{:?}", begun.elapsed());
        sleep(SECOND).await;
        let crowd = join_all((0..20).map(|n| llm.clone().oneshot(question(n)))).await;
        assert!(crowd.iter().all(Result::is_err));
        assert_eq!(away.calls() - second.1, tried, "{kind}");
    }
}
