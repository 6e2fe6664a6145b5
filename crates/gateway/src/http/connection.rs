//! A connection and its requests, one after another.
//!
//! hyper reads requests and writes whole answers. It hands a stream over before the stream's head is out: hyper would
//! keep two buffers of 8 KB for each stream until its end, and thousands of streams only wait for their next token.
//! [`stream_writer`] sends the stream; then hyper goes on.

use std::{
    convert::Infallible,
    future::{poll_fn, ready},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use hyper::{
    body::Incoming,
    server::conn::http1::{Builder, Parts},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Handler,
    header_timer::HeaderTimer,
    in_task_body::{ConnectionTask, InTaskBody},
    socket::{PlainRefusal, Socket},
    stream_writer::{self, DirectStream},
    upgrade::{AfterHttp, Upgrade},
};
use crate::{limits::Memory, lock::lock};

/// Serves a connection until either side closes it, or until it has idled for the timeout.
pub(super) async fn serve<S, H>(
    stream: S,
    http: &Builder,
    idle_timeout: Duration,
    handler: &H,
    memory: &Arc<Memory>,
    stop: &CancellationToken,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Handler,
{
    let mut socket = Socket::new(stream).with_head_memory(memory);
    // The listener has seen the first bytes, and this runtime will: even if the server is asked to stop in between.
    let mut readable = socket.wait_readable().await;
    while readable {
        let pending = match requests(socket, http, handler, stop).await {
            Exit::Done(result, rest) => {
                close_gracefully(rest).await;
                return result;
            }
            Exit::Upgrade(after, rest) => {
                let (stream, ahead) = rest.into_parts();
                after(Box::new(stream), ahead.freeze()).await;
                return Ok(());
            }
            Exit::Stream(pending, rest) => {
                socket = rest;
                pending
            }
        };
        let closes = pending.closes || stop.is_cancelled();
        let sent = stream_writer::send(&mut socket, pending.response, closes).await;
        if sent.is_err() {
            return Ok(());
        }
        if closes || stop.is_cancelled() {
            close_gracefully(socket).await;
            return Ok(());
        }
        // A silent caller does not need hyper and its buffers.
        readable = tokio::select! {
            biased;
            readable = socket.wait_readable() => readable,
            () = after_stop(stop) => false,
            () = sleep(idle_timeout) => false,
        };
    }
    Ok(())
}

/// Waits until the server is asked to stop, and for a turn more: what has arrived by then is read first.
pub(super) async fn after_stop(stop: &CancellationToken) {
    stop.cancelled().await;
    yield_now().await;
}

/// Closes a connection and reads the rest of its bytes. A socket dropped over unread bytes is reset by the system, and
/// a caller that still sends (a body over the limit, say) might never see the answer.
async fn close_gracefully<S: AsyncRead + AsyncWrite + Unpin>(mut socket: Socket<S>) {
    // Either side may have closed it already.
    let _ = socket.shutdown().await;
    let _closed_or_not = timeout(LINGER, socket.discard()).await;
}

/// Answers a liveness probe and closes its connection.
pub(super) async fn probe<S>(stream: S, http: &Builder, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|_: Request<Incoming>| {
        let mut alive = Response::new(Body::from("ok\n"));
        alive.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        ready(Ok::<_, Infallible>(alive))
    });
    let mut http = http.clone();
    http.timer(HeaderTimer::default()).keep_alive(false);
    let serving = http.serve_connection(TokioIo::new(Socket::new(stream)), service);
    let served = tokio::select! {
        biased;
        served = serving.without_shutdown() => served,
        () = stop.cancelled() => return,
    };
    // A caller that disconnected needs no answer.
    if let Ok(Parts { io, .. }) = served {
        close_gracefully(io.into_inner()).await;
    }
}

/// The time for the rest of a head, or for a pause of a body, once the server is asked to stop.
pub(crate) const STOP_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// The time for the answer to arrive, and for bytes still under way.
const LINGER: Duration = Duration::from_secs(2);

/// A streamed answer that the connection still has to send.
struct PendingStream {
    response: Response<Body>,
    /// True if the caller wants the connection closed after the answer.
    closes: bool,
}

/// The reason that hyper has left a connection.
enum Exit<S> {
    Done(Result<(), hyper::Error>, Socket<S>),
    /// The connection has left HTTP.
    Upgrade(AfterHttp, Socket<S>),
    Stream(PendingStream, Socket<S>),
}

/// Serves requests until a stream is to be sent.
async fn requests<S, H>(socket: Socket<S>, http: &Builder, handler: &H, stop: &CancellationToken) -> Exit<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let (is_first, is_streaming, pending) = (AtomicBool::new(true), AtomicBool::new(false), Mutex::new(None));
    let upgrade = Mutex::new(None);
    let common = handler.connection();
    let task = ConnectionTask::current().await;
    let service = service_fn(|request: Request<Incoming>| {
        // Only the first answer can stream: hyper does not report whether it has flushed an earlier one.
        let can_stream = is_first.swap(false, Ordering::Relaxed)
            && request.version() == Version::HTTP_11
            && !request.headers().contains_key(header::EXPECT);
        let closes = wants_close(request.headers());
        let request = request.map(|body| Body::new(InTaskBody::new(body, task.clone())));
        let answering = handler.answer(&common, request);
        let (is_streaming, pending, upgrade, task) = (&is_streaming, &pending, &upgrade, &task);
        async move {
            let mut response = answering.await;
            handler.finish(&mut response);
            if let Some(after) = Upgrade::take(&mut response) {
                *lock(upgrade) = Some(after);
            }
            let has_unread_body = task.has_unread_body();
            if has_unread_body {
                // The connection ends over it (RFC 9112, 9.6): the caller must not send its next request here.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            let closes = closes || has_unread_body;
            if can_stream && response.extensions().get::<DirectStream>().is_some() {
                *lock(pending) = Some(PendingStream { response, closes });
                is_streaming.store(true, Ordering::Relaxed);
                // The same poll takes it from there, and then drops this future.
                return std::future::pending().await;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let (mut http, header_timer) = (http.clone(), HeaderTimer::default());
    http.timer(header_timer.clone());
    let mut serving = Box::new(http.serve_connection(TokioIo::new(socket), service));
    let (mut stopped, mut waits_for_stop, mut is_stopping) = (pin!(after_stop(stop)), false, false);
    let waker = Waker::from(task.clone());
    let exit = poll_fn(|cx| {
        let is_own = task.is_woken_by(cx.waker());
        let cx = &mut Context::from_waker(if is_own { &waker } else { cx.waker() });
        loop {
            if let Poll::Ready(served) = Pin::new(&mut *serving).poll(cx) {
                return Poll::Ready(Err(served));
            }
            if is_streaming.load(Ordering::Relaxed)
                && let Some(pending) = lock(&pending).take()
            {
                return Poll::Ready(Ok(pending));
            }
            // Polled once with the task's own waker, it wakes the task.
            if is_stopping || waits_for_stop && is_own && !stop.is_cancelled() {
                return Poll::Pending;
            }
            waits_for_stop = is_own;
            // A connection without a whole head ends with this, so that it is read first.
            if stopped.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            is_stopping = true;
            header_timer.end_by(Instant::now() + STOP_BODY_TIMEOUT);
            Pin::new(&mut *serving).graceful_shutdown();
        }
    })
    .await;
    let Parts { io, read_buf, .. } = serving.into_parts();
    let mut socket = io.into_inner();
    match exit {
        Ok(pending) => {
            socket.put_back(&read_buf);
            Exit::Stream(pending, socket)
        }
        Err(served) => {
            let after = lock(&upgrade).take().filter(|_| served.is_ok());
            if let Some(after) = after {
                socket.put_back(&read_buf);
                return Exit::Upgrade(after, socket);
            }
            let is_late = served.as_ref().is_err_and(hyper::Error::is_timeout);
            refuse_rest(&mut socket, is_late && !read_buf.is_empty()).await;
            Exit::Done(served, socket)
        }
    }
}

/// Refuses the rest of a request: memory is full, or it came too slowly. A caller that has sent half a head gets a
/// response; a silent caller gets none.
async fn refuse_rest<S>(socket: &mut Socket<S>, is_late: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if socket.is_out_of_memory() {
        let _ = socket.write_all(&PlainRefusal::FULL.response()).await;
    } else if is_late {
        let _ = socket.write_all(&PlainRefusal::TOO_SLOW.response()).await;
    }
}

fn wants_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::http::Answering;

    struct Here;

    impl Handler for Here {
        type Connection = ();

        fn connection(&self) {}

        fn answer<'a>(&self, (): &'a (), _: Request<Body>) -> Answering<'a> {
            Box::pin(ready(Response::new(Body::from("here"))))
        }
    }

    #[tokio::test]
    async fn a_request_that_has_arrived_is_answered_though_the_server_is_to_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: g\r\n\r\n").await.unwrap();
        accepted.readable().await.unwrap();
        // The runtime of requests is another one, and has not seen those bytes yet.
        let stream = TcpStream::from_std(accepted.into_std().unwrap()).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let (http, memory) = (Builder::new(), Arc::new(Memory::new(1 << 20)));
        let answer = async {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            drop(client);
            answer
        };
        let (served, answer) = tokio::join!(serve(stream, &http, LINGER, &Here, &memory, &stop), answer);
        served.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_that_has_moved_to_another_task_is_answered_there_and_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: g\r\n\r\n";
        client.write_all(request).await.unwrap();
        stream.readable().await.unwrap();
        let (stop, memory, mut http) = (CancellationToken::new(), Arc::new(Memory::new(1 << 20)), Builder::new());
        // No time ends the connection.
        http.header_read_timeout(None);
        let stopping = stop.clone();
        let serving = async move { serve(stream, &http, Duration::MAX, &Here, &memory, &stopping).await };
        let mut serving = Box::pin(serving);
        assert!(serving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let served = tokio::spawn(serving);
        for again in [true, false] {
            let mut answer = Vec::new();
            while !answer.ends_with(b"here") {
                assert!(client.read_buf(&mut answer).await.unwrap() > 0, "closed without an answer");
            }
            if again {
                client.write_all(request).await.unwrap();
            }
        }
        stop.cancel();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        drop(client);
        served.await.unwrap().unwrap();
    }
}
