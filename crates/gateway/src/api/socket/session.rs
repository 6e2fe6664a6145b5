//! The life of a socket: its turns one after another, its pings, its end.

use std::{borrow::Cow, io, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Map, Value, json};
use steadfast::Dialect;
use steadfast_internal::wall_clock;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::{CapacityError, ProtocolError},
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::metered::MeteredStream;
use crate::{
    api::{
        GatewayState,
        chat::ChatCall,
        connection::ConnectionContext,
        conversation::{Chain, ChainRefusal, Link, TurnEvents, error_message, warm_up_id},
        keys::Key,
        large_body::beside,
        paths,
        reception::{self, Kind},
    },
    http::ByteStream,
    limits::Settings,
};

/// The time between two pings.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The pings without an answer after which a caller has left.
const MOST_UNANSWERED: u32 = 2;
/// The longest life of a socket, as OpenAI's.
const LONGEST_LIFE: Duration = Duration::from_secs(60 * 60);
/// The time for a caller to answer a close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// The buffers of a socket, which it has while it rests too.
const BUFFER: usize = 4 << 10;

/// The caller of a socket, and what its turns have in common.
pub(crate) struct Session {
    gateway: Arc<GatewayState>,
    /// The headers of each turn's request.
    headers: HeaderMap,
    key: Option<Arc<Key>>,
}

/// The reason for which a socket ends.
enum End {
    /// The caller has closed it, or is gone.
    Gone,
    /// The gateway closes it.
    Close(CloseCode, &'static str),
}

/// The meaning of a caller's message.
enum Order {
    Create(String),
    Cancel,
    /// The message is to be answered with this error.
    Wrong(String),
    None,
}

impl Session {
    pub(crate) fn new(gateway: Arc<GatewayState>, of_opening: &HeaderMap, key: Option<Arc<Key>>) -> Self {
        /// Headers of the opening alone, and of one call alone.
        const NOT_OF_TURNS: [HeaderName; 12] = [
            header::CONNECTION,
            header::UPGRADE,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_EXTENSIONS,
            header::SEC_WEBSOCKET_PROTOCOL,
            header::CONTENT_LENGTH,
            header::CONTENT_ENCODING,
            header::CONTENT_TYPE,
            header::TRANSFER_ENCODING,
            header::ACCEPT_ENCODING,
            HeaderName::from_static("idempotency-key"),
        ];
        let mut headers = of_opening.clone();
        for name in NOT_OF_TURNS {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { gateway, headers, key }
    }

    /// Serves the socket until it ends.
    pub(crate) async fn run(self, stream: Box<dyn ByteStream>, ahead: Bytes) {
        let settings = self.gateway.lifecycle.current.load_full();
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(settings.body))
            .max_frame_size(Some(settings.body));
        let (memory, key) = (self.gateway.memory.clone(), self.key.clone());
        let new_memory = move || memory.reservation(key.as_ref().map(|key| &key.memory));
        let stream = MeteredStream::new(stream, ahead.len(), new_memory);
        let socket = WebSocketStream::from_partially_read(stream, ahead.into(), Role::Server, Some(config)).await;
        let now = Instant::now();
        let mut open = OpenSocket { socket, unanswered: 0, next_ping: now + PING_EVERY, unread: settings.unread };
        let end = self.turns(&mut open).await;
        open.end(end).await;
    }

    /// Serves one turn after another. Returns the reason for which the socket ends.
    async fn turns(&self, open: &mut OpenSocket) -> End {
        let (connection, mut chain) = (ConnectionContext::of(&self.gateway), Chain::default());
        let (ends, stop) = (Instant::now() + LONGEST_LIFE, self.gateway.lifecycle.stop.child_token());
        let mut waiting = None;
        loop {
            // A turn that waits has not begun: its caller sends it again, over another connection.
            if stop.is_cancelled() {
                return End::Close(CloseCode::Away, "the gateway stops");
            }
            if Instant::now() >= ends {
                let message = "the connection has been open for an hour: open another one";
                let code = "websocket_connection_limit_reached";
                let _ = open.send(error_message(StatusCode::BAD_REQUEST, code, message, None)).await;
                return End::Close(CloseCode::Normal, "an hour is over");
            }
            let text = match waiting.take() {
                Some(text) => text,
                None => {
                    let order = tokio::select! {
                        biased;
                        order = open.order() => order,
                        () = stop.cancelled() => continue,
                        () = sleep_until(ends) => continue,
                    };
                    match order {
                        Ok(Order::Create(text)) => text,
                        Ok(Order::Cancel | Order::None) => continue,
                        Ok(Order::Wrong(error)) => match open.send(error).await {
                            Ok(()) => continue,
                            Err(end) => return end,
                        },
                        Err(end) => return end,
                    }
                }
            };
            match Box::pin(self.turn(text, &mut chain, &connection, open)).await {
                Ok(next) => waiting = next,
                Err(end) => return end,
            }
        }
    }

