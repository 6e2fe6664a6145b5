//! Tests that callers get their own answers, whatever the mirror does.

use super::*;
use crate::{BulkheadLayer, RetryBudget, RetryWithJitterLayer, TimeoutLayer, providers::Canned};
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceBuilder};

#[tokio::test(start_paused = true)]
async fn the_copy_has_a_context_of_its_own_and_no_idempotency_key() {
    let (primary, candidate) = (Strict::new(), Strict::new());
    let (layer, _, handle) = mirror(candidate.clone());
    let request = prompt()
        .with_idempotency_key("k")
        .with_timeout(SECOND)
        .with_max_attempts(3)
        .with_worst_level(2)
        .with_extension(7u8);
    let mut llm = layer.layer(primary.clone());
    llm.ready().await.unwrap().call(request).await.unwrap();
    ended(&handle).await;
    let (seen, copy) = (primary.seen().remove(0), candidate.seen().remove(0));
    assert_eq!((seen.idempotency_key(), seen.context().attempts_left, seen.is_shadow()), (Some("k"), 3, false));
    assert_eq!(seen.context().time_left(Instant::now()).map(|left| left <= SECOND), Some(true));
    assert_eq!((copy.idempotency_key(), copy.context().attempts_left, copy.is_shadow()), (None, 9, true));
    assert!(copy.context().time_left(Instant::now()) > Some(SECOND * 50), "at least a minute");
    assert_eq!((copy.feature(), copy.session()), (Some("chat"), Some("s")));
    assert_eq!((copy.extensions().get::<u8>(), copy.chat().unwrap()), (Some(&7), seen.chat().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn no_caller_waits_for_a_candidate_that_is_slow_unready_or_hangs() {
    let slow = Strict::new().takes(SECOND * 50).pending(3);
    let hangs = provider_fn(|_| std::future::pending::<Result<LlmResponse, LlmError>>());
    async fn takes(candidate: impl Llm) -> (Duration, String, Comparison) {
        let (layer, told, handle) = mirror(candidate);
        let begun = Instant::now();
        let llm = layer.layer(Strict::new().takes(SECOND));
        let answer = llm.oneshot(prompt()).await.unwrap().text().await.unwrap();
        (begun.elapsed(), answer, told.one(&handle).await)
    }
    let (took, answer, one) = takes(slow).await;
    assert_eq!((took, answer.as_str(), one.candidate.took), (SECOND, "hello", SECOND * 50));
    let (took, answer, one) = takes(hangs).await;
    assert_eq!((took, answer.as_str(), one.candidate.took), (SECOND, "hello", SECOND * 60));
    assert_eq!(one.candidate.outcome, RequestOutcome::Failed(ErrorKind::Timeout));
}

#[tokio::test(start_paused = true)]
async fn a_stream_passes_frame_by_frame_as_it_comes() {
    let (layer, _told, handle) = mirror(Canned::text("hello"));
    let leaf = streams(SECOND, SECOND, hello());
    let read = async |llm: crate::BoxLlmService| {
        let begun = Instant::now();
        let mut response = llm.oneshot(prompt()).await.unwrap();
        let mut frames = vec![(begun.elapsed(), format!("{:?}", response.served_by()), Vec::new())];
        while let Some(frame) = response.body_mut().frame().await {
            frames.push((begun.elapsed(), String::new(), frame.unwrap().events().to_vec()));
        }
        (frames, response.usage(), response.cost())
    };
    let plain = read(tower::util::BoxCloneSyncService::new(leaf.clone())).await;
    let mirrored = read(tower::util::BoxCloneSyncService::new(layer.layer(leaf))).await;
    assert_eq!(plain, mirrored);
    ended(&handle).await;
    assert_eq!(handle.stats().compared, 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_before_the_response_takes_only_the_own_call_along() {
    let (primary, candidate) = (Strict::new().takes(SECOND * 60), Strict::new().takes(SECOND * 10));
    let (layer, told, handle) = mirror(candidate.clone());
    let mut llm = layer.layer(primary.clone());
    let mut call = task::spawn(llm.ready().await.unwrap().call(prompt()));
    assert_pending!(call.poll());
    sleep(SECOND * 2).await;
    assert_eq!((primary.running(), candidate.running()), (1, 1));
    drop(call);
    assert_eq!((primary.running(), candidate.running()), (0, 1));
    let one = told.one(&handle).await;
    assert_eq!((one.primary.outcome, one.primary.took), (RequestOutcome::Abandoned, SECOND * 2));
    assert_eq!((one.primary.first_token, one.candidate.outcome), (None, RequestOutcome::Answered));
    // A call that was never polled was made all the same.
    drop(llm.call(prompt()));
    ended(&handle).await;
    assert_eq!((told.all().len(), candidate.calls()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_half_read_is_told_as_left_with_what_was_read() {
    let (layer, told, handle) = mirror(Canned::text("hello"));
    let layer = layer.keep_texts(true);
    let mut response = layer.layer(streams(SECOND, SECOND, hello())).oneshot(prompt()).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    let one = told.one(&handle).await;
    assert_eq!((one.primary.outcome, one.primary.characters), (RequestOutcome::Abandoned, 3));
    assert_eq!((one.primary.first_token, one.primary.took), (Some(SECOND), SECOND * 2));
    assert_eq!(one.texts.unwrap().primary.unwrap().text(), "hel");
    assert_eq!(one.agrees, None);
}

#[tokio::test(start_paused = true)]
async fn a_silence_that_a_layer_further_out_ends_is_told_as_what_it_is() {
    let (layer, told, handle) = mirror(Canned::text("hello"));
    let timeout = TimeoutLayer::new(SECOND * 30).idle(SECOND * 5);
    let silent = streams(SECOND, SECOND * 20, hello());
    let mut response = timeout.layer(layer.layer(silent)).oneshot(prompt()).await.unwrap();
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    let one = told.one(&handle).await;
    assert_eq!(one.primary.outcome, RequestOutcome::Broken(ErrorKind::Timeout));
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn the_candidate_takes_no_place_attempt_or_retry_of_the_callers_stack() {
    let bulkhead = BulkheadLayer::new().feature("chat", 1).queue(0);
    let places = bulkhead.handle();
    let budget = RetryBudget::new();
    let left = budget.available();
    let candidate = Strict::new().takes(SECOND * 10).fails(1, LlmError::new(ErrorKind::Server, "down"));
    let (layer, told, handle) = mirror(candidate.clone());
    let llm = ServiceBuilder::new()
        .layer(bulkhead)
        .layer(layer)
        .layer(RetryWithJitterLayer::new().budget(budget.clone()).seed(1))
        .service(Canned::text("hello"));
    for _ in 0..5 {
        llm.clone().oneshot(prompt()).await.unwrap();
        assert_eq!(places.in_flight("chat"), 0);
    }
    assert!(budget.available() >= left, "no retry was taken out");
    ended(&handle).await;
    assert_eq!((told.all().len(), candidate.calls()), (5, 5), "one failure of the candidate is one attempt");
}

#[tokio::test(start_paused = true)]
async fn clones_that_are_not_ready_and_many_tasks_each_have_their_own_answer() {
    let primary = Strict::new().pending(3).takes(SECOND);
    let candidate = Strict::new().pending(2).takes(SECOND * 2).fails_readiness(5);
    let (layer, told, handle) = mirror(candidate);
    let llm = layer.max_in_flight(1000).layer(primary.clone());
    let tasks = (0..200).map(|_| {
        let mut llm = llm.clone();
        tokio::spawn(async move {
            drop(llm.clone());
            llm.ready().await.unwrap().call(prompt()).await.unwrap().text().await.unwrap()
        })
    });
    for answer in futures_util::future::join_all(tasks).await {
        assert_eq!(answer.unwrap(), "hello");
    }
    ended(&handle).await;
    let all = told.all();
    let failed = all.iter().filter(|one| one.candidate.outcome != RequestOutcome::Answered).count();
    assert_eq!((all.len(), failed, primary.running()), (200, 5, 0));
}

#[test]
fn outside_of_a_runtime_nothing_is_mirrored_and_callers_are_answered() {
    let (layer, told, handle) = mirror(Canned::text("hello"));
    let llm = layer.layer(Canned::text("hello"));
    let mut call = task::spawn(async move { llm.oneshot(prompt()).await?.text().await });
    let std::task::Poll::Ready(answer) = call.poll() else { panic!("a canned text waits for nothing") };
    assert_eq!(answer.unwrap(), "hello");
    assert_eq!((handle.stats().without_runtime, handle.under_way(), told.all().len()), (1, 0, 0));
}

#[test]
fn a_runtime_that_goes_away_takes_the_mirrored_requests_along() {
    let (layer, _told, handle) = mirror(Strict::new().takes(SECOND * 60));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        layer.layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(handle.under_way(), 1);
    });
    drop(runtime);
    assert_eq!(handle.under_way(), 0);
}

#[tokio::test]
async fn a_request_that_is_not_chosen_costs_no_allocation() {
    #[derive(Clone)]
    struct Ready;
    impl Service<LlmRequest> for Ready {
        type Response = LlmResponse;
        type Error = LlmError;
        type Future = std::future::Ready<Result<LlmResponse, LlmError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), LlmError>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: LlmRequest) -> Self::Future {
            std::future::ready(Ok(LlmResponse::from_text("hello")))
        }
    }
    let layers = [
        MirrorLayer::new(Ready).share(1e-12),
        MirrorLayer::new(Ready).share(1e-12).seed(1),
        MirrorLayer::new(Ready).share(1e-12).by_session(),
        MirrorLayer::new(Ready).share(1.0).only(|_| false),
        MirrorLayer::new(Ready).share(0.0),
    ];
    for layer in layers {
        let mut llm = layer.layer(Ready);
        let mut requests: Vec<LlmRequest> = (0..100).map(|_| prompt()).collect();
        // Allocations that each thread makes once.
        llm.call(prompt()).await.unwrap();
        let mut run = |request| {
            let mut call = std::pin::pin!(llm.call(request));
            let waker = std::task::Waker::noop();
            assert!(call.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready());
        };
        let measured = allocation_counter::measure(|| requests.drain(..).for_each(&mut run));
        assert_eq!(measured.count_total, 0, "{layer:?}");
        assert_eq!(layer.handle().stats(), Default::default());
    }
}
