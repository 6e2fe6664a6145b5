//! Conversations that a provider compacts (`POST /v1/responses/compact`).

use serde_json::{Value, json};
use steadfast::BoxLlmService;
use steadfast_stack::Stack;
use tokio::time::Instant;

use super::harness::*;
use crate::{Gateway, limits::Settings};

const COMPACT: &str = "/v1/responses/compact";

/// An answer of OpenAI's, shortened.
const COMPACTED: &str = r#"{"created_at":1775105412, "id":"resp_0", "object":"response.compaction","output":[
 {"content":[{"text":"What is 2+2?","type":"input_text"}],"id":"msg_0","role":"user","status":"completed","type":"message"},
 {"encrypted_content":"gAAAAAB","id":"cmp_0","type":"compaction"}],
 "usage":{"input_tokens":156,"input_tokens_details":{"cached_tokens":0},"output_tokens":190,"total_tokens":346}}"#;

const REFUSED: &str =
    r#"{"error":{"message":"Bad item.","type":"invalid_request_error","param":"input[0]","code":null}}"#;

const LIMITED: &str =
    r#"{"error":{"message":"Slow down.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;

/// A request that is spelled as no encoder would spell it.
const ASKED: &str = "{ \"input\" : [ {\"content\":\"What is 2\\u002b2?\", \"role\":\"user\"} ],\n \"own\":1.50, \"model\":\"my-model\"}";

const CONFIG: &str = "
tiers:
  - { name: claude, provider: anthropic, model: claude-sonnet-4-5 }
  - { name: gpt, provider: openai, model: gpt-5.2 }
  - { name: other-key, provider: openai, model: gpt-5.1, api_key: '${OTHER_KEY}' }
prices: { gpt-5.2: { input: 1000, output: 1000 } }
budgets: [{ name: of each, usd: 1000, period: month, each_key: true }]
timeout: 60s
";

