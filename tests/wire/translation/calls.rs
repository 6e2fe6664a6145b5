//! Calls and results of Gemini's dialect: results that name no call, and the ids that Gemini gives.

use serde_json::{Value, json};
use steadfast::{
    Dialect::{self, Anthropic as A, Gemini as G, OpenAi as O, Responses as R},
    LlmRequest, Wire,
    chat::Part,
    translate::encode_message,
};
use steadfast_simulator::check;
use tower::{Service, ServiceExt};

use super::{DIALECTS, any, leaf, translate};

fn call(name: &str) -> Value {
    json!({"functionCall": {"name": name, "args": {}}})
}

fn done(name: &str, result: &str) -> Value {
    json!({"functionResponse": {"name": name, "response": {"output": result}}})
}

fn turns(turns: &[(&str, Vec<Value>)]) -> Value {
    let contents: Vec<Value> = turns.iter().map(|(role, parts)| json!({"role": role, "parts": parts})).collect();
    json!({ "contents": contents })
}

type Pairs = Vec<(String, String)>;

/// The calls and the results of a request in the neutral form: the names and ids, and the texts.
fn pairs(to: Dialect, sent: &Value) -> (Pairs, Pairs) {
    let request = LlmRequest::from(Wire::new(to, sent.to_string()).unwrap());
    let chat = request.chat().unwrap();
    let parts = || chat.messages.iter().flat_map(|message| &message.content);
    let calls = parts().filter_map(|part| match part {
        Part::ToolCall(call) => Some((call.id.clone(), call.name.clone())),
        _ => None,
    });
    let results = parts().filter_map(|part| match part {
        Part::ToolResult(result) => {
            let texts: Vec<&str> = result.content.iter().filter_map(Part::as_text).collect();
            Some((result.call_id.clone(), texts.concat()))
        }
        _ => None,
    });
    (calls.collect(), results.collect())
}

#[tokio::test(start_paused = true)]
async fn a_result_under_another_name_answers_the_call_in_its_place() {
    let text = || vec![json!({"text": "?"})];
    let with_id = |id: &str, name: &str, result: &str| {
        let mut part = done(name, result);
        part["functionResponse"]["id"] = id.into();
        part
    };
    // The conversation, and the results in the order of their calls.
    let cases = [
        (turns(&[("user", text()), ("model", vec![call("f")]), ("user", vec![done("call_1338bc52", "1")])]), vec!["1"]),
        (
            turns(&[
                ("user", text()),
                ("model", vec![call("f"), call("g")]),
                ("user", vec![done("x", "1"), done("y", "2")]),
            ]),
            vec!["1", "2"],
        ),
        // A name that is one's own goes first.
        (
            turns(&[
                ("user", text()),
                ("model", vec![call("f"), call("g")]),
                ("user", vec![done("g", "2"), done("y", "1")]),
            ]),
            vec!["1", "2"],
        ),
        (
            turns(&[
                ("user", text()),
                ("model", vec![call("f"), call("f")]),
                ("user", vec![done("f", "1"), done("y", "2")]),
            ]),
            vec!["1", "2"],
        ),
        // A name of an earlier turn's call.
        (
            turns(&[
                ("user", text()),
                ("model", vec![call("f")]),
                ("user", vec![done("f", "1")]),
                ("model", vec![call("g")]),
                ("user", vec![done("f", "2")]),
            ]),
            vec!["1", "2"],
        ),
        // Each in a turn of its own.
        (
            turns(&[
                ("user", text()),
                ("model", vec![call("f"), call("g")]),
                ("user", vec![done("x", "1")]),
                ("function", vec![done("y", "2")]),
            ]),
            vec!["1", "2"],
        ),
        // Ids that no call has.
        (turns(&[("user", text()), ("model", vec![call("f")]), ("user", vec![with_id("mine", "f", "1")])]), vec!["1"]),
    ];
    for ((body, expected), to) in cases.iter().flat_map(|case| [A, O, R].map(|to| (case, to))) {
        let (sent, notes) = translate(G, to, true, body).await.unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(check(to, any(to), &sent), Ok(()), "{to}: {sent:#}");
        let odd = |note: &String| note.starts_with("orphan_result") || note.starts_with("unanswered_call");
        assert!(!notes.iter().any(odd), "{to}: {notes:?}");
        let (calls, results) = pairs(to, &sent);
        let of = |id: &str| results.iter().find(|(call, _)| call == id).map(|(_, text)| text.clone());
        let found: Vec<String> = calls.iter().map(|(id, _)| of(id).unwrap()).collect();
        let said: Vec<String> =
            found.iter().map(|text| text.replace("{\"output\":\"", "").replace("\"}", "")).collect();
        assert_eq!(&said, expected, "{to}: {sent:#}");
    }
    // Nobody knows which is meant if there are fewer or more.
    let few = turns(&[("user", text()), ("model", vec![call("f"), call("g")]), ("user", vec![done("x", "1")])]);
    let many = turns(&[("user", text()), ("model", vec![call("f")]), ("user", vec![done("x", "1"), done("y", "2")])]);
    for (body, to) in [few, many].iter().flat_map(|body| [A, O, R].map(|to| (body, to))) {
        let (sent, notes) = translate(G, to, false, body).await.unwrap();
        assert_eq!(check(to, any(to), &sent), Ok(()), "{to}: {sent:#}");
        assert!(notes.iter().any(|note| note.starts_with("orphan_result")), "{to}: {notes:?}");
    }
}

