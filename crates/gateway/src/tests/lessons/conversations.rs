//! Conversations that take one turn here and the next there. The simulated providers are as strict about ids,
//! signatures and the order of turns as the real ones.

use serde_json::{Value, json};
use steadfast::providers::simulated::{Fault, Simulated};

use super::{house::*, wire::*, *};

/// The hosts that are down in each turn.
const EVERY_ORDER: [[&str; 3]; 4] = [
    [ANTHROPIC, OPENAI, ANTHROPIC],
    [OPENAI, ANTHROPIC, OPENAI],
    [OPENAI, OPENAI, ANTHROPIC],
    [ANTHROPIC, ANTHROPIC, OPENAI],
];

fn tools(path: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    match path {
        MESSAGES => json!([{"name": "weather", "input_schema": schema}]),
        _ => json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]),
    }
}

/// Returns the caller's additions to its history: the answer, and a result for each of its calls.
fn goes_on(path: &str, answer: &Value) -> Vec<Value> {
    if path == MESSAGES {
        let content = &answer["content"];
        let calls = content.as_array().unwrap().iter().filter(|block| block["type"] == "tool_use");
        let results: Vec<Value> = calls
            .map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "It rains."}))
            .collect();
        let asked = if results.is_empty() { json!("And tomorrow?") } else { json!(results) };
        return vec![json!({"role": "assistant", "content": content}), json!({"role": "user", "content": asked})];
    }
    let message = answer["choices"][0]["message"].clone();
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    let mut turns = vec![message];
    turns.extend(calls.iter().map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "It rains."})));
    if calls.is_empty() {
        turns.push(json!({"role": "user", "content": "And tomorrow?"}));
    }
    turns
}

// B30, B31. BerriAI/litellm PR #39144: ids that the fallback had made were refused by the primary in the next turn.
// badrisnarayanan/antigravity-claude-proxy#120: "Expected thinking", after a turn elsewhere.
#[tokio::test(start_paused = true)]
async fn a_conversation_with_tools_goes_on_whoever_serves_the_next_turn() {
    for path in TWO_PATHS {
        for order in EVERY_ORDER {
            let simulated = |name| Simulated::new(name).reply("It rains.").call_tools(json!({"city": "Oslo"}));
            let house = Plan::of(TWO).simulated(ANTHROPIC, simulated("a")).simulated(OPENAI, simulated("o")).build();
            let mut request = hello(false);
            request["tools"] = tools(path);
            for (turn, serves) in order.into_iter().enumerate() {
                house.provider(ANTHROPIC).heal();
                if serves == OPENAI {
                    house.provider(ANTHROPIC).fail(Fault::Overloaded);
                }
                let answer = house.post(path, &[], &request).await;
                let case = format!("{path} {order:?}, turn {turn}: {}\n{request}", answer.body);
                assert_eq!(answer.status, 200, "{case}");
                let tier = if serves == OPENAI { "backup" } else { "sonnet" };
                assert_eq!(answer.header("x-steadfast-tier"), Some(tier), "{case}");
                let turns = goes_on(path, &answer.json());
                request["messages"].as_array_mut().unwrap().extend(turns);
            }
            assert!(request.to_string().contains("weather"), "a tool was called: {request}");
        }
    }
}

