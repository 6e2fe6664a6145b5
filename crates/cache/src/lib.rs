//! Answers kept and given again, for [steadfast](https://docs.rs/steadfast): the cache of answers, a tier of kept answers
//! for outages, and one call for each idempotency key.
//!
//! This package is for steadfast's own packages, and what is not in `steadfast` too may change with any version. Depend
//! on [`steadfast`](https://docs.rs/steadfast) instead, which names all of this.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
use steadfast_core::CacheReason;
use steadfast_core::{
    Classifier, CommitPoint, Degradation, DegradedReason, Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest,
    LlmResponse, LlmService, StreamEvent, Wire, body, chat, classify, embed, error,
    mechanisms::{call, clock},
    request, response, store, timer,
};
#[cfg(feature = "idempotency")]
use steadfast_core::{Events, ledger, mechanisms::deadline};
use steadfast_internal::{self as internal, text_similarity, totals};

pub mod cache;
pub mod cached;
#[cfg(feature = "idempotency")]
pub mod idempotency;

#[cfg(test)]
#[path = "../../core/src/mechanisms/testing.rs"]
mod testing;
