//! Repeats under the same `Idempotency-Key`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use steadfast::{LlmError, LlmResponse, provider_fn};
use steadfast_stack::{Config, Format, Stack};

use super::harness::*;
use crate::limits::Settings;

/// A stack whose provider numbers its answers.
fn stack() -> (Stack, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let leaf = provider_fn(move |_| {
        let call = counted.fetch_add(1, SeqCst) + 1;
        async move { Ok::<_, LlmError>(LlmResponse::from_text(format!("answer {call}")).with_model("openai", "gpt-4o")) }
    });
    let file = "{ tiers: [{ name: one, provider: simulated }], idempotency: { ttl: 1h, max_bytes: 1MiB } }";
    let config = Config::from_str(file, Format::Yaml).unwrap();
    (Stack::builder().leaf("one", leaf).build(config).unwrap(), calls)
}

#[tokio::test]
async fn a_repeat_is_answered_once_and_another_request_under_its_key_is_refused() {
    for path in PATHS {
        let (stack, calls) = stack();
        let server = Server::with_stack(&stack, None, Settings::default()).await;
        let key = [("idempotency-key", "order-17")];
        let first = server.post(path, &key, &hello(false)).await;
        let again = [("idempotency-key", "order-17"), ("x-stainless-retry-count", "1")];
        let again = server.post(path, &again, &hello(false)).await;
        assert_eq!((first.status, again.status, again.text().as_str()), (200, 200, "answer 1"), "{path}");
        let streamed = server.post(path, &key, &hello(true)).await;
        assert_eq!((streamed.text().as_str(), streamed.is_whole()), ("answer 1", true), "{path}: {}", streamed.body);
        assert_eq!(calls.load(SeqCst), 1, "{path}");

        let mut other = hello(false);
        other["messages"][0]["content"] = "a secret plan".into();
        let refused = server.post(path, &key, &other).await;
        let error = &refused.json()["error"];
        let expected = (mistake(path, 422), invalid(path));
        assert_eq!((refused.status, &*refused.error_type()), expected, "{path}: {}", refused.body);
        assert!(error["message"].as_str().unwrap().contains("idempotency key"), "{path}: {}", refused.body);
        assert!(!refused.body.contains("secret"), "{path}: {}", refused.body);
        if path == CHAT {
            assert_eq!(error["code"], "idempotency_key_reused");
        }
        assert_eq!(calls.load(SeqCst), 1, "{path}");
        assert_eq!(server.post(path, &[], &hello(false)).await.text(), "answer 2", "{path}");
    }
}

#[tokio::test]
async fn a_key_too_long_to_be_kept_is_refused_and_not_forgotten() {
    let (stack, calls) = stack();
    let server = Server::with_stack(&stack, None, Settings::default()).await;
    let long = "k".repeat(257);
    let refused = server.post(MESSAGES, &[("idempotency-key", &long)], &hello(false)).await;
    assert_eq!((refused.status, calls.load(SeqCst)), (400, 0), "{}", refused.body);
    assert!(refused.body.contains("idempotency-key") && !refused.body.contains("kkk"), "{}", refused.body);
}
