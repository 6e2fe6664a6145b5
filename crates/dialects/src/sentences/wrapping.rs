//! The words that servers on the way put around another server's message.
//!
//! A gateway before a gateway writes the other's failure into its own message: behind a class's name
//! (`litellm.BadRequestError: OpenAIException - ..`), behind words of its own (`upstream error: ..`), as a body in JSON
//! or as Python prints one (`Error code: 400 - {'error': ..}`), with a request's id at the end. Only what stands at the
//! very beginning of a message is taken off, and a body counts only if nothing but such endings follows it. So no words
//! that a provider repeats are taken for its own: they stand behind its own words, or before them.

use serde_json::Value;

use super::{
    bare, literal,
    table::{before, is_ending},
};

/// The content within the words of servers on the way.
pub(crate) enum Inside<'a> {
    /// Another server's body.
    Body(Value),
    /// Another server's message.
    Message(&'a str),
}

/// The most words that are taken off one message, one after the other.
const MOST: usize = 12;
/// The longest text that is looked at. No server says so much of a failure.
const LONGEST: usize = 64 * 1024;

/// Returns what is within the words of servers on the way, and the status that they give it; `None` if there are no
/// such words.
pub(crate) fn unwrapped(message: &str) -> Option<(Inside<'_>, Option<u16>)> {
    if message.len() > LONGEST {
        return None;
    }
    let (mut rest, mut status) = (message.trim(), None);
    for _ in 0..MOST {
        if let Some(body) = body(rest) {
            return Some((Inside::Body(body), status));
        }
        let known = || before().iter().find_map(|words| behind(rest, words));
        let Some((within, number)) = known().or_else(|| Some((behind_names(rest)?, None))) else { break };
        (rest, status) = (within.trim_start(), number.or(status));
    }
    (rest.len() < message.trim().len() && !rest.is_empty()).then_some((Inside::Message(rest), status))
}

/// Returns the body that a text is.
fn body(text: &str) -> Option<Value> {
    if !text.starts_with(['{', '[']) && !text.starts_with("b'") && !text.starts_with("b\"") {
        return None;
    }
    let (value, rest) = literal::leading(text)?;
    let value = match value {
        // Python prints bytes so.
        Value::String(text) => literal::leading(&text).filter(|(_, rest)| rest.trim().is_empty())?.0,
        value => value,
    };
    // A validator's complaint has the place of what it quotes.
    let is_request =
        |value: &Value| value.get("loc").is_none() && OF_REQUESTS.iter().any(|name| value.get(name).is_some());
    let is_body = value.is_object() || value.is_array();
    (is_body && is_ending(rest) && !is_request(&value)).then_some(value)
}

/// Fields that requests have, and errors do not: a body with one is the caller's.
const OF_REQUESTS: [&str; 5] = ["messages", "input", "contents", "prompt", "tools"];

/// Returns the text behind these words at the beginning of another, and the status among them. A colon, a comma, a dash
/// or the beginning of a body ends them.
fn behind<'a>(text: &'a str, words: &str) -> Option<(&'a str, Option<u16>)> {
    let (mut rest, mut status, mut is_over) = (text, None, false);
    for expected in words.split(' ') {
        let (word, more) = first_word(rest)?;
        is_over = word.ends_with([':', ',']);
        match expected {
            "%" => status = Some(of_status(word)?),
            // A name, or a part of one in brackets. What ends otherwise with a colon is the place of a field.
            "@" if is_over && !word.contains(')') => return None,
            "@" => {}
            "#" => _ = bare(word).parse::<u32>().ok()?,
            expected => bare(word).eq_ignore_ascii_case(expected).then_some(())?,
        }
        rest = more;
    }
    ended(rest, is_over).map(|rest| (rest, status))
}

/// Returns the text behind the names of exceptions at the beginning of another: `litellm.BadRequestError: `,
/// `VertexAIException BadRequestError - `. A code in brackets is one too: `[invalid_request_error] `.
fn behind_names(text: &str) -> Option<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let is_name = |word: &str| {
        let name = bare(word);
        let name = MODULES.iter().find_map(|module| name.strip_prefix(module)).unwrap_or(name);
        let is_class = name.starts_with(|letter: char| letter.is_ascii_uppercase()) && name.chars().all(is_part);
        is_class && name.len() > "Error".len() && (name.ends_with("Error") || name.ends_with("Exception"))
    };
    let (word, rest) = first_word(text)?;
    let code = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
    if code.is_some_and(|code| !code.is_empty() && code.chars().all(is_part)) {
        return Some(rest);
    }
    let (mut rest, mut is_over) = (text, false);
    while let Some((word, more)) = first_word(rest).filter(|(word, _)| !is_over && is_name(word)) {
        (rest, is_over) = (more, word.ends_with([':', ',']));
    }
    if rest.len() == text.len() { None } else { ended(rest, is_over) }
}

