//! OpenAI's Responses API (`POST /v1/responses`), and the servers that speak it.

mod answer;
mod content;
mod decode;
mod encode;
mod error;
mod protocol;
mod refit;
mod stream;
mod tools;

pub use self::protocol::Responses;
#[doc(hidden)]
pub use self::stream::Decoder;
