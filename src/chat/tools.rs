use serde::{Deserialize, Serialize};

use super::{Extra, Json, Opaque, Part};

/// A tool that the model may call.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`, at most 64 to fit every provider.
    pub name: String,
    /// What it does and when to use it, for the model.
    pub description: Option<String>,
    /// The JSON Schema of its arguments, of type `object`.
    pub parameters: Json,
    /// Whether the provider must hold the model to the schema. `None`: the provider's default.
    pub strict: Option<bool>,
    /// The tool as it stood on the wire of a dialect that says more of it, or whose provider runs it itself. It counts
    /// there for as long as the fields above are unchanged.
    pub extra: Option<Extra>,
}

impl Tool {
    /// A tool of this name, whose arguments have this JSON Schema.
    pub fn new(name: impl Into<String>, parameters: impl Into<Json>) -> Self {
        Self { name: name.into(), description: None, parameters: parameters.into(), strict: None, extra: None }
    }

    /// Whether its provider runs it (web search, code execution): it has no schema, and no other provider has it.
    pub fn runs_at_provider(&self) -> bool {
        self.parameters.is_null() && self.extra.is_some()
    }

    /// Sets what it does and when to use it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

/// Whether the model may, must or must not call a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// It must call one, whichever it likes.
    Required,
    /// It must call this one.
    Named(String),
    /// It must call none.
    None,
}

/// The model asks for a tool to be called.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolCall {
    /// The provider's id of the call; the result names it.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as JSON text, as the provider sent them. A model can write text here that is not JSON: it is
    /// kept as it is, for the caller to see.
    pub arguments: String,
    /// What the provider wants to see again beside the call (Gemini's thought signature).
    pub opaque: Option<Opaque>,
}

impl ToolCall {
    /// A call of `name` with these arguments, as JSON text.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), arguments: arguments.into(), opaque: None }
    }
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolResult {
    /// The id of the call that it answers.
    pub call_id: String,
    /// The tool's name, where known; Gemini needs it.
    pub name: Option<String>,
    /// What it gave back: text and, where the provider can, pictures.
    pub content: Vec<Part>,
    /// Whether the tool failed.
    pub is_error: bool,
}

impl ToolResult {
    /// The text that the call `call_id` gave back.
    pub fn new(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { call_id: call_id.into(), name: None, content: vec![Part::Text(text.into())], is_error: false }
    }
}

/// The shape that an answer must have.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// A name for it: letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// The JSON Schema. `None` asks for any JSON.
    pub schema: Option<Json>,
    /// Whether the provider must hold the model to it.
    pub strict: bool,
}
