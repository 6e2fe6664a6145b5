//! The kinds of failures.

use std::fmt;

use http::StatusCode;

/// The kind of an [`LlmError`](crate::LlmError). The [`Classifier`](crate::Classifier)'s table has each layer's action
/// for a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum ErrorKind {
    /// The provider's limit on requests or tokens was exceeded (429).
    RateLimited,
    /// The provider has no capacity at the moment (529, 503, an `overloaded_error` in a stream).
    Overloaded,
    /// No answer in time: by a limit of ours, or the provider's own (408, 504).
    Timeout,
    /// No connection: DNS, refused, TLS, or reset before an answer began.
    Connect,
    /// The provider failed (500, 502, 52x, and every 5xx not named elsewhere).
    Server,
    /// A stream ended without the provider's own end mark, or an error came in it.
    StreamBroken,
    /// An answer that does not follow the provider's format: HTML, broken JSON, over a size limit.
    Malformed,
    /// A well-formed answer with nothing in it, not even a token of the model's: a server failed in silence. A turn
    /// that a model ended without a word, after a tool's result or at the price of tokens, is an answer.
    EmptyAnswer,
    /// The circuit breaker refused: the provider is known to be down. Nothing was sent.
    CircuitOpen,
    /// The bulkhead refused: too many requests are under way, or over a rate. Nothing was sent.
    BulkheadFull,
    /// Paid-for credit or a spending limit is used up; no retry helps (402, `insufficient_quota`).
    QuotaExhausted,
    /// The request is longer than the model's context window.
    ContextLength,
    /// The request is larger than the provider takes at once (413, one request over the tokens-per-minute limit).
    TooLarge,
    /// The provider's content policy refused the request or cut the answer.
    ContentPolicy,
    /// The model declined without a word, and a layer further out asks another tier, or again, because of that. Without
    /// such a layer it is an answer.
    Refusal,
    /// The request is wrong; the same request fails everywhere (400, 422).
    InvalidRequest,
    /// The request is right, but this provider cannot carry it.
    UnsupportedFeature,
    /// The answer does not have the shape that was asked for.
    InvalidOutput,
    /// The key was refused (401, 403).
    Auth,
    /// No such model or path (404).
    NotFound,
    /// Something before the provider blocked the request: a 403 with a page of a firewall or proxy in place of the
    /// API's error.
    Blocked,
    /// A spending cap of ours refused. Nothing was sent.
    Budget,
    /// The caller's own deadline left no useful time. Nothing was sent.
    Deadline,
    /// An operator has taken the tier out of service: it is drained, or a level further down is pinned. Nothing was
    /// sent.
    OutOfService,
    /// The idempotency key was used before, with a different request. Nothing was sent.
    IdempotencyConflict,
    /// A store of ours could not do what the request needed of it: it is away, full, or named wrongly. Nothing was
    /// sent.
    Store,
    /// The credentials for the provider could not be renewed, and the last token has ended. Nothing was sent.
    Credentials,
    /// No attempt is left, or no tier may take the request.
    Exhausted,
    /// A failure that the crate cannot name: a custom leaf's own, without a kind.
    Other,
}

