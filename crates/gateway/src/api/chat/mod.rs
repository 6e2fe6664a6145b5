//! Calls of models, in all protocols.
//!
//! The protocols differ in a [`Dialect`]. The failover is below, in the service, and knows neither.
//!
//! **The head.** The gateway holds a response's head back until the first token, so that every earlier failure has its
//! own status. A caller of a stream that waits longer than [`first_sign`](crate::limits::Settings::first_sign) gets the
//! head then, with status 200 and signs of life after it; a later failure is an error event.

mod exchange;

use std::sync::{Arc, Mutex};

use axum::body::Body;
use http::{HeaderMap, Response};
use steadfast::{BoxLlmService, Dialect, ErrorKind, LlmError, LlmRequest, body::AnswerMemory};
use tokio::time::sleep;

use self::exchange::Exchange;
pub(crate) use super::client::Client;
use super::{
    admission,
    call::Call,
    connection::ConnectionContext,
    conversation::{self, Beginning, Order, Turn},
    failure::Failure,
    heads::HEADER_CAPACITY,
    inbound,
    keys::{self, Key},
    ownership::AnswerIds,
    panic::{self, Panic},
    paths::{addresses::Deployment, gemini::PathCall},
    refusal, stored_responses,
    stream::{EventStream, PendingCall, ResponseStart, StreamLimits, StreamRecords},
};
use crate::{lifecycle::stopping, limits::answers::AnswerSpace};

/// A call of a model, as its address says it.
pub(crate) struct ChatCall {
    pub(crate) dialect: Dialect,
    /// The model and the form of the answer, if the path names them.
    pub(crate) path: Option<PathCall>,
    /// The model that the address names, in place of the body's.
    pub(crate) deployment: Option<Deployment>,
    /// True for a conversation that is to be compacted, in place of an answer to it.
    pub(crate) is_compaction: bool,
    /// The caller's own client, where the call comes from one.
    pub(crate) client: Option<Client>,
}

impl ChatCall {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, path: None, deployment: None, is_compaction: false, client: None }
    }

    /// Returns true if its stream is the elements of a JSON array.
    pub(crate) fn is_array(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.is_array)
    }
}

/// What the answer to a request needs.
struct Prepared {
    request: LlmRequest,
    /// The turn of a conversation that the gateway keeps.
    turn: Option<Box<Turn>>,
    /// The ids that the answer gives.
    ids: Option<Box<AnswerIds>>,
    space: Arc<AnswerSpace>,
}

/// Answers a call of a model.
pub(crate) async fn answer(
    mut call: Box<Call>,
    chat: ChatCall,
    body: Body,
    connection: &ConnectionContext,
) -> Response<Body> {
    let (request, ids) = match admit(&mut call, &chat, body).await {
        Ok(admitted) => admitted,
        Err(failure) => return call.refuse(failure),
    };
    if let Some(wire) = request.wire().filter(|wire| wire.is_background()) {
        return match &chat.client {
            // It talks to the provider that keeps the response.
            Some(client) => client.leave(wire.body().clone()),
            None => Box::pin(in_background(call, &chat, request, ids)).await,
        };
    }
    match prepare(&mut call, &chat, request, ids, connection).await {
        Ok(prepared) => ask(call, chat.is_array(), prepared, connection).await,
        Err(error) => call.fail(&error),
    }
}

/// Begins a response in the background, and answers with it. Its call goes on without the caller.
async fn in_background(
    mut call: Box<Call>,
    chat: &ChatCall,
    request: LlmRequest,
    ids: Option<Box<AnswerIds>>,
) -> Response<Body> {
    // It outlives the caller's own.
    let connection = ConnectionContext::of(&call.gateway);
    let (prepared, beginning) = match begin_in_background(&mut call, chat, request, ids, &connection).await {
        Ok(begun) => begun,
        Err(error) => return call.fail(&error),
    };
    let mut head = HeaderMap::with_capacity(HEADER_CAPACITY);
    call.write_head(&mut head);
    let answer = beginning.answer(head, call.settings.keep_alive);
    let (runs, largest_event) = (call.gateway.runs.clone(), call.settings.body);
    let entry = call.entry.record();
    let asking = async move { ask(call, false, prepared, &connection).await };
    let asking = panic::respond(asking, move |caught| {
        caught.log(Some(entry.id()));
        refusal::refuse(&Panic::error(), Dialect::Responses)
    });
    beginning.spawn(&runs, Box::pin(asking), largest_event);
    answer
}

