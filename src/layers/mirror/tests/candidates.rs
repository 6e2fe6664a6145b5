//! Tests that a candidate's failures stay in its own task.

use super::*;
use crate::{
    BudgetLayer, CircuitBreakerLayer,
    layers::budget::{Cap, Period},
    prices::{Price, PriceTable, Usd},
    providers::Canned,
};
use tower::Layer;

/// Sends one request beside this candidate, and returns the caller's answer and the comparison.
async fn beside(candidate: impl Llm, change: impl Fn(MirrorLayer) -> MirrorLayer) -> Comparison {
    let (layer, told, handle) = mirror(candidate);
    let begun = Instant::now();
    let response = change(layer).layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    told.one(&handle).await
}

#[tokio::test(start_paused = true)]
async fn errors_and_breaks_are_told_and_reach_nobody() {
    let down = LlmError::new(ErrorKind::Server, "down").with_model("openai", "gpt-4o");
    let one = beside(Strict::new().fails(1, down.clone()), |layer| layer).await;
    assert_eq!(one.candidate.outcome, RequestOutcome::Failed(ErrorKind::Server));
    assert_eq!((one.candidate.model.as_deref(), one.candidate.attempts), (Some("gpt-4o"), 1));

    let breaks = streams(SECOND, SECOND, vec![Ok(Frame::text("hel")), Err(down)]);
    let one = beside(breaks, |layer| layer).await;
    assert_eq!((one.candidate.outcome, one.candidate.took), (RequestOutcome::Broken(ErrorKind::Server), SECOND * 3));
}

