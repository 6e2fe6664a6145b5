//! The names of snapshots: a model's name with a date or a version at its end.

/// Returns the model of which `model` is a snapshot, if its name ends like one: `-latest`, `-2024-08-06`, `-20250929`,
/// `@20250929`, `-001`.
pub(crate) fn base(model: &str) -> Option<&str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(base) = model.strip_suffix("-latest") {
        return Some(base);
    }
    // `-2024-08-06`
    if let Some((rest, day)) = model.rsplit_once('-')
        && let Some((rest, month)) = rest.rsplit_once('-')
        && let Some((base, year)) = rest.rsplit_once('-')
        && (year.len(), month.len(), day.len()) == (4, 2, 2)
        && digits(year)
        && digits(month)
        && digits(day)
    {
        return Some(base);
    }
    // `-20250929`, `@20250929`, `-001`
    let (base, end) = model.rsplit_once(['-', '@'])?;
    (digits(end) && (end.len() == 8 || (end.len() == 3 && end.starts_with('0')))).then_some(base)
}

/// Returns true if two names stand for one model: as a router's slug or without it, with a snapshot's date or without,
/// with a client's or a server's mark of the usual variant. Two different dates are two models.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (plain(one), plain(other));
    let (of_one, of_other) = (month(one).or_else(|| base(one)), month(other).or_else(|| base(other)));
    let is_latest = one.ends_with("-latest") || other.ends_with("-latest");
    is_alike(one, other)
        || of_one.is_some_and(|of_one| is_alike(of_one, other))
        || of_other.is_some_and(|of_other| is_alike(one, of_other))
        || is_latest && of_one.zip(of_other).is_some_and(|(one, other)| is_alike(one, other))
}

/// Returns a name without what stands around it: `openrouter/anthropic/claude-opus-4.6`, `claude-opus-4-6[1m]`,
/// `claude-opus-4-6@default`, `qwen3:latest`.
fn plain(model: &str) -> &str {
    let model = model.rsplit_once('/').map_or(model, |(_, slug)| slug);
    let model = model.strip_suffix(']').and_then(|model| model.rsplit_once('[')).map_or(model, |(model, _)| model);
    let ends = ["@latest", "@default", ":latest"];
    ends.iter().find_map(|end| model.strip_suffix(end)).unwrap_or(model)
}

/// Returns the model before a month and a day, or a year and a month: `gpt-4-0613`, `mistral-large-2411`.
fn month(model: &str) -> Option<&str> {
    let (base, end) = model.rsplit_once('-')?;
    let number: u16 = end.parse().ok().filter(|_| end.len() == 4)?;
    let (first, second) = (number / 100, number % 100);
    let is_day = (1..=12).contains(&first) && (1..=31).contains(&second);
    let is_month = (23..=29).contains(&first) && (1..=12).contains(&second);
    (is_day || is_month).then_some(base)
}

/// Returns true if two names differ in letters' case and in points for dashes alone, as OpenRouter's do, or in the sign
/// before a date.
fn is_alike(one: &str, other: &str) -> bool {
    let folded = |byte: u8| if matches!(byte, b'.' | b'@') { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(one, other)| folded(one) == folded(other))
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn one_model_has_many_names() {
        for (one, other) in [
            ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
            ("claude-3-5-haiku-20241022", "claude-3-5-haiku-latest"),
            ("claude-3-5-haiku", "claude-3-5-haiku-latest"),
            ("claude-opus-4-6", "claude-opus-4-6[1m]"),
            ("claude-opus-4-6-20260205", "claude-opus-4-6[1m]"),
            ("claude-haiku-4-5", "claude-haiku-4-5@20251001"),
            ("claude-haiku-4-5", "claude-haiku-4-5@default"),
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5@20251001"),
            ("claude-haiku-4-5", "anthropic/claude-haiku-4.5"),
            ("claude-haiku-4-5", "openrouter/anthropic/claude-haiku-4.5"),
            ("meta-llama/llama-3.3-70b-instruct", "llama-3.3-70b-instruct"),
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("gpt-4", "gpt-4-0613"),
            ("mistral-large-latest", "mistral-large-2411"),
            ("gemini-2.0-flash", "models/gemini-2.0-flash-001"),
            ("qwen3", "qwen3:latest"),
        ] {
            assert!(is_same(one, other) && is_same(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),
            ("gpt-4o", "gpt-4o-mini"),
            ("gpt-4", "gpt-4o"),
            ("claude-haiku-4-5", "claude-haiku-4"),
            ("claude-opus-4-6", "claude-opus-4-5"),
            ("claude-opus-4-6", "claude-sonnet-4-6[1m]"),
            ("llama-3.3-70b", "llama-3.3-8b"),
            ("qwen3:8b", "qwen3:latest"),
            ("", "a-latest"),
            ("model-9999", "model"),
        ] {
            assert!(!is_same(one, other) && !is_same(other, one), "{one} {other}");
        }
    }
}
