//! Bodies with limits on their size and on their pauses.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

use crate::api::inbound::BodyError;

/// A body that ends with an error once it is too long, or pauses for too long. So a server that gets it takes no part
/// of it for the whole.
pub(super) struct Limited<B> {
    inner: B,
    left: u64,
    idle: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    failure: Arc<OnceLock<BodyError>>,
}

impl<B> Limited<B> {
    pub(super) fn new(inner: B, most: u64, idle: Duration) -> Self {
        Self { inner, left: most, idle, pause: None, failure: Arc::default() }
    }

    /// Returns the place of the error, once there is one.
    pub(super) fn failure(&self) -> Arc<OnceLock<BodyError>> {
        self.failure.clone()
    }

    fn fail(&self, error: BodyError, cause: &str) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let _only_the_first_counts = self.failure.set(error);
        Poll::Ready(Some(Err(cause.into())))
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => self.fail(BodyError::Broken, "the body broke off"),
            Poll::Ready(Some(Ok(frame))) => {
                self.pause = None;
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                match self.left.checked_sub(length) {
                    Some(left) => self.left = left,
                    None => return self.fail(BodyError::TooLarge, "the body is too long"),
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                let idle = self.idle;
                let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(idle)));
                match pause.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        // A fused timer must not be polled again.
                        pause.as_mut().reset(Instant::now() + idle);
                        self.fail(BodyError::TooSlow, "the body does not go on")
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_too_long_or_silent_ends_with_an_error() {
        let whole = Limited::new(axum::body::Body::from("ten bytes!"), 10, Duration::from_secs(5));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "ten bytes!");
        let long = Limited::new(axum::body::Body::from("eleven byte"), 10, Duration::from_secs(5));
        let failure = long.failure();
        assert!(long.collect().await.is_err());
        assert_eq!(failure.get(), Some(&BodyError::TooLarge));

        let begun = Instant::now();
        let pieces = futures_util::stream::unfold(0, |sent| async move {
            sleep(Duration::from_secs(if sent < 3 { 4 } else { 60 })).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), sent + 1))
        });
        let silent = Limited::new(axum::body::Body::from_stream(pieces), 10, Duration::from_secs(5));
        let failure = silent.failure();
        assert!(silent.collect().await.is_err());
        assert_eq!((failure.get(), begun.elapsed().as_secs()), (Some(&BodyError::TooSlow), 17));
    }
}