async fn begin_in_background(
    call: &mut Call,
    chat: &ChatCall,
    request: LlmRequest,
    ids: Option<Box<AnswerIds>>,
    connection: &ConnectionContext,
) -> Result<(Prepared, Beginning), LlmError> {
    if call.gateway.archive().is_none() {
        return Err(stored_responses::no_background());
    }
    let reservation = || call.gateway.memory.reservation(call.key.as_ref().map(|key| &key.memory));
    let (request, order) = Order::read(request, reservation).await?;
    let mut prepared = prepare(call, chat, request, ids, connection).await?;
    let beginning = order.begin(prepared.turn.as_deref_mut()).await?;
    Ok((prepared, beginning))
}

/// Reads the body, and returns the request that it is, if the caller may make it; with the ids that its answer gives.
async fn admit(call: &mut Call, chat: &ChatCall, body: Body) -> Result<(LlmRequest, Option<Box<AnswerIds>>), Failure> {
    let (_, body) = call.open(body)?;
    let body = call.reader().read(&call.headers, body).await?;
    let request = match chat.is_compaction {
        true => inbound::compaction(&call.headers, body),
        false => inbound::request(call.dialect, &call.headers, chat.path.as_ref(), body, &call.settings),
    }?;
    let request = match &chat.deployment {
        Some(deployment) => deployment.in_request(request)?,
        None => request,
    };
    let request = call.options.apply(call.gateway.catalog.admit(request)?)?;
    call.check_model(request.model())?;
    let Some(key) = &call.key else { return Ok((request, None)) };
    // Boxed: inline they would enlarge every request's future.
    if let Some(wire) = request.wire().filter(|_| key.is_for_some_models()) {
        Box::pin(call.check_named_models(wire.body())).await?;
    }
    let (request, ids) = Box::pin(admission::admit(&call.gateway, Some(key), request)).await?;
    Ok((request, ids.map(Box::new)))
}

/// Prepares a request for the service: with the failures that it repeats, the caller's memory and its conversation.
async fn prepare(
    call: &mut Call,
    chat: &ChatCall,
    request: LlmRequest,
    ids: Option<Box<AnswerIds>>,
    connection: &ConnectionContext,
) -> Result<Prepared, LlmError> {
    let (gateway, key) = (&call.gateway, call.key.as_ref());
    let repeat = gateway.repeats.mark(&call.headers, key.map(|key| &*key.name), &request, &connection.failures);
    let request = repeat.inform(request).inspect_err(|_| {
        call.entry.note(vec!["answered with the failure of the same request's last call".into()]);
    })?;
    let waits = call.settings.wait_for_rate_limits.contains(&call.dialect) && !repeat.is_by_a_client_that_repeats();
    call.entry.set_repeat(repeat);
    let space = call.answer_space();
    let mut request = request
        .with_id(call.entry.shared_id())
        .with_status_of(refusal::status_of(call.entry.reader(), call.dialect))
        .with_extension(AnswerMemory::new(space.clone()));
    if waits {
        request = request.wait_for_rate_limits();
    }
    if let Some(client) = &chat.client {
        request = request.with_extension(client.transport.clone());
    }
    let mut turn = None;
    if call.dialect == Dialect::Responses
        && let Some(archive) = gateway.archive()
    {
        // Boxed: inline it would enlarge every request's future.
        (request, turn) = Box::pin(conversation::begin(gateway, archive, key, &call.settings, request)).await?;
    }
    Ok(Prepared { request, turn, ids, space })
}

