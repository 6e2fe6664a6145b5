use super::*;

#[test]
fn a_fine_time_reads_as_the_number() {
    for nanos in [0, 499, 500, 1_000, 120_000, 123_456, 999_999, 1_000_000, 10_000_000, 12_345_678_901] {
        let time = Duration::from_nanos(nanos);
        assert_eq!(fine_text(time), fine(time).to_string());
    }
}

#[test]
fn a_request_whose_caller_leaves_is_abandoned() {
    let records = Records::new(2, Arc::default());
    let entry = records.begin(Dialect::OpenAi);
    let record = records.find(entry.id()).unwrap();
    assert_eq!(record.json(true)["outcome"], "running");
    drop(entry);
    assert_eq!(record.json(true)["outcome"], "abandoned");
}

#[tokio::test]
async fn of_a_message_without_end_the_beginning_is_kept() {
    use steadfast::{FallbackLayer, LlmRequest};
    use tower::{Layer, ServiceExt, service_fn};

    let message = "the server is overloaded, ".repeat(40_000);
    let failing = service_fn(move |_: LlmRequest| {
        let failed = LlmError::new(ErrorKind::Server, message.clone());
        async { Err::<LlmResponse, _>(failed) }
    });
    let stack = FallbackLayer::new("one").tier("two", failing.clone()).layer(failing);
    let error = stack.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    let steps = for_operators(error.attempts().to_vec());
    assert_eq!(steps.len(), 2);
    for step in steps {
        let message = step.message.as_str();
        assert!((100..=MAX_MESSAGE + '…'.len_utf8()).contains(&message.len()), "{}", message.len());
        assert!(message.starts_with("the server is") && message.ends_with('…'), "{message}");
    }
}

/// A call that failed.
fn step() -> Attempt {
    Attempt {
        tier: None,
        deployment: None,
        provider: None,
        model: None,
        begun: Instant::now(),
        took: Duration::ZERO,
        failure: None,
        status: Some(StatusCode::BAD_REQUEST),
        message: Default::default(),
        retry_after: None,
        timeout: None,
        usage: None,
        next: Next::GaveUp,
    }
}

/// Each kind of failure, each place of a prompt that a provider may repeat.
#[test]
fn no_record_has_a_word_of_a_prompt_that_a_provider_repeats() {
    let repeated = |mark: &str| {
        [
            format!("messages.0.content: '{mark}' is not allowed"),
            format!("Invalid request: {{\"system\":\"{mark}\",\"tools\":[{{\"name\":\"{mark}\"}}]}}"),
            format!("the server had an error while processing {mark}"),
            format!("error {mark}"),
            mark.to_owned(),
        ]
    };
    for kind in ErrorKind::ALL {
        for message in repeated("Miller-has-debts") {
            let step = Attempt { failure: Some(*kind), message: message.into(), ..step() };
            let kept = for_operators(vec![step]);
            let is_own = kept[0].is_local();
            assert!(is_own || !kept[0].message.as_str().contains("Miller"), "{kind}: {:?}", kept[0].message);
        }
    }
}

#[test]
fn a_header_is_ascii_whatever_the_words() {
    assert_eq!(ascii("{\"é\":\"𝄞\"}"), "{\"\\u00e9\":\"\\ud834\\udd1e\"}");
}
