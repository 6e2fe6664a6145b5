//! Comments in a stream that tell its reader who answers: heads are invisible to programs for chats.
//!
//! A comment is passed over by every client but Google's, whose protocol has none. Nothing of it is in the answer.

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
    pub(crate) fn notice(&self, dialect: Dialect, response: &LlmResponse) -> Option<Bytes> {
        let served = response.served_by();
        let since = response.away_since().map(|since| wall_clock::rfc3339(wall_clock::since_1970() - since.elapsed()));
        comment(
            dialect,
            &json!({
                "type": "answers", "tier": served.tier, "provider": served.provider, "model": served.model,
                "first": &*self.tier, "reason": self.kind.name(), "since": since,
                "level": response.degraded().map(|degraded| degraded.level),
            }),
        )
    }
}

/// Returns the notice that another call goes on here.
pub(crate) fn of_place(dialect: Dialect, place: &Continued) -> Option<Bytes> {
    comment(
        dialect,
        &json!({
            "type": "continues", "tier": place.tier.as_deref(), "model": place.model.as_deref(),
            "reason": place.reason.name(), "after": place.so_far.chars().count(),
        }),
    )
}

fn comment(dialect: Dialect, notice: &Value) -> Option<Bytes> {
    (dialect != Dialect::Gemini).then(|| format!(": steadfast.notice {notice}\n\n").into())
}
