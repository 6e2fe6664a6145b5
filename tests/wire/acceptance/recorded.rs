//! The recorded requests to models.

use std::{fs, path::PathBuf};

use serde_json::Value;
use steadfast::{Dialect, LlmError, LlmRequest, Wire};

/// A recorded request.
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) dialect: Dialect,
    /// True if its own provider refused it for its content.
    pub(crate) refused: bool,
    body: String,
    model: String,
    stream: bool,
}

impl Asked {
    pub(crate) fn request(&self) -> Result<LlmRequest, LlmError> {
        let wire = Wire::new(self.dialect, self.body.clone())?;
        Ok(match self.dialect {
            Dialect::Gemini => wire.path(self.model.as_str(), self.stream).into(),
            _ => wire.into(),
        })
    }

    /// The request of one recording, if it is one to a model in one of our dialects, and was recorded.
    fn of(record: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let dialect = match record["api"].as_str()? {
            // On Vertex under another name.
            "messages" | "rawPredict" | "streamRawPredict" if record["provider"] == "anthropic" => Dialect::Anthropic,
            "chat.completions" => Dialect::OpenAi,
            "generateContent" | "streamGenerateContent" => Dialect::Gemini,
            _ => return None,
        };
        let body = record["request"]["body"].as_object().filter(|body| !body.is_empty())?;
        let path = text(&record["request"]["path"]);
        let named = path.rsplit_once(':').and_then(|(before, _)| before.rsplit_once("models/")).map(|(_, name)| name);
        Some(Self {
            id: text(&record["id"]),
            dialect,
            refused: matches!(record["response"]["status"].as_u64(), Some(400 | 422)),
            body: Value::Object(body.clone()).to_string(),
            model: named.unwrap_or("gemini").to_owned(),
            stream: record["stream"] == true,
        })
    }
}

/// All of them, by name; `None`, and a line that says so, where there are none.
pub(crate) fn recorded() -> Option<Vec<Asked>> {
    let shared = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join("../shared");
    let mut folders = match std::env::var_os("STEADFAST_FIXTURES") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![shared.join("fixtures"), shared.join("fixtures2")],
    };
    let mut asked = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let record: Value = serde_json::from_slice(&fs::read(&path).expect("it was listed")).expect("JSON");
                asked.extend(Asked::of(&record));
            }
        }
    }
    asked.sort_by(|a, b| a.id.cmp(&b.id));
    if asked.is_empty() {
        println!("skipped: no recordings");
        return None;
    }
    Some(asked)
}
