use serde_json::json;

use super::*;

const OPTIONAL: &[Optional] = &[
    Optional::new("temperature"),
    Optional::new("top_p"),
    Optional::new("reasoning_effort"),
    Optional::new("logprobs"),
    Optional::new("user"),
    Optional::new("metadata"),
    Optional::called("thinking", &["adaptive", "budget_tokens"]),
    Optional::new("output_config.effort"),
    Optional::new("generationConfig.topK"),
    Optional::called("generationConfig.presencePenalty", &["penalty"]),
    Optional::called("generationConfig.thinkingConfig", &["thinking_budget", "budget"]),
];

/// The parameter, and whether every caller's would be refused.
fn of(error: serde_json::Value) -> Option<(&'static str, bool)> {
    let facts = ErrorBody::of_error(&error).expect("an error");
    let refusal = named(&facts, OPTIONAL, &|_| true).into_iter().next()?;
    let Cow::Borrowed(path) = refusal.parameter.path else { panic!("{refusal:?}") };
    Some((path, refusal.parameter.lasting))
}

fn said(message: &str) -> Option<(&'static str, bool)> {
    of(json!({ "error": { "message": message } }))
}

#[test]
fn what_providers_say_names_the_parameter() {
    // OpenAI names it beside the message.
    let unsupported = "Unsupported parameter: 'temperature' is not supported with this model.";
    let error = json!({"error": {"message": unsupported, "param": "temperature", "code": "unsupported_parameter"}});
    assert_eq!(of(error), Some(("temperature", true)));
    let only = "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is \
                supported.";
    let error = json!({"error": {"message": only, "param": "temperature", "code": "unsupported_value"}});
    assert_eq!(of(error), Some(("temperature", true)));
    let value = "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model.";
    assert_eq!(said(value), Some(("reasoning_effort", false)));
    assert_eq!(said("Unrecognized request argument supplied: reasoning_effort"), Some(("reasoning_effort", true)));
    // Compatible servers.
    let of_xai = json!({"code": "Client specified an invalid argument",
        "error": "Model grok-code-fast-1 does not support parameter reasoningEffort."});
    assert_eq!(of(of_xai), Some(("reasoning_effort", true)));
    assert_eq!(said("Logprobs are not enabled for this model"), Some(("logprobs", true)));
    let of_mistral = json!({"detail": [{"type": "extra_forbidden", "loc": ["body", "top_p"],
        "msg": "Extra inputs are not permitted", "input": 1}]});
    assert_eq!(of(of_mistral), Some(("top_p", true)));
    // Anthropic begins with its path, or with the name in marks.
    assert_eq!(said("temperature: Extra inputs are not permitted"), Some(("temperature", true)));
    assert_eq!(said("temperature: range: 0..1"), Some(("temperature", false)));
    assert_eq!(said("`temperature` is deprecated for this model."), Some(("temperature", true)));
    assert_eq!(
        said("thinking.budget_tokens: Input should be greater than or equal to 1024"),
        Some(("thinking", false))
    );
    assert_eq!(said("adaptive thinking is not supported on this model"), Some(("thinking", true)));
    assert_eq!(said("This model does not support the effort parameter."), Some(("output_config.effort", true)));
    let both = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
    assert_eq!(said(both), Some(("top_p", false)));
    // Google spells a path as its protocol buffers do.
    let unknown = r#"Invalid JSON payload received. Unknown name "topK" at 'generation_config': Cannot find field."#;
    assert_eq!(said(unknown), Some(("generationConfig.topK", true)));
    let penalty = "Penalty is not enabled for models/gemini-2.5-flash";
    assert_eq!(said(penalty), Some(("generationConfig.presencePenalty", true)));
    let budget = "Budget 0 is invalid. This model only works in thinking mode.";
    assert_eq!(said(budget).map(|(path, _)| path), Some("generationConfig.thinkingConfig"));
}

#[test]
fn what_is_not_about_a_parameter_names_none() {
    for message in [
        "messages.1.content.0.thinking: each thinking block must have a signature",
        "user messages must have non-empty content",
        "tools.0.custom.input_schema.type: Field required",
        "The total length of all messages is too long.",
        "Invalid 'messages[3]'. Content blocks are expected to be either text or image_url type.",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Invalid value: 'temperature: not supported'. Supported values are: 'assistant' and 'user'.",
        "Tool choice is required, but model did not call a tool",
        "",
        "'",
        "é".repeat(200).as_str(),
    ] {
        assert_eq!(said(message), None, "{message}");
    }
}

