//! Items of a Responses caller's conversation that other dialects lack: each is carried, noted or refused by name, and
//! the conversation around it arrives. Kinds of items, by OpenAI's reference of November 2026 × the other dialects and
//! a server that speaks Chat Completions and is another's, whole and streamed.

use serde_json::{Value, json};
use steadfast::{
    Dialect::{Anthropic as A, Gemini as G, OpenAi as O, Responses as R},
    ErrorKind,
};

use super::{translate, translate_for};

/// Calls with their outputs, and items that stand alone. A word of each says that its content arrived.
fn items() -> Vec<(&'static str, Value)> {
    let safety = json!([{"id": "s", "code": "c", "message": "WORD"}]);
    vec![
        (
            "local_shell_call",
            json!([{"type": "local_shell_call", "id": "i", "call_id": "call_9", "status": "completed",
                "action": {"type": "exec", "command": ["ls", "WORD"], "env": {}}}]),
        ),
        ("local_shell_call_output", json!([{"type": "local_shell_call_output", "id": "i", "output": "WORD"}])),
        (
            "shell_call",
            json!([{"type": "shell_call", "id": "i", "call_id": "call_9", "status": "completed",
                "action": {"commands": ["ls WORD"], "timeout_ms": 9}}]),
        ),
        (
            "shell_call_output",
            json!([{"type": "shell_call_output", "call_id": "call_9", "output": [
                {"stdout": "WORD", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]}]),
        ),
        (
            "apply_patch_call",
            json!([{"type": "apply_patch_call", "id": "i", "call_id": "call_9", "status": "completed",
                "operation": {"type": "delete_file", "path": "WORD"}}]),
        ),
        (
            "apply_patch_call_output",
            json!([{"type": "apply_patch_call_output", "call_id": "call_9", "status": "completed", "output": "WORD"}]),
        ),
        (
            "computer_call",
            json!([{"type": "computer_call", "id": "i", "call_id": "call_9", "status": "completed",
                "action": {"type": "type", "text": "WORD"}, "pending_safety_checks": []}]),
        ),
        (
            "computer_call_output",
            json!([{"type": "computer_call_output", "call_id": "call_9", "acknowledged_safety_checks": safety,
                "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,QUJD"}}]),
        ),
        (
            "web_search_call",
            json!([{"type": "web_search_call", "id": "i", "status": "completed", "action": {"type": "search", "query": "WORD"}}]),
        ),
        (
            "file_search_call",
            json!([{"type": "file_search_call", "id": "i", "status": "completed", "queries": ["WORD"]}]),
        ),
        (
            "code_interpreter_call",
            json!([{"type": "code_interpreter_call", "id": "i", "status": "completed", "code": "WORD", "container_id": "c"}]),
        ),
        (
            "image_generation_call",
            json!([{"type": "image_generation_call", "id": "i", "status": "completed", "result": "QUJD"}]),
        ),
        (
            "mcp_call",
            json!([{"type": "mcp_call", "id": "i", "name": "n", "server_label": "s", "arguments": "{}", "output": "WORD"}]),
        ),
        ("mcp_list_tools", json!([{"type": "mcp_list_tools", "id": "i", "server_label": "s", "tools": []}])),
        (
            "mcp_approval_request",
            json!([{"type": "mcp_approval_request", "id": "i", "name": "n", "server_label": "s", "arguments": "{}"}]),
        ),
        (
            "mcp_approval_response",
            json!([{"type": "mcp_approval_response", "approval_request_id": "i", "approve": true}]),
        ),
        (
            "tool_search_call",
            json!([{"type": "tool_search_call", "id": "i", "call_id": "call_9", "arguments": {"query": "WORD"}}]),
        ),
        ("tool_search_output", json!([{"type": "tool_search_output", "id": "i", "call_id": "call_9", "tools": []}])),
        (
            "item_of_tomorrow_call",
            json!([{"type": "item_of_tomorrow_call", "id": "i", "call_id": "call_9", "content": "WORD"}]),
        ),
        (
            "item_of_tomorrow_call_output",
            json!([{"type": "item_of_tomorrow_call_output", "call_id": "call_9", "output": "WORD"}]),
        ),
        ("item_of_tomorrow", json!([{"type": "item_of_tomorrow", "id": "i", "content": "WORD"}])),
        ("item_reference", json!([{"type": "item_reference", "id": "i"}])),
        ("compaction", json!([{"type": "compaction", "id": "i", "encrypted_content": "WORD"}])),
        ("program", json!([{"type": "program", "id": "i", "code": "WORD"}])),
    ]
}

