//! The places in a request that an error is about, and the server's words about each.

use std::borrow::Cow;

use crate::protocol::ErrorBody;

/// A place in a request, and the words about it.
#[derive(Debug)]
pub(super) struct Complaint<'a> {
    pub(super) place: Cow<'a, str>,
    pub(super) says: &'a str,
}

/// Returns the complaints of an error that lists them: those of its fields, or the lines of a validator's report.
pub(super) fn listed(facts: &ErrorBody) -> Vec<Complaint<'_>> {
    let fields = facts.fields.iter();
    let fields: Vec<_> = fields.map(|field| Complaint { place: (&*field.place).into(), says: &field.says }).collect();
    if fields.is_empty() { lines(&facts.message) } else { fields }
}

/// Reads pydantic's report: "2 validation errors for Request", and for each a line with the place and one with the
/// words, which a bracket with the caller's value ends.
fn lines(message: &str) -> Vec<Complaint<'_>> {
    let mut lines = message.lines().take(2 * super::MOST_COMPLAINTS);
    let head = lines.next().unwrap_or_default();
    let is_head = head.starts_with(|letter: char| letter.is_ascii_digit()) && head.contains(" validation error");
    let (mut place, mut complaints) = ("", Vec::new());
    for line in lines.filter(|_| is_head) {
        match line.strip_prefix("  ") {
            None => place = line.trim(),
            Some(words) if !place.is_empty() && !words.starts_with(' ') => {
                let says = words.split(" [type=").next().unwrap_or(words);
                complaints.push(Complaint { place: std::mem::take(&mut place).into(), says });
            }
            Some(_) => {}
        }
    }
    complaints
}

/// Returns the steps of a place, in whatever way a server writes one: `tools[0].type`, `tools.0.type`, `/tools/0/type`,
/// `$.tools[0].type`, `body.tools.0.type`. The name of the whole request is no step.
pub(super) fn steps(place: &str) -> Vec<&str> {
    let marks = ['.', '[', ']', '/', '\'', '"', '$', '#'];
    let mut steps: Vec<&str> = place.split(marks).filter(|step| !step.is_empty()).collect();
    let is_whole = |step: &&str| matches!(*step, "body" | "request") || step.ends_with("Request");
    if steps.len() > 1 && steps.first().is_some_and(is_whole) {
        steps.remove(0);
    }
    steps
}

/// Returns true for a place in a list.
pub(super) fn is_index(step: &str) -> bool {
    !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the first of these letters, up to a whole one.
pub(super) fn begin(message: &str, length: usize) -> &str {
    let end = (0..=length.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    &message[..end.unwrap_or_default()]
}

/// Returns a text without quotations of several words, which may be a caller's.
pub(super) fn own_words(text: &str) -> Cow<'_, str> {
    let (mut own, mut rest) = (Cow::Borrowed(""), text);
    let mut before = ' ';
    while let Some(at) = rest.find(['\'', '"', '`']) {
        let (head, quotation) = rest.split_at(at);
        before = head.chars().next_back().unwrap_or(before);
        own += head;
        let quote = &quotation[..1];
        let end = quotation[1..].find(quote).map_or(quotation.len(), |end| end + 2);
        // Otherwise it is an apostrophe.
        let is_quotation = !before.is_alphanumeric();
        let end = if is_quotation { end } else { 1 };
        if !quotation[..end].contains(char::is_whitespace) {
            own += &quotation[..end];
        }
        (rest, before) = (&quotation[end..], '\'');
    }
    own += rest;
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_of_several_words_is_not_the_servers_own() {
        for (text, own) in [
            ("tool 'a' and `b` \"c\"", "tool 'a' and `b` \"c\""),
            ("it doesn't take 'a'", "it doesn't take 'a'"),
            ("The prompt 'tool a is unsupported' is short", "The prompt  is short"),
            ("cut: `tool a is", "cut: "),
            ("cut: `tool", "cut: `tool"),
            ("", ""),
            ("''", "''"),
            ("é'é é'", "é'é é'"),
        ] {
            assert_eq!(own_words(text), own, "{text}");
        }
    }

    #[test]
    fn a_place_has_the_same_steps_in_every_spelling() {
        for place in [
            "tools[0].type",
            "tools.0.type",
            "/tools/0/type",
            "$.tools[0].type",
            "body.tools.0.type",
            "tools[0]['type']",
        ] {
            assert_eq!(steps(place), ["tools", "0", "type"], "{place}");
        }
        assert_eq!(steps("GenerateContentRequest.tools[0]"), ["tools", "0"]);
        assert_eq!((steps("body"), steps("")), (vec!["body"], vec![]));
    }

    #[test]
    fn a_validators_report_is_read_without_the_values_in_it() {
        let report = "2 validation errors for ChatCompletionRequest\nx\n  Extra inputs are not permitted [type=extra_forbidden, input_value='tools.0\\n  y', input_type=str]\n    For further information visit https://errors.pydantic.dev\ntools.0.type\n  Input should be 'function' [type=literal_error]";
        let facts = ErrorBody { message: report.to_owned(), ..ErrorBody::default() };
        let read: Vec<_> = listed(&facts).into_iter().map(|said| (said.place.into_owned(), said.says)).collect();
        let expected = [("x", "Extra inputs are not permitted"), ("tools.0.type", "Input should be 'function'")];
        assert_eq!(read, expected.map(|(place, says)| (place.to_owned(), says)));
        let facts = ErrorBody { message: "no validation error\nx\n  y".to_owned(), ..ErrorBody::default() };
        assert!(listed(&facts).is_empty());
    }
}
