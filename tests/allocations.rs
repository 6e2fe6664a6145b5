//! The healthy path of the five layers allocates nothing.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::stream;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, FallbackLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse,
    RetryWithJitterLayer, StreamEvent, TimeoutLayer, chat::FinishReason, provider_fn, providers::Canned,
};
use tower::{Service, ServiceBuilder};

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

/// How many allocations one call makes, after a first that may warm up whatever is made once.
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
    let request = LlmRequest::prompt("hello").feature("chat");
    assert_eq!(allocations(&mut llm, &request, drop), 0);
}

#[tokio::test]
async fn five_layers_add_no_allocation_to_a_service_that_is_pending_once() {
    let mut llm = five(provider_fn(|_| async {
        tokio::task::yield_now().await;
        Ok::<_, LlmError>(LlmResponse::from_text("hello"))
    }));
    let request = LlmRequest::prompt("hello").feature("chat");
    assert_eq!(allocations(&mut llm, &request, drop), 0);
}

#[tokio::test]
async fn five_layers_add_no_allocation_to_a_stream() {
    let leaf = provider_fn(|_| {
        let end = [StreamEvent::Finish(FinishReason::Stop), StreamEvent::End];
        let frames = [Ok(Frame::text("hello"))].into_iter().chain(end.map(|event| Ok(Frame::event(event))));
        std::future::ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter(frames)))))
    });
    let request = LlmRequest::prompt("hello").feature("chat").stream(true);
    let read = |mut response: LlmResponse| {
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = response.body_mut().poll_frame(&mut context) {
            frame.unwrap();
        }
    };
    let bare = allocations(&mut leaf.clone(), &request, read);
    assert!(bare > 0, "a stream is boxed by its leaf");
    assert_eq!(allocations(&mut five(leaf), &request, read), bare);
}
