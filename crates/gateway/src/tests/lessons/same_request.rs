//! The same request again, after a failure that its caller has seen: the calls that its providers see, and the wait.

use std::{fmt, time::Duration};

use serde_json::Value;
use steadfast::providers::simulated::Fault;
use tokio::time::{Instant, sleep, timeout};

use super::{house::*, *};
use crate::{
    api::Keys,
    tests::harness::{entry, keys_of},
};

/// One tier with the settings of no file, and two.
const ONE: &str = "tiers: [{ name: sonnet, provider: anthropic, model: claude-sonnet-4-6 }]\n";
const PAIR: &str = "
tiers:
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-6 }
  - { name: backup, provider: openai, model: gpt-4o }
";

/// The identities of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// It has a key of the gateway's.
    Key,
    /// It names its session.
    Session,
    /// It shows a key, as all SDKs do, to a gateway without keys.
    Shown,
    /// It cannot be told from others.
    Nobody,
}

const CALLERS: [Caller; 4] = [Caller::Key, Caller::Session, Caller::Shown, Caller::Nobody];

impl Caller {
    fn headers(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Key | Self::Shown => vec![("authorization", "Bearer sf-one")],
            Self::Session => vec![("x-claude-code-session-id", "session-1")],
            Self::Nobody => vec![],
        }
    }

    /// Returns the headers of somebody else of the kind.
    fn others(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Key | Self::Shown => vec![("authorization", "Bearer sf-two")],
            Self::Session => vec![("x-claude-code-session-id", "session-2")],
            Self::Nobody => vec![],
        }
    }

    fn keys(self) -> Option<Keys> {
        let entries = [entry("one", "sf-one", ""), entry("two", "sf-two", "")];
        (self == Self::Key).then(|| keys_of(&entries))
    }
}

fn asking(text: impl fmt::Display, stream: bool) -> Value {
    let mut request = hello(stream);
    request["messages"][0]["content"] = text.to_string().into();
    request
}

/// Sends a request as the official SDKs do: as often as it may, after the wait that the answer names or its own.
/// Returns the last answer.
async fn by_sdk(house: &House, path: &str, caller: Caller, request: &Value, repeats: u32) -> Answered {
    let mut number = 0;
    loop {
        let count = number.to_string();
        let mut headers = caller.headers();
        headers.push(("x-stainless-retry-count", &count));
        let answer = house.post(path, &headers, request).await;
        let may_help =
            matches!(answer.status, 408 | 409 | 429 | 500..) && answer.header("x-should-retry") != Some("false");
        if !may_help || number == repeats {
            return answer;
        }
        let asked = answer.header("retry-after").and_then(|wait| wait.parse().ok()).filter(|wait| *wait <= 60);
        let own = Duration::from_millis(500 << number.min(4));
        sleep(asked.map_or(own, Duration::from_secs)).await;
        number += 1;
    }
}

fn limited(seconds: u64) -> Fault {
    Fault::RateLimited { retry_after: Some(Duration::from_secs(seconds)) }
}

// Issue 53: at a lasting 429 three attempts of the gateway's for each of an SDK's three were nine calls.
#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_sees_no_more_calls_than_from_the_sdk_alone() {
    let faults = [
        limited(1),
        limited(4),
        limited(20),
        Fault::RateLimited { retry_after: None },
        Fault::Unavailable,
        Fault::Overloaded,
        Fault::ServerError,
        Fault::Hang,
    ];
    for fault in faults {
        for path in PATHS {
            for caller in CALLERS {
                for (config, repeats) in [(ONE, 2), (ONE, 5), (PAIR, 2)] {
                    let case = format!("{fault} {path} {caller:?} {repeats} {config}");
                    let house = Plan::of(config).keys(caller.keys()).build();
                    for host in [ANTHROPIC, OPENAI] {
                        house.provider(host).fail(fault.clone());
                    }
                    let answer = by_sdk(&house, path, caller, &hello(false), repeats).await;
                    assert!(answer.status >= 408, "{case}: {answer:?}");
                    for host in [ANTHROPIC, OPENAI] {
                        let calls = house.calls(host);
                        assert!(calls <= u64::from(repeats) + 1, "{case}: {calls} calls to {host}");
                    }
                    house.provider(ANTHROPIC).heal();
                    house.provider(OPENAI).heal();
                    // The circuit's next request is at hand after ten seconds, and the memory's too.
                    sleep(Duration::from_secs(if matches!(fault, Fault::RateLimited { .. }) { 20 } else { 10 })).await;
                    by_sdk(&house, path, caller, &hello(false), repeats).await.assert_clean(&case);
                }
            }
        }
    }
}

