//! Whole sessions of twenty turns, by clients that behave as Claude Code and Codex do, over two providers that take
//! turns to fail: whoever answers, the other one gets the results.
//!
//! The servers check what their vendors check (`steadfast_simulator::check`), and beyond that each knows its own fields
//! alone, and the signatures and thoughts that it gave itself. None of them may refuse a request.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use steadfast::Dialect;
use steadfast_simulator::check;

use super::{
    house::*,
    wire::{DONE, block, event, text_block},
    *,
};

const GOOGLE: &str = "generativelanguage.googleapis.com";
const DEEPSEEK: &str = "api.deepseek.com";
const GROQ: &str = "api.groq.com";
const VLLM: &str = "vllm.internal:8000";

const TURNS: usize = 20;

/// A server that speaks as its vendor's does, and refuses what it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vendor {
    Anthropic,
    OpenAi,
    Google,
    DeepSeek,
    Groq,
    Vllm,
}

impl Vendor {
    fn dialect(self) -> Dialect {
        match self {
            Self::Anthropic => Dialect::Anthropic,
            Self::OpenAi => Dialect::Responses,
            Self::Google => Dialect::Gemini,
            _ => Dialect::OpenAi,
        }
    }

    /// The settings that a server of Chat Completions knows, by its documentation of November 2026.
    fn fields(self) -> Option<Vec<&'static str>> {
        let common = "model messages tools tool_choice max_tokens temperature top_p stop stream stream_options \
                      response_format frequency_penalty presence_penalty logprobs top_logprobs reasoning_effort";
        let more = match self {
            Self::DeepSeek => "thinking",
            Self::Groq => "max_completion_tokens parallel_tool_calls seed user service_tier reasoning_format n",
            Self::Vllm => "max_completion_tokens parallel_tool_calls seed user n top_k min_p",
            _ => return None,
        };
        Some(common.split_whitespace().chain(more.split_whitespace()).collect())
    }

    /// The field of a turn's thoughts.
    fn thoughts(self) -> &'static str {
        if self == Self::DeepSeek { "reasoning_content" } else { "reasoning" }
    }

    /// The model's name by which the rules of this vendor are known.
    fn ruled(self, model: &str) -> String {
        match self {
            Self::DeepSeek => "deepseek-v4".to_owned(),
            Self::Groq => format!("groq/{model}"),
            _ => model.to_owned(),
        }
    }
}

/// The turns that a server has seen and given.
#[derive(Default)]
struct Ledger {
    /// The number of its answers.
    answers: usize,
    /// The signatures and thoughts that it gave.
    given: BTreeSet<String>,
    /// The ones that came back to it.
    back: usize,
    refused: Vec<String>,
}

/// A server with its ledger. It fails each time that `fails` says so, by the number of the request.
fn server(vendor: Vendor, fails: fn(usize) -> bool, requests: &Arc<Mutex<usize>>) -> (Scripted, Arc<Mutex<Ledger>>) {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (kept, requests) = (ledger.clone(), requests.clone());
    let acting = Scripted::acting(move |seen| {
        let mut ledger = kept.lock().unwrap();
        let body: Value = serde_json::from_str(&seen.body).unwrap();
        let in_path = seen.path.split("/models/").nth(1).and_then(|rest| rest.split(':').next());
        let model = in_path.or_else(|| body["model"].as_str()).unwrap_or_default().to_owned();
        if let Err(fault) = judge(vendor, &model, &body, &mut ledger) {
            ledger.refused.push(format!("{fault}: {body}"));
            return Reply::json(400, json!({"error": {"message": fault, "type": "invalid_request_error"}}).to_string());
        }
        if fails(*requests.lock().unwrap()) && model != "gemini-3-pro-preview" {
            return Reply::json(
                503,
                r#"{"error":{"message":"The model is overloaded.","code":503,"status":"UNAVAILABLE"}}"#,
            );
        }
        ledger.answers += 1;
        let number = ledger.answers;
        let answer = answer(vendor, &model, number, ends_with_results(vendor.dialect(), &body), &mut ledger.given);
        Reply::stream([answer])
    });
    (acting, ledger)
}

