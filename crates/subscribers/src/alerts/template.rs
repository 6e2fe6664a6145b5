//! Message bodies for receivers that need a shape of their own.

use std::fmt;

use serde_json::Value;

use steadfast::InvalidConfig;

/// The body of a message in its receiver's shape: JSON, in whose texts `{{name}}` stands for a part of the alert.
///
/// | placeholder | what stands there |
/// |---|---|
/// | `title` | `Warning`, `Critical` or `Resolved`, a colon and the summary: one line of at most 250 characters |
/// | `summary` | what happened, in one sentence |
/// | `rule`, `key` | the rule, and its subject: a tier or a cap; empty where the rule has only one subject |
/// | `id` | the source, the rule and the key: the same from an alert's beginning to its end, and at each replica |
/// | `source`, `instance` | the deployment that the alert comes from, and the process of it that speaks |
/// | `severity` | `warning` or `critical` |
/// | `urgency` | `warn` or `page` |
/// | `state` | `firing` or `resolved` |
/// | `action` | `trigger` or `resolve` |
/// | `fields` | the details: `name: value, ..`; a text that is only this is an object |
/// | `since`, `at` | the times of the beginning and of this message: RFC 3339 in UTC |
/// | `repeated` | `true` for a repeated message, else `false`; a text that is only this is a boolean |
///
/// An alert's parts are inserted as text, so the body is always JSON of the template's shape.
///
/// ```
/// use steadfast_subscribers::alerts::Template;
/// use serde_json::json;
///
/// assert!(Template::new(json!({ "text": "{{title}}", "since": "{{since}}" })).is_ok());
/// assert!(Template::new(json!({ "text": "{{titel}}" })).is_err());
/// ```
#[derive(Clone, PartialEq)]
pub struct Template(Value);

/// Every placeholder.
pub const PLACEHOLDERS: [&str; 15] = [
    "title", "summary", "rule", "key", "id", "source", "instance", "severity", "urgency", "state", "action", "fields",
    "since", "at", "repeated",
];

impl Template {
    /// Creates a template from this body.
    ///
    /// # Errors
    ///
    /// Returns an error if a text has an unknown placeholder, or one without an end.
    pub fn new(body: Value) -> Result<Self, InvalidConfig> {
        match first_flaw(&body) {
            Some(problem) => Err(InvalidConfig::new("template", problem)),
            None => Ok(Self(body)),
        }
    }

    #[cfg(feature = "alerts")]
    pub(super) fn body(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for Template {
    /// Hides the body: it may contain a receiver's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}

/// A mistake in a template's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw<'a> {
    /// A placeholder without an end.
    Endless,
    /// A placeholder with an unknown name.
    Unknown(&'a str),
}

impl Flaw<'_> {
    /// Returns the first mistake of a text, if it has one.
    pub fn of(text: &str) -> Option<Flaw<'_>> {
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once(OPEN) {
            let Some((name, after)) = behind.split_once(CLOSE) else { return Some(Flaw::Endless) };
            let name = name.trim();
            if !PLACEHOLDERS.contains(&name) {
                return Some(Flaw::Unknown(name));
            }
            rest = after;
        }
        None
    }
}

impl fmt::Display for Flaw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endless => write!(f, "a placeholder begins with {OPEN} and does not end with {CLOSE}"),
            Self::Unknown(name) => write!(f, "no placeholder is named `{name}`"),
        }
    }
}

pub(super) const OPEN: &str = "{{";
pub(super) const CLOSE: &str = "}}";

fn first_flaw(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Flaw::of(text).map(|flaw| flaw.to_string()),
        Value::Array(values) => values.iter().find_map(first_flaw),
        Value::Object(fields) => fields.values().find_map(first_flaw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_name_is_one_and_every_other_is_refused() {
        for name in PLACEHOLDERS {
            assert_eq!(Flaw::of(&format!("a {{{{{name}}}}} b")), None);
        }
        for (text, flaw) in [
            ("{{titel}}", Flaw::Unknown("titel")),
            ("{{state}} {{ Stat }}", Flaw::Unknown("Stat")),
            ("{{}}", Flaw::Unknown("")),
            ("{{title", Flaw::Endless),
        ] {
            assert_eq!(Flaw::of(text), Some(flaw), "{text}");
        }
        assert!(Template::new(json!({ "a": [{ "b": "{{c}}" }] })).unwrap_err().to_string().contains("`c`"));
        assert!(!format!("{:?}", Template::new(json!({ "routing_key": "SECRET" })).unwrap()).contains("SECRET"));
    }
}
