use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::{Value, json};

use super::check;
use steadfast::Dialect;

fn says(dialect: Dialect, model: &str, body: Value, words: &str) {
    let error = check(dialect, model, &body).expect_err(words);
    assert!(error.contains(words), "{error}\nis not: {words}");
}

#[test]
fn anthropic_holds_to_its_order_ids_and_signatures() {
    let says = |messages: Value, words: &str| {
        says(Dialect::Anthropic, "m", json!({"model": "m", "max_tokens": 9, "messages": messages}), words);
    };
    let user = json!({"role": "user", "content": "?"});
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "4"});
    says(json!([{"role": "assistant", "content": "a"}]), "first message must use the \"user\" role");
    says(json!([{"role": "user", "content": ""}, user]), "non-empty content");
    says(json!([{"role": "user", "content": [{"type": "text", "text": " "}]}]), "non-whitespace");
    says(json!([user, {"role": "assistant", "content": [call("a.b")]}]), "^[a-zA-Z0-9_-]+$");
    says(json!([user, {"role": "assistant", "content": [call("a")]}, user]), "without `tool_result` blocks");
    says(json!([{"role": "user", "content": [result("a")]}]), "unexpected `tool_use_id`");
    let text = json!({"type": "text", "text": "x"});
    let late = json!([user, {"role": "assistant", "content": [call("a"), call("b")]},
        {"role": "user", "content": [text, result("a"), result("b")]}]);
    says(late, "must come before");
    let signed = |signature: &str| {
        json!([user, {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": signature}, {"type": "text", "text": "a"}]}, user])
    };
    says(signed(""), "Invalid `signature`");
    says(signed("steadfast.gemini.signed.AAA"), "Invalid `signature`");
    let body = json!({"model": "m", "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [user, {"role": "assistant", "content": [call("a")]}, {"role": "user", "content": [result("a")]}]});
    super::tests::says(Dialect::Anthropic, "m", body, "Expected `thinking`");
    let body = json!({"model": "m", "max_tokens": 9, "messages": [user], "seed": 1});
    super::tests::says(Dialect::Anthropic, "m", body, "Extra inputs are not permitted");
}

#[test]
fn vendors_of_chat_completions_want_their_own_thoughts_and_no_others() {
    let body = |more: Value| {
        let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"},
            "extra_content": more["extra_content"]});
        let mut turn = json!({"role": "assistant", "tool_calls": [call]});
        turn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        turn.as_object_mut().unwrap().remove("extra_content");
        json!({"model": "m", "messages": [{"role": "user", "content": "?"}, turn,
            {"role": "tool", "tool_call_id": "a", "content": "4"}]})
    };
    let signed = json!({"extra_content": {"google": {"thought_signature": "QUJD"}}});
    let thought = json!({"reasoning_content": "hm"});
    for (model, taken, refused, words) in [
        ("deepseek-v4-pro", &thought, &signed, "must be passed back to the API"),
        ("kimi-k2.5", &thought, &json!({"reasoning_content": ""}), "assistant tool call message at index 1"),
        ("gemini-3-pro-preview", &signed, &thought, "missing a thought_signature"),
        ("groq/x", &json!({"reasoning": "hm"}), &thought, "property 'reasoning_content' is unsupported"),
        ("cerebras/x", &json!({"reasoning": "hm"}), &thought, "messages.1.assistant.reasoning_content: property"),
    ] {
        assert_eq!(check(Dialect::OpenAi, model, &body(taken.clone())), Ok(()), "{model}");
        says(Dialect::OpenAi, model, body(refused.clone()), words);
    }
}

#[test]
fn openai_holds_to_its_pairs_ids_and_strict_schemas() {
    let says = |more: Value, words: &str| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "?"}]});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        says(Dialect::OpenAi, "m", body, words);
    };
    let user = json!({"role": "user", "content": "?"});
    let call = |id: &str| {
        json!({"role": "assistant", "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]})
    };
    says(json!({"messages": [user, call("a"), user]}), "must be followed by tool messages");
    says(json!({"messages": [user, call(&"a".repeat(41))]}), "maximum length 40");
    says(json!({"messages": [{"role": "assistant", "content": null}]}), "expected a string, got null");
    says(json!({"stop": ["a", "b", "c", "d", "e"]}), "array too long");
    says(json!({"top_k": 1}), "Unrecognized request argument");
    says(json!({"parallel_tool_calls": false}), "only allowed when 'tools'");
    says(json!({"response_format": {"type": "json_object"}}), "must contain the word 'json'");
    let tool = |parameters: Value, strict: bool| json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters, "strict": strict}}]});
    says(tool(json!({"type": "string"}), false), "'type: \"object\"'");
    says(tool(json!({"type": "object", "properties": {}}), true), "'additionalProperties' is required");
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    says(tool(open, true), "Missing 'a'");
}

