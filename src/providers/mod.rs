//! The leaves: those over HTTP by provider, `codec` for clients of your own, and those that need no network.

pub mod function;
pub mod sse;

#[cfg(feature = "codec")]
#[doc(no_inline)]
pub use steadfast_dialects::{codec, servers};
#[cfg(feature = "http")]
#[doc(inline)]
pub use steadfast_http::{Anthropic, Gemini, OpenAi, OpenAiResponses};
#[cfg(feature = "http")]
#[doc(no_inline)]
pub use steadfast_http::{anthropic, gemini, http, openai, responses, transport, without_key};
#[cfg(feature = "clouds")]
#[doc(no_inline)]
pub use steadfast_http::{bedrock, credentials};

#[doc(no_inline)]
pub use steadfast_simulated::simulated;

#[doc(inline)]
pub use self::simulated::Simulated;
#[cfg(feature = "cache")]
#[doc(no_inline)]
pub use crate::layers::cached::CachedAnswers;
pub use crate::layers::fallback::Canned;
