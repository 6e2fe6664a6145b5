//! The commit point of the file, of a feature and of a request: who waits for what, and which limits of time apply.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use steadfast::{
    BoxLlmService, CommitPoint, ErrorKind, LlmError, LlmRequest, LlmResponse, StreamEvent,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_simulator::InProcess;
use steadfast_stack::{Config, Environment, Format, Stack};
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const WORDS: &str = "one two three four five six seven eight nine ten";

/// A primary of Anthropic's protocol and a backup of OpenAI's, ten words each, one word a second, without a socket.
struct Two {
    primary: Simulated,
    backup: Simulated,
}

impl Two {
    fn new() -> Self {
        let provider = |name| Simulated::new(name).reply(WORDS).latency(SECOND / 2).pace(SECOND);
        Self { primary: provider("primary"), backup: provider("backup") }
    }

    fn primary(&self) -> SimulatedHandle {
        self.primary.handle()
    }

    /// A stack of both, with this after the tiers.
    fn stack(&self, rest: &str) -> BoxLlmService {
        let text = format!(
            "tiers:\n\
             - name: primary\n  provider: anthropic\n  model: a\n  retry: {{ max_attempts: 1 }}\n\
             \x20 timeout: {{ attempt: 4s, first_token: 2s, idle: 3s, progress: 3s }}\n\
             - {{ name: backup, provider: openai, model: o, timeout: {{ attempt: 4s }} }}\n\
             circuit_breaker: {{ consecutive_failures: 0 }}\n{rest}"
        );
        let config = Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        let hosts: HashMap<_, _> = [("api.anthropic.com", &self.primary), ("api.openai.com", &self.backup)]
            .map(|(host, provider)| (host, InProcess::new(provider.clone())))
            .into();
        let transport = service_fn(move |request: http::Request<Full<Bytes>>| {
            let mut transport = hosts[request.uri().host().unwrap()].clone();
            async move { transport.call(request).await }
        });
        let keys: Environment =
            ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"].map(|name| (name, "good-key")).into_iter().collect();
        Stack::builder().environment(keys).transport(transport).seed(5).build(config).unwrap().service()
    }
}

fn stream(feature: &str) -> LlmRequest {
    LlmRequest::prompt("Count.").with_feature(feature).with_stream(true)
}

async fn ask(llm: &BoxLlmService, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    llm.clone().oneshot(request).await
}

/// The tier that answered, the time until its answer was there, and the text or what broke it.
async fn outcome(llm: &BoxLlmService, request: LlmRequest) -> (String, Duration, Result<String, ErrorKind>) {
    let begun = Instant::now();
    let answer = ask(llm, request).await.unwrap_or_else(|error| panic!("{error}"));
    let (tier, waited) = (answer.served_by().tier.expect("a tier").to_owned(), begun.elapsed());
    (tier, waited, answer.text().await.map_err(|error| error.kind()))
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_held_back_may_take_longer_than_its_first_token() {
    let two = Two::new();
    for point in ["first_token", "first_text", "complete"] {
        let llm = two.stack(&format!("stream: {{ commit: {point} }}"));
        let (tier, waited, text) = outcome(&llm, stream("chat")).await;
        assert_eq!((tier.as_str(), text.as_deref()), ("primary", Ok(WORDS)), "{point}");
        assert_eq!(waited > 4 * SECOND, point == "complete", "{point} {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_held_back_is_under_the_limits_of_silence() {
    let two = Two::new();
    two.primary().fail(Fault::StallAfter(5));
    let llm = two.stack("stream: { commit: complete }");
    let begun = Instant::now();
    let answer = ask(&llm, stream("chat").explain()).await.unwrap();
    assert_eq!(answer.served_by().tier, Some("backup"));
    let broken = &answer.attempts()[0];
    assert_eq!((broken.failure, broken.provider.as_deref()), (Some(ErrorKind::Timeout), Some("anthropic")));
    assert!(broken.message.as_str().contains("came for 3s in the middle of the stream"), "{}", broken.message);
    // Half a second, five words with four seconds between them, three seconds of silence; then the backup's whole
    // answer.
    assert_eq!(broken.took, 15 * SECOND / 2);
    assert!(begun.elapsed() < broken.took + 11 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(answer.text().await.unwrap(), WORDS);
}

#[tokio::test(start_paused = true)]
async fn each_feature_has_its_own_commit_point_and_a_request_its_own() {
    let two = Two::new();
    two.primary().fail(Fault::CutAfter(5));
    let llm = two.stack(
        "features:\n  report: { stream: { commit: complete } }\n  chat: { stream: { commit: first_token } }\n  \
         other: {}\ndefault_feature: { stream: { commit: complete } }\nstream: { commit: first_text }",
    );
    let rescued = || ("backup".to_owned(), Ok(WORDS.to_owned()));
    let broken = || ("primary".to_owned(), Err(ErrorKind::StreamBroken));
    let cases = [
        (stream("report"), rescued()),
        (stream("chat"), broken()),
        (stream("other"), broken()),
        (stream("unnamed"), rescued()),
        (LlmRequest::prompt("Count.").with_stream(true), rescued()),
        (stream("chat").with_commit(CommitPoint::Complete), rescued()),
        (stream("report").with_commit(CommitPoint::FirstToken), broken()),
    ];
    for (request, expected) in cases {
        let shown = format!("{request:?}");
        let (tier, _, text) = outcome(&llm, request).await;
        assert_eq!((tier, text), expected, "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_event_commits_before_the_first_token() {
    let two = Two::new();
    two.primary().fail(Fault::ErrorEventAfter(0));
    // With the first token, an error in its place is another tier's to mend.
    let llm = two.stack("features: { eager: { stream: { commit: first_event } } }");
    assert_eq!(outcome(&llm, stream("chat")).await.0, "backup");
    let (tier, _, text) = outcome(&llm, stream("eager")).await;
    assert_eq!((tier.as_str(), text), ("primary", Err(ErrorKind::Overloaded)));
}

#[tokio::test(start_paused = true)]
async fn each_feature_says_what_happens_when_its_stream_breaks() {
    let two = Two::new();
    two.primary().fail(Fault::CutAfter(5));
    let llm = two.stack(
        "features:\n  again: { stream: { on_break: restart } }\n  held: { stream: { on_break: buffer } }\n  \
         plain: { stream: { on_break: fail } }\ndefault_feature: { stream: { on_break: buffer } }\nstream: { on_break: restart }",
    );
    assert_eq!(outcome(&llm, stream("plain")).await.2, Err(ErrorKind::StreamBroken));
    for feature in ["held", "unnamed"] {
        let (tier, _, text) = outcome(&llm, stream(feature)).await;
        assert_eq!((tier.as_str(), text.as_deref()), ("backup", Ok(WORDS)), "{feature}");
    }
    let mut answer = ask(&llm, stream("again")).await.unwrap();
    assert_eq!(answer.served_by().tier, Some("primary"));
    let mut restarted = 0;
    while let Some(frame) = answer.body_mut().frame().await {
        restarted +=
            frame.unwrap().events().iter().filter(|event| matches!(event, StreamEvent::Restarted { .. })).count();
    }
    assert_eq!(restarted, 1);
}
