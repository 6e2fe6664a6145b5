//! Commit points of streams: each event comes alone, and the test counts the events read before the caller has the
//! stream.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Full, StreamBody};
use steadfast::{
    BoxLlmService, CommitPoint,
    providers::{Anthropic, Gemini, OpenAi, OpenAiResponses},
};
use tower::{Service, ServiceExt};

use crate::{
    recorded::{events, expected},
    recordings::Exchange,
};

/// Returns the fault in the commit points of an answer that is a whole stream.
pub(crate) async fn misplaced(exchange: &Exchange) -> Vec<String> {
    let commits = expected::Commits::of(exchange);
    let end = expected::up_to_the_end(exchange).len();
    let mut wrong = Vec::new();
    for (point, place) in [
        (CommitPoint::FirstToken, commits.token),
        (CommitPoint::FirstText, commits.content),
        (CommitPoint::Complete, commits.content.map(|_| end)),
    ] {
        let Some(place) = place else { continue };
        let read = read_at(exchange, point).await;
        if read != Some(place) {
            wrong.push(format!("commits on {point:?} after {read:?} bytes in place of {place}"));
        }
    }
    wrong
}

/// Returns the number of bytes read by the time that the caller has the answer.
async fn read_at(exchange: &Exchange, point: CommitPoint) -> Option<usize> {
    let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
    let ends: Vec<usize> = events::blocks(text).iter().map(|block| block.end).collect();
    let (status, headers, body) = (exchange.status, exchange.headers.clone(), exchange.body.clone());
    let read = Arc::new(AtomicUsize::new(0));
    let counter = read.clone();
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let (body, counter, mut at) = (body.clone(), counter.clone(), 0);
        let frames = ends.clone().into_iter().map(move |end| {
            let piece = body.slice(at..end);
            at = end;
            counter.store(end, Relaxed);
            Ok::<_, Infallible>(http_body::Frame::data(piece))
        });
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
        *response.status_mut() = status;
        *response.headers_mut() = headers.clone();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut leaf = match exchange.provider.as_str() {
        "anthropic" => BoxLlmService::new(Anthropic::new("k").model("m").commit(point).transport(transport)),
        "gemini" => BoxLlmService::new(Gemini::new("k").model("m").commit(point).transport(transport)),
        "openai-responses" => {
            BoxLlmService::new(OpenAiResponses::new("k").model("m").commit(point).transport(transport))
        }
        _ => BoxLlmService::new(OpenAi::new("k").model("m").commit(point).transport(transport)),
    };
    let _response = leaf.ready().await.ok()?.call(exchange.request()).await.ok()?;
    Some(read.load(Relaxed))
}
