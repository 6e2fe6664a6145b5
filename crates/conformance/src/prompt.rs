//! A request's content, in no dialect yet.

use serde_json::{Value, json};

/// The content of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompt {
    /// The last turn, which is the user's unless there is a result of a tool.
    pub(crate) words: String,
    pub(crate) system: Option<String>,
    /// A turn of the user's and one of the model's, before the last one.
    pub(crate) earlier: Option<[String; 2]>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) tool: Option<Tool>,
    /// The result of a call of the tool, which follows the words.
    pub(crate) result: Option<String>,
    /// The base64 text of a picture beside the words.
    pub(crate) picture: Option<&'static str>,
    /// The schema of the answer.
    pub(crate) schema: Option<Value>,
    /// The beginning of the answer, for the model to go on with.
    pub(crate) begun: Option<String>,
    pub(crate) temperature: Option<f64>,
    pub(crate) stop: Option<String>,
}

/// A tool that a request offers.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) description: String,
    /// True if the model has to call it.
    pub(crate) is_required: bool,
}

impl Prompt {
    /// Creates a request of these words alone.
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }
}

impl Tool {
    pub(crate) const NAME: &str = "get_weather";
    /// The id of the call in a conversation that has its result.
    pub(crate) const CALL: &str = "call_0a1b2c3d4e5f";

    /// Returns the arguments of the call in a conversation.
    pub(crate) fn arguments() -> Value {
        json!({"city": "Zürich", "days": 3})
    }

    /// Returns the schema of its arguments.
    pub(crate) fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        })
    }
}
