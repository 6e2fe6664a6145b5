//! rig's errors as steadfast's, and the reverse.

use std::{error::Error, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use rig_core::{
    ProviderResponseError,
    error::{ErrorKind as RigKind, ErrorReport, ProviderError},
    http_client::Error as HttpError,
    providers::openai::OpenAIConfig,
};
use rig_reqwest::{ReqwestClient, reqwest};
use steadfast::{
    ErrorKind, LlmError,
    providers::simulated::{Fault, Simulated},
};
use steadfast_rig::{llm_error, provider_error};
use steadfast_simulator::SimulatedServer;

const SECOND: Duration = Duration::from_secs(1);

fn response(status: u16, body: &str) -> ProviderError {
    ProviderError::from_http_response(StatusCode::from_u16(status).unwrap(), body)
}

#[test]
fn each_error_has_the_kind_that_it_means() {
    let json = serde_json::from_str::<u8>("{").unwrap_err();
    let io = |kind| HttpError::instance(std::io::Error::from(kind));
    let quota = r#"{"error": {"message": "You exceeded your quota", "type": "insufficient_quota", "code": "insufficient_quota"}}"#;
    let long =
        r#"{"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}"#;
    let overloaded = r#"{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}"#;
    let report = |kind| ProviderError::Relayed(Box::new(ErrorReport::new(kind, "words")));
    for (error, kind) in [
        (response(429, "slow down"), ErrorKind::RateLimited),
        (response(429, quota), ErrorKind::QuotaExhausted),
        (response(400, long), ErrorKind::ContextLength),
        (response(400, "no"), ErrorKind::InvalidRequest),
        (response(401, "no"), ErrorKind::Auth),
        (response(404, "no"), ErrorKind::NotFound),
        (response(500, "no"), ErrorKind::Server),
        (response(529, overloaded), ErrorKind::Overloaded),
        // In a stream or in a 200 a provider has no other status.
        (response(200, overloaded), ErrorKind::Overloaded),
        (ProviderError::from_provider_body("no"), ErrorKind::Server),
        (
            ProviderError::InvalidAuthentication(ProviderResponseError::new(StatusCode::FORBIDDEN, "no")),
            ErrorKind::Auth,
        ),
        (
            ProviderError::ProviderResponse(ProviderResponseError::new(StatusCode::OK, "no").with_refusal(true)),
            ErrorKind::ContentPolicy,
        ),
        (HttpError::StreamEnded.into(), ErrorKind::StreamBroken),
        (io(std::io::ErrorKind::ConnectionRefused).into(), ErrorKind::Connect),
        (io(std::io::ErrorKind::TimedOut).into(), ErrorKind::Timeout),
        (HttpError::InvalidContentType(HeaderValue::from_static("text/html")).into(), ErrorKind::Malformed),
        (json.into(), ErrorKind::Malformed),
        (ProviderError::Response("no choice".to_owned()), ErrorKind::Malformed),
        (ProviderError::request("no message"), ErrorKind::InvalidRequest),
        (ProviderError::Provider("broken".to_owned()), ErrorKind::Server),
        (ProviderError::Truncated, ErrorKind::StreamBroken),
        (report(RigKind::Timeout), ErrorKind::Timeout),
        (report(RigKind::Http), ErrorKind::Connect),
        (report(RigKind::BusClosed), ErrorKind::Other),
    ] {
        let words = error.to_string();
        let error = llm_error(error);
        assert_eq!(error.kind(), kind, "{words}");
        assert_eq!(error.source().map(ToString::to_string), Some(words), "the cause is rig's error");
    }
}

#[test]
fn a_reply_keeps_its_status_code_id_and_wait() {
    let headers = [(header::RETRY_AFTER, "7"), ("x-should-retry".parse().unwrap(), "false")];
    let headers = HeaderMap::from_iter(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    let body = r#"{"error": {"message": "Requests per minute", "code": "rate_limit_exceeded"}}"#;
    let error = response(429, body).with_response_headers(Some(headers)).with_provider_request_id(Some("req_1".into()));
    let error = llm_error(error);
    assert_eq!(error.message(), "Requests per minute");
    assert_eq!(error.status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!((error.code(), error.request_id()), (Some("rate_limit_exceeded"), Some("req_1")));
    assert!(error.retry_after().is_some_and(|wait| wait > 6 * SECOND && wait <= 7 * SECOND), "{error:?}");
    assert_eq!(error.should_retry(), Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_stacks_error_keeps_kind_status_wait_and_id_through_rig() {
    for kind in ErrorKind::ALL.iter().copied() {
        let error = provider_error(&LlmError::new(kind, "words of the failure"));
        assert!(error.to_string().contains("words of the failure"), "{error}");
        assert!(error.provider_response_status().is_some_and(|status| !status.is_success()), "{error}");
        assert_eq!(llm_error(error).kind(), kind);
    }
    let limited = LlmError::new(ErrorKind::RateLimited, "slow down")
        .with_status(StatusCode::TOO_MANY_REQUESTS)
        .with_retry_after(1500 * SECOND / 1000)
        .with_code("tokens")
        .with_request_id("req_1");
    let error = provider_error(&limited);
    assert_eq!(error.provider_response_status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(error.provider_request_id(), Some("req_1"));
    assert_eq!(error.report().code.as_deref(), Some("tokens"));
    assert_eq!(error.provider_response_headers().unwrap()[header::RETRY_AFTER], "2", "rounded up");
    assert_eq!(llm_error(error).retry_after(), Some(2 * SECOND));
}

#[tokio::test]
async fn failures_of_a_real_connection_have_their_kinds() {
    let refused = SimulatedServer::start(Simulated::new("gpt-4o")).await.unwrap().base_url();
    let hanging = SimulatedServer::start(Simulated::new("gpt-4o")).await.unwrap();
    hanging.handle().fail(Fault::Hang);
    let client = reqwest::Client::builder().timeout(SECOND / 10).build().unwrap();
    for (url, kind) in [(refused, ErrorKind::Connect), (hanging.base_url(), ErrorKind::Timeout)] {
        let config = OpenAIConfig::new("sk-simulated").with_base_url(format!("{url}/v1"));
        let error = config.connect(ReqwestClient::from(client.clone())).chat("gpt-4o").call("hello").await.unwrap_err();
        assert_eq!(llm_error(error).kind(), kind);
    }
}
