//! Every recorded request, translated to each other dialect for models of it, and judged as that model's provider
//! would: by the simulator's checks, which are written from the providers' documentation and know nothing of the
//! translator.
//!
//! The recordings are not part of the repository: `STEADFAST_FIXTURES` names a folder of them, else
//! `../shared/fixtures` and `../shared/fixtures2` are read; where there are none, the test says so and does nothing.

mod recorded;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{
    Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse,
    providers::{Anthropic, Gemini, OpenAi, Simulated},
};
use steadfast_simulator::{InProcess, check};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

use self::recorded::{Asked, recorded};

const MODELS: [(Dialect, &str); 6] = [
    (Dialect::Anthropic, "claude-sonnet-4-5"),
    (Dialect::Anthropic, "claude-opus-5-5"),
    (Dialect::OpenAi, "gpt-4o"),
    (Dialect::OpenAi, "gpt-5"),
    (Dialect::Gemini, "gemini-2.5-flash"),
    (Dialect::Gemini, "gemini-3.1-pro"),
];

/// The least share of requests that a model's provider must accept, of those that could be put to it at all. What is
/// not accepted is refused by name before the call.
const LEAST: f64 = 0.99;

/// The content that no translation can put to the model: files and caches that are at another provider, films and sound
/// for models that neither see nor hear them. Such a request is refused, and stands beside the share.
const BEYOND: [&str; 3] = ["cached_content", "media_type", "uploaded_file"];

type Leaf = BoxCloneSyncService<LlmRequest, LlmResponse, LlmError>;

/// A leaf that asks the simulator, and keeps what it sends.
fn leaf(dialect: Dialect, model: &str) -> (Leaf, Arc<Mutex<Bytes>>) {
    let sent = Arc::new(Mutex::new(Bytes::new()));
    let (record, simulator) = (sent.clone(), InProcess::new(Simulated::new(model)));
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let (record, mut simulator) = (record.clone(), simulator.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            *record.lock().expect("nobody panics with it") = body.clone();
            simulator.ready().await?.call(Request::from_parts(parts, Full::new(body))).await
        }
    });
    let leaf = match dialect {
        Dialect::Anthropic => Leaf::new(Anthropic::new("k").model(model).transport(transport)),
        Dialect::OpenAi => Leaf::new(OpenAi::new("k").model(model).transport(transport)),
        _ => Leaf::new(Gemini::new("k").model(model).transport(transport)),
    };
    (leaf, sent)
}

/// The fate of a request at a model.
enum Verdict {
    Valid,
    /// Refused before the call, by the feature's name.
    Named(String),
    /// The provider refuses it, in these words.
    Invalid(String),
    /// It is no request of its own dialect, or is wrong at its own provider too.
    Wrong(String),
}

async fn judge(asked: &Asked, dialect: Dialect, model: &str) -> Verdict {
    let request = match asked.request() {
        Ok(request) => request,
        Err(error) => return Verdict::Wrong(error.to_string()),
    };
    let (mut leaf, sent) = leaf(dialect, model);
    let answer = leaf.ready().await.expect("it is always ready").call(request).await;
    let body = sent.lock().expect("nobody panics with it").clone();
    if body.is_empty() {
        let error = answer.expect_err("nothing was sent");
        let name = error.message().split([':', ' ']).next().unwrap_or_default().to_owned();
        return match error.kind() {
            ErrorKind::UnsupportedFeature => Verdict::Named(name),
            _ => Verdict::Wrong(error.message().to_owned()),
        };
    }
    let body: Value = serde_json::from_slice(&body).expect("a leaf sends JSON");
    let said = check(dialect, model, &body);
    // The simulator says the same, over its wire.
    let refused = answer.as_ref().err().filter(|error| error.status().is_some_and(|status| status == 400));
    assert_eq!(refused.is_some(), said.is_err(), "{} at {model}: {said:?} and {answer:?}", asked.id);
    match said {
        Ok(()) => Verdict::Valid,
        // A request that is wrong at home may be wrong in ways that no translation mends.
        Err(words) if asked.refused => Verdict::Wrong(words),
        Err(words) => Verdict::Invalid(words),
    }
}

/// Words without what differs from request to request.
fn masked(words: &str) -> String {
    let mut masked = String::new();
    for letter in words.chars() {
        if !letter.is_ascii_digit() {
            masked.push(letter);
        } else if !masked.ends_with('#') {
            masked.push('#');
        }
    }
    masked.chars().take(120).collect()
}

#[derive(Default)]
struct Line {
    requests: usize,
    valid: usize,
    named: usize,
    beyond: usize,
    invalid: usize,
    wrong: usize,
}

#[tokio::test(start_paused = true)]
async fn what_is_translated_is_accepted() {
    let Some(asked) = recorded() else { return };
    let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
    let mut reasons: BTreeMap<(&str, &str, String), (usize, String)> = BTreeMap::new();
    for (dialect, model) in MODELS {
        let line = lines.entry(model).or_default();
        for asked in asked.iter().filter(|asked| asked.dialect != dialect) {
            line.requests += 1;
            let (what, why) = match judge(asked, dialect, model).await {
                Verdict::Valid => {
                    line.valid += 1;
                    continue;
                }
                Verdict::Named(name) => {
                    line.named += 1;
                    line.beyond += usize::from(BEYOND.contains(&&*name));
                    ("refused", name)
                }
                Verdict::Invalid(words) => {
                    line.invalid += 1;
                    ("invalid", masked(&words))
                }
                Verdict::Wrong(words) => {
                    line.wrong += 1;
                    ("wrong", masked(&words))
                }
            };
            reasons.entry((model, what, why)).or_insert_with(|| (0, asked.id.clone())).0 += 1;
        }
    }
    println!(
        "{:<20} {:>8} {:>7} {:>8} {:>7} {:>8} {:>7}",
        "model", "requests", "valid", "refused", "beyond", "invalid", "wrong"
    );
    for (model, line) in &lines {
        let Line { requests, valid, named, beyond, invalid, wrong } = line;
        println!("{model:<20} {requests:>8} {valid:>7} {named:>8} {beyond:>7} {invalid:>8} {wrong:>7}");
    }
    for ((model, what, why), (times, first)) in &reasons {
        println!("{model:<20} {what:<10} {times:>4}  {why}  (first: {first})");
    }
    for (model, line) in &lines {
        let asked = line.requests - line.wrong - line.beyond;
        assert!(line.valid as f64 >= LEAST * asked as f64, "{model} accepts {} of {asked}", line.valid);
        assert_eq!(line.invalid, 0, "{model}: what is not accepted is refused by name before the call");
        let besides = line.wrong + line.beyond;
        assert!(besides * 10 <= line.requests, "{model}: {besides} of {} are not judged", line.requests);
    }
}
