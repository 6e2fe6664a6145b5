//! Suggestions: the nearest valid name.

use steadfast::providers::servers::KnownServer;

/// Other programs' names for our keys, and keys that stand in a block of their own here. The first entry whose
/// top-level key is allowed in the current place is suggested.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("model_list", "tiers"),
    ("targets", "tiers"),
    ("models", "tiers"),
    ("model_name", "name"),
    ("api_base", "base_url"),
    ("endpoint", "base_url"),
    ("url", "base_url"),
    ("max_tokens", "max_output"),
    ("max_retries", "max_attempts"),
    ("max_retries", "retry.max_attempts"),
    ("num_retries", "max_attempts"),
    ("num_retries", "retry.max_attempts"),
    ("max_attempts", "retry.max_attempts"),
    ("backoff", "retry.backoff"),
    ("allowed_fails", "circuit_breaker.consecutive_failures"),
    ("failure_threshold", "consecutive_failures"),
    ("failure_threshold", "circuit_breaker.consecutive_failures"),
    ("consecutive_failures", "circuit_breaker.consecutive_failures"),
    ("cooldown_time", "cooldown"),
    ("cooldown_time", "circuit_breaker.cooldown"),
    ("cooldown_interval", "cooldown"),
    ("recovery_timeout", "cooldown"),
    ("cooldown", "circuit_breaker.cooldown"),
    ("breaker", "circuit_breaker"),
    ("request_timeout", "timeout"),
    ("ttft", "first_token"),
    ("stream_timeout", "timeout.first_token"),
    ("first_token", "timeout.first_token"),
    ("idle", "timeout.idle"),
    ("max_concurrency", "concurrency"),
    ("max_parallel_requests", "concurrency"),
    ("max_parallel_requests", "max_in_flight"),
    ("endpoints", "deployments"),
    ("routing_strategy", "balance"),
    ("rpm", "requests_per_minute"),
    ("tpm", "tokens_per_minute"),
    ("fallbacks", "fallback"),
    ("context_window_fallbacks", "fallback.routes.context_length"),
    ("content_policy_fallbacks", "fallback.routes.content_policy"),
    ("on_error", "fallback.on_error"),
    ("on_status_codes", "on_error"),
    ("on_status_codes", "fallback.on_error"),
    ("commit", "stream.commit"),
    ("cache_params", "cache"),
    ("max_age", "ttl"),
    ("max_size", "max_bytes"),
    ("similarity_threshold", "threshold"),
    ("webhooks", "alerts.webhooks"),
    ("bulkhead", "features"),
];

/// Clouds, which stand beside a provider and are none.
const CLOUDS: &[(&str, &str)] = &[
    ("aws", "aws"),
    ("azure", "azure"),
    ("azure_openai", "azure"),
    ("bedrock", "aws"),
    ("foundry", "azure"),
    ("vertex", "vertex"),
    ("vertex_ai", "vertex"),
];

/// Returns how to write a provider that other programs have and the schema has not.
pub(super) fn provider_advice(written: &str) -> String {
    let normalized = normalized(written);
    let found = |list: &[(&str, &'static str)]| list.iter().find(|(name, _)| *name == normalized).map(|(_, how)| *how);
    if let Some(server) = KnownServer::named(&normalized).filter(|server| !server.is_vendors()) {
        let url = server.base_url;
        let url = if server.has_whole_address() { url.to_owned() } else { url.replacen("://", "://YOUR-OWN.", 1) };
        return format!(": it speaks OpenAI's protocol; write `openai` here, and `base_url: {url}` beside it");
    }
    if let Some(cloud) = found(CLOUDS) {
        return format!(": a cloud is no provider; write the model's maker here, and `at: {cloud}` beside it");
    }
    "; there are anthropic, openai, gemini, simulated, cached, canned, handoff. A server that speaks OpenAI's protocol is \
     `openai`, with its `base_url`"
        .to_owned()
}

/// Suggests a key among these: the one that other programs call by the written name, or else the nearest. A key in a
/// block of its own comes with its path, such as `retry.max_attempts`.
pub(super) fn suggest_key<'a>(written: &str, keys: &[&'a str]) -> Option<&'a str> {
    let normalized = normalized(written);
    let here = |key: &&str| keys.contains(&key.split('.').next().unwrap_or(key));
    let familiar = OTHER_NAMES.iter().filter(|(elsewhere, _)| *elsewhere == normalized).map(|(_, key)| *key).find(here);
    familiar.or_else(|| nearest(written, keys.iter().copied()))
}

/// Returns the nearest name, if it is close enough to be a plausible correction.
pub fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let normalized = normalized(written);
    let near = |name: &str| match distance(&normalized, &self::normalized(name)) {
        // One contains the other at its start or end: `retries` for `max_retries`.
        _ if normalized.len() >= 4 && (name.ends_with(&normalized) || name.starts_with(&normalized)) => 1,
        distance => distance,
    };
    let (distance, name) = names.into_iter().map(|name| (near(name), name)).min_by_key(|(distance, _)| *distance)?;
    (distance <= (normalized.chars().count() / 3).max(1)).then_some(name)
}

