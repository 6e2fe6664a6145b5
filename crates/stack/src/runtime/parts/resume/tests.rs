use std::sync::Mutex;

use steadfast::{Dialect, Wire, provider_fn};

use super::*;

const WHOLE: &[u8] = br#"{"model":"m","input":[{"role":"user","content":"one"}]}"#;
const SHORT: &[u8] = br#"{"model":"m","input":"two","previous_response_id":"resp_1"}"#;

/// A leaf that answers the short form with this error, and everything else; and the bodies that it gets.
fn leaf(
    refuses_short: Option<LlmError>,
) -> (
    impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send + 'static> + Clone + Send + 'static,
    Arc<Mutex<Vec<Bytes>>>,
) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let bodies = seen.clone();
    let service = provider_fn(move |request: LlmRequest| {
        let body = request.wire().unwrap().body().clone();
        let refused = refuses_short.clone().filter(|_| body == SHORT);
        bodies.lock().unwrap().push(body);
        async move { refused.map_or_else(|| Ok(LlmResponse::from_text("hello")), Err) }
    });
    (service, seen)
}

fn request(account: &str) -> LlmRequest {
    let whole = Bytes::from_static(WHOLE);
    let request = LlmRequest::from(Wire::new(Dialect::Responses, whole.clone()).unwrap());
    let body = Bytes::from_static(SHORT);
    request.with_extension(Continuation { account: account.into(), whole, body })
}

async fn sent(account: Option<&str>, request: LlmRequest, refusal: Option<LlmError>) -> (Vec<Bytes>, bool) {
    let (leaf, seen) = leaf(refusal);
    let answer = ResumeLayer::new(account.map(Into::into)).layer(leaf).oneshot(request).await;
    let bodies = seen.lock().unwrap().clone();
    (bodies, answer.is_ok())
}

#[tokio::test]
async fn only_the_account_that_keeps_the_conversation_gets_the_short_form() {
    for (account, body) in [(Some("a"), SHORT), (Some("b"), WHOLE), (None, WHOLE)] {
        assert_eq!(sent(account, request("a"), None).await, (vec![Bytes::from_static(body)], true), "{account:?}");
    }
}

#[tokio::test]
async fn a_request_without_a_kept_conversation_passes_untouched() {
    let plain = LlmRequest::from(Wire::new(Dialect::Responses, SHORT).unwrap());
    assert_eq!(sent(Some("a"), plain, None).await, (vec![Bytes::from_static(SHORT)], true));
}

#[tokio::test]
async fn a_conversation_that_the_account_has_lost_is_sent_whole_in_the_same_attempt() {
    let lost = LlmError::new(ErrorKind::NotFound, "no").with_code("previous_response_not_found");
    let never_kept = LlmError::new(ErrorKind::InvalidRequest, "`previous_response_id` is not supported");
    for error in [lost, never_kept] {
        assert_eq!(sent(Some("a"), request("a"), Some(error)).await, (vec![SHORT.into(), WHOLE.into()], true));
    }
}

#[tokio::test]
async fn another_failure_is_the_attempts_own() {
    for error in [LlmError::new(ErrorKind::Overloaded, "busy"), LlmError::new(ErrorKind::ContextLength, "too long")] {
        assert_eq!(sent(Some("a"), request("a"), Some(error)).await, (vec![SHORT.into()], false));
    }
}

/// A layer that asks again with other words has made another request.
#[tokio::test]
async fn content_that_a_layer_changed_is_not_replaced() {
    let changed = br#"{"model":"m","input":"repaired"}"#;
    let request = request("a").with_wire_body(&changed[..]).unwrap();
    assert_eq!(sent(Some("a"), request, None).await, (vec![Bytes::from_static(changed)], true));
}

#[tokio::test]
async fn settings_of_layers_hold_for_the_short_form_too() {
    let limits = Arc::new(Mutex::new(Vec::new()));
    let seen = limits.clone();
    let leaf = provider_fn(move |request: LlmRequest| {
        seen.lock().unwrap().push((request.wire().unwrap().max_tokens(), request.is_stream()));
        async { Ok::<_, LlmError>(LlmResponse::from_text("hello")) }
    });
    let request = request("a").with_max_tokens(7).with_stream(true);
    ResumeLayer::new(Some("a".into())).layer(leaf).oneshot(request).await.unwrap();
    assert_eq!(*limits.lock().unwrap(), [(Some(7), true)]);
}
