//! Notices in a stream that tell its reader who answers: heads are invisible to programs for chats.
//!
//! Each is a comment, and a field of the event behind it: SDKs pass comments over, and a socket has none. A comment is
//! an answer to Google's client, whose protocol has the field alone. Nothing of a notice is in the answer's text.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use steadfast::{Dialect, ErrorKind, LlmResponse, body::Continued};
use steadfast_internal::wall_clock;

/// The tier that failed first, where another one answers.
pub(crate) struct FirstFailure {
    tier: Arc<str>,
    kind: ErrorKind,
}

impl FirstFailure {
    /// Returns the failure before an answer; `None` if its tier answers after all.
    pub(crate) fn before(response: &LlmResponse) -> Option<Self> {
        let failed = response.attempts().iter().find(|step| step.failure.is_some())?;
        let tier = failed.tier.clone().filter(|tier| response.served_by().tier != Some(&**tier))?;
        Some(Self { tier, kind: failed.failure? })
    }

    /// Returns the notice that another tier answers.
    pub(crate) fn notice(&self, response: &LlmResponse) -> Value {
        let served = response.served_by();
        let since = response.away_since().map(|since| wall_clock::rfc3339(wall_clock::since_1970() - since.elapsed()));
        json!({
            "type": "answers", "tier": served.tier, "provider": served.provider, "model": served.model,
            "first": &*self.tier, "reason": self.kind.name(), "since": since,
            "level": response.degraded().map(|degraded| degraded.level),
        })
    }
}

/// Returns the notice that another call goes on here.
pub(crate) fn of_place(place: &Continued) -> Value {
    json!({
        "type": "continues", "tier": place.tier.as_deref(), "model": place.model.as_deref(),
        "reason": place.reason.name(), "after": place.so_far.chars().count(),
    })
}

/// Returns the comment that a notice is.
pub(crate) fn comment(dialect: Dialect, notice: &Value) -> Option<Bytes> {
    (dialect != Dialect::Gemini).then(|| format!(": steadfast.notice {notice}\n\n").into())
}
