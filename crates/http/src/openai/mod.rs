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

mod embed;
mod leaf;
#[cfg(test)]
mod tests;

pub use self::embed::{EmbedFuture, OpenAiEmbeddings};
pub use self::leaf::OpenAi;
#[doc(inline)]
pub use steadfast_dialects::openai::ChatCompletions;
