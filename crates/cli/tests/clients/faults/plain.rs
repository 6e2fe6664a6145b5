//! A client without an SDK: HTTP/1.1 and events as they come, sixty-four cases at a time.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    faults::{
        cases::{Caller, Case, Request},
        judge::Outcome,
    },
    upstream::Upstream,
};

/// The ways to call that differ without an SDK.
pub(crate) const CALLERS: &[Caller] =
    &[Caller::Messages, Caller::Chat, Caller::Create, Caller::Raw, Caller::Generate, Caller::Gemini, Caller::Array];

pub(crate) async fn drive(cases: Vec<Case>) -> Vec<(String, Vec<Outcome>)> {
    stream::iter(cases).map(run).buffer_unordered(64).collect().await
}

async fn run(case: Case) -> (String, Vec<Outcome>) {
    let mut outcomes = Vec::new();
    for (at, request) in case.requests.iter().enumerate() {
        if at > 0 {
            sleep(Duration::from_millis(case.gap_ms)).await;
        }
        let begun = Instant::now();
        let answer = timeout(Duration::from_secs(request.limit), exchange(case.caller, request)).await;
        let mut outcome = read(case.caller, &answer.expect("no request hangs"));
        outcome.took_ms = begun.elapsed().as_millis().try_into().unwrap();
        outcomes.push(outcome);
    }
    (case.case, outcomes)
}

