//! Overrides from the environment: `STEADFAST__TIMEOUT=60s`, `STEADFAST__TIERS__0__MODEL=..`.

use std::sync::Arc;

use super::{
    environment::Environment,
    report::Report,
    tree::{Entry, Node, Place, Value},
};

/// The prefix of an override's name.
const START: &str = "STEADFAST__";

/// Applies the overrides to the tree. Reading the tree finds overrides that match nothing in the schema.
pub(super) fn apply(tree: &mut Node, environment: &Environment, report: &mut Report<'_>) {
    let mut overrides: Vec<(Vec<&str>, &str, &str)> = environment
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(START)?.split("__").collect(), name, value)))
        .collect();
    // Numeric order, so that the tenth item of a list follows the ninth.
    overrides.sort_by_cached_key(|(path, ..)| {
        path.iter().map(|step| (step.parse::<usize>().ok(), *step)).collect::<Vec<_>>()
    });
    for (path, name, value) in overrides {
        let place = Place::Variable(Arc::from(name));
        if let Err(message) = set(tree, &path, value, &place) {
            report.add(&place, message, None);
        }
    }
}

fn set(node: &mut Node, path: &[&str], value: &str, place: &Place) -> Result<(), String> {
    let Some((step, rest)) = path.split_first() else {
        *node = Node::new(Value::Untyped(value.to_owned()), place.clone());
        return Ok(());
    };
    if step.is_empty() {
        return Err(
            "empty step in the variable's name; separate keys by two underscores, as in `STEADFAST__TIERS__0__MODEL`"
                .into(),
        );
    }
    if matches!(node.value, Value::Null) {
        let empty = if step.parse::<usize>().is_ok() { Value::List(Vec::new()) } else { Value::Map(Vec::new()) };
        *node = Node::new(empty, place.clone());
    }
    match &mut node.value {
        Value::Map(entries) => {
            let at = entries.iter().position(|entry| same(&entry.key, step)).unwrap_or_else(|| {
                entries.push(Entry::new(
                    step.to_ascii_lowercase(),
                    place.clone(),
                    Node::new(Value::Null, place.clone()),
                ));
                entries.len() - 1
            });
            set(&mut entries[at].value, rest, value, place)
        }
        Value::List(items) => {
            let count = items.len();
            let index: usize =
                step.parse().map_err(|_| format!("`{step}` is not an index; count list items from 0"))?;
            if index == count {
                items.push(Node::new(Value::Null, place.clone()));
            }
            let item = items
                .get_mut(index)
                .ok_or_else(|| format!("index {index} is out of range: the list has {count} values, counted from 0"))?;
            set(item, rest, value, place)
        }
        _ => Err(format!("`{step}` matches nothing: its parent in the file is a single value")),
    }
}

/// Returns whether a step of a variable's name, all capitals and underscores, matches a key of the file.
fn same(key: &str, step: &str) -> bool {
    key.len() == step.len()
        && key.bytes().zip(step.bytes()).all(|(key, step)| {
            let key = if key.is_ascii_alphanumeric() { key } else { b'_' };
            key.eq_ignore_ascii_case(&step)
        })
}
