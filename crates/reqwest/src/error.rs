//! reqwest's errors as failed calls of a model.

use std::{error::Error, io, iter};

use http::StatusCode;
use steadfast::{ErrorKind, LlmError};

/// Returns the failed call that an error of reqwest's stands for.
///
/// | reqwest's error | [`ErrorKind`] |
/// |---|---|
/// | no connection, no address, or the connection broke before the response | `Connect` |
/// | a timeout of the client or of the request, in the response's body too | `Timeout` |
/// | the response's body broke off | `StreamBroken` |
/// | the body cannot be decoded, or a redirect was refused | `Malformed` |
/// | a status, of `error_for_status` | [`ErrorKind::from_status`] |
/// | a request that cannot be built | `InvalidRequest` |
///
/// An [`LlmError`] among the causes is returned as it is. The message has no URL, whose query or user may be a secret;
/// [`source`](std::error::Error::source) is reqwest's error without it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use steadfast::ErrorKind;
///
/// let error = reqwest::Client::new().get("http://127.0.0.1:1/?key=secret").send().await.unwrap_err();
/// let error = steadfast_reqwest::llm_error(error);
/// assert_eq!(error.kind(), ErrorKind::Connect);
/// assert!(!format!("{error:?}").contains("secret"));
/// # }
/// ```
pub fn llm_error(error: reqwest::Error) -> LlmError {
    let error = error.without_url();
    match own(&error) {
        Some(own) => own,
        None => classified(&error).with_source(error),
    }
}

/// Returns the failed call that is among an error's causes.
pub(crate) fn own(error: &(dyn Error + 'static)) -> Option<LlmError> {
    causes(error).find_map(|cause| cause.downcast_ref().cloned())
}

/// Returns the failed call, without reqwest's error as its source.
pub(crate) fn classified(error: &reqwest::Error) -> LlmError {
    if let Some(status) = error.status() {
        return of_status(status);
    }
    let (kind, what) = if error.is_builder() {
        (ErrorKind::InvalidRequest, "reqwest cannot send the request")
    } else if error.is_connect() {
        (ErrorKind::Connect, "")
    } else if error.is_timeout() {
        return LlmError::new(ErrorKind::Timeout, "a timeout of the reqwest client");
    } else if error.is_redirect() {
        (ErrorKind::Malformed, "reqwest did not follow a redirect")
    } else if error.is_request() {
        (ErrorKind::Connect, "the connection broke before the response")
    } else if is_malformed(error) {
        // The decoder's words may quote the answer.
        return LlmError::new(ErrorKind::Malformed, "reqwest cannot decode the response");
    } else {
        (ErrorKind::StreamBroken, "the connection broke")
    };
    // reqwest's own words may have a URL, and the first cause says most.
    match causes(error).filter(|cause| !cause.is::<reqwest::Error>()).last() {
        Some(cause) if what.is_empty() => LlmError::new(kind, cause.to_string()),
        Some(cause) => LlmError::new(kind, format!("{what}: {cause}")),
        None => LlmError::new(kind, what),
    }
}

fn of_status(status: StatusCode) -> LlmError {
    LlmError::new(ErrorKind::from_status(status), "").with_status(status)
}

/// Returns true if the body's data is at fault, and not its connection.
fn is_malformed(error: &reqwest::Error) -> bool {
    match causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()) {
        Some(io) => matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput),
        None => error.is_decode() && !causes(error).any(|cause| cause.is::<hyper::Error>()),
    }
}

pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}
