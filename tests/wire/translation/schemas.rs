//! Schemas of one provider that another one takes in another form alone: of tools, and of the answer.

use serde_json::{Value, json};
use steadfast::{
    Dialect, ErrorKind, Frame, LlmRequest, StreamEvent, Wire,
    chat::{FinishReason, Message, Part, Role},
    translate::encode_message,
};
use steadfast_simulator::check;
use tower::{Service, ServiceExt};

use super::{answers::encoded, any, leaf, translate, translate_for};

use Dialect::{Anthropic as A, Gemini as G, OpenAi as O, Responses as R};

/// A request with a tool, as a caller of each dialect writes it.
fn with_tool(from: Dialect, schema: &Value) -> Value {
    match from {
        A => json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}],
            "tools": [{"name": "t", "input_schema": schema}]}),
        G => json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}],
            "tools": [{"functionDeclarations": [{"name": "t", "parametersJsonSchema": schema}]}]}),
        R => {
            json!({"model": "m", "input": "?", "tools": [{"type": "function", "name": "t", "parameters": schema, "strict": false}]})
        }
        _ => json!({"model": "m", "messages": [{"role": "user", "content": "?"}],
            "tools": [{"type": "function", "function": {"name": "t", "parameters": schema}}]}),
    }
}

/// The same with a schema for the answer.
fn with_output(from: Dialect, schema: &Value) -> Value {
    match from {
        A => json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}],
            "output_config": {"format": {"type": "json_schema", "schema": schema}}}),
        G => json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}],
            "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}}),
        R => json!({"model": "m", "input": "?",
            "text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": true}}}),
        _ => json!({"model": "m", "messages": [{"role": "user", "content": "?"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}}}),
    }
}

/// Callers, and the two dialects of OpenAI's that are not theirs.
fn pairs() -> impl Iterator<Item = (Dialect, Dialect)> {
    [A, G, O, R].into_iter().flat_map(|from| [O, R].map(|to| (from, to))).filter(|(from, to)| from != to)
}

#[tokio::test(start_paused = true)]
async fn a_tool_with_an_array_of_anything_arrives_at_openai() {
    let schema = json!({"type": "object", "properties": {
        "plain": {"type": "array"}, "maybe": {"type": ["array", "null"]}, "some": {"type": "array", "minItems": 1},
        "deep": {"type": "array", "items": {"anyOf": [{"type": "array"}, {"$ref": "#/$defs/list"}]}},
        "map": {"type": "object", "additionalProperties": {"type": "array"}}}, "$defs": {"list": {"type": "array"}}});
    for (from, to) in pairs() {
        let (sent, notes) = translate(from, to, false, &with_tool(from, &schema)).await.unwrap();
        assert_eq!(check(to, any(to), &sent), Ok(()), "{from} to {to}: {sent:#}");
        assert!(notes.iter().any(|note| note.starts_with("schema_keywords: ")), "{from} to {to}: {notes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_any_form_comes_back_from_openai_as_it_was_asked_for() {
    let recipe = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}});
    let cases = [
        (json!({"type": "array", "items": recipe}), json!([{"name": "} \" ]"}, {"name": "ü"}])),
        (json!({"type": "array", "items": {"$ref": "#/$defs/r"}, "$defs": {"r": recipe}}), json!([{"name": "a"}])),
        (json!({"type": "string", "enum": ["a", "b"]}), json!("b")),
        (json!({"type": "integer"}), json!(7)),
        (json!({"anyOf": [recipe, {"type": "null"}]}), json!({"name": "value"})),
        (json!({"$ref": "#/$defs/r", "$defs": {"r": recipe}}), json!({"name": "a"})),
    ];
    for ((from, to), (schema, answer)) in pairs().flat_map(|pair| cases.iter().map(move |case| (pair, case))) {
        let body = with_output(from, schema);
        let (sent, notes) = translate(from, to, false, &body).await.unwrap();
        assert_eq!(check(to, any(to), &sent), Ok(()), "{from} to {to}: {sent:#}");
        let root = if to == O { "/response_format/json_schema/schema/type" } else { "/text/format/schema/type" };
        assert_eq!(sent.pointer(root), Some(&json!("object")), "{from} to {to}: {sent:#}");
        assert!(notes.iter().any(|note| note.starts_with("schema_root: ")), "{from} to {to}: {notes:?}");

        // A model that is held to it answers so: spaced as models space.
        let name = sent.pointer(&root.replace("/type", "/required/0")).and_then(Value::as_str).unwrap();
        let said = format!("{{\n  \"{name}\": {answer}\n}}\n");
        let mut message = Message::new(Role::Assistant, vec![Part::Text(said.clone())]);
        message.finish = Some(FinishReason::Stop);
        let pieces = said.chars().map(|letter| StreamEvent::Text { index: 0, text: letter.into() });
        let frames: Vec<Frame> = std::iter::once(StreamEvent::Start { id: Some("i".into()), model: None })
            .chain(pieces)
            .chain([StreamEvent::Finish(FinishReason::Stop), StreamEvent::End])
            .map(Frame::event)
            .collect();
        for (stream, kind, bytes) in [
            (false, "application/json", encode_message(&message, to).body),
            (true, "text/event-stream", encoded(&frames, to)),
        ] {
            let request = LlmRequest::from(Wire::new(from, body.to_string()).unwrap()).with_stream(stream);
            let (mut leaf, _) = leaf(to, false, (200, kind), bytes);
            let read = leaf.ready().await.unwrap().call(request).await.unwrap().collect().await.unwrap();
            let value: Value = serde_json::from_str(&read.text()).unwrap_or_else(|error| panic!("{error}: {read:?}"));
            assert_eq!(value, *answer, "{from} to {to}, stream: {stream}");
        }
    }
}

