use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::StatusCode;
use steadfast::{
    ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer, provider_fn, providers::Canned,
};
use steadfast_stack::{self as config, Config, Format};
use tower::{ServiceBuilder, ServiceExt};

#[test]
fn a_chain_is_told_tier_by_tier() {
    let text = "
tiers:
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5, context_window: 200000 }
  - { name: large, provider: gemini, model: gemini-2.5-pro, context_window: 1000000, retry: { max_attempts: 1 } }
  - { name: sorry, provider: canned, text: Sorry. }
features:
  code: { tiers: [sonnet] }
  chat: { worst_level: 2 }
models: { 'claude-haiku-*': { tiers: [large, sorry] } }
fallback: { routes: { refusal: [large] } }
";
    let explained = Config::from_str(text, Format::Yaml).unwrap().explain();
    let expected = "\
sonnet (anthropic claude-sonnet-4-5): at most 3 attempts
  -> large, after a retry if it names a moment
      rate_limited, overloaded, connect, server, stream_broken, malformed, empty_answer, other
  -> large
      timeout, circuit_open, bulkhead_full, quota_exhausted, too_large, unsupported_feature,
      invalid_output, auth, not_found, blocked, budget, deadline, out_of_service, store,
      credentials, exhausted
  -> large (its window is larger)
      context_length
  fails: no route is set for it
      content_policy
  -> large (a route)
      refusal
  fails
      invalid_request, idempotency_conflict
large (gemini gemini-2.5-pro): 1 attempt
  -> sorry
      rate_limited, overloaded, timeout, connect, server, stream_broken, malformed, empty_answer,
      circuit_open, bulkhead_full, quota_exhausted, too_large, unsupported_feature,
      invalid_output, auth, not_found, blocked, budget, deadline, out_of_service, store,
      credentials, exhausted, other
  fails: no tier is known to have a larger window
      context_length
  fails: no route is set for it
      content_policy
  fails: its route has no tier after this one
      refusal
  fails
      invalid_request, idempotency_conflict
sorry (canned): always answers
feature chat: sonnet -> large
feature code: sonnet only
model claude-haiku-*: large -> sorry
";
    assert_eq!(explained, expected, "{explained}");
}

#[test]
fn what_is_kept_and_who_gives_it_is_told() {
    let text = "
tiers:
  - { name: kept, provider: cached }
  - { name: similar, provider: cached, similar: {} }
features: { code: { cache: off }, news: { cache: 30s }, chat: { cache: on } }
default_feature: { cache: off }
cache: { ttl: 10m }
";
    let explained = Config::from_str(text, Format::Yaml).unwrap().explain();
    let expected = "\
kept (cached): answers what was answered to the same, else -> similar
similar (cached): answers what was answered to the same or something like it, else fails: this is the last tier
cache: answers are given again for 600s, and 3600s longer when all tiers fail; code: never; news: for 30s; others: never
";
    assert_eq!(explained, expected, "{explained}");
}

#[test]
fn how_many_requests_of_each_feature_may_be_under_way_is_told() {
    for (features, told) in [
        ("features: { chat: { tiers: [one] } }", None),
        ("features: { chat: { concurrency: 7 } }", Some("chat 7; else as many as connections, 20000")),
        (
            "features: { chat: { concurrency: 7 } }\ngateway: { connections: 50 }",
            Some("chat 7; else as many as connections, 50"),
        ),
        ("features: { chat: { concurrency: 7 } }\ndefault_feature: { concurrency: 3 }", Some("chat 7, others 3")),
        (
            "features: { chat: {} }\ndefault_feature: { concurrency: 3 }",
            Some("others 3; else as many as connections, 20000"),
        ),
    ] {
        let text = format!("tiers: [{{ name: one, provider: canned, text: a }}]\n{features}\n");
        let explained = Config::from_str(&text, Format::Yaml).unwrap().explain();
        assert_eq!(explained.lines().find_map(|line| line.strip_prefix("requests at once: ")), told, "{explained}");
    }
}

#[test]
fn what_is_mirrored_and_to_whom_is_told() {
    let tiers = "tiers: [{ name: one, provider: canned, text: a }, { name: two, provider: simulated }]";
    for (mirror, told) in [
        ("{ to: two }", "mirror: 1 % of the requests go to two (simulated) too; callers see nothing of it"),
        (
            "{ to: { name: next, provider: openai, model: gpt-5 }, share: 2.5%, by_session: true, features: [chat, code], \
             usd_per_day: 5 }",
            "mirror: 2.5 % of the sessions of chat and code go to next (openai gpt-5) too, for at most $5 a day; callers see \
             nothing of it",
        ),
    ] {
        let config = Config::from_str(&format!("{tiers}\nmirror: {mirror}\n"), Format::Yaml).unwrap();
        assert_eq!(config.explain().lines().last(), Some(told));
    }
}

