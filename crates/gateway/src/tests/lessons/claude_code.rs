//! Claude Code's requirements of a gateway (its gateway protocol reference, point by point), to the byte.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use steadfast::providers::simulated::{Fault, Simulated};
use tokio::time::Instant;

use super::{house::*, wire::*, *};
use crate::{
    api::Keys,
    tests::harness::{entry, keys_of},
};

/// Claude Code's headers: its betas, its session, its key in both headers.
const HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("authorization", "Bearer sk-of-the-caller"),
    ("x-api-key", "sk-of-the-caller"),
    ("anthropic-version", "2023-06-01"),
    (
        "anthropic-beta",
        "claude-code-20250219,interleaved-thinking-2025-05-14, context-management-2025-06-27 ,unheard-of-2031-01-01",
    ),
    (ACCOUNT, "wrkspc_01"),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("x-app", "cli"),
    ("x-claude-code-session-id", "session-1"),
    ("x-claude-code-agent-id", "agent-1"),
    ("user-agent", "claude-cli/2.1.129 (external, cli)"),
    ("x-stainless-retry-count", "0"),
];

/// The header by which Claude Code chooses a workspace of the account.
const ACCOUNT: &str = "anthropic-workspace-id";
const ASK: &str = "/v1/messages?beta=true";

/// A body in a spelling of its own: spaces, the order of fields, escapes, numbers, what nobody has heard of. The system
/// prompt is a list whose first entry is the attribution that Anthropic takes out by its place.
const BODY: &str = r#"{ "model":"claude-sonnet-4-6" ,"max_tokens": 32000,
 "system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1.129; cch=00000;"},{"text":"You are Claude Code.\u2019s \/ rules","type":"text","cache_control":{"type":"ephemeral","ttl":"1h"}}],
 "messages":[{"role":"user","content":[{"type":"text","text":"<system-reminder>\n</system-reminder>"},{"type":"text","text":"h\u00e9llo é"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"c2ln"},{"type":"tool_use","id":"toolu_01","name":"Bash","input":{"command":"ls","n":1.0e2}}]},{"role":"user","content":[{"tool_use_id":"toolu_01","type":"tool_result","content":"a\r\nb","is_error":false}]}],
 "tools":[{"name":"Bash","description":"","input_schema":{"type":"object","properties":{"command":{"type":"string"}},"additionalProperties":false,"$schema":"http:\/\/json-schema.org/draft-07/schema#"},"strict":true,"defer_loading":true,"eager_input_streaming":true}],
 "thinking":{"type":"adaptive"},"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},"output_config":{"effort":"high"},
 "metadata":{"user_id":"user_1_account__session_1"},"of_tomorrow":12345678901234567890123,"temperature":1.0 }"#;

/// The same without unknown fields, for providers that refuse them.
fn usual() -> String {
    BODY.replacen("\"of_tomorrow\":12345678901234567890123,", "", 1)
}

fn usual_streaming() -> String {
    usual().replacen("\"max_tokens\"", "\"stream\":true,\"max_tokens\"", 1)
}

fn streaming() -> String {
    BODY.replacen("\"max_tokens\"", "\"stream\":true,\"max_tokens\"", 1)
}

