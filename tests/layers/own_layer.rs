//! A layer of a user's own does what the crate's layers do, with public names alone.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use steadfast::{
    ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, LlmService, body::AnswerEnd, error::Phase,
    layers::ReadyCall, provider_fn,
};
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};

/// The number of calls under way, and the end of each.
#[derive(Clone, Default)]
struct Gauge(Arc<Mutex<(usize, Vec<String>)>>);

impl Gauge {
    fn running(&self) -> usize {
        self.0.lock().unwrap().0
    }

    fn ends(&self) -> Vec<String> {
        self.0.lock().unwrap().1.clone()
    }

    fn place(&self) -> Place {
        self.0.lock().unwrap().0 += 1;
        Place(self.clone())
    }
}

/// One call, until it is dropped.
struct Place(Gauge);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().0 -= 1;
    }
}

/// Counts calls from their beginning to the end of their answers.
#[derive(Clone)]
struct Counted<S> {
    inner: S,
    gauge: Gauge,
}

impl<S> Service<LlmRequest> for Counted<S>
where
    S: LlmService<Future: Send> + Clone + Send + 'static,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let place = self.gauge.place();
        let call = ReadyCall::new(&mut self.inner, request);
        Box::pin(async move {
            let mut response = call.await?;
            response.hold(move |end| {
                let end = match end {
                    AnswerEnd::Complete => "complete".to_owned(),
                    AnswerEnd::Broken(error) => format!("broken: {}", error.kind()),
                    AnswerEnd::Dropped => "dropped".to_owned(),
                    other => format!("{other:?}"),
                };
                place.0.0.lock().unwrap().1.push(end);
            });
            Ok(response)
        })
    }
}

fn streamed(frames: Vec<Result<Frame, LlmError>>) -> impl LlmService<Error = LlmError, Future: Send> + Clone + Send {
    let frames = Arc::new(Mutex::new(frames));
    provider_fn(move |_| {
        let frames = std::mem::take(&mut *frames.lock().unwrap());
        async move { Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter(frames)))) }
    })
}

fn end() -> Result<Frame, LlmError> {
    Ok(Frame::event(steadfast::StreamEvent::End))
}

#[tokio::test(start_paused = true)]
async fn a_guard_in_the_body_is_told_of_each_end_once() {
    let text = || Ok(Frame::text("hello"));
    let broke = Err(LlmError::new(ErrorKind::Overloaded, "in mid-stream"));
    for (frames, read, expected) in [
        (vec![text(), end()], 9, "complete"),
        (vec![text(), broke], 9, "broken: overloaded"),
        // Its provider's end mark is missing.
        (vec![text()], 9, "broken: stream_broken"),
        (vec![text(), text(), end()], 1, "dropped"),
    ] {
        let gauge = Gauge::default();
        let service = Counted { inner: streamed(frames), gauge: gauge.clone() };
        let response = service.oneshot(LlmRequest::prompt("hello").with_stream(true)).await.unwrap();
        assert_eq!((gauge.running(), gauge.ends().len()), (1, 0), "{expected}: it runs until its end");
        let _read: Vec<_> = response.into_body().take(read).collect().await;
        assert_eq!((gauge.running(), gauge.ends()), (0, vec![expected.to_owned()]));
    }
}

#[tokio::test]
async fn a_whole_answer_has_ended_when_it_is_there() {
    let gauge = Gauge::default();
    let whole = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("hello")) });
    let response = Counted { inner: whole, gauge: gauge.clone() }.oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert_eq!((gauge.running(), gauge.ends()), (0, vec!["complete".to_owned()]));
    assert_eq!(response.text().await.unwrap(), "hello");
}

/// One place, which each call holds for a minute.
fn narrow() -> impl LlmService<Error = LlmError, Future: Send> + Clone + Send {
    let slow = provider_fn(|_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, LlmError>(LlmResponse::from_text("hello"))
    });
    ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(slow)
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_readiness_ends_with_the_requests_deadline() {
    let gauge = Gauge::default();
    let service = Counted { inner: narrow(), gauge: gauge.clone() };
    let first = tokio::spawn(service.clone().oneshot(LlmRequest::prompt("first")));
    tokio::task::yield_now().await;
    let begun = Instant::now();
    let error = service.oneshot(LlmRequest::prompt("second").with_timeout(Duration::from_secs(2))).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert_eq!(error.timeout().map(|timeout| timeout.phase), Some(Phase::Readiness));
    assert_eq!(gauge.running(), 1, "the first goes on");
    assert_eq!(first.await.unwrap().unwrap().text().await.unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_gives_its_place_back() {
    let gauge = Gauge::default();
    let service = Counted { inner: narrow(), gauge: gauge.clone() };
    let first = tokio::spawn(service.clone().oneshot(LlmRequest::prompt("first")));
    tokio::task::yield_now().await;
    let mut waiting = Box::pin(service.clone().oneshot(LlmRequest::prompt("second")));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(gauge.running(), 2);
    drop(waiting);
    assert_eq!(gauge.running(), 1);
    first.await.unwrap().unwrap();
    // Nothing is left reserved: the next call gets the one place.
    service.oneshot(LlmRequest::prompt("third")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_more_attempt_goes_to_a_clone_once_that_is_ready() {
    let mut inner = narrow();
    let spare = inner.clone();
    let begun = Instant::now();
    let first = tokio::spawn(ReadyCall::new(&mut inner, LlmRequest::prompt("first")));
    tokio::task::yield_now().await;
    ReadyCall::again(spare, LlmRequest::prompt("again")).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(120));
    first.await.unwrap().unwrap();
}