    /// Serves a turn. Returns the message of the next one, if it has come already.
    async fn turn(
        &self,
        text: String,
        chain: &mut Chain,
        connection: &ConnectionContext,
        open: &mut OpenSocket,
    ) -> Result<Option<String>, End> {
        let settings = self.gateway.lifecycle.current.load_full();
        let link = self.link(text, chain).await;
        open.socket.get_mut().settle();
        let mut link = match link {
            Ok(link) => link,
            Err(refusal) => return open.send(refused(&refusal)).await.map(|()| None),
        };
        if link.is_warm_up {
            return self.warm_up(link, chain, &settings, open).await.map(|()| None);
        }
        let answering = reception::receive(
            &self.gateway,
            connection,
            Kind::Chat(ChatCall::new(Dialect::Responses)),
            self.request(std::mem::take(&mut link.body)),
        );
        let (mut turn, mut waiting, mut is_cancelled) = (TurnEvents::new(answering), None, false);
        loop {
            tokio::select! {
                biased;
                message = turn.next(settings.body) => match message {
                    Some(message) => open.send(link.told(message)).await?,
                    None => break,
                },
                order = open.order(), if waiting.is_none() => match order? {
                    Order::Create(text) => waiting = Some(text),
                    Order::Wrong(error) => open.send(error).await?,
                    Order::Cancel => {
                        is_cancelled = true;
                        break;
                    }
                    Order::None => {}
                },
            }
        }
        let is_answered = turn.is_answered() && !is_cancelled;
        let tier = turn.tier();
        let is_kept = tier.is_some_and(|tier| self.gateway.catalog.keeps_conversations(Some(&tier)));
        match turn.into_ended().into_parts().filter(|_| is_answered) {
            Some((id, output, is_stored)) => {
                let response = (id, output, is_kept && is_stored);
                chain.answered(link, response, (&self.gateway, self.key.as_ref()), settings.body);
            }
            None => chain.failed(&link),
        }
        if is_cancelled {
            let message = "the response was cancelled";
            open.send(error_message(StatusCode::BAD_REQUEST, "response_cancelled", message, None)).await?;
        }
        Ok(waiting)
    }

    /// Begins a turn. A large conversation is put together beside the threads that serve all callers.
    async fn link(&self, text: String, chain: &mut Chain) -> Result<Link, ChainRefusal> {
        let (mut own, catalog) = (std::mem::take(chain), self.gateway.clone());
        let size = text.len() + own.size();
        let linked = beside(size, move || {
            let link = own.begin(&text, || catalog.catalog.keeps_conversations(None));
            (own, link)
        });
        let (own, link) = linked.await.map_err(|_| ChainRefusal::Malformed)?;
        *chain = own;
        link
    }

    /// Answers a turn that wants an id alone.
    async fn warm_up(
        &self,
        link: Link,
        chain: &mut Chain,
        settings: &Settings,
        open: &mut OpenSocket,
    ) -> Result<(), End> {
        let (id, at) = (warm_up_id().unwrap_or_default(), wall_clock::since_1970().as_secs());
        let mut asked: Map<String, Value> = serde_json::from_str(&link.body).unwrap_or_default();
        let mut response = json!({
            "background": false, "frequency_penalty": 0, "instructions": null, "max_output_tokens": null,
            "max_tool_calls": null, "metadata": {}, "model": "", "parallel_tool_calls": true, "presence_penalty": 0,
            "previous_response_id": null, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null},
            "safety_identifier": null, "service_tier": "default", "temperature": 1, "text": {"format": {"type": "text"}},
            "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1, "truncation": "disabled", "user": null,
        });
        let of_warm_up = json!({
            "id": id, "object": "response", "created_at": at, "completed_at": null, "status": "in_progress",
            "output": [], "error": null, "incomplete_details": null, "store": false,
            "usage": {
                "input_tokens": 0, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 0, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 0,
            },
        });
        if let (Value::Object(response), Value::Object(of_warm_up)) = (&mut response, of_warm_up) {
            for (name, value) in response.iter_mut() {
                if let Some(given) = asked.remove(name).filter(|given| !given.is_null()) {
                    *value = given;
                }
            }
            response.extend(of_warm_up);
        }
        let created = json!({"type": "response.created", "sequence_number": 0, "response": &response});
        open.send(created.to_string()).await?;
        (response["status"], response["completed_at"]) = ("completed".into(), at.into());
        let completed = json!({"type": "response.completed", "sequence_number": 1, "response": response});
        open.send(completed.to_string()).await?;
        chain.answered(link, (id, Vec::new(), false), (&self.gateway, self.key.as_ref()), settings.body);
        Ok(())
    }