/// Google's first example, `list[Recipe]`: types in capitals, in the older fields. Gemini CLI has them in the newer
/// ones too.
#[tokio::test(start_paused = true)]
async fn geminis_own_spelling_of_schemas_arrives_at_openai_too() {
    let turn = json!([{"role": "user", "parts": [{"text": "?"}]}]);
    let fields = [("responseSchema", "parameters"), ("responseJsonSchema", "parametersJsonSchema")];
    for (to, (of_answer, of_tool)) in [O, R].into_iter().flat_map(|to| fields.map(|names| (to, names))) {
        for root in [
            json!({"type": "ARRAY", "items": {"type": "STRING"}}),
            json!({"type": "STRING", "enum": ["a"]}),
            json!({"type": "OBJECT", "properties": {"l": {"type": "STRING"}}, "nullable": true}),
        ] {
            let asked = json!({"contents": turn,
                "generationConfig": {"responseMimeType": "application/json", of_answer: root}});
            let (sent, notes) = translate(G, to, false, &asked).await.unwrap();
            assert_eq!(check(to, any(to), &sent), Ok(()), "{sent:#}");
            assert!(notes.iter().any(|note| note.starts_with("schema_root: ")), "{notes:?}");
        }
        let tool = json!({"name": "t", of_tool: {"type": "OBJECT", "properties": {
            "title": {"type": "ARRAY"}, "description": {"type": "ARRAY", "nullable": true},
            "maybe": {"type": ["STRING", "NULL"]}}}});
        let asked = json!({"contents": turn, "tools": [{"functionDeclarations": [tool]}]});
        let (sent, notes) = translate(G, to, false, &asked).await.unwrap();
        assert_eq!(check(to, any(to), &sent), Ok(()), "{sent:#}");
        assert!(notes.iter().any(|note| note.starts_with("schema_keywords: ")), "{notes:?}");
    }
}

/// OpenAI: "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level".
#[tokio::test(start_paused = true)]
async fn a_tool_with_alternatives_or_a_reference_at_its_top_arrives() {
    let a = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let b = json!({"type": "object", "properties": {"b": {"type": "array"}}, "required": ["b"]});
    for schema in [
        json!({"type": "object", "oneOf": [a, b]}),
        json!({"anyOf": [a, {"$ref": "#/$defs/b"}], "$defs": {"b": b}}),
        json!({"type": "object", "properties": {"c": {"type": "string"}}, "allOf": [a, b]}),
        json!({"type": "object", "enum": [{"a": 1}]}),
        json!({"type": "object", "properties": {}, "not": {"required": ["a"]}}),
        json!({"$ref": "#/$defs/b", "$defs": {"b": b}}),
        json!({"$ref": "#/definitions/b", "definitions": {"b": {"oneOf": [a, b]}}}),
    ] {
        for from in [A, G, O, R] {
            for to in [A, O, R].into_iter().filter(|to| *to != from) {
                let (sent, _) = translate(from, to, false, &with_tool(from, &schema)).await.unwrap();
                assert_eq!(check(to, any(to), &sent), Ok(()), "{from} to {to}: {sent:#}");
                let place = match to {
                    A => "/tools/0/input_schema",
                    O => "/tools/0/function/parameters",
                    _ => "/tools/0/parameters",
                };
                let sent = sent.pointer(place).unwrap();
                assert_eq!(sent["type"], "object", "{from} to {to}: {sent}");
                for keyword in ["oneOf", "anyOf", "allOf", "enum", "not", "$ref"] {
                    assert!(sent.get(keyword).is_none(), "{from} to {to}: {sent}");
                }
            }
        }
    }
}

