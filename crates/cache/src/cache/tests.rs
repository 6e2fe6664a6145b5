//! Tests of internals: no call and no reader is left behind.

use std::time::Duration;

use tokio::time::Instant;
use tokio_test::task;
use tower::{Layer, ServiceExt};

use super::{CacheHandle, CacheKey, CacheLayer, key::fingerprint, questions::Question};
use crate::{Dialect, ErrorKind, LlmError, LlmRequest, Wire, testing::Strict};

fn under_way(handle: &CacheHandle) -> usize {
    handle.shared.flights.len()
}

fn ask() -> LlmRequest {
    LlmRequest::prompt("hello")
}

#[tokio::test(start_paused = true)]
async fn however_a_call_ends_it_is_under_way_no_longer() {
    let layer = CacheLayer::new();
    let handle = layer.handle();
    let fails = Strict::new().fails(1, LlmError::new(ErrorKind::Server, "")).takes(Duration::from_secs(1));
    let llm = layer.layer(fails.clone());
    llm.clone().oneshot(ask()).await.unwrap_err();
    assert_eq!(under_way(&handle), 0, "it failed");
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!((under_way(&handle), handle.len()), (0, 1), "it answered");
    handle.clear();

    let mut leader = task::spawn(llm.clone().oneshot(ask()));
    let mut followers: Vec<_> = (0..5).map(|_| task::spawn(llm.clone().oneshot(ask()))).collect();
    assert!(leader.poll().is_pending() && followers.iter_mut().all(|follower| follower.poll().is_pending()));
    assert_eq!((under_way(&handle), fails.running()), (1, 1));
    drop(followers.split_off(2));
    drop(leader);
    assert_eq!((under_way(&handle), fails.running()), (1, 0), "two wait for somebody to call");
    assert!(followers.iter_mut().all(|follower| follower.poll().is_pending()));
    assert_eq!(fails.running(), 1, "one does");
    drop(followers);
    assert_eq!((under_way(&handle), fails.running()), (0, 0), "all have left");
}

/// The failures by which one caller's own limits end its call, by the table of the [kinds](ErrorKind).
const OF_ONE_CALLER: [ErrorKind; 5] = [
    ErrorKind::BulkheadFull,
    ErrorKind::Budget,
    ErrorKind::Deadline,
    ErrorKind::Exhausted,
    ErrorKind::IdempotencyConflict,
];