#[test]
fn gemini_holds_to_its_counts_and_signatures() {
    let says =
        |contents: Value, words: &str| says(Dialect::Gemini, "gemini-3-pro", json!({"contents": contents}), words);
    let user = json!({"role": "user", "parts": [{"text": "?"}]});
    let call = |signature: Value| json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": signature}]});
    let response = json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]});
    says(json!([{"role": "assistant", "parts": [{"text": "?"}]}]), "valid role");
    says(json!([user, response]), "number of function response parts");
    says(json!([user, call("AAAA".into()), user]), "number of function response parts");
    says(json!([call("AAAA".into()), response]), "immediately after a user turn");
    says(json!([user, call("a.b".into()), response]), "Corrupted thought signature");
    says(
        json!([user, {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}, response]),
        "missing a thought_signature",
    );
    check(
        Dialect::Gemini,
        "gemini-3-pro",
        &json!({"contents": [user, call("skip_thought_signature_validator".into()), response]}),
    )
    .unwrap();
}

/// By the providers' pages on single models: settings beside a question, and the refusal, if any.
#[test]
fn each_model_refuses_what_its_pages_say() {
    let tool = json!({"type": "tool", "name": "f"});
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let prefill = json!([{"role": "user", "content": "?"}, {"role": "assistant", "content": "{"}]);
    for (model, more, words) in [
        ("claude-sonnet-4-5", json!({"temperature": 0.5}), ""),
        ("claude-sonnet-4-5", json!({"temperature": 0.5, "top_p": 0.9}), "cannot both be specified"),
        ("claude-sonnet-4-20250514", json!({"temperature": 0.5, "top_p": 0.9}), ""),
        ("claude-opus-5-5", json!({"temperature": 0.5}), "`temperature` is deprecated for this model."),
        ("claude-opus-5-5", json!({"temperature": 1.0}), ""),
        ("claude-opus-4-7", json!({"top_k": 5}), "`top_k` is deprecated"),
        ("claude-opus-4-6", json!({"top_k": 5}), ""),
        ("claude-sonnet-4-5", json!({"thinking": {"type": "adaptive"}}), "adaptive thinking is not supported"),
        ("claude-opus-4-6", json!({"thinking": {"type": "adaptive"}}), ""),
        (
            "claude-opus-5-5",
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
            "\"thinking.type.enabled\" is not",
        ),
        ("claude-opus-5-5", json!({"thinking": {"type": "disabled"}}), "\"thinking.type.disabled\" is not supported"),
        ("claude-opus-5", json!({"thinking": {"type": "disabled"}}), ""),
        (
            "claude-opus-5",
            json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}),
            "is not supported",
        ),
        ("claude-opus-5-5", json!({"tools": tools, "tool_choice": tool}), "forced tool use is not supported"),
        ("claude-sonnet-4-5", json!({"tools": tools, "tool_choice": tool}), ""),
        ("claude-fable-5", json!({"tools": tools, "tool_choice": tool}), ""),
        ("claude-fable-5-1", json!({"tools": tools, "tool_choice": tool}), "forced tool use is not supported"),
        ("claude-sonnet-4-5", json!({"output_config": {"effort": "low"}}), "does not support the effort parameter"),
        ("claude-opus-4-5", json!({"output_config": {"effort": "low"}}), ""),
        ("claude-opus-4-6", json!({"output_config": {"effort": "xhigh"}}), "'xhigh' is not supported"),
        ("claude-opus-5-5", json!({"output_config": {"effort": "xhigh"}}), ""),
        ("claude-sonnet-4-5", json!({"max_tokens": 64_001}), "64001 > 64000, which is the maximum"),
        ("claude-opus-5-5", json!({"max_tokens": 128_000}), ""),
        ("claude-3-5-haiku-20241022", json!({"max_tokens": 9000}), "9000 > 8192"),
        ("claude-sonnet-4-5", json!({"messages": prefill}), ""),
        ("claude-opus-5-5", json!({"messages": prefill}), "does not support assistant message prefill"),
    ] {
        let body = json!({"max_tokens": 4096, "messages": [{"role": "user", "content": "?"}]});
        judged(Dialect::Anthropic, model, body, &more, words);
    }
    let logprobs = json!({"logprobs": true, "top_logprobs": 2});
    for (model, more, words) in [
        (
            "gpt-4o",
            json!({"temperature": 0.5, "top_p": 0.5, "stop": ["a"], "max_tokens": 9, "presence_penalty": 1}),
            "",
        ),
        ("gpt-4o", logprobs.clone(), ""),
        ("gpt-4o", json!({"reasoning_effort": "none"}), "Unrecognized request argument supplied: reasoning_effort"),
        ("gpt-4o", json!({"max_completion_tokens": 20_000}), "supports at most 16384 completion tokens"),
        ("gpt-4o", json!({"verbosity": "low"}), "'verbosity' does not support 'low'"),
        ("gpt-5", json!({"verbosity": "low", "reasoning_effort": "minimal", "temperature": 1}), ""),
        (
            "gpt-5",
            json!({"temperature": 0.5}),
            "'temperature' does not support 0.5 with this model. Only the default (1)",
        ),
        ("gpt-5", json!({"top_p": 0.5}), "Unsupported parameter: 'top_p'"),
        ("gpt-5", json!({"stop": ["a"]}), "Unsupported parameter: 'stop'"),
        ("gpt-5", json!({"max_tokens": 9}), "Use 'max_completion_tokens' instead."),
        ("gpt-5", json!({"presence_penalty": 1}), "Unsupported parameter: 'presence_penalty'"),
        ("gpt-5", logprobs, "Unsupported parameter: 'logprobs'"),
        (
            "gpt-5",
            json!({"reasoning_effort": "none"}),
            "does not support 'none' with this model. Supported values are: 'minimal', 'low', 'medium', and 'high'.",
        ),
        ("gpt-5.1", json!({"reasoning_effort": "none", "temperature": 0.5}), ""),
        ("gpt-5.1", json!({"reasoning_effort": "low", "temperature": 0.5}), "Only the default (1)"),
        ("gpt-5.2", json!({"reasoning_effort": "xhigh"}), ""),
        ("o3", json!({"stop": ["a"]}), "Unsupported parameter: 'stop'"),
        ("o3-mini", json!({"stop": ["a"]}), ""),
        ("o3-mini", json!({"reasoning_effort": "minimal"}), "does not support 'minimal'"),
        ("gpt-5-chat-latest", json!({"temperature": 0.5}), ""),
    ] {
        judged(Dialect::OpenAi, model, json!({"messages": [{"role": "user", "content": "?"}]}), &more, words);
    }
    let thinks = |config: Value| json!({"generationConfig": {"thinkingConfig": config}});
    let function = json!([{"functionDeclarations": [{"name": "f"}]}]);
    let json_mode = json!({"tools": function, "generationConfig": {"responseMimeType": "application/json"}});
    for (model, more, words) in [
        ("gemini-2.5-flash", thinks(json!({"thinkingBudget": 0})), ""),
        ("gemini-2.5-flash", thinks(json!({"thinkingBudget": -1})), ""),
        ("gemini-2.5-flash", thinks(json!({"thinkingBudget": 32_000})), "The thinking budget 32000 is invalid."),
        (
            "gemini-2.5-flash",
            thinks(json!({"thinkingLevel": "LOW"})),
            "Thinking level is not supported for this model.",
        ),
        ("gemini-2.5-pro", thinks(json!({"thinkingBudget": 0})), "This model only works in thinking mode."),
        ("gemini-2.5-pro", thinks(json!({"thinkingBudget": 32_768})), ""),
        ("gemini-2.5-flash-lite", thinks(json!({"thinkingBudget": 100})), "between 512 and 24576"),
        ("gemini-3.1-pro", thinks(json!({"thinkingLevel": "MINIMAL"})), "Thinking level MINIMAL is not supported"),
        ("gemini-3.1-pro", thinks(json!({"thinking_level": "medium"})), ""),
        ("gemini-3-flash-preview", thinks(json!({"thinkingLevel": "MINIMAL"})), ""),
        (
            "gemini-2.5-flash",
            json_mode.clone(),
            "Function calling with a response mime type: 'application/json' is unsupported",
        ),
        ("gemini-3.1-pro", json_mode, ""),
        (
            "gemini-3.7-flash",
            json!({"generationConfig": {"presencePenalty": 0.5}}),
            "Penalty is not enabled for models/gemini-3.7-flash",
        ),
        ("gemini-2.5-pro", json!({"generationConfig": {"presencePenalty": 0.5}}), ""),
        ("gemini-2.5-flash", json!({"generationConfig": {"maxOutputTokens": 70_000}}), "to 65537 (exclusive)"),
    ] {
        judged(Dialect::Gemini, model, json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}]}), &more, words);
    }
}

