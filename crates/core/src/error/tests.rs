use std::{error::Error as StdError, io, task::Poll, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, advance};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

use super::*;
use crate::{LlmRequest, LlmResponse};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A service that fails its readiness with an error of ours.
struct Broken;

impl Service<LlmRequest> for Broken {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = std::future::Pending<Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Err(LlmError::new(ErrorKind::Auth, "ours").with_model("openai", "gpt")))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        unreachable!("it is never ready")
    }
}

#[test]
fn it_is_one_pointer_wide_and_goes_everywhere() {
    fn assert_parts<T: StdError + Send + Sync + Clone + 'static>() {}
    assert_parts::<LlmError>();
    assert_parts::<InvalidConfig>();
    assert_eq!(size_of::<LlmError>(), size_of::<usize>());
    assert_eq!(size_of::<Result<(), LlmError>>(), size_of::<usize>());
}

#[test]
fn an_error_of_ours_comes_out_of_a_box_whole() {
    let ours = LlmError::new(ErrorKind::Auth, "ours").with_model("openai", "gpt").with_source("the cause");
    let out = LlmError::from(BoxError::from(ours));
    assert_eq!((out.kind(), out.message(), out.provider()), (ErrorKind::Auth, "ours", Some("openai")));
    assert_eq!(out.source().unwrap().to_string(), "the cause");
}

#[tokio::test]
async fn an_error_of_ours_comes_out_of_towers_buffer_whole() {
    let buffered = ServiceBuilder::new().buffer(1).service(Broken);
    let error = buffered.oneshot(LlmRequest::prompt("hello")).await.map(|_| ()).unwrap_err();
    assert!(error.is::<tower::buffer::error::ServiceError>(), "{error:?}");
    let out = LlmError::from(error);
    assert_eq!((out.kind(), out.message(), out.model()), (ErrorKind::Auth, "ours", Some("gpt")));
}

#[test]
fn an_error_of_ours_comes_out_of_an_io_error_whole() {
    let wrapped = io::Error::other(LlmError::new(ErrorKind::ContentPolicy, "ours"));
    assert_eq!(LlmError::from(BoxError::from(wrapped)).kind(), ErrorKind::ContentPolicy);
}

#[tokio::test(start_paused = true)]
async fn foreign_errors_are_read_for_what_they_mean() {
    let elapsed = tokio::time::timeout(seconds(1), std::future::pending::<()>()).await.unwrap_err();
    let cases: [(BoxError, ErrorKind); 5] = [
        (tower::timeout::error::Elapsed::new().into(), ErrorKind::Timeout),
        (elapsed.into(), ErrorKind::Timeout),
        (tower::load_shed::error::Overloaded::new().into(), ErrorKind::Overloaded),
        (io::Error::from(io::ErrorKind::ConnectionRefused).into(), ErrorKind::Connect),
        ("what is this".into(), ErrorKind::Other),
    ];
    for (foreign, kind) in cases {
        let said = foreign.to_string();
        let error = LlmError::from(foreign);
        assert_eq!(error.kind(), kind, "{said}");
        assert_eq!(error.source().unwrap().to_string(), said, "the foreign error is the cause");
    }
}

#[test]
fn display_says_what_happened_and_what_to_do() {
    let limited = LlmError::new(ErrorKind::RateLimited, "30,000 tokens per minute")
        .with_model("anthropic", "claude-sonnet-4-5")
        .with_status(StatusCode::TOO_MANY_REQUESTS)
        .with_code("rate_limit_error")
        .with_request_id("req_1");
    let timed_out = LlmError::timed_out(TimeoutLimit::Total, Phase::Readiness, seconds(30));
    let silent = LlmError::timed_out(TimeoutLimit::ProgressIdle, Phase::Body, seconds(60));
    let cases = [
        (
            limited,
            "rate limited: 30,000 tokens per minute (anthropic, claude-sonnet-4-5, HTTP 429, code rate_limit_error, \
             request req_1); slow down, raise the limit, or add a tier",
        ),
        (
            timed_out,
            "timed out: the limit of 30s passed waiting for readiness; raise the limit named above, or add a tier",
        ),
        (
            silent,
            "timed out: no content came for 60s in the middle of the stream; raise the limit named above, or add a tier",
        ),
        (LlmError::new(ErrorKind::Auth, ""), "the key was refused; check the provider's API key"),
        (LlmError::from(BoxError::from("boom")), "the call failed; see the cause"),
    ];
    for (error, said) in cases {
        assert_eq!(error.to_string(), said);
    }
}

#[tokio::test(start_paused = true)]
async fn display_says_when_it_is_worth_retrying_while_that_is_to_come() {
    let error = LlmError::new(ErrorKind::Overloaded, "").with_retry_after(Duration::from_millis(12_340));
    assert!(error.to_string().contains("; worth retrying in 13 s; wait"), "{error}");
    advance(seconds(13)).await;
    assert!(!error.to_string().contains("retrying"), "{error}");
}

