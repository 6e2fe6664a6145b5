//! The reasons why a simulated provider refuses.

use std::{borrow::Cow, time::Duration};

use steadfast::providers::simulated::Fault;

/// A door's refusal of a credential or an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    Missing,
    Unknown,
    Expired,
    /// A signature that is wrong, with AWS's words.
    Signature(String),
    /// A model to which the account has no access.
    Model(String),
}

/// A refusal of a request, by the provider's checks or by the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Server,
    Unavailable,
    Overloaded,
    RateLimited(Option<Duration>),
    Quota,
    Unauthorized,
    BadKey,
    Denied(Denial),
    /// A field is missing or wrong.
    Invalid {
        field: Cow<'static, str>,
        message: String,
    },
    ContextLength,
    ContentFilter,
    Prefill,
    UnknownModel(String),
    UnknownPath(String),
    TooLarge,
}

impl Refusal {
    /// Creates the refusal of a missing or wrong field.
    pub(super) fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// Returns the refusal for a fault, if it is one in the provider's own words.
    pub(super) fn of(fault: &Fault) -> Option<Self> {
        Some(match fault {
            Fault::ServerError => Self::Server,
            Fault::Unavailable => Self::Unavailable,
            Fault::Overloaded => Self::Overloaded,
            Fault::RateLimited { retry_after } => Self::RateLimited(*retry_after),
            Fault::InsufficientQuota => Self::Quota,
            Fault::Unauthorized => Self::Unauthorized,
            Fault::BadRequest => Self::invalid("messages", "Input does not match the expected shape."),
            Fault::ContextLength => Self::ContextLength,
            Fault::ContentFilter => Self::ContentFilter,
            Fault::NoPrefill => Self::Prefill,
            _ => return None,
        })
    }
}