/// All that came as an answer.
async fn exchange(caller: Caller, request: &Request) -> String {
    // The gateway knows a request that has just failed: each case has one of its own.
    let asked = format!("Sixty words, please, for {}.", request.feature);
    let mut messages = vec![json!({"role": "user", "content": asked})];
    if request.prefill {
        messages.push(json!({"role": "assistant", "content": "word-1"}));
    }
    let mut body = json!({"model": "any", "stream": caller.is_streamed()});
    let (path, header) = match caller.protocol() {
        Upstream::Messages => {
            body["max_tokens"] = 1000.into();
            body["messages"] = messages.into();
            ("/v1/messages", "anthropic-version: 2023-06-01\r\n")
        }
        Upstream::Chat => {
            body["stream_options"] = json!({"include_usage": true});
            body["messages"] = messages.into();
            ("/v1/chat/completions", "")
        }
        Upstream::Responses => {
            body["input"] = messages.into();
            ("/v1/responses", "")
        }
        Upstream::Gemini => {
            let role = |message: &Value| if message["role"] == "assistant" { "model" } else { "user" };
            let turn = |message: &Value| json!({"role": role(message), "parts": [{"text": message["content"]}]});
            body = json!({ "contents": messages.iter().map(turn).collect::<Vec<_>>() });
            let path = match caller {
                Caller::Generate => "/v1beta/models/any:generateContent",
                Caller::Array => "/v1beta/models/any:streamGenerateContent",
                _ => "/v1beta/models/any:streamGenerateContent?alt=sse",
            };
            (path, "")
        }
    };
    let (body, feature) = (body.to_string(), &request.feature);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-type: application/json\r\n{header}\
         x-steadfast-feature: {feature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(&request.address).await.unwrap();
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The body of a response, out of its chunks if it is in such.
fn body_of(answer: &str) -> (u16, String) {
    let (head, mut rest) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return (status, rest.to_owned());
    }
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("the answer ends with a chunk of its own");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (status, body);
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
}

/// Reads an answer as a careful client does: whole only with the protocol's end mark, an error only as the last event.
fn read(caller: Caller, answer: &str) -> Outcome {
    let (status, body) = body_of(answer);
    let mut outcome = Outcome {
        text: String::new(),
        error: None,
        own: true,
        status: Some(status),
        message: String::new(),
        model: None,
        finish: None,
        input_tokens: None,
        output_tokens: None,
        took_ms: 0,
        signs: Some(0),
    };
    let (mut ended, mut responses) = (false, ResponsesReader::default());
    if status != 200 {
        (outcome.error, outcome.message) = (Some("status".to_owned()), body);
        return outcome;
    }
    if caller.protocol() == Upstream::Gemini {
        read_gemini(caller, &body, &mut outcome);
        return outcome;
    }
    if !caller.is_streamed() {
        let response = serde_json::from_str(&body).unwrap_or_default();
        outcome.text = response_text(&response);
        finish_response(&response, &mut outcome);
        return outcome;
    }
    for event in body.split("\n\n").filter(|event| !event.is_empty()) {
        let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else {
            if outcome.model.is_none() && event.starts_with(": ") {
                saw_sign(&mut outcome);
            }
            continue;
        };
        // After an error or an end there is nothing more to say.
        outcome.own &= !ended && outcome.error.is_none();
        if caller == Caller::Chat && data == "[DONE]" {
            ended = true;
            continue;
        }
        let Ok(data) = serde_json::from_str::<Value>(data) else {
            outcome.own = false;
            continue;
        };
        if data["error"].is_object() {
            outcome.error = data["error"]["type"].as_str().map(str::to_owned);
            outcome.own &= match caller {
                Caller::Chat => true,
                Caller::Messages => event.starts_with("event: error\n"),
                // A failure is in the response.
                _ => false,
            };
            outcome.message = data.to_string();
            continue;
        }
        match caller {
            Caller::Messages => ended |= messages_event(&data, &mut outcome),
            Caller::Chat => chat_chunk(&data, &mut outcome),
            _ => {
                outcome.own &= event.starts_with(&format!("event: {}\n", data["type"].as_str().unwrap_or_default()));
                ended |= responses.event(&data, &mut outcome);
            }
        }
    }
    if !ended {
        // An answer that only stops is not whole, whatever reason it gives.
        outcome.own &= outcome.error.is_some();
        outcome.error.get_or_insert_with(|| "it only stopped".to_owned());
    }
    outcome
}

/// Reads an answer of Gemini's protocol: whole only with a reason for its end, and nothing after that or an error.
fn read_gemini(caller: Caller, body: &str, outcome: &mut Outcome) {
    let blank = body.len() - body.trim_start().len();
    outcome.signs = Some(blank as u64 / 2);
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    let events: Option<Vec<Value>> = match caller {
        Caller::Generate => parsed(body).map(|answer| vec![answer]),
        Caller::Array => parsed(body).and_then(|answers| answers.as_array().cloned()),
        _ => {
            let body = body.replace("\r\n", "\n");
            let events = body.split("\n\n").map(str::trim).filter(|event| !event.is_empty() && !event.starts_with(':'));
            events.map(|event| parsed(event.strip_prefix("data: ")?)).collect()
        }
    };
    // Any reader takes all of it.
    outcome.own = events.is_some();
    let mut ended = false;
    for event in events.into_iter().flatten() {
        outcome.own &= !ended && outcome.error.is_none();
        if event["error"].is_object() {
            outcome.error = event["error"]["status"].as_str().map(str::to_owned);
            outcome.own &= event["error"]["code"].as_u64().is_some_and(|code| (400..600).contains(&code));
            outcome.message = event.to_string();
            continue;
        }
        let candidate = &event["candidates"][0];
        let parts = candidate["content"]["parts"].as_array().into_iter().flatten();
        outcome.text.extend(parts.filter_map(|part| part["text"].as_str()));
        outcome.model = event["modelVersion"].as_str().map(str::to_owned).or_else(|| outcome.model.take());
        outcome.finish = candidate["finishReason"].as_str().map(str::to_owned);
        outcome.input_tokens = event["usageMetadata"]["promptTokenCount"].as_u64().or(outcome.input_tokens);
        outcome.output_tokens = event["usageMetadata"]["candidatesTokenCount"].as_u64().or(outcome.output_tokens);
        ended = outcome.finish.is_some();
    }
    if !ended {
        outcome.own &= outcome.error.is_some();
        outcome.error.get_or_insert_with(|| "it only stopped".to_owned());
    }
}

/// A sign of life before the answer.
fn saw_sign(outcome: &mut Outcome) {
    outcome.signs = outcome.signs.map(|signs| signs + 1);
}

/// Returns whether it is the end mark.
fn messages_event(data: &Value, outcome: &mut Outcome) -> bool {
    match data["type"].as_str() {
        Some("message_start") => {
            outcome.model = data["message"]["model"].as_str().map(str::to_owned);
            outcome.input_tokens = data["message"]["usage"]["input_tokens"].as_u64();
        }
        Some("content_block_delta") => outcome.text.push_str(data["delta"]["text"].as_str().unwrap_or_default()),
        Some("message_delta") => {
            outcome.finish = data["delta"]["stop_reason"].as_str().map(str::to_owned);
            outcome.output_tokens = data["usage"]["output_tokens"].as_u64();
            outcome.input_tokens = data["usage"]["input_tokens"].as_u64().or(outcome.input_tokens);
        }
        Some("message_stop") => return true,
        Some("ping") if outcome.model.is_none() => saw_sign(outcome),
        _ => {}
    }
    false
}

fn chat_chunk(data: &Value, outcome: &mut Outcome) {
    let choice = &data["choices"][0];
    outcome.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
    if let Some(reason) = choice["finish_reason"].as_str() {
        outcome.finish = Some(reason.to_owned());
    }
    if let Some(model) = data["model"].as_str() {
        outcome.model = Some(model.to_owned());
    }
    if data["usage"].is_object() {
        outcome.input_tokens = data["usage"]["prompt_tokens"].as_u64();
        outcome.output_tokens = data["usage"]["completion_tokens"].as_u64();
    }
}

/// A reader of a stream of Responses, which numbers its events and has one id.
#[derive(Default)]
struct ResponsesReader {
    number: u64,
    id: Value,
}

impl ResponsesReader {
    /// Returns whether it is the end mark.
    fn event(&mut self, data: &Value, outcome: &mut Outcome) -> bool {
        outcome.own &= data["sequence_number"] == self.number;
        self.number += 1;
        let response = &data["response"];
        if self.id.is_null() {
            self.id = response["id"].clone();
            outcome.own &= data["type"] == "response.created" && self.id.is_string();
        }
        outcome.own &= response.is_null() || response["id"] == self.id;
        match data["type"].as_str() {
            Some("response.created") => outcome.model = response["model"].as_str().map(str::to_owned),
            Some("response.output_text.delta") => outcome.text.push_str(data["delta"].as_str().unwrap_or_default()),
            Some("response.failed") => finish_response(response, outcome),
            Some("response.completed" | "response.incomplete") => {
                finish_response(response, outcome);
                // The deltas are the answer.
                outcome.own &= response_text(response) == outcome.text;
                return true;
            }
            _ => {}
        }
        false
    }
}

fn response_text(response: &Value) -> String {
    let items = response["output"].as_array().into_iter().flatten();
    let parts = items.filter_map(|item| item["content"].as_array()).flatten();
    parts.filter_map(|part| part["text"].as_str()).collect()
}

/// Takes what the last form of a response says of its end.
fn finish_response(response: &Value, outcome: &mut Outcome) {
    outcome.finish = response["status"].as_str().map(str::to_owned);
    outcome.model = response["model"].as_str().map(str::to_owned);
    outcome.input_tokens = response["usage"]["input_tokens"].as_u64();
    outcome.output_tokens = response["usage"]["output_tokens"].as_u64();
    if let Some(code) = response["error"]["code"].as_str() {
        outcome.error = Some(code.to_owned());
        outcome.message = response["error"].to_string();
    }
}