/// The next request of a caller who got this answer: the model's turn as it came, and a result for each call.
fn next(caller: Dialect, answer: &Value) -> Value {
    let schema = json!({"type": "object", "properties": {}});
    match caller {
        A => {
            let content = answer["content"].as_array().unwrap();
            let calls = content.iter().filter(|block| block["type"] == "tool_use");
            let results: Vec<Value> =
                calls.map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "4"})).collect();
            json!({"model": "m", "max_tokens": 9, "tools": [{"name": "f", "input_schema": schema}], "messages": [
                {"role": "user", "content": "?"}, {"role": "assistant", "content": content},
                {"role": "user", "content": results}]})
        }
        O => {
            let turn = &answer["choices"][0]["message"];
            let calls = turn["tool_calls"].as_array().unwrap().iter();
            let results = calls.map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "4"}));
            let messages: Vec<Value> =
                [json!({"role": "user", "content": "?"}), turn.clone()].into_iter().chain(results).collect();
            json!({"model": "m", "messages": messages,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]})
        }
        R => {
            let items = answer["output"].as_array().unwrap().clone();
            let calls = items.iter().filter(|item| item["type"] == "function_call");
            let results: Vec<Value> = calls
                .map(|call| json!({"type": "function_call_output", "call_id": call["call_id"], "output": "4"}))
                .collect();
            let input = [vec![json!({"role": "user", "content": "?"})], items, results].concat();
            json!({"model": "m", "input": input,
                "tools": [{"type": "function", "name": "f", "parameters": schema, "strict": false}]})
        }
        _ => {
            let turn = answer["candidates"][0]["content"].clone();
            let calls = turn["parts"].as_array().unwrap().iter().filter_map(|part| part.get("functionCall"));
            let results: Vec<Value> = calls
                .map(|call| json!({"functionResponse": {"id": call["id"], "name": call["name"], "response": {"output": "4"}}}))
                .collect();
            json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}, turn, {"role": "user", "parts": results}],
                "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}]})
        }
    }
}

/// Firebase's reference on the id of a function call: "This must be sent back".
#[tokio::test(start_paused = true)]
async fn geminis_ids_of_calls_go_back_to_gemini() {
    let cases: [[Option<&str>; 2]; 5] = [
        [Some("fc_a"), Some("fc_b")],
        [Some("8f2b1a3c"), Some("9c2b1a3d")],
        [Some("function-call-12345678901234567890"), None],
        [Some("a.b:c/d"), Some("ü")],
        [None, None],
    ];
    for (ids, signed) in cases.iter().flat_map(|ids| [(ids, false), (ids, true)]) {
        let part = |id: &Option<&str>| {
            let mut part = json!({"functionCall": {"name": "f", "args": {}}});
            if let Some(id) = id {
                part["functionCall"]["id"] = (*id).into();
            }
            part
        };
        let mut parts: Vec<Value> = ids.iter().map(part).collect();
        if signed {
            parts[0]["thoughtSignature"] = "AAAA".into();
        }
        let gemini = json!({"responseId": "r1", "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]});
        // Anthropic's ids have no such letters.
        let is_odd = ids.iter().flatten().any(|id| id.contains([':', 'ü']));
        for caller in [A, O, R].into_iter().filter(|caller| *caller != A || !is_odd) {
            let asked = match caller {
                A => json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}),
                O => json!({"model": "m", "messages": [{"role": "user", "content": "?"}]}),
                _ => json!({"model": "m", "input": "?"}),
            };
            for stream in [false, true] {
                let (kind, answer) = match stream {
                    false => ("application/json", gemini.to_string()),
                    true => ("text/event-stream", format!("data: {gemini}\n\n")),
                };
                let request = LlmRequest::from(Wire::new(caller, asked.to_string()).unwrap()).with_stream(stream);
                let (mut leaf, _) = leaf(G, false, (200, kind), answer);
                let message = leaf.ready().await.unwrap().call(request).await.unwrap().collect().await.unwrap();
                let told = serde_json::from_slice(&encode_message(&message, caller).body).unwrap();
                let (sent, _) = translate(caller, G, false, &next(caller, &told)).await.unwrap();
                assert_eq!(check(G, any(G), &sent), Ok(()), "{caller}: {sent:#}");
                let of = |turn: usize, name: &str| {
                    let parts = sent["contents"][turn]["parts"].as_array().unwrap().iter();
                    let inner = parts.filter_map(|part| part.get(name));
                    inner.map(|inner| inner.get("id").and_then(Value::as_str)).collect::<Vec<_>>()
                };
                assert_eq!(of(1, "functionCall"), ids, "{caller} stream {stream}: {sent:#}");
                assert_eq!(of(2, "functionResponse"), ids, "{caller} stream {stream}: {sent:#}");
            }
        }
    }
}

/// Ids that other servers gave mean nothing to it.
#[tokio::test(start_paused = true)]
async fn other_servers_ids_of_calls_do_not_go_to_gemini() {
    for id in ["toolu_01A", "call_abc", "call_00_x", "tooluse_x", "chatcmpl-tool-1", "functions.f:0"] {
        for caller in DIALECTS.into_iter().filter(|caller| *caller != G) {
            let calls = json!([{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
            let answer = match caller {
                A => json!({"content": [{"type": "tool_use", "id": id, "name": "f", "input": {}}]}),
                O => json!({"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": calls}}]}),
                _ => json!({"output": [{"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}]}),
            };
            let (sent, _) = translate(caller, G, false, &next(caller, &answer)).await.unwrap();
            assert!(!sent.to_string().contains(id), "{caller}: {sent}");
        }
    }
}
