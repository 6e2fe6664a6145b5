//! The healthy path of the five layers allocates nothing, watched or not.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::stream;
use steadfast::{
    BalanceLayer, BulkheadLayer, CircuitBreakerLayer, Events, FallbackLayer, Frame, HedgeLayer, LlmBody, LlmError,
    LlmRequest, LlmResponse, ObserveLayer, RetryWithJitterLayer, StreamEvent, TimeoutLayer,
    chat::{FinishReason, Message, Usage},
    events::Subscriber,
    layers::balance::{Deployment, Deployments},
    provider_fn,
    providers::Canned,
};
use steadfast_subscribers::StatusBoard;
use tower::{Layer, Service, ServiceBuilder};

/// The five layers, in the recommended order.
fn five<S>(leaf: S) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone,
{
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(90)))
        .layer(BulkheadLayer::new().feature("chat", 20).feature("summary", 10).feature("background", 5))
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("sonnet"))
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .service(leaf)
}

/// Returns the number of allocations of one call, after a first that may warm up whatever is made once.
fn allocations<S>(llm: &mut S, request: &LlmRequest, read: impl Fn(LlmResponse)) -> u64
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    let mut call = || {
        let mut context = Context::from_waker(Waker::noop());
        assert!(llm.poll_ready(&mut context).is_ready());
        let mut future = pin!(llm.call(request.clone()));
        loop {
            if let Poll::Ready(response) = future.as_mut().poll(&mut context) {
                return read(response.unwrap());
            }
        }
    };
    call();
    allocation_counter::measure(call).count_total
}

#[tokio::test]
async fn five_layers_add_no_allocation_to_a_ready_service() {
    let mut llm = five(provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello")))));
    let request = LlmRequest::prompt("hello").with_feature("chat");
    assert_eq!(allocations(&mut llm, &request, drop), 0);
}

#[tokio::test]
async fn five_layers_add_no_allocation_to_a_service_that_is_pending_once() {
    let mut llm = five(provider_fn(|_| async {
        tokio::task::yield_now().await;
        Ok::<_, LlmError>(LlmResponse::from_text("hello"))
    }));
    let request = LlmRequest::prompt("hello").with_feature("chat");
    assert_eq!(allocations(&mut llm, &request, drop), 0);
}

#[tokio::test]
async fn a_hedge_adds_no_allocation_to_a_call_that_is_in_time() {
    let request = LlmRequest::prompt("hello").with_feature("chat");
    let leaf = |pending: bool| {
        provider_fn(move |_| async move {
            if pending {
                tokio::task::yield_now().await;
            }
            Ok::<_, LlmError>(LlmResponse::from_text("hello"))
        })
    };
    for pending in [false, true] {
        for hedge in [HedgeLayer::new("sonnet"), HedgeLayer::new("sonnet").tier("canned", Canned::text("later"))] {
            let handle = hedge.handle();
            // With a timer of its own, and with that of the limit around it.
            let mut alone = hedge.layer(leaf(pending));
            let mut limited = TimeoutLayer::new(Duration::from_secs(30)).layer(hedge.layer(leaf(pending)));
            // Also once it has found out what is late, and whenever it works that out anew.
            for _ in 0..50 {
                assert_eq!(allocations(&mut alone, &request, drop), 0);
                assert_eq!(allocations(&mut limited, &request, drop), 0);
            }
            assert!(handle.delay(false).is_some() && handle.stats().sent == 0);
        }
    }
}

/// On paused time all are as quick: on a busy machine a slow one would lose its sessions, and the memory of those that
/// move is made with the first.
#[tokio::test(start_paused = true)]
async fn a_choice_among_two_or_a_thousand_deployments_adds_no_allocation() {
    let leaf = provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))));
    let plain = LlmRequest::prompt("hello");
    for many in [2, 10, 100, 1000] {
        let named = (0..many).map(|nth| Deployment::new(format!("d{nth}"), leaf));
        let mut llm = BalanceLayer::new().layer(Deployments::new(named).unwrap());
        assert_eq!(allocations(&mut llm, &plain, drop), 0, "{many}");
        let affine = plain.clone().with_session("talk");
        assert_eq!(allocations(&mut llm, &affine, drop), 0, "{many}");
        // One that had to move is remembered.
        let home = llm.clone().call(affine.clone()).await.unwrap().served_by().deployment.unwrap().to_owned();
        assert!(llm.handle().drain(&home));
        assert_eq!(allocations(&mut llm, &affine, drop), 0, "{many}");
    }
}

