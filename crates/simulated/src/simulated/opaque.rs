//! Calls that are no conversation: embeddings and continued texts, in OpenAI's API.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    Fault,
    answer::tokens_of,
    handle::{Shared, SimulatedCall},
    leaf::{broken, error_of, of, response},
};
use crate::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, OpaqueCall, StreamEvent,
    chat::Usage,
    internal::{base64, fnv},
};

const EMBEDDINGS: &str = "/v1/embeddings";
const COMPLETIONS: &str = "/v1/completions";

/// OpenAI's limit of texts in one call, and the length of its longest vectors.
const MOST: (usize, u32) = (2048, 3072);
/// The length of a vector for which the request has none: that of OpenAI's small model.
const DIMENSIONS: u32 = 1536;

/// The fields of a request that the answer depends on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    input: Value,
    prompt: Value,
    encoding_format: Option<String>,
    max_tokens: Option<u32>,
}

/// Answers a call.
pub(super) async fn answer(shared: Arc<Shared>, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let told = |error| of(&shared, error);
    let Some(asked) = request.opaque() else {
        return Err(told(request.chat().map_or_else(|error| error, |_| none(""))));
    };
    let is_completion = asked.path() == COMPLETIONS;
    if asked.dialect() != Dialect::OpenAi || !is_completion && asked.path() != EMBEDDINGS {
        return Err(told(none(asked.path())));
    }
    let fields = fields(asked, is_completion).map_err(told)?;
    let tokens = tokens_of(asked.body().len());
    let max_tokens = if is_completion { fields.max_tokens } else { Some(0) };
    let mut call = shared.begin(Instant::now(), tokens, max_tokens, request.extensions().get());
    let streams = is_completion && asked.is_stream();
    let words = if streams { Duration::ZERO } else { call.plan.pace.saturating_mul(call.plan.tokens) };
    sleep(call.plan.delay.saturating_add(words)).await;
    let fault = call.plan.fault.clone();
    let error = error_of(fault.as_ref());
    match fault {
        Some(Fault::Hang | Fault::StallAfter(_) | Fault::KeepAlivesOnly { .. }) if error.is_none() => pending().await,
        _ => {}
    }
    if streams && error.is_none() {
        return Ok(streamed(&shared, call, tokens));
    }
    call.finish();
    if let Some(error) = error.or_else(|| broken(fault.as_ref())) {
        return Err(told(error));
    }
    let usage = Usage::new(tokens, u64::from(call.plan.tokens));
    let body = match is_completion {
        true => completion(&shared, &call, usage),
        false => embeddings(&shared, &fields, asked.vector_length().unwrap_or(DIMENSIONS), tokens),
    };
    Ok(response(&shared, LlmBody::opaque(Dialect::OpenAi, body.to_string().into(), Some(usage))))
}

fn none(path: &str) -> LlmError {
    LlmError::new(ErrorKind::UnsupportedFeature, format!("{path}: no simulated provider has this path"))
}

/// Reads the request, and checks what bounds the answer.
fn fields(asked: &OpaqueCall, is_completion: bool) -> Result<Fields, LlmError> {
    let wrong = |message: String| LlmError::new(ErrorKind::InvalidRequest, message);
    let fields: Fields = serde_json::from_slice(asked.body()).map_err(|error| wrong(error.to_string()))?;
    let (name, text) = if is_completion { ("prompt", &fields.prompt) } else { ("input", &fields.input) };
    let count = text.as_array().map_or(1, Vec::len);
    if !(text.is_string() || text.is_array()) || count == 0 || count > MOST.0 {
        return Err(wrong(format!("`{name}` must be a text, or 1 to {} of them", MOST.0)));
    }
    match asked.vector_length() {
        Some(dimensions) if dimensions == 0 || dimensions > MOST.1 => {
            Err(wrong(format!("`dimensions` must be 1 to {}", MOST.1)))
        }
        _ => Ok(fields),
    }
}

