//! Web pages of the origins that `gateway.cors` lists.

use std::sync::Arc;

use http::HeaderValue;

use super::harness::*;
use crate::limits::Settings;

const APP: &str = "https://app.example.com";
const OTHER: &str = "https://example.com";

fn listing(origins: &[&'static str]) -> Settings {
    Settings { cors: origins.iter().map(|origin| HeaderValue::from_static(origin)).collect(), ..Settings::default() }
}

/// Sends what a browser sends before a call.
async fn preflight(client: &mut Client, path: &str, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-stainless-os"),
    ];
    client.send(&request("OPTIONS", path, &headers, b"")).await;
    client.answer().await
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_call_and_read() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), listing(&["http://localhost:9", APP])).await;
    let mut client = server.connect().await;
    for path in PATHS {
        let allowed = preflight(&mut client, &addressed(path, &hello(false)), APP).await;
        assert_eq!((allowed.status, allowed.body.as_str()), (200, ""), "{allowed:?}");
        assert_eq!(allowed.header("access-control-allow-origin"), Some(APP), "{allowed:?}");
        assert_eq!(
            allowed.header("access-control-allow-headers"),
            Some("authorization,content-type,x-stainless-os"),
            "{allowed:?}"
        );
        assert!(allowed.header("access-control-allow-methods").unwrap().contains("POST"), "{allowed:?}");
        assert_eq!(allowed.header("access-control-max-age"), Some("600"), "{allowed:?}");
        assert_eq!(allowed.header("access-control-allow-credentials"), None, "a page has no cookie here");
        for stream in [false, true] {
            client.post(path, &[("origin", APP)], &hello(stream)).await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{answer:?}");
            assert_eq!(answer.is_whole(), stream);
            assert_eq!(answer.header("access-control-allow-origin"), Some(APP), "{answer:?}");
            assert_eq!(answer.header("access-control-expose-headers"), Some("*"), "{answer:?}");
            assert!(answer.header("vary").unwrap().contains("origin"), "{answer:?}");
        }
    }
    for path in ["/v1/models", "/requests", "/nothing"] {
        let answer = server.get(path, &[("origin", APP)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP), "errors too: {path}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing_of_it() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), listing(&[APP])).await;
    let mut client = server.connect().await;
    for origin in [OTHER, "https://app.example.com.evil.example", "https://app.example.com:8443", "null", ""] {
        for path in PATHS {
            let refused = preflight(&mut client, path, origin).await;
            assert_eq!((refused.status, refused.json()["error"]["message"].is_string()), (405, true), "{refused:?}");
            assert_eq!(refused.header("access-control-allow-origin"), None, "{refused:?}");
            let refused = server.post(path, &[("origin", origin)], &hello(false)).await;
            assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None), "{refused:?}");
            assert!(refused.body.contains("gateway.cors"), "{}", refused.body);
        }
    }
    assert_eq!(providers.anthropic.handle().stats().calls + providers.openai.handle().stats().calls, 0);
    // Without a page there is no origin.
    let answer = server.post(CHAT, &[], &hello(false)).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin"), answer.header("vary")), (200, None, None));
}

#[tokio::test]
async fn a_page_of_a_listed_origin_needs_a_key_where_callers_do() {
    let providers = Providers::start().await;
    let keys = keys_of(&[entry("page", "sk-page", "")]);
    let server = Server::with_keys(providers.both(), Some(keys), listing(&[APP])).await;
    let mut client = server.connect().await;
    assert_eq!(preflight(&mut client, CHAT, APP).await.status, 200, "a preflight has no key");
    let refused = server.post(CHAT, &[("origin", APP)], &hello(false)).await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some(APP)), "{refused:?}");
    let headers = [("origin", APP), ("authorization", "Bearer sk-page")];
    assert_eq!(server.post(CHAT, &headers, &hello(false)).await.status, 200);
    // With keys a page of any origin may call, and its browser keeps the answer from it.
    let headers = [("origin", OTHER), ("authorization", "Bearer sk-page")];
    let answer = server.post(CHAT, &headers, &hello(false)).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn a_reload_changes_the_origins() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let ask = async || server.post(CHAT, &[("origin", APP)], &hello(false)).await.status;
    assert_eq!(ask().await, 403);
    server.gateway.lifecycle.current.store(Arc::new(listing(&[APP])));
    assert_eq!(ask().await, 200);
    server.gateway.lifecycle.current.store(Arc::new(listing(&[OTHER])));
    assert_eq!(ask().await, 403);
}
