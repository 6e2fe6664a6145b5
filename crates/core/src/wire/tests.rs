use super::*;
use crate::{LlmRequest, chat::Thinking};

#[test]
fn wire_bytes_say_model_and_stream_and_must_be_a_request() {
    let wire = Wire::new(Dialect::OpenAi, r#"{"model":"gpt-4o","stream":true,"messages":[]}"#).unwrap();
    let request = LlmRequest::from(wire);
    assert_eq!((request.model(), request.is_stream()), (Some("gpt-4o"), true));
    for bad in
        ["", "[]", "{\"model\":1}", "{\"model\":\"a\",\"model\":\"b\"}", "\u{feff}{}", "[\"gpt-4o\",true]", "{} {}"]
    {
        let error = Wire::new(Dialect::OpenAi, bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{bad}");
    }
}

#[test]
fn a_field_that_may_be_there_once_is_refused_where_it_is_there_twice() {
    for name in FIELDS {
        let twice = [format!(r#"{{"{name}":null,"other":1,"{name}":null}}"#), {
            let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
            format!(r#"{{"{name}":null,"{escaped}":null}}"#)
        }];
        for body in twice {
            let error = Wire::new(Dialect::OpenAi, body.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{body}");
            assert!(error.message().contains(&format!("`{name}` is there twice")), "{error}");
        }
    }
    assert!(
        Wire::new(Dialect::OpenAi, r#"{"messages":[],"a":1,"a":2,"metadata":{"messages":1,"messages":2}}"#).is_ok()
    );
}

#[test]
fn a_field_under_a_name_that_some_readers_take_for_it_is_refused() {
    for name in FIELDS {
        let mut capital = name.to_owned();
        capital[..1].make_ascii_uppercase();
        // The two letters beyond ASCII that fold to one of it, in Go and by Unicode's table.
        let folded = [name.replace('s', "\u{17f}"), name.replace('k', "\u{212a}")];
        let escaped =
            format!("{}\\u{:04x}", &name[..name.len() - 1], name.to_ascii_uppercase().as_bytes()[name.len() - 1]);
        let ended = format!("{name}\\u0000x");
        let others = [name.to_uppercase(), capital, escaped, ended].into_iter().chain(folded);
        for other in others.filter(|other| other != name) {
            for body in [format!(r#"{{"{other}":null}}"#), format!(r#"{{"{name}":null,"a":1,"{other}":2}}"#)] {
                let error = Wire::new(Dialect::OpenAi, body.clone()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{body}");
                assert!(error.message().contains(&format!("`{name}`")), "{error}: {body}");
            }
        }
    }
    for other in ["models", "mode", "streams", "model_", "ſtr", "Modell", "\\u0000model", "topP", "safetySettings"] {
        assert!(Wire::new(Dialect::OpenAi, format!(r#"{{"{other}":1}}"#)).is_ok(), "{other}");
    }
    assert!(Wire::new(Dialect::OpenAi, r#"{"metadata":{"Model":"m"},"messages":[{"Model":1}]}"#).is_ok());
    let both = r#"{"generationConfig":{},"generation_config":{}}"#;
    assert!(Wire::new(Dialect::Gemini, both).is_err() && Wire::new(Dialect::OpenAi, both).is_ok());
}

#[test]
fn an_error_in_the_bytes_shows_none_of_them() {
    for bad in [r#""secret plans""#, r#"{"stream":"secret plans"}"#] {
        let error = Wire::new(Dialect::OpenAi, bad).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

/// Servers of Alibaba Cloud and Google take -1 for an amount of the model's choice, and some languages write `1024.0`.
#[test]
fn a_number_of_tokens_for_thoughts_is_the_same_however_it_is_spelled() {
    let of = |dialect, body: String| Wire::new(dialect, body).unwrap().chat().unwrap().thinking;
    for (number, amount) in [
        ("1024", Thinking::Budget(1024)),
        ("1024.0", Thinking::Budget(1024)),
        ("1.024e3", Thinking::Budget(1024)),
        ("0", Thinking::Off),
        ("0.0", Thinking::Off),
        ("-1", Thinking::Auto),
        ("-1.0", Thinking::Auto),
        ("5000000000", Thinking::Budget(u32::MAX)),
        ("18446744073709551615", Thinking::Budget(u32::MAX)),
    ] {
        let chat = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],"thinking_budget":{number}}}"#);
        assert_eq!(of(Dialect::OpenAi, chat), Some(amount), "{number}");
        for name in ["thinkingBudget", "thinking_budget"] {
            let gemini = format!(
                r#"{{"contents":[{{"role":"user","parts":[{{"text":"x"}}]}}],"generationConfig":{{"thinkingConfig":{{"{name}":{number}}}}}}}"#
            );
            assert_eq!(of(Dialect::Gemini, gemini), Some(amount), "{name} {number}");
        }
    }
    // Another dialect has no number for the model's own choice.
    for (number, amount) in [("1024.0", Thinking::Budget(1024)), ("0.0", Thinking::Off)] {
        for wish in
            [format!(r#""reasoning":{{"max_tokens":{number}}}"#), format!(r#""thinking":{{"budget_tokens":{number}}}"#)]
        {
            let chat = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{wish}}}"#);
            assert_eq!(of(Dialect::OpenAi, chat), Some(amount), "{wish}");
        }
    }
}

/// A wish for thoughts, in every spelling that makes another model think, has the limits of thoughts.
#[test]
fn a_wish_for_thoughts_asks_to_reason_in_every_spelling() {
    for (wish, asks) in [
        (r#""reasoning_effort":"high""#, true),
        (r#""reasoning_effort":"none""#, false),
        (r#""reasoning":{"effort":"low"}"#, true),
        (r#""reasoning":{"max_tokens":2000}"#, true),
        (r#""reasoning":{"enabled":true}"#, true),
        (r#""reasoning":{"exclude":false, "enabled" : true}"#, true),
        (r#""reasoning":{"enabled":false,"exclude":true}"#, false),
        (r#""thinking":{"type":"enabled","budget_tokens":1024}"#, true),
        (r#""thinking":{"type":"disabled"}"#, false),
        (r#""enable_thinking":true"#, true),
        (r#""enable_thinking": false"#, false),
        (r#""enable_thinking":null"#, false),
        (r#""thinking_budget":8000"#, true),
        (r#""thinking_budget":-1"#, true),
        (r#""thinking_budget":0"#, false),
        (r#""thinking_budget":null"#, false),
        (r#""include_reasoning":true"#, false),
    ] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"enable_thinking"}}],{wish}}}"#);
        let wire = Wire::new(Dialect::OpenAi, body).unwrap();
        assert_eq!(wire.asks_to_reason(), asks, "{wish}");
        // The decoder agrees.
        let amount = wire.chat().unwrap().thinking;
        assert_eq!(amount.is_some_and(|amount| amount != Thinking::Off), asks, "{wish}: {amount:?}");
    }
}

#[test]
fn a_responses_request_asks_to_reason_by_its_effort() {
    for (reasoning, asks) in [
        (r#"{"effort":"high"}"#, true),
        (r#"{"summary":"auto","effort" : "low"}"#, true),
        (r#"{"effort":"none"}"#, false),
        (r#"{"effort":"minimal"}"#, false),
        (r#"{"effort":null,"summary":"auto"}"#, false),
        ("null", false),
    ] {
        let body = format!(r#"{{"input":"hi","stop":["x"],"reasoning":{reasoning}}}"#);
        let wire = Wire::new(Dialect::Responses, body).unwrap();
        assert_eq!(wire.asks_to_reason(), asks, "{reasoning}");
        assert!(!wire.names_stops(), "this dialect has none");
    }
    assert!(!Wire::new(Dialect::Responses, r#"{"input":"think \"high\""}"#).unwrap().asks_to_reason());
}

#[test]
fn a_longest_answer_that_a_layer_sets_is_in_the_neutral_form() {
    let mut wire = Wire::new(Dialect::Responses, r#"{"input":"hi","max_output_tokens":5}"#).unwrap();
    assert_eq!(wire.chat().unwrap().max_tokens, Some(5));
    wire.set_max_tokens(9);
    assert_eq!(wire.chat().unwrap().max_tokens, Some(9));
}

#[test]
fn space_before_the_request_is_json_too() {
    assert!(Wire::new(Dialect::OpenAi, " \r\n\t{}").is_ok());
}

#[test]
fn the_path_says_model_and_stream_where_the_bytes_do_not() {
    let wire = Wire::new(Dialect::Gemini, "{}").unwrap().path("gemini-2.5-pro", true);
    let request = LlmRequest::from(wire);
    assert_eq!((request.model(), request.is_stream()), (Some("gemini-2.5-pro"), true));
}

#[test]
fn another_model_takes_the_fields_place_and_no_other_byte() {
    for (body, renamed) in [
        (r#"{ "messages":[1.0],  "model" : "a" ,"x":1e400}"#, r#"{ "messages":[1.0],  "model" : "b\"é" ,"x":1e400}"#),
        (r#"{"model":null}"#, r#"{"model":"b\"é"}"#),
        (r#" {"messages":[]}"#, r#" {"model":"b\"é","messages":[]}"#),
        ("{}", r#"{"model":"b\"é"}"#),
    ] {
        let wire = Wire::new(Dialect::OpenAi, body).unwrap().with_model("b\"é").unwrap();
        assert_eq!((wire.model(), str::from_utf8(wire.body()).unwrap()), (Some("b\"é"), renamed), "{body}");
        assert_eq!(wire.is_stream(), Wire::new(Dialect::OpenAi, renamed).unwrap().is_stream());
    }
    let named = Wire::new(Dialect::Gemini, "{}").unwrap().path("a", true).with_model("b").unwrap();
    assert_eq!((named.model(), named.is_stream(), &named.body()[..]), (Some("b"), true, &b"{}"[..]));
}

fn broken(json: &str) -> JsonError {
    Object::read(json.as_bytes(), &FIELDS).expect_err(json)
}

fn at(what: &'static str, at: usize) -> JsonError {
    JsonError { what, at }
}

#[test]
fn what_makes_the_top_level_ambiguous_is_refused_with_its_place() {
    assert_eq!(broken(""), at("no JSON object", 0));
    assert_eq!(broken(" [1]"), at("no JSON object", 1));
    assert_eq!(broken("{\"a\":1"), at("neither a comma nor a brace after a value", 6));
    assert_eq!(broken("{\"a\":1 \"b\":2}"), at("neither a comma nor a brace after a value", 7));
    assert_eq!(broken("{\"a\" 1}"), at("no colon after a field's name", 5));
    assert_eq!(broken("{\"a\":1,}"), at("no field's name", 7));
    assert_eq!(broken("{a:1}"), at("no field's name", 1));
    assert_eq!(broken("{\"a\\x\":1}"), at("a field's name is not a text", 1));
    assert_eq!(broken("{\"a\":nul}"), at("no value", 5));
    assert_eq!(broken("{\"a\":01}"), at("no value", 5));
    assert_eq!(broken("{\"a\":}"), at("no value", 5));
    assert_eq!(broken("{\"a\":\"b}"), at("an unterminated text", 5));
    assert_eq!(broken("{\"a\":\"b\\\"}"), at("an unterminated text", 5));
    assert_eq!(broken("{\"a\":[\"b]}"), at("an unterminated value, or a stray backslash in it", 5));
    assert_eq!(broken("{\"a\":[[1]"), at("an unterminated value, or a stray backslash in it", 5));
    assert_eq!(broken("{\"a\":[1}}"), at("an unterminated value, or a stray backslash in it", 5));
    assert_eq!(broken("{\"a\":[1]]}"), at("neither a comma nor a brace after a value", 8));
    assert_eq!(broken("{\"a\":[\\\"]}"), at("an unterminated value, or a stray backslash in it", 5));
    assert_eq!(broken("{} {}"), at("text after the object", 3));
    let error = Wire::new(Dialect::OpenAi, "{\"model\":\"a\",\"messages\":[}").unwrap_err();
    assert!(error.to_string().contains("an unterminated value, or a stray backslash in it, at byte 24"), "{error}");
}

#[test]
fn what_stands_further_in_is_the_providers_to_judge() {
    for body in ["{\"a\":[1,,2]}", "{\"a\":\"\\x\"}", "{\"a\":[{\"b\" 1}]}", "{\"a\":\"line\nline\"}"] {
        let wire = Wire::new(Dialect::OpenAi, body).expect(body);
        assert_eq!(wire.chat().unwrap_err().kind(), ErrorKind::InvalidRequest, "{body}");
    }
}

#[test]
fn places_are_those_of_the_top_level_values() {
    let body = r#"{ "x":{"model":"no","stream":[true]},"s":"\"model\":1", "mod\u0065l" : "yes" ,"stream":false,"thinking":{}}"#;
    let object = Object::read(body.as_bytes(), &FIELDS).unwrap();
    let value = |name| object.field(name).map(|field| (&body[field.value.clone()], field.is_twice));
    assert_eq!(value("model"), Some(("\"yes\"", false)));
    assert_eq!(value("stream"), Some(("false", false)));
    assert_eq!(value("thinking"), Some(("{}", false)));
    assert_eq!(value("max_tokens"), None);
    assert_eq!((object.open, object.is_empty), (1, false));
    assert!(Object::read(b" { } ", &FIELDS).unwrap().is_empty);
}

/// However the blocks fall: texts of all lengths, runs of backslashes of all lengths, before and behind.
#[test]
fn a_value_ends_where_it_ends_wherever_the_blocks_begin() {
    for before in 0..70 {
        for run in [0, 1, 2, 3, 4, 63, 64, 65, 66, 130] {
            let text = format!("{}{}\\\"]}}", "x".repeat(before), "\\\\".repeat(run));
            let body = format!("{{\"a\":[[\"{text}\",{{\"b\":\"\"}}],\"[\"],\"model\":\"m\"}}");
            let object = Object::read(body.as_bytes(), &FIELDS).unwrap_or_else(|broken| panic!("{body}: {broken}"));
            let value = object.field("model").map(|field| &body[field.value.clone()]);
            assert_eq!(value, Some("\"m\""), "{body}");
            // One backslash less, and the text goes on to the end.
            let open = body.replacen("\\\"]}", "\"]}", 1);
            assert_eq!(
                Object::read(open.as_bytes(), &FIELDS).is_err(),
                serde_json::from_str::<serde::de::IgnoredAny>(&open).is_err()
            );
        }
    }
}

#[test]
fn long_texts_and_deep_values_are_passed_over() {
    let long = "x".repeat(1000);
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let body = format!("{{\"a\":[\"{long}\\\"{long}\"],\"b\":{nested},\"model\":\"m\"}}");
    assert_eq!(Wire::new(Dialect::OpenAi, body).unwrap().model(), Some("m"));
}

#[test]
fn a_mark_is_seen_where_a_text_begins_with_it_and_only_there() {
    for before in 0..140 {
        let text =
            |inner: &str| format!("{{\"{}\":0,\"a\":[\"{}\",{inner}]}}", "k".repeat(before % 7), "x".repeat(before));
        let is_marked = |inner: &str| Object::read(text(inner).as_bytes(), &FIELDS).unwrap().is_marked;
        assert!(is_marked("\"steadfast.openai.signed.x\""), "{before}");
        assert!(is_marked(&format!("{{\"signature\":\"steadfast.{}\"}}", "y".repeat(500))), "{before}");
        for other in ["\"a steadfast. b\"", "\"steadfast\"", "\"Steadfast.\"", "\"\\\"steadfast.\""] {
            assert!(!is_marked(other), "{before}: {other}");
        }
    }
}

/// The encoders write kept fields from a tree, which such a number would empty.
#[test]
fn a_number_that_cannot_be_kept_is_refused_by_its_field() {
    let chat = |more: &str| format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{more}}}"#);
    let message = |more: &str| format!(r#"{{"max_tokens":9,"messages":[{{"role":"user",{more}}}]}}"#);
    let gemini = |more: &str| format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"hi"}}]}}],{more}}}"#);
    let cases = [
        (Dialect::OpenAi, chat(r#""seed":NUMBER,"user":"u""#), "seed"),
        (Dialect::OpenAi, chat(r#""metadata":{"a":[NUMBER]}"#), "metadata"),
        (Dialect::OpenAi, message(r#""content":"hi","weight":NUMBER"#), "weight"),
        (Dialect::OpenAi, message(r#""content":[{"type":"text","text":"hi","mark":{"a":NUMBER}}]"#), "mark"),
        (
            Dialect::OpenAi,
            chat(r#""tools":[{"type":"function","mark":NUMBER,"function":{"name":"f","parameters":{}}}]"#),
            "mark",
        ),
        (Dialect::OpenAi, chat(r#""tools":[{"type":"web","mark":NUMBER}]"#), "tools"),
        (Dialect::OpenAi, r#"{"messages":[{"role":"developer","content":"hi","mark":NUMBER}]}"#.to_owned(), "messages"),
        (
            Dialect::Anthropic,
            message(r#""content":"hi"}],"container":{"a":NUMBER},"system":[{"type":"text","text":"x""#),
            "container",
        ),
        (
            Dialect::Anthropic,
            message(r#""content":"hi"}],"system":[{"type":"text","text":"x","mark":NUMBER"#),
            "system",
        ),
        (Dialect::Anthropic, message(r#""content":"hi","weight":NUMBER"#), "weight"),
        (Dialect::Anthropic, message(r#""content":[{"type":"text","text":"hi","mark":NUMBER}]"#), "mark"),
        (
            Dialect::Anthropic,
            message(r#""content":"hi"}],"tools":[{"name":"f","input_schema":{},"mark":NUMBER"#),
            "mark",
        ),
        (
            Dialect::Anthropic,
            message(r#""content":"hi"}],"tools":[{"type":"web_20260101","name":"w","mark":NUMBER"#),
            "tools",
        ),
        (Dialect::Gemini, gemini(r#""safetySettings":[{"a":NUMBER}],"labels":{"a":"b"}"#), "safetySettings"),
        (Dialect::Gemini, gemini(r#""generationConfig":{"speechConfig":{"a":NUMBER}}"#), "generationConfig"),
        (Dialect::Gemini, gemini(r#""tools":[{"googleSearch":{"a":NUMBER}}]"#), "googleSearch"),
        (Dialect::Gemini, gemini(r#""tools":[{"functionDeclarations":[{"name":"f","mark":NUMBER}]}]"#), "tools"),
        (
            Dialect::Gemini,
            r#"{"contents":[{"parts":[{"text":"hi","videoMetadata":{"fps":NUMBER}}]}]}"#.to_owned(),
            "videoMetadata",
        ),
        (Dialect::Responses, r#"{"input":"hi","metadata":{"a":NUMBER}}"#.to_owned(), "metadata"),
    ];
    for (dialect, body, field) in cases {
        let read = |number: &str| Wire::new(dialect, body.replace("NUMBER", number)).unwrap().chat().cloned();
        assert!(read("1e99").is_ok(), "{dialect} {body}");
        let error = read("1e999").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{dialect} {body}");
        let words = format!("{field} must be JSON without numbers and texts that are out of range");
        assert!(error.message().contains(&words), "{dialect} {body}: {error}");
    }
}

#[test]
fn fields_are_set_in_their_places_and_all_other_bytes_stay() {
    let set = |body: &'static str, values: &[(&'static str, &[u8])]| {
        let wire = Wire::new(Dialect::Responses, body).unwrap();
        let changed = wire.with_fields(values).unwrap();
        String::from_utf8(changed.body().to_vec()).unwrap()
    };
    for (body, values, expected) in [
        ("{}", &[("input", &b"[]"[..])][..], r#"{"input":[]}"#),
        (" { } ", &[("input", b"[]"), ("tools", b"[1]")], r#" {"input":[],"tools":[1] } "#),
        (
            r#"{ "input" : [ 1 ] , "x":1.50, "tools":[]}"#,
            &[("tools", b"[2]"), ("input", b"2"), ("previous_response_id", b"null")],
            r#"{"previous_response_id":null, "input" : 2 , "x":1.50, "tools":[2]}"#,
        ),
        (r#"{"inpu\u0074":"m"}"#, &[("input", br#""n""#)], r#"{"inpu\u0074":"n"}"#),
    ] {
        assert_eq!(set(body, values), expected);
    }
    let wire = Wire::new(Dialect::Responses, r#"{"input":"x"}"#).unwrap();
    assert_eq!((wire.field("input"), wire.field("model")), (Some(&br#""x""#[..]), None));
    for wrong in
        [&[("temperature", &b"1"[..])][..], &[("model", br#""m""#)], &[("input", b"[")], &[("input", b"1,\"input\":2")]]
    {
        assert!(wire.with_fields(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn another_body_has_the_same_headers_limits_and_settings() {
    let mut headers = HeaderMap::new();
    headers.insert("openai-beta", http::HeaderValue::from_static("x"));
    let wire = Wire::new(Dialect::Responses, r#"{"input":"x","model":"m"}"#).unwrap().headers(headers);
    let mut wire = wire.limits(WireLimits::unlimited()).path("n", true);
    wire.set_max_tokens(7);
    let other = wire.with_body(r#"{"input":"y"}"#).unwrap();
    assert_eq!((other.model(), other.is_stream(), other.max_tokens()), (Some("n"), true, Some(7)));
    assert_eq!((other.header_map().len(), other.limits == wire.limits), (1, true));
    assert_eq!(other.chat().unwrap().max_tokens, Some(7));
}
