use bytes::Bytes;

use super::{Frame, LlmBody};
use crate::{Dialect, chat::Message};

/// An answer that counts as a failure, though the provider sent it whole and under a good status: it has no content. A
/// caller for whom nobody says more may still have it.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
#[doc(hidden)]
pub enum FailedAnswer {
    /// A message, with the provider's own bytes if it sent any.
    Whole(Message, Option<(Dialect, Bytes)>),
    /// A stream's frames, up to its end.
    Streamed(Vec<Frame>),
}

impl FailedAnswer {
    /// Returns the answer as a body.
    pub fn into_body(self) -> LlmBody {
        match self {
            Self::Whole(message, None) => LlmBody::from_message(message),
            Self::Whole(message, Some((dialect, raw))) => LlmBody::from_wire(dialect, raw, message),
            Self::Streamed(frames) => LlmBody::from_frames(futures_util::stream::iter(frames.into_iter().map(Ok))),
        }
    }
}
