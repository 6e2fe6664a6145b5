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

#[cfg(feature = "http")]
mod leaf;
#[cfg(all(test, feature = "http"))]
mod tests;

#[cfg(feature = "http")]
pub use self::leaf::Gemini;
#[doc(inline)]
pub use steadfast_dialects::gemini::GenerateContent;
#[cfg(feature = "clouds")]
pub(super) use steadfast_dialects::gemini::{google_kind, is_disabled};
