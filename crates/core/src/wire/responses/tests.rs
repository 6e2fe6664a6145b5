use serde_json::{Value, json};

use super::tool_names::{CallKind, OwnName};
use super::*;
use crate::{
    ErrorKind, Wire, WireLimits,
    chat::{Document, Effort, ExtraOf, Image, Media, Opaque, Reasoning, Tool, ToolCall, ToolResult},
};

fn decoded(body: &Value) -> Result<Chat, LlmError> {
    let wire = Wire::new(Dialect::Responses, body.to_string())?;
    wire.decode(&crate::wire::Stop::default())
}

fn chat(body: &Value) -> Chat {
    decoded(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn turns(items: Value) -> Vec<(Role, Vec<Part>)> {
    let chat = chat(&json!({"model": "m", "input": items}));
    chat.messages.into_iter().map(|message| (message.role, message.content)).collect()
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn extra(fields: Value) -> Part {
    Part::Extra { of: ExtraOf::Part, extra: Extra::new(Dialect::Responses, fields) }
}

fn other(value: Value) -> Part {
    Part::Other { dialect: Dialect::Responses, value: value.into() }
}

fn result(id: &str, content: Vec<Part>) -> Part {
    let mut result = ToolResult::new(id, "");
    result.content = content;
    Part::ToolResult(result)
}

#[test]
fn a_text_is_a_users_turn() {
    assert_eq!(turns(json!("hi")), [(Role::User, vec![text("hi")])]);
    assert_eq!(turns(json!([{"role": "user", "content": "hi"}])), [(Role::User, vec![text("hi")])]);
    let parts = json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]);
    assert_eq!(turns(parts), [(Role::User, vec![text("hi")])]);
}

#[test]
fn instructions_and_leading_messages_of_the_system_are_its_prompt() {
    let leading = json!([
        {"role": "developer", "content": "b"},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "c"}], "id": "msg_1"},
    ]);
    let mut items = leading.as_array().unwrap().clone();
    items.extend([json!({"role": "user", "content": "hi"}), json!({"role": "developer", "content": "d"})]);
    let chat = chat(&json!({"instructions": "a", "input": items, "store": false}));
    assert_eq!(chat.system.as_deref(), Some("a\n\nb\n\nc"));
    let [user, later] = &chat.messages[..] else { panic!("{:?}", chat.messages) };
    assert_eq!((user.role, later.role), (Role::User, Role::System));
    assert_eq!(later.content, [text("d"), extra(json!({"item": {"role": "developer"}}))]);
    let settings = &chat.extra.unwrap().fields;
    assert_eq!(*settings, json!({"instructions": "a", "store": false, "input": leading}));
    assert_eq!(SystemPrefix::read(settings.raw()).unwrap(), chat.system);
}

#[test]
fn items_of_the_model_are_one_turn_and_outputs_another() {
    let web = json!({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}});
    let shell = json!({"type": "local_shell_call_output", "id": "ls_1", "output": "x"});
    let turns = turns(json!([
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "so"}], "encrypted_content": "E"},
        web,
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary",
            "content": [{"type": "output_text", "text": "one", "annotations": []}, {"type": "refusal", "refusal": "two"}]},
        {"role": "assistant", "content": "three"},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        {"type": "function_call_output", "call_id": "c2", "status": "completed",
            "output": [{"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}, {"type": "hologram"}]},
        shell,
        {"role": "user", "content": "and?"},
    ]));
    let image = Part::Image(Image { media: Media::Url("https://x/y.png".into()) });
    let opaque = Opaque { dialect: Dialect::Responses, token: "rs_1:E".into(), redacted: true };
    assert_eq!(
        turns,
        [
            (Role::User, vec![text("hi")]),
            (
                Role::Assistant,
                vec![
                    Part::Reasoning(Reasoning { text: "so".into(), opaque: Some(opaque) }),
                    other(web),
                    text("one"),
                    extra(
                        json!({"item": {"id": "msg_1", "status": "completed", "phase": "commentary"}, "annotations": []})
                    ),
                    Part::Refusal("two".into()),
                    text("three"),
                    extra(json!({"item": {}})),
                    Part::ToolCall(ToolCall::new("c1", "f", "{}")),
                    extra(json!({"item": {"id": "fc_1"}})),
                ]
            ),
            (
                Role::User,
                vec![
                    result("c1", vec![text("done")]),
                    result("c2", vec![image, extra(json!({"detail": "low"})), other(json!({"type": "hologram"}))]),
                    extra(json!({"item": {"status": "completed"}})),
                    other(shell),
                ]
            ),
            (Role::User, vec![text("and?")]),
        ]
    );
}

