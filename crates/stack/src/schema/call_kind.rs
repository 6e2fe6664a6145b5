//! The kinds of calls that are no conversation.

use schemars::JsonSchema;
use serde::Deserialize;

/// A kind of call that is no conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// Texts as vectors: `/v1/embeddings`, `/v2/embed`, `:embedContent`.
    Embeddings,
    /// Documents in the order of a question: `/v1/rerank`, `/v2/rerank`.
    Rerank,
    /// Spoken text: `/v1/audio/speech`.
    Speech,
    /// Text of speech: `/v1/audio/transcriptions`, `/v1/audio/translations`.
    Transcription,
    /// Pictures: `/v1/images/generations`, `/v1/images/edits`, `/v1/images/variations`.
    Images,
    /// Judgements of content: `/v1/moderations`.
    Moderations,
    /// Continued text: `/v1/completions`.
    Completions,
    /// A path that the gateway does not know.
    Other,
}

impl CallKind {
    /// Returns the kind's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Images => "images",
            Self::Moderations => "moderations",
            Self::Completions => "completions",
            Self::Other => "other",
        }
    }

    /// Returns the kind that a model's usual name stands for.
    pub(crate) fn of_model(model: &str) -> Option<Self> {
        const WORDS: [(&str, CallKind); 12] = [
            ("rerank", CallKind::Rerank),
            ("embed", CallKind::Embeddings),
            ("moderation", CallKind::Moderations),
            ("whisper", CallKind::Transcription),
            ("transcribe", CallKind::Transcription),
            ("voxtral", CallKind::Transcription),
            ("tts", CallKind::Speech),
            ("dall-e", CallKind::Images),
            ("image", CallKind::Images),
            ("flux", CallKind::Images),
            ("-instruct", CallKind::Completions),
            ("davinci", CallKind::Completions),
        ];
        let model = model.to_ascii_lowercase();
        WORDS.into_iter().find(|(word, _)| model.contains(word)).map(|(_, kind)| kind)
    }
}
