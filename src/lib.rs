//! steadfast keeps language-model calls alive.

#[cfg(test)]
extern crate self as steadfast;

pub mod body;
pub mod chat;
pub mod classify;
pub mod commit;
pub mod error;
pub mod events;
pub mod layers;
pub mod ledger;
pub mod providers;
pub mod request;
pub mod response;
pub mod retry_after;

mod sync;

pub use self::{
    body::{Frame, LlmBody, Progress, StreamEvent},
    chat::Chat,
    classify::Classifier,
    commit::{CommitOnFirstToken, CommitOnFirstTokenLayer, CommitPoint},
    error::{ErrorKind, InvalidConfig, LlmError},
    events::{Event, Events},
    layers::{
        bulkhead::{Bulkhead, BulkheadHandle, BulkheadLayer},
        circuit_breaker::{CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer},
        fallback::{Fallback, FallbackLayer},
        retry::{RetryBudget, RetryWithJitter, RetryWithJitterLayer},
        timeout::{Timeout, TimeoutLayer},
    },
    ledger::Attempt,
    providers::function::{ProviderFn, provider_fn},
    request::{Context, Dialect, LlmRequest, Wire},
    response::{LlmResponse, ServedBy},
};

/// Any service of this crate's vocabulary, boxed: for a struct's field, where the type must have a name.
pub type BoxLlmService = tower::util::BoxCloneSyncService<LlmRequest, LlmResponse, LlmError>;