/// 1, 3, 5, 6. The path without its query matters; the API's headers and the body go on byte for byte.
#[tokio::test(start_paused = true)]
async fn headers_and_body_reach_anthropic_byte_for_byte_and_credentials_never() {
    let provider = Scripted::new([Reply::json(200, anthropic_answer())]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &provider).build();
    for body in [BODY.to_owned(), streaming()] {
        let answer = house.send("POST", ASK, HEADERS, body.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let seen = provider.seen().pop().unwrap();
        assert_eq!(seen.path, "/v1/messages");
        assert_eq!(seen.body, body);
        let sent = |name: &str| HEADERS.iter().find(|header| header.0 == name).map(|header| header.1);
        // The operator says whose account pays.
        assert!(seen.headers.get(ACCOUNT).is_none());
        let is_apis = |name: &&str| name.starts_with("anthropic-") && *name != ACCOUNT;
        for name in HEADERS.iter().map(|header| header.0).filter(is_apis) {
            let values: Vec<_> = seen.headers.get_all(name).iter().collect();
            assert_eq!(values, [sent(name).unwrap()], "{name}");
        }
        assert_eq!(seen.headers["x-api-key"], "sk-ANTHROPIC_API_KEY");
        assert!(seen.headers.get("authorization").is_none());
        assert!(!format!("{:?}", seen.headers).contains("of-the-caller"));
    }
}

/// 3. An open list, as the caller sends it: several lines stay several, and bytes beyond ASCII are bytes.
#[tokio::test(start_paused = true)]
async fn betas_in_several_lines_stay_so() {
    let provider = Scripted::new([Reply::json(200, anthropic_answer())]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &provider).build();
    let headers = [("anthropic-beta", "a-1,b-2"), ("anthropic-beta", "c-3"), ("anthropic-of-tomorrow", "é")];
    house.send("POST", ASK, &headers, BODY.to_owned()).await;
    let seen = provider.seen().pop().unwrap();
    assert_eq!(seen.headers.get_all("anthropic-beta").iter().collect::<Vec<_>>(), ["a-1,b-2", "c-3"]);
    assert_eq!(seen.headers["anthropic-of-tomorrow"].as_bytes(), "é".as_bytes());
}

/// 5. A tier of another model changes that one value, in its place.
#[tokio::test(start_paused = true)]
async fn only_the_models_name_changes_where_a_tier_has_another() {
    let provider = Scripted::new([Reply::json(200, anthropic_answer())]);
    let house = Plan::of(&TWO.replace("claude-sonnet-4-6", "claude-opus-4-6")).scripted(ANTHROPIC, &provider).build();
    house.send("POST", ASK, HEADERS, streaming()).await;
    assert_eq!(provider.seen()[0].body, streaming().replacen("claude-sonnet-4-6", "claude-opus-4-6", 1));
}

/// A model that turns out not to think clears no thoughts either: Anthropic would refuse that next.
#[tokio::test(start_paused = true)]
async fn thinking_that_is_refused_takes_the_clearing_of_thoughts_along() {
    let words = "adaptive thinking is not supported on this model";
    let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": words}});
    let provider = Scripted::new([Reply::json(400, error.to_string()), Reply::json(200, anthropic_answer())]);
    let tiers = TWO.replace("claude-sonnet-4-6", "our-claude").replacen("max_attempts: 1", "max_attempts: 2", 1);
    let house = Plan::of(&tiers).scripted(ANTHROPIC, &provider).build();
    let answer = house.send("POST", ASK, HEADERS, usual()).await;
    assert_eq!((answer.status, answer.header("x-steadfast-tier")), (200, Some("sonnet")), "{}", answer.body);
    let sent: Value = serde_json::from_str(&provider.seen()[1].body).unwrap();
    assert_eq!((&sent["thinking"], &sent["context_management"]), (&Value::Null, &Value::Null), "{sent}");
}

// B36. QuantumNous/new-api#3041: betas went to a provider that does not know them.
#[tokio::test(start_paused = true)]
async fn betas_and_what_belongs_to_them_go_to_nobody_else() {
    let provider = Scripted::new([Reply::stream(openai_stream())]);
    let overloaded = Scripted::new([Reply::json(529, "{}")]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &overloaded).scripted(OPENAI, &provider).build();
    house.send("POST", ASK, HEADERS, streaming()).await.assert_clean("by OpenAI");
    let seen = provider.seen().pop().unwrap();
    let names: Vec<&str> = seen.headers.keys().map(|name| name.as_str()).collect();
    assert!(names.iter().all(|name| !name.starts_with("anthropic") && !name.starts_with("x-claude")), "{names:?}");
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    for absent in ["thinking", "context_management", "output_config", "system", "metadata", "of_tomorrow"] {
        assert!(body.get(absent).is_none(), "{absent}: {body}");
    }
    assert!(
        body["tools"][0].get("defer_loading").is_none() && body["tools"][0]["function"].get("defer_loading").is_none()
    );
    // The whole conversation is there: the rules, the turn, the call with its result.
    assert_eq!(body["messages"][0]["role"], "system");
    let roles: Vec<&str> =
        body["messages"].as_array().unwrap().iter().map(|turn| turn["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool"]);
    assert_eq!(body["messages"][2]["tool_calls"][0]["id"], body["messages"][3]["tool_call_id"]);
    assert!(!seen.body.contains("adaptive") && !seen.body.contains("c2ln"), "{}", seen.body);
}

/// 2. Each event goes on when it comes.
#[tokio::test(start_paused = true)]
async fn events_are_passed_on_as_they_arrive() {
    const PACE: Duration = Duration::from_millis(700);
    let [start, text, end] = anthropic_stream();
    let pieces = [start.as_str(), PING, &text, PING, &end];
    let provider = Scripted::new([Reply::stream(pieces.map(str::to_owned)).every(PACE)]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &provider).build();
    let answer = house.send("POST", ASK, HEADERS, streaming()).await;
    assert_eq!(answer.body, pieces.concat());
    // The head and all events before the first word come with it, then each event at its time.
    assert_eq!(answer.head, PACE * 3);
    let late = answer.pieces.iter().map(|(at, _)| at.as_millis() / 700).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(late.into_iter().collect::<Vec<_>>(), [3, 4, 5]);
}

/// 2. Signs of life while one model after the other is tried, before anything of an answer is there.
#[tokio::test(start_paused = true)]
async fn pings_come_while_failing_over() {
    let config = TWO.replace("retry: { max_attempts: 1 }", "timeout: { attempt: 25s }");
    let house = Plan::of(&config)
        .simulated(OPENAI, Simulated::new("o").reply("Hello from afar").latency(Duration::from_secs(20)))
        .build();
    house.provider(ANTHROPIC).fail(Fault::Hang);
    let answer = house.send("POST", ASK, HEADERS, usual_streaming()).await;
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.is_whole()),
        (200, "Hello from afar", true),
        "{}",
        answer.body
    );
    let before = answer.body.split("event: message_start").next().unwrap();
    assert_eq!(before, PING.repeat(before.matches("ping\n").count()));
    let at: Vec<u64> = answer.pieces.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(at[..5], [10, 20, 30, 40, 45], "{at:?}");
}

