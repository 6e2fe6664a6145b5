//! The leaves over HTTP of [steadfast](https://docs.rs/steadfast): providers' clients with their transport, and the same
//! models through AWS, Azure and Google.
//!
//! This package is for steadfast's own packages, and what is not in `steadfast` too may change with any version. Depend
//! on [`steadfast`](https://docs.rs/steadfast) instead, which names all of this.

#![cfg_attr(docsrs, feature(doc_cfg))]

use bytes::Bytes;
#[cfg(test)]
use steadfast_core::{BodyRest, Chat, Classifier, Unit, chat, classify};
use steadfast_core::{
    CommitPoint, Dialect, ErrorKind, Events, Frame, InvalidConfig, LlmBody, LlmError, LlmRequest, LlmResponse,
    OpaqueCall, StreamEvent, body, commit, embed, error, models, prices, response, wire,
};
#[cfg(feature = "clouds")]
use steadfast_core::{Event, Wire, fields, raw_json, skip};
#[cfg(feature = "clouds")]
use steadfast_dialects::{json, media, refit, sentences};
use steadfast_dialects::{protocol, splice, translate};
use steadfast_internal as internal;

pub mod anthropic;
#[cfg(feature = "clouds")]
pub mod bedrock;
mod boxed;
#[cfg(feature = "clouds")]
mod cloud_error;
#[cfg(feature = "clouds")]
pub mod credentials;
mod failure;
pub mod gemini;
pub mod http;
pub mod openai;
pub mod responses;
pub mod transport;

pub use self::{anthropic::Anthropic, gemini::Gemini, openai::OpenAi, responses::OpenAiResponses};

/// Returns a provider's text without the key, which some repeat.
pub fn without_key(text: &Bytes, key: &str) -> Bytes {
    protocol::Secret(Some(key.into())).redact(text)
}
