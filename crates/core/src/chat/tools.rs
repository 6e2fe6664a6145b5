use serde::{Deserialize, Serialize};

use super::{Extra, Json, Opaque, Part};

/// A tool that the model may call.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tool {
    /// The name: letters, digits, `_` and `-`, at most 64 to fit every provider.
    pub name: String,
    /// The purpose of the tool and when to use it, for the model.
    pub description: Option<String>,
    /// The JSON Schema of the arguments, of type `object`.
    pub parameters: Json,
    /// True if the provider must hold the model to the schema. `None`: the provider's default.
    pub strict: Option<bool>,
    /// The tool as on the wire of a dialect with further fields, or whose provider runs the tool itself. It is used
    /// there for as long as the fields above are unchanged.
    pub extra: Option<Extra>,
}

impl Tool {
    /// Creates a tool of this name, whose arguments have this JSON Schema.
    pub fn new(name: impl Into<String>, parameters: impl Into<Json>) -> Self {
        Self { name: name.into(), description: None, parameters: parameters.into(), strict: None, extra: None }
    }

    /// Returns true if the provider runs the tool (web search, code execution). Such a tool has no schema, and no other
    /// provider has it.
    pub fn runs_at_provider(&self) -> bool {
        self.parameters.is_null() && self.extra.is_some()
    }

    /// Sets the purpose of the tool and when to use it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

/// The caller's rule for tool calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// The model must call a tool of its choice.
    Required,
    /// The model must call this tool.
    Named(String),
    /// The model must call none.
    None,
}

/// The model's request to call a tool.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolCall {
    /// The provider's id of the call; the result refers to it.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as JSON text, as the provider sent them. A model can write text here that is not JSON; it is kept
    /// unchanged for the caller to see.
    pub arguments: String,
    /// The provider's opaque token that goes back with the call (Gemini's thought signature).
    pub opaque: Option<Opaque>,
}

impl ToolCall {
    /// Creates a call of `name` with these arguments, as JSON text.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), arguments: arguments.into(), opaque: None }
    }
}

/// A tool's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolResult {
    /// The id of the call.
    pub call_id: String,
    /// The tool's name, if known; Gemini requires it.
    pub name: Option<String>,
    /// The result: text and, if the provider takes them, pictures.
    pub content: Vec<Part>,
    /// True if the tool failed.
    pub is_error: bool,
}

impl ToolResult {
    /// Creates the result of the call `call_id`, a text.
    pub fn new(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { call_id: call_id.into(), name: None, content: vec![Part::Text(text.into())], is_error: false }
    }
}

/// The shape that an answer must have.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// The name of the shape: letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// The JSON Schema. `None` asks for any JSON.
    pub schema: Option<Json>,
    /// True if the provider must hold the model to the schema.
    pub strict: bool,
}
