//! The origin of an answer: the provider that served it, or an earlier call.

use std::{fmt, time::Duration};

/// The origin of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnswerSource<'a> {
    /// The provider, such as `anthropic`.
    pub provider: Option<&'a str>,
    /// The model, by the name in the request to the provider.
    pub model: Option<&'a str>,
    /// The model by the answer's own word, if that is another: a snapshot, or what a server that routes by itself has
    /// chosen. `None` if the answer names the same or none.
    pub served_model: Option<&'a str>,
    /// The tier of the fallback; `None` without one.
    pub tier: Option<&'a str>,
    /// The deployment that a `Balance` chose; `None` without one.
    pub deployment: Option<&'a str>,
    /// The number of attempts, this one included. Refusals on this side cost none.
    pub attempts: usize,
}

impl fmt::Display for AnswerSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [self.tier, self.provider, self.model];
        let mut known = known.into_iter().flatten();
        f.write_str(known.next().unwrap_or("an unnamed provider"))?;
        let rest: Vec<&str> = known.collect();
        let attempts = match self.attempts {
            1 => "1 attempt".to_owned(),
            n => format!("{n} attempts"),
        };
        match rest.is_empty() {
            true => write!(f, " ({attempts})"),
            false => write!(f, " ({}, {attempts})", rest.join(" ")),
        }
    }
}

/// The origin of an answer that was not made for this request.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CacheOrigin {
    /// The reason that the answer was given.
    pub reason: CacheReason,
    /// The age of the answer.
    pub age: Duration,
}

impl CacheOrigin {
    /// Creates the record of an answer of this age.
    pub fn new(reason: CacheReason, age: Duration) -> Self {
        Self { reason, age }
    }
}

/// The reason for an answer that was not made for the request.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CacheReason {
    /// The same request was made a short time ago.
    Fresh,
    /// The same request was made before; the answer is too old, and there is no newer one.
    Stale,
    /// The same request was under way already: one call, whose answer all its callers share.
    Shared,
    /// The caller sent the request again under the same [idempotency key](crate::LlmRequest::with_idempotency_key).
    Replayed,
    /// A similar request was made before, and there is no better answer.
    Similar {
        /// The similarity, from 0 (nothing in common) to 1 (the same words).
        similarity: f32,
    },
}

impl CacheReason {
    /// Returns a stable name in `snake_case`, for logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Shared => "shared",
            Self::Replayed => "replayed",
            Self::Similar { .. } => "similar",
        }
    }
}
