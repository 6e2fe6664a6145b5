//! One call on an HTTP/2 connection, and once more where the server has not processed it.

use std::{
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use http::{Request, Response};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Except, Place, Way, way};
use crate::{
    protocol::RequestBody,
    transport::{
        error::TransportError,
        exchange::{ResponseBody, ask_on_new},
    },
};

/// Sends a request on a place. What the server has not processed goes out again, on another connection.
pub(in crate::transport) async fn ask(
    mut place: Place,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, TransportError> {
    let mut left = REPEATS;
    let mut was_silent = false;
    loop {
        let (pool, server, number) = (place.pool.clone(), place.server.clone(), place.number());
        let next = match exchange(place, request.clone(), was_silent).await {
            Ok(response) => return Ok(response),
            Err(Failure::Silence(next)) => {
                was_silent = true;
                next?
            }
            Err(Failure::Unprocessed(_)) if left > 0 => {
                left -= 1;
                way(&pool, &server, Except::Number(number)).await?
            }
            Err(Failure::Broken(error) | Failure::Unprocessed(error)) => return Err(error),
        };
        place = match next {
            Way::Stream(place) => place,
            Way::Link(link) => return ask_on_new(pool, server, link, request).await,
        };
    }
}

/// The end of a call without an answer.
enum Failure {
    Broken(TransportError),
    /// The server has certainly not processed it.
    Unprocessed(TransportError),
    /// Its connection answers no question, while a new one is there, or cannot be made.
    Silence(Result<Way, TransportError>),
}

async fn exchange(
    place: Place,
    request: Request<RequestBody>,
    was_silent: bool,
) -> Result<Response<ResponseBody>, Failure> {
    let mut answering = pin!(place.connection.sender.clone().try_send_request(request));
    let waiting = Pending { place, begun: Instant::now() };
    let mut tick = pin!(sleep(TICK));
    // One that was silent twice waits for the end of the second.
    let mut another = None;
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answered) = answering.as_mut().poll(cx) {
            return Poll::Ready(Ok(answered));
        }
        while !was_silent && tick.as_mut().poll(cx).is_ready() {
            tick.set(sleep_until(waiting.next_look()));
            if waiting.is_unanswered() {
                another.get_or_insert_with(|| waiting.another_way());
            }
        }
        let Some(Poll::Ready(way)) = another.as_mut().map(|way| way.as_mut().poll(cx)) else { return Poll::Pending };
        another = None;
        // A word meanwhile is a sign that it lives, and a network that is away may come back.
        if waiting.is_unanswered() && (way.is_ok() || waiting.lasts()) { Poll::Ready(Err(way)) } else { Poll::Pending }
    })
    .await;
    let answered = answered.map_err(|way| {
        waiting.leave();
        Failure::Silence(way)
    })?;
    let place = waiting.place;
    let host = place.host();
    match answered {
        Ok(response) => {
            place.connection.answered();
            host.inspect(|host| host.answered());
            place.pool.heard(&place.server);
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
            let error = TransportError::broken(error, place.number());
            let is_unprocessed = is_unsent || refusal.is_some();
            Err(if is_unprocessed { Failure::Unprocessed(error) } else { Failure::Broken(error) })
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

/// A call that waits on a connection, which may be silent.
struct Pending {
    place: Place,
    begun: Instant,
}

impl Pending {
    /// Returns the time at which the connection may have left a question unanswered.
    fn next_look(&self) -> Instant {
        let now = Instant::now();
        let due = self.place.connection.watch.unanswered().map(|asked| asked + ANSWERED).filter(|due| *due > now);
        due.unwrap_or(now + TICK)
    }

    /// Returns true if the connection has been asked if it lives, and has had the time to say so.
    fn is_unanswered(&self) -> bool {
        self.place.connection.watch.unanswered().is_some_and(|asked| asked.elapsed() >= ANSWERED)
    }

    /// Returns true if the call has waited in silence for as long as a network that is away for a moment gets.
    fn lasts(&self) -> bool {
        self.begun.elapsed() >= LONGEST
    }

    /// Returns a way on a connection that was not there as the call began.
    fn another_way(&self) -> Pin<Box<dyn Future<Output = Result<Way, TransportError>> + Send>> {
        let (pool, server, begun) = (self.place.pool.clone(), self.place.server.clone(), self.begun);
        Box::pin(async move { way(&pool, &server, Except::OpenBy(begun)).await })
    }

    /// Leaves the connections that were there as the call began.
    fn leave(&self) {
        self.place.leave();
        self.place.host().inspect(|host| host.leave_open_by(self.begun));
    }
}

/// The times that a call is sent again.
const REPEATS: u32 = 3;
/// The time between two looks at a waiting call's connection.
const TICK: Duration = Duration::from_secs(1);
/// The wait for a sign of life before another connection is made. Should the way there be longer than that, making one
/// takes three times as long, and the sign comes first.
const ANSWERED: Duration = Duration::from_secs(1);
/// The silence for which a call waits where no other connection can be made.
const LONGEST: Duration = Duration::from_secs(10);
