//! Outages: detection, rest and recovery.

use std::time::Duration;

use serde_json::json;
use steadfast::{events::CircuitState, providers::simulated::Fault};
use tokio::time::{Instant, sleep};

use super::{house::*, *};

/// The number of failures in a row that open a circuit.
const TRIP: u64 = 5;

/// Each tier in turn as the primary, with the host that it is at.
const PRIMARIES: [(&str, &str, &str, &str); 2] =
    [(TWO, "sonnet", ANTHROPIC, "backup"), (TURNED, "backup", OPENAI, "sonnet")];

// B1, B23, B24, B59. BerriAI/litellm#40405: with one primary and one fallback every request of an outage tried the dead
// primary again. openclaw/openclaw#5763: a primary that cools down was an error, not a reason to go on.
// tombii/better-ccflare#349: a breaker that could never close.
#[tokio::test(start_paused = true)]
async fn a_dead_primary_costs_nothing_after_the_trip_and_is_back_after_it_has_recovered() {
    for (config, primary, host, backup) in PRIMARIES {
        for path in PATHS {
            for stream in [false, true] {
                let case = format!("{primary} {path} {stream}");
                let house = Plan::of(config).build();
                house.provider(host).fail(Fault::Overloaded);
                for _ in 0..TRIP {
                    house.post(path, &[], &hello(stream)).await.assert_clean(&case);
                }
                for _ in 0..20 {
                    let answer = house.post(path, &[], &hello(stream)).await;
                    answer.assert_clean(&case);
                    assert!(answer.took < Duration::from_millis(50), "{case}: {:?}", answer.took);
                    assert_eq!(answer.header("x-steadfast-fallback-reason"), Some("circuit_open"), "{case}");
                }
                assert_eq!(house.calls(host), TRIP, "{case}");
                assert_eq!(house.steps(), [primary, backup]);
                house.provider(host).heal();
                sleep(Duration::from_secs(61)).await;
                let back = house.post(path, &[], &hello(stream)).await;
                back.assert_clean(&case);
                assert_eq!(back.header("x-steadfast-tier"), Some(primary), "{case}");
                assert_eq!(house.stack.circuit(primary).unwrap().state(), CircuitState::Closed, "{case}");
            }
        }
    }
}

// B8, B27. BerriAI/litellm#24004: streams that ended in an error were logged as successes, and one of two protocols had
// no fallback for them. tashfeenahmed/freellmapi#1218: a route that answers 200 and then breaks off was never benched.
#[tokio::test(start_paused = true)]
async fn streams_that_break_open_the_circuit_whatever_their_status_was() {
    for fault in [Fault::TruncatedAfter(2), Fault::CutAfter(2), Fault::ErrorEventAfter(2)] {
        for (config, primary, host, _) in PRIMARIES {
            for path in PATHS {
                let case = format!("{fault} {primary} {path}");
                let house = Plan::of(config).build();
                house.provider(host).fail(fault.clone());
                for number in 0..TRIP {
                    // Each is another request: a repeat of the same one begins at the other tier.
                    let mut request = hello(true);
                    request["messages"][0]["content"] = format!("hello {number}").into();
                    let broken = house.post(path, &[], &request).await;
                    assert_eq!((broken.status, broken.is_whole()), (200, false), "{case}");
                    assert_eq!(house.record()["outcome"], "broken", "{case}");
                }
                assert_eq!(house.stack.circuit(primary).unwrap().state(), CircuitState::Open, "{case}");
                house.post(path, &[], &hello(true)).await.assert_clean(&case);
                assert_eq!(house.calls(host), TRIP, "{case}");
            }
        }
    }
}

// B25. damianvtran/local-operator PR #198: each message walked along all dead targets again, a timeout for each.
#[tokio::test(start_paused = true)]
async fn every_dead_tier_is_passed_over_not_only_the_first() {
    let config = format!("{TWO}  - {{ name: sorry, provider: canned, text: Hello from afar }}\n");
    for path in PATHS {
        let house = Plan::of(&config).build();
        for host in [ANTHROPIC, OPENAI] {
            house.provider(host).fail(Fault::Unavailable);
        }
        for _ in 0..TRIP + 10 {
            house.post(path, &[], &hello(false)).await.assert_clean(path);
        }
        assert_eq!((house.calls(ANTHROPIC), house.calls(OPENAI)), (TRIP, TRIP));
        assert_eq!(house.steps(), ["sonnet", "backup", "sorry"]);
    }
}

