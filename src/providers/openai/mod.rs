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

#[cfg(all(feature = "cache", feature = "http"))]
mod embed;
#[cfg(feature = "http")]
mod leaf;
#[cfg(all(test, feature = "http"))]
mod tests;

#[cfg(all(feature = "cache", feature = "http"))]
pub use self::embed::{EmbedFuture, OpenAiEmbeddings};
#[cfg(feature = "http")]
pub use self::leaf::OpenAi;
#[doc(inline)]
pub use steadfast_dialects::openai::ChatCompletions;
