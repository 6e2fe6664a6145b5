//! Bodies that stream, with limits on their size and on their pauses.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use steadfast::{ErrorKind, LlmError};
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

use super::body_error::{self, BodyError};
use crate::limits::{MIN_UPLOAD_RATE, Settings};

/// The largest upload, in bytes: over the largest file that a provider takes in one request.
pub(super) const MAX_UPLOAD: u64 = 2 << 30;

/// Returns the length that a request announces for its body.
///
/// # Errors
///
/// It is over [`MAX_UPLOAD`].
pub(super) fn announced(headers: &HeaderMap) -> Result<Option<u64>, LlmError> {
    match body_error::announced(headers).map(|length| length as u64) {
        Some(length) if length > MAX_UPLOAD => {
            let message = format!("the upload has {length} bytes, and may have {MAX_UPLOAD}");
            Err(LlmError::new(ErrorKind::TooLarge, message))
        }
        length => Ok(length),
    }
}

/// Returns the time for the head of a response to a request of this length in bytes. A provider may convert a file
/// meanwhile.
pub(super) fn head_limit(length: u64) -> Duration {
    Duration::from_secs(600 + length / MIN_UPLOAD_RATE)
}

/// A body that ends with an error once it is too long, or pauses for too long. So a server that gets it takes no part
/// of it for the whole.
pub(super) struct Limited<B> {
    inner: B,
    left: u64,
    idle: Duration,
    /// The time for all pauses together, beside what [`MIN_UPLOAD_RATE`] grants for the bytes.
    grace: Duration,
    received: u64,
    paused: Duration,
    pause: Option<(Instant, Pin<Box<Sleep>>)>,
    failure: Arc<OnceLock<BodyError>>,
}

impl<B> Limited<B> {
    /// Limits each pause of a body.
    pub(super) fn new(inner: B, idle: Duration) -> Self {
        let grace = Duration::MAX;
        let (received, paused, pause, failure) = (0, Duration::ZERO, None, Arc::default());
        Self { inner, left: u64::MAX, idle, grace, received, paused, pause, failure }
    }

    /// Limits a caller's body in all ways. The time that the provider takes does not count.
    pub(super) fn upload(inner: B, settings: &Settings) -> Self {
        Self { left: MAX_UPLOAD, grace: settings.body_timeout, ..Self::new(inner, settings.body_idle) }
    }

    /// Returns the place of the error, once there is one.
    pub(super) fn failure(&self) -> Arc<OnceLock<BodyError>> {
        self.failure.clone()
    }

    fn fail(&self, error: BodyError, cause: &str) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let _only_the_first_counts = self.failure.set(error);
        Poll::Ready(Some(Err(cause.into())))
    }

    /// Returns the longest pause that may begin now.
    fn patience(&self) -> Duration {
        let granted = self.grace.saturating_add(Duration::from_secs(self.received / MIN_UPLOAD_RATE));
        self.idle.min(granted.saturating_sub(self.paused))
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                let error: BoxError = error.into();
                self.fail(BodyError::of(&*error), "the body broke off")
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some((begun, _)) = self.pause.take() {
                    self.paused += begun.elapsed();
                }
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.received += length;
                match self.left.checked_sub(length) {
                    Some(left) => self.left = left,
                    None => return self.fail(BodyError::TooLarge, "the body is too long"),
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                let patience = self.patience();
                let (_, pause) = self.pause.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
                match pause.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        // A fused timer must not be polled again.
                        self.pause = None;
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

    fn limited(body: axum::body::Body, most: u64, settings: &Settings) -> Limited<axum::body::Body> {
        Limited { left: most, ..Limited::upload(body, settings) }
    }

    /// A body of one byte after each pause.
    fn with_pauses(pauses: impl Iterator<Item = u64> + Send + 'static) -> axum::body::Body {
        let pieces = futures_util::stream::unfold(pauses, |mut pauses| async move {
            sleep(Duration::from_secs(pauses.next()?)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), pauses))
        });
        axum::body::Body::from_stream(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_too_long_or_silent_ends_with_an_error() {
        let settings = Settings { body_idle: Duration::from_secs(5), ..Settings::default() };
        let whole = limited(axum::body::Body::from("ten bytes!"), 10, &settings);
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "ten bytes!");
        let long = limited(axum::body::Body::from("eleven byte"), 10, &settings);
        let failure = long.failure();
        assert!(long.collect().await.is_err());
        assert_eq!(failure.get(), Some(&BodyError::TooLarge));

        let begun = Instant::now();
        let silent = limited(with_pauses([4, 4, 4, 60].into_iter()), 10, &settings);
        let failure = silent.failure();
        assert!(silent.collect().await.is_err());
        assert_eq!((failure.get(), begun.elapsed().as_secs()), (Some(&BodyError::TooSlow), 17));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_that_are_short_but_many_end_a_body_too_and_waiting_for_its_reader_does_not() {
        let settings = Settings::default();
        let (idle, grace) = (settings.body_idle.as_secs(), settings.body_timeout.as_secs());
        let begun = Instant::now();
        let slow = limited(with_pauses(std::iter::repeat(idle - 1)), 1000, &settings);
        let failure = slow.failure();
        assert!(slow.collect().await.is_err());
        assert_eq!((failure.get(), begun.elapsed().as_secs()), (Some(&BodyError::TooSlow), grace));

        let mut quick = limited(axum::body::Body::from("at once"), 1000, &settings);
        sleep(Duration::from_secs(10 * grace)).await;
        assert_eq!(quick.frame().await.unwrap().unwrap().into_data().unwrap(), "at once");
    }
}
