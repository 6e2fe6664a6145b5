//! Calls of a provider's API that are no conversation: embeddings, rankings, pictures, speech.
//!
//! Their bytes pass as they are; only the model's name changes, where a tier has another one. The layers see a request
//! as any other: its model, its size, its deadline. Of the answer a leaf reads the number that is billed and, for
//! embeddings, the length of each vector: vectors of another length belong to another space.

mod answer;
mod rest;
#[cfg(test)]
mod tests;
mod vectors;

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

pub use self::rest::BodyRest;
pub use self::rest::RestPieces;
use super::{
    UNSUPPORTED_PATH,
    object::{JsonText, Object},
};
use crate::{Dialect, ErrorKind, LlmError, chat::Usage, estimate};

/// A call of a provider's API that is no conversation, as the caller's own bytes.
///
/// A leaf of the same dialect forwards the bytes to the same path, with the leaf's `model`, key and headers. Every
/// other leaf refuses it. A `Fallback` sends it to the tiers of its [pool](Self::pool) only.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use steadfast::{Dialect, LlmRequest, OpaqueCall, providers::{OpenAi, http::RequestBody}};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let in_process = tower::service_fn(|request: http::Request<RequestBody>| async move {
///     assert_eq!(request.uri().path(), "/v1/embeddings");
///     let answer = r#"{"data":[{"index":0,"embedding":[0.6,0.8]}],"usage":{"prompt_tokens":1}}"#;
///     Ok::<_, std::io::Error>(http::Response::new(Full::new(Bytes::from(answer))))
/// });
/// let leaf = OpenAi::new("key").model("text-embedding-3-small").transport(in_process);
/// let body = r#"{"model": "text-embedding-3-small", "input": "hello", "dimensions": 2}"#;
/// let call = OpaqueCall::json(Dialect::OpenAi, "/v1/embeddings", body).unwrap().vectors(Some(1536));
/// let answer = leaf.oneshot(LlmRequest::from(call)).await.unwrap();
/// assert_eq!(answer.usage().unwrap().input, 1);
/// assert!(answer.body().wire().is_some_and(|(_, bytes)| bytes.starts_with(b"{\"data\"")));
/// # }
/// ```
#[derive(Clone)]
pub struct OpaqueCall(Arc<Content>);

#[derive(Clone)]
struct Content {
    dialect: Dialect,
    path: Box<str>,
    body: Bytes,
    rest: Option<BodyRest>,
    /// The places of a JSON body's fields.
    object: Option<Object>,
    /// The place of the model's name in a body of another kind.
    model_at: Option<Range<usize>>,
    model: Option<Arc<str>>,
    stream: bool,
    content_type: HeaderValue,
    headers: HeaderMap,
    pool: Arc<str>,
    unit: Unit,
    /// The vectors to be found in the answer.
    vectors: Option<Expected>,
    /// The longest answer in tokens, where the body has one.
    max_tokens: u64,
    /// The length of a vector that the body asks for.
    dimensions: Option<u32>,
    /// True if the numbers of a vector may be packed.
    is_packed: bool,
    /// True if a vector may be base64 of numbers of four bytes.
    is_base64: bool,
    /// True if a vector is to be a list of numbers by the caller's own word.
    is_list: bool,
}

/// The vectors of an answer.
#[derive(Clone, Copy)]
struct Expected {
    dimensions: Option<u32>,
}

/// The unit that a call is billed by, unless its answer reports tokens. It counts as the input tokens of its [`Usage`],
/// so that a [price](crate::prices::Price) is one for a million of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Tokens, as the answer reports them.
    #[default]
    Tokens,
    /// A number that the request says, such as the characters to be spoken or the pictures to be made.
    Fixed(u64),
    /// Searches, as the answer reports them, else one.
    Searches,
    /// Seconds of sound, as the answer reports them. Before the answer, a second is estimated for 16,000 bytes.
    Seconds,
}

/// The form of the vectors of OpenAI's embeddings. Its SDKs ask for base64, and many servers know numbers alone.
pub const ENCODING: &str = "encoding_format";

const FIELDS: [&str; 10] = [
    "model",
    "stream",
    "dimensions",
    "output_dimension",
    "outputDimensionality",
    "output_dtype",
    ENCODING,
    "embedding_types",
    "max_tokens",
    "stream_format",
];

/// The bytes of a second of sound, at 128 kbit/s.
const BYTES_A_SECOND: u64 = 16_000;

