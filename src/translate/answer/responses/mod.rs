//! OpenAI's `response`, and its stream of events up to `response.completed`.

use serde_json::{Value, json};

use crate::{
    LlmError, StreamEvent,
    chat::{Chat, FinishReason, Message, Usage},
    translate::request::Report,
    wire::responses::tool_names::ToolNames,
};

/// The forms of the caller's tools that an answer in the Responses dialect must name: namespaces and free text.
///
/// Other dialects need none.
#[derive(Clone, Debug, Default)]
pub struct ToolForms {
    names: ToolNames,
}

impl ToolForms {
    /// Reads the forms of a request's tools.
    pub fn of(chat: &Chat) -> Self {
        Self { names: ToolNames::of(chat) }
    }
}

pub(super) fn whole(_message: &Message, forms: &ToolForms, _report: &mut Report) -> Value {
    let _none = forms.names.own("");
    json!({})
}

/// The stream of a response.
#[derive(Debug, Default)]
pub(super) struct Stream {}

impl Stream {
    pub(super) fn begin(&mut self, _id: &str, _model: &str, _to: &mut String) {}

    pub(super) fn event(&mut self, _event: &StreamEvent, _report: &mut Report, _to: &mut String) {}

    pub(super) fn end(
        &mut self,
        _finish: Option<&FinishReason>,
        _used: Option<Usage>,
        _report: &mut Report,
        _to: &mut String,
    ) {
    }

    /// Writes the event that reports a failure and ends the stream.
    pub(super) fn fail(&mut self, _error: &LlmError, _to: &mut String) {}
}
