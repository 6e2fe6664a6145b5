//! A stream of Responses repeats the whole answer in its last event: both mean the same.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use steadfast::{
    Dialect, LlmError, LlmRequest,
    chat::{Message, Part},
    providers::OpenAiResponses,
};
use tower::{ServiceExt, service_fn};

use super::{events, exceptions::has_deltas_apart};
use crate::recordings::{Exchange, Recordings, folders};

/// Reads this body through the leaf.
async fn read(body: Bytes, is_stream: bool) -> Result<Message, LlmError> {
    let content_type = if is_stream { "text/event-stream" } else { "application/json" };
    let transport = service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder().header("content-type", content_type);
        std::future::ready(Ok::<_, Infallible>(response.body(Full::new(body.clone())).expect("a response")))
    });
    let leaf = OpenAiResponses::new("k").model("m").transport(transport);
    leaf.oneshot(LlmRequest::prompt("?").with_stream(is_stream)).await?.collect().await
}

/// The last response of a stream, if it has its items.
fn last_response(exchange: &Exchange) -> Option<Value> {
    let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
    let events = events::blocks(text).into_iter().filter_map(|block| serde_json::from_str::<Value>(&block.data?).ok());
    let mut last = events
        .filter(|event| matches!(event["type"].as_str(), Some("response.completed" | "response.incomplete")))
        .map(|event| event["response"].clone());
    last.next().filter(|response| response["output"].as_array().is_some_and(|output| !output.is_empty()))
}

/// The message without what a server makes anew in each event: ids, and the seals of thoughts.
fn without_seals(mut message: Message) -> Message {
    message.id = None;
    for part in &mut message.content {
        match part {
            Part::Reasoning(reasoning) => reasoning.opaque = None,
            // A compaction is sealed too.
            Part::Other { value, .. } => {
                let mut item = value.value().expect("JSON");
                item.as_object_mut().expect("an item").remove("encrypted_content");
                *value = item.into();
            }
            _ => {}
        }
    }
    message
}

#[tokio::test]
async fn every_recorded_stream_of_responses_means_what_its_last_response_means() {
    let mut compared = 0;
    for folder in folders() {
        let recordings = Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}"));
        for exchange in recordings.exchanges.iter().filter(|exchange| exchange.dialect == Dialect::Responses) {
            let Some(whole) = last_response(exchange).filter(|_| exchange.is_sse && !has_deltas_apart(exchange)) else {
                continue;
            };
            let streamed =
                read(exchange.body.clone(), true).await.unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
            let whole =
                read(whole.to_string().into(), false).await.unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
            assert_eq!(without_seals(streamed), without_seals(whole), "{}", exchange.id);
            compared += 1;
        }
    }
    println!("{compared} streams of Responses mean what their last responses mean");
}
