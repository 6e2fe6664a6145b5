//! The fields of one dialect that the neutral form lacks. They are kept beside it when a request or an answer is
//! decoded, and written again for the same dialect. A `null` among them marks an absent field for which the neutral
//! form has a value.

use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Extra, ExtraOf, Json, Part},
    fields::{self, bad},
    raw_json::RawJson,
};

/// Returns the fields of an object beside the known ones, if there are any. `image_url.url` is a nested field. `null`
/// counts as absent.
pub fn rest(object: RawJson<'_>, known: &[&str]) -> Result<Option<Json>, LlmError> {
    let mut rest = RawObject::default();
    fields::fields(object, |name, value| {
        if fields::is_null(value) || known.contains(&name) {
            return Ok(());
        }
        let within: Vec<&str> = known.iter().filter_map(|known| known.strip_prefix(name)?.strip_prefix('.')).collect();
        if within.is_empty() || !fields::is_object(value) {
            fields::check_representable(name, value)?;
            return rest.add(name, value);
        }
        match self::rest(value, &within)? {
            Some(kept) => rest.add(name, kept.raw()),
            None => Ok(()),
        }
    })?;
    rest.finish()
}

/// An object that is composed of raw fields.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct RawObject(String);

impl RawObject {
    /// Adds a field.
    pub fn add(&mut self, name: &str, value: RawJson<'_>) -> Result<(), LlmError> {
        let name = to_raw_value(name).map_err(cannot_be_kept)?;
        let before = if self.0.is_empty() { "{" } else { "," };
        [before, name.get(), ":", value.get()].into_iter().for_each(|piece| self.0.push_str(piece));
        Ok(())
    }

    /// Returns the object, unless it has no field.
    pub fn finish(mut self) -> Result<Option<Json>, LlmError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.0.push('}');
        Json::parse(self.0).map(Some).map_err(cannot_be_kept)
    }
}

fn cannot_be_kept(error: serde_json::Error) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, "a field of the body cannot be kept").with_source(error)
}

/// Adds a list to an object that has no field of its name. `items` are the list's text, without brackets.
pub(crate) fn with_list(rest: Option<Json>, name: &str, items: &str) -> Result<Json, LlmError> {
    let before = match &rest {
        Some(rest) => rest.as_str().strip_suffix('}').map_or_else(|| "{".into(), |fields| format!("{fields},")),
        None => "{".to_owned(),
    };
    let with = Json::parse(format!("{before}\"{name}\":[{items}]}}"));
    let with = with.map_err(|error| bad(name, "a list").with_source(error))?;
    fields::check_representable(name, with.raw())?;
    Ok(with)
}

/// Adds a mark that a field is absent: `file.filename` is a nested field.
pub fn absent(rest: Option<Json>, field: &str) -> Result<Option<Json>, LlmError> {
    let (outer, inner) = field.split_once('.').map_or((field, None), |(outer, inner)| (outer, Some(inner)));
    let mut marked = RawObject::default();
    let mut within = None;
    if let Some(rest) = &rest {
        fields::fields(rest.raw(), |name, value| {
            if name == outer {
                within = Some(Json::of(value));
                return Ok(());
            }
            marked.add(name, value)
        })?;
    }
    let mark = match inner {
        Some(inner) => absent(within, inner)?.unwrap_or_else(Json::no_fields),
        None => Json::null(),
    };
    marked.add(outer, mark.raw())?;
    marked.finish()
}

/// Appends a part, followed by the fields that the neutral form lacks, if there are any.
pub fn push(parts: &mut Vec<Part>, part: Part, dialect: Dialect, rest: Option<Json>) {
    parts.push(part);
    push_fields(parts, ExtraOf::Part, dialect, rest);
}

/// Appends the fields alone.
pub(crate) fn push_fields(parts: &mut Vec<Part>, of: ExtraOf, dialect: Dialect, rest: Option<Json>) {
    parts.extend(rest.map(|fields| Part::Extra { of, extra: Extra { dialect, fields } }));
}

