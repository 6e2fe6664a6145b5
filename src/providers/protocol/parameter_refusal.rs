//! Parameters that a model refuses: the one that an error names, a body without it, and a leaf's memory of them.
//!
//! Tables of models' parameters are never complete. After a 400 that names a parameter which the request can do
//! without, the leaf is therefore asked once more without it. If the model has no such parameter, the leaf omits it
//! from then on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::ErrorBody;
use crate::{
    error::OmittedParameter,
    internal::sync::{Mutex, lock},
    providers::refit::Fields,
};

/// A parameter that a request can do without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Optional {
    /// Its path in the body, such as `generationConfig.topK`.
    pub(crate) path: &'static str,
    /// Its other names in the provider's errors.
    pub(crate) aliases: &'static [&'static str],
}

impl Optional {
    /// Creates a parameter that the provider's errors call by its path or the last name in it.
    pub(crate) const fn new(path: &'static str) -> Self {
        Self::called(path, &[])
    }

    /// Creates a parameter with further names.
    pub(crate) const fn called(path: &'static str, aliases: &'static [&'static str]) -> Self {
        Self { path, aliases }
    }

    /// Returns true if a provider's word stands for this parameter, or for a part of it. Providers write one path in
    /// several ways: `generation_config.top_k`, `topK`.
    fn is(&self, word: &str) -> bool {
        let mut names = word.split('.');
        let is_within = self.path.split('.').all(|name| names.next().is_some_and(|word| is_alike(word, name)));
        let last = self.path.rsplit('.').next().unwrap_or(self.path);
        is_within || is_alike(word, last) || self.aliases.iter().any(|alias| is_alike(word, alias))
    }
}

fn is_alike(one: &str, other: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        text.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).collect()
    };
    letters(one) == letters(other)
}

/// The parameter in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) parameter: OmittedParameter,
    /// True if the model does not take the parameter at all; false if the caller set it wrongly.
    pub(crate) is_unsupported: bool,
    /// True for a part that only another account can read: no caller can mend that.
    pub(crate) is_for_others: bool,
}

impl Refusal {
    /// Creates the refusal of sealed reasoning at this place in a body.
    pub(crate) const fn of_seal(path: &'static str) -> Self {
        let parameter = OmittedParameter { path, lasting: false };
        Self { parameter, is_unsupported: false, is_for_others: true }
    }
}

/// Returns the parameter that a provider's error is about, if the request can do without it.
///
/// Words count as the provider's only at the start of the message: further in they may be the caller's own.
pub(crate) fn named(facts: &ErrorBody, optional: &[Optional]) -> Option<Refusal> {
    let begin = beginning(&facts.message);
    let path = (facts.param.as_deref().into_iter().chain(words(begin)))
        .find_map(|word| optional.iter().find(|parameter| parameter.is(word)))?
        .path;
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| begin.contains(phrase));
    let is_unsupported = says(&UNSUPPORTED);
    // A refused value may be another caller's valid one, and so may a parameter that lacks another one.
    let depends = says(&["alue", "cannot both", " when ", " if ", " while ", " with thinking", " together "]);
    let lasting = is_unsupported && (!depends || says(&["nly the default"]));
    Some(Refusal { parameter: OmittedParameter { path, lasting }, is_unsupported, is_for_others: false })
}

/// Returns the part of a message in which words count as the provider's.
pub(crate) fn beginning(message: &str) -> &str {
    let message = message.trim_start();
    let end = (0..=BEGIN.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    &message[..end.unwrap_or_default()]
}

/// Returns true if an error says that something is not known, or not taken.
pub(crate) fn says_unsupported(facts: &ErrorBody) -> bool {
    let begin = beginning(&facts.message);
    UNSUPPORTED.iter().any(|phrase| begin.contains(phrase))
}

/// The bytes of a message that are searched.
const BEGIN: usize = 160;

/// The providers' words for a parameter that a model does not take.
const UNSUPPORTED: [&str; 10] = [
    "upport",
    "not permitted",
    "deprecated",
    "nknown",
    "nrecognized",
    "not enabled",
    "not available",
    "not allowed",
    "cannot both",
    "only works in thinking mode",
];

/// Returns the words at a message's start that may name a parameter, the likeliest first.
fn words(begin: &str) -> impl Iterator<Item = &str> {
    let is_name = |word: &&str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    };
    let quoted = begin.split(['\'', '`', '"']).skip(1).step_by(2).filter(is_name);
    // "`temperature` and `top_p` cannot both be specified": the first of them stays.
    let second = quoted.clone().nth(1).filter(|_| begin.contains("cannot both"));
    let before_colon = begin.split_once(':').map(|(before, _)| before);
    let after = |phrase: &str| begin.split_once(phrase).and_then(|(_, after)| after.split([' ', '.', ',']).next());
    let verbs = [" is ", " are ", " must ", " may ", " cannot "];
    let verb = verbs.iter().filter_map(|verb| begin.find(verb)).min();
    let subject = verb.and_then(|verb| begin[..verb].rsplit(' ').next());
    // "This model only works in thinking mode", "Thinking budget ..", "Adaptive thinking is .."
    let first = begin.split(' ').next().filter(|word| word.starts_with(char::is_uppercase));
    let plain = [
        before_colon,
        subject,
        after("supplied: "),
        after("upport parameter "),
        after("upport the "),
        after("upport "),
        first,
    ];
    second.into_iter().chain(quoted.take(1)).chain(plain.into_iter().flatten().filter(is_name))
}