impl ErrorKind {
    /// Returns whether a provider may have worked, and charges for it, before a call failed like this. Providers do not
    /// charge for requests that they refuse.
    #[doc(hidden)]
    pub fn may_have_cost(self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::StreamBroken
                | Self::Malformed
                | Self::EmptyAnswer
                | Self::InvalidOutput
                | Self::Refusal
        )
    }

    /// Returns whether a failure is the caller's own doing or intended, so that it says nothing about the service.
    pub fn is_callers_own(self) -> bool {
        matches!(
            self,
            Self::InvalidRequest
                | Self::ContextLength
                | Self::TooLarge
                | Self::ContentPolicy
                | Self::Refusal
                | Self::UnsupportedFeature
                | Self::Budget
        )
    }

    /// Every kind, in order.
    pub const ALL: &'static [Self] = &[
        Self::RateLimited,
        Self::Overloaded,
        Self::Timeout,
        Self::Connect,
        Self::Server,
        Self::StreamBroken,
        Self::Malformed,
        Self::EmptyAnswer,
        Self::CircuitOpen,
        Self::BulkheadFull,
        Self::QuotaExhausted,
        Self::ContextLength,
        Self::TooLarge,
        Self::ContentPolicy,
        Self::Refusal,
        Self::InvalidRequest,
        Self::UnsupportedFeature,
        Self::InvalidOutput,
        Self::Auth,
        Self::NotFound,
        Self::Blocked,
        Self::Budget,
        Self::Deadline,
        Self::OutOfService,
        Self::IdempotencyConflict,
        Self::Store,
        Self::Credentials,
        Self::Exhausted,
        Self::Other,
    ];

    /// Returns the meaning of an HTTP status, for a client of your own that knows nothing else about the failure:
    /// `LlmError::new(ErrorKind::from_status(status), words)`. The guide has it as [a
    /// table](https://docs.rs/steadfast-guide). A provider's body often says more, and this crate's leaves read it. A
    /// status below 400 that is no success is [`Server`](Self::Server).
    ///
    /// ```
    /// use http::StatusCode;
    /// use steadfast::ErrorKind;
    ///
    /// assert_eq!(ErrorKind::from_status(StatusCode::TOO_MANY_REQUESTS), ErrorKind::RateLimited);
    /// assert_eq!(ErrorKind::from_status(StatusCode::BAD_GATEWAY), ErrorKind::Server);
    /// ```
    pub fn from_status(status: StatusCode) -> Self {
        match status.as_u16() {
            401 | 403 => Self::Auth,
            402 => Self::QuotaExhausted,
            404 | 410 => Self::NotFound,
            // A proxy, a wrong connection, or a certificate: a server on the way spoke, before any API saw the request.
            407 | 421 | 495..=497 => Self::Blocked,
            // 499: some servers send it after they gave up the request themselves.
            408 | 499 | 504 | 524 => Self::Timeout,
            // Both large SDKs repeat a conflict: it is the server's.
            409 | 425 => Self::Server,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            // 498: Groq's "capacity exceeded".
            498 | 503 | 529 => Self::Overloaded,
            400..=499 => Self::InvalidRequest,
            _ => Self::Server,
        }
    }

    /// Returns the kind of an answer that no API wrote, such as a proxy's page. `waits` is true if the answer names a
    /// wait. `is_said` is true if it may be an API's after all: words, or fields of an unknown shape.
    #[doc(hidden)]
    pub fn of_page(status: StatusCode, waits: bool, is_said: bool) -> Self {
        match Self::from_status(status) {
            // No API refused the key: a server before it refused this request.
            _ if status == StatusCode::FORBIDDEN => Self::Blocked,
            // A 429 that no API wrote, and that names no time, is a sign of an overloaded front.
            Self::RateLimited if !waits => Self::Overloaded,
            // A page or an empty body is no verdict on the request: a firewall or a proxy never gave it to the API.
            Self::InvalidRequest if !is_said => Self::Blocked,
            kind => kind,
        }
    }

    /// A stable name in `snake_case`, for logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Server => "server",
            Self::StreamBroken => "stream_broken",
            Self::Malformed => "malformed",
            Self::EmptyAnswer => "empty_answer",
            Self::CircuitOpen => "circuit_open",
            Self::BulkheadFull => "bulkhead_full",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ContextLength => "context_length",
            Self::TooLarge => "too_large",
            Self::ContentPolicy => "content_policy",
            Self::Refusal => "refusal",
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedFeature => "unsupported_feature",
            Self::InvalidOutput => "invalid_output",
            Self::Auth => "auth",
            Self::NotFound => "not_found",
            Self::Blocked => "blocked",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::OutOfService => "out_of_service",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::Store => "store",
            Self::Credentials => "credentials",
            Self::Exhausted => "exhausted",
            Self::Other => "other",
        }
    }

    /// Returns true if a layer refused on this side, so that nothing was sent. Such a refusal costs no attempt.
    pub fn is_local(self) -> bool {
        matches!(
            self,
            Self::CircuitOpen
                | Self::BulkheadFull
                | Self::Budget
                | Self::Deadline
                | Self::OutOfService
                | Self::IdempotencyConflict
                | Self::Store
                | Self::Credentials
                | Self::Exhausted
                | Self::UnsupportedFeature
        )
    }

    /// Returns true if such a failure is about the request, and says nothing about the tier.
    #[doc(hidden)]
    pub const fn is_about_the_request(self) -> bool {
        matches!(
            self,
            Self::ContextLength
                | Self::TooLarge
                | Self::ContentPolicy
                | Self::Refusal
                | Self::InvalidRequest
                | Self::UnsupportedFeature
        )
    }

    /// The failure's words in a list of several, after a tier's name and its status.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::RateLimited => "rate limited",
            Self::Timeout => "timed out",
            Self::Connect => "could not connect",
            Self::Server => "failed",
            Self::StreamBroken => "stream broke",
            Self::EmptyAnswer => "empty answer",
            Self::CircuitOpen => "circuit open",
            Self::BulkheadFull => "bulkhead full",
            Self::QuotaExhausted => "quota used up",
            Self::ContextLength => "context too small",
            Self::TooLarge => "request too large",
            Self::ContentPolicy => "content policy",
            Self::Refusal => "declined",
            Self::InvalidRequest => "request invalid",
            Self::UnsupportedFeature => "cannot carry it",
            Self::InvalidOutput => "wrong shape",
            Self::Auth => "key refused",
            Self::NotFound => "not found",
            Self::Blocked => "blocked on the way",
            Self::Budget => "over its spending cap",
            Self::Store => "store failed",
            Self::Credentials => "no credentials",
            Self::Deadline => "no time left",
            Self::OutOfService => "out of service",
            Self::IdempotencyConflict => "idempotency conflict",
            Self::Overloaded | Self::Malformed | Self::Exhausted => self.name(),
            Self::Other => "failed for an unknown cause",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
