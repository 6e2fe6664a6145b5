//! Tools of a type that a server does not have.

use serde_json::{Value, json};
use steadfast::{Dialect, ErrorKind, FallbackLayer};
use tower::{Layer, ServiceExt};

use super::{Llm, Server, ask, of_caller, openai, request};

use Dialect::{Anthropic as A, OpenAi as O, Responses as R};

/// A server's words about the tool at a place, of a type.
type Form = fn(usize, &str) -> (u16, Value);

/// Servers and what is between: the source of each is the report of its users, or its own validator.
const FORMS: [(&str, Form); 21] = [
    ("OpenAI", |at, kind| {
        let message = format!("Invalid value: '{kind}'. Supported values are: 'function' and 'retrieval'.");
        (400, openai(message, json!(format!("tools[{at}].type")), "invalid_value"))
    }),
    ("OpenAI, of a model", |_, kind| {
        (400, openai(format!("Hosted tool '{kind}' is not supported with served."), json!("tools"), "unsupported"))
    }),
    ("OpenAI, what a function has", |at, _| {
        let place = format!("tools[{at}].parameters");
        (400, openai(format!("Missing required parameter: '{place}'."), json!(place), "missing_required_parameter"))
    }),
    ("Azure", |_, kind| (400, openai(format!("Unsupported tool type: {kind}."), Value::Null, "unsupported_tool"))),
    ("Copilot", |_, kind| {
        (
            400,
            json!({"error": {"message": format!("The requested tool {kind} is not supported."), "code": "invalid_request_body"}}),
        )
    }),
    ("vLLM, printed", |at, kind| {
        let one = |tag: &str, of: &str| {
            format!(
                "{{'type': 'literal_error', 'loc': ('body', 'tools', {at}, '{tag}', 'type'), 'msg': \"Input should be '{of}'\", 'input': '{kind}'}}"
            )
        };
        let missing = format!(
            "{{'type': 'missing', 'loc': ('body', 'tools', {at}, 'FunctionTool', 'parameters'), 'msg': 'Field required'}}"
        );
        let message = format!("[{}, {missing}, {}]", one("FunctionTool", "function"), one("OtherTool", "other"));
        (400, json!({"object": "error", "message": message, "type": "BadRequestError", "param": null, "code": 400}))
    }),
    ("vLLM, not implemented", |_, kind| {
        (
            501,
            json!({"error": {"message": format!("Tool type {kind} not supported"), "type": "NotImplementedError", "param": null, "code": 501}}),
        )
    }),
    ("FastAPI", |at, kind| {
        (
            422,
            json!({"detail": [{"type": "literal_error", "loc": ["body", "tools", at, "type"], "msg": "Input should be 'function'", "input": kind}]}),
        )
    }),
    ("pydantic's report", |at, kind| {
        let message = format!(
            "1 validation error for ResponsesRequest\ntools.{at}.type\n  Input should be 'function' [type=literal_error, input_value='{kind}', input_type=str]\n    For further information visit https://errors.pydantic.dev/2.11/v/literal_error"
        );
        (400, openai(message, Value::Null, "400"))
    }),
    ("Mistral", |at, kind| {
        let detail = json!([{"type": "literal_error", "loc": ["body", "tools", at, "type"], "msg": "Input should be 'function'", "input": kind}]);
        (
            422,
            json!({"object": "error", "message": {"detail": detail}, "type": "invalid_request_error", "param": null, "code": null}),
        )
    }),
    ("serde, as DeepSeek", |at, kind| {
        let message = format!(
            "Failed to deserialize the JSON body into the target type: tools[{at}].type: unknown variant `{kind}`, expected `function` at line 1 column 90"
        );
        (422, openai(message, Value::Null, "invalid_request_error"))
    }),
    ("serde, alone", |_, kind| {
        (400, json!({"error": format!("unknown variant `{kind}`, expected `function` at line 1 column 90")}))
    }),
    ("Zod, as OpenRouter", |at, _| {
        let issues = json!([{"code": "invalid_value", "values": ["function"], "path": ["tools", at, "type"], "message": "Invalid input: expected \"function\""}]);
        (400, json!({"error": {"message": issues.to_string(), "code": 400}}))
    }),
    ("Zod, as LM Studio", |at, _| {
        (
            400,
            openai(
                "Invalid discriminator value. Expected 'function'",
                json!(format!("tools.{at}.type")),
                "invalid_union_discriminator",
            ),
        )
    }),
    ("Ajv", |at, _| {
        let error = json!({"instancePath": format!("/tools/{at}/type"), "keyword": "const", "message": "must be equal to constant"});
        (400, json!({"error": {"message": "Validation failed", "errors": [error]}}))
    }),
    ("Groq", |at, _| {
        (400, openai(format!("'tools.{at}.type' : value must be one of [function]"), Value::Null, "invalid"))
    }),
    ("llama.cpp", |_, _| {
        (
            400,
            json!({"error": {"code": 400, "message": "'type' of tool must be 'function'", "type": "invalid_request_error"}}),
        )
    }),
    ("functions alone", |_, _| (400, openai("Only function tools are supported.", json!("tools"), "unsupported"))),
    ("built-in tools", |_, _| {
        (400, openai("Built-in tools are not supported by this provider", Value::Null, "unsupported"))
    }),
    ("LiteLLM before one", |_, kind| {
        (
            400,
            openai(
                format!("litellm.BadRequestError: OpenAIException - Unsupported tool type: '{kind}'"),
                json!("None"),
                "400",
            ),
        )
    }),
    ("new-api before one", |at, kind| {
        let message = format!("tools[{at}]: tool type `{kind}` is not supported (request id: 20261128abc)");
        (400, openai(message, Value::Null, "invalid_request"))
    }),
];

