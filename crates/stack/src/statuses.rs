//! Every status, with each kind of body, at each place of a chain, under each kind of list: what the promise says, and
//! what a stack does.
//!
//! The promise: a failure goes to the next tier unless the request is at fault. A list of statuses says what may begin
//! a walk along the tiers. In a walk that has begun, a tier's own faults end nothing. No list can name a refused key, a
//! used-up account, or a page of a server before the API: they always go on. Nothing that a server says of itself, by
//! whatever number, stays at that server. A request that is called wrong in a walk is asked once more, before its
//! caller hears of it; under an imported list, everywhere.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use http::{HeaderMap, StatusCode};
use steadfast::{Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn, providers::codec::Codec};
use tower::ServiceExt;

use super::{Config, Format, Stack};

/// The form of a list of statuses: none, one of our own, an imported one.
const LISTS: [(&str, &str); 3] = [
    ("none", "{}"),
    ("own", "{ on_error: [429, 500, 502, 503, 529] }"),
    ("imported", "{ on_error: [429, 500, 502, 503, 529] }"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Body {
    Empty,
    Page,
    /// Words of the API that name no known cause.
    Said,
    /// Words of the API that tell of a limit of spending.
    UsedUp,
}

impl Body {
    const ALL: [Self; 4] = [Self::Empty, Self::Page, Self::Said, Self::UsedUp];

    fn text(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Page => "<html><title>Attention</title></html>",
            Self::Said => r#"{"type":"error","error":{"type":"of_its_own","message":"max_tokens: no"}}"#,
            Self::UsedUp => {
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#
            }
        }
    }
}

/// Returns whether the promise is that the next tier is asked.
fn is_promised(list: &str, place: usize, status: u16, body: Body) -> bool {
    if body != Body::Said {
        return true;
    }
    match status {
        // A key or an account of the stack's; a proxy, a wrong connection, a certificate.
        401 | 402 | 403 | 407 | 421 | 495..=497 => true,
        // A server's own trouble.
        408 | 409 | 425 | 429 | 498 | 499 | 500.. => true,
        // What this tier lacks, and another may have.
        404 | 410 | 413 => list == "none" || place > 0,
        // The request's own fault, or what a translation has made of it: in another's place it gets a second opinion.
        _ => list == "imported" || place > 0,
    }
}

/// Asks a chain of three whose tier at `place` fails so, behind others that are overloaded. Returns the calls of each,
/// and the error if there was one.
async fn meets(list: (&str, &str), place: usize, status: u16, body: Body) -> ([u32; 3], Option<LlmError>) {
    let opinion = if list.0 == "imported" { "circuit_breaker: { second_opinion_after: 0 }" } else { "" };
    let tier = |name: &str| format!("  - {{ name: {name}, provider: simulated, retry: {{ max_attempts: 1 }} }}\n");
    let tiers: String = ["a", "b", "c"].map(tier).concat();
    let config = format!("tiers:\n{tiers}fallback: {}\n{opinion}\n", list.1);
    let config = Config::from_str(&config, Format::Yaml).expect("a good file");
    let calls: [Arc<AtomicU32>; 3] = Default::default();
    let mut builder = Stack::builder();
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        let count = calls[at].clone();
        builder = builder.leaf(
            name,
            provider_fn(move |_: LlmRequest| {
                count.fetch_add(1, Ordering::Relaxed);
                let fails = |status: u16, text: &'static str| {
                    let status = StatusCode::from_u16(status).expect("a status");
                    Err(Codec::new(Dialect::Anthropic).error(status, &HeaderMap::new(), text))
                };
                let outcome = match at {
                    at if at < place => fails(529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#),
                    at if at == place => fails(status, body.text()),
                    _ => Ok(LlmResponse::from_text("hello")),
                };
                std::future::ready(outcome)
            }),
        );
    }
    let stack = builder.build(config).expect("a stack");
    let error = stack.service().oneshot(LlmRequest::prompt("hello")).await.err();
    (calls.map(|calls| calls.load(Ordering::Relaxed)), error)
}

#[tokio::test(start_paused = true)]
async fn every_status_goes_where_the_promise_says() {
    for list in LISTS {
        for body in Body::ALL {
            for status in 400..=599 {
                // A body that decides alone is tried with a few statuses at further places.
                let places = if body == Body::Said || status % 10 < 3 { 3 } else { 1 };
                for place in 0..places {
                    let case = format!("{status} {body:?} at {place}, list: {}", list.0);
                    let (calls, error) = meets(list, place, status, body).await;
                    let goes_on = place < 2 && is_promised(list.0, place, status, body);
                    let asked = if goes_on { place + 1 } else { place };
                    let expected = [0, 1, 2].map(|at| u32::from(at <= asked));
                    assert_eq!(calls, expected, "{case}: {error:?}");
                    assert_eq!(error.is_none(), goes_on, "{case}: {error:?}");
                    let Some(error) = error else { continue };
                    // The first tier's failure leads, whatever the others say.
                    match place {
                        0 => assert_eq!(error.status().map(|status| status.as_u16()), Some(status), "{case}"),
                        _ => assert_eq!(error.kind(), ErrorKind::Overloaded, "{case}"),
                    }
                }
            }
        }
    }
}

#[test]
fn the_check_prints_a_row_for_each_status() {
    for (name, list) in LISTS.into_iter().skip(1) {
        let text = format!("tiers: [{{ name: a, provider: simulated }}]\nfallback: {list}");
        let explained = Config::from_str(&text, Format::Yaml).expect("a good file").explain();
        for status in 400..=599 {
            let rows = explained.lines().filter(|line| line.starts_with("statuses: ") && is_in(line, status));
            assert_eq!(rows.count(), 1, "{status}, {name}: {explained}");
        }
    }
}

/// Returns whether a row such as `statuses: 404, 410 to 413 fail` has this status.
fn is_in(row: &str, status: u16) -> bool {
    let row = row.trim_start_matches("statuses: ");
    let fates = [" go on", " fail"];
    let Some(end) = fates.iter().filter_map(|fate| row.find(fate)).min() else { return false };
    if !row[..end].bytes().all(|byte| byte.is_ascii_digit() || b", to".contains(&byte)) {
        return false;
    }
    row[..end].split(", ").any(|part| match part.split_once(" to ") {
        Some((first, last)) => match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&status),
            _ => false,
        },
        None => part.parse() == Ok(status),
    })
}
