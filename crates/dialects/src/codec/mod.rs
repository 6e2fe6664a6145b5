//! Adapters for clients of your own: a request to the JSON of a provider's protocol, and its answer back.
//!
//! A [`Codec`] does for any client what the leaves of this crate do for their own transport,
//! with the same code, and it needs the feature `codec` alone. [`Codec::encode`] makes an [`Exchange`] of a request.
//! Its [body](Exchange::body) goes to the provider; its other methods make an [`LlmResponse`](crate::LlmResponse) or an
//! [`LlmError`] of what comes back.
//!
//! # A client that sends bytes
//!
//! ```
//! use bytes::Bytes;
//! use futures_util::stream::{self, Stream};
//! use http::{HeaderMap, StatusCode};
//! use steadfast::{Dialect, LlmRequest, LlmError, provider_fn, providers::codec::Codec};
//! use tower::ServiceExt;
//!
//! # struct Answer { status: StatusCode, headers: HeaderMap, body: Bytes }
//! # impl Answer {
//! #     fn stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> { stream::iter([Ok(self.body)]) }
//! # }
//! # #[derive(Clone)] struct Client;
//! # impl Client {
//! #     async fn post(&self, path: &str, headers: &HeaderMap, body: Bytes) -> Result<Answer, std::io::Error> {
//! #         assert_eq!((path, headers["x-api-key"].to_str().unwrap()), ("/messages", "key"));
//! #         let (status, body) = match std::str::from_utf8(&body).unwrap().contains("hello") {
//! #             true => (200, r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#),
//! #             false => (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
//! #         };
//! #         Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: body.into() })
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let codec = Codec::new(Dialect::Anthropic).model("claude-sonnet-4-5").key("key");
//! # let client = Client;
//! let leaf = provider_fn(move |request: LlmRequest| {
//!     let (codec, client) = (codec.clone(), client.clone());
//!     async move {
//!         let exchange = codec.encode(&request).await?;
//!         let answer = client.post(exchange.path(), exchange.headers(), exchange.body()).await;
//!         let answer = answer.map_err(|error| exchange.unanswered(error))?;
//!         match answer.status.is_success() {
//!             false => Err(exchange.error(answer.status, &answer.headers, answer.body)),
//!             true if request.is_stream() => exchange.stream_sse(answer.stream()).await,
//!             true => exchange.answer(answer.body),
//!         }
//!     }
//! });
//! let response = leaf.clone().oneshot(LlmRequest::prompt("hello")).await.unwrap();
//! assert_eq!(response.text().await.unwrap(), "hi");
//! let error: LlmError = leaf.oneshot(LlmRequest::prompt("anyone there?")).await.unwrap_err();
//! assert_eq!(error.kind(), steadfast::ErrorKind::Overloaded);
//! # }
//! ```
//!
//! # A client with types of its own
//!
//! A client whose types are serde types of the protocol takes [`Exchange::json`] in place of the bytes, and gives its
//! answers and chunks to [`Exchange::answer_json`] and [`Exchange::stream_json`]. [`Exchange::error_json`] reads the
//! fields of its errors. The example `streaming_provider` is such a leaf.
//!
//! # What is kept
//!
//! - A request in the codec's dialect ([`Wire`](crate::Wire)) keeps its bytes: only `model`, `stream` and what a layer
//!   has set change. Every other one is [translated](crate::translate), by the family of its model.
//! - An answer keeps the provider's bytes for callers of the same dialect. The events of a client become server-sent
//!   events again.
//! - An error has the kind that a leaf gives to the same failure, be it of a status, in a 200 or within a stream.
//!
//! The other direction is [`Wire::new`](crate::Wire::new) for a request in any dialect, whose
//! [`LlmRequest::chat`](crate::LlmRequest::chat) is the neutral form, and
//! [`encode_message`](crate::translate::encode_message) for an answer.
//!
//! A codec does not wait, retry or limit time: the layers do.

mod any;
mod exchange;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use self::any::AnyProtocol;
pub use self::exchange::Exchange;
pub use super::protocol::{Limits, RequestBody};
use super::{
    openai::ChatCompletions,
    protocol::{Coder, request_id},
};
use crate::{
    Dialect, Events, LlmError, LlmRequest,
    internal::wall_clock,
    models::FamilyTable,
    translate::{Maker, SealMemory},
    wire::{Stop, offload},
};

/// Encodes requests for a client of your own, and decodes its answers and errors. See the [module docs](self).
///
/// Clones share the settings, and the memory of parameters that models refuse.
#[derive(Clone)]
pub struct Codec(Arc<Coder<AnyProtocol>>);

impl Codec {
    /// Creates a codec for the dialect's own provider: Anthropic, OpenAI or Google.
    pub fn new(dialect: Dialect) -> Self {
        let provider = if dialect == Dialect::Responses { Dialect::OpenAi } else { dialect };
        Self(Arc::new(Coder::new(AnyProtocol::new(dialect), provider.to_string(), None)))
    }

    /// Creates a codec for a server that is compatible with OpenAI's Chat Completions, by its name. As with
    /// `OpenAi::compatible`, `mistral` has rules of its own.
    pub fn compatible(provider: impl Into<Arc<str>>) -> Self {
        let provider = provider.into();
        let protocol = AnyProtocol::OpenAi(ChatCompletions::compatible(&provider, ""));
        Self(Arc::new(Coder::new(protocol, provider, None)))
    }

    /// Sets the provider's name in errors, responses and metrics. Default: `anthropic`, `openai`, `gemini`, or the name
    /// of a compatible server.
    #[must_use]
    pub fn named(mut self, provider: impl Into<Arc<str>>) -> Self {
        self.coder_mut().provider = provider.into();
        self
    }

