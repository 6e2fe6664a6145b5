//! OpenAI's Responses API (`POST /v1/responses`), and the servers that speak it.

#[cfg(feature = "http")]
mod leaf;
mod protocol;

#[cfg(feature = "http")]
pub use self::leaf::{OpenAiAuto, OpenAiResponses};
pub use self::protocol::Responses;
