use serde::{Deserialize, Serialize};

use super::request::shortened;
use steadfast::{
    ledger::{Attempt, Next},
    providers::http::looks_like_a_key,
};

/// An attempt before the task was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PriorAttempt {
    /// The tier.
    pub tier: Option<String>,
    /// The provider.
    pub provider: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The [kind](steadfast::ErrorKind::name) of failure; `None` for an answer.
    pub kind: Option<String>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The failure's message, without apparent keys, up to 500 characters.
    pub message: String,
    /// Its duration, in milliseconds.
    pub took_ms: u64,
    /// True if the tier was skipped: nothing was sent.
    pub skipped: bool,
}

impl PriorAttempt {
    pub(crate) fn of(attempt: &Attempt) -> Self {
        let text = |name: &Option<std::sync::Arc<str>>| name.as_ref().map(|name| name.to_string());
        Self {
            tier: text(&attempt.tier),
            provider: text(&attempt.provider),
            model: text(&attempt.model),
            kind: attempt.failure.map(|kind| kind.name().to_owned()),
            status: attempt.status.map(|status| status.as_u16()),
            message: scrubbed(attempt.message.as_str()),
            took_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
            skipped: attempt.next == Next::Skipped,
        }
    }
}

/// Removes apparent keys from a failure's message: providers quote the key that they refuse.
fn scrubbed(message: &str) -> String {
    let mut after_bearer = false;
    let words = message.split_whitespace().map(|word| {
        let hidden = looks_like_a_key(word) || after_bearer;
        after_bearer = word.eq_ignore_ascii_case("bearer");
        if hidden { "[key]" } else { word }
    });
    shortened(&words.collect::<Vec<_>>().join(" "), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failures_words_lose_what_looks_like_a_key() {
        let said = "Incorrect API key provided: sk-abc***xyz. Authorization: Bearer eyJhb was \"gsk_12345\" here";
        let clean = "Incorrect API key provided: [key] Authorization: Bearer [key] was [key] here";
        assert_eq!(scrubbed(said), clean);
        assert_eq!(scrubbed(&"x ".repeat(1000)).chars().count(), 500);
    }
}