/// Holds what is said of a body with more fields against the words; none: it is accepted.
fn judged(dialect: Dialect, model: &str, mut body: Value, more: &Value, words: &str) {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    match check(dialect, model, &body) {
        Ok(()) => assert!(words.is_empty(), "{model} accepts {more}"),
        Err(error) => assert!(!words.is_empty() && error.contains(words), "{model} says of {more}: {error}"),
    }
}

/// The recorded requests to the three providers themselves: the body, the model, and what the provider said against it.
fn recorded() -> Vec<(String, Dialect, String, Value, Option<String>)> {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folders = match std::env::var_os("STEADFAST_FIXTURES") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![shared.join("fixtures"), shared.join("fixtures2")],
    };
    let mut recorded = Vec::new();
    for folder in folders {
        let Ok(index) = fs::read(folder.join("index.json")) else {
            println!("skipped: no recordings in {}", folder.display());
            continue;
        };
        let index: Value = serde_json::from_slice(&index).unwrap();
        for line in index.as_array().unwrap() {
            let record: Value =
                serde_json::from_slice(&fs::read(folder.join(line["file"].as_str().unwrap())).unwrap()).unwrap();
            let api = record["api"].as_str().unwrap_or_default();
            let own = line["server"] == "openai";
            let dialect = match (record["provider"].as_str().unwrap(), api) {
                ("anthropic", "messages") => Dialect::Anthropic,
                ("gemini", "generateContent" | "streamGenerateContent") => Dialect::Gemini,
                ("openai", "chat.completions") => Dialect::OpenAi,
                // OpenAI's own server: others take and refuse different things.
                ("openai-responses", "responses") if own => Dialect::Responses,
                // Each has fields of its own.
                _ => continue,
            };
            let (body, answer) = (&record["request"]["body"], &record["response"]);
            let refusal = match answer["status"].as_u64() {
                Some(200) => None,
                Some(400) => Some(answer["body"]["error"]["message"].as_str().unwrap_or_default().to_owned()),
                _ => continue,
            };
            if !body.is_object() {
                continue;
            }
            let path = record["request"]["path"].as_str().unwrap_or_default();
            let in_path = path.rsplit_once("models/").and_then(|(_, rest)| rest.split(':').next());
            let model = body["model"].as_str().or(in_path).unwrap_or_default().to_owned();
            recorded.push((record["id"].to_string(), dialect, model, body.clone(), refusal));
        }
    }
    recorded
}

