//! Each rule of the table, met by a request that has the feature.

use serde_json::{Value, json};
use steadfast::{
    Dialect::{self, Anthropic as A, Gemini as G, OpenAi as O, Responses as R},
    ErrorKind,
    translate::{Fate, RULES},
};
use steadfast_simulator::check;

use super::{DIALECTS, model, translate, translate_for};

/// A request of this dialect with more fields.
fn body(dialect: Dialect, more: Value) -> (Dialect, Value) {
    let mut body = match dialect {
        A => json!({"model": "m", "max_tokens": 8000, "messages": [{"role": "user", "content": "?"}]}),
        O => json!({"model": "m", "messages": [{"role": "user", "content": "?"}]}),
        R => json!({"model": "m", "input": [{"role": "user", "content": "?"}]}),
        _ => json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}]}),
    };
    for (name, value) in more.as_object().expect("fields") {
        body[name] = value.clone();
    }
    (dialect, body)
}

fn o_user(part: Value) -> Value {
    json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, part]}]})
}

fn a_user(block: Value) -> Value {
    json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, block]}]})
}

fn g_user(part: Value) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "?"}, part]}]})
}

fn o_messages(messages: &[Value]) -> Value {
    let first = json!({"role": "user", "content": "?"});
    let messages = [&[first], messages].concat();
    json!({ "messages": messages })
}

fn a_tool(tool: Value) -> Value {
    json!({"tools": [tool]})
}

fn o_tool(name: &str, parameters: Value, strict: bool) -> Value {
    let function = json!({"name": name, "parameters": parameters, "strict": strict});
    json!({"tools": [{"type": "function", "function": function}]})
}

fn g_settings(settings: Value) -> (Dialect, Value) {
    body(G, json!({"generationConfig": settings}))
}

