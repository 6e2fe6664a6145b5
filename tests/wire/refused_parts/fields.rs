//! Fields that a server refuses, in each server's form, of callers of all dialects.

use serde_json::{Value, json};
use steadfast::Dialect;

use super::{Server, ask, of_caller, openai, request};

use Dialect::{Anthropic as A, Gemini as G, OpenAi as O, Responses as R};

/// A place in a request: `tools`, 0, `function`, `strict`.
type Place = Vec<Value>;

/// A server's words about a field at a place.
type Form = fn(&Place) -> (u16, Value);

fn name(place: &Place) -> &str {
    place.last().unwrap().as_str().unwrap()
}

/// `tools.0.function.strict`.
fn dotted(place: &[Value]) -> String {
    place.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned)).collect::<Vec<_>>().join(".")
}

/// `tools[0].function.strict`.
fn bracketed(place: &[Value]) -> String {
    let mut text = String::new();
    for step in place {
        match step.as_str() {
            Some(name) if text.is_empty() => text.push_str(name),
            Some(name) => text.push_str(&format!(".{name}")),
            None => text.push_str(&format!("[{step}]")),
        }
    }
    text
}

/// The object that has the field.
fn object(place: &Place) -> &[Value] {
    &place[..place.len() - 1]
}

fn detail(place: &Place) -> Value {
    let loc: Place = [json!("body")].into_iter().chain(place.clone()).collect();
    json!([{"type": "extra_forbidden", "loc": loc, "msg": "Extra inputs are not permitted", "input": "temperature: unsupported"}])
}

fn printed(place: &Place) -> String {
    let steps: Vec<String> =
        place.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), |name| format!("'{name}'"))).collect();
    format!(
        "{{'type': 'extra_forbidden', 'loc': ('body', {}), 'msg': 'Extra inputs are not permitted', 'input': 5}}",
        steps.join(", ")
    )
}

