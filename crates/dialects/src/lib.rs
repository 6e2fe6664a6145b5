//! The wire formats of language models for [steadfast](https://docs.rs/steadfast), without a transport: a request to
//! bytes, bytes and events to an answer, and the rules from one format to another.
//!
//! This package is for steadfast's own packages, and what is not in `steadfast` too may change with any version. Depend
//! on [`steadfast`](https://docs.rs/steadfast) instead, which has the leaves and `Codec`, and names all of this.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
use steadfast_core::{Chat, CommitPoint};
use steadfast_core::{
    Dialect, ErrorKind, Event, Events, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, Progress, StreamEvent, Wire,
    body, chat, commit, error, estimate, fields, models, prices, raw_json, request, retry_after, sse, surrogates, wire,
};
use steadfast_internal as internal;

pub mod anthropic;
pub mod codec;
pub mod gemini;
pub mod openai;
#[doc(hidden)]
pub mod protocol;
pub mod responses;
pub mod servers;
pub mod translate;

#[doc(hidden)]
pub mod json;
#[doc(hidden)]
pub mod media;
#[doc(hidden)]
pub mod refit;
#[doc(hidden)]
pub mod sentences;
#[doc(hidden)]
pub mod splice;
#[doc(hidden)]
pub mod tool_calls;
mod used_up;
