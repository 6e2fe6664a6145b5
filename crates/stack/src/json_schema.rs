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
