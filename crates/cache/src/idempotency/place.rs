//! The place of a call among those under way.

use std::sync::Arc;

use super::{
    calls::{Call, CallEnd, Stage},
    key::KeyedInput,
    shared::Shared,
};
use crate::{ErrorKind, LlmError};

/// A call's place among those under way, held by its task. However the task ends, the waiting requests learn of it.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) same: KeyedInput,
    pub(super) call: Arc<Call>,
    ended: bool,
}

impl Place {
    pub(super) fn new(shared: Arc<Shared>, same: KeyedInput, call: Arc<Call>) -> Self {
        shared.tasks.send_modify(|tasks| *tasks += 1);
        Self { shared, same, call, ended: false }
    }

    /// Ends the call for its waiting requests. A later request begins again, or finds the kept answer.
    pub(super) fn end(&mut self, ended: CallEnd) {
        self.ended = true;
        self.shared.calls.remove(&self.same, &self.call);
        self.call.stage.send_replace(Stage::Ended(ended));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.ended {
            let error = LlmError::new(ErrorKind::Other, "the call under this idempotency key ended without a result");
            self.end(CallEnd::Refused(error));
        }
        self.shared.tasks.send_modify(|tasks| *tasks = tasks.saturating_sub(1));
    }
}
