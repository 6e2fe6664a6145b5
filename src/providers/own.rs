//! What the neutral form does not carry: kept beside it when a request or an answer is read, put back when it is written
//! for the same dialect.

use serde_json::{Map, Value};

use crate::{
    Dialect,
    chat::{Extra, ExtraOf, Part},
};
#[cfg(feature = "http")]
use crate::{LlmError, providers::http::to_value};

/// The fields of an object beside the known ones. `image_url.url` is the field of a field. `null` counts as absent.
pub(super) fn rest(value: &Value, known: &[&str]) -> Map<String, Value> {
    let mut rest = Map::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        if value.is_null() || known.contains(&name.as_str()) {
            continue;
        }
        let within: Vec<&str> =
            known.iter().filter_map(|known| known.strip_prefix(name.as_str())?.strip_prefix('.')).collect();
        let kept = match value {
            Value::Object(_) if !within.is_empty() => Value::Object(self::rest(value, &within)),
            other => other.clone(),
        };
        if kept.as_object().is_none_or(|kept| !kept.is_empty() || within.is_empty()) {
            rest.insert(name.clone(), kept);
        }
    }
    rest
}

/// A part that is followed by the fields which the neutral form does not carry, if there are any.
pub(super) fn with_rest(part: Part, dialect: Dialect, rest: Map<String, Value>) -> impl Iterator<Item = Part> {
    let extra = Extra::some(dialect, rest).map(|extra| Part::Extra { of: ExtraOf::Part, extra });
    [Some(part), extra].into_iter().flatten()
}

/// The fields beside the part at `place`, where this dialect knows them.
#[cfg(feature = "http")]
pub(super) fn beside(parts: &[Part], place: usize, dialect: Dialect) -> Option<&Extra> {
    parts.get(place + 1)?.as_extra(ExtraOf::Part, dialect)
}

/// The fields of a turn, where this dialect knows them.
#[cfg(feature = "http")]
pub(super) fn of_turn(parts: &[Part], dialect: Dialect) -> Option<&Extra> {
    parts.iter().find_map(|part| part.as_extra(ExtraOf::Turn, dialect))
}

/// Something of a request with the fields put back that only this dialect knows.
#[cfg(feature = "http")]
pub(super) fn made<T: serde::Serialize>(value: &T, extra: &Extra) -> Result<Value, LlmError> {
    let mut value = to_value(value)?;
    merge(&mut value, &extra.fields);
    Ok(value)
}

/// Puts fields back: what is there already stays, objects are put together.
#[cfg(feature = "http")]
pub(super) fn merge(into: &mut Value, fields: &Map<String, Value>) {
    let Some(object) = into.as_object_mut() else { return };
    for (name, value) in fields {
        match (object.get_mut(name), value) {
            (None, _) => {
                object.insert(name.clone(), value.clone());
            }
            (Some(there @ Value::Object(_)), Value::Object(more)) => merge(there, more),
            (Some(_), _) => {}
        }
    }
}

/// Puts the settings of a request back as they stood: each group of fields for as long as `unchanged` says that the
/// neutral form still means the same; then nothing else in the group stays.
#[cfg(feature = "http")]
pub(super) fn restore(body: &mut Value, was: &Map<String, Value>, groups: &[(bool, &[&str])]) {
    let Some(body) = body.as_object_mut() else { return };
    for (unchanged, names) in groups {
        if *unchanged {
            for name in *names {
                body.remove(*name);
            }
        }
    }
    for (name, value) in was {
        let group = groups.iter().find(|(_, names)| names.contains(&name.as_str()));
        if group.is_none_or(|(unchanged, _)| *unchanged) {
            body.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_the_rest_at_every_depth() {
        let part =
            json!({"type": "image_url", "image_url": {"url": "x", "detail": "low"}, "mark": {"a": 1}, "no": null});
        let rest = rest(&part, &["type", "image_url.url"]);
        assert_eq!(Value::Object(rest), json!({"image_url": {"detail": "low"}, "mark": {"a": 1}}));
        assert!(super::rest(&json!({"image_url": {"url": "x"}}), &["image_url.url"]).is_empty());
    }

    #[cfg(feature = "http")]
    #[test]
    fn what_is_put_back_replaces_nothing() {
        let mut value = json!({"a": 1, "b": {"c": 1}});
        merge(&mut value, json!({"a": 2, "b": {"c": 2, "d": 3}, "e": 4}).as_object().unwrap());
        assert_eq!(value, json!({"a": 1, "b": {"c": 1, "d": 3}, "e": 4}));
    }

    #[cfg(feature = "http")]
    #[test]
    fn settings_come_back_as_they_stood_unless_they_were_changed() {
        let was = json!({"stop": "x", "max_tokens": 5, "seed": 7});
        let mut body = json!({"stop": ["x"], "max_completion_tokens": 9, "model": "m"});
        let groups: &[(bool, &[&str])] = &[(true, &["stop"]), (false, &["max_tokens", "max_completion_tokens"])];
        restore(&mut body, was.as_object().unwrap(), groups);
        assert_eq!(body, json!({"stop": "x", "max_completion_tokens": 9, "model": "m", "seed": 7}));
    }
}