impl OpaqueCall {
    /// Creates a call with a JSON body. `path` is the whole path of the API, such as `/v1/embeddings`; `{model}` in it
    /// stands for the model's name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] if the body is no JSON object, with the position of the mistake; if `model` is no
    /// text or `stream` neither true nor false; or if one of the fields that are read here occurs twice.
    pub fn json(dialect: Dialect, path: impl Into<Box<str>>, body: impl Into<Bytes>) -> Result<Self, LlmError> {
        let (path, body) = (path.into(), body.into());
        let invalid = |what: &dyn fmt::Display| {
            LlmError::new(ErrorKind::InvalidRequest, format!("the body is no request for {path}: {what}"))
        };
        let object = Object::read(&body, &FIELDS).map_err(|broken| invalid(&broken))?;
        object.check_names().map_err(|problem| invalid(&problem))?;
        let value = |name| Some(&body[object.field(name)?.value.clone()]).filter(|value| *value != b"null");
        let model = value("model").map(serde_json::from_slice::<JsonText<'_>>).transpose();
        let model = model.map_err(|_| invalid(&"`model` must be a text"))?.map(|JsonText(model)| Arc::from(&*model));
        let stream = match value("stream") {
            None | Some(b"false") => false,
            Some(b"true") => true,
            Some(_) => return Err(invalid(&"`stream` must be true or false")),
        };
        let number = |name| value(name).and_then(|value| serde_json::from_slice::<u32>(value).ok());
        let dimensions = ["dimensions", "output_dimension", "outputDimensionality"].into_iter().find_map(number);
        let is_float = |value: &[u8]| memchr::memmem::find(value, b"\"float\"").is_some();
        let is_packed = ["output_dtype", "embedding_types"].into_iter().filter_map(value).any(|value| !is_float(value));
        let is_base64 = value(ENCODING) == Some(b"\"base64\"");
        let is_list = value(ENCODING) == Some(b"\"float\"");
        let max_tokens = number("max_tokens").map_or(0, u64::from);
        Ok(Self(Arc::new(Content {
            dialect,
            object: Some(object),
            model,
            stream,
            max_tokens,
            dimensions,
            is_packed,
            is_base64,
            is_list,
            ..Content::new(dialect, path, body)
        })))
    }

    /// Creates a call with a body of another content type, such as a form. `model` is the name in it and its place, if
    /// it has one.
    pub fn bytes(
        dialect: Dialect,
        path: impl Into<Box<str>>,
        content_type: HeaderValue,
        body: impl Into<Bytes>,
        model: Option<(Arc<str>, Range<usize>)>,
    ) -> Self {
        let body = body.into();
        let (model, model_at) = model.unzip();
        // A place beyond the bytes is none.
        let model_at = model_at.filter(|place| body.get(place.clone()).is_some());
        Self(Arc::new(Content { content_type, model, model_at, ..Content::new(dialect, path.into(), body) }))
    }

    /// Sets the model, for a path that names it and a body that does not. Default: the body's.
    #[must_use]
    pub fn for_model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.content_mut().model = Some(model.into());
        self
    }

    /// Sets the pool: a `Fallback` sends the call to tiers of this
    /// pool only. The name ends the sentence "the tier does not serve
    /// ..", as in `the model rerank-v3.5`. Default: the model's name.
    #[must_use]
    pub fn with_pool(mut self, pool: impl Into<Arc<str>>) -> Self {
        self.content_mut().pool = pool.into();
        self
    }

    /// Requires vectors in the answer, each with this number of dimensions or with the one that the request asks for.
    /// An answer without any vector, or with one of another length, fails as
    /// [`Malformed`](ErrorKind::Malformed). Without a number each vector must be as long as the first. Default: the
    /// answer is not read.
    #[must_use]
    pub fn vectors(mut self, dimensions: Option<u32>) -> Self {
        self.content_mut().vectors = Some(Expected { dimensions });
        self
    }

    /// Sets the unit that the call is billed by. Default: [`Unit::Tokens`].
    #[must_use]
    pub fn billed_by(mut self, unit: Unit) -> Self {
        self.content_mut().unit = unit;
        self
    }

