//! The vocabulary of [steadfast](https://docs.rs/steadfast): a request to a language model, its answer, the error in
//! place of one, and what steadfast's packages know of the three.
//!
//! This package is for steadfast's own packages, and what is not in `steadfast` too may change with any version. Depend
//! on [`steadfast`](https://docs.rs/steadfast) instead, which has the layers and names all of this.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
extern crate self as steadfast;
use steadfast_internal as internal;

pub mod body;
pub mod chat;
pub mod classify;
pub mod commit;
pub mod dialect;
pub mod embed;
pub mod error;
pub mod estimate;
pub mod events;
pub mod fields;
pub mod ledger;
#[doc(hidden)]
pub mod mechanisms;
pub mod models;
pub mod prices;
pub mod raw_json;
pub mod request;
pub mod response;
pub mod retry_after;
pub mod service;
#[cfg(feature = "schema")]
#[doc(hidden)]
pub mod settings;
pub mod skip;
pub mod sse;
pub mod store;
pub mod surrogates;
pub mod timer;
pub mod usage;
pub mod wire;

mod dated_file;
mod usd;

pub use self::{
    body::{CommitPoint, Frame, LlmBody, Progress, StreamEvent},
    chat::Chat,
    classify::Classifier,
    dialect::Dialect,
    error::{Attempt, ErrorKind, InvalidConfig, LlmError},
    events::{Event, Events},
    request::{Context, LlmRequest},
    response::{AnswerSource, CacheOrigin, CacheReason, Degradation, DegradedReason, LlmResponse},
    service::{BoxLlmService, LlmService},
    wire::{BodyRest, OpaqueCall, Unit, Wire, WireLimits},
};