/// Judges a request as the vendor does.
fn judge(vendor: Vendor, model: &str, body: &Value, ledger: &mut Ledger) -> Result<(), String> {
    check(vendor.dialect(), &vendor.ruled(model), body)?;
    if let Some(known) = vendor.fields() {
        if let Some(name) = body.as_object().unwrap().keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("property '{name}' is unsupported"));
        }
        for message in body["messages"].as_array().unwrap() {
            if message["role"] == "developer" {
                return Err("unknown role developer".to_owned());
            }
        }
        if body["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["type"] != "function")) {
            return Err("only functions are tools here".to_owned());
        }
        if body.to_string().contains("cache_control") {
            return Err("property 'cache_control' is unsupported".to_owned());
        }
    }
    for token in tokens(vendor, body) {
        if ledger.given.contains(&token) {
            ledger.back += 1;
        } else if token != "skip_thought_signature_validator" && token != "(no thoughts)" {
            return Err(format!("the signature {token} is not ours"));
        }
    }
    Ok(())
}

/// Returns the signatures of a request, and the thoughts where a server signs none.
fn tokens(vendor: Vendor, body: &Value) -> Vec<String> {
    fn walk(value: &Value, names: &[&str], found: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, names, found)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(text) if names.contains(&name.as_str()) => found.push(text.clone()),
                        value => walk(value, names, found),
                    }
                }
            }
            _ => {}
        }
    }
    let (names, within): (&[&str], _) = match vendor {
        Vendor::Anthropic => (&["signature"], &body["messages"]),
        Vendor::OpenAi => (&["encrypted_content"], &body["input"]),
        Vendor::Google => (&["thoughtSignature"], &body["contents"]),
        Vendor::DeepSeek | Vendor::Groq | Vendor::Vllm => {
            (&["reasoning_content", "reasoning", "thought_signature", "signature"], &body["messages"])
        }
    };
    let mut found = Vec::new();
    walk(within, names, &mut found);
    found
}

fn ends_with_results(dialect: Dialect, body: &Value) -> bool {
    let last = |name: &str| body[name].as_array().and_then(|items| items.last().cloned()).unwrap_or_default();
    match dialect {
        Dialect::Anthropic => last("messages").to_string().contains("tool_result"),
        Dialect::Responses => last("input")["type"].as_str().is_some_and(|kind| kind.ends_with("_output")),
        Dialect::Gemini => last("contents").to_string().contains("functionResponse"),
        _ => last("messages")["role"] == "tool",
    }
}

