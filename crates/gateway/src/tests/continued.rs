//! A stream that another call goes on with, and the notices that tell its reader who answers.

use steadfast::{
    FallbackLayer,
    layers::fallback::{Tier, TierSettings},
    providers::simulated::Fault,
};
use tower::ServiceBuilder;

use super::harness::*;
use crate::limits::Settings;

const WORDS: &str = "one two three four five six seven eight nine ten";
const CONTINUE: (&str, &str) = ("x-steadfast-on-break", "continue");
const NOTICES: (&str, &str) = ("x-steadfast-notices", "1");

/// The notices of a stream: its comments, and the fields of its events.
fn notices(answer: &Answer) -> [Vec<serde_json::Value>; 2] {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let lines = || answer.body.lines();
    let comments = lines().filter_map(|line| json(line.strip_prefix(": steadfast.notice ")?)).collect();
    let fields = lines().filter_map(|line| json(line.strip_prefix("data:")?));
    [comments, fields.filter_map(|event| event["steadfast"].get("notice").cloned()).collect()]
}

/// A streamed request, different for each number.
fn asks(number: usize) -> serde_json::Value {
    let mut body = hello(true);
    body["messages"][0]["content"] = format!("hello {number}").into();
    body
}

/// Anthropic, and OpenAI where that breaks.
async fn server(providers: &Providers) -> Server {
    let goes_on = || TierSettings::new().goes_on();
    let stack = ServiceBuilder::new()
        .layer(
            FallbackLayer::new("sonnet")
                .primary(goes_on())
                .push(Tier::new("backup", providers.gpt()).settings(goes_on())),
        )
        .service(providers.claude());
    Server::start(steadfast::BoxLlmService::new(stack), Settings::default()).await
}

#[tokio::test]
async fn a_header_lets_another_call_go_on_and_another_one_says_so() {
    for path in PATHS {
        let providers = Providers::saying(WORDS).await;
        let server = server(&providers).await;
        for (headers, is_whole, says) in
            [(&[][..], false, false), (&[CONTINUE], true, false), (&[CONTINUE, NOTICES], true, true)]
        {
            providers.anthropic.handle().fail_next(1, &Fault::CutAfter(4));
            // A request that has just failed at a tier begins at the next one.
            let answer = server.post(path, headers, &asks(headers.len())).await;
            assert_eq!(answer.text() == WORDS, is_whole, "{path}: {answer:?}");
            assert_eq!(answer.is_whole(), is_whole, "{path}: {answer:?}");
            let after = "one two three four ".len();
            let notice = serde_json::json!({"type": "continues", "tier": "backup", "model": "gpt-4o",
                "reason": "stream_broken", "after": after});
            let told = |is_told| if is_told { vec![notice.clone()] } else { vec![] };
            assert_eq!(notices(&answer), [told(says && path != GEMINI), told(says)], "{path}: {answer:?}");
            let id = answer.header("x-steadfast-request-id").unwrap();
            let record = server.get(&format!("/requests/{id}"), &[]).await.json();
            let told = record["notes"].to_string().contains("stream: backup goes on after 19 characters");
            assert_eq!(told, is_whole, "{record}");
        }
    }
}

#[tokio::test]
async fn a_reader_that_wants_to_know_is_told_that_another_tier_answers() {
    let providers = Providers::saying(WORDS).await;
    let server = server(&providers).await;
    for path in PATHS {
        providers.anthropic.handle().fail_next(2, &Fault::Overloaded);
        let mut since = Vec::new();
        for _ in 0..2 {
            let answer = server.post(path, &[NOTICES], &asks(1)).await;
            assert!(answer.is_whole(), "{answer:?}");
            let [comments, fields] = notices(&answer);
            assert_eq!(answer.body.starts_with(": steadfast.notice "), path != GEMINI, "{answer:?}");
            assert!(path == GEMINI || comments == fields, "{answer:?}");
            let [notice] = &fields[..] else { panic!("{answer:?}") };
            assert_eq!(notice["first"], "sonnet", "{notice}");
            // Up to its last digit but one: each is counted back from a clock of its own.
            since.push(notice["since"].as_str().unwrap()[..18].to_owned());
        }
        assert_eq!(since[0], since[1], "the second answer tells of the same failure");
        assert!(!server.post(path, &[NOTICES], &asks(2)).await.body.contains("notice"), "the first one answers");
    }
}

#[tokio::test]
async fn a_policy_that_does_not_exist_is_refused_by_name() {
    let providers = Providers::saying(WORDS).await;
    let server = server(&providers).await;
    for path in PATHS {
        let answer = server.post(path, &[("x-steadfast-on-break", "restart")], &hello(true)).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("x-steadfast-on-break") && answer.body.contains("fail, continue, buffer"));
    }
}
