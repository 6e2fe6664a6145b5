//! Flags of the header `anthropic-beta` that a server refuses.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use http::HeaderMap;
use serde_json::{Value, json};
use steadfast::{Dialect, ErrorKind, FallbackLayer, LlmRequest, Wire};
use tower::Layer;

use super::{Llm, Server, ask};

const ANTHROPIC: &str = "https://api.anthropic.com";

/// A turn of Claude Code's.
fn claude_code(model: &str, stream: bool) -> LlmRequest {
    let body = json!({"model": model, "max_tokens": 50, "stream": stream, "context_management": {"edits": []},
        "messages": [{"role": "user", "content": "?"}]});
    let mut headers = HeaderMap::new();
    headers.append("anthropic-beta", "claude-code-20250219,context-management-2025-06-27".parse().unwrap());
    headers.append("anthropic-beta", "a-flag-of-tomorrow-2027-01-01".parse().unwrap());
    headers.insert("anthropic-version", "2023-06-01".parse().unwrap());
    let wire = Wire::new(Dialect::Anthropic, body.to_string()).unwrap().headers(headers);
    LlmRequest::from(wire).with_stream(stream)
}

fn flags(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all("anthropic-beta").iter().map(|value| value.to_str().unwrap());
    lists.flat_map(|list| list.split(',')).map(|flag| flag.trim().to_owned()).collect()
}

fn error(message: &str) -> Value {
    json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}})
}

/// Words for a flag that a server does not know: Anthropic's own, Vertex AI's, and those of servers of its protocol.
const FORMS: [fn(&str) -> String; 5] = [
    |flag| {
        format!(
            "Unexpected value(s) `{flag}` for the `anthropic-beta` header. Please consult our documentation at docs.anthropic.com or try again without the header."
        )
    },
    |flag| format!("anthropic-beta: unsupported beta '{flag}'"),
    |flag| format!("Unsupported beta flag: {flag}."),
    |flag| {
        format!(
            "litellm.BadRequestError: AnthropicException - {}",
            error(&format!("Unexpected value(s) `{flag}` for the `anthropic-beta` header."))
        )
    },
    |flag| format!("The beta feature {flag} is not available (request id: 2026)"),
];

/// A server without a flag, and without the field that belongs to it.
fn server(form: fn(&str) -> String, refused: &'static str) -> Server {
    Server::new(Dialect::Anthropic, move |body, headers| {
        if flags(headers).iter().any(|flag| flag == refused) {
            return Some((400, error(&form(refused))));
        }
        let is_orphan = refused.starts_with("context-management") && body.get("context_management").is_some();
        is_orphan.then(|| (400, error("context_management: Extra inputs are not permitted")))
    })
}

#[tokio::test(start_paused = true)]
async fn a_refused_flag_is_left_out_with_its_field_and_from_then_on_at_the_first_call() {
    for (refused, first) in
        [("claude-code-20250219", 2), ("context-management-2025-06-27", 3), ("a-flag-of-tomorrow-2027-01-01", 2)]
    {
        for form in FORMS {
            for model in ["served", "claude-sonnet-4-5"] {
                let server = server(form, refused);
                let llm = server.llm();
                for calls in [first, 1] {
                    let notes = ask(&llm, claude_code(model, calls == 1)).await;
                    let notes = notes.unwrap_or_else(|error| panic!("{refused}: {error}"));
                    assert!(notes.contains(&format!("`anthropic-beta: {refused}` was left out")), "{notes}");
                    let sent = server.take();
                    assert_eq!(sent.len(), calls, "{refused} {}", form(refused));
                    let mut expected = flags(&sent[0].1);
                    expected.retain(|flag| flag != refused);
                    assert_eq!(flags(&sent.last().unwrap().1), expected);
                    assert_eq!(expected.len(), 2);
                    assert_eq!(sent.last().unwrap().1["anthropic-version"], "2023-06-01");
                }
            }
        }
    }
}

/// An error that names no flag may be about each.
#[tokio::test(start_paused = true)]
async fn an_error_without_a_name_takes_all_flags_of_this_request() {
    let server = Server::new(Dialect::Anthropic, |_, headers| {
        (!flags(headers).is_empty()).then(|| (400, error("invalid beta flag")))
    });
    let llm = server.llm();
    for _ in 0..2 {
        ask(&llm, claude_code("served", false)).await.unwrap();
        assert_eq!(server.take().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn at_anthropics_own_server_it_is_the_callers_mistake() {
    let server = server(FORMS[0], "a-flag-of-tomorrow-2027-01-01");
    let refused = ask(&server.llm_at(ANTHROPIC), claude_code("served", false)).await.unwrap_err();
    assert_eq!((refused.kind(), server.take().len()), (ErrorKind::InvalidRequest, 1));
}

#[tokio::test(start_paused = true)]
async fn the_flags_go_with_every_attempt_and_to_every_tier_of_the_dialect() {
    let down = |times: u32| {
        let count = AtomicU32::new(0);
        Server::new(Dialect::Anthropic, move |_, _| {
            let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
            (count.fetch_add(1, Relaxed) < times).then_some((529, error))
        })
    };
    let (first, second) = (down(10), down(1));
    let llm = Llm::new(FallbackLayer::new("first").tier("second", second.llm()).layer(first.llm()));
    ask(&llm, claude_code("served", true)).await.unwrap();
    let (first, second) = (first.take(), second.take());
    assert!(!first.is_empty() && second.len() == 2);
    assert!(first.iter().chain(&second).all(|(_, headers)| flags(headers).len() == 3));
}
