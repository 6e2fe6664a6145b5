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

mod leaf;
#[cfg(test)]
mod tests;

pub use self::leaf::Anthropic;
#[doc(inline)]
pub use steadfast_dialects::anthropic::Messages;