/// Requests that have the feature, in dialects that can say it.
fn samples(feature: &str) -> Vec<(Dialect, Value)> {
    let schema =
        json!({"type": "object", "properties": {"n": {"type": "integer", "not": {"const": 1}}}, "required": ["n"]});
    let plain = json!({"type": "object", "properties": {}});
    let call = |arguments: &str| {
        json!({"role": "assistant", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}]})
    };
    let done = json!({"role": "tool", "tool_call_id": "call_1", "content": "4"});
    let a_call =
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]});
    let a_result = |more: Value| {
        let mut result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"});
        for (name, value) in more.as_object().expect("fields") {
            result[name] = value.clone();
        }
        json!({"messages": [{"role": "user", "content": "?"}, a_call, {"role": "user", "content": [result]}]})
    };
    let g_call =
        json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "AAAA"}]});
    let g_done = json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"error": "no"}}}]});
    let g_turns = json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}, g_call, g_done]});
    let user = json!({"role": "user", "content": "?"});
    let thought = json!([user, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "AAAA"}, {"type": "text", "text": "4"}]}, user]);
    let g_thought = json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}, {"role": "model", "parts": [
        {"text": "hm", "thought": true, "thoughtSignature": "AAAA"}, {"text": "4"}]},
        {"role": "user", "parts": [{"text": "?"}]}]});
    let a_pdf = |source: Value| a_user(json!({"type": "document", "source": source, "title": "a.pdf"}));
    let pdf = || a_pdf(json!({"type": "base64", "media_type": "application/pdf", "data": "QUJD"}));
    let o_pdf = json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}});
    match feature {
        "system_in_the_middle" => {
            let system = json!({"role": "system", "content": "Shout."});
            vec![
                body(O, o_messages(&[system.clone(), user.clone()])),
                body(A, json!({"messages": [user, {"role": "assistant", "content": "4"}, system, user]})),
            ]
        }
        "first_turn" => vec![
            body(O, json!({"messages": [{"role": "assistant", "content": "Hi"}, user]})),
            body(A, json!({"messages": [{"role": "assistant", "content": "Hi"}, user]})),
        ],
        "prefill" => vec![
            body(A, json!({"messages": [user, {"role": "assistant", "content": "{"}]})),
            body(O, o_messages(&[json!({"role": "assistant", "content": "{"})])),
        ],
        "empty_text" => vec![
            body(O, json!({"messages": [{"role": "user", "content": ""}]})),
            body(A, json!({"messages": [{"role": "user", "content": ""}]})),
        ],
        "participant_name" => vec![body(O, json!({"messages": [{"role": "user", "name": "Ann", "content": "?"}]}))],
        "own_part" => vec![
            body(O, o_user(json!({"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}))),
            body(G, g_user(json!({"executableCode": {"language": "PYTHON", "code": "1"}}))),
        ],
        "text_document" => {
            let notes = json!({"type": "text", "media_type": "text/plain", "data": "It rains."});
            let file = json!({"filename": "a.txt", "file_data": "data:text/plain;base64,SXQgcmFpbnMu"});
            vec![body(A, a_pdf(notes)), body(O, o_user(json!({"type": "file", "file": file})))]
        }
        "refusal" => {
            vec![body(O, o_messages(&[json!({"role": "assistant", "content": null, "refusal": "no"}), user]))]
        }
        "reasoning" => vec![body(A, json!({ "messages": thought })), body(G, g_thought)],
        "call_signature" => vec![body(G, g_turns), body(O, o_messages(&[call("{}"), done]))],
        "citations" => {
            let mut pdf = pdf();
            pdf["messages"][0]["content"][1]["citations"] = json!({"enabled": true});
            let text = json!({"type": "output_text", "text": "4", "annotations": [{"type": "url_citation"}]});
            let cited = json!([user, {"type": "message", "role": "assistant", "content": [text]}, user]);
            vec![body(A, pdf), body(R, json!({ "input": cited }))]
        }
        "tool_name" => vec![
            body(G, json!({"tools": [{"functionDeclarations": [{"name": "a.b", "parametersJsonSchema": plain}]}]})),
            body(A, a_tool(json!({"name": "1st", "input_schema": plain}))),
        ],
        "server_tool" => vec![
            body(A, a_tool(json!({"type": "web_search_20250305", "name": "web_search"}))),
            body(G, a_tool(json!({"googleSearch": {}}))),
        ],
        "client_tool" => vec![body(A, a_tool(json!({"type": "bash_20250124", "name": "bash"})))],
        "forced_server_tool" => {
            let mut a = a_tool(json!({"type": "web_search_20250305", "name": "web_search"}));
            a["tool_choice"] = json!({"type": "tool", "name": "web_search"});
            let r = json!({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}});
            vec![body(A, a), body(R, r)]
        }
        "custom_tool" => vec![body(R, json!({"tools": [{"type": "custom", "name": "f"}]}))],
        "namespace" => {
            let tools = json!([{"type": "function", "name": "f", "parameters": plain}]);
            vec![body(R, json!({"tools": [{"type": "namespace", "name": "n", "description": "N", "tools": tools}]}))]
        }
        "tool_setting" => vec![
            body(A, a_tool(json!({"name": "f", "input_schema": plain, "defer_loading": true}))),
            body(G, json!({"tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}]}]})),
        ],
        "allowed_tools" => {
            let calling = json!({"mode": "ANY", "allowedFunctionNames": ["f", "g"]});
            let tools = json!([{"functionDeclarations": [{"name": "f"}, {"name": "g"}, {"name": "h"}]}]);
            let mut o = o_tool("f", plain.clone(), false);
            o["tool_choice"] = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}});
            vec![body(G, json!({"tools": tools, "toolConfig": {"functionCallingConfig": calling}})), body(O, o)]
        }
        "parallel_tool_calls" => {
            let mut o = o_tool("f", plain.clone(), false);
            o["parallel_tool_calls"] = false.into();
            let mut a = a_tool(json!({"name": "f", "input_schema": plain}));
            a["tool_choice"] = json!({"type": "auto", "disable_parallel_tool_use": true});
            vec![body(O, o), body(A, a)]
        }
        "schema_keywords" => {
            let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}});
            let round = json!({"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"});
            vec![
                body(O, json!({ "response_format": format })),
                body(A, a_tool(json!({"name": "f", "input_schema": round}))),
            ]
        }
        "schema_root" => {
            let list = json!({"type": "array", "items": {"type": "string"}});
            vec![body(A, json!({"output_config": {"format": {"type": "json_schema", "schema": list}}}))]
        }
        "strict" => {
            // OpenAI wants every property, Anthropic none that refers to itself.
            let open = json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": false});
            let tool = json!({"name": "f", "input_schema": open, "strict": true});
            vec![body(A, a_tool(tool)), body(O, o_tool("f", open, true))]
        }
        "json_mode" => {
            let settings = json!({"responseMimeType": "application/json"});
            let words = json!([{"role": "user", "content": "Some JSON?"}]);
            let said = json!([{"role": "user", "parts": [{"text": "Some words?"}]}]);
            vec![
                body(O, json!({"messages": words, "response_format": {"type": "json_object"}})),
                body(G, json!({"contents": said, "generationConfig": settings})),
            ]
        }
        "invalid_arguments" => vec![
            body(O, o_messages(&[call("{broken"), done])),
            body(A, {
                let mut broken = a_result(json!({}));
                broken["messages"][1]["content"][0]["input"] = json!({"invalid_arguments": "{broken"});
                broken
            }),
        ],
        "orphan_result" => vec![
            body(O, o_messages(&[done])),
            body(A, a_user(json!({"type": "tool_result", "tool_use_id": "t", "content": "4"}))),
        ],
        "unanswered_call" => {
            vec![body(O, o_messages(&[call("{}"), user.clone()])), body(A, json!({"messages": [user, a_call, user]}))]
        }
        "tool_error" => vec![body(A, a_result(json!({"is_error": true}))), body(G, g_turns)],
        "tool_media" => {
            let picture =
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}});
            vec![body(A, a_result(json!({"content": [{"type": "text", "text": "4"}, picture]})))]
        }
        "image_url" => vec![
            body(O, o_user(json!({"type": "image_url", "image_url": {"url": "https://a.test/b.png"}}))),
            body(A, a_user(json!({"type": "image", "source": {"type": "url", "url": "https://a.test/b.png"}}))),
        ],
        "document_url" => vec![body(A, a_pdf(json!({"type": "url", "url": "https://a.test/b.pdf"})))],
        "uploaded_file" => vec![
            body(A, a_user(json!({"type": "image", "source": {"type": "file", "file_id": "file_1"}}))),
            body(O, o_user(json!({"type": "file", "file": {"file_id": "file-1"}}))),
        ],
        "media_type" => vec![
            body(G, g_user(json!({"inlineData": {"mimeType": "audio/mp3", "data": "QUJD"}}))),
            body(O, o_user(json!({"type": "image_url", "image_url": {"url": "data:image/gif;base64,QUJD"}}))),
        ],
        "state" => vec![body(R, json!({"previous_response_id": "resp_1"}))],
        "file_name" => vec![body(A, pdf()), body(O, o_user(o_pdf))],
        "image_detail" => {
            let url = "data:image/png;base64,QUJD";
            let content = json!([{"type": "input_image", "image_url": url, "detail": "low"}]);
            vec![
                body(O, o_user(json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}}))),
                body(R, json!({"input": [{"role": "user", "content": content}]})),
            ]
        }
        "stop" => {
            vec![body(A, json!({"stop_sequences": ["a", "b", "c", "d", "e", "f"]})), body(O, json!({"stop": ["\n"]}))]
        }
        "temperature" => vec![body(O, json!({"temperature": 2.5})), g_settings(json!({"temperature": 2.5}))],
        "sampling" => vec![
            body(O, json!({"temperature": 0.5, "reasoning_effort": "low", "max_completion_tokens": 9000})),
            body(A, json!({"temperature": 0.5})),
        ],
        "top_k" => vec![body(A, json!({"top_k": 5})), g_settings(json!({"topK": 5}))],
        "seed" => vec![body(O, json!({"seed": 7})), g_settings(json!({"seed": 7}))],
        "penalties" => {
            vec![body(O, json!({"presence_penalty": 0.5})), g_settings(json!({"frequencyPenalty": 0.5}))]
        }
        "logit_bias" => vec![body(O, json!({"logit_bias": {"50256": -100}}))],
        "choices" => vec![body(O, json!({"n": 2})), g_settings(json!({"candidateCount": 2}))],
        "logprobs" => vec![body(O, json!({"logprobs": true})), g_settings(json!({"responseLogprobs": true}))],
        "modalities" => vec![
            body(O, json!({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}})),
            g_settings(json!({"responseModalities": ["TEXT", "IMAGE"]})),
        ],
        "include" => vec![body(R, json!({"include": ["web_search_call.action.sources"]}))],
        "verbosity" => vec![body(O, json!({"verbosity": "low"})), body(R, json!({"text": {"verbosity": "low"}}))],
        "truncation" => vec![body(R, json!({"truncation": "auto"}))],
        "thought_summary" => vec![body(R, json!({"reasoning": {"effort": "low", "summary": "auto"}}))],
        "prediction" => vec![body(O, json!({"prediction": {"type": "content", "content": "a"}}))],
        "model_setting" => {
            let tool = json!({"name": "f", "input_schema": plain});
            let single = json!({"type": "auto", "disable_parallel_tool_use": true});
            let a = json!({"stop_sequences": ["a"], "tools": [tool], "tool_choice": single});
            vec![body(O, json!({"top_k": 5, "presence_penalty": 0.5})), body(A, a)]
        }
        "model_reasoning" => vec![
            body(O, json!({"reasoning_effort": "low"})),
            body(A, json!({"thinking": {"type": "enabled", "budget_tokens": 2000}})),
        ],
        "forced_tool" => {
            let mut o = o_tool("f", plain.clone(), false);
            o["tool_choice"] = "required".into();
            let mut a = a_tool(json!({"name": "f", "input_schema": plain}));
            a["tool_choice"] = json!({"type": "any"});
            vec![body(O, o), body(A, a)]
        }
        "json_in_words" => {
            let mut o = o_tool("f", plain.clone(), false);
            o["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": plain}});
            let mut a = a_tool(json!({"name": "f", "input_schema": plain}));
            a["output_config"] = json!({"format": {"type": "json_schema", "schema": plain}});
            vec![body(O, o), body(A, a)]
        }
        "max_output" => vec![body(A, json!({"max_tokens": 100_000})), body(O, json!({}))],
        "thinking" => {
            let mut o = o_tool("f", plain.clone(), false);
            o["tool_choice"] = "required".into();
            o["reasoning_effort"] = "low".into();
            let mut a = a_tool(json!({"name": "f", "input_schema": plain}));
            a["thinking"] = json!({"type": "enabled", "budget_tokens": 2000});
            vec![body(O, o), body(A, a)]
        }
        "thinking_budget" => vec![
            g_settings(json!({"thinkingConfig": {"thinkingBudget": 500}})),
            body(A, json!({"thinking": {"type": "enabled", "budget_tokens": 2000}})),
        ],
        "thinking_effort" => {
            vec![body(O, json!({"reasoning_effort": "xhigh"})), body(A, json!({"output_config": {"effort": "xhigh"}}))]
        }
        "thinking_auto" => vec![
            body(A, json!({"thinking": {"type": "adaptive"}})),
            g_settings(json!({"thinkingConfig": {"includeThoughts": true}})),
        ],
        "thinking_off" => {
            vec![body(O, json!({"reasoning_effort": "none"})), body(A, json!({"thinking": {"type": "disabled"}}))]
        }
        "hidden_thoughts" => {
            vec![body(O, json!({"reasoning": {"max_tokens": 2000, "exclude": true}, "max_tokens": 9000}))]
        }
        "cache" => {
            vec![body(O, json!({"prompt_cache_key": "k"})), body(A, json!({"cache_control": {"type": "ephemeral"}}))]
        }
        "cache_marks" => {
            let part = json!({"type": "text", "text": "?", "cache_control": {"type": "ephemeral"}});
            let user = json!({"role": "user", "content": vec![part; 5]});
            vec![body(O, json!({ "messages": [user] })), body(A, json!({ "messages": [user] }))]
        }
        "cached_content" => vec![body(G, json!({"cachedContent": "cachedContents/1"}))],
        "end_user" => {
            vec![body(O, json!({"safety_identifier": "u"})), body(A, json!({"metadata": {"user_id": "u"}}))]
        }
        "metadata" => vec![body(O, json!({"metadata": {"a": "b"}})), body(G, json!({"labels": {"a": "b"}}))],
        "service_tier" => vec![body(O, json!({"service_tier": "flex"})), body(A, json!({"service_tier": "auto"}))],
        "safety_settings" => {
            let off = json!([{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]);
            vec![body(G, json!({ "safetySettings": off }))]
        }
        "other_field" => vec![body(O, json!({"odd": "low"})), body(A, json!({"diagnostics": {"a": 1}}))],
        unknown => panic!("{unknown} is in the table, and there is no request that has it"),
    }
}

