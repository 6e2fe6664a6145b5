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

mod leaf;
#[cfg(test)]
mod tests;

pub use self::leaf::Gemini;
#[doc(inline)]
pub use steadfast_dialects::gemini::GenerateContent;
