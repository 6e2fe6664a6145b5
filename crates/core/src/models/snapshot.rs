//! The names of snapshots: a model's name with a date or a version at its end.

/// Returns the model of which `model` is a snapshot, if its name ends like one: `-latest`, `-2024-08-06`, `-20250929`,
/// `@20250929`, `-001`.
pub fn base(model: &str) -> Option<&str> {
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
/// with a client's or a server's mark of the usual variant, or as Bedrock's id of it. Two different dates are two
/// models, and so are two different versions.
pub fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (Plain::of(one), Plain::of(other));
    let is_another = one.version.zip(other.version).is_some_and(|(one, other)| one != other);
    is_dated_alike(one.whole, other.whole) || !is_another && is_dated_alike(one.name, other.name)
}

/// Returns true if two names are alike, or differ in a date that one of them lacks.
fn is_dated_alike(one: &str, other: &str) -> bool {
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

/// The words for a place that Bedrock's inference profiles begin with.
const REGIONS: [&str; 8] = ["us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"];

/// The words for a maker that Bedrock's ids begin with. Source: "Supported foundation models in Amazon Bedrock",
/// November 2026.
const MAKERS: [&str; 19] = [
    "ai21",
    "amazon",
    "anthropic",
    "cohere",
    DEEPSEEK,
    "google",
    "luma",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "moonshotai",
    "nvidia",
    "openai",
    "qwen",
    "stability",
    "twelvelabs",
    "writer",
    "zai",
];

/// DeepSeek's models have its name elsewhere too (`deepseek.r1`, `deepseek-r1`), so that it stays.
const DEEPSEEK: &str = "deepseek";

/// Returns true for a word for a maker that Bedrock's ids begin with.
pub fn is_bedrocks_maker(word: &str) -> bool {
    MAKERS.contains(&word)
}

/// A name without what stands around it.
struct Plain<'a> {
    /// The name with its version.
    whole: &'a str,
    name: &'a str,
    /// The two numbers of Bedrock's version.
    version: Option<(&'a str, &'a str)>,
}

impl<'a> Plain<'a> {
    fn of(model: &'a str) -> Self {
        let model = plain(model);
        let here = without_word(model, &REGIONS);
        let id = here.unwrap_or(model);
        let is_kept = id.split_once('.').is_some_and(|(maker, _)| maker.eq_ignore_ascii_case(DEEPSEEK));
        let whole = without_word(id, &MAKERS).filter(|_| !is_kept).unwrap_or(id);
        match version(whole, whole.len() < model.len()) {
            Some((name, version)) => Self { whole, name, version: Some(version) },
            None => Self { whole, name: whole, version: None },
        }
    }
}

/// Returns a name behind one of these words and a point; `None` if it begins with none.
fn without_word<'a>(name: &'a str, words: &[&str]) -> Option<&'a str> {
    let (word, rest) = name.split_once('.')?;
    (!rest.is_empty() && words.iter().any(|known| known.eq_ignore_ascii_case(word))).then_some(rest)
}

/// Returns a name and the version at its end: `-v1:0`, and in an id of Bedrock's `-1:0`, `-v1:0:48k` and `-v1` too.
fn version(model: &str, is_bedrocks: bool) -> Option<(&str, (&str, &str))> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (name, end) = model.rsplit_once('-')?;
    let numbers = end.strip_prefix('v').or_else(|| is_bedrocks.then_some(end))?;
    let (major, minor) = match numbers.split_once(':') {
        Some((major, rest)) => (major, rest.split(':').next().filter(|minor| is_bedrocks || *minor == rest)?),
        None => (numbers, (is_bedrocks && end == "v1").then_some("0")?),
    };
    (is_number(major) && is_number(minor)).then_some((name, (major, minor)))
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
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5[1m]"),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5@20250929"),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic/claude-sonnet-4.5"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "jp.anthropic.claude-sonnet-4-5-20250929-v1:0"),
            ("us-gov.anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku-20240307-v1:0:48k"),
            ("bedrock/global.anthropic.claude-opus-4-6-v1[1m]", "claude-opus-4-6"),
            ("anthropic.claude-opus-4-6-v1", "au.anthropic.claude-opus-4-6-v1:0"),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-haiku-4-5",
                "claude-haiku-4-5-20251001",
            ),
            ("openai.gpt-oss-20b-1:0", "gpt-oss-20b"),
            ("openai.gpt-5.5", "gpt-5.5-2026-04-23"),
            ("eu.amazon.nova-pro-v1:0", "nova-pro"),
            ("apac.amazon.titan-embed-text-v1", "titan-embed-text-v1"),
            ("ca.meta.llama3-1-70b-instruct-v1:0", "llama3.1-70b-instruct"),
            ("mistral.mistral-large-2402-v1:0", "mistral-large"),
            ("us.deepseek.r1-v1:0", "deepseek-r1"),
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
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20260101"),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-haiku-4-5"),
            ("amazon.titan-embed-text-v1", "amazon.titan-embed-text-v2:0"),
            ("anthropic.claude-v2", "anthropic.claude-v2:1"),
            ("gpt-4.1", "1"),
            ("gpt-4.1", "gpt-4"),
            ("claude-opus-4.6", "6"),
            ("llama3.1", "llama3"),
            ("house.claude-opus-4-6", "claude-opus-4-6"),
            ("my-model-v1", "my-model"),
            ("deepseek-v3:671b", "deepseek"),
            ("us.", "eu."),
        ] {
            assert!(!is_same(one, other) && !is_same(other, one), "{one} {other}");
        }
    }
}
