//! Keys and their permissions.

use super::harness::*;
use crate::{api::Keys, limits::Settings};

/// The keys `sk-one` (restricted), `sk-two` and `sk-admin`.
fn keys() -> Option<Keys> {
    let restricted = ", features: [chat], models: ['claude-*'], requests_per_minute: 4";
    let entries =
        [entry("one", "sk-one", restricted), entry("two", "sk-two", ""), entry("admin", "sk-admin", ", admin: true")];
    Some(keys_of(&entries))
}

const ONE: (&str, &str) = ("authorization", "Bearer sk-one");
const TWO: (&str, &str) = ("x-api-key", "sk-two");
const ADMIN: (&str, &str) = ("x-api-key", "sk-admin");

#[tokio::test]
async fn without_a_key_nothing_is_served_but_the_signs_of_life() {
    let providers = Providers::start().await;
    let server = Server::with_keys(providers.both(), keys(), Settings::default()).await;
    for headers in [&[][..], &[("authorization", "Bearer sk-three")][..], &[("x-api-key", "")][..]] {
        for path in [MESSAGES, CHAT, GEMINI, "/v1/messages/count_tokens"] {
            let answer = server.post(path, headers, &hello(false)).await;
            assert_eq!((answer.status, answer.json()["error"]["message"].is_string()), (401, true), "{path}");
            assert_eq!(answer.json()["type"] == "error", ![CHAT, GEMINI].contains(&path), "{path}");
            assert!(!answer.body.contains("sk-three"));
        }
        for path in ["/v1/models", "/v1/models/gpt-4o", "/v1beta/models", "/requests", "/requests/sf-0-0"] {
            assert_eq!(server.get(path, headers).await.status, 401, "{path}");
        }
        for path in ["/healthz", "/readyz", "/"] {
            assert_eq!(server.get(path, headers).await.status, 200, "{path}");
        }
    }
    assert_eq!(providers.anthropic.handle().stats().calls, 0);
}

#[tokio::test]
async fn a_key_serves_for_what_it_is_for() {
    let providers = Providers::start().await;
    let server = Server::with_keys(providers.both(), keys(), Settings::default()).await;
    let ask = async |headers: &[(&str, &str)], model: &str| {
        let mut request = hello(false);
        request["model"] = model.into();
        server.post(MESSAGES, headers, &request).await
    };
    let served = ask(&[ONE], "claude-sonnet-4-5").await;
    assert_eq!(served.status, 200);
    let id = served.header("x-steadfast-request-id").unwrap();
    let record = server.get(&format!("/requests/{id}"), &[ONE]).await.json();
    assert_eq!((record["key"].as_str(), record["feature"].as_str()), (Some("one"), Some("chat")));

    let model = ask(&[ONE], "gpt-4o").await;
    assert_eq!((model.status, model.json()["error"]["type"].as_str()), (403, Some("permission_error")));
    assert_eq!(ask(&[ONE, ("x-steadfast-feature", "other")], "claude-sonnet-4-5").await.status, 403);
    assert_eq!(ask(&[TWO, ("x-steadfast-feature", "other")], "gpt-4o").await.status, 200);
    assert_eq!(ask(&[ONE], "claude-sonnet-4-5").await.status, 200);
    let over = ask(&[ONE], "claude-sonnet-4-5").await;
    assert_eq!((over.status, over.json()["error"]["type"].as_str()), (429, Some("rate_limit_error")));
    assert!(over.header("retry-after").unwrap().parse::<u64>().unwrap() <= 15);
    assert_eq!(ask(&[TWO], "claude-sonnet-4-5").await.status, 200);
}

#[tokio::test]
async fn a_caller_sees_its_own_requests_and_an_administrator_all() {
    let providers = Providers::start().await;
    let server = Server::with_keys(providers.both(), keys(), Settings::default()).await;
    let answer = server.post(MESSAGES, &[ONE], &hello(false)).await;
    let path = format!("/requests/{}", answer.header("x-steadfast-request-id").unwrap());
    for (key, sees) in [(ONE, true), (TWO, false), (ADMIN, true)] {
        assert_eq!(server.get(&path, &[key]).await.status == 200, sees);
        let listed = server.get("/requests", &[key]).await.json()["requests"].as_array().unwrap().len();
        assert_eq!(listed == 1, sees);
    }
}

#[tokio::test]
async fn a_foreign_web_page_does_not_get_through_where_there_are_no_keys() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    for path in PATHS {
        let answer = server.post(path, &[("origin", "https://example.com")], &hello(false)).await;
        assert_eq!((answer.status, answer.json()["error"]["message"].is_string()), (403, true), "{path}");
        assert_eq!(server.post(path, &[("origin", "http://localhost:3000")], &hello(false)).await.status, 200);
    }
}
