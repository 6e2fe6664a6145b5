//! The memory of an open stream.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use steadfast::providers::simulated::Fault;
use steadfast_stack::{Config, Format, Stack};
use tower::ServiceExt;

use super::harness::*;
use crate::{
    api::{Catalog, GatewayState, router},
    limits::Settings,
};

/// A prompt that says when the last of its bytes are let go.
struct Prompt {
    text: String,
    gone: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Prompt {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_prompt_is_let_go_once_its_answer_has_begun() {
    for (path, provider) in [(MESSAGES, "anthropic"), (CHAT, "openai"), (MESSAGES, "openai")] {
        let providers = Providers::start().await;
        providers.anthropic.handle().fail(Fault::StallAfter(2));
        providers.openai.handle().fail(Fault::StallAfter(2));
        let (url, other) = match provider {
            "anthropic" => (providers.anthropic.base_url(), providers.openai.base_url() + "/v1"),
            _ => (providers.openai.base_url() + "/v1", providers.openai.base_url() + "/v1"),
        };
        let config = format!(
            "tiers:\n  - {{ name: a, provider: {provider}, model: m, base_url: '{url}' }}\n\
             \x20 - {{ name: b, provider: openai, model: m, base_url: '{other}' }}\n"
        );
        let stack = Stack::from_config(Config::from_str(&config, Format::Yaml).unwrap()).unwrap();
        let gateway = GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), None, Settings::default());
        let router = router(Arc::new(gateway));
        let gone = Arc::new(AtomicBool::new(false));
        let prompt = Prompt { text: hello(true).to_string(), gone: gone.clone() };
        let request = Request::post(path).body(Body::from(Bytes::from_owner(prompt))).unwrap();
        let mut body = router.oneshot(request).await.unwrap().into_body();
        while let Some(frame) = body.frame().await {
            if frame.unwrap().into_data().unwrap().windows(5).any(|word| word == b"from ") {
                break;
            }
        }
        assert!(gone.load(Ordering::Relaxed), "{path} by {provider}");
    }
}