#[tokio::test(start_paused = true)]
async fn a_failure_by_the_leaders_own_limits_is_the_leaders_alone() {
    let of_kind = |kind: &ErrorKind| (LlmError::new(*kind, ""), OF_ONE_CALLER.contains(kind));
    let mut causes: Vec<_> = ErrorKind::ALL.iter().map(of_kind).collect();
    for kind in [ErrorKind::Auth, ErrorKind::InvalidRequest] {
        let mut error = LlmError::new(kind, "");
        error.blame_caller();
        causes.push((error, true));
    }
    for (error, is_leaders) in causes {
        let why = format!("{error:?}");
        let leaf = Strict::new().fails(1, error).takes(Duration::from_secs(1));
        let llm = CacheLayer::new().layer(leaf.clone());
        let (first, second, third) =
            tokio::join!(llm.clone().oneshot(ask()), llm.clone().oneshot(ask()), llm.clone().oneshot(ask()));
        assert!(first.is_err(), "{why}");
        assert_eq!((second.is_ok(), third.is_ok()), (is_leaders, is_leaders), "{why}");
        assert_eq!(leaf.calls(), if is_leaders { 2 } else { 1 }, "the others share a call: {why}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_whose_places_are_all_taken_do_not_wait_in_turn() {
    let second = Duration::from_secs(1);
    let leaf = Strict::new().fails(9, LlmError::new(ErrorKind::BulkheadFull, "")).takes(second);
    let llm = CacheLayer::new().layer(leaf.clone());
    let begun = Instant::now();
    let ended = futures_util::future::join_all((0..9).map(|_| llm.clone().oneshot(ask()))).await;
    assert!(ended.iter().all(Result::is_err));
    assert_eq!((begun.elapsed(), leaf.calls()), (second * 3, 9));
}

#[tokio::test(start_paused = true)]
async fn a_service_is_called_only_when_it_is_ready_and_its_place_is_its_own() {
    let strict = Strict::new().pending(3);
    let llm = CacheLayer::new().layer(strict.clone());
    let both = tokio::join!(llm.clone().oneshot(ask()), llm.clone().oneshot(ask()));
    both.0.unwrap();
    both.1.unwrap();
    assert_eq!(strict.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_before_its_first_poll_leaves_nothing() {
    let layer = CacheLayer::new();
    let handle = layer.handle();
    let mut llm = layer.layer(Strict::new());
    for _ in 0..3 {
        let ready = llm.ready().await.unwrap();
        drop(tower::Service::call(ready, ask()));
        assert_eq!(under_way(&handle), 0);
    }
    llm.oneshot(ask()).await.unwrap();
}

fn responses(fields: &str) -> LlmRequest {
    let body = format!(r#"{{"model":"m","input":"and what else?"{fields}}}"#);
    LlmRequest::from(Wire::new(Dialect::Responses, body).unwrap())
}

fn key_of(request: &LlmRequest) -> Option<CacheKey> {
    let key = CacheLayer::new().key(request).map(|(key, _)| key);
    assert_eq!(key, fingerprint(request));
    key
}

#[test]
fn the_state_at_a_provider_decides_which_responses_requests_are_the_same() {
    let plain = key_of(&responses("")).unwrap();
    for same in [
        r#","metadata":{"a":"b"}"#,
        r#","prompt_cache_key":"k","prompt_cache_options":{"mode":"explicit"},"service_tier":"flex""#,
        r#","user":"u","safety_identifier":"s","client_metadata":{"a":"b"}"#,
        r#","stream":true"#,
    ] {
        assert_eq!(key_of(&responses(same)), Some(plain), "{same}");
    }
    let others = [
        r#","previous_response_id":"resp_1""#,
        r#","previous_response_id":"resp_2""#,
        r#","include":["reasoning.encrypted_content"]"#,
        r#","truncation":"auto""#,
        r#","store":false"#,
        r#","prompt":{"id":"pmpt_1"}"#,
        r#","max_tool_calls":3"#,
    ];
    let mut keys: Vec<_> = others.iter().map(|fields| key_of(&responses(fields)).unwrap()).collect();
    keys.push(plain);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), others.len() + 1, "each is another request");
    for passes_by in [r#","conversation":"conv_1""#, r#","conversation":{"id":"conv_1"}"#, r#","background":true"#] {
        let request = responses(passes_by);
        assert_eq!(key_of(&request), None, "{passes_by}");
        let neutral = LlmRequest::from(request.chat().unwrap().clone());
        assert_eq!(key_of(&neutral), None, "{passes_by}, decoded");
        let keyed = CacheLayer::new().key_by(|_| Some("the same".to_owned()));
        assert!(keyed.key(&request).is_none(), "{passes_by}, with a key of one's own");
    }
    assert!(key_of(&responses(r#","conversation":null,"background":false"#)).is_some());
    // An answer to the same bytes is no compaction of them.
    let compaction = LlmRequest::from(Wire::compaction(r#"{"model":"m","input":"and what else?"}"#).unwrap());
    assert_eq!(key_of(&compaction), None);
}

#[test]
fn no_question_of_a_conversation_that_a_provider_has_is_similar_to_another() {
    let question = |request: LlmRequest| Question::of(fingerprint(&responses("")).unwrap(), &request).is_some();
    assert!(question(responses("")));
    assert!(question(responses(r#","previous_response_id":null"#)));
    for fields in [r#","previous_response_id":"resp_1""#, r#","prompt":{"id":"p"}"#, r#","conversation":"conv_1""#] {
        assert!(!question(responses(fields)), "{fields}");
    }
    let gemini = |fields: &str| {
        let body = format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"and what else?"}}]}}]{fields}}}"#);
        LlmRequest::from(Wire::new(Dialect::Gemini, body).unwrap())
    };
    assert!(question(gemini("")) && !question(gemini(r#","cachedContent":"cachedContents/1""#)));
}
