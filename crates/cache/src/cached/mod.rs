//! A tier of cached answers, for when no model answers.
//!
//! It gives the answers of a [`CacheLayer`](crate::cache::CacheLayer): the answer to the same request, regardless of
//! age, and otherwise, if allowed, the answer to a *similar* question. Put it behind the models in a `Fallback`, at
//! level 4 (`Tier::level`).
//!
//! # Similar questions
//!
//! The last turn of the conversation may have other words, if it is a person's text of at most 4 KiB. Everything before
//! it must be the same, and so must the tools, the answer's format, the tenant, the feature and the system prompt; the
//! last three unless [allowed](CachedAnswers::across_features). Model and parameters do not count: none of the models
//! is available.
//!
//! [`similar`](CachedAnswers::similar) compares words, without any model: the cosine between the counts of words and of
//! pairs of neighbouring words. Words with digits must be the same. It compares the wording and not the meaning:
//! another wording of a question looks different, and a "not" in a long one hardly counts. Keep its threshold high.
//! [`similar_by`](CachedAnswers::similar_by) uses a service of embeddings, which knows more of meaning. It requests
//! vectors only here, when the models are down: the question's, and those of stored questions that have none yet, the
//! newest [256](CachedAnswers::similar_by) in one request.
//!
//! The answer carries a note that it is another question's, with the similarity, its age, and the
//! [key](crate::cache::CacheKey) of that question; the question's text only if [allowed](CachedAnswers::quote).
//! See [`LlmResponse::notes`](crate::LlmResponse::notes) and [`LlmResponse::cached`](crate::LlmResponse::cached). The
//! answer is [degraded](crate::LlmResponse::degraded).
//!
//! # Example
//!
//! ```
//! use steadfast::{
//!     CacheLayer, CacheReason, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse,
//!     layers::fallback::Tier, provider_fn, providers::CachedAnswers,
//! };
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let model = provider_fn(|request: LlmRequest| async move {
//!     match request.session() {
//!         Some("down") => Err(LlmError::new(ErrorKind::Overloaded, "")),
//!         _ => Ok(LlmResponse::from_text("Under Settings, Security.")),
//!     }
//! });
//! let cache = CacheLayer::new();
//! let kept = CachedAnswers::new(&cache).similar(0.7);
//! let llm = ServiceBuilder::new()
//!     .layer(cache)
//!     .layer(FallbackLayer::new("sonnet").push(Tier::new("kept", kept).level(4)))
//!     .service(model);
//!
//! llm.clone().oneshot(LlmRequest::prompt("How do I reset my password?")).await.unwrap();
//! let similar = LlmRequest::prompt("How can I reset my password?").with_session("down");
//! let answer = llm.oneshot(similar).await.unwrap();
//! assert!(matches!(answer.cached().unwrap().reason, CacheReason::Similar { similarity } if similarity > 0.7));
//! assert_eq!(answer.degraded().unwrap().level, 4);
//! # }
//! ```

mod leaf;
mod similar;

pub use self::leaf::CachedAnswers;
#[doc(no_inline)]
pub use crate::response::ResponseFuture;
