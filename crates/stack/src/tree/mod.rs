//! The file as a tree of values that know their places.
//!
//! All three formats become one tree. References are expanded, overrides applied and imported forms converted in the
//! tree, and only then is it read into the schema. So every error has a place in the text, whichever step finds it.

mod read;
mod toml;
mod yaml;

use std::{ops::Range, sync::Arc};

pub(super) use self::read::{Fault, read};
use super::Format;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// A text from the environment, which has no types; its place in the schema determines its type.
    Untyped(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A byte range of the text.
    Text(Range<usize>),
    /// An environment variable.
    Variable(Arc<str>),
}

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value of a key.
    Key(String),
    /// The key itself.
    Name(String),
    /// A value in a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for Step {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A syntax error.
#[derive(Debug)]
pub(super) struct ParseError {
    pub(super) message: String,
    pub(super) place: Option<Range<usize>>,
}

/// Parses a text of this format.
pub(super) fn parse(text: &str, format: Format) -> Result<Node, ParseError> {
    match format {
        // Every JSON text is YAML, and the YAML parser reports places.
        Format::Yaml | Format::Json => yaml::parse(text),
        Format::Toml => toml::parse(text),
    }
}

impl Node {
    pub(super) fn new(value: Value, place: Place) -> Self {
        Self { value, place }
    }

    /// Creates a text at another value's place.
    pub(super) fn text(text: impl Into<String>, place: &Place) -> Self {
        Self::new(Value::Text(text.into()), place.clone())
    }

    /// Creates a block of these keys, all at one place.
    pub(super) fn block<'a>(place: &Place, entries: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| Entry::new(key, place.clone(), value));
        Self::new(Value::Map(entries.collect()), place.clone())
    }

    /// Returns whether a key or an item of a tree is gone from this one, at any depth.
    pub(super) fn loses(&self, before: &Self) -> bool {
        let now = self.entries();
        let is_gone = |entry: &Entry| match now.iter().find(|own| own.key == entry.key) {
            Some(own) => own.value.loses(&entry.value),
            None => true,
        };
        let (items, items_before) = (self.items(), before.items());
        before.entries().iter().any(is_gone)
            || items.len() < items_before.len()
            || items.iter().zip(items_before).any(|(own, before)| own.loses(before))
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the value of a key, if this is a block with that key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Removes a key from the block, and returns it.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        let Value::Map(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at))
    }

    /// Adds a key to a block.
    pub(super) fn put(&mut self, entry: Entry) {
        if let Value::Map(entries) = &mut self.value {
            entries.push(entry);
        }
    }

    /// Renames the key at this place to the likely intended one, or removes it if that is unknown or already present.
    /// Returns whether there was such a key.
    pub(super) fn correct_key_at(&mut self, place: &Place, meant: Option<&str>) -> bool {
        match &mut self.value {
            Value::List(items) => items.iter_mut().any(|item| item.correct_key_at(place, meant)),
            Value::Map(entries) => {
                let Some(at) = entries.iter().position(|entry| entry.key_place == *place) else {
                    return entries.iter_mut().any(|entry| entry.value.correct_key_at(place, meant));
                };
                match meant.filter(|meant| !meant.contains('.') && entries.iter().all(|entry| entry.key != *meant)) {
                    Some(meant) => entries[at].key = meant.to_owned(),
                    None => drop(entries.remove(at)),
                }
                true
            }
            _ => false,
        }
    }

    /// Removes the value at this place. Returns its block's place and its key there, which is empty for a value in a
    /// list.
    pub(super) fn remove_value_at(&mut self, place: &Place) -> Option<(Place, String)> {
        let own = self.place.clone();
        match &mut self.value {
            Value::List(items) => match items.iter().position(|item| item.place == *place) {
                Some(at) => {
                    items.remove(at);
                    Some((own, String::new()))
                }
                None => items.iter_mut().find_map(|item| item.remove_value_at(place)),
            },
            Value::Map(entries) => match entries.iter().position(|entry| entry.value.place == *place) {
                Some(at) => Some((own, entries.remove(at).key)),
                None => entries.iter_mut().find_map(|entry| entry.value.remove_value_at(place)),
            },
            _ => None,
        }
    }

    /// Returns the place to which a path leads, or that of its last existing value.
    pub(super) fn place_of(&self, path: &[Step]) -> &Place {
        let mut node = self;
        for step in path {
            let next = match step {
                Step::Key(key) => node.get(key),
                Step::Index(index) => node.items().get(*index),
                Step::Name(key) => {
                    let entry = node.entries().iter().find(|entry| entry.key == *key);
                    return entry.map_or(&node.place, |entry| &entry.key_place);
                }
            };
            let Some(next) = next else { break };
            node = next;
        }
        &node.place
    }
}

impl Entry {
    pub(super) fn new(key: impl Into<String>, key_place: Place, value: Node) -> Self {
        Self { key: key.into(), key_place, value }
    }
}
