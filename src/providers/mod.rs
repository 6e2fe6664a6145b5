//! The leaves: one folder for each provider, and the parts that they share.

#[cfg(feature = "codec")]
pub mod anthropic;
#[cfg(feature = "clouds")]
pub mod bedrock;
#[cfg(feature = "clouds")]
mod cloud_error;
#[cfg(feature = "codec")]
pub mod codec;
#[cfg(feature = "clouds")]
pub mod credentials;
pub mod function;
#[cfg(feature = "codec")]
pub mod gemini;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "codec")]
pub mod openai;
#[cfg(feature = "codec")]
pub mod responses;
pub mod simulated;
pub mod sse;
#[cfg(feature = "http")]
pub mod transport;

#[cfg(feature = "http")]
use bytes::Bytes;
#[cfg(feature = "codec")]
#[doc(inline)]
pub use steadfast_dialects::servers;
#[cfg(feature = "clouds")]
use steadfast_dialects::{json, media, refit, sentences};
#[cfg(feature = "codec")]
use steadfast_dialects::{protocol, splice};

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