const KINDS: [&str; 12] = [
    "web_search",
    "web_search_preview",
    "web_search_2025_08_26",
    "image_generation",
    "local_shell",
    "custom",
    "tool_search",
    "namespace",
    "code_interpreter",
    "mcp",
    "computer_use_preview",
    "a_tool_of_tomorrow",
];

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "description": "d", "parameters": {"type": "object", "properties": {}}})
}

/// The fields of a tool of another type, as Codex sends it.
fn special(kind: &str) -> Value {
    match kind {
        "custom" => json!({"type": kind, "name": "apply_patch", "description": "d", "format": {"type": "text"}}),
        "namespace" => json!({"type": kind, "name": "mcp", "description": "d", "tools": [function("inner")]}),
        "mcp" => json!({"type": kind, "server_label": "l", "server_url": "https://mcp.example"}),
        "tool_search" => json!({"type": kind, "description": "d"}),
        _ => json!({ "type": kind }),
    }
}

/// A turn of Codex's. The model is the server's own: no caller who names it can know its tools.
fn codex(kinds: &[&str]) -> Value {
    let mut tools = vec![function("shell")];
    tools.extend(kinds.iter().map(|kind| special(kind)));
    tools.push(function("update_plan"));
    json!({"model": "served", "instructions": "i", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]}],
        "tools": tools, "tool_choice": "auto", "parallel_tool_calls": false, "store": false,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "p"})
}

/// A server of functions that refuses the first tool of another type in this form.
fn server(form: Form) -> Server {
    Server::new(R, move |body, _| {
        let tools = body["tools"].as_array().cloned().unwrap_or_default();
        let (at, tool) = tools.iter().enumerate().find(|(_, tool)| tool["type"] != "function")?;
        Some(form(at, tool["type"].as_str().unwrap()))
    })
}