/// Returns a vector of length one for each text. The same text has the same vector; no two others are alike.
fn embeddings(shared: &Shared, fields: &Fields, dimensions: u32, tokens: u64) -> Value {
    let is_packed = fields.encoding_format.as_deref() == Some("base64");
    let texts = match &fields.input {
        // One text as numbers of its tokens.
        Value::Array(numbers) if numbers.iter().all(Value::is_number) => std::slice::from_ref(&fields.input),
        Value::Array(texts) => texts,
        text => std::slice::from_ref(text),
    };
    let vector = |text: &Value| {
        let mut random = fastrand::Rng::with_seed(fnv::fnv1a(fnv::OFFSET_BASIS, &text.to_string()));
        let numbers: Vec<f32> = (0..dimensions).map(|_| random.f32() - 0.5).collect();
        let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        let numbers = numbers.into_iter().map(|number| number / length);
        match is_packed {
            true => json!(base64::encode(&numbers.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())),
            false => json!(numbers.collect::<Vec<f32>>()),
        }
    };
    let data = texts.iter().enumerate();
    let data = data.map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)}));
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    json!({"object": "list", "data": data.collect::<Vec<_>>(), "model": &*shared.name, "usage": usage})
}

fn completion(shared: &Shared, call: &SimulatedCall, usage: Usage) -> Value {
    let text: String = (0..call.plan.tokens).map(|token| call.voice.token(token)).collect();
    let mut completion = chunk(shared, call, &text, Some(finish(call)));
    completion["usage"] = json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.input + usage.output,
    });
    completion
}

fn finish(call: &SimulatedCall) -> &'static str {
    if call.cut_short { "length" } else { "stop" }
}

fn chunk(shared: &Shared, call: &SimulatedCall, text: &str, finish: Option<&str>) -> Value {
    json!({
        "id": format!("cmpl-{:024x}", call.number), "object": "text_completion", "created": 0, "model": &*shared.name,
        "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}],
    })
}