/// The modules that stand before the name of an exception. Any other path may be a field's.
const MODULES: [&str; 6] =
    ["litellm.exceptions.", "litellm.", "openai.", "anthropic.", "botocore.exceptions.", "botocore.errorfactory."];

/// Returns the text behind the end of a gateway's words.
fn ended(rest: &str, is_over: bool) -> Option<&str> {
    let rest = rest.trim_start();
    match rest.strip_prefix("- ") {
        Some(rest) => Some(rest),
        None => (is_over || rest.starts_with(['{', '[', '<'])).then_some(rest),
    }
}

fn first_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Reads an HTTP status of a failure.
fn of_status(word: &str) -> Option<u16> {
    let digits = word.trim_start_matches(['(', '<', '[']).trim_end_matches([':', ',', '.', ';', ')', '>', ']']);
    digits.parse().ok().filter(|status| digits.len() == 3 && (400..=599).contains(status))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(text: &str) -> Option<(&str, Option<u16>)> {
        match unwrapped(text)? {
            (Inside::Message(message), status) => Some((message, status)),
            (Inside::Body(body), _) => panic!("{body}"),
        }
    }

    #[test]
    fn words_before_a_message_are_taken_off_one_after_the_other() {
        for (text, within, status) in [
            ("upstream error: no", "no", None),
            ("litellm.BadRequestError: OpenAIException - no", "no", None),
            (
                "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: OpenAIException - no.",
                "no.",
                None,
            ),
            ("litellm.BadRequestError: VertexAIException BadRequestError - no", "no", None),
            ("Error code: 400 - no", "no", Some(400)),
            ("<400> InternalError.Algo.InvalidParameter: no", "no", Some(400)),
            ("Error from provider (Console Go): Upstream request failed: [invalid_request_error] no", "no", None),
            (
                "An error occurred (ValidationException) when calling the Converse operation: The model returned the following errors: no",
                "no",
                None,
            ),
            ("HTTP 429: upstream error: no", "no", Some(429)),
            ("error, status code: 400, status: 400 Bad Request, message: no", "no", Some(400)),
            ("openai.BadRequestError: Error code: 400 - no", "no", Some(400)),
        ] {
            assert_eq!(message(text), Some((within, status)), "{text}");
        }
    }

    #[test]
    fn a_body_within_a_message_is_read_in_json_and_in_python() {
        let body = json!({"error": {"message": "it's no", "code": 5}});
        let printed = "{'error': {'message': \"it's no\", 'code': 5}}";
        for text in [
            body.to_string(),
            printed.to_owned(),
            format!("Error code: 400 - {printed}"),
            format!("400 {body}"),
            format!("litellm.BadRequestError: AnthropicException - b'{}'", body.to_string().replace('\'', "\\'")),
            format!(
                "litellm.BadRequestError: OpenAIException - {body}. Received Model Group=m\nAvailable Model Group Fallbacks=None"
            ),
            format!("upstream error: {body} (request id: 2026)"),
        ] {
            match unwrapped(&text) {
                Some((Inside::Body(found), _)) => assert_eq!(found, body, "{text}"),
                _ => panic!("{text}"),
            }
        }
    }

    #[test]
    fn words_that_a_provider_repeats_are_not_within() {
        for text in [
            "",
            "no",
            "messages.0.content: upstream error: no",
            "Invalid value: 'upstream error: no'",
            "Unknown field: {\"error\": {\"message\": \"no\"}}",
            "{\"error\": {\"message\": \"no\"}} is no text",
            "{\"error\": {\"message\": \"no\"}}: Extra inputs are not permitted",
            "{\"messages\": [], \"error\": {\"message\": \"no\"}}",
            "upstream error",
            "Error code: 4000 - no",
            "Error: no",
            "error of mine: no",
            "400 messages.0.content: no",
            "messages.0.FooError: no",
            "fooError: no",
        ] {
            assert!(unwrapped(text).is_none(), "{text}");
        }
        assert_eq!(message("Error from provider: messages.0.content: no"), Some(("messages.0.content: no", None)));
        // The words before a message are its beginning, and all that follows them is within.
        assert_eq!(
            message("HTTP 401: Extra inputs are not permitted"),
            Some(("Extra inputs are not permitted", Some(401)))
        );
    }

    #[test]
    fn the_work_is_in_proportion_to_the_message_and_its_depth_bounded() {
        let deep = "upstream error: ".repeat(3_000) + "no";
        assert_eq!(message(&deep).unwrap().0.len(), deep.len() - MOST * "upstream error: ".len());
        assert!(unwrapped(&"upstream error: ".repeat(1_000_000)).is_none(), "longer than any");
    }
}
