//! TOML.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Entry, Node, ParseError, Place, Value};

pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let table = DeTable::parse(text)
        .map_err(|error| ParseError { message: error.message().trim_end().replace('\n', ", "), place: error.span() })?;
    let place = table.span();
    Ok(block(table.into_inner(), place))
}

fn block(table: DeTable<'_>, place: Range<usize>) -> Node {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let place = Place::Text(key.span());
            Entry::new(key.into_inner(), place, node(value))
        })
        .collect();
    // The file's order, because the parser sorts by name.
    entries.sort_by_key(|entry| match &entry.key_place {
        Place::Text(range) => range.start,
        Place::Variable(_) => 0,
    });
    Node::new(Value::Map(entries), Place::Text(place))
}

fn node(value: Spanned<DeValue<'_>>) -> Node {
    let place = value.span();
    let value = match value.into_inner() {
        DeValue::Table(table) => return block(table, place),
        DeValue::Array(items) => Value::List(items.into_iter().map(node).collect()),
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Text(number.as_str().to_owned()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Text(number.as_str().to_owned()),
        },
        DeValue::Datetime(date) => Value::Text(date.to_string()),
    };
    Node::new(value, Place::Text(place))
}
