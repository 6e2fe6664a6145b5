//! Schemas of one provider that another one takes in another form alone: of tools, and of the answer.

use serde_json::{Value, json};
use steadfast::{
    Dialect, Frame, LlmRequest, StreamEvent, Wire,
    chat::{FinishReason, Message, Part, Role},
    translate::encode_message,
};
use steadfast_simulator::check;
use tower::{Service, ServiceExt};

use super::{answers::encoded, any, leaf, translate};

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

/// Google's first example, `list[Recipe]`: types in capitals, in the older fields.
#[tokio::test(start_paused = true)]
async fn geminis_own_spelling_of_schemas_arrives_at_openai_too() {
    let turn = json!([{"role": "user", "parts": [{"text": "?"}]}]);
    for to in [O, R] {
        for root in [
            json!({"type": "ARRAY", "items": {"type": "STRING"}}),
            json!({"type": "STRING", "enum": ["a"]}),
            json!({"type": "OBJECT", "properties": {"l": {"type": "STRING"}}, "nullable": true}),
        ] {
            let asked = json!({"contents": turn,
                "generationConfig": {"responseMimeType": "application/json", "responseSchema": root}});
            let (sent, notes) = translate(G, to, false, &asked).await.unwrap();
            assert_eq!(check(to, any(to), &sent), Ok(()), "{sent:#}");
            assert!(notes.iter().any(|note| note.starts_with("schema_root: ")), "{notes:?}");
        }
        let tool = json!({"name": "t", "parameters": {"type": "OBJECT", "properties": {
            "title": {"type": "ARRAY"}, "description": {"type": "ARRAY", "nullable": true}}}});
        let asked = json!({"contents": turn, "tools": [{"functionDeclarations": [tool]}]});
        let (sent, notes) = translate(G, to, false, &asked).await.unwrap();
        assert_eq!(check(to, any(to), &sent), Ok(()), "{sent:#}");
        assert!(notes.iter().any(|note| note.starts_with("schema_keywords: ")), "{notes:?}");
    }
}
