use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, FallbackLayer, RetryWithJitterLayer, TimeoutLayer, provider_fn,
    providers::Canned,
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use super::ValidateLayer;
use crate::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent, Wire,
    chat::{Chat, FinishReason, Message, OutputSchema, Part, Role, ToolCall, Usage},
    error::{Phase, TimeoutLimit},
    ledger::{Next, Stop},
    testing::Strict,
};

const GOOD: &str = r#"{"age": 36}"#;
const BAD: &str = r#"{"age": "thirty-six"}"#;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn output() -> OutputSchema {
    let schema = json!({ "type": "object", "properties": { "age": { "type": "integer" } }, "required": ["age"] });
    OutputSchema { name: "person".into(), schema: Some(schema.into()), strict: true }
}

fn asked_of(messages: impl IntoIterator<Item = Message>) -> Chat {
    let mut chat = Chat::new(messages);
    chat.output = Some(output());
    chat
}

fn asked() -> LlmRequest {
    LlmRequest::from(asked_of([Message::user("how old?")]))
}

/// A `Strict` whose answers are these texts in turn, the last one forever. Each takes ten tokens in and two out.
#[derive(Clone)]
struct Says {
    strict: Strict,
    answers: Arc<Mutex<VecDeque<Message>>>,
    streams: bool,
}

impl Says {
    fn new<'a>(answers: impl IntoIterator<Item = &'a str>) -> Self {
        Self::messages(answers.into_iter().map(|text| {
            let mut message = Message::assistant(text);
            message.finish = Some(FinishReason::Stop);
            message
        }))
    }

    fn messages(answers: impl IntoIterator<Item = Message>) -> Self {
        let priced = |mut message: Message| {
            message.usage = Some(Usage::new(10, 2));
            message
        };
        let answers = Arc::new(Mutex::new(answers.into_iter().map(priced).collect()));
        Self { strict: Strict::new(), answers, streams: false }
    }

    fn over(mut self, strict: Strict) -> Self {
        self.strict = strict;
        self
    }

    fn streams(mut self) -> Self {
        self.streams = true;
        self
    }

    /// Returns the next answer, word by word if it streams.
    fn next(&self) -> LlmBody {
        let mut answers = self.answers.lock().unwrap();
        let message = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.unwrap();
        if !self.streams {
            return LlmBody::from_message(message);
        }
        let text = message.text();
        let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
        let end = [message.usage.map(StreamEvent::Usage), message.finish.map(StreamEvent::Finish)];
        let events = words.into_iter().map(|text| StreamEvent::Text { index: 0, text });
        let events = events.chain(end.into_iter().flatten()).chain([StreamEvent::End]);
        let frames: Vec<_> = events.map(|event| Ok(Frame::event(event))).collect();
        LlmBody::from_frames(stream::iter(frames).then(|frame| async {
            sleep(secs(1)).await;
            frame
        }))
    }
}

impl Service<LlmRequest> for Says {
    type Response = LlmResponse;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<LlmResponse, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.strict.poll_ready(cx)
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let (call, says) = (self.strict.call(request), self.clone());
        Box::pin(async move { Ok(call.await?.map_body(|_| says.next()).with_model("openai", "gpt")) })
    }
}

fn step(attempt: &crate::Attempt) -> (Option<ErrorKind>, Option<Usage>, Next) {
    (attempt.failure, attempt.usage, attempt.next)
}

const TWELVE: Option<Usage> = Some(Usage::new(10, 2));

