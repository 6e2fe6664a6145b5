//! The headers that tell a caller the limits of its own key, as its protocol spells them.
//!
//! OpenAI's and Anthropic's APIs tell requests and tokens per minute: the limit, the rest, and the time at which all of
//! it is there again. Claude Code warns of a cap on spending by the headers of its vendor's own gateway ("Usage-limit
//! headers" of its protocol). Gemini's protocol has none.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use steadfast::{
    Dialect, LlmError,
    error::ReachedLimit,
    layers::budget::{CapSpend, Period},
};
use steadfast_internal::wall_clock::{self, rfc3339};
use tokio::time::Instant;

use super::keys::Allowance;

/// The families of headers that tell limits.
const FAMILIES: [&str; 2] = ["anthropic-ratelimit-", "x-ratelimit-"];

/// The headers of a limit per minute.
struct LevelNames {
    limit: HeaderName,
    left: HeaderName,
    reset: HeaderName,
}

/// Anthropic's headers of requests, and of tokens.
const ANTHROPICS: [LevelNames; 2] = [
    LevelNames {
        limit: HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        left: HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        reset: HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    },
    LevelNames {
        limit: HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        left: HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        reset: HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    },
];
/// OpenAI's.
const OPENAIS: [LevelNames; 2] = [
    LevelNames {
        limit: HeaderName::from_static("x-ratelimit-limit-requests"),
        left: HeaderName::from_static("x-ratelimit-remaining-requests"),
        reset: HeaderName::from_static("x-ratelimit-reset-requests"),
    },
    LevelNames {
        limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
        left: HeaderName::from_static("x-ratelimit-remaining-tokens"),
        reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
    },
];

const STATUS: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-status");
const RESET: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-reset");
const CLAIM: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-representative-claim");
const CAP_STATUS: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-status");
const CAP_RESET: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-reset");
const CAP_USE: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-utilization");
const CAP_THRESHOLD: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-surpassed-threshold");
const CAP_PERIOD: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-period");
const CAP_REASON: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-disabled-reason");

/// The shares of a cap at which Claude Code warns, in percent.
const THRESHOLDS: [(u64, HeaderValue); 2] =
    [(95, HeaderValue::from_static("0.95")), (75, HeaderValue::from_static("0.75"))];

/// Writes a key's allowance into the head of an answer; into that of an error which is a spent cap, the refusal alone.
/// A provider's own limits give way: all keys share those.
pub(super) fn write(allowance: &Allowance, error: Option<&LlmError>, dialect: Dialect, headers: &mut HeaderMap) {
    if let Some(error) = error.filter(|_| dialect == Dialect::Anthropic)
        && let Some(ReachedLimit::Spending { cap, .. }) = error.reached_limit()
    {
        remove_limits(headers);
        let period = allowance.caps.iter().find(|known| known.cap == *cap).map(|cap| cap.period);
        return write_refusal(error.retry_after(), period, headers);
    }
    if allowance.is_empty() {
        return;
    }
    remove_limits(headers);
    let names = match dialect {
        Dialect::Anthropic => ANTHROPICS,
        Dialect::OpenAi | Dialect::Responses => OPENAIS,
        _ => return,
    };
    for (LevelNames { limit, left, reset }, level) in names.into_iter().zip([allowance.requests, allowance.tokens]) {
        let Some(level) = level else { continue };
        let is_date = dialect == Dialect::Anthropic;
        let full = if is_date {
            rfc3339(wall_clock::since_1970().saturating_add(level.full_in))
        } else {
            in_units(level.full_in)
        };
        headers.insert(limit, level.limit.into());
        headers.insert(left, level.left.into());
        insert_text(reset, &full, headers);
    }
    let fullest = allowance.caps.iter().max_by_key(|cap| percent(cap));
    if let Some(cap) = fullest.filter(|_| dialect == Dialect::Anthropic) {
        write_cap(cap, headers);
    }
}

/// Writes the refusal at a spent cap. With a claim or the cap's status the client would put words of its own in place
/// of the message.
fn write_refusal(wait: Option<Duration>, period: Option<Period>, headers: &mut HeaderMap) {
    headers.insert(STATUS, HeaderValue::from_static("rejected"));
    headers.insert(CAP_USE, HeaderValue::from_static("1"));
    headers.insert(CAP_THRESHOLD, HeaderValue::from_static("1"));
    headers.insert(CAP_REASON, HeaderValue::from_static("org_spend_cap_reached"));
    if let Some(wait) = wait {
        headers.insert(RESET, second_in(wait));
        headers.insert(CAP_RESET, second_in(wait));
    }
    if let Some(period) = period.and_then(word) {
        headers.insert(CAP_PERIOD, HeaderValue::from_static(period));
    }
}

/// Writes a cap's use. Of the claims, `overage` is the one for a limit of any period.
fn write_cap(cap: &CapSpend, headers: &mut HeaderMap) {
    // It is below the whole while requests go on.
    let percent = percent(cap).min(99);
    let threshold = THRESHOLDS.into_iter().find(|(threshold, _)| percent >= *threshold);
    let status = HeaderValue::from_static(if threshold.is_some() { "allowed_warning" } else { "allowed" });
    let reset = second_in(cap.resets_at.saturating_duration_since(Instant::now()));
    headers.insert(STATUS, status.clone());
    headers.insert(CLAIM, HeaderValue::from_static("overage"));
    headers.insert(CAP_STATUS, status);
    insert_text(CAP_USE, &format!("0.{percent:02}"), headers);
    if let Some((_, threshold)) = threshold {
        headers.insert(CAP_THRESHOLD, threshold);
    }
    headers.insert(RESET, reset.clone());
    headers.insert(CAP_RESET, reset);
}

/// Returns the word of Claude Code's protocol for a period, if it has one.
fn word(period: Period) -> Option<&'static str> {
    match period {
        Period::Day => Some("daily"),
        Period::Week => Some("weekly"),
        Period::Month => Some("monthly"),
        _ => None,
    }
}

/// Returns the spent part of a cap in whole percent, rounded down.
fn percent(cap: &CapSpend) -> u64 {
    let (spent, limit) = (u128::from(cap.spent.nanos()), u128::from(cap.limit.nanos()));
    let percent = (spent * 100).checked_div(limit).unwrap_or(100);
    percent.try_into().unwrap_or(u64::MAX)
}

/// Returns the nearest second after this time, since 1970.
fn second_in(time: Duration) -> HeaderValue {
    let at = wall_clock::since_1970() + time + Duration::from_millis(500);
    at.as_secs().into()
}

/// Returns a time as OpenAI's API writes it: `0s`, `120ms`, `2s`, `1m40s`.
fn in_units(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    let seconds = millis.div_ceil(1000);
    match (millis, seconds / 60) {
        (1..1000, _) => format!("{millis}ms"),
        (_, 0) => format!("{seconds}s"),
        (_, minutes) => format!("{minutes}m{}s", seconds % 60),
    }
}

fn remove_limits(headers: &mut HeaderMap) {
    let is_of_limits = |name: &&HeaderName| FAMILIES.iter().any(|family| name.as_str().starts_with(family));
    let names: Vec<HeaderName> = headers.keys().filter(is_of_limits).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn insert_text(name: HeaderName, text: &str, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