/// Returns an entry for one key with these options.
fn keys(key: &str, more: &str) -> Option<Keys> {
    Some(keys_of(&[entry("one", key, more)]))
}

/// 4. The credential in either header, or in both.
#[tokio::test(start_paused = true)]
async fn the_key_is_taken_from_either_header_and_from_both() {
    let house = Plan::of(TWO).keys(keys("sk-of-the-caller", "")).build();
    let (bearer, own) = (("authorization", "Bearer sk-of-the-caller"), ("x-api-key", "sk-of-the-caller"));
    let stale = ("authorization", "Bearer sk-of-somebody");
    for headers in
        [&[bearer][..], &[own], &[bearer, own], &[stale, own], &[("authorization", "bearer  sk-of-the-caller")]]
    {
        house.send("POST", ASK, headers, usual()).await.assert_clean(&format!("{headers:?}"));
        assert_eq!(house.get("/v1/models?limit=1000", headers).await.status, 200);
    }
    for headers in [&[][..], &[stale], &[("authorization", "Basic c2s=")]] {
        let denied = house.send("POST", ASK, headers, usual()).await;
        denied.assert_error(MESSAGES, 401, "no key");
        assert_eq!(denied.json()["error"]["type"], "authentication_error");
    }
}

/// 7. The words that its own recovery goes by, and their bytes.
const WORDS: [(u16, &str); 6] = [
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.content.0: Invalid `signature` in `thinking` block"},"request_id":"req_1"}"#,
    ),
    (
        400,
        r#"{ "type" : "error", "error":{"message":"messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.","type":"invalid_request_error"} }"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"thinking.type: Input tag 'adaptive' found using 'type' does not match any of the expected tags"}}"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 200001 tokens > 200000 maximum"}}"#,
    ),
    (
        413,
        r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size \u2013 sorry"}}"#,
    ),
    (
        429,
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your account's rate limit."},"request_id":"req_1"}"#,
    ),
];

