use std::time::Duration;

use serde_json::{Map, Value};

/// The claims of a token that was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(pub(crate) Map<String, Value>);

impl Claims {
    /// Returns a claim of this name. A name with dots that no claim has leads into objects: `realm_access.roles`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let inner = || {
            let (first, rest) = name.split_once('.')?;
            let mut parts = rest.split('.');
            parts.try_fold(self.0.get(first)?, |value, part| value.get(part))
        };
        self.0.get(name).or_else(inner)
    }

    /// Returns a claim that is text, and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str().filter(|text| !text.trim().is_empty())
    }

    /// Returns the texts of a claim that is one, or a list of them; none if it is neither.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        match self.get(name) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the end of the token, since 1970.
    pub fn ends(&self) -> Duration {
        self.time("exp")
    }

    /// Returns the time at which the token was issued, since 1970; zero if it does not say.
    pub fn issued(&self) -> Duration {
        self.time("iat")
    }

    fn time(&self, name: &str) -> Duration {
        let seconds = self.0.get(name).and_then(Value::as_f64).unwrap_or_default();
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}