// B18. BerriAI/litellm#3646: with all deployments cooling a request failed without a word about when to come back, and
// users wanted to wait.
#[tokio::test(start_paused = true)]
async fn when_all_circuits_are_open_callers_hear_when_to_come_back_or_wait_for_the_first() {
    for (wait, more) in [(false, ""), (true, "fallback: { all_open: { wait: 80s } }\n")] {
        for path in PATHS {
            let house = Plan::of(&format!("{TWO}{more}")).build();
            for host in [ANTHROPIC, OPENAI] {
                house.provider(host).fail(Fault::Unavailable);
            }
            for _ in 0..TRIP {
                house.post(path, &[("x-steadfast-timeout-ms", "1000")], &hello(false)).await;
            }
            // A single request goes through, and then none for some seconds.
            sleep(Duration::from_secs(20)).await;
            let single = house.post(path, &[("x-steadfast-timeout-ms", "1000")], &hello(false)).await;
            assert!(single.status >= 500, "{single:?}");
            house.provider(ANTHROPIC).heal();
            let answer = house.post(path, &[], &hello(false)).await;
            if wait {
                answer.assert_clean(path);
                assert!(answer.took <= Duration::from_secs(10), "{:?}", answer.took);
            } else {
                assert!(matches!(answer.status, 503 | 529), "{answer:?}");
                let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=10).contains(&seconds), "{seconds}");
                assert_eq!(answer.took, Duration::ZERO);
                // The header is right: a caller that waits so long gets an answer.
                sleep(Duration::from_secs(seconds)).await;
                house.post(path, &[], &hello(false)).await.assert_clean(path);
            }
        }
    }
}

// B22. Continuum-AI-Corp/OrcaRouter-Lite#121: a last model that gets calls in any state.
#[tokio::test(start_paused = true)]
async fn the_last_resort_is_asked_although_its_circuit_is_open() {
    let config = TWO.replace("model: gpt-4o,", "model: gpt-4o, last_resort: true,");
    for path in PATHS {
        let house = Plan::of(&config).build();
        for host in [ANTHROPIC, OPENAI] {
            house.provider(host).fail(Fault::Unavailable);
        }
        for _ in 0..TRIP + 3 {
            assert!(house.post(path, &[], &hello(false)).await.status >= 500);
        }
        assert_eq!((house.calls(ANTHROPIC), house.calls(OPENAI)), (TRIP, TRIP + 3));
        house.provider(OPENAI).heal();
        house.post(path, &[], &hello(false)).await.assert_clean(path);
    }
}

// B21. BerriAI/litellm#25504: nothing said which target was cooling down, since when, until when and why.
#[tokio::test(start_paused = true)]
async fn who_looks_sees_which_circuit_is_open_since_when_and_why() {
    let house = Plan::of(&format!("{TWO}circuit_breaker: {{ cooldown: 60s }}\n")).build();
    house.stack.status();
    house.provider(ANTHROPIC).fail(Fault::Overloaded);
    for _ in 0..TRIP {
        house.post(MESSAGES, &[], &hello(false)).await;
    }
    sleep(Duration::from_secs(10)).await;
    let status = serde_json::to_value(house.stack.status()).unwrap();
    let tier = &status["tiers"][0];
    assert_eq!((&tier["name"], &tier["circuit"], &tier["failures"]), (&json!("sonnet"), &json!("open"), &json!(TRIP)));
    assert!(tier["circuitSince"].is_string() && !tier["circuitReason"].as_str().unwrap().is_empty(), "{tier}");
    assert_eq!((&status["state"], &status["recentSwitches"][0]["reason"]), (&json!("fallback"), &json!("overloaded")));
    let until = house.stack.circuit("sonnet").unwrap().earliest_probe().unwrap();
    assert_eq!((until - Instant::now()).as_secs(), 50);
}

// B16. BerriAI/litellm#40130: a second cooldown kept the first, shorter time.
#[tokio::test(start_paused = true)]
async fn of_two_waits_that_a_provider_asks_for_the_later_one_counts() {
    let house = Plan::of(TWO).build();
    let limited = |seconds| Fault::RateLimited { retry_after: Some(Duration::from_secs(seconds)) };
    // Two requests at once, so that the second answer comes although the first has closed the door.
    house.provider(ANTHROPIC).latency(Duration::from_millis(10));
    house.provider(ANTHROPIC).fail_next(1, &limited(5));
    house.provider(ANTHROPIC).fail_next(1, &limited(30));
    let (request, begun) = (hello(false), Instant::now());
    tokio::join!(house.post(MESSAGES, &[], &request), house.post(CHAT, &[], &request));
    let mut back = None;
    while back.is_none() {
        let answer = house.post(MESSAGES, &[], &request).await;
        back = (answer.header("x-steadfast-tier") == Some("sonnet")).then(|| begun.elapsed().as_secs());
        sleep(Duration::from_secs(1)).await;
    }
    assert!((30..=31).contains(&back.unwrap()), "{back:?}");
}

// B28. router-for-me/CLIProxyAPI#4410: a 404 of `count_tokens` took the model out for half a day.
#[tokio::test(start_paused = true)]
async fn counting_tokens_says_nothing_about_a_model() {
    let house = Plan::of(TWO).build();
    house.provider(ANTHROPIC).fail(Fault::Status(404));
    for _ in 0..20 {
        assert_eq!(house.post("/v1/messages/count_tokens?beta=true", &[], &hello(false)).await.status, 200);
    }
    assert_eq!(house.calls(ANTHROPIC), 0);
    house.provider(ANTHROPIC).heal();
    assert_eq!(house.post(MESSAGES, &[], &hello(false)).await.header("x-steadfast-tier"), Some("sonnet"));
}