/// Every recorded request that a real provider accepted is accepted here, for the same model: it is strict, but not
/// stricter.
#[test]
fn what_the_real_provider_accepted_is_accepted() {
    let recorded = recorded();
    let (mut accepted, mut refused) = (BTreeMap::new(), Vec::new());
    for (id, dialect, model, body, _) in recorded.iter().filter(|(.., refusal)| refusal.is_none()) {
        match check(*dialect, model, body) {
            Ok(()) => *accepted.entry(dialect.to_string()).or_insert(0) += 1,
            Err(error) => refused.push(format!("{id} ({model}): {error}")),
        }
    }
    println!("accepted: {accepted:?}");
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(recorded.is_empty() || accepted.values().sum::<i32>() > 200, "{accepted:?}");
}

/// And what it refused for a setting is refused, in its words.
#[test]
fn what_the_real_provider_refused_for_a_setting_is_refused() {
    let (mut alike, mut others) = (0, Vec::new());
    for (id, dialect, model, body, refusal) in recorded() {
        let Some(refusal) = refusal else { continue };
        match check(dialect, &model, &body) {
            Err(said) if said[..said.len().min(20)] == refusal[..refusal.len().min(20)] => alike += 1,
            said => others.push(format!("{id} ({model}): {refusal:.120}\n  here: {said:?}")),
        }
    }
    println!("{alike} alike; others:\n{}", others.join("\n"));
    // The others are of the prompt itself, of what is fetched, of how long a grammar takes, and of models that are none
    // of ours.
    assert!(others.is_empty() || alike >= 8, "{alike}");
}
