//! The gateway or provider that is probed.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use steadfast::Dialect;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    answer::Answer,
    caller::Caller,
    dialects::{self, Received},
    prompt::Prompt,
};

/// The body of a response.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// A gateway or provider, as an HTTP service.
///
/// The URIs of its requests have a path alone; the service knows the host, and adds a path's beginning where the API
/// has one.
#[derive(Clone)]
pub struct Subject {
    service: BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody>, BoxError>,
    key: Option<String>,
    model: String,
    patience: Duration,
}

impl Subject {
    /// Creates a subject without a key, whose model is `default`, and with a patience of 100 s.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<ResponseBody>, Error = BoxError>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let service = BoxCloneSyncService::new(service);
        Self { service, key: None, model: "default".to_owned(), patience: Duration::from_secs(100) }
    }

    /// Sets the key, which goes where each vendor's SDK puts it.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the model that every request asks for.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Sets the longest time to the end of an answer. Default: 100 s, which failoverbench gives a gateway whose
    /// provider is silent.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Returns the same subject, called with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        self.clone().key(key)
    }

    /// Sends a prompt, and reads its answer up to the end.
    ///
    /// # Errors
    ///
    /// No connection, or no end within the patience.
    pub(crate) async fn ask(&self, caller: Caller, prompt: &Prompt) -> Result<Answer, String> {
        let request = dialects::request(caller, &self.model, prompt);
        self.post(caller, &request.path, request.body.to_string()).await
    }

    /// Sends a body to a caller's path.
    pub(crate) async fn ask_raw(&self, caller: Caller, body: String) -> Result<Answer, String> {
        self.post(caller, &dialects::path(caller, &self.model), body).await
    }

    /// Sends a body to any path, and reads the answer up to the end.
    pub(crate) async fn post(&self, caller: Caller, path: &str, body: String) -> Result<Answer, String> {
        let all = async {
            let (mut response, mut body) = self.send(caller, path, body).await?;
            while response.grow(&mut body).await {}
            Ok(dialects::read(caller, &response))
        };
        timeout(self.patience, all).await.unwrap_or_else(|_| Err(format!("no end within {:?}", self.patience)))
    }

    /// Sends a prompt, and reads its answer up to the first text. The rest is still to come.
    pub(crate) async fn begin(&self, caller: Caller, prompt: &Prompt) -> Result<Begun, String> {
        let request = dialects::request(caller, &self.model, prompt);
        let first = async {
            let (mut response, mut body) = self.send(caller, &request.path, request.body.to_string()).await?;
            while response.grow(&mut body).await {
                // Its last event may be cut.
                let so_far = Received { is_broken: true, ..response.clone() };
                if !dialects::read(caller, &so_far).text.is_empty() {
                    return Ok(Begun { _body: body });
                }
            }
            Err(format!("no text: {}", dialects::read(caller, &response)))
        };
        timeout(self.patience, first).await.unwrap_or_else(|_| Err(format!("no text within {:?}", self.patience)))
    }

    async fn send(&self, caller: Caller, path: &str, body: String) -> Result<(Received, ResponseBody), String> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| format!("the model's name makes no path: {error}"))?;
        let headers = request.headers_mut();
        if caller.dialect == Dialect::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        if let Some(key) = &self.key {
            let (name, value) = match caller.dialect {
                Dialect::Anthropic => ("x-api-key", key.clone()),
                Dialect::Gemini => ("x-goog-api-key", key.clone()),
                Dialect::OpenAi | Dialect::Responses => ("authorization", format!("Bearer {key}")),
            };
            let mut value = HeaderValue::try_from(value).map_err(|_| "the key is no header's value".to_owned())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let response = self.service.clone().oneshot(request).await.map_err(|error| format!("no answer: {error}"))?;
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        Ok((Received { status, headers: head.headers, body: Vec::new(), is_broken: false }, body))
    }

    /// Returns the JSON of a prompt, without one of its fields.
    pub(crate) fn body_without(&self, caller: Caller, prompt: &Prompt, field: &str) -> String {
        let mut body = dialects::request(caller, &self.model, prompt).body;
        if let Some(fields) = body.as_object_mut() {
            fields.remove(field);
        }
        body.to_string()
    }
}

impl Received {
    /// Takes the next piece of the body. Returns false at its end, or where the connection breaks.
    async fn grow(&mut self, body: &mut ResponseBody) -> bool {
        match body.frame().await {
            Some(Ok(frame)) => {
                // Trailers are no part of it.
                frame.into_data().iter().for_each(|piece| self.body.extend_from_slice(piece));
                true
            }
            Some(Err(_)) => {
                self.is_broken = true;
                false
            }
            None => false,
        }
    }
}

/// An answer that has begun. Dropping it leaves.
pub(crate) struct Begun {
    _body: ResponseBody,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("model", &self.model).field("patience", &self.patience).finish_non_exhaustive()
    }
}