#[test]
fn a_body_without_it_has_all_else_as_it_was_spelled() {
    let body = br#"{ "a" : 1.0, "temperature":0.50,"b":{"x" : "\u00e9", "effort": "low" } }"#;
    assert_eq!(without(body, "temperature").unwrap(), br#"{"a":1.0,"b":{"x" : "\u00e9", "effort": "low" }}"#);
    let inner = without(body, "b.effort").unwrap();
    assert_eq!(inner, br#"{"a":1.0,"temperature":0.50,"b":{"x":"\u00e9"}}"#);
    assert_eq!(without(br#"{"a":1}"#, "a").unwrap(), b"{}");
    for (body, path) in [("{}", "a"), (r#"{"a":[]}"#, "a.b"), (r#"{"a":{}}"#, "a.b"), ("[]", "a"), ("{", "a")] {
        assert_eq!(without(body.as_bytes(), path), None, "{body} {path}");
    }
}

const OF_DIALECT: &[Optional] = &[
    Optional::of_dialect("stream_options"),
    Optional::of_dialect("metadata"),
    Optional::of_dialect("service_tier"),
    Optional::of_dialect("user"),
    Optional::of_dialect("tools[].strict"),
];

#[test]
fn a_part_of_the_dialects_is_named_as_a_whole() {
    for (message, part) in [
        ("stream_options is not supported", Some("stream_options")),
        ("metadata is not supported", Some("metadata")),
        ("Model x does not support parameter service_tier.", Some("service_tier")),
        ("This model does not support service_tier", Some("service_tier")),
        ("tools.0.strict: Extra inputs are not permitted", Some("tools[].strict")),
        // A mistake within it is the caller's to mend.
        ("metadata.user_id: Unsupported character", None),
        ("tools.0.strict.x: Extra inputs are not permitted", None),
        ("The user of this key is not known", None),
    ] {
        let facts = ErrorBody::of_error(&json!({ "error": { "message": message } })).unwrap();
        let found = named(&facts, OF_DIALECT, &|_| true);
        assert_eq!(found.first().map(|refusal| &*refusal.parameter.path), part, "{message}");
    }
}

#[test]
fn a_mistake_in_a_tool_is_no_refusal_of_its_type() {
    let search = json!({"tools": [{"type": "web_search", "allowed_domains": []}], "input": "?"});
    let turn = json!({"role": "user", "content": [{"type": "web_search_tool_result", "tool_use_id": "a"}]});
    let results = json!({"messages": [turn, turn, turn, turn]});
    for (dialect, body, message, refused) in [
        (
            Dialect::Responses,
            &search,
            "Invalid request: web_search tool: allowed_domains and excluded_domains are mutually exclusive, only one may be set",
            0,
        ),
        (Dialect::Responses, &search, "web_search tool: unexpected upstream error", 0),
        (Dialect::Responses, &search, "Invalid tool 'web_search'. Supported values are: 'function'.", 1),
        (Dialect::Responses, &search, "invalid tool type: web_search", 1),
        (
            Dialect::Anthropic,
            &results,
            "messages.3.content.0: unexpected `tool_use_id` found in `web_search_tool_result` blocks: a. Each must have a corresponding `server_tool_use` block",
            0,
        ),
        (
            Dialect::Anthropic,
            &results,
            "messages.3.content.0: Input tag 'web_search_tool_result' found using 'type' does not match any of the expected tags: 'text'",
            1,
        ),
    ] {
        let facts = ErrorBody::of_error(&json!({ "error": { "message": message } })).unwrap();
        let found = of_kinds(&facts, dialect, body.to_string().as_bytes(), &HeaderMap::new());
        assert_eq!(found.len(), refused, "{message}: {found:?}");
    }
}

/// Every place of a mark: Anthropic's pages, OpenRouter's and LiteLLM's name them.
#[test]
fn a_mark_is_left_out_at_each_of_its_places_and_all_else_stays() {
    let mark = r#","cache_control":{"type":"ephemeral","ttl":"1h"}"#;
    let body = |mark: &str| {
        let text = format!(r#"[{{"type":"text","text":"a \u00e9"{mark}}},"b"]"#);
        format!(
            r#"{{"model":"m","system":{text},"tools":[{{"name":"t"{mark}}},{{"function":{{"name":"t"{mark}}}}}],"messages":[{{"role":"user","content":{text}{mark}}},{{"content":"c","tool_calls":[{{"id":"i","function":{{"arguments":"{{}}"}}{mark}}}]}},{{"content":[{{"type":"tool_result","content":{text}{mark}}}]}}],"input":{{"cache_control":1}}{mark}}}"#
        )
    };
    let without = |path| String::from_utf8(without(body(mark).as_bytes(), path).unwrap()).unwrap();
    assert_eq!(without("**.cache_control"), body(""));
    assert_eq!(without("**.cache_control.ttl"), body(r#","cache_control":{"type":"ephemeral"}"#));
    // The last one within a mark takes the mark along.
    let scoped = body(r#","cache_control":{"scope":"global"}"#);
    assert_eq!(super::without(scoped.as_bytes(), "**.cache_control.scope").unwrap(), body("").into_bytes());
    assert_eq!(super::without(body("").as_bytes(), "**.cache_control"), None);
    // A tool's arguments are its own.
    let called =
        r#"{"messages":[{"content":[{"type":"tool_use","input":{"caller":"ada"},"caller":{"type":"direct"}}]}]}"#;
    let left = r#"{"messages":[{"content":[{"type":"tool_use","input":{"caller":"ada"}}]}]}"#;
    assert_eq!(super::without(called.as_bytes(), "**.caller").unwrap(), left.as_bytes());
    assert_eq!(super::without(body("").as_bytes(), "**.cache_control.ttl"), None);
}

/// One look finds the same parts as a search for each of them.
#[test]
fn one_look_at_a_body_finds_each_part_that_it_has() {
    let words = ["metadata", "store", "strict", "web_search", "top_k", "topK", "seed", "a\u{e9}", "user"];
    let wanted: Vec<Option<&str>> = words.iter().map(|word| Some(*word)).chain([None]).collect();
    for there in 0..1_u32 << words.len() {
        let has = |at: usize| there >> at & 1 == 1;
        let fields: Vec<String> =
            words.iter().enumerate().filter(|(at, _)| has(*at)).map(|(_, word)| format!("\"{word}\":1")).collect();
        // Longer names, and words within a text, are others.
        let body =
            format!("{{\"x\":\"store and \\\"strict\\\"\",\"metadata_of\":1,\"my_seed\":{{{}}}}}", fields.join(","));
        let found = present(body.as_bytes(), &wanted);
        let expected: Vec<bool> = (0..words.len()).map(has).chain([true]).collect();
        assert_eq!(found, expected, "{body}");
    }
    assert_eq!(present(b"{}", &wanted[..FEW]), [true; FEW], "few are looked for one by one");
}
