//! The limits of its key that each caller is told, in each protocol.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderMap;
use steadfast::{
    BoxLlmService, LlmError, LlmRequest, LlmResponse,
    chat::{Message, Usage},
    provider_fn,
    providers::simulated::Simulated,
};
use steadfast_internal::wall_clock::{parse_rfc3339, since_1970};
use tower::Service;

use super::{
    harness::*,
    key_limits::{Limited, ONE, TWO},
};
use crate::{Gateway, limits::Settings};

/// The headers of limits in an answer, without their beginning, in order.
fn told(answer: &Answer, family: &str) -> Vec<(String, String)> {
    let of_family = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        Some((name.as_str().strip_prefix(family)?.to_owned(), value.to_str().unwrap().to_owned()))
    };
    let mut told: Vec<_> = answer.headers.iter().filter_map(of_family).collect();
    told.sort();
    told
}

fn value<'a>(told: &'a [(String, String)], name: &str) -> Option<&'a str> {
    told.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
}

/// A provider whose answers take so many tokens, a thousandth of a dollar each, and that tells limits of its own.
fn provider(
    tokens: &Arc<AtomicU64>,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + use<> {
    let tokens = tokens.clone();
    provider_fn(move |_| {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(0, tokens.load(Relaxed)));
        let mut own = HeaderMap::new();
        own.insert("anthropic-ratelimit-unified-5h-utilization", "0.97".parse().unwrap());
        own.insert("x-ratelimit-remaining-requests", "41".parse().unwrap());
        std::future::ready(Ok::<_, LlmError>(LlmResponse::from_message(message).with_headers(own)))
    })
}

/// Of each protocol: what is left of both limits, and when it is whole again.
#[tokio::test]
async fn the_requests_and_tokens_of_a_key_are_told_as_its_protocol_spells_them() {
    let limits = ", requests_per_minute: 60, tokens_per_minute: 6000";
    for (path, family) in [(MESSAGES, "anthropic-ratelimit-"), (CHAT, "x-ratelimit-"), (RESPONSES, "x-ratelimit-")] {
        for stream in [false, true] {
            let tokens = Arc::new(AtomicU64::new(100));
            let name = format!("heads-{}-{stream}", path.replace('/', "-"));
            let limited = Limited::start(&name, limits, provider(&tokens)).await;
            limited.ask(ONE, path).await;
            let answer = limited.server.post(path, &[ONE], &hello(stream)).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let told = told(&answer, family);
            let (limit, left, reset) = if family.starts_with('a') {
                (["requests-limit", "tokens-limit"], ["requests-remaining", "tokens-remaining"], "requests-reset")
            } else {
                (["limit-requests", "limit-tokens"], ["remaining-requests", "remaining-tokens"], "reset-requests")
            };
            assert_eq!(limit.map(|name| value(&told, name)), [Some("60"), Some("6000")], "{path}: {told:?}");
            let left = left.map(|name| value(&told, name).unwrap().parse::<u32>().unwrap());
            // A request a second and a hundred tokens come back meanwhile.
            assert!((58..=59).contains(&left[0]) && (5700..6000).contains(&left[1]), "{path}: {told:?}");
            let reset = value(&told, reset).unwrap();
            if path == MESSAGES {
                let at = parse_rfc3339(reset).unwrap_or_else(|| panic!("{reset}"));
                assert!(at <= since_1970() + Duration::from_secs(4), "{told:?}");
            } else {
                assert!(["1s", "2s"].contains(&reset) || reset.ends_with("ms"), "{reset}");
            }
            assert!(answer.header("anthropic-ratelimit-unified-5h-utilization").is_none(), "{:?}", answer.headers);
        }
    }
}

