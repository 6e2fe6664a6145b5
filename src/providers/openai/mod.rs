//! OpenAI's Chat Completions API (`POST /v1/chat/completions`), and the many servers that speak it.
//!
//! # Example
//!
//! ```
//! use steadfast::providers::OpenAi;
//!
//! let groq = OpenAi::compatible("groq", "https://api.groq.com/openai/v1")?.key("key").model("llama-3.3-70b-versatile");
//! let local = OpenAi::compatible("ollama", "http://127.0.0.1:11434/v1")?.model("qwen3");
//! # drop((groq, local));
//! # Ok::<(), steadfast::InvalidConfig>(())
//! ```

#[cfg(feature = "http")]
mod decode;
#[cfg(feature = "http")]
mod encode;
#[cfg(feature = "http")]
mod error;
#[cfg(feature = "http")]
mod leaf;
#[cfg(feature = "http")]
mod refit;
mod request;
#[cfg(feature = "http")]
mod sentences;
#[cfg(feature = "http")]
mod stream;
#[cfg(all(test, feature = "http"))]
mod tests;
#[cfg(feature = "http")]
mod tokens;

#[cfg(feature = "http")]
pub use self::leaf::{ChatCompletions, OpenAi};
pub(super) use self::request::decode as decode_request;
