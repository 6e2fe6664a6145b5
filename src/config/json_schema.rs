//! The schema of the file, for editors.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::Config;

impl Config {
    /// The JSON Schema (2020-12) of a configuration file, by which an editor completes and checks it: the same that is
    /// published as `steadfast.schema.json`. It describes this crate's own form, in all three formats.
    ///
    /// In YAML, an editor finds it by a first line `# yaml-language-server: $schema=steadfast.schema.json`; in TOML by
    /// `#:schema steadfast.schema.json`; in JSON by a key `"$schema"`.
    pub fn json_schema() -> Value {
        let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Self>();
        let mut schema = schema.to_value();
        if let Some(root) = schema.as_object_mut() {
            root.insert("title".into(), json!("steadfast configuration"));
            if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
                properties.insert(
                    "$schema".into(),
                    json!({ "type": "string", "description": "Where an editor finds this schema." }),
                );
            }
        }
        schema
    }
}
