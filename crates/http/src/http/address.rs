//! The address of a request, with the leaf's headers.

use http::{HeaderMap, Method, Request, Uri};

use super::{
    RequestBody,
    leaf::{RequestTemplate, Settings},
};
use crate::{ErrorKind, LlmError, protocol::Protocol};

/// Creates a request to the provider's API, with the leaf's headers and its key.
pub(super) fn addressed<P: Protocol>(
    settings: &Settings<P>,
    headers: HeaderMap,
    path: &str,
    body: RequestBody,
) -> Result<Request<RequestBody>, LlmError> {
    let template = match settings.template.get() {
        Some(template) => template,
        None => {
            // With room for the transport's own.
            let headers = settings.coder.with_own_headers(HeaderMap::with_capacity(12))?;
            let template = RequestTemplate { path: path.into(), uri: address(settings, path)?, headers };
            settings.template.get_or_init(|| template)
        }
    };
    let mut http = Request::new(body);
    *http.method_mut() = Method::POST;
    *http.uri_mut() = if *template.path == *path { template.uri.clone() } else { address(settings, path)? };
    *http.headers_mut() =
        if headers.is_empty() { template.headers.clone() } else { settings.coder.with_own_headers(headers)? };
    Ok(http)
}

fn address<P: Protocol>(settings: &Settings<P>, path: &str) -> Result<Uri, LlmError> {
    settings.base.join(path).map_err(no_address)
}

pub(super) fn no_address(error: http::Error) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, "the model's name does not fit into a URL").with_source(error)
}
