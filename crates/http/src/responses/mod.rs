//! OpenAI's Responses API (`POST /v1/responses`), and the servers that speak it: Azure, xAI, OpenRouter, LM Studio,
//! vLLM and others.
//!
//! A conversation of another dialect is asked with `store: false`, so that its provider keeps none of it, and with
//! `include: ["reasoning.encrypted_content"]` where the model reasons: the sealed thoughts of an answer go back with the
//! conversation. Only the account that sealed them can read them. Where another one refuses them, the request is sent
//! once more without them, and no circuit counts the refusal.
//!
//! # Example
//!
//! ```
//! use http::HeaderName;
//! use steadfast::providers::{OpenAi, OpenAiResponses};
//!
//! let own = OpenAi::new("key").model("gpt-5.4").responses();
//! let local = OpenAiResponses::compatible("lmstudio", "http://127.0.0.1:1234/v1")?.model("gpt-oss-20b");
//! let azure = OpenAiResponses::compatible("azure", "https://me.openai.azure.com/openai/v1")?
//!     .key_header(HeaderName::from_static("api-key"))
//!     .key("key");
//! # drop((own, local, azure));
//! # Ok::<(), steadfast::InvalidConfig>(())
//! ```

mod leaf;
#[cfg(test)]
mod tests;

pub use self::leaf::{OpenAiAuto, OpenAiResponses};
#[doc(inline)]
pub use steadfast_dialects::responses::Responses;
