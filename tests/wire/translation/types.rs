//! A field of a wrong type is not absent: a translation refuses it by its name. Each field that a dialect's reference
//! has and a translation reads × each wrong type × each other dialect.

use serde_json::{Value, json};
use steadfast::{
    Dialect::{self, Anthropic as A, Gemini as G, OpenAi as O, Responses as R},
    ErrorKind,
};

use super::{DIALECTS, model, translate};

/// A request of each dialect with a tool, a call and its result.
fn whole(dialect: Dialect) -> Value {
    let schema = json!({"type": "object", "properties": {}});
    match dialect {
        A => json!({
            "model": "m", "max_tokens": 8000,
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}]}],
            "tools": [{"name": "f", "input_schema": schema}],
        }),
        O => json!({
            "model": "m",
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "4"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
        }),
        R => json!({
            "model": "m",
            "input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]},
                {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "4"}],
            "tools": [{"type": "function", "name": "f", "parameters": schema}],
        }),
        _ => json!({
            "contents": [
                {"role": "user", "parts": [{"text": "?"}, {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "4"}}}]}],
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {}}}]}],
        }),
    }
}

/// Sets the value at a JSON pointer, and makes the objects on the way to it.
fn put(body: &mut Value, pointer: &str, value: Value) {
    let mut place = body;
    for name in pointer[1..].split('/') {
        place = match name.parse::<usize>() {
            Ok(at) => &mut place[at],
            Err(_) => &mut place[name],
        };
    }
    *place = value;
}

/// The JSON types that a field takes: a text, a flag, a number, a list, an object.
const T: &str = "text";
const F: &str = "flag";
const N: &str = "number";
const L: &str = "list";
const J: &str = "object";

/// The wrong values of a field that takes these types.
fn wrong(takes: &[&str]) -> Vec<Value> {
    let all = [
        (T, json!("AAA")),
        (T, json!("")),
        (F, json!(true)),
        (F, json!(false)),
        (N, json!(0)),
        (N, json!(7)),
        (N, json!(-1)),
        (N, json!(0.5)),
        (L, json!([])),
        (L, json!([7])),
        (J, json!({})),
        (J, json!({"a": 1})),
    ];
    all.into_iter().filter(|(kind, _)| !takes.contains(kind)).map(|(_, value)| value).collect()
}

