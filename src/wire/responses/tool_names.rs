//! The names of a request's tools: one neutral name for each tool, within a namespace or not.

use crate::chat::Chat;

/// The kind of a tool call's item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// Arguments are a JSON object.
    #[default]
    Function,
    /// The input is free text.
    Custom,
}

/// A tool as the caller of Responses names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnName {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) kind: CallKind,
}

/// The tools of a request whose calls need more than the neutral name.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolNames {}

impl ToolNames {
    /// Reads the tools of a decoded request.
    pub(crate) fn of(_chat: &Chat) -> Self {
        Self {}
    }

    /// Returns the caller's own name of a tool, if it differs from the neutral one or the tool takes free text.
    pub(crate) fn own(&self, _neutral: &str) -> Option<&OwnName> {
        None
    }
}