/// Returns the fields beside the part at `place`, if this dialect knows them.
pub fn beside(parts: &[Part], place: usize, dialect: Dialect) -> Option<&Extra> {
    parts.get(place + 1)?.as_extra(ExtraOf::Part, dialect)
}

/// Returns the fields of a turn, if this dialect knows them.
pub fn of_turn(parts: &[Part], dialect: Dialect) -> Option<&Extra> {
    parts.iter().find_map(|part| part.as_extra(ExtraOf::Turn, dialect))
}

/// Encodes a value, and restores the fields that only this dialect knows.
pub fn made<T: serde::Serialize>(value: &T, extra: &Extra) -> Result<Value, LlmError> {
    let mut value = serde_json::to_value(value).map_err(cannot_be_kept)?;
    merge(&mut value, &extra.fields.fields());
    Ok(value)
}

/// Restores fields: present ones stay, objects are merged, and those marked as absent are removed.
pub fn merge(into: &mut Value, fields: &Map<String, Value>) {
    let Some(object) = into.as_object_mut() else { return };
    for (name, value) in fields {
        match (object.get_mut(name), value) {
            (_, Value::Null) => {
                object.remove(name);
            }
            (None, _) => {
                object.insert(name.clone(), value.clone());
            }
            (Some(there @ Value::Object(_)), Value::Object(more)) => merge(there, more),
            (Some(_), _) => {}
        }
    }
}

/// Restores the settings of a request: each group of fields if its flag says that the neutral form still means the
/// same. Then no other field of the group remains.
pub fn restore(body: &mut Value, was: &Map<String, Value>, groups: &[(bool, &[&str])]) {
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
        let part = Json::from(part);
        let rest = rest(part.raw(), &["type", "image_url.url"]).unwrap().unwrap();
        assert_eq!(rest, json!({"image_url": {"detail": "low"}, "mark": {"a": 1}}));
        let part = Json::from(json!({"image_url": {"url": "x"}}));
        assert!(super::rest(part.raw(), &["image_url.url"]).unwrap().is_none());
    }

    #[test]
    fn what_was_absent_is_marked_and_taken_out_again() {
        for (rest, field, marked) in [
            (None, "id", json!({"id": null})),
            (Some(json!({"a": 1})), "id", json!({"a": 1, "id": null})),
            (None, "file.name", json!({"file": {"name": null}})),
            (Some(json!({"file": {"a": 1}, "b": 2})), "file.name", json!({"b": 2, "file": {"a": 1, "name": null}})),
        ] {
            assert_eq!(absent(rest.map(Json::from), field).unwrap().unwrap(), marked);
            let mut value = json!({"id": "made up", "file": {"name": "made up"}});
            merge(&mut value, marked.as_object().unwrap());
            let gone = if field == "id" { value.get("id") } else { value["file"].get("name") };
            assert_eq!(gone, None, "{value}");
        }
    }

    #[test]
    fn what_is_put_back_replaces_nothing() {
        let mut value = json!({"a": 1, "b": {"c": 1}});
        merge(&mut value, json!({"a": 2, "b": {"c": 2, "d": 3}, "e": 4}).as_object().unwrap());
        assert_eq!(value, json!({"a": 1, "b": {"c": 1, "d": 3}, "e": 4}));
    }

    #[test]
    fn settings_come_back_as_they_stood_unless_they_were_changed() {
        let was = json!({"stop": "x", "max_tokens": 5, "seed": 7});
        let mut body = json!({"stop": ["x"], "max_completion_tokens": 9, "model": "m"});
        let groups: &[(bool, &[&str])] = &[(true, &["stop"]), (false, &["max_tokens", "max_completion_tokens"])];
        restore(&mut body, was.as_object().unwrap(), groups);
        assert_eq!(body, json!({"stop": "x", "max_completion_tokens": 9, "model": "m", "seed": 7}));
    }
}
