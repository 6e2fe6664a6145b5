//! Responses to the three other dialects: what only Responses has is carried in another form, dropped and reported, or
//! refused by name.

use serde_json::{Value, json};
use steadfast::{
    Dialect::{self, Anthropic as A, Gemini as G, OpenAi as O, Responses as R},
    ErrorKind,
    chat::{Message, Opaque, Part, Reasoning, Role},
    translate::encode_message,
};
use steadfast_simulator::check;

use super::{any, translate};

const OTHERS: [Dialect; 3] = [A, O, G];

fn input(items: Value) -> Value {
    json!({"model": "m", "input": items})
}

async fn arrives(to: Dialect, body: &Value) -> (Value, Vec<String>) {
    let (sent, notes) = translate(R, to, false, body).await.unwrap_or_else(|error| panic!("to {to}: {error}"));
    assert_eq!(check(to, any(to), &sent), Ok(()), "to {to}: {sent:#}");
    (sent, notes)
}

/// The names of the tools that the target offers.
fn names(to: Dialect, sent: &Value) -> Vec<String> {
    let (list, name) = match to {
        A => (&sent["tools"], "/name"),
        O => (&sent["tools"], "/function/name"),
        _ => (&sent["tools"][0]["functionDeclarations"], "/name"),
    };
    let tools = list.as_array().expect("tools").iter();
    tools.map(|tool| tool.pointer(name).and_then(Value::as_str).expect("a name").to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn state_at_the_provider_is_refused_with_the_fields_name() {
    let user = json!({"role": "user", "content": "?"});
    let fields = [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("conversation", json!({"id": "conv_1"})),
        ("prompt", json!({"id": "pmpt_1"})),
        ("background", json!(true)),
    ];
    let mut refused: Vec<(&str, Value)> = Vec::new();
    for (name, value) in fields {
        let mut body = input(json!("?"));
        body[name] = value;
        refused.push((name, body));
    }
    // Nothing but the state.
    refused.push(("previous_response_id", json!({"model": "m", "previous_response_id": "resp_1", "input": []})));
    for (name, item) in [
        ("item_reference", json!({"type": "item_reference", "id": "msg_1"})),
        ("item_reference", json!({"id": "msg_1"})),
        ("compaction", json!({"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"})),
    ] {
        refused.push((name, input(json!([item, user]))));
    }
    for (name, body) in refused {
        for to in OTHERS {
            let error = translate(R, to, false, &body).await.expect_err("state");
            assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{name} to {to}");
            let expected = format!("state ({name}): the conversation's state is at another provider");
            assert_eq!(error.message(), expected, "to {to}");
        }
    }
    // A field that is not set is no state.
    let mut body = input(json!("?"));
    for (name, value) in [("previous_response_id", Value::Null), ("background", json!(false))] {
        body[name] = value;
    }
    for to in OTHERS {
        assert_eq!(arrives(to, &body).await.1.iter().filter(|note| note.starts_with("state")).count(), 0);
    }
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": false})
}

/// Tools of every type, as an agent has them.
fn tools() -> Value {
    let grammar = json!({"type": "grammar", "syntax": "lark", "definition": "start: \"*** Begin Patch\""});
    let within = |name: &str| json!({"type": "function", "name": name, "description": "Finds.", "parameters": schema(), "strict": false});
    json!([
        {"type": "function", "name": "shell", "description": "Runs.", "parameters": schema(), "strict": false, "defer_loading": true},
        {"type": "custom", "name": "apply_patch", "description": "Patches.", "format": grammar},
        {"type": "namespace", "name": "mcp__crm", "description": "Customers.", "tools": [within("find"), within("list")]},
        {"type": "web_search", "search_context_size": "low"},
        {"type": "tool_search"},
        {"type": "mcp", "server_label": "wiki", "server_url": "https://a.test", "require_approval": "never"},
    ])
}

#[tokio::test(start_paused = true)]
async fn an_agents_tools_and_settings_arrive_or_are_reported() {
    let mut body =
        input(json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]}]));
    for (name, value) in [
        ("instructions", json!("You are careful.")),
        ("tools", tools()),
        ("tool_choice", json!("auto")),
        ("parallel_tool_calls", json!(true)),
        ("reasoning", json!({"effort": "high", "summary": "auto"})),
        ("store", json!(false)),
        ("stream", json!(true)),
        ("include", json!(["reasoning.encrypted_content", "web_search_call.action.sources"])),
        ("prompt_cache_key", json!("session")),
        ("safety_identifier", json!("who")),
        ("text", json!({"verbosity": "low"})),
        ("truncation", json!("auto")),
        ("client_metadata", json!({"a": "b"})),
    ] {
        body[name] = value;
    }
    for to in OTHERS {
        let (sent, notes) = arrives(to, &body).await;
        assert_eq!(names(to, &sent), ["shell", "apply_patch", "mcp__crm__find", "mcp__crm__list"], "to {to}");
        let mut features: Vec<&str> = notes.iter().map(|note| note.split(':').next().unwrap_or_default()).collect();
        features.sort_unstable();
        let mut expected = vec![
            "custom_tool (apply_patch)",
            "include (web_search_call.action.sources)",
            "metadata (client_metadata)",
            "namespace (mcp__crm)",
            "server_tool (mcp",
            "server_tool (tool_search)",
            "server_tool (tools)",
            "server_tool (web_search)",
            "tool_setting (defer_loading)",
            "truncation (truncation)",
        ];
        // Chat Completions of OpenAI's own server has the others, and no summary of thoughts.
        match to {
            O => expected.push("thought_summary"),
            _ => expected.extend(["cache", "end_user", "verbosity"]),
        }
        if to == A {
            expected.extend(["max_output (64000 tokens)", "thinking_effort"]);
        }
        expected.sort_unstable();
        assert_eq!(features, expected, "to {to}: {notes:#?}");
        // The first tool of a namespace has its description, and free text is one argument.
        let (described, patch) = match to {
            A => (&sent["tools"][2]["description"], &sent["tools"][1]["input_schema"]),
            O => (&sent["tools"][2]["function"]["description"], &sent["tools"][1]["function"]["parameters"]),
            _ => {
                let functions = &sent["tools"][0]["functionDeclarations"];
                (&functions[2]["description"], &functions[1]["parametersJsonSchema"])
            }
        };
        assert_eq!(described, "Customers.\n\nFinds.", "to {to}");
        assert_eq!((&patch["required"], &patch["properties"]["input"]["type"]), (&json!(["input"]), &json!("string")));
        assert!(patch["properties"]["input"]["description"].as_str().is_some_and(|text| text.contains("Begin Patch")));
    }
    let (sent, _) = arrives(O, &body).await;
    for (name, value) in [
        ("verbosity", "low"),
        ("prompt_cache_key", "session"),
        ("safety_identifier", "who"),
        ("reasoning_effort", "high"),
    ] {
        assert_eq!(sent[name], value, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_are_carried_for_answers_that_the_provider_stores() {
    let mut body = input(json!("?"));
    body["metadata"] = json!({"a": "b"});
    let (sent, notes) = arrives(O, &body).await;
    // Chat Completions refuses labels of an answer that it does not store.
    assert_eq!((sent.get("metadata"), notes.len()), (None, 1), "{notes:?}");
    body["store"] = json!(true);
    let (sent, notes) = arrives(O, &body).await;
    assert_eq!((&sent["metadata"], &sent["store"], notes.len()), (&json!({"a": "b"}), &json!(true), 0), "{notes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_joined_name_is_fitted_and_differs_from_others() {
    let within = |name: &str| json!({"type": "function", "name": name, "parameters": schema()});
    let long = "a_server_with_a_long_name_that_goes_on_and_on_and_on_for_ever";
    let mut body = input(json!("?"));
    body["tools"] = json!([{"type": "namespace", "name": long, "description": "",
        "tools": [within("find_a_customer"), within("find_a_contract")]}]);
    for to in OTHERS {
        let (sent, notes) = arrives(to, &body).await;
        let names = names(to, &sent);
        let longest = if to == A { 128 } else { 64 };
        assert!(names.iter().all(|name| name.len() <= longest) && names[0] != names[1], "{names:?}");
        assert_eq!(notes.iter().any(|note| note.starts_with("tool_name: ")), to != A, "{notes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_tools_of_every_type_arrives() {
    let picture = "data:image/png;base64,QUJD";
    let mut body = input(json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Fix it."},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Two files."}], "encrypted_content": "gAAASEALED"},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "commentary",
            "content": [{"type": "output_text", "text": "Looking.", "annotations": []}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "namespace": "mcp__crm", "name": "find", "arguments": "{\"id\":\"7\"}"},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin Patch\n"},
        {"type": "function_call_output", "call_id": "call_1", "output": [
            {"type": "input_text", "text": "Seven."}, {"type": "input_image", "image_url": picture, "detail": "low"}]},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Done."},
        {"role": "user", "content": [{"type": "input_text", "text": "And this?"}, {"type": "input_image", "image_url": picture, "detail": "high"}]},
    ]));
    body["tools"] = tools();
    for to in OTHERS {
        let (sent, notes) = arrives(to, &body).await;
        let text = sent.to_string();
        // A sealed thought is nobody else's, and another dialect has no searches in its history.
        assert!(!text.contains("SEALED") && !text.contains("web_search_call"), "to {to}: {text}");
        let has = |note: &str| notes.iter().any(|own| own.starts_with(note));
        assert!(
            has("reasoning: ") && has("own_part (web_search_call)") && has("other_field (message.phase)"),
            "{notes:?}"
        );
        assert!(has("server_tool (web_search)"), "{notes:?}");
        assert_eq!(has("tool_media"), to != A, "{notes:?}");
        assert_eq!(has("image_detail"), to != O, "{notes:?}");
        let (calls, results): (Value, Value) = match to {
            A => {
                let turn = &sent["messages"][1]["content"];
                let call = |at: usize| json!([turn[at]["name"], turn[at]["input"]]);
                let results = &sent["messages"][2]["content"];
                let texts = json!([results[0]["content"][0]["text"], results[1]["content"][0]["text"]]);
                assert_eq!(results[0]["content"][1]["type"], "image");
                (json!([call(1), call(2)]), texts)
            }
            O => {
                let calls = &sent["messages"][2]["tool_calls"];
                let call = |at: usize| {
                    let arguments = calls[at]["function"]["arguments"].as_str().expect("arguments");
                    json!([calls[at]["function"]["name"], serde_json::from_str::<Value>(arguments).expect("JSON")])
                };
                assert_eq!(sent["messages"][6]["content"][1]["image_url"]["detail"], "high", "{sent:#}");
                let texts = json!([sent["messages"][3]["content"], sent["messages"][4]["content"]]);
                (json!([call(0), call(1)]), texts)
            }
            _ => {
                let turn = &sent["contents"][1]["parts"];
                let call = |at: usize| json!([turn[at]["functionCall"]["name"], turn[at]["functionCall"]["args"]]);
                let results = &sent["contents"][2]["parts"];
                let output = |at: usize| results[at]["functionResponse"]["response"]["output"].clone();
                (json!([call(1), call(2)]), json!([output(0), output(1)]))
            }
        };
        assert_eq!(
            calls,
            json!([["mcp__crm__find", {"id": "7"}], ["apply_patch", {"input": "*** Begin Patch\n"}]]),
            "to {to}"
        );
        assert_eq!(results, json!(["Seven.", "Done."]), "to {to}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_unknown_field_is_ignored_in_silence() {
    let mut body = input(json!([
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"},
            {"type": "input_image", "image_url": "data:image/png;base64,QUJD"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "!"}]},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": ""},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "4"}]},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "5"},
    ]));
    body["tools"] = json!([{"type": "function", "name": "f", "parameters": schema()}, {"type": "custom", "name": "patch"},
        {"type": "namespace", "name": "n", "description": "N", "tools": [{"type": "function", "name": "g", "parameters": schema()}]}]);
    body["text"] = json!({"format": {"type": "json_schema", "name": "a", "schema": schema()}});
    body["reasoning"] = json!({"effort": "low"});
    for place in [
        "",
        "/text",
        "/text/format",
        "/reasoning",
        "/input/0",
        "/input/0/content/0",
        "/input/0/content/1",
        "/input/0/content/2",
        "/input/1",
        "/input/2",
        "/input/2/content/0",
        "/input/3",
        "/input/4",
        "/input/5",
        "/input/5/output/0",
        "/input/6",
        "/tools/0",
        "/tools/1",
        "/tools/2",
        "/tools/2/tools/0",
    ] {
        let mut body = body.clone();
        body.pointer_mut(place).expect("a place")["odd_field"] = json!({"a": 1});
        for to in OTHERS {
            let (sent, notes) = arrives(to, &body).await;
            assert!(!sent.to_string().contains("odd_field"), "{place} to {to}");
            let named = notes.iter().filter(|note| note.contains("odd_field")).count();
            assert_eq!(named, 1, "{place} to {to}: {notes:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_and_outputs_without_their_partner_are_repaired() {
    let user = json!({"role": "user", "content": "?"});
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "4"});
    for (items, feature) in [
        (json!([user, output("call_9")]), "orphan_result"),
        (json!([user, call("call_1"), user]), "unanswered_call"),
        (json!([user, call("call_1"), call("call_2"), output("call_2"), user]), "unanswered_call"),
    ] {
        let mut body = input(items);
        body["tools"] = json!([{"type": "function", "name": "f", "parameters": schema()}]);
        for to in OTHERS {
            let (_, notes) = arrives(to, &body).await;
            assert!(notes.iter().any(|note| note.starts_with(feature)), "{feature} to {to}: {notes:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_forced_tool_of_the_providers_is_refused_and_another_one_dropped() {
    let search = json!({"type": "web_search"});
    for (tools, choice, name) in [
        (json!([search]), json!({"type": "web_search"}), "web_search"),
        (json!([search]), json!("required"), "web_search"),
        (json!([{"type": "mcp", "server_label": "a"}]), json!({"type": "mcp", "server_label": "a"}), "mcp"),
    ] {
        let mut body = input(json!("?"));
        (body["tools"], body["tool_choice"]) = (tools, choice);
        for to in OTHERS {
            let error = translate(R, to, false, &body).await.expect_err("forced");
            let expected =
                format!("forced_server_tool ({name}): only its own provider runs the tool that the model must call");
            assert_eq!((error.kind(), error.message()), (ErrorKind::UnsupportedFeature, expected.as_str()), "to {to}");
        }
    }
    // Another tool can be called in its place.
    let mut body = input(json!("?"));
    body["tools"] = json!([search, {"type": "function", "name": "f", "parameters": schema()}]);
    body["tool_choice"] = json!("required");
    for to in OTHERS {
        assert_eq!(names(to, &arrives(to, &body).await.0), ["f"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_choice_among_some_tools_sends_those_alone() {
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": schema()});
    let mut body = input(json!("?"));
    body["tools"] = json!([function("f"), function("g"),
        {"type": "namespace", "name": "n", "description": "N", "tools": [function("f"), function("g")]}]);
    let allowed = json!([{"type": "function", "name": "g"}, {"type": "function", "namespace": "n", "name": "f"}]);
    body["tool_choice"] = json!({"type": "allowed_tools", "mode": "required", "tools": allowed});
    for to in OTHERS {
        let (sent, notes) = arrives(to, &body).await;
        assert_eq!(names(to, &sent), ["g", "n__f"], "to {to}");
        let forced = match to {
            A => sent["tool_choice"]["type"] == "any",
            O => sent["tool_choice"] == "required",
            _ => sent["toolConfig"]["functionCallingConfig"]["mode"] == "ANY",
        };
        assert!(forced && notes.iter().any(|note| note.starts_with("allowed_tools: ")), "to {to}: {notes:?}");
    }
    // A choice among all of them is none.
    body["tools"] = json!([function("g")]);
    body["tool_choice"]["tools"] = json!([{"type": "function", "name": "g"}]);
    assert!(!arrives(A, &body).await.1.iter().any(|note| note.starts_with("allowed_tools")));
}

/// Returns a provider's signature as the caller of another dialect gets it.
fn enveloped(dialect: Dialect, token: &str) -> String {
    let opaque = Opaque { dialect, token: token.to_owned(), redacted: dialect == R };
    let thought = Part::Reasoning(Reasoning { text: "hm".to_owned(), opaque: Some(opaque) });
    let to = if dialect == A { R } else { A };
    let body = encode_message(&Message::new(Role::Assistant, vec![thought]), to).body;
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let sealed = if to == R { &body["output"][0]["encrypted_content"] } else { &body["content"][0]["signature"] };
    sealed.as_str().expect("a text").to_owned()
}

/// Google's recorded and OpenAI's documented refusals of each other's thoughts are met by nothing of them.
#[tokio::test(start_paused = true)]
async fn another_providers_thoughts_are_taken_out_of_the_bytes_and_nothing_else_is_touched() {
    let thought = |id: &str, content: &str| {
        format!(r#"{{"type":"reasoning","id":"{id}","summary":[],"encrypted_content":"{content}"}}"#)
    };
    let (own, foreign) = (thought("rs_1", "gAAA"), thought("rs_2", &enveloped(A, "EqYG")));
    let enveloped = thought("rs_9", &enveloped(R, "rs_1:gAAA"));
    let unsigned = thought("rs_3", "steadfast.none.unsigned.");
    let message = |text: &str| format!(r#"{{"role":"user", "content" : "{text}"}}"#);
    // A text that begins like a mark is nobody's thought.
    let (first, last) = (message("steadfast.anthropic.signed."), message("?"));
    let body = |items: &[&str]| format!(r#"{{"model":"gpt-5","input":[{}],"odd" :1}}"#, items.join(","));
    let (leaf, sent) = super::leaf_of(R, "gpt-5", false, (200, "application/json"), super::hello(R));
    for (items, kept, notes) in [
        (vec![&*first, &own, &foreign, &last, &unsigned], vec![&*first, &own, &last], 1),
        (vec![&*first, &own, &last], vec![&*first, &own, &last], 0),
        (vec![&*foreign], vec![], 1),
        // An answer that had begun under another id brings OpenAI's own thought back in an envelope.
        (vec![&*last, &enveloped], vec![&*last, &own], 0),
    ] {
        let request = steadfast::LlmRequest::from(steadfast::Wire::new(R, body(&items)).unwrap());
        let response = tower::ServiceExt::oneshot(leaf.clone(), request).await.unwrap();
        assert_eq!(response.notes().len(), notes, "{:?}", response.notes());
        assert_eq!(*sent.lock().unwrap(), body(&kept));
    }
}

#[tokio::test(start_paused = true)]
async fn what_responses_sealed_is_not_shown_to_a_server_of_chat_completions() {
    let detail =
        |format: &str, data: &str| json!({"type": "reasoning.encrypted", "format": format, "data": data, "index": 0});
    let turn = |details: Value| {
        json!({"model": "gpt-5", "messages": [{"role": "user", "content": "?"},
            {"role": "assistant", "content": "4", "reasoning_details": details}, {"role": "user", "content": "?"}]})
    };
    let own = detail("openai-responses-v1", "gAAAOWN");
    let (sent, notes) =
        translate(O, O, false, &turn(json!([own, detail("steadfast.responses.v1", "rs_1:gAAASEALED")]))).await.unwrap();
    assert_eq!(sent["messages"][1]["reasoning_details"], json!([own]), "{notes:?}");
    assert_eq!(notes.len(), 1, "{notes:?}");
}
