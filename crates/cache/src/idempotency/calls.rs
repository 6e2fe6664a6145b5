//! The calls under way in this process. Each runs in a task of its own, and all requests with the same input and
//! key find it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use super::key::KeyedInput;
use crate::{
    LlmError,
    cache::{Answer, Recording},
    internal::sync::{Mutex, MutexGuard, lock},
};

#[derive(Default)]
pub(super) struct Calls(Mutex<HashMap<KeyedInput, Arc<Call>>>);

/// A call under way. Each waiting request holds a receiver of its stage.
pub(super) struct Call {
    pub(super) stage: watch::Sender<Stage>,
    /// The number of requests that have ever joined it.
    joined: AtomicU64,
}

pub(super) enum Stage {
    Calling,
    /// The response is there and streams.
    Streaming(Arc<Recording>),
    Ended(CallEnd),
}

/// The end of a call, as the waiting requests see it.
#[derive(Clone)]
pub(super) enum CallEnd {
    /// The answer was kept before.
    Kept(Arc<Answer>),
    /// The call has answered.
    Answered(Arc<Answer>),
    Failed(LlmError),
    /// No call was made, or the call failed.
    Refused(LlmError),
    /// Nothing that could be shared.
    Nothing,
}

pub(super) type Waiting = watch::Receiver<Stage>;

impl Calls {
    /// Returns the call of this key, or a new one, which the caller must make.
    pub(super) fn join(&self, same: KeyedInput) -> (Waiting, Option<Arc<Call>>) {
        let mut table = self.table();
        if let Some(call) = table.get(&same) {
            call.joined.fetch_add(1, Relaxed);
            return (call.stage.subscribe(), None);
        }
        let (stage, waiting) = watch::channel(Stage::Calling);
        let call = Arc::new(Call { stage, joined: AtomicU64::new(1) });
        table.insert(same, call.clone());
        (waiting, Some(call))
    }

    pub(super) fn remove(&self, same: &KeyedInput, call: &Arc<Call>) {
        let mut table = self.table();
        if table.get(same).is_some_and(|there| Arc::ptr_eq(there, call)) {
            table.remove(same);
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<KeyedInput, Arc<Call>>> {
        lock(&self.0)
    }
}

impl Call {
    pub(super) fn joined(&self) -> u64 {
        self.joined.load(Relaxed)
    }

    /// Returns whether no request waits for the call.
    pub(super) fn is_left(&self) -> bool {
        self.stage.is_closed()
    }
}
