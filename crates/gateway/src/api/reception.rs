//! What every call passes before anybody reads its body: the key, the key's right and rate, the options, the record.
//!
//! tower's layers would do the same, each with a box for each call. Here they are lines of one function.

use std::sync::Arc;

use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, request::Parts};
use steadfast::Dialect;
use tokio::time::Instant;

use super::{
    Catalog, GatewayState,
    call::Call,
    chat::{self, ChatCall},
    connection::ConnectionContext,
    door, json_array,
    keys::{Denial, Key},
    lane::{self, LaneAddress},
    objects::{self, ObjectAddress},
    panic::{self, Panic},
    paths::{
        COMPACT, addresses::Deployment, dialect_of_calls, gemini::PathCall, lane::LaneCall, objects::ObjectCall,
        shortened,
    },
    records::Record,
    refusal,
    request_options::RequestOptions,
};
use crate::http::{Answering, immediate};

/// What a call is for.
pub(crate) enum Kind {
    /// An answer of a model.
    Chat(ChatCall),
    /// A service of a model that is no conversation.
    Lane(LaneAddress),
    /// Objects that a provider keeps.
    Objects(ObjectAddress),
}

impl Kind {
    /// Returns what a request is for; `None` if the router knows its path, or nobody does. `deployment` is the model
    /// that its address named.
    pub(crate) fn of<B>(catalog: &Catalog, request: &Request<B>, deployment: Option<Deployment>) -> Option<Self> {
        let (path, method, headers) = (request.uri().path(), request.method(), request.headers());
        let query = || request.uri().query().map(Into::into);
        if let Some(dialect) = dialect_of_calls(path) {
            let is_compaction = path == COMPACT;
            let path = (dialect == Dialect::Gemini).then(|| PathCall::at(request.uri())).flatten();
            let chat = ChatCall { dialect, path, deployment, is_compaction, client: None };
            return (method == Method::POST).then_some(Self::Chat(chat));
        }
        if let Some(call) = ObjectCall::at(path, headers).filter(|_| catalog.is_stack()) {
            return Some(Self::Objects(ObjectAddress { call, method: method.clone(), query: query() }));
        }
        if method != Method::POST || !catalog.has_lane() {
            return None;
        }
        let unknown = || LaneCall::unknown(path, headers, catalog.passes(path)?);
        let call = LaneCall::known(path).or_else(unknown)?;
        Some(Self::Lane(LaneAddress { call, deployment, query: query() }))
    }

    fn dialect(&self) -> Dialect {
        match self {
            Self::Chat(chat) => chat.dialect,
            Self::Lane(lane) => lane.call.dialect,
            Self::Objects(objects) => objects.call.dialect,
        }
    }

    /// Returns the form of its errors.
    fn error_form(&self) -> ErrorForm {
        match self {
            Self::Chat(chat) if chat.is_array() => ErrorForm::Array,
            Self::Lane(lane) if lane.call.is_coheres() => ErrorForm::Cohere,
            _ => ErrorForm::Dialect,
        }
    }

    /// Checks that a key is for it, counts it against the key's rate, and gives it the key's feature.
    fn admit(&self, key: &Key, options: &mut RequestOptions) -> Result<(), Denial> {
        if let Self::Lane(LaneAddress { call, .. }) = self
            && !call.is_listed
        {
            key.passes(&call.path)?;
        }
        key.admit(Instant::now())?;
        options.feature = key.feature(options.feature.take())?;
        if let Self::Objects(_) = self { key.objects() } else { Ok(()) }
    }
}

/// The form of a call's errors.
#[derive(Clone, Copy)]
enum ErrorForm {
    /// That of the dialect.
    Dialect,
    /// The only element of a JSON array.
    Array,
    /// Cohere's.
    Cohere,
}

impl ErrorForm {
    /// Gives a response this form, if it is an error.
    async fn write(self, response: Response<Body>) -> Response<Body> {
        match self {
            _ if response.status().is_success() => response,
            Self::Dialect => response,
            Self::Array => json_array::error_in_array(response).await,
            Self::Cohere => lane::in_coheres_words(response).await,
        }
    }
}

/// Answers a call.
///
/// Decides at once what the head decides. The future stays small: with many callers it has left the processor's cache
/// by the time the answer comes.
pub(crate) fn receive<'a>(
    gateway: &Arc<GatewayState>,
    connection: &'a ConnectionContext,
    kind: Kind,
    request: Request<Body>,
) -> Answering<'a> {
    let (dialect, form) = (kind.dialect(), kind.error_form());
    let answering = panic::catch(|| {
        let (head, body) = request.into_parts();
        match enter(gateway, &kind, head) {
            Ok(call) => answer(call, kind, body, connection),
            Err(refused) => refused,
        }
    });
    let answering = answering.unwrap_or_else(|panic| {
        panic.log(None);
        immediate(refusal::refuse(&Panic::error(), dialect))
    });
    match form {
        ErrorForm::Dialect => answering,
        form => Box::pin(answering.then(move |response| form.write(response))),
    }
}

/// Lets a call in, in this order: its key, its method, the key's rate, feature and right, its record.
fn enter(gateway: &Arc<GatewayState>, kind: &Kind, head: Parts) -> Result<Box<Call>, Answering<'static>> {
    let (dialect, Parts { uri, headers, .. }) = (kind.dialect(), head);
    let key = match kind {
        // The program that has the gateway calls by its own client.
        Kind::Chat(ChatCall { client: Some(_), .. }) => None,
        _ => door::authorize(gateway, &uri, &headers)
            .map_err(|denied| immediate(door::deny(gateway, &denied, None, dialect)))?,
    };
    if let Kind::Objects(ObjectAddress { method, .. }) = kind
        && ![Method::GET, Method::POST, Method::DELETE].contains(method)
    {
        let allowed = HeaderValue::from_static("GET, POST, DELETE");
        return Err(immediate(refusal::wrong_method(shortened(method), &allowed, dialect)));
    }
    let mut options = RequestOptions::from_headers(&headers);
    if let Some(key) = &key {
        kind.admit(key, &mut options).map_err(|denied| immediate(door::deny(gateway, &denied, Some(key), dialect)))?;
    }
    Ok(Call::new(gateway, dialect, key, headers, options))
}

/// Answers a call that came in. A panic is its failure alone.
fn answer<'a>(call: Box<Call>, kind: Kind, body: Body, connection: &'a ConnectionContext) -> Answering<'a> {
    let (record, dialect) = (call.entry.record(), call.dialect);
    let panicked = move |caught| panicked(caught, &record, connection, dialect);
    match kind {
        Kind::Chat(chat) => Box::pin(panic::respond(chat::answer(call, chat, body, connection), panicked)),
        Kind::Lane(lane) => Box::pin(panic::respond(lane::answer(call, lane, body, connection), panicked)),
        Kind::Objects(objects) => Box::pin(panic::respond(objects::answer(call, objects, body, connection), panicked)),
    }
}

/// Returns the response to a panic. The unwinding has dropped the record's entry, which closed the record.
fn panicked(caught: Panic, record: &Record, connection: &ConnectionContext, dialect: Dialect) -> Response<Body> {
    caught.log(Some(record.id()));
    // Its clone is foreign code too.
    let _ = panic::catch(|| connection.renew());
    let mut response = refusal::refuse(&Panic::error(), dialect);
    record.write_id(response.headers_mut());
    response
}