/// Strict and free tools in one request: each is taken, and at most as many strict ones as the provider takes.
#[tokio::test(start_paused = true)]
async fn strict_and_free_tools_arrive_in_one_request() {
    let closed = |n: usize| {
        let names: Vec<String> = (0..n).map(|n| format!("p{n}")).collect();
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| (name.clone(), json!({"type": ["string", "null"]}))).collect();
        json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
    };
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let function = |n: usize, schema: &Value, strict: bool| json!({"type": "function", "function": {"name": format!("t{n}"), "parameters": schema, "strict": strict}});
    let body =
        |tools: Vec<Value>| json!({"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": tools});
    let strict_of = |to: Dialect, sent: &Value| -> Vec<bool> {
        let tools = sent["tools"].as_array().unwrap().iter();
        let strict =
            |tool: &Value| tool.get("strict").or_else(|| tool.pointer("/function/strict")) == Some(&json!(true));
        assert_eq!(check(to, any(to), sent), Ok(()), "{to}: {sent:#}");
        tools.map(strict).collect()
    };
    // Anthropic takes 20 strict tools, and 16 properties of several types in all of them.
    let text = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let many = body((0..25).map(|n| function(n, &text, true)).collect());
    let (sent, notes) = translate(O, A, false, &many).await.unwrap();
    assert_eq!(strict_of(A, &sent), (0..25).map(|n| n < 20).collect::<Vec<_>>());
    assert!(notes.iter().any(|note| note.starts_with("strict: ")), "{notes:?}");
    let unions = body(vec![
        function(0, &closed(10), true),
        function(1, &closed(10), true),
        function(2, &closed(6), true),
        function(3, &open, false),
    ]);
    let (sent, notes) = translate(O, A, false, &unions).await.unwrap();
    assert_eq!(strict_of(A, &sent), [true, false, true, false]);
    assert!(notes.iter().any(|note| note.starts_with("strict: ")), "{notes:?}");
    let (sent, _) = translate_for(O, A, "claude-3-5-haiku", false, &unions).await.unwrap();
    assert_eq!(sent["tools"][0].get("strict"), None, "it knows no such field");
    // OpenAI takes any number, each closed and with every property.
    let tool = |n: usize, schema: &Value, strict: bool| json!({"name": format!("t{n}"), "input_schema": schema, "strict": strict});
    let mixed = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}],
        "tools": [tool(0, &open, true), tool(1, &closed(20), true), tool(2, &open, false)]});
    for to in [O, R] {
        let (sent, notes) = translate(A, to, false, &mixed).await.unwrap();
        assert_eq!(strict_of(to, &sent), [false, true, false], "{to}");
        assert!(notes.iter().any(|note| note.starts_with("strict: ")), "{notes:?}");
    }
}

