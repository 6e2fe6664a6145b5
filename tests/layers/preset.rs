//! The promise of a preset: no caller is worse off behind it than alone with its one model, and better off with two.

use std::time::Duration;

use steadfast::{
    BoxLlmService, ErrorKind, LlmRequest, Preset,
    providers::{
        Simulated,
        simulated::{Fault, Latency},
    },
};
use tokio::time::Instant;
use tower::ServiceExt as _;

const SECOND: Duration = Duration::from_secs(1);
const PRESETS: [fn() -> Preset; 2] = [Preset::fast, Preset::patient];

/// Returns the tier that answered, or the error's kind, and the seconds until then.
async fn ask(llm: &BoxLlmService) -> (Result<String, ErrorKind>, u64) {
    send(llm, LlmRequest::prompt("What is a closure?")).await
}

async fn send(llm: &BoxLlmService, request: LlmRequest) -> (Result<String, ErrorKind>, u64) {
    let begin = Instant::now();
    let answer = llm.clone().oneshot(request).await;
    let tier = answer.map(|answer| answer.served_by().tier.unwrap_or_default().to_string());
    (tier.map_err(|error| error.kind()), begin.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn the_second_model_answers_while_the_first_fails_and_the_first_again_after() {
    for preset in PRESETS {
        let (first, second) = (Simulated::new("first"), Simulated::new("second"));
        let provider = first.handle();
        let llm = preset().tier("first", first).tier("second", second).build().unwrap();
        assert_eq!(ask(&llm).await, (Ok("first".to_owned()), 0));
        for fault in [Fault::Overloaded, Fault::ServerError, Fault::Hang] {
            provider.fail(fault.clone());
            for _ in 0..20 {
                assert_eq!(ask(&llm).await.0.as_deref(), Ok("second"), "{fault:?}");
            }
            provider.heal();
            tokio::time::sleep(600 * SECOND).await;
            for _ in 0..20 {
                let _recovering = ask(&llm).await;
            }
            assert_eq!(ask(&llm).await.0.as_deref(), Ok("first"), "after {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_slow_model_has_the_time_that_its_caller_would_give_it() {
    for (preset, seconds) in [(PRESETS[0], 55), (PRESETS[1], 590)] {
        let slow = Simulated::new("slow").latency(Latency::Fixed(seconds * SECOND));
        let llm = preset().tier("slow", slow).build().unwrap();
        for streams in [false, true] {
            let request = LlmRequest::prompt("What is a closure?").with_stream(streams);
            assert_eq!(send(&llm, request).await, (Ok("slow".to_owned()), seconds.into()), "stream: {streams}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_callers_at_once_wait_for_the_model_alone() {
    for preset in PRESETS {
        let llm = preset().tier("only", Simulated::new("only").latency(Latency::Fixed(5 * SECOND))).build().unwrap();
        let calls: Vec<_> = (0..5000).map(|_| ask(&llm)).collect();
        for (answer, seconds) in futures_util::future::join_all(calls).await {
            assert_eq!(answer.as_deref(), Ok("only"));
            assert_eq!(seconds, 5);
        }
    }
}

#[test]
fn a_preset_that_cannot_work_says_what_to_mend() {
    let error = Preset::fast().build().unwrap_err().to_string();
    assert_eq!(error, "Preset: has no tier: add one with `tier`");
    let twice = Preset::patient().tier("one", Simulated::new("a")).tier("one", Simulated::new("b")).build();
    assert_eq!(twice.unwrap_err().to_string(), "Preset: `one` is the name of two tiers: rename one");
}