// A repeat that has nothing left is answered at once, in the dialect of its caller, and says when to come back.
#[tokio::test(start_paused = true)]
async fn a_repeat_without_a_call_left_hears_of_the_failure_at_once() {
    for fault in [limited(2), Fault::Unavailable, Fault::Overloaded] {
        for path in PATHS {
            for caller in CALLERS {
                let case = format!("{fault} {path} {caller:?}");
                let house = Plan::of(ONE).keys(caller.keys()).build();
                house.provider(ANTHROPIC).fail(fault.clone());
                let numbered = |number| [caller.headers(), vec![("x-stainless-retry-count", number)]].concat();
                let first = house.post(path, &numbered("0"), &hello(false)).await;
                let again = house.post(path, &numbered("1"), &hello(false)).await;
                assert_eq!(again.status, first.status, "{case}");
                for answer in [&first, &again] {
                    assert!(answer.status >= 429, "{case}: {answer:?}");
                    assert_eq!(answer.header("x-should-retry"), None, "{case}");
                }
                assert_eq!((again.took, house.calls(ANTHROPIC)), (Duration::ZERO, 3), "{case}");
                let wait: u64 = again.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=10).contains(&wait), "{case}: {wait}");
                again.assert_error(path, again.status, &case);
                assert!(again.header("x-steadfast-notes").is_some(), "{case}");
                assert_eq!(house.record()["attempts"], 0, "{case}");
                // Another body, and another caller, are no repeat of it.
                house.provider(ANTHROPIC).heal();
                sleep(Duration::from_secs(2)).await;
                house.post(path, &numbered("1"), &asking("bye", false)).await.assert_clean(&case);
                if caller != Caller::Nobody {
                    let others = [caller.others(), vec![("x-stainless-retry-count", "1")]].concat();
                    house.post(path, &others, &hello(false)).await.assert_clean(&case);
                }
                // The provider is well: ten seconds later the very same repeat is served.
                sleep(Duration::from_secs(10)).await;
                house.post(path, &numbered("1"), &hello(false)).await.assert_clean(&case);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_none_is_no_repeat_and_a_huge_one_has_calls_left() {
    let numbers =
        ["", "-1", "one", "1.5", "0x1", "1 1", "1,1", "\u{661}", "-0", "1e3", "65536", "99999999999999999999999"];
    for path in PATHS {
        for number in numbers {
            let house = Plan::of(ONE).build();
            house.provider(ANTHROPIC).fail_next(3, &Fault::Unavailable);
            assert!(house.post(path, &[], &hello(false)).await.status >= 500);
            let headers = [("x-stainless-retry-count", number)];
            house.post(path, &headers, &hello(false)).await.assert_clean(&format!("{path} {number:?}"));
        }
    }
}

// Codex's five repeats of a stream that stalls went to the same tier, 60 s each.
#[tokio::test(start_paused = true)]
async fn a_repeat_of_a_stream_that_broke_or_fell_silent_begins_at_the_next_tier() {
    let faults = [Fault::CutAfter(2), Fault::TruncatedAfter(2), Fault::ErrorEventAfter(2), Fault::StallAfter(2)];
    for fault in faults {
        for (config, host, backup) in [(TWO, ANTHROPIC, "backup"), (TURNED, OPENAI, "sonnet")] {
            for path in PATHS {
                for caller in CALLERS {
                    for number in [None, Some("1")] {
                        let case = format!("{fault} {host} {path} {caller:?} {number:?}");
                        let house = Plan::of(config).keys(caller.keys()).build();
                        house.provider(host).fail(fault.clone());
                        let mut headers = caller.headers();
                        headers.extend(number.map(|number| ("x-stainless-retry-count", number)));
                        let broken = house.post(path, &headers, &hello(true)).await;
                        assert_eq!((broken.status, broken.is_whole()), (200, false), "{case}");
                        for _ in 0..3 {
                            let again = house.post(path, &headers, &hello(true)).await;
                            again.assert_clean(&case);
                            assert_eq!(again.header("x-steadfast-tier"), Some(backup), "{case}");
                            assert!(again.took < Duration::from_secs(1), "{case}: {:?}", again.took);
                        }
                        // A session's next request goes elsewhere too, and nobody else's.
                        let other = house.post(path, &caller.others(), &asking("who?", true)).await;
                        assert!(!other.is_whole(), "{case}");
                        let next = house.post(path, &headers, &asking("and now?", true)).await;
                        // The second silence has opened the circuit.
                        let goes_on = caller == Caller::Session || fault == Fault::StallAfter(2);
                        assert_eq!(next.is_whole(), goes_on, "{case}");
                        let calls = house.calls(host);
                        assert_eq!(calls, if goes_on { 2 } else { 3 }, "{case}");
                        // A minute later it is as any other.
                        house.provider(host).heal();
                        sleep(Duration::from_secs(61)).await;
                        house.post(path, &headers, &hello(true)).await.assert_clean(&case);
                        assert_eq!(house.calls(host), calls + 1, "{case}");
                    }
                }
            }
        }
    }
}

// "Nobody waits more than 10 s twice for the same provider."
#[tokio::test(start_paused = true)]
async fn nobody_waits_twice_for_a_tier_that_is_silent() {
    for (config, host) in [(TWO, ANTHROPIC), (TURNED, OPENAI)] {
        for path in PATHS {
            for caller in CALLERS {
                for stream in [false, true] {
                    let case = format!("{host} {path} {caller:?} {stream}");
                    let house = Plan::of(config).keys(caller.keys()).build();
                    house.provider(host).fail(Fault::Hang);
                    let first = house.post(path, &caller.headers(), &hello(stream)).await;
                    first.assert_clean(&case);
                    assert!(first.took > Duration::from_secs(10), "{case}: {:?}", first.took);
                    let again = house.post(path, &caller.headers(), &hello(stream)).await;
                    again.assert_clean(&case);
                    assert!(again.took < Duration::from_secs(1), "{case}: {:?}", again.took);
                    if caller != Caller::Nobody {
                        let next = house.post(path, &caller.headers(), &asking("and now?", true)).await;
                        next.assert_clean(&case);
                        assert!(next.took < Duration::from_secs(11), "{case}: {:?}", next.took);
                    }
                }
            }
        }
    }
}

// A caller that gives up before our own limit does was sent to the same silent tier for ever.
#[tokio::test(start_paused = true)]
async fn who_has_left_a_silent_tier_is_answered_by_another_when_it_comes_back() {
    for (config, host) in [(TWO, ANTHROPIC), (TURNED, OPENAI)] {
        for path in PATHS {
            for caller in CALLERS {
                let silent = [(false, 12), (true, 12), (true, 25), (true, 5)].map(|case| (case, Fault::Hang));
                let stalled = [(true, 12), (true, 25)].map(|case| (case, Fault::StallAfter(2)));
                for ((stream, patience), fault) in silent.into_iter().chain(stalled) {
                    let case = format!("{fault} {host} {path} {caller:?} {stream} {patience}");
                    let house = Plan::of(config).keys(caller.keys()).build();
                    house.provider(host).fail(fault);
                    let (headers, request) = (caller.headers(), hello(stream));
                    let first = house.post(path, &headers, &request);
                    assert!(timeout(Duration::from_secs(patience), first).await.is_err(), "{case}");
                    let again = house.post(path, &headers, &request).await;
                    again.assert_clean(&case);
                    // Five seconds say nothing.
                    assert_eq!(again.took < Duration::from_secs(1), patience > 10, "{case}: {:?}", again.took);
                }
            }
        }
    }
}

// A client that numbers nothing pays one call for each repeat, as alone.
#[tokio::test(start_paused = true)]
async fn a_repeat_without_a_number_is_one_call_and_is_made() {
    for fault in [limited(1), Fault::Unavailable, Fault::Overloaded] {
        for path in [MESSAGES, CHAT, GEMINI] {
            for caller in CALLERS {
                for headers in [vec![], vec![("x-stainless-retry-count", "0")]] {
                    let case = format!("{fault} {path} {caller:?} {headers:?}");
                    let house = Plan::of(ONE).keys(caller.keys()).build();
                    house.provider(ANTHROPIC).fail(fault.clone());
                    let headers = [caller.headers(), headers].concat();
                    for calls in [3, 4] {
                        assert!(house.post(path, &headers, &hello(false)).await.status >= 429, "{case}");
                        assert_eq!(house.calls(ANTHROPIC), calls, "{case}");
                        sleep(Duration::from_secs(1)).await;
                    }
                    house.provider(ANTHROPIC).heal();
                    house.post(path, &headers, &hello(false)).await.assert_clean(&case);
                }
            }
        }
    }
}

// Google's SDK numbers nothing and repeats four times on its connection: three calls of the gateway's for the first and
// one for each of the others were seven in place of five.
#[tokio::test(start_paused = true)]
async fn a_repeat_on_the_same_connection_is_known_without_a_number() {
    for fault in [limited(1), Fault::Unavailable, Fault::Overloaded] {
        for path in [MESSAGES, CHAT, GEMINI] {
            for caller in CALLERS {
                for config in [ONE, PAIR] {
                    let case = format!("{fault} {path} {caller:?} {config}");
                    let house = Plan::of(config).keys(caller.keys()).build().on_one_connection();
                    for host in [ANTHROPIC, OPENAI] {
                        house.provider(host).fail(fault.clone());
                    }
                    let headers = caller.headers();
                    for repeat in 0..5 {
                        let answer = house.post(path, &headers, &hello(false)).await;
                        assert!(answer.status >= 429, "{case}: {answer:?}");
                        for host in [ANTHROPIC, OPENAI] {
                            let most = u64::max(repeat + 1, 3);
                            assert!(house.calls(host) <= most, "{case} {repeat}: {}", house.calls(host));
                        }
                        sleep(Duration::from_secs(2 << repeat)).await;
                    }
                    // It is another request after an answer, and another one needs none.
                    house.provider(ANTHROPIC).heal();
                    house.provider(OPENAI).heal();
                    house.post(path, &headers, &asking("bye", false)).await.assert_clean(&case);
                    house.post(path, &headers, &hello(false)).await.assert_clean(&case);
                }
            }
        }
    }
}

// Somebody who asks the same thing every six seconds repeats nothing, nor does another connection.
#[tokio::test(start_paused = true)]
async fn the_same_request_later_or_from_elsewhere_is_always_a_call() {
    for path in PATHS {
        for is_kept in [false, true] {
            let case = format!("{path} {is_kept}");
            let house = Plan::of(ONE).build();
            let house = if is_kept { house.on_one_connection() } else { house };
            house.provider(ANTHROPIC).fail(Fault::Unavailable);
            assert!(house.post(path, &[], &hello(false)).await.status >= 500, "{case}");
            house.provider(ANTHROPIC).heal();
            sleep(Duration::from_secs(if is_kept { 6 } else { 1 })).await;
            house.post(path, &[], &hello(false)).await.assert_clean(&case);
        }
    }
}

// Bad input: one request a hundred times, without a word of it.
#[tokio::test(start_paused = true)]
async fn a_caller_who_repeats_one_request_a_hundred_times_is_served_once_the_provider_is_back() {
    for path in PATHS {
        for caller in CALLERS {
            for config in [ONE, PAIR] {
                let case = format!("{path} {caller:?} {config}");
                let house = Plan::of(config).keys(caller.keys()).build();
                for host in [ANTHROPIC, OPENAI] {
                    house.provider(host).fail(Fault::Unavailable);
                }
                for _ in 0..100 {
                    assert!(house.post(path, &caller.headers(), &hello(false)).await.status >= 500, "{case}");
                }
                assert!(house.gateway.repeats.len() <= 3, "{case}");
                for host in [ANTHROPIC, OPENAI] {
                    house.provider(host).heal();
                }
                let back = Instant::now();
                while house.post(path, &caller.headers(), &hello(false)).await.status != 200 {
                    sleep(Duration::from_secs(1)).await;
                }
                assert!(back.elapsed() <= Duration::from_secs(10), "{case}: {:?}", back.elapsed());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_thousand_callers_leave_no_more_than_a_thousand_notes_and_no_word_of_a_prompt() {
    let house = Plan::of(&format!("{TWO}circuit_breaker: {{ consecutive_failures: 1000000 }}\n")).build();
    house.provider(ANTHROPIC).fail(Fault::CutAfter(2));
    for number in 0..2_000 {
        let session = format!("session-{number}");
        let request = asking(format!("a secret plan, number {number}"), true);
        let answer = house.post(RESPONSES, &[("x-claude-code-session-id", &session)], &request).await;
        assert!(!answer.is_whole(), "{number}: {answer:?}");
    }
    let kept = house.gateway.repeats.len();
    assert!((1..=1024).contains(&kept), "{kept}");
    let all = format!("{:?}", house.gateway.repeats);
    assert!(!all.contains("secret") && !all.contains("session-"), "{all}");
}