/// Asks the service, and returns its answer in the caller's dialect.
async fn ask(
    mut call: Box<Call>,
    is_array: bool,
    prepared: Prepared,
    connection: &ConnectionContext,
) -> Response<Body> {
    let Prepared { request, turn, mut ids, space } = prepared;
    let model: Option<Arc<str>> = request.model().map(Into::into);
    call.entry.set_request(model.as_ref(), call.options.feature.take(), request.is_stream());
    call.entry.set_session(request.session());
    call.entry.set_cache(call.gateway.catalog.keeps_answers());
    let is_read = || call.gateway.catalog.reads_requests() || call.key.as_ref().is_some_and(|key| key.reads_requests());
    inbound::decode_ahead(&request, is_read).await;
    let key = call.key.clone();
    let exchange = Exchange { call, is_array, model, request: request.clone() };
    if request.is_stream() {
        // A stream may outlive its request's turn on the connection.
        let service = Mutex::new(exchange.call.gateway.service.clone());
        let asking = Box::pin(first_frame(key, service, request));
        return begin(exchange, asking, StreamRecords { turn, ids }, connection).await;
    }
    let answered = tokio::select! {
        biased;
        answered = keys::call(key, &connection.service, request) => answered,
        () = connection.cut.cancelled() => Err(stopping()),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => return exchange.call.fail(&error),
    };
    let own = exchange.own(&response);
    if let Some(ids) = &mut ids {
        ids.served(response.served_by().tier);
    }
    // The provider keeps its own answer, and none that is a translation.
    let account = turn.as_ref().and_then(|turn| turn.account(&response)).filter(|_| own.is_some());
    let answered = match own {
        Some(body) => Ok(exchange.pass_through(&mut response, body)),
        None if exchange.request.is_compaction() => Err(stored_responses::no_compaction()),
        None => Box::pin(exchange.translate(response)).await,
    };
    let answer = match answered {
        Ok(answer) => answer,
        Err(error) => return exchange.call.fail(&error),
    };
    let answer = match ids {
        Some(ids) => Box::pin(ids.give_whole(answer)).await,
        None => answer,
    };
    let answer = match turn {
        Some(turn) => Box::pin(turn.record(answer, account)).await,
        None => answer,
    };
    match space.needs_count(&answer) {
        true => Box::pin(exchange.call.counted(space, answer)).await,
        false => answer,
    }
}

/// Calls the service for a stream, and waits for its first frame.
async fn first_frame(
    key: Option<Arc<Key>>,
    service: Mutex<BoxLlmService>,
    request: LlmRequest,
) -> Result<ResponseStart, LlmError> {
    let mut response = keys::call(key, &service, request).await?;
    match response.body_mut().frame().await {
        Some(Ok(first)) => Ok(ResponseStart::new(response, first)),
        Some(Err(error)) => Err(error),
        None => Err(LlmError::new(ErrorKind::EmptyAnswer, "the stream has no event")),
    }
}

/// Starts a streamed response: with its first frame, or without it if the caller has waited for long.
async fn begin(
    exchange: Exchange,
    mut asking: PendingCall,
    keeping: StreamRecords,
    connection: &ConnectionContext,
) -> Response<Body> {
    let settings = exchange.call.settings.clone();
    let start = tokio::select! {
        biased;
        start = &mut asking => Some(start),
        () = sleep(settings.first_sign) => None,
        () = connection.cut.cancelled() => Some(Err(stopping())),
    };
    let limits = StreamLimits {
        dialect: exchange.call.dialect,
        is_array: exchange.is_array,
        keep_alive: settings.keep_alive,
        mark: settings.mark,
        notices: exchange.call.options.notices.unwrap_or(settings.notices),
        cut: &connection.cut,
    };
    match start {
        Some(Ok(start)) => exchange.stream(start, keeping, &limits),
        Some(Err(error)) => exchange.call.fail(&error),
        None => {
            let (mut head, is_array) = (HeaderMap::new(), exchange.is_array);
            exchange.call.write_head(&mut head);
            let encoder = exchange.encoder(None, false);
            let events = EventStream::pending(asking, encoder, exchange.call.entry, &limits).keeping(keeping);
            exchange::events_response(head, events, is_array)
        }
    }
}
