//! Puts an answer back into the form that its caller asked for.

use super::{bare::Bare, names::Names, root::Unwrap};
use crate::{
    StreamEvent,
    chat::{Message, Part},
};

/// The changes to a request that its answer shows.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Restore {
    pub(super) names: Names,
    /// The object around the answer, if its schema went into one.
    pub(super) root: Option<Unwrap>,
    /// The quotes around the answer, if its caller expects none.
    pub(super) bare: Option<Bare>,
    /// The stop texts of the request. A server may write any word where it names the one that ended the answer.
    pub(super) stops: Vec<String>,
}

impl Restore {
    /// Restores a whole answer.
    pub(crate) fn message(&self, message: &mut Message) {
        self.names.restore(message);
        message.content.retain(|part| !self.is_unknown_stop(part));
        if let Some(root) = &self.root {
            root.message(message);
        }
        if self.bare.is_some() {
            Bare::message(message);
        }
    }

    /// Restores a piece of a stream.
    pub(crate) fn event(&mut self, event: &mut StreamEvent) {
        self.names.restore_event(event);
        if matches!(event, StreamEvent::Part { part, .. } if self.is_unknown_stop(part)) {
            *event = StreamEvent::Other;
        }
        if let Some(root) = &mut self.root {
            root.event(event);
        }
        if let Some(bare) = &mut self.bare {
            bare.event(event);
        }
    }

    fn is_unknown_stop(&self, part: &Part) -> bool {
        part.matched_stop().is_some_and(|text| !self.stops.contains(&text))
    }
}