#[test]
fn where_second_calls_go_is_told() {
    let text = "
tiers:
  - { name: large, provider: simulated }
  - { name: small, provider: simulated, level: 2, hedge: { after: 1500ms, extra: 7% } }
  - { name: other, provider: simulated, hedge: off }
  - { name: last, provider: simulated, hedge: { to: large, after: p99.9 } }
  - { name: sorry, provider: canned, text: Sorry. }
hedge: p95
";
    let explained = Config::from_str(text, Format::Yaml).unwrap().explain();
    let late: Vec<&str> = explained.lines().filter(|line| line.contains("late after")).map(str::trim).collect();
    let expected = [
        "late after p95: also -> other, for at most 5 % of the calls",
        "late after 1.5s: also once more, for at most 7 % of the calls",
        "late after p99.9: also -> large, for at most 5 % of the calls",
    ];
    assert_eq!(late, expected, "{explained}");
}

/// Returns the text's claims on a failure at the first tier: the number of attempts, and whether `spare` is next.
fn told(explained: &str, label: &str) -> Option<(usize, bool)> {
    let own: Vec<&str> = explained.lines().skip(1).take_while(|line| line.starts_with(' ')).collect();
    let mut fate = "";
    for line in own {
        match line.strip_prefix("      ") {
            None => fate = line.trim(),
            Some(failures) if failures.split(',').any(|failure| failure.trim() == label) => {
                let tries = match fate.split_whitespace().take(2).collect::<Vec<_>>()[..] {
                    ["retried", "once,"] => 2,
                    ["retried", "twice,"] => 3,
                    ["retried", times] => times.parse::<usize>().unwrap() + 1,
                    _ => 1,
                };
                return Some((tries, fate.contains("-> spare") && !fate.contains("if the key")));
            }
            Some(_) => {}
        }
    }
    None
}

/// A failing primary under the layers that the file describes: how often it was called, and whether `spare` answered.
async fn met(config: &Config, kind: ErrorKind, status: Option<u16>) -> (usize, bool) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let failing = provider_fn(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let error = LlmError::new(kind, "");
        let error = match status {
            Some(status) => error.with_status(StatusCode::from_u16(status).unwrap()),
            None => error,
        };
        async move { Err::<LlmResponse, _>(error) }
    });
    let mut fallback =
        FallbackLayer::new("main").tier("spare", Canned::text("spare")).classifier(config::classifier(config));
    for (route, tiers) in &config.fallback.routes {
        let kind = ErrorKind::ALL.iter().find(|kind| kind.name() == route).unwrap();
        fallback = fallback.route(*kind, tiers.iter().map(String::as_str));
    }
    let stack = ServiceBuilder::new().layer(fallback).layer(RetryWithJitterLayer::new()).service(failing);
    let answer = stack.oneshot(LlmRequest::prompt("hello")).await;
    (calls.load(Ordering::Relaxed), answer.is_ok())
}

#[tokio::test(start_paused = true)]
async fn what_is_explained_is_what_the_layers_do() {
    let mut checked = 0;
    for fallback in [
        "{}",
        "{ on_error: [429, 500, 502, 503, timeout] }",
        "{ on_error: [400, refusal, server] }",
        "{ on_error: [own_timeout, 529] }",
        "{ on_error: [] }",
        "{ routes: { content_policy: [spare] } }",
    ] {
        let text = format!(
            "tiers: [{{ name: main, provider: simulated }}, {{ name: spare, provider: canned, text: spare }}]\n\
             fallback: {fallback}"
        );
        let config = Config::from_str(&text, Format::Yaml).unwrap();
        let explained = config.explain();
        for kind in ErrorKind::ALL {
            // Statuses of one kind that differ have a line each.
            for status in [
                None,
                Some(400),
                Some(402),
                Some(408),
                Some(429),
                Some(500),
                Some(502),
                Some(503),
                Some(504),
                Some(520),
                Some(529),
            ] {
                let label = match status {
                    None => kind.to_string(),
                    Some(status) => format!("{kind} (HTTP {status})"),
                };
                let told = told(&explained, &label);
                assert!(told.is_some() || status.is_some(), "{label} is not explained:\n{explained}");
                if let Some(told) = told {
                    checked += 1;
                    assert_eq!(told, met(&config, *kind, status).await, "{fallback} {label}\n{explained}");
                }
            }
        }
    }
    assert!(checked > 6 * ErrorKind::ALL.len(), "{checked}");
}

#[test]
fn a_route_says_what_it_takes_and_where_to() {
    let text = "
tiers: [{ name: main, provider: simulated }, { name: small, provider: simulated }]
routes:
  - { name: short, when: { features: [chat], max_input_tokens: 500, tools: false }, tiers: [small] }
  - { name: rest, when: {}, tiers: [small, main] }
";
    let explained = Config::from_str(text, Format::Yaml).unwrap().explain();
    assert!(explained.contains("route short (chat, at most 500 input tokens, no tools): small, then as without it\n"));
    assert!(explained.contains("route rest (every request): small -> main, then as without it\n"), "{explained}");
}
