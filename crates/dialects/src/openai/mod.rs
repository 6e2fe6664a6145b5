//! OpenAI's Chat Completions API (`POST /v1/chat/completions`), and the many servers that speak it.

mod decode;
mod encode;
mod error;
mod marks;
mod protocol;
mod refit;
mod sentences;
mod stream;
mod thoughts;
mod tokens;

pub use self::protocol::ChatCompletions;
#[doc(hidden)]
pub use self::stream::Decoder;
#[doc(hidden)]
pub use self::{encode::JsonSchema, error::classify};
