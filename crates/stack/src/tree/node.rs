//! The values of a file and their places.

use std::{ops::Range, sync::Arc};

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
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
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
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

impl Node {
    pub(crate) fn new(value: Value, place: Place) -> Self {
        Self { value, place }
    }

    /// Creates a text at another value's place.
    pub(crate) fn text(text: impl Into<String>, place: &Place) -> Self {
        Self::new(Value::Text(text.into()), place.clone())
    }

    /// Creates a block of these keys, all at one place.
    pub(crate) fn block<'a>(place: &Place, entries: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| Entry::new(key, place.clone(), value));
        Self::new(Value::Map(entries.collect()), place.clone())
    }

    /// Returns whether a key or an item of a tree is gone from this one, at any depth.
    pub(crate) fn loses(&self, before: &Self) -> bool {
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

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the value of a key, if this is a block with that key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Removes a key from the block, and returns it.
    pub(crate) fn take(&mut self, key: &str) -> Option<Entry> {
        let Value::Map(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at))
    }

    /// Adds a key to a block.
    pub(crate) fn put(&mut self, entry: Entry) {
        if let Value::Map(entries) = &mut self.value {
            entries.push(entry);
        }
    }

    /// Renames the key at this place to the likely intended one, or removes it if that is unknown or already present.
    /// Returns whether there was such a key.
    pub(crate) fn correct_key_at(&mut self, place: &Place, meant: Option<&str>) -> bool {
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
    pub(crate) fn remove_value_at(&mut self, place: &Place) -> Option<(Place, String)> {
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
    pub(crate) fn place_of(&self, path: &[Step]) -> &Place {
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
    pub(crate) fn new(key: impl Into<String>, key_place: Place, value: Node) -> Self {
        Self { key: key.into(), key_place, value }
    }
}
