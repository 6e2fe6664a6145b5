//! The error of an error answer.

use bytes::Bytes;
use http::response::Parts;

#[cfg(feature = "clouds")]
use super::CallerTransport;
use super::leaf::Settings;
#[cfg(feature = "clouds")]
use crate::protocol::Secret;
use crate::{
    LlmError, LlmRequest,
    internal::wall_clock,
    protocol::{Origin, Protocol},
};

/// Creates the error of an error answer, by the names of the leaf's door, if the request went there.
pub(super) fn error_of<P: Protocol>(
    settings: &Settings<P>,
    request: &LlmRequest,
    origin: &Origin,
    head: &Parts,
    body: Bytes,
) -> LlmError {
    let coder = &settings.coder;
    #[cfg(feature = "clouds")]
    if let Some(door) = &settings.door
        && CallerTransport::of(request, coder.protocol.dialect()).is_none()
    {
        let model = origin.model.as_deref();
        let secret = door.secret().map_or_else(|| origin.secret.clone(), |secret| Secret(Some(secret)));
        if let Some(meaning) = door.meaning(coder.protocol.dialect(), model, head.status, &head.headers, &body) {
            return coder.error_with(meaning, &secret, head.status, &head.headers, body, wall_clock::now());
        }
        return coder.error(&secret, head.status, &head.headers, body, wall_clock::now());
    }
    let _of_doors = request;
    coder.error(&origin.secret, head.status, &head.headers, body, wall_clock::now())
}
