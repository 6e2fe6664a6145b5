use std::{sync::Arc, time::Duration};

use futures_util::stream;
use http::StatusCode;
use tokio::{sync::broadcast::Receiver, time::Instant};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use super::ObserveLayer;
use crate::{
    BoxLlmService, Degradation, DegradedReason, ErrorKind, Event, Events, FallbackLayer, Frame, LlmBody, LlmError,
    LlmRequest, LlmResponse, Progress, RetryWithJitterLayer, StreamEvent, TimeoutLayer,
    chat::{FinishReason, Message, Usage},
    events::{Account, Accountant, RequestEnded, RequestOutcome},
    layers::{
        route::{RouteLayer, Rule},
        testing::Strict,
    },
    prices::{Price, PriceTable, Usd},
    provider_fn,
    request::BudgetKey,
};

const SECOND: Duration = Duration::from_secs(1);

fn observed() -> (ObserveLayer, Receiver<Event>) {
    let events = Events::new();
    let heard = events.subscribe();
    (ObserveLayer::new(events), heard)
}

/// Returns the one request that was reported since the last call.
fn told(heard: &mut Receiver<Event>) -> RequestEnded {
    let Ok(Event::RequestEnded(ended)) = heard.try_recv() else { panic!("no request was told") };
    assert!(heard.try_recv().is_err(), "it was told more than once");
    ended
}

fn prompt() -> LlmRequest {
    LlmRequest::prompt("hello").with_feature("chat")
}

/// A leaf that begins a stream after a second and gives each of these a second after the one before.
fn streams(
    frames: Vec<Result<Frame, LlmError>>,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    let frames = Arc::new(frames);
    provider_fn(move |_| {
        let frames = frames.clone();
        async move {
            tokio::time::sleep(SECOND).await;
            let frames = stream::unfold(0, move |at| {
                let frame = frames.get(at).cloned();
                async move {
                    tokio::time::sleep(SECOND).await;
                    frame.map(|frame| (frame, at + 1))
                }
            });
            let body = LlmBody::from_frames(Box::pin(frames));
            Ok::<_, LlmError>(LlmResponse::new(body).with_model("anthropic", "claude-sonnet-4-5"))
        }
    })
    .inner_commits()
}

fn end() -> Result<Frame, LlmError> {
    let usage = StreamEvent::Usage(Usage::new(1_000_000, 100_000));
    Ok(Frame::events_of(vec![usage, StreamEvent::Finish(FinishReason::Stop), StreamEvent::End]))
}

