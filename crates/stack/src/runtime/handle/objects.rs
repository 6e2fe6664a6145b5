//! Requests for the objects that providers keep for callers, such as files and batches.

use std::sync::Arc;

use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::StackHandle;
use crate::Provider;
use steadfast::{
    Dialect, ErrorKind, LlmError,
    providers::transport::{ResponseBody, StreamedBody},
};
use steadfast_internal::codings;

/// A tier whose provider keeps objects for callers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectTier {
    /// The tier's name.
    pub name: Arc<str>,
    /// The tier's model.
    pub model: Option<String>,
    /// A fingerprint of the provider's account. Tiers of one account have the same objects.
    pub account: Arc<str>,
}

impl StackHandle {
    /// Returns the tiers whose providers keep objects and speak this dialect, in the order of a feature or of the file.
    /// A tier at a cloud is none of them, nor is one whose provider is replaced.
    pub fn object_tiers(&self, dialect: Dialect, feature: Option<&str>) -> Vec<ObjectTier> {
        let provider = match dialect {
            Dialect::Anthropic => Provider::Anthropic,
            Dialect::OpenAi => Provider::OpenAi,
            _ => return Vec::new(),
        };
        let current = self.shared.current.load();
        let config = &current.config;
        let named = feature.and_then(|feature| config.features.get(feature)).and_then(|named| named.tiers.as_ref());
        let tiers = config.tiers.iter().filter(|tier| tier.provider == provider).filter_map(|tier| {
            let account = current.tiers.get(&tier.name)?.object_account()?;
            Some(ObjectTier { name: tier.name.as_str().into(), model: tier.model.clone(), account })
        });
        let mut tiers: Vec<ObjectTier> = tiers.collect();
        if let Some(named) = named {
            // The feature's come first; an id may be at any other.
            let place = |tier: &ObjectTier| named.iter().position(|name| **name == *tier.name).unwrap_or(usize::MAX);
            tiers.sort_by_key(place);
        }
        tiers
    }

    /// Returns a text of a tier's provider without the tier's key, which some providers repeat.
    pub fn without_key(&self, tier: &str, text: &Bytes) -> Bytes {
        self.shared.current.load().tiers.get(tier).map_or_else(|| text.clone(), |runtime| runtime.without_key(text))
    }

    /// Sends a request for objects to a tier's provider, with the tier's key, and returns the head of the response.
    /// `path` comes after the API's version, as in `/files/file-1?limit=2`. `headers` are the caller's that go along.
    ///
    /// No layer is around it: no other tier is asked, nothing is repeated, and the time is the caller's to limit.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] for a tier that keeps no objects, [`ErrorKind::Connect`] without a response.
    pub async fn send_for_object(
        &self,
        tier: &str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: StreamedBody,
    ) -> Result<Response<StreamedBody>, LlmError> {
        let head = match self.shared.current.load().tiers.get(tier) {
            Some(runtime) => runtime.object_head(method, path)?,
            None => return Err(LlmError::new(ErrorKind::NotFound, format!("there is no tier `{tier}`"))),
        };
        let Some(client) = self.shared.context.uploads() else {
            let message = "this program sends its requests by a client of its own, which takes no streams";
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, message));
        };
        let (mut parts, ()) = head.into_parts();
        for (name, value) in &headers {
            // The tier's own come first: its key among them.
            parts.headers.entry(name).or_insert_with(|| value.clone());
        }
        let response = client.stream(Request::from_parts(parts, body)).await.map_err(|error| {
            let message = format!("no answer of the provider: {error}");
            LlmError::new(ErrorKind::Connect, message).with_source(error)
        })?;
        Ok(opened(response))
    }
}

/// Opens an answer that came in a content coding, though none was asked for. A part of one cannot be opened.
fn opened(response: Response<ResponseBody>) -> Response<StreamedBody> {
    let (mut head, body) = response.into_parts();
    let codings = match head.status {
        StatusCode::PARTIAL_CONTENT => Vec::new(),
        _ => codings::take(&mut head.headers).unwrap_or_default(),
    };
    let body = match codings.is_empty() {
        true => StreamedBody::new(body.map_err(Into::into)),
        false => {
            let pieces = codings::open_answer(body.into_data_stream(), &codings);
            StreamedBody::new(StreamBody::new(pieces.map(|piece| piece.map(Frame::data).map_err(Into::into))))
        }
    };
    Response::from_parts(head, body)
}
