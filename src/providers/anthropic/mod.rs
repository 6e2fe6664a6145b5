//! Anthropic's Messages API (`POST /v1/messages`), version `2023-06-01` by default.
//!
//! # Example
//!
//! ```no_run
//! use steadfast::{LlmRequest, providers::Anthropic};
//! use tower::ServiceExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let leaf = Anthropic::from_env()?.model("claude-sonnet-4-5");
//! let answer = leaf.oneshot(LlmRequest::prompt("Explain closures.")).await?;
//! println!("{}", answer.text().await?);
//! # Ok(())
//! # }
//! ```

mod decode;
mod encode;
mod error;
#[cfg(feature = "http")]
mod leaf;
mod protocol;
mod refit;
mod stream;
#[cfg(all(test, feature = "http"))]
mod tests;

#[cfg(feature = "http")]
pub use self::leaf::Anthropic;
pub use self::protocol::Messages;

/// Returns true for a type of Anthropic's tools that the caller runs, and that only its models know.
#[cfg(feature = "clouds")]
pub(super) fn is_client_tool(kind: &str) -> bool {
    const BEGINNINGS: [&str; 5] = ["bash_", "browser_", "computer_", "memory_", "text_editor_"];
    BEGINNINGS.iter().any(|begin| kind.starts_with(begin))
}
