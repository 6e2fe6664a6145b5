//! Several deployments of one model behind one service: keys, regions, clouds, servers of one's own.
//!
//! # When to use it, and when not
//!
//! Use it if one key, region or server does not carry the load, or if a second one is there anyway. Deployments serve
//! the *same model*: any of them may answer any request. Another model is a tier of a [fallback](super::fallback). One
//! deployment needs no balancer.
//!
//! # What it does
//!
//! - **Choice.** Two deployments are drawn at random by weight, and the cheaper one gets the request. The cost is the
//!   fourth power of the time to the first token, times the requests in flight for each unit of weight, times one for
//!   failures. The first token counts, since the length of an answer is the prompt's doing; failures are fast, and
//!   must not attract. A deployment that was slow is tried again after minutes.
//! - **Only those that serve.** A deployment is passed over while its [circuit](Deployment::circuit) is open, while
//!   its provider has asked to wait (a 429 with Retry-After), while its [places](Deployment::max_in_flight) are taken,
//!   and while it is [drained](BalanceHandle::drain). If a circuit waits for a probe, a request that draws the
//!   deployment is the probe.
//! - **Headroom.** The requests and tokens that are left are read from the headers of each answer (OpenAI's and those
//!   like it, Azure's, Anthropic's, OpenRouter's), or [known beforehand](Deployment::tokens_per_minute), or learned
//!   from a 429. A request's estimated tokens are reserved before it goes out, and corrected by the answer. A
//!   deployment without room is passed over before it says 429. If none has room, the roomiest one is asked: an
//!   estimate refuses no request. Headers that make no sense are ignored.
//!   Replicas [share](BalanceLayer::shared_headroom) the limits that are known beforehand.
//! - **Warm caches.** Requests that share a prefix go to one deployment, where the provider's cache has it. The key is
//!   the request's `prompt_cache_key`, else its [session](crate::LlmRequest::with_session), else a hash of the system
//!   prompt, the tools and the first turn, if they have 4 kB. A table made beforehand has the home of a key, the same
//!   one in each process. A request leaves it while it does not serve, or when it lastingly costs more than twice the
//!   best one, and the key stays where it went: until it has to move again, or has rested for ten minutes.
//! - **Failover.** A failure that another deployment can help with goes there at once, within the request's attempts
//!   and before its deadline. The deployment that failed is out of the question for this request, whatever its cache
//!   has. A refusal on this side costs no attempt. If all have failed, one error lists them, so that a fallback goes
//!   on.
//! - **Return.** A deployment that was out, or is new, gets its share [by and by](BalanceLayer::slow_start).
//! - **Zones.** Those of the balancer's [zone](BalanceLayer::zone) come first, until they cost twice as much.
//! - **Changes while it runs**: [`BalanceHandle`] sets, adds, removes and drains. Deployments that stay keep what is
//!   known of them, and requests under way end where they are.
//!
//! A place is taken at `call` and given back when the answer ends or is dropped, so that no count leaks or expires.
//!
//! With the feature `load`, a balancer is a load for tower's own (`tower::balance::p2c`), and `BodyCompletion` has
//! tower count a stream until its end.
//!
//! # Where in the stack
//!
//! Inside of a `RetryWithJitter`, whose repeats choose again, and of all layers of the request; as a tier of a
//! `Fallback`, or as its primary. Around the circuit breaker and the attempt's timeout of each deployment.
//!
//! # Sources
//!
//! Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); the peak EWMA of Finagle and tower,
//! here of the first token and beside its mean. Maglev's table by weight: Eisenbud et al. (2016). Bounded loads:
//! Mirrokni, Thorup and Zadimoghaddam (2018). Linkerd's bias against failures. The weight is in the draw and in
//! the load, and does not divide the cost of an idle deployment: there the lightest would never be chosen.
//!
//! # Example
//!
//! ```
//! use steadfast::{BalanceLayer, CircuitBreakerLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn};
//! use steadfast::layers::balance::{Deployment, Deployments};
//! use tower::{Layer, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), steadfast::LlmError> {
//! let deployment = |name: &'static str, works: bool| {
//!     let circuit = CircuitBreakerLayer::new(name);
//!     let leaf = provider_fn(move |_request| async move {
//!         if works { Ok(LlmResponse::from_text("hello")) } else { Err(LlmError::new(ErrorKind::Server, "down")) }
//!     });
//!     Deployment::new(name, circuit.layer(leaf)).circuit(circuit.handle())
//! };
//! let llm = ServiceBuilder::new()
//!     .layer(BalanceLayer::new())
//!     .service(Deployments::new([deployment("east", true), deployment("west", false).weight(2.0)?])?);
//!
//! for _ in 0..100 {
//!     let answer = llm.clone().oneshot(LlmRequest::prompt("hi")).await?;
//!     assert_eq!(answer.served_by().deployment, Some("east"));
//! }
//! let [east, west] = &llm.handle().deployments()[..] else { panic!("there are two") };
//! assert_eq!((east.answered, east.in_flight), (100, 0));
//! assert!(west.failed <= 10, "then its circuit was open");
//! # Ok(())
//! # }
//! ```

mod affinity;
#[cfg(feature = "schema")]
#[doc(hidden)]
pub mod block;
mod choice;
mod cost;
mod deployment;
mod exchange;
mod future;
mod handle;
mod headroom;
mod homes;
mod layer;
#[cfg(feature = "load")]
mod load;
mod members;
mod moved;
mod service;
mod settings;
mod shared;
mod state;
mod task;
mod time;

#[cfg(feature = "load")]
pub use self::load::BodyCompletion;
pub use self::{
    deployment::{Deployment, Deployments},
    handle::{BalanceHandle, DeploymentStatus},
    layer::BalanceLayer,
    service::Balance,
};
#[doc(hidden)]
pub use self::{
    exchange::{HeadroomFuture, HeadroomGrant, HeadroomOrder, HeadroomStore, MemoryHeadroom},
    future::ResponseFuture,
    handle::Availability,
};

#[cfg(test)]
mod tests;