    /// Sets headers of the caller that go along. Default: none.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.content_mut().headers = headers;
        self
    }

    /// Adds the rest of the body, which comes in pieces behind [`body`](Self::body). It is sent once: the request that
    /// is made of the call has one attempt, and no limit of time but its own
    /// [timeout](crate::LlmRequest::with_timeout). Default: none.
    ///
    /// A leaf at a cloud refuses it, as does one with a `transport` of
    /// the user's without `uploads`.
    #[must_use]
    pub fn with_rest(mut self, rest: BodyRest) -> Self {
        self.content_mut().rest = Some(rest);
        self
    }

    fn content_mut(&mut self) -> &mut Content {
        Arc::make_mut(&mut self.0)
    }

    /// The dialect of the API.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// The path of the API.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The bytes.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// The rest of the body.
    #[doc(hidden)]
    pub fn rest(&self) -> Option<&BodyRest> {
        self.0.rest.as_ref()
    }

    /// Returns true if the body comes in pieces.
    #[inline]
    #[doc(hidden)]
    pub fn is_upload(&self) -> bool {
        self.0.rest.is_some()
    }

    /// Returns the number of bytes, as far as it is known.
    fn length(&self) -> u64 {
        let rest = self.0.rest.as_ref().map_or(0, BodyRest::length);
        self.0.body.len() as u64 + rest
    }

    /// The model that the caller names.
    pub fn model(&self) -> Option<&str> {
        self.0.model.as_deref()
    }

    /// Returns true if the caller asks for a stream.
    pub fn is_stream(&self) -> bool {
        self.0.stream
    }

    /// The pool whose tiers may serve the call.
    pub fn pool(&self) -> &str {
        match (&*self.0.pool, &self.0.model) {
            ("", Some(model)) => model,
            (pool, _) => pool,
        }
    }

    /// The headers that go along.
    pub fn header_map(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The body's content type.
    pub fn content_type(&self) -> &HeaderValue {
        &self.0.content_type
    }

    /// Returns true if the caller may expect events. One that does not has its answer whole, within its time.
    #[doc(hidden)]
    pub fn may_have_events(&self) -> bool {
        let content = &*self.0;
        // A form and the paths of Gemini's streams say it elsewhere.
        let says_elsewhere =
            |object: &Object| object.field("stream_format").is_some() || content.path.contains("stream");
        content.stream || content.object.as_ref().is_none_or(says_elsewhere)
    }

    /// The places of a JSON body's fields.
    #[doc(hidden)]
    pub fn object(&self) -> Option<&Object> {
        self.0.object.as_ref()
    }

    /// The place of the model's name in a body that is no JSON.
    #[doc(hidden)]
    pub fn model_at(&self) -> Option<Range<usize>> {
        self.0.model_at.clone()
    }

    /// Returns the units to reserve before the answer says them.
    pub(crate) fn estimated_units(&self) -> u64 {
        match self.0.unit {
            Unit::Tokens => (estimate::characters(&self.0.body) / estimate::CHARS_PER_TOKEN) as u64,
            Unit::Fixed(units) => units,
            Unit::Searches => 1,
            Unit::Seconds => self.length() / BYTES_A_SECOND,
        }
    }

    /// Returns the tokens to reserve for the answer.
    pub(crate) fn estimated_answer(&self) -> u64 {
        self.0.max_tokens
    }

    /// Returns true if it asks for pictures, sound or films, or for the text of sound, whose length no field tells.
    pub(crate) fn is_media(&self) -> bool {
        ["/images", "/audio", "/videos"].iter().any(|part| self.0.path.contains(part))
    }

    /// Returns the error of a service that needs a conversation.
    pub(crate) fn no_chat(&self) -> LlmError {
        let message = format!("{}: only a provider of the {} dialect has it", self.0.path, self.0.dialect);
        LlmError::new(ErrorKind::UnsupportedFeature, message).with_code(UNSUPPORTED_PATH)
    }

    /// Reads what was billed from the end of a streamed answer.
    #[doc(hidden)]
    pub fn read_end(&self, end: &[u8]) -> Option<Usage> {
        answer::usage(end, self.0.unit)
    }

    /// Returns true if the whole answer must be read before any of it may be sent on.
    #[doc(hidden)]
    pub fn is_checked(&self) -> bool {
        self.0.vectors.is_some()
    }

    /// The length of the answer's vectors, as far as the request or its space says it.
    #[doc(hidden)]
    pub fn vector_length(&self) -> Option<u32> {
        self.0.dimensions.or_else(|| self.0.vectors?.dimensions)
    }

    /// Returns true if the caller says in which form the vectors are to be, and another form can be brought into it.
    #[doc(hidden)]
    pub fn has_encoding(&self) -> bool {
        let content = &*self.0;
        content.vectors.is_some() && !content.is_packed && (content.is_base64 || content.is_list)
    }

    /// Returns an answer with its vectors in the form that the caller asks for.
    #[doc(hidden)]
    pub fn in_callers_form(&self, answer: Bytes) -> Bytes {
        let converted = if self.has_encoding() {
            vectors::converted(&answer, self.0.is_base64, self.vector_length())
        } else {
            None
        };
        converted.map_or(answer, Bytes::from)
    }

    /// Reads of an answer what was billed, and checks its vectors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if the vectors are not of the expected length, or there are none.
    #[doc(hidden)]
    pub fn read(&self, answer: &[u8]) -> Result<Option<Usage>, LlmError> {
        let content = &*self.0;
        if let Some(Expected { dimensions }) = content.vectors {
            let expected = content.dimensions.or(dimensions);
            vectors::check(answer, expected, content.is_packed, content.is_base64, self.pool())?;
        }
        Ok(answer::usage(answer, content.unit))
    }
}

impl Content {
    fn new(dialect: Dialect, path: Box<str>, body: Bytes) -> Self {
        Self {
            dialect,
            path,
            body,
            rest: None,
            object: None,
            model_at: None,
            model: None,
            stream: false,
            content_type: HeaderValue::from_static("application/json"),
            headers: HeaderMap::new(),
            pool: "".into(),
            unit: Unit::default(),
            vectors: None,
            max_tokens: 0,
            dimensions: None,
            is_packed: false,
            is_base64: false,
            is_list: false,
        }
    }
}

impl fmt::Debug for OpaqueCall {
    /// Writes nothing of the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpaqueCall")
            .field("path", &self.0.path)
            .field("model", &self.0.model)
            .field("pool", &self.pool())
            .field("bytes", &self.0.body.len())
            .finish_non_exhaustive()
    }
}
