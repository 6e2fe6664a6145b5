//! Measures of the similarity of two answers.
//!
//! These measures are simple: they compare words, not meaning. They show whether two models agree on labels,
//! extracted fields, tool calls and short facts. For two good essays they report a difference. For those, keep the
//! texts ([`MirrorLayer::keep_texts`](super::MirrorLayer::keep_texts)) and have them judged elsewhere.

use serde_json::Value;

use crate::{
    chat::{Message, ToolCall},
    layers::text_similarity::Words,
};

/// Returns 1 if the texts are the same except for surrounding white space, or the same JSON except for the order of
/// its fields; otherwise 0.
pub fn exact(primary: &Message, candidate: &Message) -> f32 {
    f32::from(u8::from(same_text(&primary.text(), &candidate.text())))
}

/// Returns how many words, and pairs of neighbouring words, the texts have in common, as the cosine between their
/// counts. Returns 1 if they are the same by [`exact`]. Case and punctuation do not count. The tier of kept answers
/// (`providers::CachedAnswers::similar`, feature `cache`) uses the same measure, and also requires the same
/// numbers.
pub fn words(primary: &Message, candidate: &Message) -> f32 {
    let (primary, candidate) = (primary.text(), candidate.text());
    if same_text(&primary, &candidate) { 1.0 } else { Words::of(&primary).cosine(&Words::of(&candidate)) }
}

/// Returns whether both answers call the same tools in the same order with the same arguments, except for the order
/// of their fields. Ids do not count. True if neither calls any.
pub fn same_tools(primary: &Message, candidate: &Message) -> bool {
    let same = |a: &ToolCall, b: &ToolCall| a.name == b.name && same_text(&a.arguments, &b.arguments);
    let (mut primary, mut candidate) = (primary.tool_calls(), candidate.tool_calls());
    loop {
        match (primary.next(), candidate.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if same(a, b) => {}
            _ => return false,
        }
    }
}

fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim(), b.trim());
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    // Few texts begin like that, and nearly all JSON that is worth parsing does.
    let is_json = |text: &str| text.starts_with(['{', '[']);
    a == b || (is_json(a) && is_json(b) && json(a).is_some_and(|a| Some(a) == json(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Part, Role};

    fn says(text: &str) -> Message {
        Message::assistant(text)
    }

    fn calls(calls: &[(&str, &str)]) -> Message {
        let call = |(at, (name, arguments)): (usize, &(&str, &str))| {
            Part::ToolCall(ToolCall::new(format!("call {at} of its own"), *name, *arguments))
        };
        Message::new(Role::Assistant, calls.iter().enumerate().map(call).collect())
    }

    #[test]
    fn exact_is_the_same_text_or_the_same_json() {
        for (a, b, same) in [
            ("positive", " positive\n", 1.0),
            ("positive", "Positive", 0.0),
            (r#"{"a": 1, "b": [2]}"#, r#"{"b":[2],"a":1}"#, 1.0),
            (r#"{"a": 1}"#, r#"{"a": 2}"#, 0.0),
            ("{not json", "{not json either", 0.0),
            ("", "", 1.0),
            ("", "a", 0.0),
        ] {
            assert_eq!(exact(&says(a), &says(b)), same, "{a:?} {b:?}");
        }
    }

    #[test]
    fn words_are_counted_whatever_their_case_and_marks_and_figures_are_words() {
        let of = |a: &str, b: &str| words(&says(a), &says(b));
        assert!(of("The answer is Paris.", "the answer is paris") > 0.999);
        let near = of("The answer is 17.", "The answer is 18.");
        assert!((0.5..0.9).contains(&near), "{near}");
        assert_eq!(of("Paris", "London"), 0.0);
        assert_eq!(of("", ""), 1.0);
        assert_eq!(of("!", ""), 0.0);
    }

    #[test]
    fn tool_calls_agree_by_name_order_and_arguments() {
        let one = calls(&[("look_up", r#"{"id": 7, "deep": true}"#), ("send", "{}")]);
        assert!(same_tools(&one, &calls(&[("look_up", r#"{"deep":true,"id":7}"#), ("send", "{}")])));
        assert!(!same_tools(&one, &calls(&[("send", "{}"), ("look_up", r#"{"id":7,"deep":true}"#)])));
        assert!(!same_tools(&one, &calls(&[("look_up", r#"{"id": 7, "deep": true}"#)])));
        assert!(!same_tools(&one, &calls(&[("look_up", r#"{"id": 8, "deep": true}"#), ("send", "{}")])));
        assert!(same_tools(&says("a"), &says("b")));
    }
}
