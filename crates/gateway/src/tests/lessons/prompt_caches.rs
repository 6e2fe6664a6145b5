//! Marks for a provider's prompt cache: each caller, each target, each place of the mark, whole and streamed.
//!
//! A mark ends what the provider keeps. So the table names each place by the words right before it, and what arrives
//! must have its mark behind the same words.

use serde_json::{Value, json};

use super::{house::*, wire::*, *};

const BEDROCK: &str = "bedrock-runtime.eu-west-1.amazonaws.com";
const VERTEX: &str = "europe-west1-aiplatform.googleapis.com";
const ROUTER: &str = "openrouter.ai";

const MARK: &str = r#"{"type":"ephemeral","ttl":"1h"}"#;

fn mark() -> Value {
    serde_json::from_str(MARK).unwrap()
}

/// A conversation with words of its own at each place, as a caller of Chat Completions keeps it.
fn chat() -> Value {
    let function = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}});
    json!({
        "model": "any", "max_tokens": 100,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Rules."}, {"type": "text", "text": "A long book."}]},
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "First?"}, {"type": "text", "text": "More of it."}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "It rains."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "It rains there."}]},
            {"role": "user", "content": "Second?"},
        ],
        "tools": [function("look"), function("find")],
    })
}

/// The places of a mark in it, and the words before each.
const CHAT_PLACES: [(&str, &str); 14] = [
    ("/messages/0/content/0", "Rules."),
    ("/messages/0/content/1", "A long book."),
    ("/messages/0", "A long book."),
    ("/messages/1", "Be brief."),
    ("/messages/2/content/0", "First?"),
    ("/messages/2", "More of it."),
    ("/messages/3", "look()"),
    ("/messages/3/tool_calls/0", "look()"),
    ("/messages/4/content/0", "It rains."),
    ("/messages/4", "It rains."),
    ("/messages/5/content/0", "It rains there."),
    ("/messages/6", "Second?"),
    ("/tools/0", "look"),
    ("/tools/1/function", "find"),
];

/// The same conversation in Messages.
fn messages() -> Value {
    let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object", "properties": {}}});
    json!({
        "model": "any", "max_tokens": 100,
        "system": [{"type": "text", "text": "Rules."}, {"type": "text", "text": "A long book."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "First?"}, {"type": "text", "text": "More of it."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "It rains."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "It rains there."}]},
            {"role": "user", "content": [{"type": "text", "text": "Second?"}]},
        ],
        "tools": [tool("look"), tool("find")],
    })
}

/// The places in it. A call bears no mark in Chat Completions, so that the text before it does.
const MESSAGES_PLACES: [(&str, &str); 9] = [
    ("/system/0", "Rules."),
    ("/system/1", "A long book."),
    ("/messages/0/content/0", "First?"),
    ("/messages/0/content/1", "More of it."),
    ("/messages/1/content/1", "I look."),
    ("/messages/2/content/0", "It rains."),
    ("/messages/3/content/0", "It rains there."),
    ("/messages/4/content/0", "Second?"),
    ("/tools/1", "find"),
];

/// A conversation in Responses, with OpenAI's own mark and the others'.
fn responses(place: usize, name: &str) -> Value {
    let mut parts: Vec<Value> =
        ["First?", "Second?", "Third?"].map(|text| json!({"type": "input_text", "text": text})).into();
    parts[place][name] = if name == "cache_control" { mark() } else { json!({"mode": "explicit"}) };
    json!({"model": "any", "max_output_tokens": 100, "store": false, "input": [{"role": "user", "content": parts}]})
}

/// A target at which Claude is, its host, and whether it takes the mark of the whole request.
const CLAUDES: [(&str, &str, bool); 5] = [
    ("provider: anthropic, model: claude-sonnet-4-5", ANTHROPIC, true),
    (
        "provider: anthropic, at: aws, region: eu-west-1, model: claude-sonnet-4-5, credential: { key_id: '${AWS_ID}', \
         secret: '${AWS_SECRET}' }",
        BEDROCK,
        false,
    ),
    (
        "provider: anthropic, at: aws, api: invoke, region: eu-west-1, model: claude-sonnet-4-5, credential: { key_id: \
         '${AWS_ID}', secret: '${AWS_SECRET}' }",
        BEDROCK,
        false,
    ),
    (
        "provider: anthropic, at: aws, api: converse, region: eu-west-1, model: claude-sonnet-4-5, credential: { key_id: \
         '${AWS_ID}', secret: '${AWS_SECRET}' }",
        BEDROCK,
        false,
    ),
    (
        "provider: anthropic, at: vertex, project: proj-1, location: europe-west1, model: claude-sonnet-4-5, credential: { \
         authorized_user: '${USER_FILE}' }",
        VERTEX,
        false,
    ),
];