#[tokio::test(start_paused = true)]
async fn a_complete_answer_is_told_with_its_response() {
    let (layer, mut heard) = observed();
    let fixed = Degradation::new(5, DegradedReason::Order);
    let mut message = Message::assistant("hello");
    message.usage = Some(Usage::new(1000, 200));
    let leaf = provider_fn(move |_| {
        let response = LlmResponse::from_message(message.clone()).with_model("openai", "gpt-4o").with_degraded(fixed);
        async move {
            tokio::time::sleep(SECOND * 2).await;
            Ok::<_, LlmError>(response)
        }
    });
    let _response = layer.layer(FallbackLayer::new("gpt").layer(leaf)).oneshot(prompt()).await.unwrap();
    let ended = told(&mut heard);
    assert_eq!((ended.outcome, ended.stream, ended.degraded), (RequestOutcome::Answered, false, Some(fixed)));
    let who = [&ended.feature, &ended.tier, &ended.provider, &ended.model].map(|name| name.as_deref().unwrap());
    assert_eq!(who, ["chat", "gpt", "openai", "gpt-4o"]);
    assert_eq!([ended.first_token, ended.served_in, ended.took], [SECOND * 2; 3]);
    assert_eq!((ended.failures.clone(), ended.attempts(), ended.at), (None, 1, Instant::now()));
    assert_eq!((ended.usage, ended.cost), (Some(Usage::new(1000, 200)), Usd::from_dollars(0.0045)));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_told_with_its_id_the_status_of_its_caller_and_its_task() {
    fn status(error: &LlmError) -> StatusCode {
        StatusCode::from_u16(if error.kind() == ErrorKind::Overloaded { 529 } else { 500 }).unwrap()
    }
    let (layer, mut heard) = observed();
    let named = || prompt().with_id("r-7").with_status_of(status);
    let seen = |heard: &mut Receiver<Event>| {
        let RequestEnded { request_id, status, task, .. } = told(heard);
        (request_id.as_deref().map(str::to_owned), status.map(|status| status.as_u16()), task.as_deref().cloned())
    };
    let id = Some("r-7".to_owned());
    let people =
        provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("Somebody will.").with_task_id("task_1")) });
    let _response = layer.clone().layer(people).oneshot(named()).await.unwrap();
    assert_eq!(seen(&mut heard), (id.clone(), Some(200), Some("task_1".to_owned())));
    let _response = layer.clone().layer(people).oneshot(prompt()).await.unwrap();
    assert_eq!(seen(&mut heard), (None, None, Some("task_1".to_owned())));
    for (kind, wanted) in [(ErrorKind::Overloaded, 529), (ErrorKind::Connect, 500)] {
        let fails = provider_fn(move |_| async move { Err::<LlmResponse, _>(LlmError::new(kind, "no")) });
        layer.clone().layer(fails).oneshot(named()).await.unwrap_err();
        assert_eq!(seen(&mut heard), (id.clone(), Some(wanted), None));
    }
    // A head that has gone out says 200, and no later failure changes it.
    let broken = streams(vec![Ok(Frame::text("a")), Err(LlmError::new(ErrorKind::StreamBroken, "cut"))]);
    let mut response = layer.layer(broken).oneshot(named()).await.unwrap();
    while response.body_mut().frame().await.is_some() {}
    assert_eq!(seen(&mut heard), (id, Some(200), None));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_told_when_its_body_ends() {
    let (layer, mut heard) = observed();
    let llm = layer.prices(PriceTable::empty().with("claude-sonnet-4-5", Price::dollars(3.0, 15.0).unwrap()));
    let mut response = llm.layer(streams(vec![Ok(Frame::text("a")), end()])).oneshot(prompt()).await.unwrap();
    assert!(heard.try_recv().is_err());
    while response.body_mut().frame().await.is_some() {}
    let ended = told(&mut heard);
    assert_eq!((ended.outcome, ended.stream), (RequestOutcome::Answered, true));
    assert_eq!((ended.first_token, ended.served_in, ended.took), (SECOND, SECOND, SECOND * 3));
    assert_eq!((ended.usage, ended.cost), (Some(Usage::new(1_000_000, 100_000)), Usd::from_dollars(4.5)));
    drop(response);
    assert!(heard.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_told_as_broken() {
    let (layer, mut heard) = observed();
    let usage = StreamEvent::Usage(Usage::new(1_000_000, 0));
    let begins = Frame::events_of(vec![usage, StreamEvent::Text { index: 0, text: "a".into() }]);
    let llm = layer.layer(streams(vec![Ok(begins), Err(LlmError::new(ErrorKind::Overloaded, "down"))]));
    let mut response = llm.oneshot(prompt()).await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    assert!(response.body_mut().frame().await.unwrap().is_err());
    let ended = told(&mut heard);
    // The provider did not report the token of the one letter.
    let cost = Usd::from_dollars(3.000_015);
    assert_eq!((ended.outcome, ended.cost), (RequestOutcome::Broken(ErrorKind::Overloaded), cost));
    assert_eq!((ended.is_served(), ended.attempts(), ended.took), (true, 1, SECOND * 3));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_or_breaks_is_told_with_what_came() {
    let said = || Ok(Frame::text("word".repeat(100_000)));
    let usage = || Ok(Frame::event(StreamEvent::Usage(Usage::new(900_000, 1))));
    let cut = || Err(LlmError::new(ErrorKind::StreamBroken, "cut"));
    for (name, frames, input) in [
        ("told, left", vec![usage(), said(), end()], 900_000),
        ("silent, left", vec![said(), said(), end()], 1_000_000),
        ("told, broken", vec![usage(), said(), cut()], 900_000),
        ("silent, broken", vec![said(), cut()], 1_000_000),
    ] {
        let (layer, mut heard) = observed();
        let asked = LlmRequest::prompt("word".repeat(1_000_000));
        let breaks = frames.iter().any(Result::is_err);
        let came =
            frames.iter().filter_map(|frame| frame.as_ref().ok()).filter(|frame| frame.progress() == Progress::Content);
        let output = 100_000 * came.count() as u64;
        let reads = frames.len() - usize::from(!breaks);
        let mut response = layer.layer(streams(frames)).oneshot(asked).await.unwrap();
        for _ in 0..reads {
            let _ = response.body_mut().frame().await;
        }
        drop(response);
        let ended = told(&mut heard);
        assert_eq!(ended.usage, Some(Usage::new(input, output)), "{name}");
        assert_eq!(ended.cost, Usd::from_dollars(input as f64 * 3e-6 + output as f64 * 15e-6), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_is_told_as_abandoned() {
    let (layer, mut heard) = observed();
    let mut response = layer.layer(streams(vec![Ok(Frame::text("a")), end()])).oneshot(prompt()).await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    drop(response);
    let ended = told(&mut heard);
    assert_eq!((ended.outcome, ended.is_served(), ended.took), (RequestOutcome::Abandoned, true, SECOND * 2));
    assert_eq!(ended.model.as_deref(), Some("claude-sonnet-4-5"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_reported_as_a_failure_and_not_as_a_caller_that_left() {
    let (layer, mut heard) = observed();
    let leaf = provider_fn(async |_| -> Result<LlmResponse, LlmError> { panic!("a leaf's own bug") });
    let asking = layer.layer(leaf).oneshot(prompt().with_status_of(|_| StatusCode::INTERNAL_SERVER_ERROR));
    let panicked = tokio::spawn(asking).await.expect_err("panicked");
    assert!(panicked.is_panic());
    let ended = told(&mut heard);
    assert_eq!(ended.outcome, RequestOutcome::Failed(ErrorKind::Other));
    assert_eq!((ended.status, ended.is_served()), (Some(StatusCode::INTERNAL_SERVER_ERROR), false));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_is_told_as_abandoned() {
    let (layer, mut heard) = observed();
    let leaf = Strict::new().takes(SECOND * 60);
    let mut llm = layer.layer(leaf.clone());
    let mut call = task::spawn(llm.ready().await.unwrap().call(prompt()));
    assert_pending!(call.poll());
    tokio::time::advance(SECOND * 5).await;
    drop(call);
    let ended = told(&mut heard);
    assert_eq!((ended.outcome, ended.is_served(), ended.took), (RequestOutcome::Abandoned, false, SECOND * 5));
    assert_eq!((ended.feature.as_deref(), ended.tier, leaf.running()), (Some("chat"), None, 0));
    // Even a call that was never polled counts: it was made.
    drop(llm.call(prompt()));
    assert_eq!(told(&mut heard).outcome, RequestOutcome::Abandoned);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_is_told_with_all_that_was_tried_and_no_word_of_it() {
    let (layer, mut heard) = observed();
    let leaf = Strict::new().fails(10, LlmError::new(ErrorKind::Server, "you said: hello"));
    let llm = ServiceBuilder::new().layer(layer).layer(RetryWithJitterLayer::new().seed(1)).service(leaf.clone());
    let error = llm.oneshot(prompt()).await.unwrap_err();
    let ended = told(&mut heard);
    assert_eq!((ended.outcome, ended.attempts()), (RequestOutcome::Failed(ErrorKind::Server), 3));
    let failures = ended.failures.as_deref().unwrap();
    assert!(failures.iter().all(|failure| failure.message == ""), "{failures:?}");
    assert_eq!(failures.len(), error.attempts().len());
    assert_ne!(error.attempts()[0].message, "", "the caller is told");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_no_layer_has_recorded_is_an_attempt_all_the_same() {
    let (layer, mut heard) = observed();
    let leaf = Strict::new().takes(SECOND).fails(1, LlmError::new(ErrorKind::Connect, ""));
    let error = layer.layer(leaf).oneshot(prompt()).await.unwrap_err();
    let ended = told(&mut heard);
    assert_eq!((error.attempts().len(), ended.attempts(), ended.failures.unwrap()[0].took), (1, 1, SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_latency_of_the_tier_that_served_is_without_what_failed_before_and_the_wait() {
    let (layer, mut heard) = observed();
    let down = Strict::new().takes(SECOND).fails(10, LlmError::new(ErrorKind::Server, "down"));
    let backup = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().seed(3))
        .service(Strict::new().takes(SECOND * 3).fails(1, LlmError::new(ErrorKind::Overloaded, "busy")));
    let fallback = FallbackLayer::new("primary").tier("backup", backup);
    layer.layer(fallback.layer(down)).oneshot(prompt().explain()).await.unwrap();
    let ended = told(&mut heard);
    let failures = ended.failures.as_deref().unwrap();
    let tiers: Vec<_> = failures.iter().map(|failure| (failure.tier.as_deref().unwrap(), failure.failure)).collect();
    assert_eq!(tiers, [("primary", Some(ErrorKind::Server)), ("backup", Some(ErrorKind::Overloaded))]);
    // Timers fire on whole milliseconds.
    let rest = ended.served_in.saturating_sub(SECOND * 3);
    assert!(ended.attempts() == 3 && rest < Duration::from_millis(1), "{ended:?}");
    assert!(ended.took > SECOND * 7, "the wait before the retry counts here: {:?}", ended.took);
}

#[tokio::test(start_paused = true)]
async fn while_nobody_listens_nothing_is_told_nor_kept() {
    let events = Events::new();
    let mut llm = ObserveLayer::new(events.clone()).layer(streams(vec![Ok(Frame::text("a")), end()]));
    let response = llm.call(prompt()).await.unwrap();
    let mut heard = events.subscribe();
    drop(response);
    assert!(heard.try_recv().is_err(), "it began before");
    // If the last subscriber leaves while a stream is under way, the stream's slot is free again.
    let response = llm.call(prompt()).await.unwrap();
    assert!(format!("{:?}", llm.reporter.value()).contains("1 streams"));
    drop(heard);
    drop(response);
    assert!(format!("{:?}", llm.reporter.value()).contains("0 streams"));
}

#[tokio::test(start_paused = true)]
async fn the_rule_of_a_route_is_told() {
    let (layer, mut heard) = observed();
    let route = RouteLayer::new().rule(Rule::new("short").feature("chat"), Strict::new());
    layer.layer(route.layer(Strict::new())).oneshot(prompt()).await.unwrap();
    assert_eq!(told(&mut heard).route.as_deref(), Some("short"));
}

#[tokio::test(start_paused = true)]
async fn what_a_route_spared_is_told_of_answers_and_of_streams() {
    let (layer, mut heard) = observed();
    let prices = PriceTable::empty()
        .with("dear", Price::dollars(6.0, 30.0).unwrap())
        .with("claude-sonnet-4-5", Price::dollars(3.0, 15.0).unwrap());
    let rule = Rule::new("short").feature("chat");
    let route = RouteLayer::new().prices(prices.clone()).instead_of(None, "dear");
    let mut message = Message::assistant("hello");
    message.usage = Some(Usage::new(1_000_000, 100_000));
    let complete = provider_fn(move |_| {
        let response = LlmResponse::from_message(message.clone()).with_model("anthropic", "claude-sonnet-4-5");
        async move { Ok::<_, LlmError>(response) }
    });
    let layer = layer.prices(prices);
    let spared = |ended: RequestEnded| (ended.cost, ended.cost_without_route);
    let both = (Usd::from_dollars(4.5), Usd::from_dollars(9.0));

    let llm = layer.layer(route.clone().rule(rule.clone(), complete.clone()).layer(Strict::new()));
    llm.oneshot(prompt()).await.unwrap();
    assert_eq!(spared(told(&mut heard)), both);
    let llm = layer.layer(route.rule(rule, streams(vec![Ok(Frame::text("a")), end()])).layer(Strict::new()));
    let mut response = llm.oneshot(prompt()).await.unwrap();
    while response.body_mut().frame().await.is_some() {}
    assert_eq!(spared(told(&mut heard)), both);

    // Without a route there are no savings.
    layer.layer(complete).oneshot(prompt()).await.unwrap();
    assert_eq!(spared(told(&mut heard)), (Usd::from_dollars(4.5), None));
}

#[tokio::test(start_paused = true)]
async fn streams_that_end_in_any_order_are_told_each_with_its_own() {
    let (layer, mut heard) = observed();
    let llm = layer.layer(streams(vec![Ok(Frame::text("a")), end()]));
    let mut random = fastrand::Rng::with_seed(9);
    let (mut under_way, mut next) = (Vec::new(), 0);
    for _ in 0..400 {
        if under_way.is_empty() || random.bool() {
            let request = LlmRequest::prompt("hello").with_feature(format!("f{next}"));
            under_way.push((next, llm.clone().oneshot(request).await.unwrap()));
            next += 1;
        } else {
            let (number, response) = under_way.swap_remove(random.usize(..under_way.len()));
            drop(response);
            assert_eq!(told(&mut heard).feature.as_deref(), Some(format!("f{number}").as_str()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_a_layer_like_the_others() {
    let (layer, mut heard) = observed();
    // Pending, called from clones, and failing in its readiness.
    let leaf = Strict::new().pending(3).takes(SECOND);
    let mut llm = layer.layer(leaf.clone());
    llm.ready().await.unwrap();
    let mut clone = llm.clone();
    let (a, b) = tokio::join!(llm.call(prompt()), clone.call(prompt()));
    assert!(a.is_ok() && b.is_ok());
    assert!(heard.try_recv().is_ok() && heard.try_recv().is_ok());
    let mut failing = layer.layer(Strict::new().fails_readiness(1));
    assert!(failing.call(prompt()).await.is_err());
    assert_eq!(told(&mut heard).outcome, RequestOutcome::Failed(ErrorKind::Other));
    assert!(failing.call(prompt()).await.is_ok());
    // A failed future holds nothing, even while it is kept.
    let leaf = Strict::new().takes(SECOND * 60);
    let mut llm = layer.layer(TimeoutLayer::new(SECOND).layer(leaf.clone()));
    let mut call = std::pin::pin!(llm.call(prompt()));
    assert_eq!(call.as_mut().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(leaf.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_prompt() {
    let (layer, mut heard) = observed();
    let mut llm = layer.layer(Strict::new());
    let call = llm.call(LlmRequest::prompt("secret plans"));
    assert!(!format!("{call:?}").contains("secret"));
    call.await.unwrap();
    assert!(!format!("{llm:?} {layer:?} {:?}", told(&mut heard)).contains("secret"));
}

/// The accounts of requests, as an accountant keeps them.
#[derive(Debug, Default)]
struct Accounts(Ended);

type Ended = Arc<std::sync::Mutex<Vec<Option<RequestEnded>>>>;

#[derive(Debug)]
struct OneAccount {
    all: Ended,
    place: usize,
}

impl Accountant for Accounts {
    fn open(&self, _: &LlmRequest) -> Box<dyn Account> {
        let mut accounts = self.0.lock().unwrap();
        accounts.push(None);
        Box::new(OneAccount { all: self.0.clone(), place: accounts.len() - 1 })
    }
}

impl Account for OneAccount {
    fn close(self: Box<Self>, ended: &RequestEnded) {
        self.all.lock().unwrap()[self.place] = Some(ended.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn an_accountant_hears_each_begin_and_end_once_with_or_without_subscribers() {
    let usage = Usage::new(1_000_000, 100_000);
    let broken = || LlmError::new(ErrorKind::StreamBroken, "cut");
    let text = || Ok(Frame::event(StreamEvent::Text { index: 0, text: "hello".into() }));
    let whole = provider_fn(|_| async {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(1_000_000, 100_000));
        Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("anthropic", "claude-sonnet-4-5"))
    });
    let fails = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(ErrorKind::Overloaded, "busy")) });
    let panics = provider_fn(|request: LlmRequest| async move {
        assert!(request.is_shadow(), "as planned");
        Ok::<_, LlmError>(LlmResponse::from_text("never"))
    });
    let leaves = [
        BoxLlmService::new(whole),
        BoxLlmService::new(streams(vec![text(), end()])),
        BoxLlmService::new(streams(vec![text(), Err(broken())])),
        BoxLlmService::new(fails),
        BoxLlmService::new(panics),
    ];
    let answered = RequestOutcome::Answered;
    for is_followed in [false, true] {
        let events = Events::new();
        let heard = is_followed.then(|| events.subscribe());
        let accounts = Arc::new(Accounts::default());
        let layer = ObserveLayer::new(events).accountant(accounts.clone());
        let ask = |leaf: &BoxLlmService| {
            let asked = prompt().with_session("s-1").with_extension(BudgetKey::new("ci"));
            layer.layer(leaf.clone()).oneshot(asked)
        };
        for leaf in &leaves {
            let run = tokio::spawn(ask(leaf)).await;
            if let Ok(Ok(response)) = run {
                let _ = response.collect().await;
            }
        }
        // A caller who leaves before the answer, and one who leaves its stream.
        drop(tokio::time::timeout(SECOND / 2, ask(&leaves[1])).await);
        let mut left = ask(&leaves[1]).await.unwrap();
        left.body_mut().frame().await.unwrap().unwrap();
        drop(left);
        let told: Vec<_> = accounts.0.lock().unwrap().drain(..).map(|ended| ended.unwrap()).collect();
        let outcomes: Vec<_> = told.iter().map(|ended| ended.outcome).collect();
        let expected = [
            answered,
            answered,
            RequestOutcome::Broken(ErrorKind::StreamBroken),
            RequestOutcome::Failed(ErrorKind::Overloaded),
            RequestOutcome::Failed(ErrorKind::Other),
            RequestOutcome::Abandoned,
            RequestOutcome::Abandoned,
        ];
        assert_eq!(outcomes, expected);
        for ended in &told {
            let caller = ended.caller.as_ref().unwrap();
            assert_eq!((ended.key(), caller.session.as_deref()), (Some("ci"), Some("s-1")));
        }
        // By Anthropic's page: 3 dollars for a million tokens of input, 15 of output.
        let cost = Some(Usd::from_dollars(3.0 + 1.5).unwrap());
        assert_eq!([&told[0], &told[1]].map(|ended| (ended.usage, ended.cost)), [(Some(usage), cost); 2]);
        let same = heard.map(|mut heard| {
            std::iter::from_fn(|| heard.try_recv().ok())
                .map(|event| match event {
                    Event::RequestEnded(ended) => ended,
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        });
        assert!(same.is_none_or(|same| same == told), "subscribers hear the same");
    }
}
