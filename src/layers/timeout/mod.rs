//! A limit of time: for the answer, for the first token of a stream, and for silences in the middle of one.
//!
//! # When to use it
//!
//! Use it always, and twice: once around everything, for the time that the caller is willing to wait, and once
//! around each leaf, for the time of one attempt. The outer one puts an absolute deadline into the request; the
//! nearest of several wins. The layers inside act on it: a retry never sleeps past it, a fallback reserves a useful
//! slice of it for the later tiers, and a tier without useful time left is not begun.
//!
//! # What the clock covers
//!
//! The clock runs from `call` until the response is there, which for a stream is its first token: waiting for
//! readiness and in queues counts. After that the [idle limits](TimeoutLayer::idle) apply to the body. Their clock
//! runs only while the caller waits for a frame, so that a slow reader is not mistaken for a silent provider. A
//! stream that keeps flowing may take as long as it likes, unless its caller asked for a whole answer: that has to be
//! there in time, whatever form the provider gives it.
//!
//! # Silence
//!
//! A limit must be longer than any answer that is worth waiting for, and so costs its whole length when a model has
//! fallen silent. An [adaptive](TimeoutLayer::adaptive) layer around one model's leaf also uses that model's usual
//! times. It leaves no call that has no other model to go to.
//!
//! Such a call has no other end than the request's deadline if the layer is [patient](TimeoutLayer::patient): a model
//! that thinks or loads for long is asked once, and answers.
//!
//! # Errors
//!
//! [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if a limit ran out;
//! [`LlmError::timeout`](crate::LlmError::timeout) returns which, and what was waiting.
//! [`ErrorKind::Deadline`](crate::ErrorKind::Deadline) if the request's deadline had passed before the call: then
//! nothing was sent. An answer that is there at the same moment as the timer wins, but no attempt starts at the
//! deadline or after it.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{ErrorKind, LlmError, LlmRequest, LlmResponse, TimeoutLayer, provider_fn};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let slow = provider_fn(|_request| async {
//!     tokio::time::sleep(Duration::from_secs(60)).await;
//!     Ok::<_, LlmError>(LlmResponse::from_text("too late"))
//! });
//! let llm = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_secs(30))).service(slow);
//!
//! let error = llm.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Timeout);
//! assert_eq!(error.timeout().unwrap().after, Duration::from_secs(30));
//! # }
//! ```

#[cfg(feature = "schema")]
#[doc(hidden)]
pub mod block;
mod future;
mod layer;
mod service;
mod silence;

#[doc(hidden)]
pub use self::future::ResponseFuture;
pub use self::silence::Silence;
pub use self::{layer::TimeoutLayer, service::Timeout};

#[cfg(test)]
mod tests;
