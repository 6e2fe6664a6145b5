use std::{fmt, sync::Arc};

use tower::Layer;

use super::{Observe, told::Told};
use crate::{Events, layers::lanes::Lanes};

/// Applies [`Observe`]. See the [module docs](super).
///
/// Its services send to the same channel and share nothing else.
#[derive(Clone)]
pub struct ObserveLayer {
    events: Events,
}

impl ObserveLayer {
    /// Sends to these events.
    pub fn new(events: Events) -> Self {
        Self { events }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe::new(inner, Arc::new(Lanes::new(Arc::new(Told::new(self.events.clone())))))
    }
}

impl fmt::Debug for ObserveLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveLayer").field("events", &self.events).finish_non_exhaustive()
    }
}