/// Servers, and what is between. The sources are the validators themselves, and the reports of their users.
const FORMS: [(&str, Form); 24] = [
    ("OpenAI", |at| {
        (400, openai(format!("Unknown parameter: '{}'.", bracketed(at)), json!(bracketed(at)), "unknown_parameter"))
    }),
    ("OpenAI, older", |at| {
        (400, openai(format!("Unrecognized request argument supplied: {}", name(at)), Value::Null, "x"))
    }),
    ("OpenAI, of a model", |at| {
        let message = format!("Unsupported parameter: '{}' is not supported with this model.", bracketed(at));
        (400, openai(message, json!(bracketed(at)), "unsupported_parameter"))
    }),
    ("Groq", |at| match object(at) {
        [] => (400, openai(format!("property '{}' is unsupported", name(at)), Value::Null, "x")),
        within => {
            (400, openai(format!("'{}' : property '{}' is unsupported", dotted(within), name(at)), Value::Null, "x"))
        }
    }),
    ("Groq, of turns", |at| {
        (
            400,
            openai(
                format!(
                    "for '{}' the following must be satisfied[('{}' : property '{}' is unsupported)]",
                    dotted(object(at)),
                    dotted(object(at)),
                    name(at)
                ),
                Value::Null,
                "x",
            ),
        )
    }),
    ("Cerebras", |at| {
        let place = [vec![json!("body")], object(at).to_vec()].concat();
        (
            400,
            openai(
                format!("{}: property '{}' is unsupported", dotted(&place), name(at)),
                Value::Null,
                "wrong_api_format",
            ),
        )
    }),
    ("FastAPI", |at| (422, json!({ "detail": detail(at) }))),
    ("Mistral", |at| {
        (
            422,
            json!({"object": "error", "message": {"detail": detail(at)}, "type": "invalid_request_error", "param": null, "code": null}),
        )
    }),
    ("vLLM, printed", |at| {
        (
            400,
            json!({"object": "error", "message": format!("[{}]", printed(at)), "type": "BadRequestError", "param": null, "code": 400}),
        )
    }),
    ("vLLM, newer", |at| {
        (
            400,
            json!({"error": {"message": format!("1 validation error:\n  {}", printed(at)), "type": "Bad Request", "param": null, "code": 400}}),
        )
    }),
    ("pydantic's report", |at| {
        let message = format!(
            "1 validation error for Request\n{}\n  Extra inputs are not permitted [type=extra_forbidden, input_value='temperature', input_type=str]\n    For further information visit https://errors.pydantic.dev",
            dotted(at)
        );
        (400, openai(message, Value::Null, "400"))
    }),
    ("Fireworks", |at| {
        (
            400,
            openai(format!("Extra inputs are not permitted, field: '{}', value: 'x'", bracketed(at)), Value::Null, "x"),
        )
    }),
    ("Google's Chat Completions", |at| match object(at) {
        [] => (
            400,
            json!([{"error": {"code": 400, "message": format!("Invalid JSON payload received. Unknown name \"{}\": Cannot find field.", name(at)), "status": "INVALID_ARGUMENT"}}]),
        ),
        within => (
            400,
            json!([{"error": {"code": 400, "message": format!("Invalid JSON payload received. Unknown name \"{}\" at '{}': Cannot find field.", name(at), bracketed(within)), "status": "INVALID_ARGUMENT"}}]),
        ),
    }),
    ("Go", |at| (400, openai(format!("json: unknown field \"{}\"", name(at)), Value::Null, "x"))),
    ("Go, wrapped", |at| {
        (400, json!({"error": format!("invalid request body: json: unknown field \"{}\"", name(at))}))
    }),
    ("serde", |at| match object(at) {
        [] => (
            422,
            json!({"error": {"message": format!("Failed to deserialize the JSON body into the target type: unknown field `{}`, expected one of `model`, `temperature`, `top_p` at line 1 column 9", name(at))}}),
        ),
        within => (
            422,
            json!({"error": {"message": format!("Failed to deserialize the JSON body into the target type: {}: unknown field `{}`, expected one of `name`, `temperature` at line 1 column 9", bracketed(within), name(at))}}),
        ),
    }),
    ("Anthropic", |at| {
        (
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": format!("{}: Extra inputs are not permitted", dotted(at))}}),
        )
    }),
    ("Zod", |at| {
        let issues = json!([{"code": "unrecognized_keys", "keys": [name(at)], "path": object(at), "message": format!("Unrecognized key: \"{}\"", name(at))}]);
        (400, json!({"success": false, "error": {"name": "ZodError", "message": issues.to_string()}}))
    }),
    ("Ajv", |at| {
        let pointer: String =
            object(at).iter().map(|step| format!("/{}", dotted(std::slice::from_ref(step)))).collect();
        (
            400,
            json!({"error": {"message": "Validation failed", "errors": [{"instancePath": pointer, "keyword": "additionalProperties", "params": {"additionalProperty": name(at)}, "message": "must NOT have additional properties: not allowed"}]}}),
        )
    }),
    ("Jackson", |at| {
        (
            400,
            openai(
                format!("Unrecognized field \"{}\" (class io.Request), not marked as ignorable", name(at)),
                Value::Null,
                "x",
            ),
        )
    }),
    ("Python", |at| {
        (
            400,
            openai(format!("Completions.create() got an unexpected keyword argument '{}'", name(at)), Value::Null, "x"),
        )
    }),
    ("llama.cpp", |at| (400, openai(format!("Unsupported param: {}", name(at)), Value::Null, "x"))),
    ("LiteLLM before one", |at| {
        (
            400,
            openai(
                format!(
                    "litellm.BadRequestError: OpenAIException - Unknown parameter: '{}'.. Received Model Group=m\nAvailable Model Group Fallbacks=None",
                    bracketed(at)
                ),
                json!("None"),
                "400",
            ),
        )
    }),
    ("new-api before one", |at| {
        (
            400,
            openai(
                format!("upstream error: {}: Extra inputs are not permitted (request id: 2026)", dotted(at)),
                Value::Null,
                "x",
            ),
        )
    }),
];

