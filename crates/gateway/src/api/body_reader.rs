//! Reads the bodies of HTTP requests, within their limits.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt;
use steadfast_internal::joined_bytes::JoinedBytes;
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::body_error::{BodyError, announced};
use crate::{
    http::STOP_BODY_TIMEOUT,
    limits::{
        MIN_UPLOAD_RATE, Settings,
        memory::{CallerShare, FREE_BODY, Memory},
    },
};

/// A reader of request bodies, within their limits.
pub(crate) struct BodyReader<'a> {
    pub(super) settings: &'a Settings,
    pub(super) memory: &'a Arc<Memory>,
    /// The caller's part of the memory.
    pub(super) share: Option<&'a Arc<CallerShare>>,
    /// Cancelled when the server is asked to stop.
    pub(super) stop: &'a CancellationToken,
}

impl BodyReader<'_> {
    /// Reads a body, within the limits of size, memory and time.
    ///
    /// # Errors
    ///
    /// The body is over one of them, or broke off.
    pub(crate) async fn read(self, headers: &HeaderMap, mut body: Body) -> Result<Bytes, BodyError> {
        let (most, announced) = (self.settings.body, announced(headers));
        if announced.is_some_and(|length| length > most) {
            return Err(BodyError::TooLarge);
        }
        match self.read_up_to(most, announced, &mut body).await? {
            (body, true) => Ok(body),
            (_, false) => Err(BodyError::TooLarge),
        }
    }

    /// Reads a body, or the beginning of one that is over the limit of size. Returns what is still to come.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](Self::read), except for the size.
    pub(crate) async fn read_beginning(
        self,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<(Bytes, Option<Body>), BodyError> {
        let (most, announced) = (self.settings.body, announced(headers));
        let (most, announced) = match announced {
            Some(length) if length > most => (most.min(BEGINNING), None),
            announced => (most, announced),
        };
        let (read, is_whole) = self.read_up_to(most, announced, &mut body).await?;
        Ok((read, (!is_whole).then_some(body)))
    }

    /// Reads the beginning of a body that streams on. Returns what is still to come.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](Self::read), except for the size.
    pub(crate) async fn read_first(
        self,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<(Bytes, Option<Body>), BodyError> {
        let announced = announced(headers).filter(|length| *length <= BEGINNING);
        let (read, is_whole) = self.read_up_to(BEGINNING, announced, &mut body).await?;
        Ok((read, (!is_whole).then_some(body)))
    }

    /// Reads a body until its end, or until more than `most` bytes are there. Returns true for the end.
    async fn read_up_to(
        &self,
        most: usize,
        announced: Option<usize>,
        body: &mut Body,
    ) -> Result<(Bytes, bool), BodyError> {
        self.memory.check(announced.unwrap_or_default(), self.share).map_err(BodyError::OutOfMemory)?;
        // Nearly all bodies come with the head, and need no clock.
        let mut times = None;
        let (mut read, mut reservation) = (JoinedBytes::default(), None);
        let is_whole = loop {
            let received = read.len();
            if received > most {
                break false;
            }
            let frame = match poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let times = times.get_or_insert_with(BodyTimes::new);
                    // Boxed: inline it would enlarge every request's future.
                    Box::pin(self.next(body, received, times)).await?
                }
            };
            let data = match frame {
                None => break true,
                Some(Err(error)) => return Err(BodyError::of(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
            };
            let length = received + data.len();
            if let Some(room) = read.growth(length, announced).filter(|_| length > FREE_BODY) {
                let reservation = reservation.get_or_insert_with(|| self.memory.reservation(self.share));
                reservation.grow(room).map_err(BodyError::OutOfMemory)?;
            }
            read.push(data, announced);
        };
        let body = read.join();
        let body = match reservation {
            Some(reservation) => reservation.into_body(body),
            None => body,
        };
        Ok((body, is_whole))
    }

    /// Waits for the next piece.
    async fn next(&self, body: &mut Body, received: usize, times: &mut BodyTimes) -> Result<Option<Frame>, BodyError> {
        let Settings { body_timeout, body_idle, .. } = self.settings;
        let granted = |bytes: usize| Duration::from_secs(bytes as u64 / MIN_UPLOAD_RATE);
        let until = (times.begun + *body_timeout + granted(received)).min(Instant::now() + *body_idle);
        loop {
            let stopping = times.stop.map(|stop| stop.at + STOP_BODY_TIMEOUT + granted(received - stop.received));
            tokio::select! {
                biased;
                frame = body.frame() => return Ok(frame),
                () = sleep_until(stopping.map_or(until, |stopping| stopping.min(until))) => break,
                () = self.stop.cancelled(), if times.stop.is_none() => {
                    times.stop = Some(Stop { at: Instant::now(), received });
                }
            }
        }
        // A busy processor is late itself. hyper reads what has arrived meanwhile a turn later.
        yield_now().await;

        match body.frame().now_or_never() {
            Some(frame) => Ok(frame),
            None if times.stop.is_some() => Err(BodyError::Stopping),
            None => Err(BodyError::TooSlow),
        }
    }
}

/// The bytes that are read of a body that is announced as over the limit: the fields in front of a form's file.
const BEGINNING: usize = 256 << 10;

type Frame = Result<http_body::Frame<Bytes>, axum::Error>;

/// The start of the wait for a body, and the order to stop during it.
struct BodyTimes {
    begun: Instant,
    stop: Option<Stop>,
}

/// The order to stop, and the bytes that had come by then.
#[derive(Clone, Copy)]
struct Stop {
    at: Instant,
    received: usize,
}

impl BodyTimes {
    fn new() -> Self {
        Self { begun: Instant::now(), stop: None }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::{Stream, StreamExt, stream};
    use http::{HeaderName, HeaderValue};
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::limits::memory::OutOfMemory;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_over_the_limit_is_refused_whether_or_not_it_says_so() {
        let settings = Settings { body: 10, ..Settings::default() };
        let read_of = |headers: HeaderMap, text: &'static str| {
            let settings = settings.clone();
            async move {
                let (memory, stop) = (Arc::new(Memory::new(1 << 30)), CancellationToken::new());
                let reader = BodyReader { settings: &settings, memory: &memory, share: None, stop: &stop };
                reader.read(&headers, Body::from(text)).await
            }
        };
        assert_eq!(read_of(headers(&[("content-length", "11")]), "").await, Err(BodyError::TooLarge));
        assert_eq!(read_of(HeaderMap::new(), "eleven byte").await, Err(BodyError::TooLarge));
        assert_eq!(read_of(HeaderMap::new(), "ten bytes!").await.unwrap(), "ten bytes!");
    }

    /// A number of pieces at an interval.
    fn pieces(piece: usize, pieces: usize, every: Duration) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(0, move |sent| async move {
            sleep(every).await;
            (sent < pieces).then(|| (Ok(Bytes::from(vec![b' '; piece])), sent + 1))
        })
    }

    /// A body of pieces at an interval, which then pauses forever.
    fn in_pieces(piece: usize, count: usize, every: Duration) -> Body {
        Body::from_stream(pieces(piece, count, every).chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_pauses_for_too_long_is_given_up_and_has_given_back_what_it_held() {
        let (settings, memory, stop) = (Settings::default(), Arc::new(Memory::new(1 << 30)), CancellationToken::new());
        let begun = Instant::now();
        let body = in_pieces(100_000, 10, Duration::from_secs(3));
        let reader = BodyReader { settings: &settings, memory: &memory, share: None, stop: &stop };
        assert_eq!(reader.read(&HeaderMap::new(), body).await, Err(BodyError::TooSlow));
        // The wait for the first missing piece starts after the last piece.
        let idle = settings.body_idle.as_secs();
        assert!((30 + idle..=33 + idle).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(memory.used(), 0);
    }

    /// Reads a body while the server is asked to stop after five seconds. Returns its length and the seconds.
    async fn read_while_stopping(body: Body) -> (Result<usize, BodyError>, u64) {
        let (settings, memory, stop) = (Settings::default(), Arc::new(Memory::new(1 << 30)), CancellationToken::new());
        let begun = Instant::now();
        let reader = BodyReader { settings: &settings, memory: &memory, share: None, stop: &stop };
        let stopping = async {
            sleep(Duration::from_secs(5)).await;
            stop.cancel();
        };
        let headers = HeaderMap::new();
        let (read, ()) = tokio::join!(reader.read(&headers, body), stopping);
        (read.map(|body| body.len()), begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_lags_when_the_server_stops_has_a_second() {
        let lagging = in_pieces(100, 1_000_000, Duration::from_millis(100));
        assert_eq!(read_while_stopping(lagging).await, (Err(BodyError::Stopping), 6));
        let paused = in_pieces(1_000_000, 1, Duration::from_secs(1));
        assert_eq!(
            read_while_stopping(paused).await,
            (Err(BodyError::Stopping), 6),
            "what came before counts for none"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_keeps_coming_when_the_server_stops_is_read() {
        let steady = Body::from_stream(pieces(40_000, 15, Duration::from_millis(950)));
        assert_eq!(read_while_stopping(steady).await, (Ok(600_000), 15));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_came_while_the_processor_was_busy_is_read() {
        // hyper reads the socket a turn after the reader asks, and each turn takes two seconds.
        let late = stream::unfold(0, |sent| async move {
            tokio::spawn(async {}).await.unwrap();
            (sent < 20).then(|| (Ok::<_, io::Error>(Bytes::from_static(b"late")), sent + 1))
        });
        let turns = async {
            for _ in 0..100 {
                advance(Duration::from_secs(2)).await;
            }
        };
        let ((read, took), ()) = tokio::join!(read_while_stopping(Body::from_stream(late)), turns);
        assert_eq!(read, Ok(80), "{took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_refused_by_what_it_announces_or_once_it_is_over_what_there_is() {
        let (settings, memory, stop) = (Settings::default(), Arc::new(Memory::new(64 << 20)), CancellationToken::new());
        let read = async |announced: &'static str, body: Body| {
            let headers =
                if announced.is_empty() { HeaderMap::new() } else { headers(&[("content-length", announced)]) };
            let reader = BodyReader { settings: &settings, memory: &memory, share: None, stop: &stop };
            reader.read(&headers, body).await
        };
        assert_eq!(read("9000000", Body::empty()).await, Err(BodyError::OutOfMemory(OutOfMemory::Always)));
        let held = read("", Body::from(vec![b' '; 3_000_000])).await.unwrap();
        assert_eq!(read("7000000", Body::empty()).await, Err(BodyError::OutOfMemory(OutOfMemory::Now)));
        let coming = in_pieces(1_000_000, 7, Duration::ZERO);
        assert_eq!(read("", coming).await, Err(BodyError::OutOfMemory(OutOfMemory::Now)));
        let small = read("", Body::from(vec![b' '; 60_000])).await.unwrap();
        drop(held);
        assert_eq!(read("7000000", Body::from(vec![b' '; 7_000_000])).await.unwrap().len(), 7_000_000);
        drop(small);
        assert_eq!(memory.used(), 0);
    }
}
