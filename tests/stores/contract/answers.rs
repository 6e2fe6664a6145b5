//! Answers to keep, as the layer makes them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use steadfast::{
    Dialect, Frame, IdempotencyLayer, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{FinishReason, Message},
    layers::{
        cache::{Answer, Tenant},
        idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket},
    },
    provider_fn,
};
use tower::{Layer as _, ServiceExt as _};

/// A whole answer of this text, in a provider's own bytes.
pub(crate) async fn whole(text: &str) -> Arc<Answer> {
    let raw = Bytes::from(format!("{{ \"said\":  \"{text}\" }}"));
    let body = LlmBody::from_wire(Dialect::OpenAi, raw, Message::assistant(text));
    kept(move || body, LlmRequest::prompt("hi")).await
}

/// An answer that was made for them.
pub(crate) async fn made_for(tenant: &str, session: &str) -> Arc<Answer> {
    let request = LlmRequest::prompt("hi").with_session(session).with_extension(Tenant::new(tenant));
    kept(|| LlmBody::from_text("yes"), request).await
}

/// The bytes of the frames of [`streamed`].
pub(crate) const FRAMES: [&str; 3] = ["data: one\n\n", ": ping\n\n", "data:  [DONE]\n\n"];

/// A streamed answer of one word.
pub(crate) async fn streamed() -> Arc<Answer> {
    let events = [
        vec![StreamEvent::Text { index: 0, text: "one".into() }],
        vec![StreamEvent::KeepAlive],
        vec![StreamEvent::Finish(FinishReason::Stop), StreamEvent::End],
    ];
    let frames = events.into_iter().zip(FRAMES).map(|(events, raw)| {
        Ok(Frame::events_of(events).with_raw(Dialect::OpenAi, Bytes::from_static(raw.as_bytes())))
    });
    let frames: Vec<Result<Frame, LlmError>> = frames.collect();
    kept(move || LlmBody::from_frames(stream::iter(frames)), LlmRequest::prompt("hi").with_stream(true)).await
}

/// Returns an answer's text.
pub(crate) async fn text(answer: &Answer) -> String {
    let body = replayed(answer, false).await;
    body.text().await.unwrap()
}

/// Its frames' bytes.
pub(crate) async fn raw_frames(answer: &Answer) -> Vec<Bytes> {
    let frames = replayed(answer, true).await;
    frames.map(|frame| frame.unwrap().raw().unwrap().1.clone()).collect().await
}

/// Its bytes.
pub(crate) async fn wire(answer: &Answer) -> Bytes {
    replayed(answer, false).await.wire().unwrap().1.clone()
}

/// The body of a repeat, by way of the layer.
async fn replayed(answer: &Answer, as_stream: bool) -> LlmBody {
    let answer = Arc::new(Answer::from_bytes(&answer.to_bytes()).unwrap());
    let leaf = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(steadfast::ErrorKind::Other, "a call")) });
    let request = LlmRequest::prompt("hi").with_idempotency_key("k").with_stream(as_stream);
    let llm = IdempotencyLayer::over(One(Mutex::new(Some(answer)))).layer(leaf);
    llm.oneshot(request).await.unwrap().into_body()
}

/// Returns the answer that the layer keeps of this body.
async fn kept(body: impl FnOnce() -> LlmBody + Send + 'static, request: LlmRequest) -> Arc<Answer> {
    let body = Arc::new(Mutex::new(Some(body)));
    let leaf = provider_fn(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Ok::<_, LlmError>(LlmResponse::new(body()).with_model("openai", "gpt-4o")) }
    });
    let one = Arc::new(One(Mutex::new(None)));
    let layer = IdempotencyLayer::over(one.clone());
    let response = layer.layer(leaf).oneshot(request.with_idempotency_key("k")).await.unwrap();
    response.collect().await.unwrap();
    layer.handle().close().await;
    let answer = one.0.lock().unwrap().take();
    answer.expect("it was kept")
}

/// One answer, whatever the key.
struct One(Mutex<Option<Arc<Answer>>>);

impl IdempotencyStore for One {
    fn claim<'a>(&'a self, _: &'a IdempotencyKey, _: &'a Fingerprint, _: Duration) -> StoreFuture<'a, Claim> {
        let answer = self.0.lock().unwrap().clone();
        Box::pin(async { Ok(answer.map_or(Claim::Won(Ticket(1)), Claim::Done)) })
    }

    fn renew<'a>(&'a self, _: &'a IdempotencyKey, _: Ticket, _: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async { Ok(true) })
    }

    fn complete<'a>(
        &'a self,
        _: &'a IdempotencyKey,
        _: Ticket,
        answer: Arc<Answer>,
        _: Duration,
    ) -> StoreFuture<'a, bool> {
        *self.0.lock().unwrap() = Some(answer);
        Box::pin(async { Ok(true) })
    }

    fn release<'a>(&'a self, _: &'a IdempotencyKey, _: Ticket) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