/// Returns the value at a place, if it is there.
fn has(body: &Value, place: &[Value]) -> bool {
    let at = place.iter().try_fold(body, |value, step| match step.as_u64() {
        Some(index) => value.get(index as usize),
        None => value.get(step.as_str().unwrap()),
    });
    at.is_some()
}

fn server(dialect: Dialect, form: Form, place: &Place) -> Server {
    let place = place.clone();
    Server::new(dialect, move |body, _| has(body, &place).then(|| form(&place)))
}

/// Requests of each dialect with much of what a server may not know. None names the server's own model.
fn callers() -> [(Dialect, Value); 4] {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    [
        (
            A,
            json!({"model": "m", "max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["END"], "metadata": {"user_id": "u"},
            "tools": [{"name": "f", "input_schema": schema}], "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
            "messages": [{"role": "user", "content": "?"}]}),
        ),
        (
            R,
            json!({"model": "m", "max_output_tokens": 50, "temperature": 0.5, "top_p": 0.9, "user": "u", "store": false, "metadata": {"a": "b"},
            "prompt_cache_key": "k", "parallel_tool_calls": false, "service_tier": "auto", "text": {"verbosity": "low"}, "reasoning": {"effort": "low"},
            "tools": [{"type": "function", "name": "f", "parameters": schema, "strict": true}], "input": "?"}),
        ),
        (
            G,
            json!({"generationConfig": {"maxOutputTokens": 50, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"], "seed": 5,
            "presencePenalty": 0.5}, "contents": [{"role": "user", "parts": [{"text": "?"}]}]}),
        ),
        (
            O,
            json!({"model": "m", "max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 5, "user": "u", "store": false,
            "metadata": {"a": "b"}, "parallel_tool_calls": false, "logprobs": true, "presence_penalty": 0.5, "frequency_penalty": 0.5,
            "service_tier": "auto", "reasoning_effort": "low", "verbosity": "low", "prompt_cache_key": "k", "safety_identifier": "s",
            "stream_options": {"include_usage": true}, "provider": {"order": ["x"]}, "plugins": [], "transforms": [],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "strict": true}}],
            "messages": [{"role": "user", "name": "n", "content": [{"type": "text", "text": "?", "cache_control": {"type": "ephemeral"}}]},
                {"role": "assistant", "content": "!", "annotations": [], "refusal": null}, {"role": "user", "content": "?"}]}),
        ),
    ]
}

/// Parts without which an answer would be another one, or come from where the caller does not want it.
const NEVER: [&str; 7] = ["model", "messages", "tools", "tool_choice", "stream", "response_format", "provider"];

/// The places of a body's fields that a server may refuse, but for those that no request can do without.
fn places(body: &Value) -> Vec<Place> {
    let top = body.as_object().unwrap().keys().filter(|name| !NEVER.contains(&name.as_str()));
    let mut places: Vec<Place> = top.map(|name| vec![json!(name)]).collect();
    let nested: [Place; 5] = [
        vec![json!("tools"), json!(0), json!("function"), json!("strict")],
        vec![json!("messages"), json!(0), json!("name")],
        vec![json!("messages"), json!(0), json!("content"), json!(0), json!("cache_control")],
        vec![json!("messages"), json!(1), json!("annotations")],
        vec![json!("messages"), json!(1), json!("refusal")],
    ];
    places.extend(nested.into_iter().filter(|place| has(body, place)));
    places
}

#[tokio::test(start_paused = true)]
async fn a_refused_field_is_left_out_at_the_second_call_and_from_then_on_at_the_first() {
    let mut cases = 0;
    for (from, body) in callers() {
        for stream in [false, true] {
            let lax = Server::new(O, |_, _| None);
            ask(&lax.llm(), request(from, &body, stream)).await.unwrap();
            let full = lax.take().pop().unwrap().0;
            for place in places(&full) {
                for (name, form) in FORMS {
                    let what = format!("{name}, {}, from {from}, stream {stream}", bracketed(&place));
                    let server = server(O, form, &place);
                    let llm = server.llm();
                    for calls in [2, 1] {
                        let answer = ask(&llm, request(from, &body, stream)).await;
                        let notes = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
                        assert!(notes.contains("refused_parameter: `"), "{what}: {notes}");
                        let sent = server.take();
                        assert_eq!(sent.len(), calls, "{what}");
                        // Nothing else is lost.
                        let last = &sent.last().unwrap().0;
                        let lost = full.as_object().unwrap().keys().filter(|name| last.get(name.as_str()).is_none());
                        assert!(lost.count() <= 1, "{what}: {last}");
                    }
                    cases += 1;
                }
            }
        }
    }
    assert!(cases > 1_000, "{cases}");
}