/// A leaf whose answers are streams.
fn streams() -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone {
    provider_fn(|_| {
        let end = [StreamEvent::Usage(Usage::new(9, 9)), StreamEvent::Finish(FinishReason::Stop), StreamEvent::End];
        let frames = [Ok(Frame::text("hello"))].into_iter().chain(end.map(|event| Ok(Frame::event(event))));
        let response = LlmResponse::new(LlmBody::from_frames(stream::iter(frames)));
        std::future::ready(Ok::<_, LlmError>(response))
    })
}

/// Reads a body to its end.
fn read(mut response: LlmResponse) {
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = response.body_mut().poll_frame(&mut context) {
        frame.unwrap();
    }
}

#[tokio::test]
async fn five_layers_add_no_allocation_to_a_stream() {
    let request = LlmRequest::prompt("hello").with_feature("chat").with_stream(true);
    let bare = allocations(&mut streams(), &request, read);
    assert!(bare > 0, "a stream is boxed by its leaf");
    assert_eq!(allocations(&mut five(streams()), &request, read), bare);
}

/// Whoever listens, and however far behind: the channel is written over.
const LAPS: usize = 10_000;

#[tokio::test]
async fn to_watch_the_five_layers_adds_no_allocation() {
    let (events, board) = (Events::new(), StatusBoard::new("sonnet"));
    let (_never_reads, mut heard) = (events.subscribe(), events.subscribe());
    let _subscription = events.follow(board.clone());
    let observe = ObserveLayer::new(events.clone());

    let leaf = provider_fn(|_| {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(9, 9));
        let response = LlmResponse::from_message(message).with_model("anthropic", "claude-sonnet-4-5");
        std::future::ready(Ok::<_, LlmError>(response))
    });
    let request = LlmRequest::prompt("hello").with_feature("chat");
    let bare = allocations(&mut leaf.clone(), &request, drop);
    assert_eq!(allocations(&mut observe.layer(five(leaf)), &request, drop), bare, "complete answers");

    let mut llm = observe.layer(five(streams()));
    let bare = allocations(&mut streams(), &request, read);
    assert_eq!(allocations(&mut llm, &request, read), bare, "streams");
    assert_eq!(allocations(&mut llm, &request, drop), bare, "streams that are dropped");

    let ready = provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))));
    let mut llm = observe.layer(five(ready));
    for _ in 0..LAPS {
        assert_eq!(allocations(&mut llm, &request, drop), 0);
    }

    // Nor does the board's own work.
    let mut board = board;
    let mut events = std::iter::from_fn(|| {
        std::iter::repeat_with(|| heard.try_recv()).find(|event| !matches!(event, Err(error) if is_lagged(error)))?.ok()
    });
    board.event(&events.next().unwrap());
    let measured = allocation_counter::measure(|| {
        for event in events.by_ref().take(1000) {
            board.event(&event);
        }
    });
    assert_eq!((measured.count_total, board.snapshot().tiers[0].calls), (0, 1001));
}

fn is_lagged(error: &tokio::sync::broadcast::error::TryRecvError) -> bool {
    matches!(error, tokio::sync::broadcast::error::TryRecvError::Lagged(_))
}

#[tokio::test]
async fn a_layer_of_idempotency_adds_no_allocation_to_a_request_without_a_key() {
    let leaf = provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))));
    let mut llm = steadfast::IdempotencyLayer::new().layer(TimeoutLayer::new(Duration::from_secs(30)).layer(leaf));
    let request = LlmRequest::prompt("hello").with_feature("chat");
    assert_eq!(allocations(&mut llm, &request, drop), 0);
}
