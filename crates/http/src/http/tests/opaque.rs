//! Calls that are no conversation, at leaves and behind a fallback.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body::{Body, Frame};
use steadfast::{
    FallbackLayer, TimeoutLayer,
    layers::fallback::{Tier, TierSettings},
    provider_fn,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::{
    Anthropic, BodyRest, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, OpaqueCall, OpenAi, Unit,
    error::TimeoutLimit,
    http::{RequestBody, testing::Scripted},
};

fn embedding(body: &str) -> OpaqueCall {
    OpaqueCall::json(Dialect::OpenAi, "/v1/embeddings", body.to_owned()).unwrap()
}

const VECTOR: &str = r#"{"data":[{"embedding":[1,2]}]}"#;

fn call() -> OpaqueCall {
    embedding(r#"{"input":"x" , "model":"small"}"#).with_pool("the vector space s/2").vectors(Some(2))
}

#[tokio::test]
async fn it_goes_to_the_tiers_of_its_pool_alone() {
    let (first, other, second) = (Scripted::json("{}"), Scripted::json(VECTOR), Scripted::json(VECTOR));
    let leaf = |transport: &Scripted, model| OpenAi::new("k").model(model).transport(transport.clone());
    let pool = || TierSettings::new().pool("the vector space s/2");
    let stack = FallbackLayer::new("first")
        .primary(pool())
        .push(Tier::new("other", leaf(&other, "large")).settings(TierSettings::new().pool("the vector space l/2")))
        .push(Tier::new("second", leaf(&second, "small-eu")).settings(pool()))
        .layer(leaf(&first, "small"));
    let answer = stack.clone().oneshot(LlmRequest::from(call())).await.unwrap();
    assert_eq!(answer.served_by().tier, Some("second"));
    assert_eq!(answer.body().wire().unwrap().1, VECTOR);
    assert_eq!(second.body(), r#"{"input":"x" , "model":"small-eu"}"#);
    assert_eq!(first.request().uri(), "https://api.openai.com/v1/embeddings");
    let nowhere = LlmRequest::from(call().with_pool("the vector space t/2"));
    let error = stack.clone().oneshot(nowhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    assert!(error.message().contains("first does not serve the vector space t/2"), "{error}");
    assert!(stack.oneshot(LlmRequest::prompt("hello")).await.is_err(), "a conversation is no such call");
}

#[tokio::test]
async fn a_leaf_of_another_dialect_refuses_it() {
    let transport = Scripted::json(VECTOR);
    let error = Anthropic::new("k").transport(transport).oneshot(LlmRequest::from(call())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    assert!(error.message().starts_with("/v1/embeddings"), "{error}");
}

#[tokio::test]
async fn another_version_stands_behind_the_host() {
    let transport = Scripted::json(r#"{"results":[]}"#);
    let leaf = OpenAi::compatible("cohere", "https://a.test/compat/v1").unwrap().transport(transport.clone());
    let call = OpaqueCall::json(Dialect::OpenAi, "/v2/rerank", r#"{"model":"r"}"#).unwrap();
    let answer = leaf.oneshot(LlmRequest::from(call.billed_by(Unit::Searches))).await.unwrap();
    assert_eq!(answer.usage().unwrap().input, 1);
    assert_eq!(transport.request().uri(), "https://a.test/compat/v2/rerank");
}

#[tokio::test]
async fn a_form_gets_the_tiers_model_in_its_place() {
    let transport = Scripted::json(r#"{"text":"hi"}"#);
    let leaf = OpenAi::new("k").model("whisper-2").transport(transport.clone());
    let form = HeaderValue::from_static("multipart/form-data; boundary=b");
    let call = OpaqueCall::bytes(
        Dialect::OpenAi,
        "/v1/audio/transcriptions",
        form.clone(),
        "--b model: whisper-1 --b--",
        Some(("whisper-1".into(), 11..20)),
    );
    leaf.oneshot(LlmRequest::from(call)).await.unwrap();
    assert_eq!(transport.body(), "--b model: whisper-2 --b--");
    assert_eq!(transport.request().headers()[header::CONTENT_TYPE], form);
}

/// Pieces that end with an error.
fn broken() -> impl Body<Data = Bytes, Error = LlmError> {
    let error = LlmError::new(ErrorKind::InvalidRequest, "the body broke off");
    let pieces = [Ok(Frame::data(Bytes::from_static(b"rest"))), Err(error)];
    http_body_util::StreamBody::new(futures_util::stream::iter(pieces))
}

fn upload(rest: &BodyRest) -> LlmRequest {
    let kind = HeaderValue::from_static("multipart/form-data; boundary=x");
    let call = OpaqueCall::bytes(Dialect::OpenAi, "/v1/audio/transcriptions", kind, "beginning", None);
    LlmRequest::from(call.for_model("whisper-1").with_rest(rest.clone()))
}

#[tokio::test]
async fn a_leaf_whose_transport_takes_whole_bodies_refuses_and_leaves_the_pieces() {
    let unasked = service_fn(|_: Request<RequestBody>| async {
        Err::<http::Response<String>, _>(std::io::Error::other("nothing is to be sent"))
    });
    let rest = BodyRest::new(broken());
    let error = OpenAi::new("key").transport(unasked).oneshot(upload(&rest)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{error}");
    assert!(error.message().contains("takes whole bodies only"), "{error}");
    assert!(rest.take().is_some());
    let again = OpenAi::new("key").oneshot(upload(&rest)).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Exhausted, "{again}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_has_its_own_limit_of_time_and_no_layers() {
    let slow = provider_fn(|_| async {
        sleep(Duration::from_secs(100)).await;
        Ok::<_, LlmError>(LlmResponse::from_text("late"))
    });
    let service = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_secs(10))).service(slow);
    let (begun, rest) = (Instant::now(), BodyRest::new(broken()));
    assert!(service.clone().oneshot(upload(&rest)).await.is_ok());
    assert_eq!(begun.elapsed().as_secs(), 100);
    let begun = Instant::now();
    let limited = upload(&rest).with_timeout(Duration::from_secs(40));
    let error = service.oneshot(limited).await.unwrap_err();
    assert_eq!(error.timeout().map(|expired| expired.limit), Some(TimeoutLimit::Deadline));
    assert_eq!(begun.elapsed().as_secs(), 40);
}