/// The fields of each dialect, with the types that its vendor's reference gives them.
fn fields(dialect: Dialect) -> Vec<(&'static str, &'static [&'static str])> {
    match dialect {
        A => vec![
            ("/messages", &[L]),
            ("/messages/0/role", &[T]),
            ("/messages/0/content", &[T, L]),
            ("/messages/0/content/0/type", &[T]),
            ("/messages/0/content/0/text", &[T]),
            ("/messages/0/content/1/source", &[J]),
            ("/messages/1/content/0/id", &[T]),
            ("/messages/1/content/0/name", &[T]),
            ("/messages/2/content/0/tool_use_id", &[T]),
            ("/messages/2/content/0/content", &[T, L]),
            ("/messages/2/content/0/is_error", &[F]),
            ("/system", &[T, L]),
            ("/tools", &[L]),
            ("/tools/0", &[J]),
            ("/tools/0/name", &[T]),
            ("/tools/0/description", &[T]),
            ("/tools/0/input_schema", &[J]),
            ("/tools/0/strict", &[F]),
            ("/tool_choice", &[J]),
            ("/tool_choice/type", &[]),
            ("/max_tokens", &[N]),
            ("/temperature", &[N]),
            ("/top_p", &[N]),
            ("/top_k", &[N]),
            ("/stop_sequences", &[T, L]),
            ("/output_config", &[J]),
            ("/output_config/effort", &[]),
            ("/output_config/format", &[]),
            ("/output_config/format/type", &[]),
            ("/output_format", &[]),
            ("/thinking", &[]),
            ("/thinking/type", &[]),
            ("/metadata", &[J]),
            ("/metadata/user_id", &[T]),
        ],
        O => vec![
            ("/messages", &[L]),
            ("/messages/0/role", &[T]),
            ("/messages/0/content", &[T, L]),
            ("/messages/0/content/0/type", &[T]),
            ("/messages/0/content/0/text", &[T]),
            ("/messages/0/content/1/image_url", &[T, J]),
            ("/messages/1/tool_calls", &[L]),
            ("/messages/1/tool_calls/0", &[J]),
            ("/messages/1/tool_calls/0/id", &[T]),
            ("/messages/1/tool_calls/0/function", &[J]),
            ("/messages/1/tool_calls/0/function/name", &[T]),
            ("/messages/1/refusal", &[T]),
            ("/messages/1/reasoning_content", &[T]),
            ("/messages/2/tool_call_id", &[T]),
            ("/tools", &[L]),
            ("/tools/0", &[J]),
            ("/tools/0/function", &[J]),
            ("/tools/0/function/name", &[T]),
            ("/tools/0/function/description", &[T]),
            ("/tools/0/function/parameters", &[J]),
            ("/tools/0/function/strict", &[F]),
            ("/tool_choice", &[J]),
            ("/parallel_tool_calls", &[F]),
            ("/max_tokens", &[N]),
            ("/max_completion_tokens", &[N]),
            ("/temperature", &[N]),
            ("/top_p", &[N]),
            ("/stop", &[T, L]),
            ("/response_format", &[J]),
            ("/response_format/type", &[]),
            ("/reasoning_effort", &[]),
            ("/reasoning", &[J]),
            ("/reasoning/effort", &[]),
            ("/reasoning/max_tokens", &[N]),
            ("/reasoning/enabled", &[F]),
            ("/reasoning/exclude", &[F]),
            ("/thinking", &[J]),
            ("/thinking/type", &[]),
            ("/thinking/budget_tokens", &[N]),
            ("/enable_thinking", &[F]),
            ("/thinking_budget", &[N]),
            ("/include_reasoning", &[F]),
            ("/stream_options", &[J]),
            ("/n", &[N]),
            ("/logprobs", &[F]),
            ("/top_logprobs", &[N]),
            ("/seed", &[N]),
            ("/presence_penalty", &[N]),
            ("/frequency_penalty", &[N]),
            ("/logit_bias", &[J]),
            ("/verbosity", &[T]),
            ("/modalities", &[L]),
            ("/prediction", &[J]),
            ("/functions", &[L]),
            ("/function_call", &[T, J]),
            ("/user", &[T]),
            ("/metadata", &[J]),
            ("/store", &[F]),
            ("/service_tier", &[T]),
            ("/prompt_cache_key", &[T]),
        ],
        R => vec![
            ("/input", &[T, L]),
            ("/input/0/role", &[T]),
            ("/input/0/content", &[T, L]),
            ("/input/0/content/0/type", &[T]),
            ("/input/0/content/0/text", &[T]),
            ("/input/1/call_id", &[T]),
            ("/input/1/name", &[T]),
            ("/input/2/call_id", &[T]),
            ("/input/2/output", &[T, L]),
            ("/instructions", &[T]),
            ("/tools", &[L]),
            ("/tools/0/name", &[T]),
            ("/tools/0/description", &[T]),
            ("/tools/0/parameters", &[J]),
            ("/tools/0/strict", &[F]),
            ("/tool_choice", &[]),
            ("/parallel_tool_calls", &[F]),
            ("/max_output_tokens", &[N]),
            ("/temperature", &[N]),
            ("/top_p", &[N]),
            ("/text", &[J]),
            ("/text/format", &[J]),
            ("/text/format/type", &[]),
            ("/text/verbosity", &[T]),
            ("/reasoning", &[J]),
            ("/reasoning/effort", &[]),
            ("/previous_response_id", &[T]),
            ("/conversation", &[T, J]),
            ("/include", &[L]),
            ("/store", &[F]),
            ("/metadata", &[J]),
            ("/user", &[T]),
            ("/service_tier", &[T]),
            ("/truncation", &[T]),
        ],
        _ => vec![
            ("/contents", &[L, J]),
            ("/contents/0", &[J]),
            ("/contents/0/role", &[T]),
            ("/contents/0/parts", &[L, J]),
            ("/contents/0/parts/0", &[J]),
            ("/contents/0/parts/0/text", &[T]),
            ("/contents/0/parts/1/inlineData", &[J]),
            ("/contents/0/parts/1/inlineData/mimeType", &[T]),
            ("/contents/0/parts/1/inlineData/data", &[T]),
            ("/contents/1/parts/0/functionCall", &[J]),
            ("/contents/1/parts/0/functionCall/name", &[T]),
            ("/contents/2/parts/0/functionResponse", &[J]),
            ("/contents/2/parts/0/functionResponse/name", &[T]),
            ("/tools", &[L, J]),
            ("/tools/0", &[J]),
            ("/tools/0/functionDeclarations", &[L, J]),
            ("/tools/0/functionDeclarations/0/name", &[T]),
            ("/tools/0/functionDeclarations/0/description", &[T]),
            ("/tools/0/functionDeclarations/0/parameters", &[J]),
            ("/systemInstruction", &[J]),
            ("/system_instruction", &[J]),
            ("/toolConfig", &[J]),
            ("/toolConfig/functionCallingConfig", &[J]),
            ("/toolConfig/functionCallingConfig/mode", &[]),
            ("/tool_config/function_calling_config/allowed_function_names", &[L]),
            ("/generationConfig", &[J]),
            ("/generationConfig/temperature", &[N]),
            ("/generationConfig/topP", &[N]),
            ("/generation_config/top_p", &[N]),
            ("/generationConfig/topK", &[N]),
            ("/generationConfig/maxOutputTokens", &[N]),
            ("/generationConfig/stopSequences", &[T, L]),
            ("/generationConfig/responseMimeType", &[T]),
            ("/generationConfig/responseSchema", &[J]),
            ("/generationConfig/responseJsonSchema", &[J]),
            ("/generationConfig/thinkingConfig", &[J]),
            ("/generationConfig/thinkingConfig/thinkingLevel", &[]),
            ("/generationConfig/thinkingConfig/thinkingBudget", &[N]),
            ("/generationConfig/thinkingConfig/includeThoughts", &[F]),
            ("/generationConfig/candidateCount", &[N]),
            ("/generationConfig/seed", &[N]),
            ("/generationConfig/presencePenalty", &[N]),
            ("/generationConfig/responseModalities", &[L]),
            ("/safetySettings", &[L]),
            ("/cachedContent", &[T]),
            ("/labels", &[J]),
        ],
    }
}

/// A name without the marks of its form.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Returns what is wrong with the outcome of a request whose field at `pointer` is wrong; `None` for a refusal by name.
async fn silence(source: Dialect, target: Dialect, pointer: &str, body: &Value) -> Option<String> {
    let named: Vec<&str> = pointer[1..].split('/').filter(|name| name.parse::<usize>().is_err()).collect();
    match translate(source, target, false, body).await {
        Ok((sent, notes)) => Some(format!("sent {sent}, notes {notes:?}")),
        Err(error) => {
            let is_named = plain(error.message()).contains(&plain(named.last()?));
            let is_refused = matches!(error.kind(), ErrorKind::InvalidRequest);
            (!is_named || !is_refused).then(|| format!("{error}"))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_field_of_a_wrong_type_is_refused_by_its_name() {
    let (mut cells, mut open) = (0, Vec::new());
    for source in DIALECTS {
        for (pointer, takes) in fields(source) {
            for value in wrong(takes) {
                let mut body = whole(source);
                put(&mut body, pointer, value.clone());
                for target in DIALECTS.into_iter().filter(|target| *target != source) {
                    cells += 1;
                    let said = silence(source, target, pointer, &body).await;
                    open.extend(said.map(|said| format!("{source} > {target} {pointer} = {value}: {said}")));
                }
            }
        }
    }
    assert!(open.is_empty(), "{} of {cells} cells are open:\n{}", open.len(), open.join("\n"));
    assert!(cells > 3000, "{cells}");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_no_provider_takes_is_refused_by_its_name() {
    for (source, pointer, value) in [
        (A, "/thinking", json!({"type": "AAA"})),
        (A, "/thinking", json!({"type": "enabled"})),
        (A, "/thinking/budget_tokens", json!(-1)),
        (A, "/thinking", json!(7)),
        (A, "/top_p", json!(7)),
        (A, "/max_tokens", json!(-1)),
        (A, "/max_tokens", json!(1.5)),
        (A, "/output_config", json!({"effort": "AAA"})),
        (A, "/output_config/format", json!({"type": "AAA", "schema": {}})),
        (A, "/output_format", json!({"type": "json_schema"})),
        (O, "/reasoning/max_tokens", json!(-1)),
        (O, "/reasoning/max_tokens", json!(1.5)),
        (O, "/reasoning/effort", json!("AAA")),
        (O, "/thinking", json!({"type": "AAA"})),
        (O, "/thinking/budget_tokens", json!(-1)),
        (O, "/thinking_budget", json!(-2)),
        (O, "/top_p", json!(-0.5)),
        (O, "/max_tokens", json!(-1)),
        (O, "/max_completion_tokens", json!(-1)),
        (O, "/n", json!("2")),
        (O, "/stop", json!({})),
        (O, "/stop", json!([7])),
        (O, "/tool_choice", json!(5)),
        (O, "/messages", json!("x")),
        (O, "/tools", json!("AAA")),
        (O, "/response_format", json!(0)),
        (O, "/response_format", json!({"type": "grammar"})),
        (O, "/reasoning_effort", json!("AAA")),
        (O, "/stream", json!("yes")),
        (R, "/max_output_tokens", json!(-1)),
        (R, "/text/format", json!({"type": "AAA"})),
        (R, "/reasoning", json!({"effort": "AAA"})),
        (R, "/top_p", json!(7)),
        (G, "/generationConfig/topP", json!(7)),
        (G, "/generationConfig/maxOutputTokens", json!(-1)),
        (G, "/generationConfig/responseMimeType", json!("application/xml")),
        (G, "/generationConfig/thinkingConfig/thinkingBudget", json!(-2)),
        (G, "/generationConfig/thinkingConfig", json!({"thinkingLevel": "AAA"})),
        (G, "/toolConfig/functionCallingConfig", json!({"mode": "AAA"})),
    ] {
        let mut body = whole(source);
        put(&mut body, pointer, value.clone());
        // The wrong one may be a field of the value's.
        for target in DIALECTS.into_iter().filter(|target| *target != source) {
            let error = translate(source, target, false, &body).await.expect_err(pointer);
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{pointer} {value}: {error}");
            let first = pointer[1..].split('/').next_back().expect("a name");
            assert!(plain(error.message()).contains(&plain(first)), "{pointer} {value}: {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_there_twice_in_its_two_forms_is_refused() {
    for (more, name) in [
        (json!({"generationConfig": {"topP": 1, "top_p": 0.1}}), "topP is there twice"),
        (json!({"tool_config": {}, "toolConfig": {}}), "toolConfig is there twice"),
    ] {
        let mut body = whole(G);
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        for target in [A, O, R] {
            let error = translate(G, target, false, &body).await.expect_err(name);
            assert!(error.message().contains(name), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_honest_clients_send_passes() {
    for (source, pointer, value) in [
        (A, "/max_tokens", json!(100.0)),
        (A, "/temperature", json!(1)),
        (A, "/tools", json!([])),
        (A, "/tool_choice", json!(null)),
        (A, "/thinking", json!({"type": "disabled"})),
        (A, "/thinking", json!({"type": "adaptive"})),
        (A, "/thinking", json!({"type": "enabled", "budget_tokens": 2000})),
        (A, "/stop_sequences", json!(null)),
        (A, "/system", json!([{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}])),
        (A, "/metadata", json!({"user_id": null})),
        (A, "/messages/2/content/0/content", json!(null)),
        (A, "/messages/2/content/0/content", json!([])),
        (O, "/max_tokens", json!(null)),
        (O, "/tools", json!([])),
        (O, "/temperature", json!(1)),
        (O, "/temperature", json!(0.0)),
        (O, "/top_p", json!(1)),
        (O, "/stop", json!("x")),
        (O, "/stop", json!([])),
        (O, "/stop", json!(null)),
        (O, "/n", json!(1)),
        (O, "/response_format", json!({"type": "text"})),
        (O, "/response_format", json!(null)),
        (O, "/reasoning_effort", json!(null)),
        (O, "/tool_choice", json!("auto")),
        (O, "/stream_options", json!(null)),
        (O, "/logprobs", json!(false)),
        (O, "/messages/0/content/1/image_url", json!("data:image/png;base64,QUJD")),
        (O, "/messages/1/tool_calls/0/function/arguments", json!({"a": 1})),
        (O, "/messages/1/refusal", json!(null)),
        (O, "/messages/1/content", json!("")),
        (O, "/unheard_of", json!({"a": [1]})),
        (R, "/input", json!("hi")),
        (R, "/instructions", json!(null)),
        (R, "/reasoning", json!({"effort": null, "summary": null})),
        (R, "/text", json!({"format": {"type": "text"}})),
        (R, "/store", json!(false)),
        (R, "/include", json!([])),
        (R, "/previous_response_id", json!(null)),
        (G, "/systemInstruction", json!({"parts": {"text": "Hi"}})),
        (G, "/contents/0/role", json!(null)),
        (G, "/generationConfig", json!({})),
        (G, "/generationConfig/topK", json!(40.0)),
        (G, "/generationConfig/thinkingConfig", json!({"thinkingBudget": -1, "includeThoughts": true})),
        (G, "/generationConfig/thinkingConfig", json!({"thinkingLevel": "low"})),
        (G, "/safetySettings", json!([])),
    ] {
        let mut body = whole(source);
        if pointer != "/tools" && value == json!("hi") {
            body["tools"] = json!([]);
        }
        put(&mut body, pointer, value.clone());
        if pointer == "/tools" {
            // No tools, no calls.
            body["messages"].as_array_mut().expect("a list").truncate(1);
        }
        for target in DIALECTS.into_iter().filter(|target| *target != source) {
            let sent = translate(source, target, false, &body).await;
            assert!(sent.is_ok(), "{source} > {target} {pointer} = {value}: {:?}", sent.err());
        }
    }
}

/// Servers of local models take -1 for no limit. A tier of another model in their dialect gets it, or none, which is
/// the same.
#[tokio::test(start_paused = true)]
async fn no_limit_passes_within_the_dialect_of_servers_that_have_it() {
    for (dialect, name) in [(O, "max_tokens"), (R, "max_output_tokens")] {
        let mut body = whole(dialect);
        body[name] = (-1).into();
        let (sent, _) = translate(dialect, dialect, false, &body).await.expect(name);
        assert!(sent[name].is_null() || sent[name] == -1, "{dialect}: {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn within_its_own_dialect_a_wrong_type_is_for_the_provider_to_judge() {
    for dialect in DIALECTS {
        for (pointer, value) in [("/temperature", json!("AAA")), ("/tools", json!("AAA")), ("/metadata", json!(7))] {
            let mut body = whole(dialect);
            if dialect != G {
                body["model"] = model(dialect).into();
            }
            put(&mut body, pointer, value.clone());
            let (sent, _) = translate(dialect, dialect, false, &body).await.expect(pointer);
            assert_eq!(sent.pointer(pointer), Some(&value), "{dialect} {pointer}");
        }
    }
}