#[tokio::test(start_paused = true)]
async fn a_refused_tool_is_left_out_at_the_second_call_and_from_then_on_at_the_first() {
    for (name, form) in FORMS {
        for kind in KINDS {
            let expected = {
                let mut expected = codex(&[]);
                expected["model"] = "served".into();
                expected
            };
            let server = server(form);
            let llm = server.llm();
            for (time, stream) in [(0, false), (1, true), (2, false)] {
                let what = format!("{name}, {kind}, time {time}");
                let notes = ask(&llm, request(R, &codex(&[kind]), stream)).await;
                let notes = notes.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(notes.contains(&format!("`tools[{kind}]` was left out")), "{what}: {notes}");
                let sent = server.take();
                assert_eq!(sent.len(), if time == 0 { 2 } else { 1 }, "{what}");
                let mut last = sent.last().unwrap().0.clone();
                last.as_object_mut().unwrap().remove("stream");
                assert_eq!(last, expected, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_of_codexs_tools_are_learned_one_after_the_other() {
    let kinds = ["web_search", "image_generation", "local_shell", "custom", "tool_search", "namespace"];
    for (name, form) in FORMS {
        let server = server(form);
        let llm = server.llm();
        ask(&llm, request(R, &codex(&kinds), true)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let calls = server.take().len();
        assert!((2..=7).contains(&calls), "{name}: {calls} calls");
        ask(&llm, request(R, &codex(&kinds), true)).await.unwrap();
        assert_eq!(server.take().len(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_names_the_tool_goes_with_it() {
    let server = server(FORMS[3].1);
    let llm = server.llm();
    let mut body = codex(&["web_search"]);
    body["include"] = json!(["web_search_call.action.sources", "reasoning.encrypted_content"]);
    body["tool_choice"] = json!({"type": "allowed_tools", "mode": "auto",
        "tools": [{"type": "web_search"}, {"type": "function", "name": "shell"}]});
    ask(&llm, request(R, &body, false)).await.unwrap();
    let sent = server.take().pop().unwrap().0;
    assert_eq!(sent["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(sent["tool_choice"]["tools"], json!([{"type": "function", "name": "shell"}]));

    // The only tool, and a choice among none.
    let body = json!({"model": "served", "input": "?", "tools": [{"type": "web_search"}], "tool_choice": "auto",
        "parallel_tool_calls": true, "include": ["web_search_call.results"]});
    ask(&llm, request(R, &body, false)).await.unwrap();
    let sent = server.take().pop().unwrap().0;
    for field in ["tools", "tool_choice", "parallel_tool_calls", "include"] {
        assert!(sent.get(field).is_none(), "{field}: {sent}");
    }
}

/// A request that must call the tool goes to the next tier; alone, its caller gets the server's own words.
#[tokio::test(start_paused = true)]
async fn a_tool_that_must_be_called_is_another_tiers() {
    let choices = [
        json!({"type": "web_search"}),
        json!("required"),
        json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}),
    ];
    for choice in choices {
        for (name, form) in FORMS {
            let mut body = codex(&["web_search"]);
            body["tool_choice"] = choice.clone();
            if choice == "required" {
                body["tools"] = json!([{"type": "web_search"}]);
            }
            let (first, second) = (server(form), Server::new(R, |_, _| None));
            let llm = Llm::new(FallbackLayer::new("first").tier("second", second.llm()).layer(first.llm()));
            ask(&llm, request(R, &body, false)).await.unwrap_or_else(|error| panic!("{name} {choice}: {error}"));
            assert!(!first.take().is_empty(), "{name} {choice}");
            assert_eq!(second.take().pop().unwrap().0["tool_choice"], choice, "{name}");

            let alone = ask(&first.llm(), request(R, &body, false)).await.unwrap_err();
            assert!(matches!(alone.kind(), ErrorKind::InvalidRequest | ErrorKind::Server), "{name}: {alone}");
        }
    }
}

/// At the vendor's own server a caller chooses the model, and knows its tools.
#[tokio::test(start_paused = true)]
async fn at_the_vendors_own_server_it_is_the_callers_mistake() {
    let server = server(FORMS[1].1);
    let llm = server.llm_at("https://api.openai.com/v1");
    let refused = ask(&llm, request(R, &codex(&["web_search"]), false)).await.unwrap_err();
    assert_eq!((refused.kind(), server.take().len()), (ErrorKind::InvalidRequest, 1));
    // Unless it meant another model.
    let mut body = codex(&["web_search"]);
    body["model"] = "gpt-5".into();
    let notes = ask(&llm, request(R, &body, false)).await.unwrap();
    assert!(notes.contains("`tools[web_search]` was left out"), "{notes}");
    ask(&llm, request(R, &codex(&["web_search"]), false)).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_error_about_something_else_leaves_every_tool_in() {
    let errors = [
        openai(
            "Invalid value: 'web_search'. Supported values are: 'low', 'medium', and 'high'.",
            json!("tools[1].search_context_size"),
            "invalid_value",
        ),
        openai(
            "Invalid 'input[0].content': \"Unsupported tool type: 'web_search'\"",
            json!("input[0].content"),
            "invalid_value",
        ),
        openai("The prompt `Unsupported tool type: web_search` is too short", json!("input"), "invalid_value"),
        json!({"detail": [{"type": "literal_error", "loc": ["body", "tools", 1, "WebSearchTool", "search_context_size"], "msg": "Input should be 'low'"},
            {"type": "literal_error", "loc": ["body", "tools", 1, "FunctionTool", "type"], "msg": "Input should be 'function'"}]}),
        json!({"detail": [{"type": "string_type", "loc": ["body", "tools", 0, "name"], "msg": "Input should be a valid string"}]}),
        openai("tools[0].name: does not match '^[a-z]+$'", Value::Null, "invalid"),
        openai("Invalid value for 'tool_choice': must be 'auto'", json!("tool_choice"), "invalid"),
    ];
    for error in errors {
        let answer = error.clone();
        let server = Server::new(R, move |body, _| {
            let has =
                body["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["type"] == "web_search"));
            has.then(|| (400, answer.clone()))
        });
        let llm = server.llm();
        ask(&llm, request(R, &codex(&["web_search"]), false)).await.expect_err(&error.to_string());
        assert!(server.take().iter().all(|(body, _)| body["tools"].as_array().unwrap().len() == 3), "{error}");
    }
}

/// A caller whose words make a server refuse a tool that it has: what this shows counts for this caller alone.
#[tokio::test(start_paused = true)]
async fn one_caller_takes_no_tool_from_the_others() {
    let server = Server::new(R, |body, _| {
        let is_poison = body["input"].to_string().contains("poison");
        let has = body["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["type"] == "web_search"));
        (is_poison && has).then(|| (400, openai("Unsupported tool type: 'web_search'", Value::Null, "x")))
    });
    let llm = server.llm();
    let mut poison = codex(&["web_search"]);
    poison["input"] = "poison".into();
    for _ in 0..5 {
        ask(&llm, of_caller(request(R, &poison, false), "mallory")).await.unwrap();
    }
    server.take();
    for caller in ["alice", "bob"] {
        ask(&llm, of_caller(request(R, &codex(&["web_search"]), false), caller)).await.unwrap();
        let sent = server.take();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].0["tools"].as_array().unwrap().len(), 3, "{caller}");
    }
    // Two callers have seen it: it is the server's own.
    ask(&llm, of_caller(request(R, &poison, false), "alice")).await.unwrap();
    server.take();
    ask(&llm, of_caller(request(R, &poison, false), "bob")).await.unwrap();
    assert_eq!(server.take().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn records_of_a_tool_that_a_server_does_not_know_are_left_out_or_told_as_a_functions() {
    let refuses = |kinds: &'static [&'static str]| {
        Server::new(R, move |body, _| {
            let items = body["input"].as_array().cloned().unwrap_or_default();
            let known = |item: &Value| kinds.iter().all(|kind| item["type"] != *kind);
            let (at, item) = items.iter().enumerate().find(|(_, item)| !known(item))?;
            let message = format!(
                "Invalid value: '{}'. Supported values are: 'message', 'function_call', and 'function_call_output'.",
                item["type"].as_str().unwrap()
            );
            Some((400, openai(message, json!(format!("input[{at}]")), "invalid_value")))
        })
    };
    let message = json!({"type": "message", "role": "user", "content": "?"});
    for kind in ["web_search_call", "file_search_call", "mcp_list_tools", "code_interpreter_call"] {
        let server = refuses(&["web_search_call", "file_search_call", "mcp_list_tools", "code_interpreter_call"]);
        let llm = server.llm();
        let body = json!({"model": "served", "input": [message, {"type": kind, "id": "ws_1", "status": "completed"}, message]});
        for calls in [2, 1] {
            ask(&llm, request(R, &body, true)).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
            let sent = server.take();
            assert_eq!((sent.len(), &sent.last().unwrap().0["input"]), (calls, &json!([message, message])), "{kind}");
        }
    }
    let server = refuses(&["custom_tool_call", "custom_tool_call_output"]);
    let llm = server.llm();
    let body = json!({"model": "served", "input": [message,
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "apply_patch", "input": "*** \"x\"\n"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"}]});
    ask(&llm, request(R, &body, false)).await.unwrap();
    let sent = server.take().pop().unwrap().0;
    assert_eq!(
        sent["input"][1],
        json!({"type": "function_call", "call_id": "c", "name": "apply_patch", "arguments": json!({"input": "*** \"x\"\n"}).to_string()})
    );
    assert_eq!(sent["input"][2], json!({"type": "function_call_output", "call_id": "c", "output": "done"}));
}

#[tokio::test(start_paused = true)]
async fn servers_of_chat_completions_likewise() {
    let function =
        |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    for (name, form) in FORMS.into_iter().filter(|(name, _)| *name != "OpenAI, what a function has") {
        for kind in ["custom", "web_search", "openrouter:web_search", "a secret"] {
            let server = Server { dialect: O, ..server(form) };
            let llm = server.llm();
            let special = if kind == "custom" {
                json!({"type": "custom", "custom": {"name": "p"}})
            } else {
                json!({ "type": kind })
            };
            let body = json!({"model": "served", "messages": [{"role": "user", "content": "?"}], "tools": [function("a"), special, function("b")]});
            for calls in [2, 1] {
                let answer = ask(&llm, request(O, &body, calls == 2)).await;
                // A name that is no word is not repeated, and not learned.
                if kind.contains(' ') {
                    assert!(answer.is_err(), "{name} {kind}");
                    continue;
                }
                answer.unwrap_or_else(|error| panic!("{name} {kind}: {error}"));
                let sent = server.take();
                assert_eq!(sent.len(), calls, "{name} {kind}");
                assert_eq!(sent.last().unwrap().0["tools"], json!([function("a"), function("b")]), "{name} {kind}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn servers_of_messages_likewise() {
    let own = json!({"name": "shell", "input_schema": {"type": "object"}});
    let expected = "'bash_20250124', 'custom', 'text_editor_20250728'";
    for kind in [
        "web_search_20250305",
        "web_fetch_20250910",
        "code_execution_20250825",
        "tool_search_tool_regex_20251119",
        "mcp_toolset",
    ] {
        let rule = move |body: &Value, _: &http::HeaderMap| {
            let wrong = |place: String, kind: &Value| {
                let message = format!(
                    "{place}: Input tag '{}' found using 'type' does not match any of the expected tags: {expected}",
                    kind.as_str().unwrap()
                );
                Some((400, json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}})))
            };
            for (at, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
                if tool.get("type").is_some_and(|kind| kind != "custom") {
                    return wrong(format!("tools.{at}"), &tool["type"]);
                }
            }
            for (turn, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
                for (at, block) in message["content"].as_array().into_iter().flatten().enumerate() {
                    if !["text", "tool_use", "tool_result"].contains(&block["type"].as_str().unwrap()) {
                        return wrong(format!("messages.{turn}.content.{at}"), &block["type"]);
                    }
                }
            }
            None
        };
        let server = Server::new(A, rule);
        let llm = server.llm();
        let found = json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": []});
        let cited = json!({"type": "text", "text": "It is so.", "citations": [{"type": "web_search_result_location", "url": "u"}]});
        let body = json!({"model": "served", "max_tokens": 50, "tools": [own, {"type": kind, "name": "web"}],
            "messages": [{"role": "user", "content": "?"},
                {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "web", "input": {}}, found, cited]},
                {"role": "user", "content": "and?"}]});
        for calls in [3, 1] {
            ask(&llm, request(A, &body, calls == 3)).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
            let sent = server.take();
            assert_eq!(sent.len(), calls, "{kind}");
            let last = &sent.last().unwrap().0;
            assert_eq!(last["tools"], json!([own]), "{kind}");
            assert_eq!(last["messages"][1]["content"], json!([{"type": "text", "text": "It is so."}]), "{kind}");
        }
        // A forced call of it is for a server that has it.
        let mut forced = body.clone();
        forced["tool_choice"] = json!({"type": "tool", "name": "web"});
        let backup = Server::new(A, |_, _| None);
        let chain = Llm::new(FallbackLayer::new("first").tier("second", backup.llm()).layer(server.llm()));
        let answer = chain.oneshot(request(A, &forced, false)).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hi");
        assert_eq!(backup.take().pop().unwrap().0["tool_choice"]["name"], "web");
    }
}