#[tokio::test(start_paused = true)]
async fn what_anthropic_says_of_an_error_reaches_its_caller_unmodified() {
    let alone =
        "tiers: [{ name: sonnet, provider: anthropic, model: claude-sonnet-4-6, retry: { max_attempts: 1 } }]\n";
    for (status, words) in WORDS {
        for body in [BODY.to_owned(), streaming()] {
            let reply = Reply::json(status, words)
                .header("request-id", "req_1")
                .header("retry-after", "7")
                .header("x-should-retry", "true");
            let provider = Scripted::new([reply]);
            let house = Plan::of(alone).scripted(ANTHROPIC, &provider).build();
            let answer = house.send("POST", ASK, HEADERS, body).await;
            assert_eq!((answer.status, answer.body.as_str()), (status, words));
            assert_eq!(answer.header("request-id"), Some("req_1"));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("retry-after"), (status == 429).then_some("7"));
        }
    }
}

/// 7. Inside a stream too, and after another model of the same house was asked before.
#[tokio::test(start_paused = true)]
async fn its_own_words_are_told_after_failing_over_and_in_a_stream() {
    let config = TWO.replace(
        "provider: openai, model: gpt-4o",
        "provider: anthropic, model: claude-haiku-5-5, base_url: 'http://second/'",
    );
    let words = WORDS[0].1;
    let first = |reply| {
        let (first, second) = (Scripted::new([reply]), Scripted::new([Reply::json(400, words)]));
        Plan::of(&config).scripted(ANTHROPIC, &first).scripted("second", &second).build()
    };
    // Of two failures the first decides, and its words are told beside what failed. A page has no words.
    let answer = first(Reply::json(529, WORDS[5].1)).send("POST", ASK, HEADERS, BODY.to_owned()).await;
    let said: Value = serde_json::from_str(WORDS[5].1).unwrap();
    let told = answer.json()["error"].clone();
    assert_eq!((answer.status, told["type"].as_str()), (429, Some("rate_limit_error")));
    let told = told["message"].as_str().unwrap();
    assert!(told.contains(said["error"]["message"].as_str().unwrap()), "{told}");
    let answer = first(Reply::json(502, "<html>")).send("POST", ASK, HEADERS, BODY.to_owned()).await;
    answer.assert_error(MESSAGES, 503, "a page");
    assert_eq!(answer.json()["error"]["type"], "api_error");
    // A first tier that got no call has no error to show.
    let second = Scripted::new([Reply::json(400, words)]);
    let house = Plan::of(&config).scripted("second", &second).build();
    house.stack.circuit("sonnet").unwrap().force_open();
    let answer = house.send("POST", ASK, HEADERS, BODY.to_owned()).await;
    assert_eq!((answer.status, answer.body.as_str()), (400, words));

    let [start, text, _] = anthropic_stream();
    let event = format!("event: error\ndata: {}\n\n", WORDS[5].1);
    let provider = Scripted::new([Reply::stream([start.clone(), text.clone(), event.clone()])]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &provider).build();
    let answer = house.send("POST", ASK, HEADERS, streaming()).await;
    assert_eq!(answer.body, format!("{start}{text}{event}"));
}

