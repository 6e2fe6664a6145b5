//! The leaves: one folder for each provider, and the parts that they share.

pub mod anthropic;
pub mod function;
pub mod gemini;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
mod json;
#[cfg(feature = "http")]
mod media;
pub mod openai;
#[cfg(feature = "http")]
mod refit;
#[cfg(feature = "http")]
mod sentences;
pub mod simulated;
#[cfg(feature = "http")]
mod splice;
pub mod sse;
mod status;
#[cfg(feature = "http")]
mod tool_calls;
#[cfg(feature = "http")]
pub mod transport;

pub use self::simulated::Simulated;
#[cfg(feature = "http")]
pub use self::{anthropic::Anthropic, gemini::Gemini, openai::OpenAi};
#[cfg(feature = "cache")]
pub use crate::layers::cached::CachedAnswers;
pub use crate::layers::fallback::Canned;
