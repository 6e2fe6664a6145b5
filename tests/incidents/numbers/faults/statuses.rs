//! Every status that is none of an answer, with any body and any wish for a wait.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use steadfast::{
    BoxLlmService, ErrorKind, LlmRequest, TimeoutLayer,
    providers::{Anthropic, Gemini, OpenAi},
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

/// Returns the meanings of a status whose body says nothing.
fn meaning(status: u16) -> &'static [ErrorKind] {
    match status {
        // Nothing that an answer could be in; redirects are not followed.
        200..400 => &[ErrorKind::Malformed, ErrorKind::EmptyAnswer, ErrorKind::StreamBroken],
        401 => &[ErrorKind::Auth],
        // Not the API's word.
        403 => &[ErrorKind::Blocked],
        402 => &[ErrorKind::QuotaExhausted],
        // A model that is gone is a model that is not there.
        404 | 410 => &[ErrorKind::NotFound],
        408 | 504 | 524 => &[ErrorKind::Timeout],
        413 => &[ErrorKind::TooLarge],
        // Without a wait and without a word it is a front that is overloaded.
        429 => &[ErrorKind::RateLimited, ErrorKind::Overloaded],
        498 | 503 | 529 => &[ErrorKind::Overloaded],
        // Both official clients repeat the one; the other asks for it.
        409 | 425 => &[ErrorKind::Server],
        // Closed by the other side: Google's word for it is one of time.
        499 => &[ErrorKind::Timeout, ErrorKind::InvalidRequest, ErrorKind::Server],
        // A front's own: of the way there, of a certificate.
        407 | 421 | 495..498 => &[ErrorKind::Blocked],
        // A page, or nothing at all, is not the API's word.
        400..500 => &[ErrorKind::InvalidRequest, ErrorKind::Blocked],
        _ => &[ErrorKind::Server],
    }
}

#[tokio::test(start_paused = true)]
async fn every_status_with_any_body_and_any_wait_ends_at_once_with_a_name() {
    let statuses =
        [204, 301, 302, 307, 308].into_iter().chain(400..=431).chain([451]).chain(498..=504).chain(520..=530);
    let bodies: [(&str, &[u8]); 7] = [
        ("", b""),
        ("text/html", b"<html><head><title>Sorry</title></head></html>"),
        ("application/json", b"{\"unknown\":true}"),
        ("application/json", b"{\"error\""),
        ("application/json", b"\xff\xfe\x00"),
        ("text/plain", b"error code: 1033"),
        ("application/octet-stream", b"\x1f\x8b\x08\x00\x00garbage"),
    ];
    let waits = [
        None,
        Some("0"),
        Some("-1"),
        Some("NaN"),
        Some("1e9"),
        Some("Wed, 21 Oct 2015 07:28:00 GMT"),
        Some("Fri, 31 Dec 9999 23:59:59 GMT"),
        Some("soon"),
    ];
    let (mut cells, mut wrong, begun) = (0, Vec::new(), Instant::now());
    for status in statuses {
        for (content_type, body) in bodies {
            for wait in waits {
                let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
                    let mut response = Response::builder().status(status);
                    for (name, value) in [("content-type", Some(content_type)), ("retry-after", wait)] {
                        response = value.into_iter().fold(response, |response, value| response.header(name, value));
                    }
                    if body.starts_with(b"\x1f\x8b") {
                        response = response.header("content-encoding", "gzip");
                    }
                    let response = response.body(Full::new(Bytes::from_static(body)));
                    std::future::ready(Ok::<_, Infallible>(response.unwrap()))
                });
                let limit = TimeoutLayer::new(Duration::from_secs(30));
                let leaves = [
                    BoxLlmService::new(limit.layer(Anthropic::new("k").model("m").transport(transport))),
                    BoxLlmService::new(limit.layer(OpenAi::new("k").model("m").transport(transport))),
                    BoxLlmService::new(limit.layer(Gemini::new("k").model("m").transport(transport))),
                ];
                for (leaf, llm) in leaves.into_iter().enumerate() {
                    cells += 1;
                    let stream = cells % 2 == 0;
                    let found = llm.oneshot(LlmRequest::prompt("hello").with_stream(stream)).await;
                    let sane = found.as_ref().err().is_some_and(|error| {
                        let wait = error.retry_after().unwrap_or_default();
                        meaning(status).contains(&error.kind()) && wait <= Duration::from_secs(366 * 24 * 3600)
                    });
                    if !sane {
                        let body = String::from_utf8_lossy(body);
                        wrong.push(format!(
                            "leaf {leaf}, {status}, {body:?}, retry-after {wait:?}: {:?}",
                            found.map(drop)
                        ));
                    }
                }
            }
        }
    }
    println!("number 11: {cells} statuses with bodies and waits, {} not as they are", wrong.len());
    wrong.truncate(10);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(begun.elapsed(), Duration::ZERO, "none of them waits for anything");
}
