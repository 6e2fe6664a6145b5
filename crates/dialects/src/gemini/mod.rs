//! Google's Gemini API (`generateContent`, `streamGenerateContent`).

mod decode;
mod encode;
mod error;
mod partial_args;
mod protocol;
mod refit;

#[doc(hidden)]
pub use self::decode::Decoder;
#[doc(hidden)]
pub use self::error::{google_kind, is_disabled};
pub use self::protocol::GenerateContent;
