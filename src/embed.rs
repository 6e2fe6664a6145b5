//! Texts as vectors, for knowing which of them mean the same.
//!
//! A service of embeddings is any `Service<EmbedRequest, Response = EmbedResponse>` whose error converts into
//! [`LlmError`](crate::LlmError): [`OpenAiEmbeddings`](crate::providers::openai::OpenAiEmbeddings) for every server with OpenAI's `/v1/embeddings`, or one of your own.
//! [`CachedAnswers`](crate::layers::cached::CachedAnswers) finds similar questions by it.

use std::fmt;

/// Texts to be embedded.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbedRequest {
    /// The texts.
    pub texts: Vec<String>,
    /// The model asked for. A leaf that has a model of its own sends that one instead.
    pub model: Option<String>,
}

impl EmbedRequest {
    /// These texts.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        Self { texts: texts.into_iter().collect(), model: None }
    }
}

impl fmt::Debug for EmbedRequest {
    /// Shows nothing of the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbedRequest").field("texts", &self.texts.len()).field("model", &self.model).finish()
    }
}

/// Texts, embedded.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct EmbedResponse {
    /// A vector for each text, in the order of the texts.
    pub vectors: Vec<Vec<f32>>,
}

impl EmbedResponse {
    /// These vectors.
    pub fn new(vectors: Vec<Vec<f32>>) -> Self {
        Self { vectors }
    }
}

impl fmt::Debug for EmbedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbedResponse").field("vectors", &self.vectors.len()).finish()
    }
}