/// Returns what stands before each mark, with the mark, in any of the three forms of a body.
fn marked(body: &Value) -> Vec<(String, Value)> {
    fn words(item: &Value) -> String {
        let name = |item: &Value| item["name"].as_str().map(str::to_owned);
        let call = |item: &Value| name(item).map(|name| format!("{name}()"));
        let within = |item: &Value| match &item["content"] {
            Value::Array(parts) => parts.last().map(words),
            text => text.as_str().map(str::to_owned),
        };
        let found = match item {
            _ if item["text"].is_string() => {
                item["text"].as_str().and_then(|text| text.rsplit("\n\n").next()).map(str::to_owned)
            }
            _ if item["type"] == "tool_use" => call(item),
            _ if item["toolUse"].is_object() => call(&item["toolUse"]),
            _ if item["toolSpec"].is_object() => name(&item["toolSpec"]),
            _ if item["toolResult"].is_object() => within(&item["toolResult"]),
            _ if item["function"].is_object() => name(&item["function"]),
            _ => name(item).or_else(|| within(item)),
        };
        found.unwrap_or_else(|| item.to_string())
    }
    fn walk(value: &Value, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    match item.get("cachePoint") {
                        Some(point) => found.push((words(&items[at - 1]), point.clone())),
                        None => walk(item, found),
                    }
                }
            }
            Value::Object(fields) => {
                if let Some(control) = fields.get("cache_control") {
                    found.push((words(value), control.clone()));
                }
                fields.iter().filter(|(name, _)| *name != "cache_control").for_each(|(_, value)| walk(value, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    let mut body = body.clone();
    if let Some(control) = body.as_object_mut().and_then(|fields| fields.remove("cache_control")) {
        found.push(("the whole".to_owned(), control));
    }
    walk(&body, &mut found);
    found
}

fn with(mut body: Value, place: &str, mark: Value) -> Value {
    body.pointer_mut(place).unwrap()["cache_control"] = mark;
    body
}

/// Claude at any door. It answers a stream as its door does, or fails it: what it was asked is the subject.
fn claude() -> Scripted {
    Scripted::acting(|seen| match seen.path.as_str() {
        path if path.contains("stream") && path.contains("/model/") => {
            Reply::json(400, r#"{"message":"no stream here"}"#)
        }
        path if path.contains("converse") => Reply::json(
            200,
            r#"{"output":{"message":{"role":"assistant","content":[{"text":"Hello from afar"}]}},"stopReason":"end_turn","usage":{"inputTokens":7,"outputTokens":3,"totalTokens":10}}"#,
        ),
        path if path.contains("stream") || seen.body.contains("\"stream\":true") => Reply::stream(anthropic_stream()),
        _ => Reply::json(200, anthropic_answer()),
    })
}

fn house(tier: &str, host: &'static str, provider: &Scripted) -> House {
    let token = r#"{"access_token":"a-token","expires_in":3600,"token_type":"Bearer"}"#;
    Plan::of(&format!("tiers: [{{ name: only, retry: {{ max_attempts: 1 }}, {tier} }}]"))
        .scripted("oauth2.googleapis.com", &Scripted::new([Reply::json(200, token)]))
        .scripted(host, provider)
        .build()
}

fn last(provider: &Scripted) -> Value {
    serde_json::from_str(&provider.seen().last().unwrap().body).unwrap()
}

fn notes(house: &House) -> String {
    house.record()["notes"].to_string()
}

/// microsoft/vscode#312940, goclaw#1042, pi#7938: marks of callers of Chat Completions never reached Claude.
#[tokio::test(start_paused = true)]
async fn marks_of_chat_and_responses_reach_claude_at_every_door() {
    for (tier, host, is_whole_taken) in CLAUDES {
        let provider = claude();
        let house = house(tier, host, &provider);
        let expected = |control: &Value| match tier.contains("converse") {
            true if control.get("ttl").is_some() => json!({"type": "default", "ttl": "1h"}),
            true => json!({"type": "default"}),
            false => control.clone(),
        };
        let mut cases: Vec<(&str, Value, &str, Value)> =
            CHAT_PLACES.iter().map(|(place, words)| (CHAT, with(chat(), place, mark()), *words, mark())).collect();
        let whole = if is_whole_taken { "the whole" } else { "Second?" };
        cases.push((CHAT, with(chat(), "", mark()), whole, mark()));
        for (at, words) in ["First?", "Second?", "Third?"].into_iter().enumerate() {
            cases.push((RESPONSES, responses(at, "cache_control"), words, mark()));
            cases.push((RESPONSES, responses(at, "prompt_cache_breakpoint"), words, json!({"type": "ephemeral"})));
        }
        for (path, mut body, words, control) in cases {
            for stream in [false, true] {
                body["stream"] = stream.into();
                let what = format!("{tier}: {words}, stream {stream}");
                let answer = house.send("POST", path, &[], body.to_string()).await;
                let sent = last(&provider);
                assert_eq!(marked(&sent), [(words.to_owned(), expected(&control))], "{what}: {sent}");
                if answer.status == 200 {
                    assert!(!notes(&house).contains("cache"), "{what}: {}", notes(&house));
                }
            }
        }
    }
}

/// Claude takes four: the last of the tools and of the system prompt, and the latest of the conversation.
#[tokio::test(start_paused = true)]
async fn of_more_than_four_marks_those_stay_that_are_worth_most() {
    let all = |places: &[&str]| places.iter().fold(chat(), |body, place| with(body, place, mark()));
    let places: Vec<&str> = CHAT_PLACES.iter().map(|(place, _)| *place).collect();
    for (body, kept) in [
        (all(&places), &["Be brief.", "It rains there.", "Second?", "find"][..]),
        (
            all(&[
                "/messages/0/content/0",
                "/messages/0/content/1",
                "/messages/1",
                "/tools/0",
                "/tools/1",
                "/messages/6",
            ]),
            &["A long book.", "Be brief.", "Second?", "find"],
        ),
        (
            all(&["/messages/2", "/messages/4", "/messages/5/content/0", "/messages/6", "/messages/2/content/0"]),
            &["It rains there.", "It rains.", "More of it.", "Second?"],
        ),
        (
            all(&["/messages/0", "/messages/4", "/messages/5/content/0", "/messages/6"]),
            &["A long book.", "It rains there.", "It rains.", "Second?"],
        ),
    ] {
        let provider = claude();
        let house = house(CLAUDES[0].0, ANTHROPIC, &provider);
        let answer = house.send("POST", CHAT, &[], body.to_string()).await;
        answer.assert_clean("marks");
        let mut words: Vec<String> = marked(&last(&provider)).into_iter().map(|(words, _)| words).collect();
        words.sort();
        assert_eq!(words, kept);
        assert_eq!(
            notes(&house).contains("cache_marks: only four were sent"),
            body.to_string().matches(&mark().to_string()).count() > 4
        );
    }
}

/// A server of Chat Completions hands the marks to Claude, which refuses the fifth.
#[tokio::test(start_paused = true)]
async fn four_of_any_number_of_marks_reach_claude_behind_another_server() {
    let texts = |word: &str, count: usize| -> Value {
        let text = |n| json!({"type": "text", "text": format!("{word} {n}"), "cache_control": mark()});
        (0..count).map(text).collect()
    };
    let tools = |count: usize| -> Value {
        let tool = |n| json!({"name": format!("tool_{n}"), "input_schema": {"type": "object", "properties": {}}, "cache_control": mark()});
        (0..count).map(tool).collect()
    };
    let body = |more: Value| {
        let mut body = json!({"model": "any", "max_tokens": 100, "messages": [{"role": "user", "content": "Second?"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let asked = |count| body(json!({"messages": [{"role": "user", "content": texts("part", count)}]}));
    let told = |count| body(json!({"system": texts("rule", count)}));
    for (base, host, model) in [
        ("https://openrouter.ai/api/v1", ROUTER, "anthropic/claude-sonnet-4.5"),
        ("http://vllm.internal/v1", "vllm.internal", "claude-sonnet-4-5"),
    ] {
        for (body, kept) in [
            (asked(4), ["part 0", "part 1", "part 2", "part 3"]),
            (asked(5), ["part 1", "part 2", "part 3", "part 4"]),
            (asked(50_000), ["part 49996", "part 49997", "part 49998", "part 49999"]),
            (told(5), ["rule 1", "rule 2", "rule 3", "rule 4"]),
            (told(50_000), ["rule 49996", "rule 49997", "rule 49998", "rule 49999"]),
            (body(json!({"tools": tools(100)})), ["tool_96", "tool_97", "tool_98", "tool_99"]),
        ] {
            let provider = chat_server(None);
            let house = house(&server_tier(base, model), host, &provider);
            house.send("POST", MESSAGES, &[], body.to_string()).await.assert_clean(kept[0]);
            let marks = marked(&last(&provider));
            let words: Vec<&str> = marks.iter().map(|(words, _)| words.as_str()).collect();
            assert_eq!(words, kept, "{base}");
            assert_eq!(notes(&house).contains("cache_marks: only four were sent"), kept[0] != "part 0", "{base}");
        }
    }
}

/// The system prompt's words are the same with a mark and without, whatever the caller asks for beside them.
#[tokio::test(start_paused = true)]
async fn a_marked_system_prompt_has_the_same_words() {
    let provider = claude();
    let house = house(CLAUDES[0].0, ANTHROPIC, &provider);
    let mut plain = chat();
    plain["response_format"] = json!({"type": "json_object"});
    let text = async |body: &Value| {
        house.send("POST", CHAT, &[], body.to_string()).await.assert_clean("system");
        match &last(&provider)["system"] {
            Value::Array(blocks) => {
                let texts: Vec<&str> = blocks.iter().map(|block| block["text"].as_str().unwrap()).collect();
                texts.join("\n\n")
            }
            text => text.as_str().unwrap().to_owned(),
        }
    };
    let expected = text(&plain).await;
    for (place, _) in &CHAT_PLACES[..4] {
        assert_eq!(text(&with(plain.clone(), place, mark())).await, expected, "{place}");
    }
}

/// A compatible server, its model, and whether it takes marks.
const SERVERS: [(&str, &str, &str, bool); 13] = [
    ("https://openrouter.ai/api/v1", ROUTER, "anthropic/claude-sonnet-4.5", true),
    ("https://openrouter.ai/api/v1", ROUTER, "google/gemini-2.5-pro", true),
    ("https://openrouter.ai/api/v1", ROUTER, "qwen/qwen3-max", true),
    ("https://openrouter.ai/api/v1", ROUTER, "openai/gpt-4o", false),
    ("http://litellm.internal/v1", "litellm.internal", "our-model", true),
    ("http://127.0.0.1:4000/v1", "127.0.0.1:4000", "qwen3-32b", false),
    ("http://10.0.0.5:40000/v1", "10.0.0.5:40000", "qwen3-32b", false),
    ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "dashscope-intl.aliyuncs.com", "qwen3-max", true),
    ("https://dashscope.aliyuncs.com/compatible-mode/v1", "dashscope.aliyuncs.com", "deepseek-v3", false),
    ("http://vllm.internal/v1", "vllm.internal", "claude-sonnet-4-5", true),
    ("http://vllm.internal/v1", "vllm.internal", "qwen3-32b", false),
    ("https://api.openai.com/v1", OPENAI, "gpt-4o", false),
    ("https://api.groq.com/openai/v1", "api.groq.com", "llama-3.3-70b-versatile", false),
];

fn chat_server(refuses: Option<&'static str>) -> Scripted {
    Scripted::acting(move |seen| match refuses {
        Some(words) if seen.body.contains("cache_control") => Reply::json(
            400,
            json!({"error": {"message": words, "type": "invalid_request_error", "param": null, "code": null}})
                .to_string(),
        ),
        _ if seen.body.contains("\"stream\":true") => Reply::stream(openai_stream()),
        _ => Reply::json(
            200,
            json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello from afar"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}})
            .to_string(),
        ),
    })
}

fn server_tier(base: &str, model: &str) -> String {
    format!("provider: openai, api: chat, base_url: '{base}', model: '{model}', api_key: '${{SECOND_KEY}}'")
}

#[tokio::test(start_paused = true)]
async fn marks_of_messages_reach_the_servers_that_take_them() {
    for (base, host, model, takes) in SERVERS {
        let provider = chat_server(None);
        let house = house(&server_tier(base, model), host, &provider);
        for (place, words) in MESSAGES_PLACES.iter().chain([&("", "Second?")]) {
            for stream in [false, true] {
                let mut body = with(messages(), place, mark());
                body["stream"] = stream.into();
                let what = format!("{base} {model} {place} {stream}");
                house.send("POST", MESSAGES, &[], body.to_string()).await.assert_clean(&what);
                let expected = if takes { vec![((*words).to_owned(), mark())] } else { vec![] };
                let sent = last(&provider);
                assert_eq!(marked(&sent), expected, "{what}: {sent}");
                assert_eq!(notes(&house).contains("cache:"), !takes, "{what}: {}", notes(&house));
            }
        }
    }
}

/// A server that refuses a mark is asked at once without, and no more with one.
#[tokio::test(start_paused = true)]
async fn a_refused_mark_is_learned() {
    for words in [
        "messages.0.content.0.cache_control: Extra inputs are not permitted",
        "Unknown parameter: 'messages[0].content[0].cache_control'.",
        "'messages.2' : for 'role:user' the following must be satisfied[('messages.2.content.0' : property 'cache_control' is unsupported)]",
    ] {
        for (path, body) in
            [(MESSAGES, with(messages(), "/system/1", mark())), (CHAT, with(chat(), "/messages/0/content/1", mark()))]
        {
            let provider = chat_server(Some(words));
            let house = house(&server_tier("http://vllm.internal/v1", "claude-sonnet-4-5"), "vllm.internal", &provider);
            for turn in 0..3 {
                let answer = house.send("POST", path, &[], body.to_string()).await;
                answer.assert_clean(words);
                assert_eq!(provider.seen().len(), turn + 2, "{path}: {words}");
                assert!(marked(&last(&provider)).is_empty());
                // All else is there.
                let text = last(&provider).to_string();
                assert!(
                    ["Rules.", "A long book.", "It rains.", "Second?", "look", "find"]
                        .iter()
                        .all(|word| text.contains(word))
                );
            }
        }
    }
    // The same words in a prompt prove nothing: what is refused for another reason is refused.
    let provider = Scripted::new([Reply::json(
        400,
        r#"{"error":{"message":"Invalid 'messages[6]': you said cache_control","type":"invalid_request_error"}}"#,
    )]);
    let house = house(&server_tier("http://vllm.internal/v1", "claude-sonnet-4-5"), "vllm.internal", &provider);
    let answer = house.send("POST", MESSAGES, &[], with(messages(), "/system/1", mark()).to_string()).await;
    assert_eq!((answer.status, provider.seen().len()), (400, 1));
}

/// The counts of tokens read from the cache and written into it come back where OpenRouter has them.
#[tokio::test(start_paused = true)]
async fn cached_tokens_come_back_to_callers_of_chat() {
    let usage = json!({"input_tokens": 5, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 30, "output_tokens": 3});
    let mut whole: Value = serde_json::from_str(&anthropic_answer()).unwrap();
    whole["usage"] = usage.clone();
    let start = START.replace(r#""usage":{"input_tokens":7,"output_tokens":1}"#, &format!("\"usage\":{usage}"));
    for stream in [false, true] {
        let reply = match stream {
            true => Reply::stream([start.clone(), text_block(0, "Hello from afar"), END.to_owned()]),
            false => Reply::json(200, whole.to_string()),
        };
        let house = house(CLAUDES[0].0, ANTHROPIC, &Scripted::new([reply]));
        let mut body = with(chat(), "/messages/0/content/1", mark());
        body["stream"] = stream.into();
        body["stream_options"] = json!({"include_usage": true});
        if !stream {
            body.as_object_mut().unwrap().remove("stream_options");
        }
        let answer = house.send("POST", CHAT, &[], body.to_string()).await;
        let data =
            answer.body.lines().rev().find(|line| line.contains("prompt_tokens_details")).unwrap_or(&answer.body);
        let told: Value = serde_json::from_str(data.trim_start_matches("data: ")).unwrap();
        let usage = &told["usage"];
        assert_eq!(usage["prompt_tokens"], 125, "{usage}");
        assert_eq!(usage["prompt_tokens_details"], json!({"cached_tokens": 90, "cache_write_tokens": 30}), "{usage}");
    }
}

/// LiteLLM's place for Claude's signed thoughts, in a turn that a caller sends back.
#[tokio::test(start_paused = true)]
async fn thinking_blocks_go_to_claude_as_its_own() {
    let blocks = json!([{"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}, {"type": "redacted_thinking", "data": "cmVk"}]);
    let provider = claude();
    let house = house(CLAUDES[0].0, ANTHROPIC, &provider);
    let mut body = chat();
    body["messages"][3]["thinking_blocks"] = blocks.clone();
    house.send("POST", CHAT, &[], body.to_string()).await.assert_clean("thoughts");
    let sent = last(&provider);
    assert_eq!(json!(sent["messages"][1]["content"].as_array().unwrap()[..2]), blocks, "{sent}");
    assert!(!notes(&house).contains("thinking_blocks"), "{}", notes(&house));
}
