//! Fits a request of the provider's own dialect to another of its models. The few fields that this one refuses are
//! changed; all others stay as the caller wrote them.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    ErrorKind, LlmError,
    chat::Chat,
    fields::{self, is_object},
    raw_json::RawJson,
    translate::Settings,
};

/// The raw fields of an object, in order.
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct Fields<'a> {
    fields: Vec<(String, Text<'a>)>,
    changed: bool,
}

/// The text of a value.
enum Text<'a> {
    Stood(RawJson<'a>),
    Made(String),
}

impl Text<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Stood(raw) => raw.get(),
            Self::Made(text) => text,
        }
    }
}

/// Parses a body.
pub(super) fn top(body: &Bytes) -> Result<RawJson<'_>, LlmError> {
    serde_json::from_slice(body).map_err(|error| {
        LlmError::new(ErrorKind::InvalidRequest, "the body is not a request of its dialect").with_source(error)
    })
}

impl<'a> Fields<'a> {
    pub fn of(object: RawJson<'a>) -> Result<Self, LlmError> {
        let mut read = Vec::new();
        fields::fields(object, |name, value| {
            read.push((name.to_owned(), Text::Stood(value)));
            Ok(())
        })?;
        Ok(Self { fields: read, changed: false })
    }

    /// Returns a field's raw value.
    pub(super) fn stood(&self, name: &str) -> Option<RawJson<'a>> {
        self.fields.iter().find_map(|(there, text)| match text {
            Text::Stood(raw) if there == name && raw.get() != "null" => Some(*raw),
            _ => None,
        })
    }

    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(there, _)| there != name);
        let removed = self.fields.len() < before;
        self.changed |= removed;
        removed
    }

    /// Sets a field in its place, or behind the others.
    pub(super) fn set(&mut self, name: &str, text: String) {
        self.changed = true;
        match self.fields.iter_mut().find(|(there, _)| there == name) {
            Some((_, there)) => *there = Text::Made(text),
            None => self.fields.push((name.to_owned(), Text::Made(text))),
        }
    }

    /// Sets a field to a value; `None` removes it.
    pub(super) fn put(&mut self, name: &str, value: Option<&Value>) {
        match value {
            Some(value) => self.set(name, value.to_string()),
            None => _ = self.remove(name),
        }
    }

    /// Writes the temperature and `top_p` that the model gets. The caller's value stays if it is `default`.
    pub(super) fn fit_sampling(&mut self, was: &Chat, settled: &Settings, default: Option<f64>) {
        if settled.temperature != was.temperature && was.temperature != default {
            self.put("temperature", settled.temperature.map(Value::from).as_ref());
        }
        if settled.top_p != was.top_p && was.top_p != default {
            self.remove("top_p");
        }
    }

    /// Renames a field.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some((name, _)) = self.fields.iter_mut().find(|(there, _)| there == from) {
            to.clone_into(name);
            self.changed = true;
        }
    }

    /// Changes the fields of a field that is an object.
    pub(super) fn within(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Self) -> Result<(), LlmError>,
    ) -> Result<(), LlmError> {
        let Some(object) = self.stood(name).filter(|value| is_object(value)) else { return Ok(()) };
        let mut inner = Fields::of(object)?;
        change(&mut inner)?;
        match inner.finish() {
            Some(text) if text == "{}" => _ = self.remove(name),
            Some(text) => self.set(name, text),
            None => {}
        }
        Ok(())
    }

    /// Returns the object's text, if anything was changed.
    pub fn finish(self) -> Option<String> {
        if !self.changed {
            return None;
        }
        let length: usize = self.fields.iter().map(|(name, text)| name.len() + text.as_str().len() + 4).sum();
        let mut object = String::with_capacity(length + 2);
        object.push('{');
        for (at, (name, text)) in self.fields.iter().enumerate() {
            if at > 0 {
                object.push(',');
            }
            object.push_str(&Value::from(name.as_str()).to_string());
            object.push(':');
            object.push_str(text.as_str());
        }
        object.push('}');
        Some(object)
    }
}

/// Returns a list with one more item at its end or its beginning.
pub(super) fn with_item(list: &str, item: &str, at_end: bool) -> String {
    let inner = list.trim().strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or_default();
    match (inner.trim().is_empty(), at_end) {
        (true, _) => format!("[{item}]"),
        (false, true) => format!("[{inner},{item}]"),
        (false, false) => format!("[{item},{inner}]"),
    }
}