    fn request(&self, body: String) -> Request<Body> {
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(paths::RESPONSES);
        *request.headers_mut() = headers;
        request
    }
}

/// Returns the error of a turn that cannot begin.
fn refused(refusal: &ChainRefusal) -> String {
    let (code, message, param): (_, Cow<'_, str>, _) = match refusal {
        ChainRefusal::Malformed => ("invalid_json", "the message is no JSON object".into(), None),
        ChainRefusal::NotFound(id) => (
            "previous_response_not_found",
            format!("Previous response with id '{}' not found.", shortened(id)).into(),
            Some("previous_response_id"),
        ),
        ChainRefusal::NoCall(call) => (
            "invalid_request_error",
            format!("No tool call found for function call output with call_id {}.", shortened(call)).into(),
            Some("input"),
        ),
    };
    error_message(StatusCode::BAD_REQUEST, code, &message, param)
}

fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}

/// A socket that is open.
struct OpenSocket {
    socket: WebSocketStream<MeteredStream>,
    /// The pings since the caller's last sign of life.
    unanswered: u32,
    next_ping: Instant,
    /// The longest time that a message may stay unread.
    unread: Duration,
}

impl OpenSocket {
    /// Waits for what the caller sends next, and pings it meanwhile. Dropping the future loses nothing.
    async fn order(&mut self) -> Result<Order, End> {
        loop {
            let message = tokio::select! {
                biased;
                message = self.socket.next() => message,
                () = sleep_until(self.next_ping) => {
                    if self.unanswered >= MOST_UNANSWERED {
                        return Err(End::Close(CloseCode::Policy, "two pings had no answer"));
                    }
                    (self.unanswered, self.next_ping) = (self.unanswered + 1, Instant::now() + PING_EVERY);
                    self.write(Message::Ping(Bytes::new())).await?;
                    continue;
                }
            };
            self.unanswered = 0;
            let message = message.ok_or(End::Gone)?.map_err(|error| reason(&error))?;
            let order = match message {
                Message::Text(text) => order(text.as_str()),
                Message::Binary(_) => return Err(End::Close(CloseCode::Unsupported, "messages are text")),
                Message::Close(_) => return Err(End::Gone),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Order::None,
            };
            // The message of a turn holds its memory until the turn begins.
            if !matches!(order, Order::Create(_)) {
                self.socket.get_mut().settle();
            }
            return Ok(order);
        }
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.write(Message::text(text)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(self.unread, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// Ends the socket, and waits for a moment until the caller has read why.
    async fn end(mut self, end: End) {
        let frame = match end {
            End::Gone => None,
            End::Close(code, reason) => Some(CloseFrame { code, reason: reason.into() }),
        };
        let closing = async {
            self.socket.close(frame).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok::<_, Error>(())
        };
        let _closed_or_not = timeout(CLOSE_WAIT, closing).await;
    }
}

/// Returns what a message orders.
fn order(text: &str) -> Order {
    let wrong = |code, message: &str| Order::Wrong(error_message(StatusCode::BAD_REQUEST, code, message, None));
    #[derive(serde::Deserialize)]
    struct Event<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Cow<'a, str>>,
    }
    match serde_json::from_str::<Event<'_>>(text) {
        Ok(Event { kind: Some(kind) }) => match &*kind {
            "response.create" => Order::Create(text.to_owned()),
            "response.cancel" => Order::Cancel,
            other => {
                let other: String = other.chars().take(100).collect();
                wrong("unknown_event", &format!("this gateway knows no `{other}`: send `response.create`"))
            }
        },
        Ok(Event { kind: None }) => wrong("missing_type", "the message has no `type`: send `response.create`"),
        Err(_) => wrong("invalid_json", "the message is no JSON object with a `type`"),
    }
}

/// Returns the end that an error of a socket is.
fn reason(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            End::Close(CloseCode::Size, "the message is over `gateway.max_body`")
        }
        Error::Utf8(_) => End::Close(CloseCode::Invalid, "the text is no UTF-8"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Close(CloseCode::Protocol, "the bytes are no WebSocket"),
        Error::Io(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            End::Close(CloseCode::Again, "the gateway has no memory for the message (`gateway.memory`)")
        }
        _ => End::Gone,
    }
}