/// A candidate that panics when it is cloned for a call, called, polled or read.
#[derive(Debug)]
struct Panics(&'static str);

impl Clone for Panics {
    fn clone(&self) -> Self {
        assert_ne!(self.0, "clone", "a candidate's own bug");
        Self(self.0)
    }
}

impl Service<LlmRequest> for Panics {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), LlmError>> {
        assert_ne!(self.0, "readiness", "a candidate's own bug");
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        let place = self.0;
        assert_ne!(place, "call", "a candidate's own bug");
        Box::pin(async move {
            assert_ne!(place, "future", "a candidate's own bug");
            let frames = stream::poll_fn(|_| -> std::task::Poll<Option<Result<Frame, LlmError>>> {
                panic!("a candidate's own bug")
            });
            Ok(LlmResponse::new(LlmBody::from_frames(frames)))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_told_as_a_failure_wherever_it_is() {
    for place in ["clone", "readiness", "call", "future", "body"] {
        let one = beside(Panics(place), |layer| layer).await;
        assert_eq!(one.candidate.outcome, RequestOutcome::Failed(ErrorKind::Other), "{place}");
        assert_eq!((one.primary.outcome, one.agrees), (RequestOutcome::Answered, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_or_measure_that_panics_harms_nobody() {
    let with = [
        MirrorLayer::new(Canned::text("hello")).compare(|_| panic!("a sink's own bug")),
        MirrorLayer::new(Canned::text("hello")).measure(|_, _| panic!("a measure's own bug")),
    ];
    for layer in with {
        let (llm, handle) = (layer.clone().share(1.0).layer(Canned::text("hello")), layer.handle());
        for _ in 0..20 {
            assert_eq!(llm.clone().oneshot(prompt()).await.unwrap().text().await.unwrap(), "hello");
            ended(&handle).await;
        }
        assert_eq!((handle.stats().panicked, handle.stats().compared), (20, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_hangs_or_trickles_ends_with_its_timeout() {
    let leaf = Strict::new().takes(SECOND * 1000);
    let one = beside(leaf.clone(), |layer| layer.timeout(SECOND * 5)).await;
    assert_eq!((one.candidate.outcome, one.candidate.took), (RequestOutcome::Failed(ErrorKind::Timeout), SECOND * 5));
    assert_eq!(leaf.running(), 0, "its call was dropped");

    let pings = (0..100).map(|_| Ok(Frame::event(StreamEvent::KeepAlive))).collect();
    let one = beside(streams(SECOND, SECOND, pings), |layer| layer.timeout(SECOND * 5)).await;
    assert_eq!((one.candidate.outcome, one.candidate.took), (RequestOutcome::Broken(ErrorKind::Timeout), SECOND * 5));
    assert_eq!(one.candidate.first_token, Some(SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_request_with_more_time_gives_the_candidate_as_much() {
    let (layer, told, handle) = mirror(Strict::new().takes(SECOND * 1000));
    layer.layer(Canned::text("hello")).oneshot(prompt().with_timeout(SECOND * 300)).await.unwrap();
    assert_eq!(told.one(&handle).await.candidate.took, SECOND * 300);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_read_no_further_than_is_kept_and_lets_others_run() {
    for frame in [Frame::text("x".repeat(100)), Frame::event(StreamEvent::KeepAlive), Frame::events_of(vec![])] {
        let read = Arc::new(Mutex::new(0));
        let counted = read.clone();
        let floods = provider_fn(move |_| {
            let (frame, counted) = (frame.clone(), counted.clone());
            let frames = stream::repeat_with(move || {
                *counted.lock().unwrap() += 1;
                Ok(frame.clone())
            });
            async move { Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))) }
        })
        .inner_commits();
        let (layer, told, handle) = mirror(floods);
        let layer = layer.max_answer(100_000);
        layer.layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
        let mut turns = 0;
        while handle.under_way() > 0 {
            tokio::task::yield_now().await;
            turns += 1;
        }
        let one = told.one(&handle).await;
        assert_eq!((one.candidate.outcome, one.similarity), (RequestOutcome::Abandoned, None));
        assert!(*read.lock().unwrap() <= 100_001, "{}", read.lock().unwrap());
        assert!(turns > 10, "{turns}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_primary_larger_than_is_kept_is_compared_by_all_but_its_words() {
    let (layer, told, handle) = mirror(Canned::text("hello"));
    let frames = vec![Ok(Frame::text("x".repeat(1000))), Ok(Frame::text("y".repeat(1000))), end()];
    let llm = layer.keep_texts(true).max_answer(1500).layer(streams(SECOND, SECOND, frames));
    assert_eq!(llm.oneshot(prompt()).await.unwrap().text().await.unwrap().len(), 2000);
    let one = told.one(&handle).await;
    assert_eq!((one.primary.outcome, one.primary.characters), (RequestOutcome::Answered, 2000));
    assert_eq!((one.similarity, one.texts.unwrap().primary), (None, None));
    assert_eq!(one.primary.cost, Usd::from_dollars(4.5));

    let (layer, told, handle) = mirror(Canned::text("hello"));
    layer.max_answer(4).layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
    let one = told.one(&handle).await;
    assert_eq!((one.primary.characters, one.candidate.characters, one.similarity), (5, 5, None));
}

#[tokio::test(start_paused = true)]
async fn what_the_candidates_own_layers_refuse_is_counted_and_not_compared() {
    let down = LlmError::new(ErrorKind::Server, "down");
    let leaf = Strict::new().fails(100, down);
    let circuit = CircuitBreakerLayer::new("candidate").consecutive_failures(3);
    let (layer, told, handle) = mirror(circuit.layer(leaf.clone()));
    let events = Events::new();
    let mut heard = events.subscribe();
    let llm = layer.events(events).layer(Canned::text("hello"));
    for _ in 0..10 {
        llm.clone().oneshot(prompt()).await.unwrap();
        ended(&handle).await;
    }
    assert_eq!((leaf.calls(), told.all().len()), (3, 3));
    assert_eq!((handle.stats().mirrored, handle.stats().compared, handle.stats().refused), (10, 3, 7));
    assert_eq!(not_compared(&mut heard), [ComparisonSkipReason::Refused; 7]);
}

#[tokio::test(start_paused = true)]
async fn a_budget_around_the_candidate_caps_what_it_costs() {
    let prices = PriceTable::empty().with("candidate", Price::dollars(1000.0, 1000.0).unwrap());
    let cap = Cap::new("mirror", Usd::from_dollars(3.0).unwrap(), Period::Day);
    let budget = BudgetLayer::new(prices).cap(cap).model(None, "candidate").default_output(1000);
    let spent = budget.handle();
    let leaf = provider_fn(|_| async {
        let mut message = crate::chat::Message::assistant("hello");
        message.usage = Some(Usage::new(0, 1000));
        Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("own", "candidate"))
    });
    let (layer, told, handle) = mirror(budget.layer(leaf));
    let llm = layer.layer(Canned::text("hello"));
    for _ in 0..10 {
        llm.clone().oneshot(prompt()).await.unwrap();
        ended(&handle).await;
    }
    assert_eq!((told.all().len(), handle.stats().refused), (3, 7));
    assert_eq!(spent.spent("mirror"), Usd::from_dollars(3.0).unwrap());
}
