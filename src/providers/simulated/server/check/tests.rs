use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::{Value, json};

use super::check;
use crate::Dialect;

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

/// Every recorded request that a real provider accepted is accepted here: it is strict, but not stricter.
#[test]
fn what_the_real_provider_accepted_is_accepted() {
    let folder = std::env::var_os("STEADFAST_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let Ok(index) = fs::read(folder.join("index.json")) else {
        println!("skipped: no recordings in {}", folder.display());
        return;
    };
    let index: Value = serde_json::from_slice(&index).unwrap();
    let (mut accepted, mut refused) = (BTreeMap::new(), Vec::new());
    for line in index.as_array().unwrap() {
        let record: Value =
            serde_json::from_slice(&fs::read(folder.join(line["file"].as_str().unwrap())).unwrap()).unwrap();
        let dialect = match record["provider"].as_str().unwrap() {
            "anthropic" => Dialect::Anthropic,
            "gemini" => Dialect::Gemini,
            "openai" => Dialect::OpenAi,
            // Each has fields of its own.
            _ => continue,
        };
        let body = &record["request"]["body"];
        if record["response"]["status"] != 200 || !body.is_object() {
            continue;
        }
        let path = record["request"]["path"].as_str().unwrap_or_default();
        let model = path.rsplit_once("models/").map_or("", |(_, rest)| rest.split(':').next().unwrap_or_default());
        match check(dialect, model, body) {
            Ok(()) => *accepted.entry(dialect.to_string()).or_insert(0) += 1,
            Err(error) => refused.push(format!("{}: {error}", record["id"])),
        }
    }
    println!("accepted: {accepted:?}");
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(accepted.values().sum::<i32>() > 200, "{accepted:?}");
}
