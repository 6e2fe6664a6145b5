//! A client without an SDK: HTTP/1.1 and events as they come, sixteen cases at a time.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::faults::{
    cases::{Case, Protocol, Request},
    judge::Outcome,
};

pub(crate) async fn drive(address: String, cases: Vec<Case>) -> Vec<(String, Vec<Outcome>)> {
    let running = stream::iter(cases).map(|case| run(address.clone(), case)).buffer_unordered(16);
    running.collect().await
}

async fn run(address: String, case: Case) -> (String, Vec<Outcome>) {
    let mut outcomes = Vec::new();
    for (at, request) in case.requests.iter().enumerate() {
        if at > 0 {
            sleep(Duration::from_millis(case.gap_ms)).await;
        }
        let begun = Instant::now();
        let answer = timeout(Duration::from_secs(60), exchange(&address, case.protocol, request)).await;
        let mut outcome = read(case.protocol, &answer.expect("no request hangs"));
        outcome.took_ms = begun.elapsed().as_millis().try_into().unwrap();
        outcomes.push(outcome);
    }
    (case.case, outcomes)
}

/// All that came as an answer.
async fn exchange(address: &str, protocol: Protocol, request: &Request) -> String {
    let mut messages = vec![json!({"role": "user", "content": "Sixty words, please."})];
    if request.prefill {
        messages.push(json!({"role": "assistant", "content": "word-1"}));
    }
    let mut body = json!({"model": "any", "messages": messages, "stream": true});
    let (path, header) = match protocol {
        Protocol::Messages => {
            body["max_tokens"] = 1000.into();
            ("/v1/messages", "anthropic-version: 2023-06-01\r\n")
        }
        Protocol::Chat => {
            body["stream_options"] = json!({"include_usage": true});
            ("/v1/chat/completions", "")
        }
    };
    let (body, feature) = (body.to_string(), &request.feature);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-type: application/json\r\n{header}\
         x-steadfast-feature: {feature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
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
fn read(protocol: Protocol, answer: &str) -> Outcome {
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
    let mut ended = false;
    if status != 200 {
        (outcome.error, outcome.message) = (Some("status".to_owned()), body);
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
        if protocol == Protocol::Chat && data == "[DONE]" {
            ended = true;
            continue;
        }
        let Ok(data) = serde_json::from_str::<Value>(data) else {
            outcome.own = false;
            continue;
        };
        if data["error"].is_object() {
            outcome.error = data["error"]["type"].as_str().map(str::to_owned);
            outcome.own &= (protocol == Protocol::Chat) || event.starts_with("event: error\n");
            outcome.message = data.to_string();
            continue;
        }
        match protocol {
            Protocol::Messages => ended |= messages_event(&data, &mut outcome),
            Protocol::Chat => chat_chunk(&data, &mut outcome),
        }
    }
    if !ended {
        // An answer that only stops is not whole, whatever reason it gives.
        outcome.own &= outcome.error.is_some();
        outcome.error.get_or_insert_with(|| "it only stopped".to_owned());
    }
    outcome
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