/// Returns a body without the parameter at a path, with every other value spelled as before. Returns `None` if it has
/// no such parameter.
pub(crate) fn without(body: &[u8], path: &str) -> Option<Vec<u8>> {
    let mut fields = Fields::of(serde_json::from_slice(body).ok()?).ok()?;
    match path.split_once('.') {
        None => _ = fields.remove(path),
        Some((name, within)) => fields.within(name, |fields| Ok(_ = fields.remove(within))).ok()?,
    }
    fields.finish().map(String::into_bytes)
}

/// A leaf's memory of the parameters that its models refuse. Clones of a leaf share it.
#[derive(Debug, Default)]
pub(crate) struct RefusalMemory {
    /// True if there are any; read without a lock.
    any: AtomicBool,
    refusals: Mutex<Vec<(Arc<str>, &'static str, Instant)>>,
}

/// The time for which a refusal is remembered: models change.
const LASTS: Duration = Duration::from_secs(3600);
/// The number of refusals that a leaf remembers; beyond it, it forgets the oldest.
const MOST: usize = 64;

impl RefusalMemory {
    /// Remembers that this model refuses a parameter. Returns true if that is new.
    pub(crate) fn add(&self, model: &Arc<str>, path: &'static str) -> bool {
        let now = Instant::now();
        let mut refusals = lock(&self.refusals);
        refusals.retain(|(_, _, since)| now.saturating_duration_since(*since) < LASTS);
        if refusals.iter().any(|(known, there, _)| known == model && *there == path) {
            return false;
        }
        if refusals.len() == MOST {
            refusals.remove(0);
        }
        refusals.push((model.clone(), path, now));
        self.any.store(true, Relaxed);
        true
    }

    /// Returns true if there may be any.
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Returns the parameters that this model is known to refuse.
    pub(crate) fn of(&self, model: &str) -> Vec<&'static str> {
        if !self.is_any() {
            return Vec::new();
        }
        let now = Instant::now();
        let refusals = lock(&self.refusals);
        let known =
            refusals.iter().filter(|(of, _, since)| **of == *model && now.saturating_duration_since(*since) < LASTS);
        known.map(|(_, path, _)| *path).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OPTIONAL: &[Optional] = &[
        Optional::new("temperature"),
        Optional::new("top_p"),
        Optional::new("reasoning_effort"),
        Optional::new("logprobs"),
        Optional::new("user"),
        Optional::new("metadata"),
        Optional::called("thinking", &["adaptive", "budget_tokens"]),
        Optional::new("output_config.effort"),
        Optional::new("generationConfig.topK"),
        Optional::called("generationConfig.presencePenalty", &["penalty"]),
        Optional::called("generationConfig.thinkingConfig", &["thinking_budget", "budget"]),
    ];

    /// The parameter, and whether every caller's would be refused.
    fn of(error: serde_json::Value) -> Option<(&'static str, bool)> {
        let facts = ErrorBody::of_error(&error).expect("an error");
        named(&facts, OPTIONAL).map(|refusal| (refusal.parameter.path, refusal.parameter.lasting))
    }

    fn said(message: &str) -> Option<(&'static str, bool)> {
        of(json!({ "error": { "message": message } }))
    }