#[test]
fn every_kind_says_something_and_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), ErrorKind::ALL.len());
    assert!(ErrorKind::ALL.is_sorted(), "in order and without doubles");
    assert_eq!(ErrorKind::ALL.len(), ErrorKind::Other as usize + 1, "all of them");
    for kind in ErrorKind::ALL {
        for reader in [Reader::Programmer, Reader::Operator, Reader::Caller] {
            let error = LlmError::new(*kind, "").for_reader(reader);
            for said in [error.what(), error.advice().to_owned()] {
                assert!(!said.is_empty() && !said.ends_with('.'), "{kind}: {said}");
                assert!(said.starts_with(char::is_lowercase), "{kind}: {said}");
            }
        }
    }
}

#[test]
fn neither_display_nor_debug_shows_the_providers_body() {
    let error = LlmError::new(ErrorKind::InvalidRequest, "bad field").with_raw(Bytes::from_static(b"secret prompt"));
    assert!(!format!("{error} {error:?}").contains("secret"));
    assert_eq!(error.raw().unwrap(), "secret prompt");
}

#[tokio::test(start_paused = true)]
async fn retry_after_counts_down_and_stops_at_zero() {
    let error = LlmError::new(ErrorKind::RateLimited, "").with_retry_after(seconds(10));
    assert_eq!(error.retry_after(), Some(seconds(10)));
    advance(seconds(4)).await;
    assert_eq!(error.clone().retry_after(), Some(seconds(6)));
    advance(seconds(60)).await;
    assert_eq!(error.retry_after(), Some(Duration::ZERO));
    assert_eq!(LlmError::new(ErrorKind::RateLimited, "").retry_after(), None);
}

#[test]
fn a_retry_after_beyond_the_clock_is_unknown() {
    assert_eq!(LlmError::new(ErrorKind::RateLimited, "").with_retry_after(Duration::MAX).retry_after(), None);
}

#[test]
fn the_nearest_to_the_call_knows_best_who_failed() {
    let (outer, model) = ("outer".into(), "m".into());
    let named = LlmError::new(ErrorKind::Server, "").with_model("inner", "n").or_model(&outer, Some(&model));
    assert_eq!((named.provider(), named.model()), (Some("inner"), Some("n")));
    let unnamed = LlmError::new(ErrorKind::Server, "").or_model(&outer, Some(&model));
    assert_eq!((unnamed.provider(), unnamed.model()), (Some("outer"), Some("m")));
}

#[test]
fn a_wrong_setting_names_its_field() {
    let invalid = InvalidConfig::new("tiers[1].timeout", "must be above zero");
    assert_eq!(
        (invalid.field(), invalid.to_string().as_str()),
        ("tiers[1].timeout", "tiers[1].timeout: must be above zero")
    );
    let error = LlmError::from(invalid.clone());
    assert_eq!(error.source().unwrap().to_string(), invalid.to_string());
    assert_eq!(LlmError::from(BoxError::from(invalid)).kind(), error.kind(), "boxed or not");
}

#[test]
fn a_code_and_an_id_as_long_as_a_book_do_not_go_into_the_logs() {
    let book = "é".repeat(20_000);
    let error = LlmError::new(ErrorKind::Server, "it failed").with_code(book.as_str()).with_request_id(book.as_str());
    assert!(error.to_string().len() < 1000, "{} bytes", error.to_string().len());
    assert!(error.code().is_some_and(|code| code.starts_with("éé") && code.ends_with("...")));
    assert_eq!(LlmError::new(ErrorKind::Server, "").with_code("529").code(), Some("529"));
}

#[test]
fn the_record_of_a_refusal_joins_its_message_when_it_is_read() {
    let begun = Instant::now();
    let mut error = LlmError::with_parts(ErrorKind::CircuitOpen, "circuit a".into(), Rest::Text(" is open"));
    error.note(begun, || begun);
    let mut steps = Vec::new();
    let taken = allocation_counter::measure(|| steps = error.take_attempts());
    assert_eq!(taken.count_total, 1, "the list alone");
    assert_eq!((steps[0].message.as_str(), error.message()), ("circuit a is open", "circuit a is open"));
    assert_eq!(steps[0].message, ErrorMessage::from("circuit a is open"));
    assert_ne!(steps[0].message, ErrorMessage::default());
}

#[test]
fn a_message_is_cut_at_the_end_of_a_character() {
    let parts = || LlmError::with_parts(ErrorKind::CircuitOpen, "circuit é".into(), Rest::Text(" is open")).0.message;
    let text = || ErrorMessage::from("circuit é is open");
    for (most, cut) in [(18, "circuit é is open"), (17, "circuit é is ope…"), (9, "circuit …"), (0, "…")] {
        for mut message in [parts(), text()] {
            message.truncate(most);
            assert_eq!(message, cut, "{most}");
        }
    }
}