/// Returns the model whose name was probably meant: one that differs by its style or two letters at most. Another
/// number or ending is another model, which may be newer than the names; a `0` may be an `o`.
pub(super) fn near_model<'a>(written: &str, models: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let numbers = |name: &str, zero: char| -> String {
        name.chars().map(|c| if c == zero { '0' } else { c }).filter(char::is_ascii_digit).collect()
    };
    let is_near = |model: &&str| [' ', 'o'].into_iter().any(|zero| numbers(written, zero) == numbers(model, zero));
    let bare = normalized(written);
    let ends_elsewhere = |model: &str| bare != model && (model.starts_with(&bare) || bare.starts_with(model));
    let near = models.into_iter().filter(is_near).filter_map(|model| {
        let known = normalized(model);
        (!ends_elsewhere(&known)).then(|| (distance(&bare, &known), model))
    });
    // Of names that are as near, the same one comes first each time.
    let (steps, model) = near.min()?;
    (steps <= 2 && bare.chars().count() > 4).then_some(model)
}

/// Returns whether a name differs from one of these by style or one letter only.
pub(super) fn is_typo_of(written: &str, names: &[&str]) -> bool {
    names.iter().any(|name| distance(&normalized(written), &normalized(name)) <= 1)
}

/// Normalizes a name's style: `maxAttempts`, `max-attempts` and `max_attempts` become one.
fn normalized(name: &str) -> String {
    let mut normalized = String::with_capacity(name.len() + 4);
    let mut lower = false;
    for c in name.chars().take(64) {
        if lower && c.is_ascii_uppercase() {
            normalized.push('_');
        }
        lower = c.is_ascii_lowercase();
        normalized.push(if matches!(c, '-' | ' ' | '.') { '_' } else { c.to_ascii_lowercase() });
    }
    normalized
}

/// Returns the number of letters to add, remove, change or swap to turn one name into the other: the optimal string
/// alignment distance (Damerau, 1964).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // The row before last, the last, and the one being filled.
    let (mut before, mut last) = (Vec::new(), (0..=b.len()).collect::<Vec<usize>>());
    for (i, letter) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let changed = last[j] + usize::from(letter != other);
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == b[j - 1] && a[i - 1] == *other {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_one_step() {
        for (a, b, steps) in [
            ("model", "model", 0),
            ("modle", "model", 1),
            ("mdel", "model", 1),
            ("models", "model", 1),
            ("madel", "model", 1),
            ("", "model", 5),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (steps, steps), "{a} {b}");
        }
    }

    #[test]
    fn another_programs_provider_is_written_in_ours() {
        for (written, how) in [
            ("ollama", "`openai` here, and `base_url: http://127.0.0.1:11434/v1`"),
            ("Groq", "`base_url: https://api.groq.com/openai/v1`"),
            ("bedrock", "`at: aws`"),
            ("my-server", "`openai`, with its `base_url`"),
        ] {
            assert!(provider_advice(written).contains(how), "{written}");
        }
    }

    #[test]
    fn what_others_call_it_is_known_where_it_may_stand() {
        let tier = ["name", "model", "base_url", "timeout", "retry", "circuit_breaker"];
        let retry = ["max_attempts", "base", "backoff"];
        for (written, keys, right) in [
            ("num_retries", &tier[..], Some("retry.max_attempts")),
            ("maxRetries", &retry[..], Some("max_attempts")),
            ("api_base", &tier[..], Some("base_url")),
            ("cooldown", &tier[..], Some("circuit_breaker.cooldown")),
            ("cooldown", &retry[..], None),
            ("modle", &tier[..], Some("model")),
        ] {
            assert_eq!(suggest_key(written, keys), right, "{written}");
        }
    }

    #[test]
    fn a_models_name_is_near_by_its_letters_and_not_by_its_number() {
        let models = ["claude-sonnet-4-5", "claude-opus-4-5", "gpt-4o", "gpt-4o-mini", "gpt-5", "gemini-2.5-pro"];
        for (written, meant) in [
            ("claude-sonet-4-5", Some("claude-sonnet-4-5")),
            ("claude-sonnet-4.5", Some("claude-sonnet-4-5")),
            ("Claude-Sonnet-4-5", Some("claude-sonnet-4-5")),
            ("gpt4o", Some("gpt-4o")),
            ("gpt-40", Some("gpt-4o")),
            ("gemini-2-5-pro", Some("gemini-2.5-pro")),
            ("gemini-2.5-por", Some("gemini-2.5-pro")),
            ("claude-sonnet-4-6", None),
            ("gpt-6", None),
            ("gpt-4", None),
            ("gpt-5.", None),
            ("gpt-5-codex", None),
            ("my-model", None),
            ("", None),
        ] {
            assert_eq!(near_model(written, models), meant, "{written}");
        }
    }

    #[test]
    fn what_was_meant_is_found_and_what_is_far_is_not() {
        let names = ["name", "model", "max_attempts", "circuit_breaker", "timeout"];
        for (written, meant) in [
            ("modle", Some("model")),
            ("maxAttempts", Some("max_attempts")),
            ("attempts", Some("max_attempts")),
            ("circuit-breaker", Some("circuit_breaker")),
            ("TIMEOUT", Some("timeout")),
            ("nmae", Some("name")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), meant, "{written}");
        }
    }
}
