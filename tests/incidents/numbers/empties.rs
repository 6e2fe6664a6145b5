//! An answer that its caller has cut to nothing is an answer, and says nothing against the provider.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use steadfast::{
    BoxLlmService, Chat, CircuitBreakerLayer, Classifier, Dialect, ErrorKind, FallbackLayer, LlmError, LlmRequest,
    Wire,
    chat::Message,
    classify::Failover,
    events::CircuitState,
    providers::{Anthropic, Canned, Gemini, OpenAi},
};
use tower::{Layer, ServiceExt};

/// An empty answer of a dialect with this reason to finish, whole or as a stream.
fn empty(dialect: Dialect, reason: &str, stream: bool) -> String {
    let json = match dialect {
        Dialect::Anthropic if stream => {
            return format!(
                "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"m\",\"model\":\"c\"}}}}\n\n\
                 event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{reason}\"}}}}\n\n\
                 event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
            );
        }
        Dialect::Anthropic => {
            return format!(r#"{{"type":"message","role":"assistant","content":[],"stop_reason":"{reason}"}}"#);
        }
        Dialect::OpenAi => {
            let turn = if stream { "delta" } else { "message" };
            format!(
                r#"{{"choices":[{{"index":0,"{turn}":{{"role":"assistant","content":""}},"finish_reason":"{reason}"}}]}}"#
            )
        }
        _ => format!(r#"{{"candidates":[{{"content":{{"role":"model"}},"finishReason":"{reason}"}}]}}"#),
    };
    match (stream, dialect) {
        (false, _) => json,
        (true, Dialect::OpenAi) => format!("data: {json}\n\ndata: [DONE]\n\n"),
        (true, _) => format!("data: {json}\n\n"),
    }
}

fn leaf(dialect: Dialect, body: String, stream: bool) -> BoxLlmService {
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let mut response = Response::new(Full::new(Bytes::from(body.clone())));
        let content_type = if stream { "text/event-stream" } else { "application/json" };
        response.headers_mut().insert("content-type", content_type.parse().unwrap());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    match dialect {
        Dialect::Anthropic => BoxLlmService::new(Anthropic::new("key").model("m").transport(transport)),
        Dialect::OpenAi => BoxLlmService::new(OpenAi::new("key").model("m").transport(transport)),
        _ => BoxLlmService::new(Gemini::new("key").model("m").transport(transport)),
    }
}

/// Requests that name a stop text, in the neutral form and in each dialect; and the same without.
fn requests(with_stop: bool) -> Vec<LlmRequest> {
    let mut chat = Chat::new([Message::user("hello")]);
    chat.stop = if with_stop { vec!["x".into()] } else { vec![] };
    let of = |dialect, stop: &str| {
        let body = match dialect {
            Dialect::Gemini => format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"hi"}}]}}]{stop}}}"#),
            _ => format!(r#"{{"max_tokens":5,"messages":[{{"role":"user","content":"hi"}}]{stop}}}"#),
        };
        LlmRequest::from(Wire::new(dialect, body).unwrap())
    };
    let mut requests = vec![LlmRequest::from(chat)];
    requests.extend(match with_stop {
        true => vec![
            of(Dialect::Anthropic, r#","stop_sequences":["x"]"#),
            of(Dialect::OpenAi, r#","stop":"x""#),
            of(Dialect::OpenAi, r#", "stop" : [ "x" ] "#),
            of(Dialect::Gemini, r#","generationConfig":{"stopSequences":["x"]}"#),
        ],
        false => vec![
            of(Dialect::Anthropic, r#","stop_sequences":[]"#),
            of(Dialect::OpenAi, r#","stop":null"#),
            of(Dialect::Gemini, r#","generationConfig":{"temperature":1}"#),
        ],
    });
    requests
}

const DIALECTS: [(Dialect, &str, &str); 3] = [
    (Dialect::Anthropic, "stop_sequence", "max_tokens"),
    (Dialect::OpenAi, "stop", "length"),
    (Dialect::Gemini, "STOP", "MAX_TOKENS"),
];

/// Returns the outcomes of ten such requests, and the circuit's state afterwards.
async fn ask(leaf: BoxLlmService, request: &LlmRequest) -> (Vec<Result<String, LlmError>>, CircuitState) {
    let breaker = CircuitBreakerLayer::new("tier").consecutive_failures(3);
    let llm = breaker.layer(leaf);
    let mut met = Vec::new();
    for _ in 0..10 {
        met.push(match llm.clone().oneshot(request.clone()).await {
            Ok(answer) => answer.text().await,
            Err(error) => Err(error),
        });
    }
    (met, breaker.handle().state())
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_its_caller_cut_to_nothing_is_passed_on_and_opens_nothing() {
    for (dialect, stop, length) in DIALECTS {
        for stream in [false, true] {
            let cut = requests(true).into_iter().map(|request| (request, stop));
            let short = requests(false).into_iter().map(|request| (request, length));
            for (request, reason) in cut.chain(short) {
                let request = request.with_stream(stream);
                let (met, state) = ask(leaf(dialect, empty(dialect, reason, stream), stream), &request).await;
                assert!(met.iter().all(|met| met.as_deref().is_ok_and(str::is_empty)), "{dialect} {reason}: {met:?}");
                assert_eq!(state, CircuitState::Closed);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_empty_for_no_reason_is_the_providers_failure() {
    for (dialect, reason) in [(Dialect::Anthropic, "end_turn"), (Dialect::OpenAi, "stop"), (Dialect::Gemini, "STOP")] {
        for stream in [false, true] {
            for request in requests(false) {
                let request = request.with_stream(stream);
                let (met, state) = ask(leaf(dialect, empty(dialect, reason, stream), stream), &request).await;
                let first = met[0].as_ref().expect_err("nothing came");
                assert_eq!((first.kind(), state), (ErrorKind::EmptyAnswer, CircuitState::Open), "{dialect}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_word_is_passed_on_and_opens_nothing() {
    for stream in [false, true] {
        let request = LlmRequest::prompt("hello").with_stream(stream);
        let refused = empty(Dialect::Anthropic, "refusal", stream);
        let (met, state) = ask(leaf(Dialect::Anthropic, refused, stream), &request).await;
        assert!(met.iter().all(|met| met.as_deref().is_ok_and(str::is_empty)), "{met:?}");
        assert_eq!(state, CircuitState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_word_goes_where_refusals_are_sent() {
    let unlike = |error: &LlmError| error.kind() == ErrorKind::Refusal;
    let eager = Classifier::overridden(move |error, mut class| {
        if unlike(error) {
            class.failover = Failover::Yes;
        }
        class
    });
    let plain = || FallbackLayer::new("a").tier("b", Canned::text("another model's answer"));
    for (layer, text) in [
        (plain(), ""),
        (plain().route(ErrorKind::Refusal, ["b"]), "another model's answer"),
        (plain().classifier(eager), "another model's answer"),
    ] {
        for stream in [false, true] {
            let refused = empty(Dialect::Anthropic, "refusal", stream);
            let llm = layer.clone().layer(leaf(Dialect::Anthropic, refused, stream));
            let answer = llm.oneshot(LlmRequest::prompt("hello").with_stream(stream)).await.unwrap();
            assert_eq!(answer.text().await.unwrap(), text);
        }
    }
}
