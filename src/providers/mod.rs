//! The leaves: one folder a provider, and what they share.

pub mod canned;
pub mod function;

pub use self::canned::Canned;
use crate::{Dialect, ErrorKind, LlmError, chat::Chat};

/// Decodes a caller's bytes to the neutral form.
pub(crate) fn decode_request(dialect: Dialect, _body: &[u8]) -> Result<Chat, LlmError> {
    Err(LlmError::new(ErrorKind::UnsupportedFeature, format!("requests of the {dialect} dialect are not decoded")))
}