/// A stream whose head goes out before anything came tells them too, with the request's id.
#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_late_tells_them_in_its_early_head() {
    let late = Simulated::new("main").latency(Duration::from_secs(30));
    let limits = ", requests_per_minute: 60, budget: { usd: 10, period: day }";
    let limited = Limited::start("heads-late", limits, late).await;
    let gateway = Gateway::over(limited.server.gateway.clone());
    let answer = through(gateway, "POST", MESSAGES, &typed(MESSAGES, &[ONE]), hello(true).to_string()).await;
    assert_eq!(answer.status, 200);
    for (name, value) in
        [("anthropic-ratelimit-requests-remaining", "60"), ("anthropic-ratelimit-unified-status", "allowed")]
    {
        assert_eq!(answer.header(name), Some(value), "{:?}", answer.headers);
    }
    assert_eq!(answer.header("request-id"), answer.header("x-steadfast-request-id"));
}

/// One that asks too soon is told by the same headers; a key without limits, and a protocol without headers, by none.
#[tokio::test]
async fn a_refusal_tells_the_limit_too_and_a_key_without_limits_hears_of_none() {
    let tokens = Arc::new(AtomicU64::new(1));
    let limited = Limited::start("heads-refused", ", requests_per_minute: 1", provider(&tokens)).await;
    assert_eq!(limited.ask(ONE, MESSAGES).await.status, 200);
    for (path, left) in [(MESSAGES, "anthropic-ratelimit-requests-remaining"), (CHAT, "x-ratelimit-remaining-requests")]
    {
        let refused = limited.ask(ONE, path).await;
        assert_eq!((refused.status, refused.header(left)), (429, Some("0")), "{:?}", refused.headers);
    }
    let gemini = limited.ask(ONE, GEMINI).await;
    assert!(gemini.headers.keys().all(|name| !name.as_str().contains("ratelimit")), "{:?}", gemini.headers);
    // Without keys, and for a key without limits, nothing is in the way of the provider's.
    let open = Server::start(BoxLlmService::new(Simulated::new("main")), Settings::default()).await;
    let answer = open.post(MESSAGES, &[], &hello(false)).await;
    assert!(answer.headers.keys().all(|name| !name.as_str().contains("ratelimit")), "{:?}", answer.headers);
}

/// The use of a cap, in the headers by which Claude Code warns, as its vendor's own gateway sends them.
#[tokio::test]
async fn the_use_of_a_cap_is_told_to_claude_code_until_it_is_refused() {
    for (period, word) in [("hour", None), ("day", Some("daily")), ("week", Some("weekly")), ("month", Some("monthly"))]
    {
        let tokens = Arc::new(AtomicU64::new(0));
        let limits = format!(", budget: {{ usd: 10, period: {period} }}, features: [chat, other]");
        let limited = Limited::start(&format!("heads-{period}"), &limits, provider(&tokens)).await;
        let family = "anthropic-ratelimit-unified-";
        let mut spent = 0;
        for (by_now, used, threshold) in [
            (0, "0.00", None),
            (7_499, "0.74", None),
            (7_500, "0.75", Some("0.75")),
            (9_499, "0.94", Some("0.75")),
            (9_500, "0.95", Some("0.95")),
            (9_999, "0.99", Some("0.95")),
        ] {
            // The cost of an answer is told with the next one.
            tokens.store(by_now - spent, Relaxed);
            spent = by_now;
            let first = limited.ask(ONE, MESSAGES).await;
            assert_eq!(first.status, 200, "{by_now}: {}", first.body);
            tokens.store(0, Relaxed);
            let answer = limited.ask(ONE, MESSAGES).await;
            let told = told(&answer, family);
            let status = if threshold.is_some() { "allowed_warning" } else { "allowed" };
            assert_eq!(value(&told, "status"), Some(status), "{by_now}: {told:?}");
            assert_eq!(value(&told, "overage-status"), Some(status));
            assert_eq!(value(&told, "representative-claim"), Some("overage"));
            assert_eq!(value(&told, "overage-utilization"), Some(used), "{by_now}");
            assert_eq!(value(&told, "overage-surpassed-threshold"), threshold, "{by_now}");
            assert_eq!((value(&told, "overage-period"), value(&told, "overage-disabled-reason")), (None, None));
            assert_eq!(value(&told, "reset"), value(&told, "overage-reset"));
        }
        tokens.store(100, Relaxed);
        assert_eq!(limited.ask(ONE, MESSAGES).await.status, 200);
        let refused = limited.ask(ONE, MESSAGES).await;
        assert_eq!((refused.status, &refused.json()["error"]["type"]), (429, &"billing_error".into()));
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("per {period}")) && message.contains("it resets at"), "{message}");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        let reset: u64 = value(&told(&refused, family), "reset").unwrap().parse().unwrap();
        assert!(reset.abs_diff(since_1970().as_secs() + wait) <= 2 && reset.is_multiple_of(3600), "{reset}");
        let reset = reset.to_string();
        let mut expected = vec![
            ("overage-disabled-reason", "org_spend_cap_reached"),
            ("overage-reset", &reset),
            ("overage-surpassed-threshold", "1"),
            ("overage-utilization", "1"),
            ("reset", &reset),
            ("status", "rejected"),
        ];
        expected.extend(word.map(|word| ("overage-period", word)));
        expected.sort_unstable();
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(told(&refused, family), expected, "{period}");
        // Other protocols' headers know no money, and another key has its own cap.
        assert!(told(&limited.ask(ONE, CHAT).await, family).is_empty());
        let other = told(&limited.ask(TWO, MESSAGES).await, family);
        assert_eq!((value(&other, "status"), value(&other, "overage-utilization")), (Some("allowed"), Some("0.00")));
    }
}

