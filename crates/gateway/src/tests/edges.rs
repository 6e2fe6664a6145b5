//! The headers of every response, and the names by which a gateway without keys is called.

use http::HeaderValue;

use super::harness::*;
use crate::{
    api::{Catalog, GatewayState, protection},
    limits::Settings,
};

const KEY: (&str, &str) = ("x-api-key", "sk-admin");

/// Every kind of path, with a key and without: answers, refusals, streams, pages, text.
#[tokio::test]
async fn every_response_says_that_it_is_not_to_be_kept_nor_taken_for_a_page() {
    let providers = Providers::start().await;
    let keys = keys_of(&[entry("admin", "sk-admin", ", admin: true")]);
    let server = Server::with_keys(providers.both(), Some(keys), Settings::default()).await;
    let mut seen = 0;
    let mut assert_safe = |path: &str, answer: &Answer| {
        let says = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        assert_eq!(says("x-content-type-options"), "nosniff", "{path}: {answer:?}");
        assert!(["no-store", "no-cache"].contains(&&*says("cache-control")), "{path}: {answer:?}");
        let kind = says("content-type");
        let is_inert = kind.starts_with("application/json") || kind.starts_with("text/event-stream");
        if kind.starts_with("application/json") {
            assert_eq!(says("cache-control"), "no-store", "{path}: {answer:?}");
        }
        assert_eq!(says("content-security-policy").is_empty(), is_inert, "{path}: {answer:?}");
        seen += 1;
    };
    for headers in [&[][..], &[KEY][..]] {
        for stream in [false, true] {
            for path in PATHS {
                assert_safe(path, &server.post(path, headers, &hello(stream)).await);
                assert_safe(path, &server.post(path, headers, &serde_json::json!([])).await);
            }
        }
        let id =
            server.post(MESSAGES, &[KEY], &hello(false)).await.header("x-steadfast-request-id").unwrap().to_owned();
        for path in [
            &format!("/requests/{id}"),
            "/requests",
            "/requests/none",
            "/requests?limit=x",
            "/v1/models",
            "/v1/models/gpt-4o",
            "/v1/models/none",
            "/v1beta/models",
            "/v1/responses/resp_1",
            "/v1/responses/resp_1/input_items",
            "/admin/keys",
            "/admin/tiers",
            "/handoff/tasks",
            "/handoff/answers/none",
            "/handoff",
            "/readyz",
            "/",
            "/nothing",
            "/v1/messages",
        ] {
            assert_safe(path, &server.get(path, headers).await);
        }
    }
    assert!(seen > 50);
}

async fn without_keys(providers: &Providers, settings: Settings) -> Server {
    let catalog = Catalog::Listed(std::sync::Arc::new(["gpt-4o".into()]));
    let mut gateway = GatewayState::new(providers.both(), catalog, None, settings);
    gateway.has_local_names_alone = true;
    Server::of(gateway).await
}

async fn status(server: &Server, method: &str, target: &str, host: &str) -> u16 {
    let mut client = server.connect().await;
    let head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n");
    client.send(head.as_bytes()).await;
    client.answer().await.status
}

/// DNS rebinding: the name of a page leads to this machine.
#[tokio::test]
async fn a_page_whose_name_leads_to_this_machine_gets_nothing() {
    let providers = Providers::start().await;
    let cors = [HeaderValue::from_static("https://app.mine.example:8443")].into();
    let server = without_keys(&providers, Settings { cors, ..Settings::default() }).await;
    let targets = ["/", "/requests", "/v1/models", "/v1/models/gpt-4o", "/v1/responses/resp_1", "/nothing"];
    for target in targets {
        for host in ["evil.example", "evil.example:8080", "127.0.0.1.nip.io", "localhost.evil.example", "a.local"] {
            assert_eq!(status(&server, "GET", target, host).await, 403, "{target} {host}");
            assert_eq!(status(&server, "POST", "/v1/messages", host).await, 403, "{host}");
            // A proxy's client alone has a host in its address: the `Host` counts there too.
            assert_eq!(status(&server, "GET", &format!("http://localhost{target}"), host).await, 403, "{host}");
            assert_ne!(status(&server, "GET", &format!("http://{host}{target}"), "localhost").await, 403, "{host}");
        }
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "host.docker.internal:80",
            "gateway",
            "app.mine.example:8443",
        ] {
            assert_ne!(status(&server, "GET", target, host).await, 403, "{target} {host}");
        }
    }
    // A proxy in front may keep the name that its callers use, where there are keys or beyond loopback.
    let open = Server::start(providers.both(), Settings::default()).await;
    assert_eq!(status(&open, "GET", "/v1/models", "llm.example.com").await, 200);
}

/// A file's content is whatever its owner has uploaded.
#[test]
fn a_providers_page_has_no_origin() {
    for kind in ["text/html", "image/svg+xml", "application/xhtml+xml; charset=utf-8", ""] {
        let mut response = http::Response::new(axum::body::Body::empty());
        response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
        protection::protect(&mut response);
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{kind}: {policy}");
    }
}
