//! Anthropic's Messages API (`POST /v1/messages`).

mod decode;
mod encode;
mod error;
mod protocol;
mod refit;
mod stream;

pub use self::protocol::Messages;

/// Returns true for a type of Anthropic's tools that the caller runs, and that only its models know.
#[doc(hidden)]
pub fn is_client_tool(kind: &str) -> bool {
    const BEGINNINGS: [&str; 5] = ["bash_", "browser_", "computer_", "memory_", "text_editor_"];
    BEGINNINGS.iter().any(|begin| kind.starts_with(begin))
}
#[doc(hidden)]
pub use self::stream::Decoder;
