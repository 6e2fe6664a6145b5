use std::{fmt, sync::Arc, time::Duration};

use super::{Compare, choice::Choice, under_way::Shared};
use crate::{BoxLlmService, Events, chat::Message, layers::draft::Plan, prices::PriceTable};

/// The settings of a layer.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) candidate: BoxLlmService,
    pub(super) choice: Choice,
    pub(super) max_in_flight: usize,
    pub(super) timeout: Option<Duration>,
    pub(super) measure: Measure,
    pub(super) agrees_from: f32,
    pub(super) max_answer: u64,
    pub(super) keep_texts: bool,
    pub(super) sink: Option<Arc<dyn Compare>>,
    pub(super) events: Option<Events>,
    pub(super) prices: PriceTable,
    /// The mirrored requests under way, and the counts.
    pub(super) shared: Arc<Shared>,
}

/// A function that measures the similarity of two answers.
pub(super) type Measure = Arc<dyn Fn(&Message, &Message) -> f32 + Send + Sync>;

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("choice", &self.choice)
            .field("max_in_flight", &self.max_in_flight)
            .field("timeout", &self.timeout)
            .field("keep_texts", &self.keep_texts)
            .field("under_way", &self.shared.under_way())
            .finish_non_exhaustive()
    }
}

impl Plan for Settings {
    type State = Self;

    fn make(self: &Arc<Self>, _: Option<&Self>) -> Arc<Self> {
        self.clone()
    }
}
