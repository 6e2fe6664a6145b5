//! The JSON Schema of the file, for editors.

use schemars::{Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Value, json};

use super::Config;

impl Config {
    /// Returns the JSON Schema (2020-12) of a configuration file, with which an editor completes and checks it.
    ///
    /// It is published as `steadfast.schema.json` and describes this crate's own form in all three formats. An editor
    /// finds it by a first line `# yaml-language-server: $schema=steadfast.schema.json` in YAML, by `#:schema
    /// steadfast.schema.json` in TOML, and by a key `"$schema"` in JSON.
    pub fn json_schema() -> Value {
        let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(one_line));
        let schema = settings.into_generator().into_root_schema_for::<Self>();
        let mut schema = schema.to_value();
        if let Some(root) = schema.as_object_mut() {
            root.insert("title".into(), json!("steadfast configuration"));
            if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
                properties.insert(
                    "$schema".into(),
                    json!({ "type": "string", "description": "The location of this schema, for editors." }),
                );
            }
        }
        schema
    }
}

/// Puts a description on one line, because a tooltip wraps its text itself.
fn one_line(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{Share, Size, Span};

    /// The fields whose default is a rule in words.
    const IN_WORDS: [&str; 9] = [
        "Budget.warn_at",
        "Feature.cache",
        "Feature.hedge",
        "Rules.all_tiers_failed",
        "Rules.failovers",
        "Rules.failure_rate",
        "Rules.slow",
        "Stream.commit",
        "Gateway.wait_for_rate_limits",
    ];

    /// Returns the first default that a description names, without what may follow on exceptions.
    fn words_of(description: &str) -> Option<&str> {
        let words = description.rsplit_once("Default: ")?.1.trim_end_matches('.');
        let ends = ["; ", ", ", ". ", " or ", " of memory"].iter().filter_map(|end| words.find(end));
        Some(words[..ends.min().unwrap_or(words.len())].trim_matches('`'))
    }

    /// Returns whether the words say this value, where both are read as the file would read them.
    fn say(words: &str, value: &Value, kind: &str) -> bool {
        fn same<T: DeserializeOwned + PartialEq>(words: &str, value: &Value) -> bool {
            let read = |value: &Value| serde_json::from_value::<T>(value.clone()).ok();
            read(value).is_some_and(|value| read(&json!(words)) == Some(value))
        }
        match (kind, value) {
            ("#/$defs/Span" | "#/$defs/TierTimeout", _) => {
                same::<Span>(&words.replace(" days", "d").replace(' ', ""), value)
            }
            ("#/$defs/Size", _) => same::<Size>(words, value),
            ("#/$defs/Share", _) => same::<Share>(words, value),
            (_, Value::Bool(value)) => words == value.to_string() || words == if *value { "yes" } else { "no" },
            (_, Value::Number(_)) if words == "none" => value.as_u64() == Some(0),
            (_, Value::Number(value)) => words.replace(',', "").parse().ok() == value.as_f64(),
            (_, Value::Array(list)) => words == "none" && list.is_empty(),
            _ => value.as_str() == Some(words),
        }
    }

    #[test]
    fn each_default_in_words_is_the_default_in_data() {
        let schema = Config::json_schema();
        let blocks = schema["$defs"].as_object().unwrap().iter().map(|(name, block)| (name.as_str(), block));
        let (mut seen, mut wrong) = (0, Vec::new());
        for (block, schema) in blocks.chain([("Config", &schema)]) {
            for (key, field) in schema["properties"].as_object().into_iter().flatten() {
                let name = format!("{block}.{key}");
                let value = &field["default"];
                let Some(words) = field["description"].as_str().and_then(words_of) else { continue };
                if value.is_null() || IN_WORDS.contains(&&*name) {
                    continue;
                }
                let kind = field["anyOf"][0]["$ref"].as_str().unwrap_or_default();
                seen += 1;
                if !say(words, value, kind) {
                    wrong.push(format!("{name}: {words:?} in words, {value} in data"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(seen > 100, "{seen}");
    }
}
