//! The wire formats.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The wire formats that the crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Chat Completions.
    OpenAi,
    /// Google's Gemini `generateContent`.
    Gemini,
    /// OpenAI's Responses.
    Responses,
}

impl Dialect {
    /// Returns true for OpenAI's two dialects.
    #[doc(hidden)]
    pub fn is_openais(self) -> bool {
        matches!(self, Self::OpenAi | Self::Responses)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
            Self::Responses => "responses",
        })
    }
}