#[tokio::test(start_paused = true)]
async fn a_right_answer_passes_as_it_is() {
    let raw: bytes::Bytes = "the provider's own bytes".into();
    let body = raw.clone();
    let leaf = provider_fn(move |_| {
        let body = LlmBody::from_wire(Dialect::OpenAi, body.clone(), Message::assistant(GOOD));
        std::future::ready(Ok::<_, LlmError>(LlmResponse::new(body)))
    });
    let response = ValidateLayer::new().layer(leaf).oneshot(asked()).await.unwrap();
    assert_eq!(response.body().wire(), Some((Dialect::OpenAi, &raw)));
    assert!(response.notes().is_empty() && response.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_schema_passes_untouched_and_costs_nothing() {
    let leaf = provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))));
    let mut llm = ValidateLayer::new().layer(leaf);
    let body = format!(r#"{{"messages":[{{"role":"user","content":{:?}}}]}}"#, "hello ".repeat(1000));
    let wire = LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap());
    for request in [LlmRequest::prompt("hello"), wire] {
        let measured = allocation_counter::measure(|| {
            let call = std::pin::pin!(llm.call(request.clone()));
            assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        });
        assert_eq!(measured.count_total, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repaired_answer_says_so_and_the_providers_bytes_go() {
    let fenced = format!("```json\n{GOOD}\n```");
    let message = Message::assistant(fenced);
    let leaf = provider_fn(move |_| {
        let body = LlmBody::from_wire(Dialect::OpenAi, "bytes".into(), message.clone());
        std::future::ready(Ok::<_, LlmError>(LlmResponse::new(body)))
    });
    let response = ValidateLayer::new().layer(leaf.clone()).oneshot(asked()).await.unwrap();
    assert_eq!(response.notes(), ["output: a code fence was stripped"]);
    assert_eq!((response.body().wire(), response.served_by().attempts), (None, 1));
    assert_eq!(response.text().await.unwrap(), GOOD);

    let error = ValidateLayer::new().repair(false).reasks(0).layer(leaf).oneshot(asked()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOutput);
}

#[tokio::test(start_paused = true)]
async fn a_repair_keeps_what_is_not_text() {
    let mut message = Message::assistant("Here: ");
    let thought = Part::Reasoning(crate::chat::Reasoning { text: "hm".into(), opaque: None });
    message.content.insert(0, thought.clone());
    message.content.push(Part::Text(GOOD.into()));
    let response = ValidateLayer::new().layer(Says::messages([message])).oneshot(asked()).await.unwrap();
    let message = response.collect().await.unwrap();
    assert_eq!(message.content, [thought, Part::Text(GOOD.into())]);
    assert_eq!(message.usage, TWELVE);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_answer_is_asked_again_with_what_is_wrong_and_both_are_paid_for_in_the_record() {
    let says = Says::new([BAD, GOOD]);
    let request = asked().with_feature("chat").with_idempotency_key("k").with_max_attempts(5);
    let response = ValidateLayer::new().layer(says.clone()).oneshot(request).await.unwrap();
    assert_eq!((response.served_by().attempts, response.usage()), (2, TWELVE));
    let [first] = response.attempts() else { panic!("{:?}", response.attempts()) };
    assert_eq!(step(first), (Some(ErrorKind::InvalidOutput), TWELVE, Next::AskedAgain));
    assert_eq!((first.provider.as_deref(), first.model.as_deref()), (Some("openai"), Some("gpt")));
    assert_eq!(first.message, "the answer does not meet `/properties/age/type` of the schema");
    assert_eq!(response.text().await.unwrap(), GOOD);

    let [one, two] = says.strict.seen().try_into().unwrap();
    assert_eq!((one.context().attempts_left, two.context().attempts_left), (5, 4));
    assert_eq!(
        (two.feature(), one.idempotency_key(), two.idempotency_key()),
        (Some("chat"), Some("k"), Some("k-again-1"))
    );
    let chat = two.chat().unwrap();
    assert_eq!(chat.output, Some(output()));
    let [question, answer, again] = chat.messages.as_slice() else { panic!("{:?}", chat.messages) };
    assert_eq!((question, answer), (&Message::user("how old?"), &Message::assistant(BAD)));
    assert!(again.role == Role::User && again.text().contains("at /age: the value is not of type"), "{}", again.text());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stays_wrong_is_invalid_output_and_each_is_listed() {
    for (reasks, expected) in [(0, 1), (1, 2), (3, 4)] {
        let says = Says::new([BAD]);
        let error = ValidateLayer::new().reasks(reasks).layer(says.clone()).oneshot(asked()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.provider(), error.model()),
            (ErrorKind::InvalidOutput, Some("openai"), Some("gpt"))
        );
        assert_eq!((says.strict.calls(), error.attempts().len()), (expected, expected));
        let (last, before) = error.attempts().split_last().unwrap();
        assert_eq!(step(last), (Some(ErrorKind::InvalidOutput), TWELVE, Next::Stopped(Stop::Attempts)));
        assert!(before.iter().all(|attempt| attempt.next == Next::AskedAgain));
        assert!(!format!("{error} {error:?}").contains("thirty"), "nothing of the answer is in it");
    }
}

#[tokio::test(start_paused = true)]
async fn the_words_can_be_set() {
    let says = Says::new([BAD, GOOD]);
    let layer = ValidateLayer::new().words(|wrong| format!("Encore: {wrong}"));
    layer.layer(says.clone()).oneshot(asked()).await.unwrap();
    assert!(says.strict.seen()[1].chat().unwrap().messages[2].text().starts_with("Encore: It does not match"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_answer_fails_over_and_its_circuit_stays_closed() {
    let careless = Says::new([BAD]);
    let circuit = CircuitBreakerLayer::new("careless").consecutive_failures(1);
    let handle = circuit.handle();
    let tier = ServiceBuilder::new()
        .layer(ValidateLayer::new())
        .layer(RetryWithJitterLayer::new())
        .layer(circuit)
        .layer(TimeoutLayer::new(secs(30)))
        .service(careless.clone());
    let llm = FallbackLayer::new("careless").tier("careful", Says::new([GOOD])).layer(tier);
    let response = llm.oneshot(asked().explain()).await.unwrap();
    assert_eq!(response.served_by().tier, Some("careful"));
    let record: Vec<_> = response.attempts().iter().map(|step| (step.tier.as_deref().unwrap(), step.next)).collect();
    assert_eq!(record, [("careless", Next::AskedAgain), ("careless", Next::FailedOver), ("careful", Next::Answered)]);
    assert!(response.attempts().iter().all(|step| step.usage == TWELVE), "each has its price");
    assert_eq!(handle.state(), crate::events::CircuitState::Closed);
    assert_eq!(careless.strict.calls(), 2, "a retry layer further in leaves it alone");
}

#[tokio::test(start_paused = true)]
async fn outside_of_a_fallback_the_record_names_the_tier_of_the_wrong_answer() {
    let llm = FallbackLayer::new("a").tier("b", Canned::text("later")).layer(Says::new([BAD, GOOD]));
    let response = ValidateLayer::new().layer(llm).oneshot(asked().explain()).await.unwrap();
    let record: Vec<_> = response.attempts().iter().map(|step| (step.tier.as_deref(), step.next)).collect();
    assert_eq!(record, [(Some("a"), Next::AskedAgain), (Some("a"), Next::Answered)]);
}

#[tokio::test(start_paused = true)]
async fn failures_before_a_wrong_answer_stay_on_record() {
    let flaky = Strict::new().fails(1, LlmError::new(ErrorKind::Connect, "no route"));
    let inner = RetryWithJitterLayer::new().layer(Says::new([BAD, GOOD]).over(flaky));
    let response = ValidateLayer::new().layer(inner).oneshot(asked().with_max_attempts(3)).await.unwrap();
    let kinds: Vec<_> = response.attempts().iter().map(|step| step.failure).collect();
    assert_eq!(kinds, [Some(ErrorKind::Connect), Some(ErrorKind::InvalidOutput)]);
    assert_eq!(response.served_by().attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn without_an_attempt_left_it_is_not_asked_again() {
    let says = Says::new([BAD, GOOD]);
    let error = ValidateLayer::new().layer(says.clone()).oneshot(asked().with_max_attempts(1)).await.unwrap_err();
    assert_eq!((error.attempts()[0].next, says.strict.calls()), (Next::Stopped(Stop::Attempts), 1));
}

#[tokio::test(start_paused = true)]
async fn without_time_left_it_is_not_asked_again() {
    let says = Says::new([BAD, GOOD]).over(Strict::new().takes(secs(10)));
    let error = ValidateLayer::new().layer(says.clone()).oneshot(asked().with_timeout(secs(10))).await.unwrap_err();
    assert_eq!((error.attempts()[0].next, says.strict.calls()), (Next::Stopped(Stop::Deadline), 1));
}

#[tokio::test(start_paused = true)]
async fn the_second_question_ends_at_the_deadline() {
    let says = Says::new([BAD, GOOD]).over(Strict::new().takes(secs(10)));
    let begun = Instant::now();
    let error = ValidateLayer::new().layer(says.clone()).oneshot(asked().with_timeout(secs(15))).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed(), says.strict.running()), (ErrorKind::Timeout, secs(15), 0));
    let fired = error.timeout().unwrap();
    assert_eq!((fired.limit, fired.phase, fired.after), (TimeoutLimit::Deadline, Phase::Answer, secs(5)));
    let kinds: Vec<_> = error.attempts().iter().map(|step| step.failure).collect();
    assert_eq!(kinds, [Some(ErrorKind::InvalidOutput), Some(ErrorKind::Timeout)]);
}

#[tokio::test(start_paused = true)]
async fn a_second_question_that_is_never_asked_leaves_the_first_answers_error() {
    // Ready once, and then busy with another call.
    let busy = Says::new([BAD]);
    let limited = ServiceBuilder::new().concurrency_limit(1).service(busy.clone());
    let hold = Arc::new(Mutex::new(None));
    let (held, other) = (hold.clone(), limited.clone());
    let layer = ValidateLayer::new().words(move |wrong| {
        let mut other = task::spawn(other.clone());
        assert!(other.enter(|cx, mut service| service.poll_ready(cx)).is_ready());
        *held.lock().unwrap() = Some(other);
        wrong.to_owned()
    });
    let error = layer.layer(limited).oneshot(asked().with_timeout(secs(5))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOutput, "which fails over, where a deadline would stop");
    let kinds: Vec<_> = error.attempts().iter().map(|step| step.failure).collect();
    assert_eq!(kinds, [Some(ErrorKind::InvalidOutput), Some(ErrorKind::Deadline)]);
    assert_eq!(busy.strict.calls(), 1);
    drop(hold);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_second_question_leads() {
    let strict = Strict::new().script([Ok(()), Err(LlmError::new(ErrorKind::Overloaded, "busy"))]);
    let error = ValidateLayer::new().layer(Says::new([BAD]).over(strict)).oneshot(asked()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (ErrorKind::Overloaded, 2));
    let strict = Strict::new().fails(1, LlmError::new(ErrorKind::Overloaded, "busy"));
    let error = ValidateLayer::new().layer(Says::new([GOOD]).over(strict)).oneshot(asked()).await.unwrap_err();
    assert_eq!((error.kind(), error.message(), error.attempts().len()), (ErrorKind::Overloaded, "busy", 1));
}

#[tokio::test(start_paused = true)]
async fn a_future_of_an_unchecked_request_that_failed_and_is_kept_holds_no_place() {
    let leaf = Strict::new().fails(1, LlmError::new(ErrorKind::Server, "down"));
    let mut llm = ValidateLayer::new().layer(ServiceBuilder::new().concurrency_limit(1).service(leaf));
    let mut kept = task::spawn(llm.call(LlmRequest::prompt("hello")));
    assert_ready!(kept.poll()).unwrap_err();
    assert_ready!(task::spawn(llm.call(LlmRequest::prompt("hello"))).poll()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_held_back_until_it_is_whole_and_then_given_as_it_came() {
    let says = Says::new([r#"{"age": 36, "name": "Ada"}"#]).streams();
    let begun = Instant::now();
    let mut response = ValidateLayer::new().layer(says).oneshot(asked().with_stream(true)).await.unwrap();
    assert!(begun.elapsed() >= secs(5) && response.body().arrives_in_frames());
    let mut texts = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        texts.extend(frame.unwrap().events().iter().filter_map(|event| match event {
            StreamEvent::Text { text, .. } => Some(text.clone()),
            _ => None,
        }));
    }
    assert_eq!(texts, ["{\"age\": ", "36, ", "\"name\": ", "\"Ada\"}"]);
    assert_eq!(response.usage(), TWELVE);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_stream_is_repaired_or_asked_again() {
    let says = Says::new(["Well: {\"age\": 36}"]).streams();
    let response = ValidateLayer::new().layer(says).oneshot(asked().with_stream(true)).await.unwrap();
    assert_eq!(response.notes(), ["output: the JSON was taken out of the text around it"]);
    assert_eq!(response.text().await.unwrap(), GOOD);

    let says = Says::new([BAD, GOOD]).streams();
    let response = ValidateLayer::new().layer(says.clone()).oneshot(asked().with_stream(true)).await.unwrap();
    assert_eq!(step(&response.attempts()[0]), (Some(ErrorKind::InvalidOutput), TWELVE, Next::AskedAgain));
    assert!(says.strict.seen()[1].is_stream());
    assert_eq!(response.text().await.unwrap(), GOOD);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_while_it_is_held_back_fails_over() {
    let breaking = provider_fn(|_| {
        let frames = [Ok(Frame::text("{\"age\"")), Err(LlmError::new(ErrorKind::StreamBroken, "cut"))];
        let body = LlmBody::from_frames(stream::iter(frames));
        std::future::ready(Ok::<_, LlmError>(LlmResponse::new(body).with_model("openai", "gpt")))
    });
    let llm = FallbackLayer::new("a").tier("b", Says::new([GOOD])).layer(ValidateLayer::new().layer(breaking));
    let response = llm.oneshot(asked().with_stream(true)).await.unwrap();
    assert_eq!(response.served_by().tier, Some("b"));
    let [first] = response.attempts() else { panic!("{:?}", response.attempts()) };
    assert_eq!((first.failure, first.provider.as_deref()), (Some(ErrorKind::StreamBroken), Some("openai")));
}

#[tokio::test(start_paused = true)]
async fn a_stream_held_back_ends_at_the_deadline() {
    let says = Says::new([r#"{"age": 36, "name": "Ada"}"#]).streams();
    let begun = Instant::now();
    let request = asked().with_stream(true).with_timeout(secs(3));
    let error = ValidateLayer::new().layer(says).oneshot(request).await.unwrap_err();
    assert_eq!((error.timeout().unwrap().phase, begun.elapsed()), (Phase::Body, secs(3)));
    assert_eq!((error.provider(), error.attempts().len()), (Some("openai"), 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_an_answer_yet_passes() {
    let mut call = Message::new(Role::Assistant, vec![Part::ToolCall(ToolCall::new("1", "look", "{}"))]);
    call.finish = Some(FinishReason::ToolUse);
    let refusal = Message::new(Role::Assistant, vec![Part::Refusal("no".into())]);
    let mut paused = Message::assistant("so far");
    paused.finish = Some(FinishReason::Paused);
    for message in [call, refusal, paused] {
        let says = Says::messages([message.clone()]);
        let response = ValidateLayer::new().layer(says.clone()).oneshot(asked()).await.unwrap();
        assert_eq!((response.collect().await.unwrap().content, says.strict.calls()), (message.content, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_is_not_asked_again() {
    let mut cut = Message::assistant(r#"{"age": 3"#);
    cut.finish = Some(FinishReason::Length);
    let says = Says::messages([cut]);
    let error = ValidateLayer::new().layer(says.clone()).oneshot(asked()).await.unwrap_err();
    assert_eq!((error.kind(), says.strict.calls()), (ErrorKind::InvalidOutput, 1));
    assert!(error.message().contains("max_tokens"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_prefill_is_part_of_the_answer_and_is_asked_with_again() {
    let begun = || LlmRequest::from(asked_of([Message::user("how old?"), Message::assistant("{\"age\":")]));
    let says = Says::new([" \"old\"}", " 36}"]);
    let response = ValidateLayer::new().layer(says.clone()).oneshot(begun()).await.unwrap();
    assert_eq!(response.text().await.unwrap(), " 36}");
    let chat = says.strict.seen()[1].chat().unwrap().clone();
    let texts: Vec<String> = chat.messages.iter().map(Message::text).collect();
    assert_eq!((texts.len(), texts[1].as_str(), texts[3].as_str()), (4, "{\"age\": \"old\"}", "{\"age\":"));
    // The question would come after the prefill.
    let error = ValidateLayer::new().reasks(0).layer(Says::new([GOOD])).oneshot(begun()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOutput);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_makes_no_empty_turn() {
    let says = Says::new(["  \n", GOOD]);
    ValidateLayer::new().layer(says.clone()).oneshot(asked()).await.unwrap();
    assert_eq!(says.strict.seen()[1].chat().unwrap().messages.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_ask_for_a_schema_are_held_to_it_in_each_dialect() {
    let schema = json!({ "type": "object", "required": ["age"] });
    let requests = [
        (
            Dialect::OpenAi,
            json!({ "model": "m", "messages": [{ "role": "user", "content": "how old?" }], "response_format":
                { "type": "json_schema", "json_schema": { "name": "a", "schema": schema } } }),
        ),
        (
            Dialect::Anthropic,
            json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "how old?" }],
                "output_config": { "format": { "type": "json_schema", "schema": schema } } }),
        ),
        (
            Dialect::Gemini,
            json!({ "contents": [{ "role": "user", "parts": [{ "text": "how old?" }] }],
                "generationConfig": { "responseMimeType": "application/json", "responseJsonSchema": schema } }),
        ),
        (
            Dialect::Responses,
            json!({ "model": "m", "input": "how old?",
                "text": { "format": { "type": "json_schema", "name": "a", "schema": schema } } }),
        ),
    ];
    for (dialect, body) in requests {
        let says = Says::new(["{}", GOOD]);
        let request = LlmRequest::from(Wire::new(dialect, body.to_string()).unwrap());
        let response = ValidateLayer::new().layer(says.clone()).oneshot(request).await.unwrap();
        assert_eq!(says.strict.calls(), 2, "{dialect}");
        assert_eq!(response.notes(), ["output: asked again in the neutral form, without the request's own bytes"]);
        assert!(says.strict.seen()[0].wire().is_some(), "the first question goes out as it came");
    }
}

#[tokio::test(start_paused = true)]
async fn a_responses_request_is_asked_again_behind_its_last_item() {
    let format = json!({ "type": "json_schema", "name": "a", "schema": { "type": "object", "required": ["age"] } });
    let asked = |conversation: Option<&str>| {
        let body = json!({ "model": "m", "conversation": conversation, "instructions": "s", "text": { "format": format },
            "input": [{ "role": "user", "content": "how old?" }, { "role": "assistant", "content": "{\"age\":" }] });
        LlmRequest::from(Wire::new(Dialect::Responses, body.to_string()).unwrap())
    };
    for (conversation, expected) in [
        (None, &["user: how old?", "assistant: {\"age\":", "assistant: {}", "user: again"][..]),
        (Some("conv_1"), &["user: again"][..]),
    ] {
        let says = Says::new(["{}", GOOD]);
        let layer = ValidateLayer::new().words(|_| "again".to_owned());
        let response = layer.layer(says.clone()).oneshot(asked(conversation)).await.unwrap();
        assert_eq!(response.text().await.unwrap(), GOOD, "the answer stands alone");
        let seen = says.strict.seen();
        let chat = seen[1].chat().unwrap();
        let roles = |role| if role == Role::User { "user" } else { "assistant" };
        let turns: Vec<_> =
            chat.messages.iter().map(|message| format!("{}: {}", roles(message.role), message.text())).collect();
        assert_eq!(turns, expected);
        assert_eq!(chat.system.as_deref(), Some("s"));
        let first = seen[0].chat().unwrap();
        assert_eq!((&chat.output, &chat.extra), (&first.output, &first.extra));
    }
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_is_none_is_refused_before_anything_is_sent() {
    let says = Says::new([GOOD]);
    let mut chat = asked_of([Message::user("how old?")]);
    chat.output = Some(OutputSchema { schema: Some(json!({ "type": 7 }).into()), ..output() });
    let error = ValidateLayer::new().layer(says.clone()).oneshot(LlmRequest::from(chat)).await.unwrap_err();
    assert_eq!((error.kind(), says.strict.calls()), (ErrorKind::InvalidRequest, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_frees_its_place_wherever_it_is() {
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let handle = bulkhead.handle();
    let strict = Strict::new().pending(1).takes(secs(2));
    let says = Says::new([BAD]).over(strict.clone()).streams();
    let mut llm = ValidateLayer::new().layer(bulkhead.layer(says));
    for after in 0..16 {
        let mut call = task::spawn(llm.call(asked().with_feature("chat").with_stream(true)));
        for _ in 0..after {
            assert_pending!(call.poll());
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        drop(call);
        assert_eq!((handle.in_flight("chat"), strict.running()), (0, 0), "dropped after {after} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_frees_everything_even_if_the_future_is_kept() {
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let handle = bulkhead.handle();
    let mut llm = ValidateLayer::new().layer(bulkhead.layer(Says::new([BAD]).over(Strict::new().takes(secs(2)))));
    let mut call = task::spawn(llm.call(asked().with_feature("chat").with_timeout(secs(3))));
    assert_pending!(call.poll());
    tokio::time::advance(secs(2)).await;
    assert_pending!(call.poll());
    assert_eq!(handle.in_flight("chat"), 1);
    tokio::time::advance(secs(2)).await;
    assert_ready!(call.poll()).unwrap_err();
    assert_eq!(handle.in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn each_question_is_asked_of_a_service_made_ready_for_it_and_clones_carry_none() {
    let strict = Strict::new().pending(3);
    let mut llm = ValidateLayer::new().layer(Says::new([BAD]).over(strict.clone()));
    llm.ready().await.unwrap();
    assert_eq!(strict.polled_ready(), 0);
    let mut clone = llm.clone();
    // `Strict` panics on a call without a readiness of its own.
    clone.call(asked()).await.unwrap_err();
    llm.call(asked()).await.unwrap_err();
    assert_eq!((strict.calls(), strict.polled_ready()), (4, 16));
}

#[tokio::test(start_paused = true)]
async fn a_failed_readiness_is_the_calls_error() {
    let strict = Strict::new().fails_readiness(1);
    let mut llm = ValidateLayer::new().layer(Says::new([GOOD]).over(strict));
    assert_eq!(llm.call(asked()).await.unwrap_err().kind(), ErrorKind::Other);
    llm.call(asked()).await.unwrap();
}

/// A schema that takes long to compile, whose answers take long to check.
fn long_schema() -> OutputSchema {
    let some: Vec<_> = (0..1_000).map(|n| json!({ "const": { "nothing": n } })).collect();
    let ages = json!({ "anyOf": [{ "type": "integer" }, { "allOf": [{ "type": "array" }, { "anyOf": some }] }] });
    let schema = json!({ "type": "object", "properties": { "age": ages }, "required": ["age"] });
    OutputSchema { schema: Some(schema.into()), ..output() }
}

#[tokio::test(start_paused = true)]
async fn a_long_compilation_and_a_long_check_hold_no_thread_that_serves() {
    let long = |age: &str| format!("{{\"age\": {age}, \"text\": \"{}\"}}", "x".repeat(10_000));
    let (wrong, right) = (long("\"x\""), long("36"));
    let mut chat = asked_of([Message::user("how old?")]);
    chat.output = Some(long_schema());
    for (reasks, streams) in [(0, false), (1, false), (0, true), (1, true)] {
        let says = Says::new([wrong.as_str(), &right]);
        let says = if streams { says.streams() } else { says };
        let service = ValidateLayer::new().reasks(reasks).layer(says.clone());
        let mut future = Box::pin(service.oneshot(LlmRequest::from(chat.clone()).with_stream(streams)));
        assert!(futures_util::poll!(&mut future).is_pending());
        assert_eq!(says.strict.calls(), 0, "nothing is asked before the schema is known to be one");
        let answered = future.await;
        match reasks {
            0 => assert_eq!(answered.unwrap_err().kind(), ErrorKind::InvalidOutput),
            _ => assert_eq!(answered.unwrap().text().await.unwrap(), right),
        }
        assert_eq!(says.strict.calls(), 1 + usize::from(reasks));
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_schema_that_is_none_is_refused_before_anything_is_sent() {
    let says = Says::new([GOOD]);
    let mut chat = asked_of([Message::user("how old?")]);
    let schema = json!({ "type": 7, "description": "x".repeat(10_000) });
    chat.output = Some(OutputSchema { schema: Some(schema.into()), ..output() });
    let error = ValidateLayer::new().layer(says.clone()).oneshot(LlmRequest::from(chat)).await.unwrap_err();
    assert_eq!((error.kind(), says.strict.calls()), (ErrorKind::InvalidRequest, 0));
}

#[tokio::test(start_paused = true)]
async fn a_long_compilation_is_dropped_and_ends_at_the_deadline() {
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let handle = bulkhead.handle();
    let says = Says::new([GOOD]);
    let service = bulkhead.layer(ValidateLayer::new().layer(says.clone()));
    let mut chat = asked_of([Message::user("how old?")]);
    chat.output = Some(long_schema());
    let request = LlmRequest::from(chat).with_feature("chat");
    let mut dropped = Box::pin(service.clone().oneshot(request.clone()));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    assert_eq!(handle.in_flight("chat"), 1);
    drop(dropped);
    assert_eq!(handle.in_flight("chat"), 0);

    let late = service.oneshot(request.with_timeout(Duration::ZERO)).await.unwrap_err();
    assert_eq!((late.kind(), says.strict.calls()), (ErrorKind::Deadline, 0));
}

#[test]
fn its_types_are_what_a_stack_needs() {
    fn assert_parts<T: Send + Sync + Clone + std::fmt::Debug + 'static>(_: &T) {}
    fn assert_future<T: Send + 'static>(_: T) {}
    assert_parts(&ValidateLayer::new());
    let mut llm = ValidateLayer::new().layer(Canned::text(GOOD));
    assert_parts(&llm);
    assert_future(llm.call(asked()));
}
