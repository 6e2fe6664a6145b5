//! The leaves: one folder for each provider, and the parts that they share.

pub mod anthropic;
#[cfg(feature = "cache")]
pub mod cached;
pub mod canned;
pub mod function;
#[cfg(any(feature = "cache", feature = "http"))]
mod future;
pub mod gemini;
#[cfg(feature = "handoff")]
pub mod handoff;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
mod json;
#[cfg(feature = "http")]
mod media;
pub mod openai;
mod provider_data;
#[cfg(feature = "http")]
mod refit;
#[cfg(feature = "http")]
mod sentences;
pub mod simulated;
#[cfg(feature = "http")]
mod splice;
pub mod sse;
mod status;
mod tool_calls;
#[cfg(feature = "http")]
pub mod transport;

#[cfg(feature = "cache")]
pub use self::cached::CachedAnswers;
#[cfg(feature = "handoff")]
pub use self::handoff::Handoff;
#[cfg(feature = "http")]
pub use self::{anthropic::Anthropic, gemini::Gemini, openai::OpenAi};
pub use self::{canned::Canned, simulated::Simulated};
use serde_json::value::RawValue;

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::Chat,
    wire::{Meter, Stop, WireLimits},
};

/// Returns true if a leaf of this type answers by itself, without a call to a provider.
pub(crate) fn answers_itself<S: 'static>() -> bool {
    use std::any::TypeId;

    #[cfg(feature = "cache")]
    if TypeId::of::<S>() == TypeId::of::<CachedAnswers>() {
        return true;
    }
    TypeId::of::<S>() == TypeId::of::<Canned>()
}

/// Decodes a caller's bytes to the neutral form.
///
/// Parts that are passed on unchanged are not parsed, so that they take no more memory than their text.
pub(crate) fn decode_request(dialect: Dialect, body: &[u8], limits: WireLimits, stop: &Stop) -> Result<Chat, LlmError> {
    let json: &RawValue = serde_json::from_slice(body).map_err(|error| {
        LlmError::new(ErrorKind::InvalidRequest, format!("the body is not a request of the {dialect} dialect"))
            .with_source(error)
    })?;
    let mut meter = Meter::of(body, limits, stop)?;
    match dialect {
        Dialect::Anthropic => anthropic::decode_request(json, &mut meter),
        Dialect::OpenAi => openai::decode_request(json, &mut meter),
        Dialect::Gemini => gemini::decode_request(json, &mut meter),
    }
}