/// A stack whose providers give these answers one after the other, and then the last one.
fn stack(answers: &[(u16, &'static str)]) -> (Stack, Sent) {
    scripted(CONFIG, answers)
}

async fn ask(stack: &Stack) -> Answer {
    through(Gateway::from(stack), "POST", COMPACT, &typed(COMPACT, &[]), ASKED.to_owned()).await
}

#[tokio::test]
async fn a_compaction_passes_to_the_tier_that_has_it_and_back_byte_for_byte() {
    let (stack, sent) = stack(&[(200, COMPACTED)]);
    for path in [COMPACT, "/responses/compact"] {
        let answer = through(Gateway::from(&stack), "POST", path, &typed(path, &[]), ASKED.to_owned()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, COMPACTED));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let (url, body) = sent.lock().unwrap().pop().unwrap();
        assert_eq!(url, "https://api.openai.com/v1/responses/compact");
        assert_eq!(body, ASKED.replace("my-model", "gpt-5.2"));
    }
    assert!(sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_compaction_counts_against_its_key_and_is_on_record() {
    let (stack, _) = stack(&[(200, COMPACTED)]);
    let keys = keys_of(&[
        entry("one", "sk-one", ", requests_per_minute: 2, models: [my-model]"),
        entry("other", "sk-other", ", models: [no-model]"),
        entry("admin", "sk-admin", ", admin: true"),
    ]);
    let keys = keys.with_budgets_in(stack.handle()).ok();
    let server = Server::with_stack(&stack, keys, Settings::default()).await;
    let asked: Value = serde_json::from_str(ASKED).unwrap();
    let ask = async |key: &'static str| server.post(COMPACT, &[("x-api-key", key)], &asked).await;
    let answer = ask("sk-one").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let record = server.gateway.records.find(answer.header("x-steadfast-request-id").unwrap()).unwrap().json(true);
    assert_eq!((&record["tier"], &record["outcome"]), (&json!("gpt"), &json!("answered")), "{record}");
    assert_eq!((&record["usage"]["input"], &record["usage"]["output"]), (&json!(156), &json!(190)), "{record}");
    assert_eq!(ask("sk-one").await.status, 200);
    assert_eq!(ask("sk-one").await.status, 429);
    assert_eq!(ask("sk-other").await.status, 403);
    assert_eq!(ask("sk-none").await.status, 401);
    let list = server.get("/admin/keys", &[("x-api-key", "sk-admin")]).await.json();
    let one = list["keys"].as_array().unwrap().iter().find(|key| key["name"] == "one").unwrap();
    let spent = one["budgets"][0]["spentDollars"].as_f64().unwrap();
    assert!((spent - 2.0 * 0.346).abs() < 1e-6, "{one}");
}

#[tokio::test]
async fn a_provider_judges_a_compaction_in_its_own_words() {
    let (stack, sent) = stack(&[(400, REFUSED)]);
    let answer = ask(&stack).await;
    assert_eq!((answer.status, answer.body.as_str()), (400, REFUSED));
    assert_eq!(sent.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_repeat_under_a_key_gets_the_compaction_that_was_made() {
    let (stack, sent) = scripted(&format!("{CONFIG}idempotency: {{ ttl: 1h }}\n"), &[(200, COMPACTED)]);
    let key = [("idempotency-key", "k-1")];
    for _ in 0..2 {
        let asked = through(Gateway::from(&stack), "POST", COMPACT, &typed(COMPACT, &key), ASKED.to_owned()).await;
        assert_eq!((asked.status, asked.body.as_str()), (200, COMPACTED));
    }
    assert_eq!(sent.lock().unwrap().len(), 1);
    // An answer to the same bytes is another request.
    let other = through(Gateway::from(&stack), "POST", RESPONSES, &typed(RESPONSES, &key), ASKED.to_owned()).await;
    assert_eq!((other.status, &other.json()["error"]["code"]), (422, &json!("idempotency_key_reused")), "{other:?}");
}

/// Codex repeats no 429, and another account could not read what this one has sealed.
#[tokio::test(start_paused = true)]
async fn a_rate_limited_compaction_waits_for_its_account() {
    let (stack, sent) = stack(&[(429, LIMITED), (429, LIMITED), (429, LIMITED), (200, COMPACTED)]);
    let begun = Instant::now();
    let answer = ask(&stack).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, COMPACTED));
    assert!(begun.elapsed().as_secs() >= 15, "{:?}", begun.elapsed());
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|(_, body)| *body == ASKED.replace("my-model", "gpt-5.2")), "{sent:?}");
}

#[tokio::test]
async fn without_a_tier_that_has_it_a_compaction_is_refused_by_name() {
    let providers = Providers::start().await;
    let own = steadfast::providers::Canned::text("I have compacted it.");
    for service in [providers.claude(), providers.gpt(), providers.both(), BoxLlmService::new(own)] {
        let server = Server::start(service, Settings::default()).await;
        let answer = server.post(COMPACT, &[], &json!({"model": "m", "input": "hello"})).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (404, &json!("unsupported_path")), "{answer:?}");
        assert!(error["message"].as_str().unwrap().contains(COMPACT), "{answer:?}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    let calls = [&providers.anthropic, &providers.openai].map(|server| server.handle().stats().calls);
    assert_eq!(calls, [0, 0]);
}

#[tokio::test]
async fn a_compaction_that_is_no_request_is_refused_before_a_tier_is_asked() {
    let (stack, sent) = stack(&[(200, COMPACTED)]);
    for body in ["[]", "{\"model\":7}", "{\"model\":\"a\",\"model\":\"b\"}", "{", ""] {
        let answer = through(Gateway::from(&stack), "POST", COMPACT, &typed(COMPACT, &[]), body.to_owned()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error", "{body}: {answer:?}");
    }
    let answer = through(Gateway::from(&stack), "GET", COMPACT, &[], String::new()).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert!(sent.lock().unwrap().is_empty());
}