/// Returns a stream of a thought, and of words or two calls.
fn answer(vendor: Vendor, model: &str, number: usize, words: bool, given: &mut BTreeSet<String>) -> String {
    let thought = format!("{vendor:?} thinks of {model}, {number}.");
    let signature: String = format!("{vendor:?}{number:04}").chars().filter(char::is_ascii_alphanumeric).collect();
    let text = format!("Here is answer {number}");
    let calls = if words { vec![] } else { vec![("read", "{\"path\":\"a.rs\"}"), ("read", "{\"path\":\"b.rs\"}")] };
    let id = |at: usize, of: &str| format!("{of}{vendor:?}{number}x{at}");
    match vendor {
        Vendor::Anthropic => {
            given.insert(signature.clone());
            let start = json!({"type": "message_start", "message": {"id": format!("msg_{number}"), "type": "message", "role": "assistant",
                "model": model, "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 7, "output_tokens": 1}}});
            let mut all = event(&start);
            all += &block(
                0,
                &json!({"type": "thinking", "thinking": "", "signature": ""}),
                &[
                    json!({"type": "thinking_delta", "thinking": thought}),
                    json!({"type": "signature_delta", "signature": signature}),
                ],
            );
            all += &text_block(1, &text);
            for (at, (name, arguments)) in calls.iter().enumerate() {
                let start = json!({"type": "tool_use", "id": id(at, "toolu_"), "name": name, "input": {}});
                all += &block(at as u32 + 2, &start, &[json!({"type": "input_json_delta", "partial_json": arguments})]);
            }
            let reason = if words { "end_turn" } else { "tool_use" };
            all += &event(
                &json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 9}}),
            );
            all + &event(&json!({"type": "message_stop"}))
        }
        Vendor::OpenAi => {
            given.insert(signature.clone());
            let mut items = vec![json!({"type": "reasoning", "id": id(0, "rs_"), "encrypted_content": signature,
                "summary": [{"type": "summary_text", "text": thought}]})];
            items.push(json!({"type": "message", "id": id(0, "msg_"), "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}]}));
            for (at, (name, arguments)) in calls.iter().enumerate() {
                items.push(
                    json!({"type": "function_call", "id": id(at, "fc_"), "call_id": id(at, "call_"), "name": name,
                    "arguments": arguments, "status": "completed"}),
                );
            }
            let response = |status: &str, output: Value| {
                json!({"id": format!("resp_{number}"), "object": "response", "model": model,
                "status": status, "output": output, "usage": {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}})
            };
            let mut events = vec![json!({"type": "response.created", "response": response("in_progress", json!([]))})];
            for (place, item) in items.iter().enumerate() {
                events.push(json!({"type": "response.output_item.added", "output_index": place, "item": item}));
                events.push(json!({"type": "response.output_item.done", "output_index": place, "item": item}));
            }
            events.push(json!({"type": "response.completed", "response": response("completed", json!(items))}));
            let numbered = events.into_iter().enumerate().map(|(number, mut it)| {
                it["sequence_number"] = number.into();
                event(&it)
            });
            numbered.collect()
        }
        Vendor::Google => {
            let is_third = model.starts_with("gemini-3");
            let mut parts = vec![json!({"text": thought, "thought": true}), json!({ "text": text })];
            for (at, (name, arguments)) in calls.iter().enumerate() {
                let args: Value = serde_json::from_str(arguments).unwrap();
                let mut part = json!({"functionCall": {"name": name, "args": args}});
                // The second generation signs some calls, the third the first of each step.
                if at == 0 && (is_third || number.is_multiple_of(3)) {
                    part["thoughtSignature"] = signature.clone().into();
                    given.insert(signature.clone());
                }
                parts.push(part);
            }
            let last = parts.len() - 1;
            let chunk = |(place, part): (usize, &Value)| {
                let mut candidate = json!({"content": {"role": "model", "parts": [part]}, "index": 0});
                if place == last {
                    candidate["finishReason"] = "STOP".into();
                }
                format!(
                    "data: {}\r\n\r\n",
                    json!({"candidates": [candidate], "modelVersion": model,
                    "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 9, "totalTokenCount": 16}})
                )
            };
            parts.iter().enumerate().map(chunk).collect()
        }
        Vendor::DeepSeek | Vendor::Groq | Vendor::Vllm => {
            given.insert(thought.clone());
            let chunk = |delta: Value, finish: Value| {
                let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
                format!(
                    "data: {}\n\n",
                    json!({"id": format!("chatcmpl-{number}"), "object": "chat.completion.chunk", "created": 1,
                    "model": model, "choices": [choice]})
                )
            };
            let mut all = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
            let (begin, end) = thought.split_at(9);
            for piece in [begin, end] {
                all += &chunk(json!({vendor.thoughts(): piece}), Value::Null);
            }
            all += &chunk(json!({ "content": text }), Value::Null);
            for (at, (name, arguments)) in calls.iter().enumerate() {
                let id = if vendor == Vendor::Vllm {
                    format!("functions.{name}:{}", number * 2 + at)
                } else {
                    id(at, "call_")
                };
                all += &chunk(
                    json!({"tool_calls": [{"index": at, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]}),
                    Value::Null,
                );
            }
            all += &chunk(json!({}), if words { "stop" } else { "tool_calls" }.into());
            let usage = json!({"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16});
            all += &format!(
                "data: {}\n\n",
                json!({"id": format!("chatcmpl-{number}"), "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [], "usage": usage})
            );
            all + DONE
        }
    }
}

/// Claude Code's requests.
struct ClaudeCode {
    messages: Vec<Value>,
}

impl ClaudeCode {
    const HEADERS: [(&'static str, &'static str); 4] = [
        ("anthropic-version", "2023-06-01"),
        (
            "anthropic-beta",
            "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,fine-grained-tool-streaming-2025-05-14",
        ),
        ("user-agent", "claude-cli/2.1.129 (external, cli)"),
        ("x-app", "cli"),
    ];

    /// The request, with marks at the system prompt and at the last turn.
    fn body(&self) -> Value {
        let mark = json!({"type": "ephemeral"});
        let mut messages = self.messages.clone();
        if let Some(last) = messages.last_mut().and_then(|turn| turn["content"].as_array_mut()?.last_mut()) {
            last["cache_control"] = mark.clone();
        }
        let tool = |name: &str| {
            json!({"name": name, "description": "A tool.", "input_schema": {"$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": false}})
        };
        json!({
            "model": "claude-sonnet-4-5", "max_tokens": 16000, "stream": true,
            "system": [{"type": "text", "text": "You are Claude Code.", "cache_control": mark}, {"type": "text", "text": "Rules.", "cache_control": mark}],
            "messages": messages, "tools": [tool("read"), tool("write"), tool("mcp__files__list")],
            "thinking": {"type": "enabled", "budget_tokens": 8000},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "metadata": {"user_id": "user_1_account__session_1"},
        })
    }

    fn ask(&mut self, text: &str) {
        self.messages.push(json!({"role": "user", "content": [{"type": "text", "text": text}]}));
    }

    /// Takes an answer; returns whether it has calls, whose results are the next turn.
    fn take(&mut self, answer: &str) -> bool {
        let mut blocks: Vec<Value> = Vec::new();
        for event in data(answer) {
            match event["type"].as_str().unwrap() {
                "message_start" => assert!(event["message"]["usage"]["input_tokens"].as_u64().unwrap() > 0, "{event}"),
                "content_block_start" => blocks.push(event["content_block"].clone()),
                "content_block_delta" => {
                    let (block, delta) = (blocks.last_mut().unwrap(), &event["delta"]);
                    for (from, to) in [
                        ("text", "text"),
                        ("thinking", "thinking"),
                        ("signature", "signature"),
                        ("partial_json", "json"),
                    ] {
                        if let Some(more) = delta[from].as_str() {
                            block[to] = (block[to].as_str().unwrap_or_default().to_owned() + more).into();
                        }
                    }
                }
                "content_block_stop" => {
                    let fields = blocks.last_mut().unwrap().as_object_mut().unwrap();
                    if let Some(json) = fields.remove("json") {
                        fields.insert("input".into(), serde_json::from_str(json.as_str().unwrap()).unwrap());
                    }
                }
                "error" => panic!("{event}"),
                _ => {}
            }
        }
        let ids: Vec<Value> = blocks.iter().filter(|it| it["type"] == "tool_use").map(|it| it["id"].clone()).collect();
        assert!(
            ids.iter().all(|id| id
                .as_str()
                .unwrap()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))),
            "{ids:?}"
        );
        self.messages.push(json!({"role": "assistant", "content": blocks}));
        let results: Vec<Value> = ids.iter().map(|id| json!({"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": "fn main() {}"}]})).collect();
        if !results.is_empty() {
            self.messages.push(json!({"role": "user", "content": results}));
        }
        !ids.is_empty()
    }
}

/// Codex's requests.
struct Codex {
    input: Vec<Value>,
}

impl Codex {
    fn body(&self) -> Value {
        let parameters = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": false});
        json!({
            "model": "gpt-5.5", "instructions": "You are Codex.", "input": self.input, "stream": true, "store": false,
            "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "medium", "summary": "auto"},
            "text": {"verbosity": "low"}, "parallel_tool_calls": true, "tool_choice": "auto", "prompt_cache_key": "session-1",
            "tools": [
                {"type": "function", "name": "read", "description": "A tool.", "strict": false, "parameters": parameters},
                {"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}},
                {"type": "web_search", "external_web_access": true},
            ],
        })
    }

    fn ask(&mut self, text: &str) {
        self.input.push(json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}));
    }

    fn take(&mut self, answer: &str) -> bool {
        let last = data(answer).pop().unwrap();
        assert_eq!(last["type"], "response.completed", "{last}");
        let output = last["response"]["output"].as_array().unwrap().clone();
        let calls: Vec<Value> =
            output.iter().filter(|item| item["type"] == "function_call").map(|item| item["call_id"].clone()).collect();
        // Codex sends no ids of messages and calls back.
        self.input.extend(output.into_iter().map(|mut item| {
            if item["type"] != "reasoning" {
                item.as_object_mut().unwrap().remove("id");
            }
            item.as_object_mut().unwrap().remove("status");
            item
        }));
        self.input.extend(
            calls.iter().map(|id| json!({"type": "function_call_output", "call_id": id, "output": "fn main() {}"})),
        );
        !calls.is_empty()
    }
}

fn data(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// A chain of tiers, and the servers behind it with their hosts.
type Chain = (&'static str, &'static [(&'static str, Vendor)]);

const CHAINS: [Chain; 4] = [
    (
        "tiers:
  - { name: one, provider: anthropic, model: claude-sonnet-4-5, retry: { max_attempts: 1 } }
  - { name: two, provider: openai, api: chat, base_url: 'https://api.deepseek.com/v1', model: deepseek-chat, api_key: '${SECOND_KEY}', retry: { max_attempts: 1 } }
",
        &[(ANTHROPIC, Vendor::Anthropic), (DEEPSEEK, Vendor::DeepSeek)],
    ),
    (
        "tiers:
  - { name: one, provider: openai, api: responses, model: gpt-5.5, retry: { max_attempts: 1 } }
  - { name: two, provider: openai, api: chat, base_url: 'https://api.groq.com/openai/v1', model: openai/gpt-oss-120b, api_key: '${SECOND_KEY}', retry: { max_attempts: 1 } }
",
        &[(OPENAI, Vendor::OpenAi), (GROQ, Vendor::Groq)],
    ),
    (
        "tiers:
  - { name: one, provider: gemini, model: gemini-2.5-pro, retry: { max_attempts: 1 } }
  - { name: two, provider: gemini, model: gemini-3-pro-preview, retry: { max_attempts: 1 } }
",
        &[(GOOGLE, Vendor::Google)],
    ),
    (
        "tiers:
  - { name: one, provider: openai, api: chat, base_url: 'http://vllm.internal:8000/v1', model: qwen3-32b, api_key: '${SECOND_KEY}' }
",
        &[(VLLM, Vendor::Vllm)],
    ),
];

#[tokio::test(start_paused = true)]
async fn twenty_turns_of_both_agents_are_refused_by_no_server() {
    for (config, servers) in CHAINS {
        for path in [MESSAGES, RESPONSES] {
            let requests = Arc::new(Mutex::new(0));
            let mut plan = Plan::of(config);
            let mut ledgers = Vec::new();
            for (place, (host, vendor)) in servers.iter().enumerate() {
                // The first one is down for every other request.
                let fails: fn(usize) -> bool = match (place, config.matches("name:").count()) {
                    (0, 2..) => |number| number % 2 == 1,
                    _ => |_| false,
                };
                let (acting, ledger) = server(*vendor, fails, &requests);
                plan = plan.scripted(host, &acting);
                ledgers.push((*vendor, ledger));
            }
            let house = plan.build();
            let (mut claude, mut codex) = (ClaudeCode { messages: Vec::new() }, Codex { input: Vec::new() });
            for turn in 0..TURNS {
                let question = format!("Question {turn}?");
                if path == MESSAGES {
                    claude.ask(&question)
                } else {
                    codex.ask(&question)
                }
                loop {
                    let (body, headers) = match path {
                        MESSAGES => (claude.body(), &ClaudeCode::HEADERS[..]),
                        _ => (codex.body(), &[("originator", "codex_cli_rs")][..]),
                    };
                    let answer = house.send("POST", path, headers, body.to_string()).await;
                    let refused: Vec<String> =
                        ledgers.iter().flat_map(|(_, ledger)| ledger.lock().unwrap().refused.clone()).collect();
                    assert!(
                        answer.status == 200 && refused.is_empty(),
                        "{path} turn {turn}: {} {refused:#?}",
                        answer.body
                    );
                    // Every third request meets the same providers as the one before it.
                    *requests.lock().unwrap() += 1;
                    let goes_on = if path == MESSAGES { claude.take(&answer.body) } else { codex.take(&answer.body) };
                    if !goes_on {
                        break;
                    }
                }
                // So that each provider begins turns and ends them.
                *requests.lock().unwrap() += turn % 2;
            }
            let said = if path == MESSAGES { claude.messages.len() } else { codex.input.len() };
            assert!(said >= TURNS * 4, "{said}");
            for (vendor, ledger) in ledgers {
                let ledger = ledger.lock().unwrap();
                assert!(ledger.answers >= TURNS / 2, "{config} {path} {vendor:?}: {}", ledger.answers);
                // A server's own came home.
                assert!(ledger.back > 0 || vendor == Vendor::Groq, "{config} {path} {vendor:?}");
            }
        }
    }
}