// B32. BerriAI/litellm#29428: signatures were lost, and the next turn with tools was refused.
#[tokio::test(start_paused = true)]
async fn a_signed_thought_comes_back_as_it_was_after_a_turn_elsewhere() {
    let content = json!([
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVkK/8="},
        {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Oslo"}},
    ]);
    for path in TWO_PATHS {
        let anthropic = Scripted::new([
            Reply::json(200, anthropic_answer_of(&content)),
            Reply::json(529, "{}"),
            Reply::json(200, anthropic_answer()),
        ]);
        let house = Plan::of(TWO).scripted(ANTHROPIC, &anthropic).build();
        let mut request = hello(false);
        request["max_tokens"] = 4000.into();
        request["tools"] = tools(path);
        for _ in 0..3 {
            let answer = house.post(path, &[], &request).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let turns = goes_on(path, &answer.json());
            request["messages"].as_array_mut().unwrap().extend(turns);
        }
        assert_eq!(house.calls(OPENAI), 1, "the second turn");
        let last: Value = serde_json::from_str(&anthropic.seen()[2].body).unwrap();
        let thought = &last["messages"][1]["content"][0];
        // If the caller does not ask for thinking, thoughts need not go back. Thoughts that go back are unchanged.
        if path == MESSAGES || thought["type"] == "thinking" {
            assert_eq!(*thought, content[0], "{path}: {last}");
        }
        assert!(!last.to_string().contains("call_"), "{last}");
    }
}

/// A client sends back whatever an answer has, also to a server that is older than those fields.
#[tokio::test(start_paused = true)]
async fn a_turn_from_elsewhere_is_taken_by_a_server_that_does_not_know_its_fields() {
    let refusal = |words: &str| {
        let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": words}});
        Reply::json(400, error.to_string())
    };
    let called = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "I look.",
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    });
    let anthropic = Scripted::new([
        Reply::json(529, "{}"),
        refusal("messages.1.content.0.text.citations: Extra inputs are not permitted"),
        refusal("messages.1.content.1.tool_use.caller: Extra inputs are not permitted"),
        Reply::json(200, anthropic_answer()),
    ]);
    let openai = Scripted::new([Reply::json(200, called.to_string())]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &anthropic).scripted(OPENAI, &openai).build();
    let mut request = hello(false);
    request["tools"] = tools(MESSAGES);
    for tier in ["backup", "sonnet"] {
        let answer = house.post(MESSAGES, &[], &request).await;
        assert_eq!((answer.status, answer.header("x-steadfast-tier")), (200, Some(tier)), "{}", answer.body);
        request["messages"].as_array_mut().unwrap().extend(goes_on(MESSAGES, &answer.json()));
    }
    let last: Value = serde_json::from_str(&anthropic.seen()[3].body).unwrap();
    let content = &last["messages"][1]["content"];
    assert_eq!((&content[0]["text"], &content[1]["name"]), (&json!("I look."), &json!("weather")), "{last}");
    assert!(!last.to_string().contains("citations") && !last.to_string().contains("caller"), "{last}");
}

// B33. BerriAI/litellm PR #38153: a whole answer that was made into a stream lost its signatures.
#[tokio::test(start_paused = true)]
async fn a_whole_answer_to_a_stream_has_every_event_that_a_stream_has() {
    // With the fields that the published schema requires.
    let content = json!([
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"},
        {"type": "text", "text": "Hello from afar", "citations": null},
        {"type": "tool_use", "id": "toolu_1", "name": "run", "input": {"cmd": "ls"}, "caller": {"type": "direct"}},
        {"type": "tool_use", "id": "toolu_2", "name": "run", "input": {}, "caller": {"type": "direct"}},
    ]);
    let provider = Scripted::new([Reply::json(200, anthropic_answer_of(&content))]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &provider).build();
    let answer = house.post(MESSAGES, &[], &hello(true)).await;
    assert_eq!((answer.status, answer.is_whole()), (200, true), "{}", answer.body);
    assert_eq!(assembled(&answer.events()), content, "{}", answer.body);
    assert!(answer.body.contains("signature_delta"), "{}", answer.body);
}

