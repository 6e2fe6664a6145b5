//! The sixteen faults with a tier of two deployments: one has the fault, and the tier itself answers all the same.
//!
//! The faults are those of `crates/cli/tests/clients/faults/scenarios.rs`. A fault after the first token is the
//! caller's to hear of, unless the file holds the answer back until it is whole.

use std::time::Duration;

use steadfast::{
    ErrorKind, LlmError, LlmRequest,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_stack::{Config, Format, Stack};
use tower::ServiceExt;

const REPLY: &str = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";

/// The end that a request must have at a tier with a healthy deployment beside the one with the fault.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Must {
    /// The whole answer.
    Answer,
    /// A broken stream, if its beginning was delivered; else the whole answer.
    AnswerUnlessBegun,
    /// The same answer, or a broken stream: some protocols need no end mark.
    AnswerOrBreak,
    /// The provider's reason, from the one that was asked: no other deployment of the model can help.
    Refuse(ErrorKind),
}

const FAULTS: [(&str, Fault, Must); 13] = [
    ("S01", Fault::RateLimited { retry_after: Some(Duration::from_secs(2)) }, Must::Answer),
    ("S02", Fault::RateLimited { retry_after: None }, Must::Answer),
    ("S03", Fault::ServerError, Must::Answer),
    ("S04", Fault::Unavailable, Must::Answer),
    ("S05", Fault::Refused, Must::Answer),
    ("S06", Fault::Hang, Must::Answer),
    ("S07", Fault::StallAfter(0), Must::Answer),
    ("S08", Fault::CutAfter(8), Must::AnswerUnlessBegun),
    ("S09", Fault::StallAfter(4), Must::AnswerUnlessBegun),
    ("S10", Fault::MalformedAfter(3), Must::AnswerUnlessBegun),
    ("S11", Fault::NoEndMark, Must::AnswerOrBreak),
    ("S12", Fault::ContextLength, Must::Refuse(ErrorKind::ContextLength)),
    ("S13", Fault::ContentFilter, Must::Refuse(ErrorKind::ContentPolicy)),
];

/// A tier whose requests go to the deployment `first` while it serves, and a tier behind it.
fn stack(complete: bool) -> (Stack, [SimulatedHandle; 2]) {
    let commit = if complete { "stream: { commit: complete }\n" } else { "" };
    let text = format!(
        "tiers:\n  - name: main\n    provider: simulated\n    deployments: [{{ name: first, weight: 1000000 }}, \
         {{ name: second, weight: 0.000001 }}]\n  - {{ name: spare, provider: simulated }}\n{commit}"
    );
    let config = Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
    let server = |name| Simulated::new(name).reply(REPLY).latency(Duration::from_millis(20)).seed(3);
    let [first, second] = [server("first"), server("second")];
    let handles = [first.handle(), second.handle()];
    let stack = Stack::builder().seed(5).leaf("main/first", first).leaf("main/second", second).build(config);
    (stack.unwrap(), handles)
}

/// The text of an answer, with its tier and deployment.
async fn ask(stack: &Stack, stream: bool) -> Result<(String, String), LlmError> {
    let response = stack.service().oneshot(LlmRequest::prompt("hello").with_stream(stream)).await?;
    let served = response.served_by();
    let by = format!("{}/{}", served.tier.unwrap_or_default(), served.deployment.unwrap_or_default());
    let message = response.collect().await?;
    Ok((message.text().to_owned(), by))
}

#[tokio::test(start_paused = true)]
async fn sixteen_faults_of_a_deployment_end_at_its_tier() {
    let mut wrong = Vec::new();
    for (id, fault, must) in FAULTS {
        for (stream, complete) in [(false, false), (true, false), (true, true)] {
            let (stack, [first, second]) = stack(complete);
            first.fail(fault.clone());
            let ended = ask(&stack, stream).await;
            let whole = ended.as_ref().is_ok_and(|(text, by)| text == REPLY && by.starts_with("main/"));
            let kind = ended.as_ref().err().map(LlmError::kind);
            let broken = matches!(kind, Some(ErrorKind::StreamBroken | ErrorKind::Timeout));
            let begun = stream && !complete;
            let is = match must {
                Must::Answer => whole,
                Must::AnswerUnlessBegun if begun => broken,
                Must::AnswerUnlessBegun => whole,
                Must::AnswerOrBreak => whole || begun && broken,
                Must::Refuse(kind) => {
                    ended.as_ref().is_err_and(|error| error.kind() == kind)
                        && (first.stats().calls, second.stats().calls) == (1, 0)
                }
            };
            let calls = first.stats().calls;
            // Nobody hammers, and what goes elsewhere goes to the other deployment.
            if !is || calls > 2 {
                wrong.push(format!("{id} {fault:?}, stream {stream}, complete {complete}: {calls} calls, {ended:?}"));
            }
            // The next one is answered whatever is wrong with the first deployment.
            if !matches!(must, Must::Refuse(_)) {
                first.heal();
                assert!(ask(&stack, stream).await.is_ok(), "{id}");
            }
            assert_eq!((first.stats().in_flight, second.stats().in_flight), (0, 0), "{id}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// S14: the error is that of the deployment that was asked first, though the other one fails in another way.
#[tokio::test(start_paused = true)]
async fn the_first_failure_is_the_one_that_is_told() {
    let (stack, [first, second]) = stack(true);
    first.fail(Fault::CutAfter(8));
    second.fail(Fault::NoPrefill);
    let (_, by) = ask(&stack, true).await.unwrap();
    assert!(by == "main/second" || by == "spare/", "{by}");
}

/// S15 and S16: down, then healthy; each request is answered, and the first deployment gets its requests back.
#[tokio::test(start_paused = true)]
async fn a_deployment_that_was_down_comes_back_and_few_calls_went_to_it() {
    let (stack, [first, _]) = stack(false);
    first.fail(Fault::Unavailable);
    for _ in 0..20 {
        assert_eq!(ask(&stack, true).await.unwrap().1, "main/second");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(first.stats().calls <= 6, "{}", first.stats().calls);
    first.heal();
    // In thin traffic a past failure decides between equals until it is forgotten.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let mut back = 0;
    for _ in 0..40 {
        back += usize::from(ask(&stack, true).await.unwrap().1 == "main/first");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert!(back > 20, "{back}");
}
