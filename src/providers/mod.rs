//! The leaves: one folder for each provider, and the parts that they share.

pub mod anthropic;
#[cfg(feature = "clouds")]
pub mod bedrock;
pub mod codec;
#[cfg(feature = "clouds")]
pub mod credentials;
pub mod function;
pub mod gemini;
#[cfg(feature = "http")]
pub mod http;
mod json;
mod media;
pub mod openai;
mod protocol;
mod refit;
pub mod responses;
mod sentences;
pub mod servers;
pub mod simulated;
mod splice;
pub mod sse;
mod status;
mod tool_calls;
#[cfg(feature = "http")]
pub mod transport;
mod used_up;

#[cfg(feature = "http")]
use bytes::Bytes;

/// Returns a provider's text without the key, which some repeat.
#[cfg(feature = "http")]
pub fn without_key(text: &Bytes, key: &str) -> Bytes {
    protocol::Secret(Some(key.into())).redact(text)
}

pub use self::simulated::Simulated;
#[cfg(feature = "http")]
pub use self::{anthropic::Anthropic, gemini::Gemini, openai::OpenAi, responses::OpenAiResponses};
#[cfg(feature = "cache")]
pub use crate::layers::cached::CachedAnswers;
pub use crate::layers::fallback::Canned;
