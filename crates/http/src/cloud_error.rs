//! The names that clouds give their failures: the exceptions of AWS, in the head of an answer or within a stream, and
//! the codes of Azure's gateway. Google's names are `gemini/error.rs`'s.

use crate::ErrorKind;

/// The meaning of an AWS exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AwsError {
    pub(crate) kind: ErrorKind,
    /// The closest type of an error in Messages.
    pub(crate) type_name: &'static str,
}

/// Returns the meaning of an AWS exception by its name, in any of its spellings: `ThrottlingException`,
/// `throttlingException` within an event stream, `com.amazon.coral.availability#ThrottlingException` in a body's
/// `__type`, and with `:http://..` behind it in `x-amzn-errortype`.
pub(crate) fn aws(name: &str) -> Option<AwsError> {
    let name = aws_name(name);
    let bare = name.strip_suffix("Exception").or_else(|| name.strip_suffix("Error")).unwrap_or(name);
    let (_, kind, type_name) = AWS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(bare))?;
    Some(AwsError { kind: *kind, type_name })
}

/// Returns the bare name of an exception, without its namespace and the address behind it.
pub(crate) fn aws_name(name: &str) -> &str {
    let name = name.rsplit('#').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name).trim()
}

/// Bedrock's exceptions, without `Exception`, and those that all of AWS has in common.
///
/// Sources: the errors of `InvokeModel`, `ConverseStream` and "Common errors" in Amazon Bedrock's API reference. A
/// quota of the account (`ServiceQuotaExceeded`) is not a rate: only AWS raises it.
const AWS: &[(&str, ErrorKind, &str)] = &[
    ("Throttling", ErrorKind::RateLimited, "rate_limit_error"),
    ("Throttled", ErrorKind::RateLimited, "rate_limit_error"),
    ("TooManyRequests", ErrorKind::RateLimited, "rate_limit_error"),
    ("RequestLimitExceeded", ErrorKind::RateLimited, "rate_limit_error"),
    ("ServiceQuotaExceeded", ErrorKind::QuotaExhausted, "billing_error"),
    ("ServiceUnavailable", ErrorKind::Overloaded, "overloaded_error"),
    ("ModelNotReady", ErrorKind::Overloaded, "overloaded_error"),
    ("ModelTimeout", ErrorKind::Timeout, "timeout_error"),
    ("RequestTimeout", ErrorKind::Timeout, "timeout_error"),
    ("InternalServer", ErrorKind::Server, "api_error"),
    ("InternalFailure", ErrorKind::Server, "api_error"),
    ("Internal", ErrorKind::Server, "api_error"),
    ("ModelError", ErrorKind::Server, "api_error"),
    ("ModelStreamError", ErrorKind::Server, "api_error"),
    ("Conflict", ErrorKind::Server, "api_error"),
    ("Validation", ErrorKind::InvalidRequest, "invalid_request_error"),
    ("Serialization", ErrorKind::InvalidRequest, "invalid_request_error"),
    ("RequestEntityTooLarge", ErrorKind::TooLarge, "request_too_large"),
    ("ResourceNotFound", ErrorKind::NotFound, "not_found_error"),
    ("UnknownOperation", ErrorKind::NotFound, "not_found_error"),
    ("AccessDenied", ErrorKind::Auth, "permission_error"),
    ("NotAuthorized", ErrorKind::Auth, "permission_error"),
    ("OptInRequired", ErrorKind::Auth, "permission_error"),
    ("UnrecognizedClient", ErrorKind::Auth, "authentication_error"),
    ("InvalidClientTokenId", ErrorKind::Auth, "authentication_error"),
    ("MissingAuthenticationToken", ErrorKind::Auth, "authentication_error"),
    ("IncompleteSignature", ErrorKind::Auth, "authentication_error"),
    ("InvalidSignature", ErrorKind::Auth, "authentication_error"),
    ("SignatureDoesNotMatch", ErrorKind::Auth, "authentication_error"),
    ("ExpiredToken", ErrorKind::Auth, "authentication_error"),
    ("RequestExpired", ErrorKind::Auth, "authentication_error"),
    ("RequestTimeTooSkewed", ErrorKind::Auth, "authentication_error"),
];

/// Returns the meaning of a code of Azure's gateway, for those that OpenAI's own servers do not use.
///
/// Sources: "Azure OpenAI in Foundry Models error codes" and "Azure AI services common errors" in Microsoft's
/// documentation.
pub(crate) fn azure(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "DeploymentNotFound" | "ResourceNotFound" | "NotFound" | "unknown_model" | "ModelNotFound" => {
            ErrorKind::NotFound
        }
        "DeploymentNotReady" | "NoCapacity" | "ServiceUnavailable" | "ServerBusy" => ErrorKind::Overloaded,
        "429" | "RateLimitReached" | "TooManyRequests" | "RateLimitExceeded" => ErrorKind::RateLimited,
        "QuotaExceeded" | "InsufficientQuota" | "insufficient_quota" => ErrorKind::QuotaExhausted,
        "401"
        | "Unauthorized"
        | "InvalidAuthenticationToken"
        | "PermissionDenied"
        | "AuthenticationTypeDisabled"
        | "AccessDenied" => ErrorKind::Auth,
        "RequestTimeout" | "408" | "Timeout" => ErrorKind::Timeout,
        "InternalServerError" | "InternalFailure" | "500" => ErrorKind::Server,
        "content_filter" | "ResponsibleAIPolicyViolation" => ErrorKind::ContentPolicy,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_known_in_every_spelling() {
        for name in [
            "ThrottlingException",
            "throttlingException",
            "com.amazon.coral.availability#ThrottlingException",
            "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
        ] {
            assert_eq!(aws(name).unwrap().kind, ErrorKind::RateLimited, "{name}");
            assert_eq!(aws(name).unwrap().type_name, "rate_limit_error");
        }
        assert_eq!(aws("internalServerException").unwrap().type_name, "api_error");
        assert_eq!(aws("BucketAlreadyExists"), None);
        assert_eq!(aws(""), None);
    }

    /// The errors of `InvokeModelWithResponseStream` and `ConverseStream` in the API reference.
    #[test]
    fn every_exception_of_a_stream_has_a_type_of_messages() {
        for (name, kind, type_name) in [
            ("internalServerException", ErrorKind::Server, "api_error"),
            ("modelStreamErrorException", ErrorKind::Server, "api_error"),
            ("modelTimeoutException", ErrorKind::Timeout, "timeout_error"),
            ("serviceUnavailableException", ErrorKind::Overloaded, "overloaded_error"),
            ("throttlingException", ErrorKind::RateLimited, "rate_limit_error"),
            ("validationException", ErrorKind::InvalidRequest, "invalid_request_error"),
        ] {
            assert_eq!(aws(name), Some(AwsError { kind, type_name }), "{name}");
        }
    }
}
