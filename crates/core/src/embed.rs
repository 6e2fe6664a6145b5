//! Texts as vectors, to compare their meaning.
//!
//! A service of embeddings is any `Service<EmbedRequest, Response = EmbedResponse>` whose error converts into
//! [`LlmError`](crate::LlmError): `OpenAiEmbeddings` for every server
//! with OpenAI's `/v1/embeddings`, or one of your own. `CachedAnswers` finds
//! similar questions with it.

use std::fmt;

/// Texts to embed.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbedRequest {
    /// The texts.
    pub texts: Vec<String>,
    /// The requested model. A leaf with a model of its own sends that one instead.
    pub model: Option<String>,
}

impl EmbedRequest {
    /// Creates a request for these texts.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        Self { texts: texts.into_iter().collect(), model: None }
    }
}

impl fmt::Debug for EmbedRequest {
    /// Hides the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbedRequest").field("texts", &self.texts.len()).field("model", &self.model).finish()
    }
}

/// The vectors of texts.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct EmbedResponse {
    /// A vector for each text, in the order of the texts.
    pub vectors: Vec<Vec<f32>>,
}

impl EmbedResponse {
    /// Creates a response with these vectors.
    pub fn new(vectors: Vec<Vec<f32>>) -> Self {
        Self { vectors }
    }
}

impl fmt::Debug for EmbedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbedResponse").field("vectors", &self.vectors.len()).finish()
    }
}
