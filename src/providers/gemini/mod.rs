//! Google's Gemini API (`generateContent`, `streamGenerateContent`), version `v1beta` unless the base URL names
//! another.
//!
//! # Example
//!
//! ```no_run
//! use steadfast::{LlmRequest, providers::Gemini};
//! use tower::ServiceExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let leaf = Gemini::from_env()?.model("gemini-2.5-flash");
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
mod partial_args;
mod protocol;
mod refit;
#[cfg(all(test, feature = "http"))]
mod tests;

#[cfg(feature = "clouds")]
pub(in crate::providers) use self::error::{google_kind, is_disabled};
#[cfg(feature = "http")]
pub use self::leaf::Gemini;
pub use self::protocol::GenerateContent;