/// The places in a conversation: alone behind the question, before and behind the model's words, and at its begin.
fn conversations(item: &Value) -> Vec<Value> {
    let item = item[0].clone();
    let said = |role: &str, words: &str| json!({"type": "message", "role": role, "content": words});
    vec![
        json!([said("user", "FIRST"), item]),
        json!([said("user", "FIRST"), item, said("assistant", "SECOND"), said("user", "THIRD")]),
        json!([said("user", "FIRST"), said("assistant", "SECOND"), item, said("user", "THIRD")]),
        json!([item, said("user", "FIRST")]),
        json!([
            said("user", "FIRST"),
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            item,
            {"type": "function_call_output", "call_id": "call_1", "output": "SECOND"},
            said("user", "THIRD"),
        ]),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_item_is_carried_or_noted_or_refused_by_name() {
    let (mut cells, mut silent) = (0, Vec::new());
    for (kind, item) in items() {
        for (place, input) in conversations(&item).into_iter().enumerate() {
            for (to, model) in [(A, "claude-sonnet-4-5"), (O, "gpt-5"), (O, "our-model"), (G, "gemini-3-pro")] {
                for stream in [false, true] {
                    cells += 1;
                    let body = json!({"model": "m", "store": false, "stream": stream, "input": input,
                        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]});
                    let what = format!("{kind} at {place} to {to} {model} stream {stream}");
                    let (sent, notes) = match translate_for(R, to, model, false, &body).await {
                        Ok(arrived) => arrived,
                        Err(error) => {
                            let is_named = error.message().contains(kind) || error.message().contains("state");
                            if error.kind() != ErrorKind::UnsupportedFeature || !is_named {
                                silent.push(format!("{what}: {error}"));
                            }
                            continue;
                        }
                    };
                    let sent = sent.to_string();
                    let is_carried = sent.contains("WORD") || sent.contains("QUJD");
                    // Its parts are no other server's to see, in that form.
                    let is_raw = sent.contains(&format!("\"{kind}\""));
                    if !is_carried && !notes.iter().any(|note| note.contains(kind)) || is_raw {
                        silent.push(format!("{what}: {notes:?} {sent}"));
                    }
                    for words in ["FIRST", "SECOND", "THIRD"] {
                        if input.to_string().contains(words) && !sent.contains(words) {
                            silent.push(format!("{what} loses {words}: {sent}"));
                        }
                    }
                }
            }
        }
    }
    assert!(silent.is_empty(), "{} of {cells}:\n{}", silent.len(), silent[..silent.len().min(30)].join("\n"));
    assert!(cells > 900, "{cells}");
}

/// A strict leaf refuses what it would leave out.
#[tokio::test(start_paused = true)]
async fn a_strict_leaf_refuses_the_item() {
    for (kind, item) in items() {
        for to in [A, O, G] {
            let body = json!({"model": "m", "input": conversations(&item)[1]});
            match translate(R, to, true, &body).await {
                Ok((sent, _)) => {
                    let sent = sent.to_string();
                    assert!(sent.contains("WORD") || sent.contains("QUJD"), "{kind} to {to}: {sent}");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{kind} to {to}: {error}"),
            }
        }
    }
}