    #[test]
    fn what_providers_say_names_the_parameter() {
        // OpenAI names it beside the message.
        let unsupported = "Unsupported parameter: 'temperature' is not supported with this model.";
        let error = json!({"error": {"message": unsupported, "param": "temperature", "code": "unsupported_parameter"}});
        assert_eq!(of(error), Some(("temperature", true)));
        let only = "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is \
                    supported.";
        let error = json!({"error": {"message": only, "param": "temperature", "code": "unsupported_value"}});
        assert_eq!(of(error), Some(("temperature", true)));
        let value = "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model.";
        assert_eq!(said(value), Some(("reasoning_effort", false)));
        assert_eq!(said("Unrecognized request argument supplied: reasoning_effort"), Some(("reasoning_effort", true)));
        // Compatible servers.
        let of_xai = json!({"code": "Client specified an invalid argument",
            "error": "Model grok-code-fast-1 does not support parameter reasoningEffort."});
        assert_eq!(of(of_xai), Some(("reasoning_effort", true)));
        assert_eq!(said("Logprobs are not enabled for this model"), Some(("logprobs", true)));
        let of_mistral = json!({"detail": [{"type": "extra_forbidden", "loc": ["body", "top_p"],
            "msg": "Extra inputs are not permitted", "input": 1}]});
        assert_eq!(of(of_mistral), Some(("top_p", true)));
        // Anthropic begins with its path, or with the name in marks.
        assert_eq!(said("temperature: Extra inputs are not permitted"), Some(("temperature", true)));
        assert_eq!(said("temperature: range: 0..1"), Some(("temperature", false)));
        assert_eq!(said("`temperature` is deprecated for this model."), Some(("temperature", true)));
        assert_eq!(
            said("thinking.budget_tokens: Input should be greater than or equal to 1024"),
            Some(("thinking", false))
        );
        assert_eq!(said("adaptive thinking is not supported on this model"), Some(("thinking", true)));
        assert_eq!(said("This model does not support the effort parameter."), Some(("output_config.effort", true)));
        let both = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
        assert_eq!(said(both), Some(("top_p", false)));
        // Google spells a path as its protocol buffers do.
        let unknown =
            r#"Invalid JSON payload received. Unknown name "topK" at 'generation_config': Cannot find field."#;
        assert_eq!(said(unknown), Some(("generationConfig.topK", true)));
        let penalty = "Penalty is not enabled for models/gemini-2.5-flash";
        assert_eq!(said(penalty), Some(("generationConfig.presencePenalty", true)));
        let budget = "Budget 0 is invalid. This model only works in thinking mode.";
        assert_eq!(said(budget).map(|(path, _)| path), Some("generationConfig.thinkingConfig"));
    }

    #[test]
    fn what_is_not_about_a_parameter_names_none() {
        for message in [
            "messages.1.content.0.thinking: each thinking block must have a signature",
            "user messages must have non-empty content",
            "tools.0.custom.input_schema.type: Field required",
            "The total length of all messages is too long.",
            "Invalid 'messages[3]'. Content blocks are expected to be either text or image_url type.",
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            "Invalid value: 'temperature: not supported'. Supported values are: 'assistant' and 'user'.",
            "Tool choice is required, but model did not call a tool",
            "",
            "'",
            "é".repeat(200).as_str(),
        ] {
            assert_eq!(said(message), None, "{message}");
        }
    }

    #[test]
    fn a_body_without_it_has_all_else_as_it_was_spelled() {
        let body = br#"{ "a" : 1.0, "temperature":0.50,"b":{"x" : "\u00e9", "effort": "low" } }"#;
        assert_eq!(without(body, "temperature").unwrap(), br#"{"a":1.0,"b":{"x" : "\u00e9", "effort": "low" }}"#);
        let inner = without(body, "b.effort").unwrap();
        assert_eq!(inner, br#"{"a":1.0,"temperature":0.50,"b":{"x":"\u00e9"}}"#);
        assert_eq!(without(br#"{"a":1}"#, "a").unwrap(), b"{}");
        for (body, path) in [("{}", "a"), (r#"{"a":[]}"#, "a.b"), (r#"{"a":{}}"#, "a.b"), ("[]", "a"), ("{", "a")] {
            assert_eq!(without(body.as_bytes(), path), None, "{body} {path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_an_hour_and_for_its_model_alone() {
        let remembered = RefusalMemory::default();
        assert!(remembered.add(&"one".into(), "temperature") && !remembered.add(&"one".into(), "temperature"));
        assert_eq!((remembered.of("one"), remembered.of("other")), (vec!["temperature"], vec![]));
        tokio::time::advance(LASTS).await;
        assert!(remembered.of("one").is_empty());
        for model in 0..1000 {
            remembered.add(&model.to_string().into(), "top_p");
        }
        assert_eq!((remembered.of("999").len(), remembered.of("0").len()), (1, 0));
    }
}