/// Returns the text event by event. A fault that breaks an answer breaks it at its end.
fn streamed(shared: &Arc<Shared>, call: SimulatedCall, tokens: u64) -> LlmResponse {
    let state = Some((shared.clone(), call, 0));
    let frames = stream::unfold(state, move |state| async move {
        let (shared, mut call, index) = state?;
        let event = |text: String| Frame::event(StreamEvent::Bytes).with_raw(Dialect::OpenAi, Bytes::from(text));
        let length = call.plan.tokens;
        if index < length {
            sleep(call.plan.pace).await;
            let finish = (index + 1 == length).then(|| finish(&call));
            let data = chunk(&shared, &call, call.voice.token(index), finish);
            return Some((Ok(event(format!("data: {data}\n\n"))), Some((shared, call, index + 1))));
        }
        call.finish();
        if let Some(error) = broken(call.plan.fault.as_ref()) {
            return Some((Err(of(&shared, error)), None));
        }
        if index == length {
            return Some((Ok(event("data: [DONE]\n\n".to_owned())), Some((shared, call, index + 1))));
        }
        let usage = StreamEvent::Usage(Usage::new(tokens, u64::from(length)));
        Some((Ok(Frame::events_of(vec![usage, StreamEvent::End])), None))
    });
    let events = (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response(shared, LlmBody::from_frames(frames)).with_headers(HeaderMap::from_iter([events]))
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;
    use crate::simulated::Simulated;

    async fn ask(provider: &Simulated, path: &str, body: Value) -> Result<Value, LlmError> {
        let call = OpaqueCall::json(Dialect::OpenAi, path, body.to_string()).unwrap();
        let answer = provider.clone().oneshot(LlmRequest::from(call)).await?;
        Ok(serde_json::from_slice(answer.body().wire().expect("bytes").1).expect("JSON"))
    }

    fn vectors(answer: &Value) -> Vec<Vec<f64>> {
        let numbers =
            |data: &Value| data["embedding"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
        answer["data"].as_array().unwrap().iter().map(numbers).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn texts_have_vectors_of_their_own_and_the_length_that_is_asked_for() {
        let provider = Simulated::new("m");
        let asked = json!({"model": "m", "input": ["a", "b", "a"], "dimensions": 7});
        let answer = ask(&provider, EMBEDDINGS, asked).await.unwrap();
        let found = vectors(&answer);
        assert!(found.len() == 3 && found.iter().all(|vector| vector.len() == 7), "{found:?}");
        assert!(found[0] == found[2] && found[0] != found[1], "{found:?}");
        let length: f64 = found[0].iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        let one = ask(&provider, EMBEDDINGS, json!({"model": "m", "input": "a", "dimensions": 7})).await.unwrap();
        assert_eq!(vectors(&one)[0], found[0]);
        let tokens = ask(&provider, EMBEDDINGS, json!({"model": "m", "input": [1, 2]})).await.unwrap();
        assert_eq!((vectors(&tokens).len(), vectors(&tokens)[0].len()), (1, 1536));
        // OpenAI's SDK for Python asks for this form.
        let packed = json!({"model": "m", "input": "a", "dimensions": 7, "encoding_format": "base64"});
        let packed = ask(&provider, EMBEDDINGS, packed).await.unwrap();
        let bytes = base64::decode(packed["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let numbers = bytes.chunks(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())));
        assert!(numbers.zip(&found[0]).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_goes_on_whole_and_in_events() {
        let provider = Simulated::new("m").reply("once upon a time");
        let answer =
            ask(&provider, COMPLETIONS, json!({"model": "m", "prompt": "Tell me", "max_tokens": 99})).await.unwrap();
        assert_eq!(
            (&answer["choices"][0]["text"], &answer["choices"][0]["finish_reason"]),
            (&json!("once upon a time"), &json!("stop"))
        );
        let cut =
            ask(&provider, COMPLETIONS, json!({"model": "m", "prompt": "Tell me", "max_tokens": 1})).await.unwrap();
        assert_eq!(
            (&cut["choices"][0]["finish_reason"], &cut["usage"]["completion_tokens"]),
            (&json!("length"), &json!(1))
        );
        let asked = json!({"model": "m", "prompt": "Tell me", "stream": true}).to_string();
        let call = OpaqueCall::json(Dialect::OpenAi, COMPLETIONS, asked).unwrap();
        let mut answer = provider.clone().oneshot(LlmRequest::from(call)).await.unwrap();
        let mut events = String::new();
        while let Some(frame) = answer.body_mut().frame().await {
            if let Some((_, raw)) = frame.unwrap().raw() {
                events.push_str(std::str::from_utf8(raw).unwrap());
            }
        }
        let chunks =
            events.split("\n\n").filter_map(|event| serde_json::from_str::<Value>(event.strip_prefix("data: ")?).ok());
        let text: String = chunks.map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned()).collect();
        assert!(text == "once upon a time" && events.ends_with("data: [DONE]\n\n"), "{events}");
        let stats = provider.handle().stats();
        assert_eq!((stats.answered, stats.in_flight), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_end_in_the_faults_of_the_script_and_wrong_ones_are_refused() {
        let provider = Simulated::new("m");
        for (fault, kind) in [
            (Fault::Overloaded, ErrorKind::Overloaded),
            (Fault::Unavailable, ErrorKind::Overloaded),
            (Fault::Empty, ErrorKind::EmptyAnswer),
            (Fault::TruncatedAfter(1), ErrorKind::Malformed),
        ] {
            for (path, field) in [(EMBEDDINGS, "input"), (COMPLETIONS, "prompt")] {
                provider.handle().fail_next(1, &fault);
                let error = ask(&provider, path, json!({"model": "m", field: "x"})).await.unwrap_err();
                assert_eq!((error.kind(), error.provider()), (kind, Some("simulated")), "{path}, {fault:?}");
            }
        }
        let many: Vec<&str> = vec!["x"; 2049];
        for wrong in [
            json!({}),
            json!({"input": []}),
            json!({"input": 7}),
            json!({"input": many}),
            json!({"input": "x", "dimensions": 9000}),
        ] {
            let error = ask(&provider, EMBEDDINGS, wrong).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
        }
        let error = ask(&provider, "/v1/moderations", json!({"input": "x"})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    }
}
