use super::rules::table;

#[test]
fn the_table_in_the_documentation_is_the_table_in_the_code() {
    let (documented, table) = (include_str!("translate.md"), table());
    assert!(documented.ends_with(&table), "translate.md must end with:\n{table}");
}

mod custom_tools {
    //! Tools of Chat Completions that take free text: functions with one text elsewhere, and free text again.

    use crate::codec::Codec;
    use bytes::Bytes;
    use serde_json::{Value, json};

    use crate::{
        Dialect, Frame, LlmRequest, StreamEvent, Wire,
        chat::{Message, Part, Role, ToolCall},
        translate::{RequestEcho, StreamEncoder, encode_answer},
    };

    fn request() -> Value {
        let grammar = json!({"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}});
        let patch = json!({"name": "patch", "description": "Edits a file.", "format": grammar});
        let call = json!({"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "a \"b\"\n"}});
        json!({
            "model": "gpt-5", "tools": [{"type": "custom", "custom": patch}],
            "tool_choice": {"type": "custom", "custom": {"name": "patch"}},
            "messages": [
                {"role": "user", "content": "?"},
                {"role": "assistant", "content": null, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "done"},
            ],
        })
    }

    fn of_chat() -> LlmRequest {
        Wire::new(Dialect::OpenAi, request().to_string()).unwrap().into()
    }

    async fn encoded(dialect: Dialect, request: LlmRequest) -> (Value, String) {
        let exchange = Codec::new(dialect).model("a-model").encode(&request).await.unwrap();
        (serde_json::from_slice(&exchange.body()).unwrap(), exchange.notes().join("; "))
    }

    #[tokio::test]
    async fn another_dialect_gets_a_function_with_one_text() {
        let arguments = json!({"input": "a \"b\"\n"});
        for dialect in [Dialect::Anthropic, Dialect::Gemini] {
            let (body, notes) = encoded(dialect, of_chat()).await;
            let (name, what, schema, called, made) = match dialect {
                Dialect::Anthropic => {
                    let tool = &body["tools"][0];
                    let call = &body["messages"][1]["content"][0];
                    (&tool["name"], &tool["description"], &tool["input_schema"], &call["name"], &call["input"])
                }
                _ => {
                    let tool = &body["tools"][0]["functionDeclarations"][0];
                    let call = &body["contents"][1]["parts"][0]["functionCall"];
                    (&tool["name"], &tool["description"], &tool["parametersJsonSchema"], &call["name"], &call["args"])
                }
            };
            assert_eq!((name, what, called), (&json!("patch"), &json!("Edits a file."), &json!("patch")), "{body}");
            assert_eq!((&schema["required"], made), (&json!(["input"]), &arguments), "{body}");
            assert!(schema["properties"]["input"]["description"].as_str().unwrap().ends_with("start: WORD"), "{body}");
            assert!(notes.contains("custom_tool") && !notes.contains("server_tool"), "{notes}");
        }
    }

    #[tokio::test]
    async fn responses_gets_a_custom_tool_of_its_own() {
        let (body, notes) = encoded(Dialect::Responses, of_chat()).await;
        let format = json!({"type": "grammar", "syntax": "lark", "definition": "start: WORD"});
        let patch = json!({"type": "custom", "name": "patch", "description": "Edits a file.", "format": format});
        assert_eq!(body["tools"], json!([patch]));
        assert_eq!(body["tool_choice"], json!({"type": "custom", "name": "patch"}));
        let items: Vec<&str> =
            body["input"].as_array().unwrap().iter().filter_map(|item| item["type"].as_str()).collect();
        assert!(items.ends_with(&["custom_tool_call", "custom_tool_call_output"]), "{body}");
        assert_eq!(body["input"][1]["input"], "a \"b\"\n");
        assert!(!notes.contains("server_tool"), "{notes}");
    }

    #[tokio::test]
    async fn the_own_dialect_gets_it_back_as_it_was() {
        let chat = of_chat().chat().unwrap().clone();
        let (mut body, _) = encoded(Dialect::OpenAi, chat.into()).await;
        for name in ["stream", "stream_options"] {
            body.as_object_mut().unwrap().remove(name);
        }
        let mut was = request();
        was["model"] = "a-model".into();
        assert_eq!(body, was);
    }

    fn echo() -> RequestEcho {
        RequestEcho::of(of_chat().chat().unwrap())
    }

    #[test]
    fn a_call_comes_back_as_free_text() {
        for (arguments, input) in [
            (r#"{"input":"a \"b\"\n"}"#, "a \"b\"\n"),
            // The model did not keep to the schema: nothing of its words is lost.
            (r#"{"patch":"a"}"#, r#"{"patch":"a"}"#),
            ("", ""),
        ] {
            let call = |name: &str| Part::ToolCall(ToolCall::new(format!("call_{name}"), name, arguments));
            let message = Message::new(Role::Assistant, vec![call("patch"), call("other")]);
            let body: Value = serde_json::from_slice(&encode_answer(&message, Dialect::OpenAi, &echo()).body).unwrap();
            let calls = &body["choices"][0]["message"]["tool_calls"];
            let custom = json!({"id": "call_patch", "type": "custom", "custom": {"name": "patch", "input": input}});
            assert_eq!(calls[0], custom);
            assert_eq!(calls[1]["type"], "function", "{calls}");
        }
    }

    /// The input of a streamed call, and the kinds of its chunks.
    fn streamed(pieces: &[&str]) -> (String, Vec<Value>) {
        let mut encoder = StreamEncoder::new(Dialect::OpenAi).echo(echo());
        let call = StreamEvent::ToolCall { index: 3, id: "call_1".into(), name: "patch".into(), opaque: None };
        let mut frames = vec![Frame::event(call)];
        frames
            .extend(pieces.iter().map(|json| Frame::event(StreamEvent::Arguments { index: 3, json: (*json).into() })));
        frames.push(Frame::event(StreamEvent::End));
        let bytes: Vec<Bytes> = frames.iter().map(|frame| encoder.frame(frame)).collect();
        let text = String::from_utf8(bytes.concat()).unwrap();
        let chunks = text.split("data: ").filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let calls: Vec<Value> =
            chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0).cloned()).collect();
        let input = calls.iter().filter_map(|call| call["custom"]["input"].as_str()).collect();
        (input, calls)
    }

    #[test]
    fn a_streamed_call_comes_back_as_free_text_piece_by_piece() {
        let (input, calls) = streamed(&["{\"inp", "ut\":\"a \\\"", "b\\\"\\", "n\"", "}"]);
        assert_eq!(input, "a \"b\"\n");
        let first = json!({"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "patch", "input": ""}});
        assert_eq!(calls[0], first);
        assert!(calls.len() > 3 && calls.iter().all(|call| call["index"] == 0 && call.get("function").is_none()));
        for (pieces, whole) in [(&["{\"patch\":", "\"a\"}"][..], "{\"patch\":\"a\"}"), (&[], "")] {
            assert_eq!(streamed(pieces).0, whole);
        }
    }
}
