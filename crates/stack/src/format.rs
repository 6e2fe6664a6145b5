//! The formats of a configuration's text.

use std::path::Path;

/// The format of a configuration's text. All formats have the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// TOML 1.0.
    Toml,
    /// JSON. YAML's extras (comments, a comma after the last value) are allowed.
    Json,
}

impl Format {
    /// Returns the format for a file's suffix: `yaml`, `yml`, `toml` or `json`.
    pub fn of(path: impl AsRef<Path>) -> Option<Self> {
        let suffix = path.as_ref().extension()?.to_str()?.to_ascii_lowercase();
        match suffix.as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}