/// Gemini gives the word of `text/x.enum` without quotes; other models are held to JSON.
#[tokio::test(start_paused = true)]
async fn an_answer_of_one_word_comes_without_quotes() {
    let words = json!(["A", "two words", "\"", "ü\\"]);
    for (spelling, schema) in [
        (["generationConfig", "responseMimeType", "responseSchema"], json!({"type": "STRING", "enum": words})),
        (["generation_config", "response_mime_type", "response_schema"], json!({"type": "STRING", "enum": words})),
    ] {
        let body = json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}],
            spelling[0]: {spelling[1]: "text/x.enum", spelling[2]: schema}});
        for to in [A, O, R] {
            let (sent, _) = translate(G, to, false, &body).await.unwrap();
            assert_eq!(check(to, any(to), &sent), Ok(()), "{to}: {sent:#}");
            for word in words.as_array().unwrap() {
                let plain = word.as_str().unwrap();
                let said = match to {
                    A => word.to_string(),
                    _ => format!("{{\"value\":{word}}}"),
                };
                for said in [said, plain.to_owned()] {
                    let mut message = Message::new(Role::Assistant, vec![Part::Text(said.clone())]);
                    message.finish = Some(FinishReason::Stop);
                    let pieces = said.chars().map(|letter| StreamEvent::Text { index: 0, text: letter.into() });
                    let frames: Vec<Frame> = std::iter::once(StreamEvent::Start { id: Some("i".into()), model: None })
                        .chain(pieces)
                        .chain([StreamEvent::Finish(FinishReason::Stop), StreamEvent::End])
                        .map(Frame::event)
                        .collect();
                    for (stream, kind, bytes) in [
                        (false, "application/json", encode_message(&message, to).body),
                        (true, "text/event-stream", encoded(&frames, to)),
                    ] {
                        if said == "\"" {
                            // It begins like a text and is none.
                            continue;
                        }
                        let request = LlmRequest::from(Wire::new(G, body.to_string()).unwrap()).with_stream(stream);
                        let (mut leaf, _) = leaf(to, false, (200, kind), bytes);
                        let read = leaf.ready().await.unwrap().call(request).await.unwrap().collect().await.unwrap();
                        assert_eq!(read.text(), plain, "{to}, stream: {stream}, {said}");
                    }
                }
            }
        }
    }
    // A caller of JSON gets JSON.
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": {"type": "STRING", "enum": words}}});
    let mut message = Message::new(Role::Assistant, vec![Part::Text("\"A\"".to_owned())]);
    message.finish = Some(FinishReason::Stop);
    let request = LlmRequest::from(Wire::new(G, body.to_string()).unwrap());
    let (mut leaf, _) = leaf(A, false, (200, "application/json"), encode_message(&message, A).body);
    let read = leaf.ready().await.unwrap().call(request).await.unwrap().collect().await.unwrap();
    assert_eq!(read.text(), "\"A\"");
}

/// A schema nested a thousand deep is refused by its limit, or passes; ten thousand calls with long ids arrive.
#[tokio::test(start_paused = true)]
async fn deep_schemas_and_long_histories_are_refused_by_name_or_pass() {
    for depth in [100, 127, 1000, 10_000] {
        for (open, close) in [
            ("{\"type\":\"object\",\"properties\":{\"a\":", "}}"),
            ("{\"type\":\"array\",\"items\":", "}"),
            ("{\"anyOf\":[", "]}"),
        ] {
            let inner = format!("{}{{\"type\":\"array\"}}{}", open.repeat(depth), close.repeat(depth));
            let schema = format!("{{\"type\":\"object\",\"properties\":{{\"p\":{inner}}}}}");
            for from in [A, G, O, R] {
                for with in [with_tool, with_output] {
                    let body = with(from, &json!("SCHEMA")).to_string().replace("\"SCHEMA\"", &schema);
                    for to in [A, G, O, R].into_iter().filter(|to| *to != from) {
                        let Ok(wire) = Wire::new(from, body.clone()) else { continue };
                        let (mut leaf, _) = leaf(to, false, (200, "application/json"), super::hello(to));
                        if let Err(error) = leaf.ready().await.unwrap().call(wire.into()).await {
                            let kind = error.kind();
                            assert!(
                                matches!(kind, ErrorKind::TooLarge | ErrorKind::InvalidRequest),
                                "{from} to {to}: {error}"
                            );
                        }
                    }
                }
            }
        }
    }
    let id = |n: usize| format!("{n}|{}", "ü".repeat(60));
    // Five calls a turn.
    let turn = |n: usize| {
        let ids = || (5 * n..5 * n + 5).map(id);
        let calls: Vec<Value> =
            ids().map(|id| json!({"type": "tool_use", "id": id, "name": "f", "input": {}})).collect();
        let results: Vec<Value> =
            ids().map(|id| json!({"type": "tool_result", "tool_use_id": id, "content": "4"})).collect();
        [json!({"role": "assistant", "content": calls}), json!({"role": "user", "content": results})]
    };
    let messages: Vec<Value> =
        std::iter::once(json!({"role": "user", "content": "?"})).chain((0..2000).flat_map(turn)).collect();
    let body = json!({"model": "m", "max_tokens": 9, "messages": messages, "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
    for to in [O, R, G] {
        let (sent, notes) = translate(A, to, false, &body).await.unwrap();
        assert_eq!(check(to, any(to), &sent), Ok(()), "{to}");
        assert!(!notes.iter().any(|note| note.starts_with("orphan_result")), "{to}: {notes:?}");
    }
}