#[test]
fn parts_keep_what_the_neutral_form_lacks() {
    let pdf = || Media::Base64 { media_type: "application/pdf".into(), data: "AA==".into() };
    let document = |media, name: Option<&str>| Part::Document(Document { media, name: name.map(str::to_owned) });
    let image = |media| Part::Image(Image { media });
    let data = "data:application/pdf;base64,AA==";
    for (part, decoded) in [
        (
            json!({"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}),
            vec![text("a"), extra(json!({"prompt_cache_breakpoint": {"mode": "explicit"}}))],
        ),
        (json!({"type": "output_text", "text": "a"}), vec![text("a"), extra(json!({"type": "output_text"}))]),
        (
            json!({"type": "input_image", "image_url": "data:image/png;base64,AA==", "file_id": null}),
            vec![image(Media::Base64 { media_type: "image/png".into(), data: "AA==".into() })],
        ),
        (
            json!({"type": "input_image", "file_id": "file-1", "detail": "high"}),
            vec![image(Media::File("file-1".into())), extra(json!({"detail": "high"}))],
        ),
        (json!({"type": "input_file", "file_data": data, "filename": "a.pdf"}), vec![document(pdf(), Some("a.pdf"))]),
        (
            json!({"type": "input_file", "file_data": data}),
            vec![document(pdf(), None), extra(json!({"filename": null}))],
        ),
        (
            json!({"type": "input_file", "file_url": "https://x/a.pdf"}),
            vec![document(Media::Url("https://x/a.pdf".into()), None)],
        ),
        (json!({"type": "input_file", "file_id": "file-2"}), vec![document(Media::File("file-2".into()), None)]),
        (
            json!({"type": "input_file", "file_data": "bare"}),
            vec![other(json!({"type": "input_file", "file_data": "bare"})), extra(json!({}))],
        ),
        (
            json!({"type": "input_audio", "data": "AA=="}),
            vec![other(json!({"type": "input_audio", "data": "AA=="})), extra(json!({}))],
        ),
    ] {
        assert_eq!(turns(json!([{"role": "user", "content": [part]}])), [(Role::User, decoded)], "{part}");
    }
    let empty = turns(json!([{"role": "user", "content": []}, {"role": "assistant", "content": ""},
        {"type": "message", "role": "assistant", "content": [], "id": "msg_1"}]));
    let bearer = vec![text(""), extra(json!({"item": {"id": "msg_1"}}))];
    assert_eq!(empty, [(Role::User, Vec::new()), (Role::Assistant, bearer)]);
}

#[test]
fn a_thought_keeps_its_seal_and_its_paragraphs() {
    let summary =
        |texts: &[&str]| texts.iter().map(|text| json!({"type": "summary_text", "text": text})).collect::<Vec<_>>();
    let sealed = |token: &str| Some(Opaque { dialect: Dialect::Responses, token: token.into(), redacted: true });
    let claude = Opaque { dialect: Dialect::Anthropic, token: "sig".into(), redacted: false };
    let raw = json!([{"type": "reasoning_text", "text": "raw"}]);
    for (item, text, opaque, rest) in [
        (json!({"type": "reasoning", "id": "rs_1", "summary": []}), "", None, Some(json!({"id": "rs_1"}))),
        (json!({"type": "reasoning", "summary": summary(&["a"]), "encrypted_content": null}), "a", None, None),
        (
            json!({"type": "reasoning", "id": "rs:1", "summary": summary(&["a", "b"]), "encrypted_content": "E"}),
            "a\n\nb",
            sealed("rs:1:E"),
            Some(json!({"summary": summary(&["a", "b"])})),
        ),
        (
            json!({"type": "reasoning", "summary": [], "content": raw}),
            "raw",
            None,
            Some(json!({"summary": [], "content": raw})),
        ),
        (
            json!({"type": "reasoning", "id": "rs_2", "summary": summary(&["a"]), "encrypted_content": crate::wire::foreign::seal(Some(&claude), Dialect::Responses)}),
            "a",
            Some(claude.clone()),
            Some(json!({"id": "rs_2"})),
        ),
    ] {
        let mut expected = vec![Part::Reasoning(Reasoning { text: text.to_owned(), opaque })];
        expected.extend(rest.map(|rest| extra(json!({"item": rest}))));
        assert_eq!(turns(json!([item])), [(Role::Assistant, expected)], "{item}");
    }
    assert_eq!(sealed::split(&sealed::join("rs_1", "a:b")), ("rs_1", "a:b"));
    assert_eq!(sealed::split(&sealed::join("", "a")), ("", "a"));
}

#[test]
fn settings_have_their_neutral_names() {
    let chat = chat(&json!({
        "model": "m", "input": "hi", "stream": true, "max_output_tokens": 7, "temperature": 0.5, "top_p": 1,
        "parallel_tool_calls": false, "tool_choice": {"type": "custom", "name": "patch"},
        "reasoning": {"effort": "xhigh", "summary": "auto"}, "truncation": "auto",
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
    }));
    assert_eq!((chat.stream, chat.max_tokens, chat.temperature, chat.top_p), (true, Some(7), Some(0.5), Some(1.0)));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    assert_eq!(chat.tool_choice, Some(ToolChoice::Named("patch".into())));
    assert_eq!(chat.thinking, Some(Thinking::Effort(Effort::XHigh)));
    let output = OutputSchema { name: "n".into(), schema: Some(json!({"type": "object"}).into()), strict: true };
    assert_eq!(chat.output, Some(output));
    let mut was = Chat::default();
    let settings_kept = chat.extra.as_ref().unwrap().fields.clone();
    settings(settings_kept.raw(), &ToolNames::default(), &mut was).unwrap();
    assert_eq!((was.output, was.thinking, was.max_tokens), (chat.output, chat.thinking, chat.max_tokens));
    for (field, value, check) in [
        ("reasoning", json!({"effort": "none"}), (|chat| chat.thinking == Some(Thinking::Off)) as fn(&Chat) -> bool),
        ("text", json!({"format": {"type": "text"}}), |chat| chat.output.is_none()),
        ("text", json!({"format": {"type": "json_object"}}), |chat| chat.output.as_ref().unwrap().schema.is_none()),
        ("tool_choice", json!("required"), |chat| chat.tool_choice == Some(ToolChoice::Required)),
        ("tool_choice", json!({"type": "allowed_tools", "mode": "auto", "tools": []}), |chat| {
            chat.tool_choice == Some(ToolChoice::Auto)
        }),
        ("tool_choice", json!({"type": "web_search_preview"}), |chat| {
            chat.tool_choice == Some(ToolChoice::Named("web_search_preview".into()))
        }),
    ] {
        let body = json!({"input": "hi", field: value});
        assert!(check(&self::chat(&body)), "{body}");
    }
}

#[test]
fn wrong_input_is_refused_by_name() {
    let nested =
        json!([{"type": "namespace", "name": "a", "tools": [{"type": "namespace", "name": "b", "tools": []}]}]);
    for (body, names) in [
        (json!({}), "input must be a text or a list"),
        (json!({"input": 7}), "input must be a text or a list"),
        (json!({"input": {"role": "user"}}), "input must be a text or a list"),
        (json!({"input": ["hi"]}), "input must be a list of objects"),
        (json!({"input": [{"content": "hi"}]}), "input.type must be a text"),
        (
            json!({"input": [{"role": "tool", "content": "hi"}]}),
            "input.role must be developer, system, user or assistant",
        ),
        (json!({"input": [{"role": "user", "content": 7}]}), "input.content must be a text or a list"),
        (json!({"input": [{"role": "user", "content": [{"text": "a"}]}]}), "input.content.type must be a text"),
        (json!({"input": [{"type": "function_call", "call_id": "c"}]}), "input.name must be a text"),
        (json!({"input": [{"type": "function_call_output", "call_id": "c"}]}), "input.output must be a text or a list"),
        (
            json!({"input": [{"type": "function_call_output", "call_id": "c", "output": {}}]}),
            "input.output must be a text or a list",
        ),
        (json!({"input": "hi", "instructions": ["a"]}), "instructions must be a text"),
        (json!({"input": "hi", "tools": {}}), "tools must be a list"),
        (json!({"input": "hi", "tools": [7]}), "tools must be a list of objects"),
        (json!({"input": "hi", "reasoning": {"effort": "one day"}}), "reasoning.effort must be none, minimal"),
        (json!({"input": "hi", "max_output_tokens": -1}), "max_output_tokens must be a whole number"),
        (json!({"input": "hi", "tools": [{"type": "function"}]}), "tools.name must be a text"),
        (json!({"input": "hi", "tools": [{"type": "namespace", "tools": []}]}), "tools.name must be a text"),
        (json!({"input": "hi", "tools": [{"type": "namespace", "name": "n"}]}), "tools.tools must be a list"),
        (json!({"input": "hi", "tools": nested}), "tools.tools must be a list of tools that are no namespaces"),
        (
            json!({"input": "hi", "tools": [{"type": "namespace", "name": "n".repeat(200), "tools": []}]}),
            "tools.name must be at most 128 bytes long in a namespace",
        ),
        (json!({"input": "hi", "tool_choice": "maybe"}), "tool_choice must be auto, required, none or an object"),
        (json!({"input": "hi", "tool_choice": {"type": "function"}}), "tool_choice.name must be a text"),
        (json!({"input": "hi", "max_output_tokens": "many"}), "max_output_tokens must be a whole number"),
    ] {
        let error = decoded(&body).expect_err(&body.to_string());
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{body}");
        assert!(error.message().starts_with(names), "{error}: {body}");
    }
    for at_the_provider in ["previous_response_id", "conversation", "prompt"] {
        assert!(chat(&json!({at_the_provider: "x"})).messages.is_empty());
    }
}

#[test]
fn numbers_out_of_range_are_refused_by_their_field() {
    for (body, name) in [
        (r#"{"input":"hi","aurora":{"x":[1e999]}}"#, "aurora"),
        (r#"{"input":[{"role":"user","content":"hi","weight":-1e999}]}"#, "input"),
    ] {
        let wire = Wire::new(Dialect::Responses, body).unwrap();
        let error = wire.chat().expect_err(body);
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.message().starts_with(&format!("{name} must be JSON without numbers")), "{error}");
    }
}

#[test]
fn what_is_unknown_passes() {
    let reference = json!({"id": "msg_1"});
    let items = json!([{"type": "hologram", "depth": 3}, reference, {"type": "item_reference", "id": "x"}]);
    let chat = chat(&json!({"input": items, "aurora": [1.0], "tools": [{"type": "teleport", "to": "x"}]}));
    let expected: Vec<Part> = items.as_array().unwrap().iter().cloned().map(other).collect();
    assert_eq!(chat.messages, [Message::new(Role::Assistant, expected)]);
    assert_eq!(chat.extra.unwrap().fields, json!({"aurora": [1.0]}));
    assert!(chat.tools[0].runs_at_provider());
    assert_eq!(*tools::unchanged(&chat.tools[0]).unwrap(), json!({"type": "teleport", "to": "x"}));
}

#[test]
fn limits_count_items_parts_calls_and_tools() {
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {}});
    let namespace = json!({"type": "namespace", "name": "n", "tools": [function("a"), function("b")]});
    let parts = json!([{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}]);
    let wide = WireLimits::default();
    for (body, limits, word) in [
        (json!({"input": [call, call]}), wide.messages(1), "messages"),
        (json!({"input": [call, call]}), wide.tool_calls(1), "tool_calls"),
        (json!({"input": parts}), wide.parts(1), "parts"),
        (json!({"input": "hi", "tools": [function("a"), function("b")]}), wide.tools(1), "tools"),
        (json!({"input": "hi", "tools": [namespace]}), wide.tools(1), "tools"),
    ] {
        let wire = Wire::new(Dialect::Responses, body.to_string()).unwrap().limits(limits);
        let error = wire.chat().expect_err(word);
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{body}");
        assert!(error.message().contains(&format!("`{word}`")), "{error}");
        let wire = Wire::new(Dialect::Responses, body.to_string()).unwrap();
        assert!(wire.chat().is_ok(), "{body}");
    }
}

fn own(namespace: Option<&str>, name: &str, kind: CallKind) -> OwnName {
    OwnName { namespace: namespace.map(str::to_owned), name: name.to_owned(), kind }
}

#[test]
fn tools_of_namespaces_have_joined_names_and_come_back() {
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object"}});
    let patch = json!({"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}});
    let chat = chat(&json!({
        "tools": [
            {"type": "namespace", "name": "crm", "description": "d", "tools": [function("find"), patch, function("find")]},
            {"type": "namespace", "name": "mcp__files__", "description": "e", "tools": [function("read")]},
            {"type": "namespace", "name": "search", "description": "f", "tools": [function("search")]},
            function("crm__find"), function("find"), {"type": "web_search"},
        ],
        "input": [
            {"type": "function_call", "call_id": "1", "namespace": "crm", "name": "find", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "2", "namespace": "crm", "name": "patch", "input": "a \"b\"\n", "id": "ctc_1"},
            {"type": "function_call", "call_id": "3", "namespace": "gone", "name": "find", "arguments": "{}"},
            {"type": "function_call", "call_id": "4", "namespace": "find", "name": "find", "arguments": "{}"},
            {"type": "custom_tool_call_output", "call_id": "2", "output": "ok"},
        ],
    }));
    let names: Vec<&str> = chat.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(
        names,
        ["crm__find_2", "crm__patch", "crm__find_3", "mcp__files__read", "search", "crm__find", "find", "web_search"]
    );
    let table = ToolNames::of(&chat);
    for (neutral, expected) in [
        ("crm__find_2", Some(own(Some("crm"), "find", CallKind::Function))),
        ("crm__patch", Some(own(Some("crm"), "patch", CallKind::Custom))),
        ("mcp__files__read", Some(own(Some("mcp__files__"), "read", CallKind::Function))),
        ("search", Some(own(Some("search"), "search", CallKind::Function))),
        ("crm__find", None),
        ("find", None),
        ("web_search", None),
    ] {
        assert_eq!(table.own(neutral), expected.as_ref(), "{neutral}");
    }
    assert_eq!(table.neutral("crm", "find"), "crm__find_2");
    assert_eq!(table.neutral("gone", "find"), "gone__find");
    assert_eq!(
        chat.messages[0].content,
        [
            Part::ToolCall(ToolCall::new("1", "crm__find_2", "{}")),
            Part::ToolCall(ToolCall::new("2", "crm__patch", r#"{"input":"a \"b\"\n"}"#)),
            extra(json!({"item": {"type": "custom_tool_call", "id": "ctc_1"}})),
            Part::ToolCall(ToolCall::new("3", "gone__find", "{}")),
            extra(json!({"item": {"namespace": "gone", "name": "find"}})),
            // A function that was found by a search is its own namespace.
            Part::ToolCall(ToolCall::new("4", "find", "{}")),
            extra(json!({"item": {"namespace": "find", "name": "find"}})),
        ]
    );
    let output = [result("2", vec![text("ok")]), extra(json!({"item": {"type": "custom_tool_call_output"}}))];
    assert_eq!(chat.messages[1].content, output);

    let fields = |tool: &Tool| tool.extra.as_ref().unwrap().fields.value().unwrap();
    let begun = json!({"type": "namespace", "name": "crm", "description": "d"});
    assert_eq!(fields(&chat.tools[0])["namespace"], begun);
    assert_eq!(fields(&chat.tools[1])["namespace"], json!({"name": "crm"}));
    assert_eq!(fields(&chat.tools[1])["format"], patch["format"]);
    let schema = chat.tools[1].parameters.value().unwrap();
    assert_eq!(schema["required"], json!(["input"]));
    assert!(schema["properties"]["input"]["description"].as_str().unwrap().ends_with("start: X"), "{schema}");
    assert_eq!(chat.tools[5].extra, None);
    for tool in chat.tools.iter().filter(|tool| tool.extra.is_some()) {
        assert_eq!(*tools::unchanged(tool).unwrap(), fields(tool), "{}", tool.name);
        let changed = Tool { description: Some("changed".into()), ..tool.clone() };
        assert_eq!(tools::unchanged(&changed), None);
    }
}

/// Names that collide in every way take as many steps as there are names.
/// Codex sends the tools of its newest models in the conversation.
#[test]
fn an_item_may_define_tools() {
    let exec = json!({"type": "custom", "name": "exec", "description": "Runs."});
    let found = json!({"type": "function", "name": "find", "parameters": {"type": "object", "properties": {}}});
    let functions = json!({"type": "namespace", "name": "functions", "tools": [exec, found]});
    let chat = chat(&json!({"tools": [found], "input": [
        {"type": "additional_tools", "role": "developer", "tools": [functions]},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"type": "tool_search_output", "call_id": "s", "tools": [functions, found, {"type": "function", "name": "new"}]},
        {"type": "custom_tool_call", "call_id": "c", "namespace": "functions", "name": "exec", "input": "ls"},
    ]}));
    let names: Vec<_> = chat.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["find", "functions__exec", "functions__find", "new"]);
    let of_items: Vec<_> = chat.tools.iter().map(tools::is_of_item).collect();
    assert_eq!(of_items, [false, true, true, true]);
    let names = ToolNames::of(&chat);
    assert_eq!(names.own("functions__exec"), Some(&own(Some("functions"), "exec", CallKind::Custom)));
    assert_eq!(chat.messages.last().unwrap().tool_calls().next().unwrap().name, "functions__exec");
    // The item before the prompt is no turn of the model's.
    assert_eq!((chat.system.as_deref(), chat.messages[0].role), (Some("Be brief."), Role::User));
}

#[test]
fn many_tools_are_named_in_linear_work() {
    const COUNT: u32 = 10_000;
    let mut names = tool_names::Allocator::default();
    (0..COUNT).for_each(|n| names.reserve(format!("a__b_{n}").into()));
    let allocated: Vec<String> = (0..COUNT).map(|_| names.allocate("a__b".to_owned())).collect();
    assert_eq!((allocated[0].as_str(), allocated[1].as_str()), ("a__b", "a__b_10000"));
    assert_eq!(allocated.iter().collect::<std::collections::HashSet<_>>().len(), allocated.len());
    assert_eq!(names.next.get("a__b"), Some(&(2 * COUNT - 1)), "each number is tried once");

    let function = |n: u32| format!(r#"{{"type":"function","name":"f{}"}}"#, n / 2);
    let tools: Vec<String> = (0..COUNT).map(function).collect();
    let body = format!(r#"{{"input":"hi","tools":[{{"type":"namespace","name":"a","tools":[{}]}}]}}"#, tools.join(","));
    let wire = Wire::new(Dialect::Responses, body).unwrap().limits(WireLimits::unlimited());
    let tools = &wire.chat().unwrap().tools;
    let names: std::collections::HashSet<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!((tools.len(), names.len()), (COUNT as usize, COUNT as usize));
}