/// A list of all fields at fault is one refusal.
#[tokio::test(start_paused = true)]
async fn fields_that_are_refused_together_are_left_out_together() {
    let strict = |form: fn(Vec<Value>) -> (u16, Value)| {
        Server::new(O, move |body, _| {
            let unknown = body
                .as_object()
                .unwrap()
                .keys()
                .filter(|name| !NEVER.contains(&name.as_str()) && *name != "max_tokens");
            let details: Vec<Value> = unknown.map(|name| detail(&vec![json!(name)])[0].clone()).collect();
            (!details.is_empty()).then(|| form(details))
        })
    };
    type Form = fn(Vec<Value>) -> (u16, Value);
    let forms: [Form; 3] = [
        |details| (422, json!({ "detail": details })),
        |details| (422, json!({"object": "error", "message": {"detail": details}})),
        |details| {
            let names: Vec<String> =
                details.iter().map(|detail| format!("'{}'", detail["loc"][1].as_str().unwrap())).collect();
            (400, openai(format!("Unsupported parameters: {}", names.join(", ")), Value::Null, "x"))
        },
    ];
    for (at, form) in forms.into_iter().enumerate() {
        for (from, body) in callers() {
            let server = strict(form);
            let llm = server.llm();
            ask(&llm, request(from, &body, false)).await.unwrap_or_else(|error| panic!("{at} {from}: {error}"));
            assert_eq!(server.take().len(), 2, "{at} {from}");
            ask(&llm, request(from, &body, true)).await.unwrap_or_else(|error| panic!("{at} {from}: {error}"));
            // A stream alone has more.
            assert!(server.take().len() <= 2, "{at} {from}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_depends_on_is_never_left_out() {
    let body = json!({"model": "m", "max_tokens": 5, "n": 1, "messages": [{"role": "user", "content": "?"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}], "tool_choice": "auto",
        "response_format": {"type": "json_object"}});
    let never: [Place; 10] = [
        vec![json!("messages")],
        vec![json!("tools")],
        vec![json!("tool_choice")],
        vec![json!("response_format")],
        vec![json!("model")],
        vec![json!("n")],
        vec![json!("messages"), json!(0), json!("content")],
        vec![json!("messages"), json!(0), json!("role")],
        vec![json!("tools"), json!(0), json!("function"), json!("parameters")],
        vec![json!("tools"), json!(0), json!("function"), json!("description")],
    ];
    for place in never {
        for (name, form) in FORMS {
            let server = server(O, form, &place);
            ask(&server.llm(), request(O, &body, false)).await.expect_err(name);
            assert!(server.take().iter().all(|(sent, _)| has(sent, &place)), "{name} {place:?}");
        }
    }
}

/// Thoughts of another server, in the forms of those that do not know the fields.
#[tokio::test(start_paused = true)]
async fn thoughts_of_others_are_left_out_in_every_form() {
    let fields = [
        ("reasoning_content", json!("t")),
        ("reasoning_details", json!([{"type": "reasoning.text", "text": "t"}])),
        ("thinking_blocks", json!([{"type": "thinking", "thinking": "t"}])),
    ];
    for (field, value) in fields {
        let mut body = json!({"model": "served", "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}, {"role": "user", "content": "?"}]});
        body["messages"][1][field] = value;
        let place = vec![json!("messages"), json!(1), json!(field)];
        for (name, form) in FORMS {
            let server = server(O, form, &place);
            ask(&server.llm(), request(O, &body, false))
                .await
                .unwrap_or_else(|error| panic!("{name} {field}: {error}"));
            let sent = server.take();
            assert!(sent.len() == 2 && !has(&sent[1].0, &place), "{name} {field}");
        }
    }
}

/// Clients of the Responses API and of Messages whose model is the server's own: they cannot know what it lacks.
#[tokio::test(start_paused = true)]
async fn what_clients_send_to_every_server_is_not_their_mistake() {
    let codex = json!({"model": "served", "input": [{"type": "message", "role": "user", "content": "?"},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "!"}]}, {"role": "user", "content": "?"}],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": false, "defer_loading": true}], "store": false,
        "client_metadata": {"a": "b"}, "prompt_cache_key": "k", "service_tier": "auto"});
    let claude = json!({"model": "served", "max_tokens": 50, "metadata": {"user_id": "u"}, "context_management": {"edits": []},
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "scope": "global"}}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "eager_input_streaming": true, "defer_loading": true, "strict": true}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "?", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]});
    let place = |place: Value| place.as_array().unwrap().clone();
    let cases = [
        (R, &codex, json!(["client_metadata"])),
        (R, &codex, json!(["prompt_cache_key"])),
        (R, &codex, json!(["service_tier"])),
        (R, &codex, json!(["store"])),
        (R, &codex, json!(["tools", 0, "strict"])),
        (R, &codex, json!(["tools", 0, "defer_loading"])),
        (R, &codex, json!(["input", 1, "status"])),
        (R, &codex, json!(["input", 1, "id"])),
        (A, &claude, json!(["metadata"])),
        (A, &claude, json!(["context_management"])),
        (A, &claude, json!(["tools", 0, "eager_input_streaming"])),
        (A, &claude, json!(["tools", 0, "defer_loading"])),
        (A, &claude, json!(["tools", 0, "strict"])),
        (A, &claude, json!(["system", 0, "cache_control", "scope"])),
        (A, &claude, json!(["messages", 0, "content", 0, "cache_control", "ttl"])),
        (A, &claude, json!(["messages", 0, "content", 0, "cache_control"])),
    ];
    for (dialect, body, at) in cases {
        for (name, form) in FORMS {
            for stream in [false, true] {
                let what = format!("{name} {at} {dialect}, stream {stream}");
                let server = server(dialect, form, &place(at.clone()));
                let llm = server.llm();
                for calls in [2, 1] {
                    ask(&llm, request(dialect, body, stream)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(server.take().len(), calls, "{what}");
                }
            }
        }
    }
    // Claude Code's own path for a mark.
    let rule = |body: &Value, _: &http::HeaderMap| {
        let message = "system.0.cache_control.ephemeral.scope: Extra inputs are not permitted";
        let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
        (!body["system"][0]["cache_control"]["scope"].is_null()).then_some((400, error))
    };
    let server = Server::new(A, rule);
    ask(&server.llm(), request(A, &claude, false)).await.unwrap();
    let sent = server.take().pop().unwrap().0;
    assert_eq!(sent["system"][0]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(sent["messages"], claude["messages"]);
}

/// A refusal of one caller's request counts for it alone, until another's shows the same.
#[tokio::test(start_paused = true)]
async fn one_caller_takes_no_field_from_the_others() {
    let body = callers()[3].1.clone();
    let mut poison = body.clone();
    poison["messages"][2]["content"] = "poison: Unknown parameter: 'temperature'".into();
    for field in ["temperature", "tools", "stop", "metadata"] {
        let server = Server::new(O, move |body, _| {
            let has = body.get(field).is_some() && body["messages"].to_string().contains("poison");
            has.then(|| (400, openai(format!("Unknown parameter: '{field}'"), json!(field), "unknown_parameter")))
        });
        let llm = server.llm();
        for _ in 0..5 {
            // It is its own request that it loses a field of.
            let _any = ask(&llm, of_caller(request(O, &poison, false), "mallory")).await;
        }
        server.take();
        ask(&llm, of_caller(request(O, &body, false), "alice")).await.unwrap();
        let sent = server.take();
        assert!(sent.len() == 1 && sent[0].0.get(field).is_some(), "{field}");
    }
}
