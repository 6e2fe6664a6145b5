//! Mistakes in requests of the Responses API. A provider of the dialect judges them by itself; for any other provider
//! the gateway leaves the part out and says so, or refuses the request in the dialect's own form.

use serde_json::{Value, json};

use super::harness::*;
use crate::Gateway;

/// The fate of a request at a provider of another dialect.
enum Elsewhere {
    /// Refused with these words.
    Refused(&'static str),
    /// Answered, with this note.
    Noted(&'static str),
    /// Answered without a note.
    Answered,
}
use Elsewhere::{Answered, Noted, Refused};

fn cases() -> Vec<(&'static str, Value, Elsewhere)> {
    let user = json!({"type": "message", "role": "user", "content": "hello"});
    let call = json!({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "call_1", "output": "7"});
    let tool = json!({"type": "telepathy", "range": 7});
    vec![
        ("an unknown item", json!({"input": [user, {"type": "telepathy_call", "id": "tp_1"}]}), Noted("own_part")),
        (
            "an unknown part",
            json!({"input": [{"role": "user", "content": [
            {"type": "input_text", "text": "hello"}, {"type": "input_scent", "scent": "rose"}]}]}),
            Noted("own_part"),
        ),
        ("an unknown tool", json!({"input": "hello", "tools": [tool]}), Noted("server_tool")),
        (
            "an unknown tool that must be called",
            json!({"input": "hello", "tools": [tool], "tool_choice": {"type": "telepathy"}}),
            Refused("only its own provider runs the tool"),
        ),
        (
            "a response of nobody's",
            json!({"input": "hello", "previous_response_id": "resp_0"}),
            Refused("previous_response_id"),
        ),
        (
            "an item of nobody's",
            json!({"input": [{"type": "item_reference", "id": "msg_0"}]}),
            Refused("item_reference"),
        ),
        ("an input that is a number", json!({"input": 7}), Refused("input must be a text or a list")),
        ("an item that is a number", json!({"input": [7]}), Refused("input")),
        ("a message without content", json!({"input": [{"type": "message", "role": "user"}]}), Answered),
        ("a message of an unknown role", json!({"input": [{"role": "oracle", "content": "hello"}]}), Refused("role")),
        (
            "the other API's messages",
            json!({"messages": [{"role": "user", "content": "hello"}]}),
            Refused("input must be a text or a list"),
        ),
        ("tools that are no list", json!({"input": "hello", "tools": {"type": "function"}}), Refused("tools")),
        (
            "a limit that is a word",
            json!({"input": "hello", "max_output_tokens": "many"}),
            Refused("max_output_tokens"),
        ),
        (
            "the other API's options of streams",
            json!({"input": "hello", "stream_options": {"include_usage": true}}),
            Answered,
        ),
        ("an output without its call", json!({"input": [user, output]}), Noted("orphan_result")),
        ("an output before its call", json!({"input": [user, output, call, output]}), Noted("orphan_result")),
        ("a call without its output", json!({"input": [user, call, user]}), Noted("unanswered_call")),
    ]
}

/// The body of a request, spelled as no encoder would spell it.
fn spelled_oddly(fields: &Value) -> String {
    let fields = fields.to_string();
    format!("{{ \"model\" : \"my-model\",\n \"own\":1.50, {}", &fields[1..])
}

#[tokio::test]
async fn a_provider_of_the_dialect_judges_every_mistake_itself() {
    const REFUSED: &str =
        r#"{ "error":{"message":"No such thing.","type":"invalid_request_error","param":"input","code":null}}"#;
    for (what, fields, _) in cases() {
        let (stack, sent) =
            scripted("tiers: [{ name: gpt, provider: openai, api: responses, model: gpt-5.2 }]", &[(400, REFUSED)]);
        let body = spelled_oddly(&fields).replace("my-model", "gpt-5.2");
        let answer = through(Gateway::from(&stack), "POST", RESPONSES, &typed(RESPONSES, &[]), body.clone()).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, REFUSED), "{what}");
        let (url, got) = sent.lock().unwrap().pop().unwrap_or_else(|| panic!("{what}: {answer:?}"));
        assert_eq!(url, "https://api.openai.com/v1/responses");
        assert_eq!(got, body, "{what}");
        assert!(sent.lock().unwrap().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn other_providers_get_no_mistake_and_the_caller_is_told() {
    const CLAUDE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","stop_reason":"end_turn",
        "content":[{"type":"text","text":"Hello."}],"usage":{"input_tokens":1,"output_tokens":1}}"#;
    const CHAT: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop",
        "message":{"role":"assistant","content":"Hello."}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    const GEMINI: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello."}]},"finishReason":"STOP"}],
        "usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1}}"#;
    let mut wrong = Vec::new();
    for (tier, good) in [
        ("provider: anthropic, model: claude-sonnet-4-5", CLAUDE),
        ("provider: openai, api: chat, model: gpt-5.2", CHAT),
        ("provider: gemini, model: gemini-2.5-flash", GEMINI),
    ] {
        for (what, fields, fate) in cases() {
            let (stack, sent) = scripted(&format!("tiers: [{{ name: other, {tier} }}]"), &[(200, good)]);
            let headers = typed(RESPONSES, &[("x-steadfast-explain", "1")]);
            let answer = through(Gateway::from(&stack), "POST", RESPONSES, &headers, spelled_oddly(&fields)).await;
            let calls = sent.lock().unwrap().len();
            let error = answer.json()["error"].clone();
            let says = |words: &str| error["message"].as_str().is_some_and(|message| message.contains(words));
            let notes = answer.header("x-steadfast-notes").unwrap_or_default();
            let is_right = match fate {
                Refused(words) => {
                    (answer.status, calls) == (400, 0) && error["type"] == "invalid_request_error" && says(words)
                }
                Noted(name) => (answer.status, calls, &*answer.text()) == (200, 1, "Hello.") && notes.contains(name),
                Answered => (answer.status, calls, &*answer.text()) == (200, 1, "Hello."),
            };
            if !is_right {
                wrong.push(format!(
                    "{what} at {tier}: {calls} calls, {}, {notes:?}, {:.300}",
                    answer.status, answer.body
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
