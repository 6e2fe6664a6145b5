use std::{borrow::Cow, fmt};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use tower::BoxError;

use super::Codec;
use crate::{
    Dialect, ErrorKind, LlmBody, LlmError, LlmRequest, LlmResponse,
    commit::Commit,
    prices::own_cost::HeaderCost,
    protocol::{
        DataSource, Encoded, EventSource, Frames, Origin, Remedy, RequestBody, SseSource, no_answer, request_id,
        to_json,
    },
};

/// A request in the form of one provider, and the reader of the answer to it. See the [module docs](super).
///
/// [`Codec::encode`] creates it. Clones are cheap: they share the bytes.
#[derive(Clone)]
pub struct Exchange {
    codec: Codec,
    request: LlmRequest,
    origin: Origin,
    encoded: Encoded,
    response_headers: Option<HeaderMap>,
}

impl Exchange {
    pub(super) fn new(codec: Codec, request: LlmRequest, origin: Origin, encoded: Encoded) -> Self {
        Self { codec, request, origin, encoded, response_headers: None }
    }

    /// Returns the request's JSON, in one piece.
    pub fn body(&self) -> Bytes {
        self.encoded.body.clone().into_bytes()
    }

    /// Returns the request's JSON in the pieces that a leaf sends: a forwarded request is not
    /// copied.
    pub fn request_body(&self) -> RequestBody {
        self.encoded.body.clone()
    }