/// A model at which the rule shows.
fn model_for(feature: &str, to: Dialect) -> &'static str {
    match (feature, to) {
        ("prefill", A) => "claude-opus-4-6",
        ("stop" | "temperature" | "model_reasoning" | "max_output", O | R) => "gpt-4o",
        ("model_setting", R) => "o3",
        ("model_setting", A) => "claude-opus-4-7",
        ("model_reasoning" | "json_in_words", A) => "claude-3-5-haiku",
        ("model_reasoning", G) => "gemini-2.0-flash",
        ("forced_tool" | "thinking_off", A) => "claude-opus-5-5",
        ("forced_tool", O | R) => "deepseek-chat",
        ("json_in_words", O | R) => "gpt-4-turbo",
        ("cache_marks", O) => "claude-sonnet-4-5",
        ("json_in_words", G) => "gemini-2.5-flash",
        ("thinking", O | R) => "gpt-5.4",
        _ => model(to),
    }
}

/// Returns an error if the request does not meet the rule's fate at the target.
async fn meets(feature: &str, fate: Fate, from: Dialect, to: Dialect, body: &Value) -> Result<(), String> {
    let model = model_for(feature, to);
    let translated = translate_for(from, to, model, false, body).await;
    if let Fate::Refused(why) = fate {
        return match translated {
            Err(error)
                if error.kind() == ErrorKind::UnsupportedFeature
                    && error.message().starts_with(feature)
                    && error.message().ends_with(why) =>
            {
                Ok(())
            }
            other => Err(format!("not refused: {other:?}")),
        };
    }
    let (sent, notes) = translated.map_err(|error| error.to_string())?;
    check(to, model, &sent).map_err(|error| format!("{error}: {sent}"))?;
    let is_named = |note: &&String| [":", " ("].iter().any(|end| note.starts_with(&format!("{feature}{end}")));
    let how = match (fate, notes.iter().find(is_named)) {
        (Fate::Changed(how) | Fate::Dropped(how), Some(note)) if note.ends_with(&format!(": {how}")) => how,
        (Fate::Carried | Fate::Native, None) => return Ok(()),
        (_, note) => return Err(format!("said {note:?} of {notes:?}")),
    };
    match (fate, translate_for(from, to, model, true, body).await) {
        (Fate::Dropped(_), Err(error)) if error.kind() == ErrorKind::UnsupportedFeature => Ok(()),
        (Fate::Dropped(_), other) => Err(format!("not refused by a strict leaf ({how}): {other:?}")),
        _ => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn every_rule_is_what_happens() {
    let (mut failures, mut met) = (Vec::new(), 0);
    for rule in RULES {
        let samples = samples(rule.feature);
        for to in DIALECTS {
            let fate = rule.at(to);
            let what = format!("{} to {to}", rule.feature);
            // OpenAI's two dialects have more in common than the table says.
            let others = || samples.iter().filter(|(from, _)| *from != to);
            let stranger = others().find(|(from, _)| !matches!((from, to), (O, R) | (R, O)));
            let Some((from, body)) = stranger.or_else(|| others().next()) else {
                // Nothing from another dialect can say it, so that it only ever passes byte for byte.
                if !matches!(fate, Fate::Native | Fate::Carried) {
                    failures.push(format!("{what}: no request meets it"));
                }
                continue;
            };
            met += 1;
            if let Err(error) = meets(rule.feature, fate, *from, to, body).await {
                failures.push(format!("{what}: {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(met > RULES.len(), "most rules are met twice");
}

#[tokio::test(start_paused = true)]
async fn what_other_dialects_spell_otherwise_is_carried() {
    let (_, body) = body(O, json!({"seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.25}));
    let (sent, notes) = translate_for(O, G, "gemini-2.0-flash", true, &body).await.unwrap();
    let settings = json!({"seed": 7, "presencePenalty": 0.5, "frequencyPenalty": 0.25});
    assert_eq!((&sent["generationConfig"], notes.len()), (&settings, 0));
    let (_, body) = g_settings(json!({"topK": 5}));
    assert_eq!(translate(G, A, true, &body).await.unwrap().0["top_k"], 5);
}

/// The older spelling of tools is held to the same names as the newer one.
#[tokio::test(start_paused = true)]
async fn a_name_that_the_target_does_not_take_is_changed_in_either_spelling_of_tools() {
    let function = json!({"name": "2nd.try", "parameters": {"type": "object", "properties": {}}});
    let newer = json!({"tools": [{"type": "function", "function": function}]});
    for spelling in [newer, json!({"functions": [function]})] {
        let (sent, notes) = translate(O, A, false, &body(O, spelling).1).await.unwrap();
        assert_eq!(sent["tools"][0]["name"], "_2nd_try");
        assert!(notes.iter().any(|note| note.starts_with("tool_name:")), "{notes:?}");
    }
}
