//! A caller that has lost its answer asks again, and one call is made and paid for.

use std::time::Duration;

use http_body_util::BodyExt;
use steadfast::providers::simulated::Simulated;
use tokio::time::{Instant, sleep, timeout};

use super::{house::*, *};

const SECOND: Duration = Duration::from_secs(1);
const KEY: [(&str, &str); 1] = [("idempotency-key", "turn-7")];
/// The official clients' header on a retry.
const AGAIN: [(&str, &str); 2] = [("idempotency-key", "turn-7"), ("x-stainless-retry-count", "1")];

/// A house that keeps to keys, whose primary at this host needs two seconds for its first word.
fn house(config: &str, host: &'static str) -> House {
    let slow = Simulated::new("slow").reply("Hello from afar").latency(SECOND * 2).pace(SECOND / 2);
    Plan::of(&format!("{config}idempotency: {{}}\n")).simulated(host, slow).build()
}

const HOUSES: [(&str, &str); 2] = [(TWO, ANTHROPIC), (TURNED, OPENAI)];

// B58. PostHog#72670, Augustas11/macprovider#762: a client whose response was lost sent its request again, and both
// were paid for.
#[tokio::test(start_paused = true)]
async fn a_retry_after_a_lost_response_joins_the_attempt_that_runs() {
    for (config, host) in HOUSES {
        for path in PATHS {
            for stream in [false, true] {
                let case = format!("{host} {path} {stream}");
                let alone = house(config, host).post(path, &[], &hello(stream)).await.took;
                let house = house(config, host);
                let begun = Instant::now();
                let lost = timeout(SECOND, house.post(path, &KEY, &hello(stream))).await;
                assert!(lost.is_err(), "{case}: the caller has left before its first word");
                let body = hello(stream);
                let (one, other) = tokio::join!(house.post(path, &AGAIN, &body), house.post(path, &AGAIN, &body));
                for answer in [one, other] {
                    answer.assert_clean(&case);
                }
                assert_eq!(begun.elapsed(), alone, "{case}: it is the first attempt that answers");
                // The store keeps the answer a moment after the caller has it.
                sleep(Duration::from_millis(1)).await;
                let late = house.post(path, &AGAIN, &hello(stream)).await;
                late.assert_clean(&case);
                assert_eq!((late.header("idempotent-replayed"), late.took), (Some("true"), Duration::ZERO), "{case}");
                assert_eq!(house.calls(host), 1, "{case}");
            }
        }
    }
}

// B58, in the middle of a stream: the client loses the part that it has read with the rest.
#[tokio::test(start_paused = true)]
async fn a_retry_of_a_stream_that_was_cut_off_on_its_way_has_it_from_its_beginning() {
    for (config, host) in HOUSES {
        for path in TWO_PATHS {
            for stream in [true, false] {
                let case = format!("{host} {path} {stream}");
                let house = house(config, host);
                let mut half = house.begin("POST", path, &KEY, hello(true).to_string()).await.into_body();
                let mut read = String::new();
                while !read.contains("Hello") {
                    let frame = half.frame().await.unwrap().unwrap();
                    read.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                }
                drop(half);
                house.post(path, &AGAIN, &hello(stream)).await.assert_clean(&case);
                assert_eq!(house.calls(host), 1, "{case}");
            }
        }
    }
}

// nex-crm/wuphf#826: another request under a key that stands for one.
#[tokio::test(start_paused = true)]
async fn another_request_under_the_key_of_one_that_runs_is_refused_and_makes_no_call() {
    for path in PATHS {
        let house = house(TWO, ANTHROPIC);
        let mut other = hello(false);
        other["messages"][0]["content"] = "something else".into();
        let body = hello(false);
        let (first, refused) = tokio::join!(house.post(path, &KEY, &body), async {
            tokio::task::yield_now().await;
            house.post(path, &KEY, &other).await
        });
        first.assert_clean(path);
        refused.assert_error(path, mistake(path, 422), path);
        assert_eq!((house.calls(ANTHROPIC), house.calls(OPENAI)), (1, 0));
    }
}

/// At the end nothing goes on for a retry that cannot come any more.
#[tokio::test(start_paused = true)]
async fn calls_that_go_on_for_a_retry_end_with_the_server() {
    let house = house(TWO, ANTHROPIC);
    let keys = house.stack.idempotency().unwrap();
    let lost = timeout(SECOND, house.post(MESSAGES, &KEY, &hello(false))).await;
    assert!(lost.is_err() && keys.under_way() == 1, "it goes on");
    let begun = Instant::now();
    crate::server::end_calls(&house.stack).await;
    assert_eq!((keys.under_way(), begun.elapsed()), (0, Duration::ZERO));
}