// B49. maximhq/bifrost#3512: blocks of a stream overlapped, and of several calls the first was left.
#[tokio::test(start_paused = true)]
async fn calls_side_by_side_are_blocks_one_after_the_other() {
    let call = |index: u32, id: Option<&str>, arguments: &str| {
        let mut call = json!({"index": index, "function": {"arguments": arguments}});
        if let Some(id) = id {
            call["id"] = id.into();
            call["type"] = "function".into();
            call["function"]["name"] = "run".into();
        }
        chunk(&json!({"tool_calls": [call]}), None)
    };
    // The pieces of two calls alternate, as some servers send them.
    let pieces = [
        role(),
        call(0, Some("call_a"), ""),
        call(1, Some("call_b"), ""),
        call(0, None, "{\"n\":"),
        call(1, None, "{\"n\":"),
        call(0, None, "1}"),
        call(1, None, "2}"),
        chunk(&json!({}), Some("tool_calls")),
        DONE.to_owned(),
    ];
    let provider = Scripted::new([Reply::stream(pieces)]);
    let house = Plan::of(TURNED).scripted(OPENAI, &provider).build();
    let answer = house.post(MESSAGES, &[], &hello(true)).await;
    assert!(answer.is_whole(), "{}", answer.body);
    let content = assembled(&answer.events());
    let inputs: Vec<&Value> = content.as_array().unwrap().iter().map(|block| &block["input"]).collect();
    assert_eq!(inputs, [&json!({"n": 1}), &json!({"n": 2})], "{}", answer.body);
    assert_ne!(content[0]["id"], content[1]["id"]);
}

/// The content of Anthropic's events, by the grammar that its clients hold them to: blocks are numbered from nothing,
/// begin once, end once, and do not overlap.
fn assembled(events: &[Value]) -> Value {
    assert_eq!(events[0]["type"], "message_start");
    let mut content: Vec<Value> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for event in &events[1..] {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(open.is_none(), "{event}: the block before is not at its end");
                assert_eq!(event["index"], content.len());
                content.push(event["content_block"].clone());
                open = Some((content.len() - 1, String::new()));
            }
            "content_block_delta" => {
                let (index, json) = open.as_mut().unwrap_or_else(|| panic!("{event}: no block is open"));
                assert_eq!(event["index"], *index);
                let (delta, block) = (&event["delta"], content.last_mut().unwrap());
                for (kind, field) in
                    [("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature")]
                {
                    if delta["type"] == kind {
                        let whole =
                            format!("{}{}", block[field].as_str().unwrap_or_default(), delta[field].as_str().unwrap());
                        block[field] = whole.into();
                    }
                }
                if delta["type"] == "input_json_delta" {
                    json.push_str(delta["partial_json"].as_str().unwrap());
                }
            }
            "content_block_stop" => {
                let (index, json) = open.take().unwrap_or_else(|| panic!("{event}: no block is open"));
                assert_eq!(event["index"], index);
                if content[index]["type"] == "tool_use" && !json.is_empty() {
                    content[index]["input"] = serde_json::from_str(&json).unwrap();
                }
            }
            "message_delta" | "message_stop" | "ping" => assert!(open.is_none(), "{event}: a block is open"),
            other => panic!("{other}"),
        }
    }
    content.into()
}

// B36, B50, B51 for a third house: what Gemini wants of a history that others have made.
#[tokio::test(start_paused = true)]
async fn a_history_with_foreign_calls_and_schemas_is_taken_by_each_house_in_the_chain() {
    const GEMINI: &str = "generativelanguage.googleapis.com";
    let config = "
tiers:
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5, retry: { max_attempts: 1 } }
  - { name: gemini, provider: gemini, model: gemini-3-pro-preview, retry: { max_attempts: 1 } }
  - { name: backup, provider: openai, model: gpt-4o, retry: { max_attempts: 1 } }
";
    for path in TWO_PATHS {
        for down in [&[ANTHROPIC][..], &[ANTHROPIC, GEMINI]] {
            let simulated = |name| Simulated::new(name).reply("It rains.").call_tools(json!({"city": "Oslo"}));
            let house = Plan::of(config)
                .simulated(ANTHROPIC, simulated("a"))
                .simulated(GEMINI, simulated("g"))
                .simulated(OPENAI, simulated("o"))
                .build();
            let mut request = hello(false);
            request["tools"] = tools(path);
            let first = house.post(path, &[], &request).await;
            assert_eq!(first.header("x-steadfast-tier"), Some("sonnet"));
            request["messages"].as_array_mut().unwrap().extend(goes_on(path, &first.json()));
            for host in down {
                house.provider(host).fail(Fault::Overloaded);
            }
            let second = house.post(path, &[], &request).await;
            assert_eq!((second.status, house.steps().len()), (200, down.len() + 1), "{path} {down:?}: {}", second.body);
        }
    }
}
