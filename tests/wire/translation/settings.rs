//! Every setting alone: it arrives, or is noted, or is refused by name. Each dialect's settings × each other dialect,
//! and a server that speaks OpenAI's and is another's.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    Dialect::{self, Anthropic as A, Gemini as G, OpenAi as O, Responses as R},
    ErrorKind, LlmError, LlmRequest, Wire,
    providers::{Anthropic, Gemini, OpenAi},
};
use tower::{Service, ServiceExt, service_fn};

use super::{Leaf, hello};

/// A request without a setting.
fn plain(dialect: Dialect) -> Value {
    match dialect {
        A => json!({"model": "m", "max_tokens": 8000, "messages": [{"role": "user", "content": "?"}]}),
        O => json!({"model": "m", "messages": [{"role": "user", "content": "?"}]}),
        R => json!({"model": "m", "input": "?"}),
        _ => json!({"contents": [{"role": "user", "parts": [{"text": "?"}]}]}),
    }
}

/// The settings of each dialect, by its vendor's reference of November 2026.
fn settings(dialect: Dialect) -> Vec<Value> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let config = |name: &str, value: Value| json!({"generationConfig": {name: value}});
    match dialect {
        A => vec![
            json!({"system": "s"}),
            json!({"temperature": 0.5}),
            json!({"top_p": 0.5}),
            json!({"top_k": 5}),
            json!({"stop_sequences": ["x"]}),
            json!({"tools": [{"name": "t", "input_schema": schema}]}),
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}),
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
            json!({"thinking": {"type": "adaptive"}}),
            json!({"output_config": {"effort": "low"}}),
            json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
            json!({"output_config": {"task_budget": 9}}),
            json!({"metadata": {"user_id": "u"}}),
            json!({"service_tier": "standard_only"}),
            json!({"container": "c"}),
            json!({"mcp_servers": [{"type": "url", "url": "https://a", "name": "s"}]}),
            json!({"inference_geo": "us"}),
            json!({"speed": "fast"}),
            json!({"cache_control": {"type": "ephemeral"}}),
            json!({"context_management": {"edits": []}}),
            json!({"diagnostics": {"previous_message_id": "m"}}),
            json!({"fallbacks": "default"}),
            json!({"fallback_credit_token": "t"}),
            json!({"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}}),
            json!({"thread": {"type": "continue", "previous_message_id": "m"}}),
            json!({"compaction": {"type": "enabled"}}),
        ],
        O => vec![
            json!({"frequency_penalty": 0.5}),
            json!({"presence_penalty": 0.5}),
            json!({"logit_bias": {"1": 1}}),
            json!({"logprobs": true}),
            json!({"max_completion_tokens": 50}),
            json!({"max_tokens": 50}),
            json!({"metadata": {"a": "b"}}),
            json!({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
            json!({"n": 2}),
            json!({"prediction": {"type": "content", "content": "a"}}),
            json!({"prompt_cache_key": "k"}),
            json!({"prompt_cache_retention": "24h"}),
            json!({"reasoning_effort": "low"}),
            json!({"reasoning": {"effort": "low"}}),
            json!({"reasoning": {"max_tokens": 2000}}),
            json!({"reasoning": {"enabled": true}}),
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
            json!({"thinking": {"type": "adaptive"}}),
            json!({"enable_thinking": true}),
            json!({"thinking_budget": 2000}),
            json!({"response_format": {"type": "json_object"}}),
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}}}),
            json!({"safety_identifier": "u"}),
            json!({"seed": 7}),
            json!({"service_tier": "flex"}),
            json!({"stop": ["x"]}),
            json!({"store": true}),
            json!({"temperature": 0.5}),
            json!({"top_p": 0.5}),
            json!({"user": "u"}),
            json!({"verbosity": "low"}),
            json!({"web_search_options": {}}),
            json!({"web_search_options": {"search_context_size": "low"}}),
            json!({"functions": [{"name": "f", "parameters": schema}]}),
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "strict": true}}]}),
            json!({"tools": [{"type": "custom", "custom": {"name": "f"}}]}),
        ],
        R => vec![
            json!({"background": true}),
            json!({"conversation": "conv_1"}),
            json!({"include": ["web_search_call.action.sources"]}),
            json!({"instructions": "s"}),
            json!({"max_output_tokens": 50}),
            json!({"max_tool_calls": 3}),
            json!({"metadata": {"a": "b"}}),
            json!({"previous_response_id": "resp_1"}),
            json!({"prompt": {"id": "p"}}),
            json!({"prompt_cache_key": "k"}),
            json!({"prompt_cache_retention": "24h"}),
            json!({"reasoning": {"effort": "low"}}),
            json!({"reasoning": {"effort": "low", "summary": "auto"}}),
            json!({"safety_identifier": "u"}),
            json!({"service_tier": "flex"}),
            json!({"store": true}),
            json!({"temperature": 0.5}),
            json!({"text": {"format": {"type": "json_object"}}}),
            json!({"text": {"format": {"type": "json_schema", "name": "a", "schema": schema, "strict": true}}}),
            json!({"text": {"verbosity": "low"}}),
            json!({"tools": [{"type": "web_search"}]}),
            json!({"tools": [{"type": "function", "name": "f", "parameters": schema, "strict": true}]}),
            json!({"top_logprobs": 3}),
            json!({"top_p": 0.5}),
            json!({"truncation": "auto"}),
            json!({"user": "u"}),
        ],
        _ => vec![
            json!({"systemInstruction": {"parts": [{"text": "s"}]}}),
            json!({"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]}),
            json!({"cachedContent": "cachedContents/1"}),
            json!({"labels": {"a": "b"}}),
            json!({"store": true}),
            json!({"serviceTier": "flex"}),
            json!({"modelArmorConfig": {"promptTemplateName": "p"}}),
            json!({"tools": [{"googleSearch": {}}]}),
            json!({"tools": [{"codeExecution": {}}]}),
            json!({"tools": [{"urlContext": {}}]}),
            json!({"tools": [{"fileSearch": {"fileSearchStoreNames": ["s"]}}]}),
            json!({"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}]}),
            json!({"toolConfig": {"retrievalConfig": {"languageCode": "en"}}}),
            config("candidateCount", json!(2)),
            config("stopSequences", json!(["x"])),
            config("responseMimeType", json!("application/json")),
            json!({"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}}),
            config("responseModalities", json!(["TEXT", "IMAGE"])),
            config("temperature", json!(0.5)),
            config("topP", json!(0.5)),
            config("topK", json!(5)),
            config("seed", json!(7)),
            config("maxOutputTokens", json!(50)),
            config("responseLogprobs", json!(true)),
            config("logprobs", json!(3)),
            config("presencePenalty", json!(0.5)),
            config("frequencyPenalty", json!(0.5)),
            config("thinkingConfig", json!({"thinkingBudget": 2000})),
            config("thinkingConfig", json!({"includeThoughts": true})),
            config("mediaResolution", json!("MEDIA_RESOLUTION_LOW")),
            config("speechConfig", json!({"languageCode": "en"})),
            config("imageConfig", json!({"aspectRatio": "1:1"})),
            config("enableEnhancedCivicAnswers", json!(true)),
            config("audioTimestamp", json!(true)),
            config("routingConfig", json!({"autoMode": {}})),
        ],
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Own(Dialect),
    Compatible,
}

/// Returns what a target is sent, and the notes; or the refusal.
async fn translated(from: Dialect, to: To, body: &Value) -> Result<(Value, Vec<String>), LlmError> {
    let sent = Arc::new(Mutex::new(Bytes::new()));
    let record = sent.clone();
    let dialect = if let To::Own(dialect) = to { dialect } else { O };
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            *record.lock().unwrap() = request.into_body().collect().await.unwrap().to_bytes();
            let mut response = Response::new(Full::new(Bytes::from_static(hello(dialect).as_bytes())));
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            Ok::<_, Infallible>(response)
        }
    });
    let mut leaf = match to {
        To::Own(A) => Leaf::new(Anthropic::new("k").model("claude-sonnet-4-5").transport(transport)),
        To::Own(O) => Leaf::new(OpenAi::new("k").model("gpt-5.1").transport(transport)),
        To::Own(R) => Leaf::new(OpenAi::new("k").responses().model("gpt-5.1").transport(transport)),
        To::Own(_) => Leaf::new(Gemini::new("k").model("gemini-2.5-pro").transport(transport)),
        To::Compatible => {
            let leaf = OpenAi::compatible("k", "https://compatible.example/v1").unwrap();
            Leaf::new(leaf.model("our-model").transport(transport))
        }
    };
    let request = LlmRequest::from(Wire::new(from, body.to_string())?);
    let response = leaf.ready().await?.call(request).await?;
    let sent = sent.lock().unwrap().clone();
    Ok((serde_json::from_slice(&sent).unwrap(), response.notes().iter().map(ToString::to_string).collect()))
}

#[tokio::test(start_paused = true)]
async fn every_setting_alone_arrives_or_is_named() {
    let (mut silent, mut seen) = (Vec::new(), 0);
    for from in [A, O, R, G] {
        let targets = [To::Own(A), To::Own(O), To::Own(R), To::Own(G), To::Compatible];
        for to in targets.into_iter().filter(|to| *to != To::Own(from) && (from, *to) != (O, To::Compatible)) {
            let (before, noted) = translated(from, to, &plain(from)).await.unwrap();
            for setting in settings(from) {
                let mut body = plain(from);
                body.as_object_mut().unwrap().extend(setting.as_object().unwrap().clone());
                seen += 1;
                match translated(from, to, &body).await {
                    Ok((sent, notes)) if sent == before && notes == noted => {
                        silent.push(format!("{from} to {to:?}: {setting}"));
                    }
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{setting}: {error}"),
                }
            }
        }
    }
    assert_eq!(silent, [""; 0]);
    assert!(seen > 400, "{seen}");
}
