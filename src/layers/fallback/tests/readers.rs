//! The words for each reader of an error, of one tier and of several that failed.

use std::time::Duration;

use http::StatusCode;
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    Classifier, Dialect, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    classify::Failover,
    error::{Phase, Reader, TimeoutLimit},
    translate::encode_error,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Words that only another reader can use: this crate's types to an operator and a caller, the owner's things to a
/// caller.
fn of_another_reader(reader: Reader, said: &str) -> Option<String> {
    let is_type = |word: &&str| word.starts_with(char::is_uppercase) && word.chars().any(char::is_lowercase);
    let types = said.split('`').skip(1).step_by(2).find(is_type);
    let owners =
        ["add a tier", "another tier", "base URL", "base_url", "API key", "api_key", "proxy and", "add credit"];
    let owners =
        owners.into_iter().chain(["raise the", "undrain", "probe", "bulkhead refused", "status page", "see the log"]);
    let found = match reader {
        Reader::Programmer => None,
        Reader::Operator => types.or_else(|| said.contains("::").then_some("::")),
        Reader::Caller => types.or_else(|| owners.chain(["::"]).find(|words| said.contains(words))),
        _ => unreachable!("three readers are asked for"),
    };
    // There is a thing above, if one is named.
    let limits = ["limit of", "within", "came for", "abandoned after", "passed after"];
    let points = said.contains("named above") && !limits.iter().any(|limit| said.contains(limit));
    found.map(str::to_owned).or_else(|| points.then(|| "named above".to_owned()))
}

/// An error of two tiers that failed like these.
async fn chain_of(kinds: [ErrorKind; 2]) -> LlmError {
    let tier = |kind| {
        service_fn(move |_: LlmRequest| async move {
            let error = LlmError::new(kind, "its words").with_dialect(Dialect::OpenAi).with_raw("{}".into());
            Err::<LlmResponse, _>(error.with_status(StatusCode::SERVICE_UNAVAILABLE))
        })
    };
    let classifier = Classifier::overridden(|_, mut class| {
        class.failover = Failover::Yes;
        class
    });
    let layer = FallbackLayer::new("a").classifier(classifier).tier("b", tier(kinds[1]));
    layer.layer(tier(kinds[0])).oneshot(LlmRequest::prompt("hello")).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn each_reader_hears_no_word_of_another_and_of_nothing_that_is_not_there() {
    let limits = [TimeoutLimit::Total, TimeoutLimit::Deadline, TimeoutLimit::ByteIdle];
    let mut errors: Vec<LlmError> = limits.map(|of| LlmError::timed_out(of, Phase::Answer, seconds(3))).into();
    for kind in ErrorKind::ALL {
        errors.push(LlmError::new(*kind, ""));
        errors.push(LlmError::new(*kind, "its words").with_dialect(Dialect::OpenAi).with_model("openai", "gpt"));
        for other in ErrorKind::ALL {
            errors.push(chain_of([*kind, *other]).await);
        }
    }
    for error in errors {
        for reader in [Reader::Programmer, Reader::Operator, Reader::Caller] {
            let said = error.for_reader(reader).to_string();
            assert_eq!(of_another_reader(reader, &said), None, "{reader:?}: {said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_several_tiers_failed_no_single_providers_words_and_status_go_out() {
    let dialects = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses, Dialect::Gemini];
    for (kinds, status) in [
        ([ErrorKind::Server, ErrorKind::Server], 503),
        ([ErrorKind::Server, ErrorKind::Timeout], 503),
        ([ErrorKind::Timeout, ErrorKind::Server], 504),
        ([ErrorKind::RateLimited, ErrorKind::InvalidRequest], 429),
        ([ErrorKind::Auth, ErrorKind::Server], 503),
        ([ErrorKind::Auth, ErrorKind::NotFound], 502),
        ([ErrorKind::Timeout, ErrorKind::Timeout], 504),
        ([ErrorKind::RateLimited, ErrorKind::RateLimited], 429),
    ] {
        let told = chain_of(kinds).await.for_reader(Reader::Caller);
        assert!(told.raw().is_none() && told.to_string().starts_with("all 2 tiers failed: a 503 "), "{told}");
        let statuses = dialects.map(|dialect| encode_error(&told, dialect).0.as_u16());
        assert_eq!(statuses, [status; 4], "{kinds:?}");
    }
    // A program reads the first provider's own, as its own client would.
    assert!(chain_of([ErrorKind::Server, ErrorKind::Server]).await.raw().is_some());
}

/// The issue: the provider's own bytes go out where one tier was asked. One that cannot carry the request was not.
#[tokio::test(start_paused = true)]
async fn a_tier_that_cannot_carry_the_request_is_no_tier_that_failed() {
    let asked = service_fn(|_: LlmRequest| async {
        let error = LlmError::new(ErrorKind::Server, "no such object").with_dialect(Dialect::OpenAi);
        Err::<LlmResponse, _>(error.with_raw("{}".into()).with_status(StatusCode::SERVICE_UNAVAILABLE))
    });
    let cannot = || {
        service_fn(|_: LlmRequest| async {
            Err::<LlmResponse, _>(LlmError::new(ErrorKind::UnsupportedFeature, "a file's id is another provider's"))
        })
    };
    let layer = FallbackLayer::new("a").tier("b", cannot()).tier("c", cannot());
    let error = layer.layer(asked).oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!(error.attempts().len(), 3, "{error}");
    let told = error.for_reader(Reader::Caller);
    assert_eq!(told.raw().map(|raw| &raw[..]), Some(&b"{}"[..]), "{told}");
    assert!(!told.to_string().contains("tiers failed"), "{told}");
}

#[test]
fn a_refusal_of_the_owners_key_is_not_its_callers() {
    let refused = |kind| {
        let error = LlmError::new(kind, "org-123: key sk-ab***").with_dialect(Dialect::OpenAi);
        error.with_model("openai", "gpt")
    };
    for kind in [ErrorKind::Auth, ErrorKind::QuotaExhausted, ErrorKind::NotFound, ErrorKind::Blocked] {
        let told = refused(kind).with_raw("{}".into()).for_reader(Reader::Caller);
        assert!(told.raw().is_none(), "{kind}");
        let is_private = matches!(kind, ErrorKind::Auth | ErrorKind::QuotaExhausted);
        assert_eq!(told.to_string().contains("org-123"), !is_private, "{told}");
        for dialect in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses, Dialect::Gemini] {
            assert_eq!(encode_error(&told, dialect).0, 502, "{kind} in {dialect}");
        }
    }
    let of_us = LlmError::new(ErrorKind::NotFound, "no such model").for_reader(Reader::Caller);
    assert_eq!(encode_error(&of_us, Dialect::OpenAi).0, 404, "no provider was asked");
}