/// Optional: counting tokens.
#[tokio::test(start_paused = true)]
async fn tokens_are_counted_with_its_query_and_its_headers() {
    let house = Plan::of(TWO).build();
    let answer = house.send("POST", "/v1/messages/count_tokens?beta=true", HEADERS, BODY.to_owned()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!((30..500).contains(&answer.json()["input_tokens"].as_u64().unwrap()), "{}", answer.body);
}

/// Three names of one client, each with tiers of its own.
const THREE: &str = "
tiers:
  - { name: opus, provider: anthropic, model: claude-opus-4-6 }
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-6 }
  - { name: haiku, provider: anthropic, model: claude-haiku-5-5 }
  - { name: local, provider: openai, model: qwen3-coder }
models:
  claude-opus-*: { tiers: [opus, sonnet] }
  claude-sonnet-*: { tiers: [sonnet, opus, local] }
  claude-haiku-*: { tiers: [haiku, local] }
  qwen3-coder: { tiers: [local] }
  claude-local: { tiers: [local] }
";

/// Optional: the list for `/model`. It waits three seconds, follows no redirect, and reads these two fields.
#[tokio::test(start_paused = true)]
async fn its_list_of_models_has_names_that_it_shows_and_each_of_them_is_served() {
    for (config, expected) in [
        (
            TWO,
            &[
                "claude-sonnet-4-6",
                "anthropic-compatible/gpt-4o",
                "anthropic-compatible/sonnet",
                "anthropic-compatible/backup",
            ][..],
        ),
        (
            THREE,
            &[
                "claude-local",
                "anthropic-compatible/qwen3-coder",
                "claude-opus-4-6",
                "claude-sonnet-4-6",
                "claude-haiku-5-5",
            ],
        ),
    ] {
        let house = Plan::of(config).build();
        let answer = house.get("/v1/models?limit=1000", HEADERS).await;
        assert_eq!((answer.status, answer.took), (200, Duration::ZERO));
        let list = answer.json();
        let models = list["data"].as_array().unwrap();
        let ids: Vec<&str> = models.iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected);
        assert_eq!(
            (&list["first_id"], &list["last_id"], &list["has_more"]),
            (&json!(ids[0]), &json!(ids[ids.len() - 1]), &json!(false))
        );
        for model in models {
            let id = model["id"].as_str().unwrap();
            assert!(id.starts_with("claude") || id.starts_with("anthropic"), "{id}");
            assert!(model["display_name"].is_string() && model["type"] == "model");
            let mut body: Value = serde_json::from_str(&usual()).unwrap();
            body["model"] = id.into();
            house.post(ASK, HEADERS, &body).await.assert_clean(id);
            assert_eq!(house.get(&format!("/v1/models/{id}"), HEADERS).await.json()["id"], id);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_sees_the_models_that_it_is_for() {
    let keys = keys("sk-of-the-caller", ", models: ['claude-*']");
    let house = Plan::of(THREE).keys(keys).build();
    let list = house.get("/v1/models?limit=1000", HEADERS).await.json();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["claude-local", "claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-5-5"]);
    assert_eq!(house.get("/v1/models/qwen3-coder", HEADERS).await.status, 404);
    // The name that a list would show does not get around this either.
    let mut body = hello(false);
    body["model"] = "anthropic-compatible/qwen3-coder".into();
    assert_eq!(house.post(ASK, HEADERS, &body).await.status, 403);
}

/// `ANTHROPIC_DEFAULT_{OPUS,SONNET,HAIKU}_MODEL`: what runs in the background names the small one.
#[tokio::test(start_paused = true)]
async fn three_names_are_three_chains() {
    let house = Plan::of(THREE).build();
    let tier = async |model: &str| {
        let mut body: Value = serde_json::from_str(&usual_streaming()).unwrap();
        body["model"] = model.into();
        let answer = house.post(ASK, HEADERS, &body).await;
        answer.assert_clean(model);
        answer.header("x-steadfast-tier").unwrap().to_owned()
    };
    assert_eq!(tier("claude-opus-4-6-20250805").await, "opus");
    assert_eq!(tier("claude-sonnet-4-6").await, "sonnet");
    assert_eq!(tier("claude-haiku-5-5-20251001").await, "haiku");
    assert_eq!(tier("anthropic-compatible/qwen3-coder").await, "local");
    house.provider(ANTHROPIC).fail(Fault::Overloaded);
    assert_eq!(tier("claude-haiku-5-5").await, "local");
    assert_eq!(house.steps()[0], "haiku");
}

/// A name that nobody serves is refused in the caller's dialect; where the file names no models, every name is served.
#[tokio::test(start_paused = true)]
async fn an_unknown_model_is_refused_where_models_are_named() {
    let mut body = hello(false);
    body["model"] = "gpt-5-turbo".into();
    for path in PATHS {
        let house = Plan::of(THREE).build();
        let answer = house.post(path, &[], &body).await;
        answer.assert_error(path, 404, path);
        let kind = match path {
            MESSAGES => "not_found_error",
            GEMINI => "NOT_FOUND",
            _ => "invalid_request_error",
        };
        assert_eq!(answer.error_type(), kind);
        assert_eq!((house.calls(ANTHROPIC), house.calls(OPENAI)), (0, 0));
        Plan::of(TWO).build().post(path, &[], &body).await.assert_clean(path);
        let named = format!("{TWO}models: {{ claude-*: {{ tiers: [sonnet] }}, '*': {{ tiers: [backup] }} }}\n");
        let house = Plan::of(&named).build();
        house.post(path, &[], &body).await.assert_clean(path);
        assert_eq!((house.calls(ANTHROPIC), house.calls(OPENAI)), (0, 1));
    }
}

/// Optional: its probe at the start.
#[tokio::test(start_paused = true)]
async fn its_probe_is_answered() {
    let house = Plan::of(TWO).keys(keys("sk-of-the-caller", "")).build();
    assert_eq!(house.send("HEAD", "/", &[], String::new()).await.status, 200);
}

/// Optional: its session keeps to one model where the file says so; an agent of it is of the same session.
#[tokio::test(start_paused = true)]
async fn its_session_is_known_by_its_header() {
    let house = Plan::of(&format!("{TWO}fallback: {{ session: sticky }}\n")).build();
    house.provider(ANTHROPIC).fail_next(1, &Fault::Overloaded);
    let tier = async |session: &str| {
        let headers = [("x-claude-code-session-id", session), ("x-claude-code-agent-id", "agent-2")];
        let answer = house.send("POST", ASK, &headers, usual()).await;
        answer.header("x-steadfast-tier").unwrap().to_owned()
    };
    assert_eq!([tier("one").await, tier("one").await, tier("two").await], ["backup", "backup", "sonnet"]);
}

/// A stream that was given up is asked for again as a whole answer.
#[tokio::test(start_paused = true)]
async fn a_turn_is_repeated_without_a_stream() {
    let house = Plan::of(TWO).build();
    house.provider(ANTHROPIC).fail_next(1, &Fault::StallAfter(2));
    let response = house.begin("POST", ASK, HEADERS, usual_streaming()).await;
    let mut body = response.into_body();
    let begun = Instant::now();
    while !String::from_utf8_lossy(&body.frame().await.unwrap().unwrap().into_data().unwrap()).contains("from") {}
    drop(body);
    assert_eq!((begun.elapsed(), house.provider(ANTHROPIC).stats().cancelled), (Duration::ZERO, 1));
    let whole = house.send("POST", ASK, HEADERS, usual()).await;
    whole.assert_clean("repeated");
    assert_eq!(whole.header("x-steadfast-tier"), Some("sonnet"));
    assert_eq!(whole.json()["type"], "message");
}