    /// Reads the request into a type of the client's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedFeature`] if the type cannot carry the request, so that a fallback goes on to a tier
    /// that can. [`ErrorKind::InvalidRequest`] if the caller's bytes are not JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, LlmError> {
        serde_json::from_slice(&self.body()).map_err(|error| {
            // Serde's message may quote the prompt, so only the position is used.
            let (kind, what) = match error.classify() {
                Category::Data => (ErrorKind::UnsupportedFeature, "the client's type cannot carry the request"),
                _ => (ErrorKind::InvalidRequest, "the request is not JSON"),
            };
            let place = format!("{what} (line {}, column {} of its JSON)", error.line(), error.column());
            self.origin.stamp(LlmError::new(kind, place))
        })
    }

    /// The headers of a request over HTTP: the protocol's own, the codec's [key](Codec::key) if it has one, and those
    /// of a caller of the same dialect, except for its credentials.
    ///
    /// There is no `Accept-Encoding` among them: the client asks for what it decompresses.
    pub fn headers(&self) -> &HeaderMap {
        &self.encoded.headers
    }

    /// The path of a request over HTTP, behind the base URL: `/messages`, `/chat/completions`,
    /// `/models/gemini-2.5-flash:generateContent`.
    pub fn path(&self) -> &str {
        &self.encoded.path
    }

    /// The model that the request is for.
    pub fn model(&self) -> &str {
        self.origin.model.as_deref().unwrap_or_default()
    }

    /// The parts of the request that were changed or left out. The answer's [notes](LlmResponse::notes) repeat them.
    pub fn notes(&self) -> &[Cow<'static, str>] {
        &self.encoded.translation.notes
    }

    /// Sets the headers of the answer: the response [has them](LlmResponse::headers), and the provider's id of the
    /// request is read from them. Default: none.
    #[must_use]
    pub fn response_headers(mut self, headers: HeaderMap) -> Self {
        self.origin.request_id = request_id(&headers);
        self.response_headers = Some(headers);
        self
    }

    /// Decodes a whole answer.
    ///
    /// # Errors
    ///
    /// Returns the errors of a leaf: an error in place of the answer, an answer without content, bytes that are none.
    pub fn answer(&self, json: impl Into<Bytes>) -> Result<LlmResponse, LlmError> {
        let origin = self.answered();
        let mut translation = self.encoded.translation.clone();
        let body = self.codec.0.decode(&origin, &self.request, json.into(), &mut translation);
        self.response(origin, body, translation.notes)
    }

    /// Decodes a whole answer of a client's own type.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`answer`](Self::answer).
    pub fn answer_json(&self, answer: &impl Serialize) -> Result<LlmResponse, LlmError> {
        match to_json(answer) {
            Ok(json) => self.answer(json),
            Err(error) => Err(self.origin.stamp(not_json(error))),
        }
    }

    /// Decodes a streamed answer from the bytes of its server-sent events, in pieces cut anywhere. The future resolves
    /// at the request's commit point, or else at the first token.
    ///
    /// A stream that ends before the provider's end mark is an error: of the call before the commit point, and of the
    /// response's body after it.
    ///
    /// # Errors
    ///
    /// Returns the errors of a leaf. An item's error is the client's own [`LlmError`], or a broken connection.
    pub async fn stream_sse<S, B, E>(&self, pieces: S) -> Result<LlmResponse, LlmError>
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Into<Bytes>,
        E: Into<BoxError>,
    {
        let limits = self.codec.0.limits;
        self.frames(SseSource::new(pieces.map(|piece| piece.map(B::into).map_err(E::into)).boxed(), limits)).await
    }

    /// Decodes a streamed answer from the events of a client: the JSON of each, without the lines around it. The rest
    /// is as for [`stream_sse`](Self::stream_sse).
    ///
    /// Of OpenAI's protocol the finish reason is an end mark too: most clients keep the `[DONE]` to themselves.
    ///
    /// # Errors
    ///
    /// Returns the errors of a leaf. An item's error is the client's own [`LlmError`], or a broken connection.
    pub async fn stream<S, B, E>(&self, events: S) -> Result<LlmResponse, LlmError>
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Into<Bytes>,
        E: Into<BoxError>,
    {
        let limits = self.codec.0.limits;
        let named = matches!(self.origin.dialect, Dialect::Anthropic | Dialect::Responses);
        let events = events.map(|event| event.map(B::into).map_err(E::into)).boxed();
        self.frames(DataSource::new(events, limits, named)).await
    }

    /// Decodes a streamed answer from the events of a client, in types of its own. The rest is as for
    /// [`stream`](Self::stream).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`stream`](Self::stream).
    pub async fn stream_json<S, T, E>(&self, events: S) -> Result<LlmResponse, LlmError>
    where
        S: Stream<Item = Result<T, E>> + Send + 'static,
        T: Serialize,
        E: Into<BoxError>,
    {
        let json = |event: T| to_json(&event).map_err(|error| BoxError::from(not_json(error)));
        self.stream(events.map(move |event| event.map_err(E::into).and_then(json))).await
    }

    /// Creates the error of an answer with an error status: with its kind, its wait, its code, and the provider's id of
    /// the request.
    ///
    /// The error asks a `RetryWithJitter` to send the request again without a parameter that
    /// the model refuses, if the request can do without it.
    pub fn error(&self, status: StatusCode, headers: &HeaderMap, body: impl Into<Bytes>) -> LlmError {
        self.failed(self.codec.error(status, headers, body))
    }

    /// Creates the error of a client that keeps the fields of the provider's error, and maybe its status. See
    /// [`Codec::error_json`].
    pub fn error_json(&self, status: impl Into<Option<StatusCode>>, error: &impl Serialize) -> LlmError {
        self.failed(self.codec.error_json(status, error))
    }

    /// Creates the error of a request that got no answer: [`ErrorKind::Connect`], unless the client's error is known to
    /// mean something else.
    pub fn unanswered(&self, error: impl Into<BoxError>) -> LlmError {
        self.origin.stamp(no_answer(error.into()))
    }

    fn failed(&self, error: LlmError) -> LlmError {
        let coder = &self.codec.0;
        let model = self.origin.model.as_ref();
        let mut error = self.origin.stamp(error);
        let Some(facts) = coder.refusal_facts(&error) else { return error };
        match coder.remedy((&facts, error.kind()), &self.request, model, &self.encoded, coder.is_vendors) {
            Some(Remedy::SecondCall { parts, .. } | Remedy::Retry(parts)) => error.refuse(parts),
            Some(Remedy::AnotherTier) => error.note_lack(),
            None => {}
        }
        error
    }

    /// Takes note of an answer that is no error.
    fn answered(&self) -> Origin {
        if !self.request.omitted_parameters().is_empty() {
            self.codec.0.remember(&self.request, self.origin.model.as_ref());
        }
        let cost = self.response_headers.as_ref().map(HeaderCost::of).unwrap_or_default();
        Origin { status: Some(StatusCode::OK), cost, ..self.origin.clone() }
    }

    async fn frames(&self, source: impl EventSource + Unpin) -> Result<LlmResponse, LlmError> {
        let origin = self.answered();
        let restore = self.encoded.translation.restore.clone();
        let usage = self.codec.0.usage_watch(&self.request, &origin);
        let frames = Frames::new(self.codec.0.protocol.clone(), origin.clone(), source, restore, usage);
        let point = self.request.context().commit.unwrap_or_default();
        let body = Commit::new(LlmBody::from_frames(frames), point, Some(self.request.clone())).await;
        self.response(origin, body, self.encoded.translation.notes.clone())
    }

    fn response(
        &self,
        origin: Origin,
        body: Result<LlmBody, LlmError>,
        notes: Vec<Cow<'static, str>>,
    ) -> Result<LlmResponse, LlmError> {
        let mut response = LlmResponse::new(body.map_err(|error| origin.stamp(error))?);
        if let Some(headers) = &self.response_headers {
            response = response.with_headers(headers.clone());
        }
        Ok(notes.into_iter().fold(origin.add_to(response), LlmResponse::with_note))
    }
}

/// Creates the error of a client's answer that JSON cannot hold.
fn not_json(error: LlmError) -> LlmError {
    LlmError::new(ErrorKind::Malformed, "the client's answer cannot be written as JSON").with_source(error)
}

impl fmt::Debug for Exchange {
    /// Writes nothing of the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("origin", &self.origin)
            .field("body", &self.encoded.body)
            .finish_non_exhaustive()
    }
}
