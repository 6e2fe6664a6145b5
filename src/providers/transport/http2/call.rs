//! One call on an HTTP/2 connection, and once more where the server has not processed it.

use std::{error::Error, future::poll_fn, pin::pin, task::Poll, time::Duration};

use http::{Request, Response};
use tokio::time::{Instant, sleep};

use super::{Place, Way, way};
use crate::providers::{
    http::RequestBody,
    transport::{
        error::TransportError,
        exchange::{ResponseBody, ask_on_new},
    },
};

/// Sends a request on a place. What the server has not processed goes out again, on another connection.
pub(in crate::providers::transport) async fn ask(
    mut place: Place,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, TransportError> {
    let mut left = REPEATS;
    let mut was_silent = false;
    loop {
        let (pool, server, number) = (place.pool.clone(), place.server.clone(), place.number());
        let failure = match exchange(place, request.clone(), was_silent).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        was_silent |= failure.is_silence;
        left = match failure.error {
            Some(error) if !failure.is_unprocessed || left == 0 => return Err(error),
            _ => left.saturating_sub(1),
        };
        place = match way(&pool, &server, Some(number)).await? {
            Way::Stream(place) => place,
            Way::Link(link) => return ask_on_new(pool, server, link, request).await,
        };
    }
}

/// A call that got no answer.
struct Failure {
    /// `None`: it was given up in silence.
    error: Option<TransportError>,
    /// True if the server has certainly not processed it.
    is_unprocessed: bool,
    is_silence: bool,
}

async fn exchange(
    place: Place,
    request: Request<RequestBody>,
    was_silent: bool,
) -> Result<Response<ResponseBody>, Failure> {
    let mut answering = pin!(place.connection.sender.clone().try_send_request(request));
    let mut silence = Silence::new(place);
    let mut tick = pin!(sleep(TICK));
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answered) = answering.as_mut().poll(cx) {
            return Poll::Ready(Some(answered));
        }
        while tick.as_mut().poll(cx).is_ready() {
            tick.set(sleep(TICK));
            // One that was silent twice waits for the end of the second.
            if silence.lasts() && !was_silent {
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    })
    .await;
    let Some(answered) = answered else {
        // The pings were not answered either.
        silence.place().leave();
        return Err(Failure { error: None, is_unprocessed: false, is_silence: true });
    };
    let Some(place) = silence.place.take() else { unreachable!("it is taken once") };
    let host = place.host();
    match answered {
        Ok(response) => {
            place.connection.answered();
            host.inspect(|host| host.answered());
            Ok(response.map(|body| ResponseBody::of_stream(body, place)))
        }
        Err(mut failed) => {
            let is_unsent = failed.take_message().is_some();
            let error = failed.into_error();
            let refusal = Refusal::of(&error);
            let others = place.connection.in_flight() - 1;
            match refusal {
                Some(Refusal::Stream) => place.connection.refused(others),
                Some(Refusal::Connection) => place.leave(),
                None if is_unsent => place.leave(),
                None => {}
            }
            if refusal.is_some() {
                host.inspect(|host| host.refused(others));
            }
            let is_unprocessed = is_unsent || refusal.is_some();
            let error = Some(TransportError::broken(error, place.number()));
            Err(Failure { error, is_unprocessed, is_silence: false })
        }
    }
}

/// The proof that a server has not processed a call (RFC 9113, 8.7).
#[derive(Clone, Copy)]
enum Refusal {
    /// REFUSED_STREAM.
    Stream,
    /// GOAWAY with a lower last stream: those up to the last one go on, and never get this error.
    Connection,
}

impl Refusal {
    fn of(error: &hyper::Error) -> Option<Self> {
        let error = error.source()?.downcast_ref::<h2::Error>().filter(|error| error.is_remote())?;
        if error.is_go_away() {
            return Some(Self::Connection);
        }
        (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Self::Stream)
    }
}

/// Watches for silence of the connection while a call waits on it. A call that is dropped in a silence of three
/// seconds leaves the connection, so that the next ones try a new one.
struct Silence {
    place: Option<Place>,
    begun: Instant,
    reads: usize,
    /// The reads at the last tick, and the ticks since they changed.
    seen: (usize, u32),
}

impl Silence {
    fn new(place: Place) -> Self {
        let reads = place.connection.watch.reads();
        Self { place: Some(place), begun: Instant::now(), reads, seen: (reads, 0) }
    }

    fn place(&self) -> &Place {
        self.place.as_ref().expect("it is taken at the end")
    }

    /// Counts a tick. Returns true once the connection has been silent for so long that a ping was not answered.
    fn lasts(&mut self) -> bool {
        let reads = self.place().connection.watch.reads();
        let ticks = if reads == self.seen.0 { self.seen.1 + 1 } else { 0 };
        self.seen = (reads, ticks);
        ticks >= TICKS
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(place) = &self.place
            && place.connection.watch.reads() == self.reads
            && self.begun.elapsed() >= SUSPICIOUS
        {
            place.leave();
        }
    }
}

/// The times that a call is sent again.
const REPEATS: u32 = 3;
const TICK: Duration = Duration::from_secs(2);
/// The ticks of silence: one ping interval and five seconds for its answer.
const TICKS: u32 = 5;
/// The silence after which a call that is dropped leaves its connection.
pub(in crate::providers::transport) const SUSPICIOUS: Duration = Duration::from_secs(3);
