//! The exchange at a door: the credential, the request, once more after a refusal of the credential, and the answer.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{BoxError, ServiceExt};

use super::{AwsApi, Door, Place, codec, error};
use crate::{
    ErrorKind, LlmError,
    bedrock::converse::ToolNames,
    body::HeldMemory,
    boxed::{Body, Sending, Transport},
    credentials::{AwsKeys, Credentials, Identity, Token, sigv4},
    http::{RequestBody, leaf::Settings, reading::read_error},
    protocol::Protocol,
    wire::{LARGE, offload},
};

/// Sends a prepared request through the leaf's door.
pub(in crate::http) fn send<P: Protocol>(
    settings: &Settings<P>,
    door: &Arc<Door>,
    transport: Transport,
    mut request: Request<RequestBody>,
    model: Option<Arc<str>>,
    deadline: Option<Instant>,
    memory: HeldMemory,
) -> Sending {
    let exchange = Exchange {
        door: door.clone(),
        again: settings.again.clone(),
        deadline,
        error_limit: settings.coder.limits.error,
        answer_limit: settings.coder.limits.answer,
    };
    let has_key = settings.coder.key.is_some();
    let names = request.extensions_mut().remove::<ToolNames>().unwrap_or_default();
    Box::pin(async move {
        let response = exchange.send(has_key, transport, request).await?;
        let converse = model.as_deref().filter(|_| exchange.door.is_codec()).map(|model| (model, names));
        codec::answer(response, converse, exchange.answer_limit, memory).await
    })
}

/// The header that names the project to bill. A developer's own sign-in at Google has none:
/// <https://cloud.google.com/docs/quotas/set-quota-project>.
const QUOTA_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// One call of a door, and all that a second request needs.
struct Exchange {
    door: Arc<Door>,
    /// The transport of a second request.
    again: Transport,
    deadline: Option<Instant>,
    error_limit: usize,
    answer_limit: usize,
}

impl Exchange {
    async fn send(
        &self,
        has_key: bool,
        transport: Transport,
        request: Request<RequestBody>,
    ) -> Result<Response<Body>, BoxError> {
        let Some(credentials) = &self.door.credentials else {
            return match has_key {
                true => transport.oneshot(request).await,
                false => Err(self.door.no_credentials().into()),
            };
        };
        let token = match credentials.current() {
            Some(token) => token,
            None => credentials.get().await?,
        };
        let spare = copy(&request);
        let ready = self.authorized(request, &token, credentials.signing_time()).await?;
        let response = transport.oneshot(ready).await?;
        if !matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = read_error(body, self.error_limit).await;
        let refusal = error::refusal(head.status, &head.headers, &body);
        let next = match refusal {
            Some(refusal) => self.renewed(credentials, &token, refusal, &head.headers).await,
            None => None,
        };
        let Some(next) = next else {
            let body = Full::new(body).map_err(|never| match never {});
            return Ok(Response::from_parts(head, Body::new(body)));
        };
        tracing::debug!(
            door = self.door.name(),
            status = head.status.as_u16(),
            "request repeated with a renewed credential"
        );
        let ready = self.authorized(spare, &next, credentials.signing_time()).await?;
        self.again.clone().oneshot(ready).await
    }

    /// Reports a refusal to the credentials. Returns the token of a second request, if that may succeed.
    async fn renewed(
        &self,
        credentials: &Credentials,
        token: &Arc<Token>,
        refusal: error::Refused,
        headers: &HeaderMap,
    ) -> Option<Arc<Token>> {
        let date = headers.get(header::DATE).filter(|_| refusal == error::Refused::Signature);
        if credentials.refused(token, date) {
            return credentials.get().await.ok();
        }
        if refusal == error::Refused::Signature {
            return None;
        }
        credentials.renewed(token).await
    }

    /// Adds the credential. The signature of a large body is made off the threads that serve requests.
    async fn authorized(
        &self,
        mut request: Request<RequestBody>,
        token: &Arc<Token>,
        time: SystemTime,
    ) -> Result<Request<RequestBody>, LlmError> {
        match &token.identity {
            Identity::Bearer(text) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", text.trim())).map_err(|_| {
                    let what = "the token contains a character that HTTP headers do not allow";
                    LlmError::new(ErrorKind::Credentials, what)
                });
                let mut value = value?;
                value.set_sensitive(true);
                request.headers_mut().insert(header::AUTHORIZATION, value);
                if let (Place::Vertex { .. }, Some(project)) = (&self.door.place, &token.quota_project) {
                    let project = HeaderValue::from_str(project).map_err(|_| {
                        let what = "the quota project contains a character that HTTP headers do not allow";
                        LlmError::new(ErrorKind::Credentials, what)
                    })?;
                    request.headers_mut().insert(QUOTA_PROJECT, project);
                }
                Ok(request)
            }
            Identity::Aws(keys) => {
                let Place::Aws { region, api } = &self.door.place else {
                    let what = "AWS keys sign requests at AWS alone: this door needs a bearer token";
                    return Err(LlmError::new(ErrorKind::Credentials, what));
                };
                let service = if *api == AwsApi::Mantle { "bedrock-mantle" } else { "bedrock" };
                let (keys, region): (AwsKeys, Box<str>) = (keys.clone(), region.clone());
                if request.body().len() < LARGE {
                    sigv4::sign(&mut request, &keys, &region, service, time)?;
                    return Ok(request);
                }
                let work = move |_| {
                    sigv4::sign(&mut request, &keys, &region, service, time)?;
                    Ok(request)
                };
                offload(self.deadline, work).await
            }
        }
    }
}

/// Copies a request; its body's bytes are shared.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

impl Door {
    fn no_credentials(&self) -> LlmError {
        let what = match self.place {
            Place::Aws { .. } => {
                "the leaf at AWS has no credentials: set AWS keys by `credentials`, or an API key by `key`"
            }
            Place::Azure { .. } => {
                "the leaf at Azure has no credentials: set a key by `key`, or tokens by `credentials`"
            }
            Place::Vertex { .. } => "the leaf at Vertex AI has no credentials: set tokens by `credentials`",
            Place::Own => "the leaf has no credentials: set them by `credentials`",
        };
        LlmError::new(ErrorKind::Credentials, what)
    }

    /// Returns the secret that an answer might repeat.
    pub(in crate::http) fn secret(&self) -> Option<Arc<str>> {
        let token = self.credentials.as_ref()?.current()?;
        match &token.identity {
            Identity::Bearer(text) => Some(text.clone()),
            Identity::Aws(keys) => keys.session.clone(),
        }
    }
}
