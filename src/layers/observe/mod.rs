//! A report of each request's end: one [`RequestEnded`](crate::events::RequestEnded), sent when its answer has
//! ended.
//!
//! # When to use it
//!
//! Use it to see the other layers' work: logs, metrics, alerts and the status page all depend on these events. Its
//! place is outermost, so that it sees what the caller sees. Further in it reports what happens inside of it, and a
//! `Fallback` around it that asks twice is reported twice.
//!
//! # What it tells, and when
//!
//! A complete answer has ended when the response is there, a stream when its body ends, breaks or is dropped. A
//! future that is dropped before its response is a request that was
//! [abandoned](crate::events::RequestOutcome::Abandoned). A call that panics has failed. The layer reports each request
//! exactly once. It does not report a request that began without a subscriber.
//!
//! Its clock runs from `call`, so that waiting for readiness and in queues counts. A stream that a `Fallback`
//! [restarts](crate::layers::fallback::StreamBreak::Restart) in the middle counts for the tier that began it.
//!
//! # Accounts of money
//!
//! A subscriber that is slow loses events. The accountant of `steadfast-stack`, which keeps a ledger, hears of each
//! request's begin and end at once, with or without subscribers, and misses none.
//!
//! # What it costs
//!
//! Without a subscriber, one load. With one, two readings of the clock (the inner layers use the first) and the
//! event, which reaches its subscribers without an allocation if the first attempt answers. The facts about a
//! stream wait for its end in slots that are reused.
//!
//! # Example
//!
//! ```
//! use steadfast::{
//!     Event, Events, FallbackLayer, LlmRequest, ObserveLayer, events::RequestOutcome, providers::Canned,
//! };
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let events = Events::new();
//! let mut heard = events.subscribe();
//! let llm = ServiceBuilder::new()
//!     .layer(ObserveLayer::new(events.clone()))
//!     .layer(FallbackLayer::new("sonnet").events(events))
//!     .service(Canned::text("hello"));
//!
//! llm.oneshot(LlmRequest::prompt("Say hello.").with_feature("chat")).await.unwrap();
//! let Ok(Event::RequestEnded(ended)) = heard.try_recv() else { panic!("it is told at once") };
//! assert_eq!(ended.outcome, RequestOutcome::Answered);
//! assert_eq!((ended.feature.as_deref(), ended.tier.as_deref()), (Some("chat"), Some("sonnet")));
//! # }
//! ```

mod future;
mod layer;
mod reporter;
mod service;
mod under_way;

#[doc(hidden)]
pub use self::future::ResponseFuture;
pub use self::{layer::ObserveLayer, service::Observe};

#[cfg(test)]
mod tests;