/// A cap that only warns is not told, nor does it hide one that refuses: here that of all keys, of $1,000.
#[tokio::test]
async fn a_cap_that_refuses_nobody_warns_nobody() {
    let tokens = Arc::new(AtomicU64::new(9_600));
    let limits = ", budget: { usd: 10, period: day, at_cap: warn }";
    let limited = Limited::start("heads-warn", limits, provider(&tokens)).await;
    for spent in ["96 %", "192 %", "288 %"] {
        let answer = limited.ask(ONE, MESSAGES).await;
        let case = format!("{spent}: {}, {:?}", answer.body, answer.headers);
        let told = told(&answer, "anthropic-ratelimit-unified-");
        assert_eq!((answer.status, value(&told, "status")), (200, Some("allowed")), "{case}");
        assert!(value(&told, "overage-utilization").is_some_and(|used| used.starts_with("0.0")), "{case}");
    }
}

/// A path that counts against a key's rate tells it, whatever the path is for and whether or not it succeeds.
#[tokio::test]
async fn every_path_that_counts_tells_the_rate() {
    let tokens = Arc::new(AtomicU64::new(1));
    let limited = Limited::start("heads-paths", ", requests_per_minute: 60", provider(&tokens)).await;
    let (anthropics, openais) = ("anthropic-ratelimit-requests-limit", "x-ratelimit-limit-requests");
    for (method, path, name, status) in [
        ("POST", "/v1/messages/count_tokens", anthropics, 200),
        ("POST", "/v1/responses/input_tokens", openais, 400),
        ("POST", "/v1/responses/compact", openais, 404),
        ("GET", "/v1/models", anthropics, 200),
        ("GET", "/v1/responses/resp_none", openais, 404),
        ("GET", "/requests", anthropics, 200),
    ] {
        let answer = match method {
            "GET" => limited.server.get(path, &[ONE]).await,
            _ => limited.ask(ONE, path).await,
        };
        assert_eq!((answer.status, answer.header(name)), (status, Some("60")), "{path}: {:?}", answer.headers);
    }
    let other = limited.server.get("/v1/key", &[ONE]).await;
    assert!(other.headers.keys().all(|name| !name.as_str().contains("ratelimit")), "it does not count");
}
