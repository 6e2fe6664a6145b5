//! A tier of kept answers, for when no model answers.
//!
//! It gives what a [`CacheLayer`](crate::CacheLayer) has kept: the answer to the same request, old as it may be, and where
//! there is none the answer to a *similar* question, if that is wanted. Put it behind the models in a `Fallback`, at level
//! 4 ([`Tier::level`](crate::layers::fallback::Tier::level)).
//!
//! # What is similar
//!
//! The last turn of the conversation, where it is a person's text of at most 4 KiB, may be in other words. Everything
//! before it must be the same, and so must the tools, the shape of the answer, the tenant, the feature and the system
//! prompt; the last three unless [allowed](CachedAnswers::across_features). Model and parameters do not count: none of the
//! models is there.
//!
//! Likeness is told by the words, without any model ([`similar`](CachedAnswers::similar)): the cosine between the
//! counts of words and of pairs of neighbouring words. Words with digits must be the same ones. It takes what is said for what
//! is meant: another wording of a question looks different, a "not" in a long one is hardly seen. Keep its threshold high.
//! With [`similar_by`](CachedAnswers::similar_by) a service of embeddings tells it, which knows more of meaning. Vectors are
//! asked for only here, when the models are down: the question's, and those of kept questions that have none yet, the newest
//! [256](CachedAnswers::similar_by) of them in one request.
//!
//! The answer says that it is another question's, how much alike the two are, how old it is, and the
//! [key](crate::layers::cache::CacheKey) of that other; what was asked there only if [allowed](CachedAnswers::quote): in
//! [`LlmResponse::notes`](crate::LlmResponse::notes), and in [`LlmResponse::cached`](crate::LlmResponse::cached).
//! It is [degraded](crate::LlmResponse::degraded).
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
//!     match request.session_id() {
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
//! let similar = LlmRequest::prompt("How can I reset my password?").session("down");
//! let answer = llm.oneshot(similar).await.unwrap();
//! assert!(matches!(answer.cached().unwrap().reason, CacheReason::Similar { similarity } if similarity > 0.7));
//! assert_eq!(answer.degraded().unwrap().level, 4);
//! # }
//! ```

mod leaf;
mod similar;

pub use self::leaf::CachedAnswers;
pub use crate::response::ResponseFuture;