    /// Sets the model, in place of the one that a request names. Default: the request's; a request without one fails
    /// with [`InvalidRequest`](crate::ErrorKind::InvalidRequest).
    #[must_use]
    pub fn model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.coder_mut().model = Some(model.into());
        self
    }

    /// Sets the client's API key: [`Exchange::headers`] carry it, and no error repeats it. Default: none; what looks
    /// like a key is removed from errors all the same.
    #[must_use]
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.coder_mut().set_key(key.into());
        self
    }

    /// Sets whether a request of which a part would have to be omitted is refused. Default: false. See
    /// `HttpLeaf::strict`.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.coder_mut().strict = strict;
        self
    }

    /// Sets the facts of models, by which a request's parameters are translated. Default: the crate's own table,
    /// [`FamilyTable::builtin`].
    #[must_use]
    pub fn families(mut self, families: FamilyTable) -> Self {
        self.coder_mut().families = families;
        self
    }

    /// Sets the channel for [`Event::ParameterRefused`](crate::Event::ParameterRefused). Default: none.
    #[must_use]
    pub fn events(mut self, events: &Events) -> Self {
        self.coder_mut().events = Some(events.clone());
        self
    }

    /// Sets the memory of the accounts that sealed reasoning. Here an account is a [key](Self::key) of a
    /// [provider](Self::named): set both first. Default: none. See
    /// `HttpLeaf::seals`.
    #[must_use]
    pub fn seals(mut self, memory: &SealMemory) -> Self {
        let coder = self.coder_mut();
        let provider = coder.provider.clone();
        coder.enroll(memory, &provider);
        self
    }

    /// Limits the bytes of a stream, and of an error body. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.coder_mut().limits = limits;
        self
    }

    /// Encodes a request. A large one is translated off the threads that serve requests.
    ///
    /// # Errors
    ///
    /// The request is malformed, names no model, or has a feature that the provider has not
    /// ([`UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature)).
    pub async fn encode(&self, request: &LlmRequest) -> Result<Exchange, LlmError> {
        let mut origin = self.0.origin(self.0.model_of(request)).of(request);
        origin.account.seals = self.0.seals(request, origin.model.as_deref());
        let maker = Maker::new(&self.0.provider, self.0.key.as_deref());
        origin.account.maker = self.0.maker_of(maker, origin.model.as_ref());
        let account = origin.account.clone();
        let encoded = if self.0.is_long_work(request, &origin) {
            let (its, asked, model) = (self.clone(), request.clone(), origin.model.clone());
            let work = move |stop| its.0.encode(&asked, model.as_deref(), account, asked.is_stream(), stop);
            offload(request.context().deadline, work).await
        } else {
            self.0.encode(request, origin.model.as_deref(), account, request.is_stream(), Stop::default())
        };
        let encoded = encoded.and_then(|mut encoded| {
            encoded.headers = self.0.with_own_headers(encoded.headers)?;
            Ok(encoded)
        });
        match encoded {
            Ok(encoded) => Ok(Exchange::new(self.clone(), request.clone(), origin, encoded)),
            Err(error) => Err(origin.stamp(error)),
        }
    }

    /// Creates the error of an answer with an error status, outside of an [`Exchange`].
    pub fn error(&self, status: StatusCode, headers: &HeaderMap, body: impl Into<Bytes>) -> LlmError {
        let mut body = body.into();
        body.truncate(self.0.limits.error);
        let mut origin = self.0.origin(self.0.model.clone());
        origin.request_id = request_id(headers);
        origin.stamp(self.0.error(&origin.secret, status, headers, body, wall_clock::now()))
    }

    /// Creates the error of a client that keeps the fields of the provider's error, outside of an [`Exchange`]: its
    /// message, type, code and parameter, in the names of the dialect. `error` is the error body or the object in it.
    /// Without a status, the names in the fields alone decide the kind. A message that is the whole body in truth, as
    /// some clients have it, is read as one.
    ///
    /// ```
    /// use http::StatusCode;
    /// use steadfast::{Dialect, ErrorKind, providers::codec::Codec};
    ///
    /// #[derive(serde::Serialize)]
    /// struct ApiError { message: &'static str, r#type: &'static str, code: Option<&'static str> }
    ///
    /// let codec = Codec::new(Dialect::OpenAi);
    /// let mut error = ApiError { message: "Slow down.", r#type: "requests", code: Some("rate_limit_exceeded") };
    /// assert_eq!(codec.error_json(StatusCode::TOO_MANY_REQUESTS, &error).kind(), ErrorKind::RateLimited);
    /// error.code = Some("insufficient_quota");
    /// assert_eq!(codec.error_json(None, &error).kind(), ErrorKind::QuotaExhausted);
    /// ```
    pub fn error_json(&self, status: impl Into<Option<StatusCode>>, error: &impl Serialize) -> LlmError {
        let fields = match serde_json::to_value(error).unwrap_or_default() {
            body @ Value::Object(_) if body.get("error").is_some() => body,
            error => json!({ "error": error }),
        };
        let origin = self.0.origin(self.0.model.clone());
        origin.stamp(self.0.error_of_fields(&origin.secret, status.into(), &fields))
    }

    fn coder_mut(&mut self) -> &mut Coder<AnyProtocol> {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the key nor the headers, which may hold one.
        f.debug_struct("Codec")
            .field("provider", &self.0.provider)
            .field("model", &self.0.model)
            .field("protocol", &self.0.protocol)
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}
