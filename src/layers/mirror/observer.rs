//! An observer of an answer as it comes: the same on both sides.

use std::sync::Arc;

use tokio::time::Instant;

use super::{ComparisonSide, settings::Settings};
use crate::{
    Frame, LlmError, LlmResponse, StreamEvent,
    body::{Accumulator, Delivery},
    chat::{Message, Part, Usage},
    events::RequestOutcome,
    prices::Usd,
};

pub(super) struct Observer {
    settings: Arc<Settings>,
    begun: Instant,
    side: ComparisonSide,
    answer: Answer,
    delivered: Delivery,
    /// The size that counts against the bound: bytes, and frames, since some have no bytes.
    size: u64,
    /// The tokens of answers that broke before this one was restarted.
    broken: Option<Usage>,
}

enum Answer {
    Nothing,
    Coming(Accumulator),
    Whole(Message),
    TooLarge,
}

/// A side that has ended, and its message.
pub(super) struct SideOutcome {
    pub(super) side: ComparisonSide,
    pub(super) message: Option<Message>,
}

impl Observer {
    pub(super) fn new(settings: Arc<Settings>, begun: Instant) -> Self {
        let (answer, delivered) = (Answer::Nothing, Delivery::default());
        Self { settings, begun, side: ComparisonSide::nothing_yet(), answer, delivered, size: 0, broken: None }
    }

    /// Returns whether there was a response.
    pub(super) fn is_begun(&self) -> bool {
        self.side.first_token.is_some()
    }

    pub(super) fn is_too_large(&self) -> bool {
        matches!(self.answer, Answer::TooLarge)
    }

    /// Takes the response: a whole answer, or the first token of one.
    pub(super) fn responds(&mut self, response: &LlmResponse) {
        let (provider, model) = response.names();
        self.side = ComparisonSide {
            tier: response.tier(),
            provider,
            model,
            served_model: response.served_model(),
            stream: response.body().arrives_in_frames(),
            first_token: Some(self.begun.elapsed()),
            attempts: response.served_by().attempts,
            usage: response.usage(),
            cached: response.cached().map(|cached| cached.reason),
            degraded: response.degraded(),
            ..self.side.clone()
        };
        let Some(message) = response.body().message() else {
            self.answer = Answer::Coming(Accumulator::default());
            return;
        };
        self.side.finish.clone_from(&message.finish);
        self.side.tool_calls = u32::try_from(message.tool_calls().count()).unwrap_or(u32::MAX);
        let texts = message.content.iter().filter_map(|part| match part {
            Part::Text(text) | Part::Refusal(text) => Some(text.chars().count() as u64),
            _ => None,
        });
        self.side.characters = texts.sum();
        let size = message.content.iter().map(|part| part.size() as u64).sum();
        self.answer = if self.fits(size) { Answer::Whole(message.into_owned()) } else { Answer::TooLarge };
    }

    /// Takes a frame of the answer.
    pub(super) fn frame(&mut self, frame: &Frame) {
        let before = self.delivered.bytes;
        self.delivered.add(frame);
        for event in frame.events() {
            match event {
                StreamEvent::Usage(usage) => self.side.usage = Some(*usage),
                StreamEvent::Finish(reason) => self.side.finish = Some(reason.clone()),
                StreamEvent::Restarted { .. } => {
                    self.broken = total(self.broken, self.side.usage.take());
                    self.side.finish = None;
                }
                _ => {}
            }
        }
        let size = self.delivered.bytes.saturating_sub(before).saturating_add(1);
        if !self.fits(size) {
            self.answer = Answer::TooLarge;
        }
        if let Answer::Coming(answer) = &mut self.answer {
            frame.events().iter().for_each(|event| answer.push(event));
        }
    }

    /// Adds to the size. Returns `false` if that exceeds the bound.
    fn fits(&mut self, more: u64) -> bool {
        self.size = self.size.saturating_add(more);
        self.size <= self.settings.max_answer
    }

    /// Records that there is no response.
    pub(super) fn fails(&mut self, error: &LlmError) {
        let (provider, model) = error.names();
        self.side.tier = error.attempts().last().and_then(|attempt| attempt.tier.clone());
        self.side.attempts = match error.attempts() {
            // No layer has counted the attempt.
            [] => usize::from(!error.is_unsent()),
            attempts => attempts.iter().filter(|attempt| attempt.is_wasted()).count(),
        };
        (self.side.provider, self.side.model) = (provider, model);
    }

    pub(super) fn ends(self, outcome: RequestOutcome) -> SideOutcome {
        let Self { settings, begun, mut side, answer, delivered, broken, .. } = self;
        side.outcome = outcome;
        side.took = begun.elapsed();
        side.usage = total(broken, side.usage);
        side.cost = match (side.cached, &side.usage) {
            // An earlier answer was paid for then.
            (Some(_), _) => Some(Usd::ZERO),
            (None, Some(usage)) => settings.prices.cost_of(side.priced_names(), usage),
            _ => None,
        };
        if side.stream {
            (side.characters, side.tool_calls) = (delivered.characters, delivered.tool_calls);
        }
        let message = match answer {
            Answer::Nothing | Answer::TooLarge => None,
            Answer::Coming(answer) => Some(answer.finish()),
            Answer::Whole(message) => Some(message),
        };
        SideOutcome { side, message }
    }
}

impl SideOutcome {
    /// Returns the message, if the answer is whole.
    pub(super) fn whole(&self) -> Option<&Message> {
        self.message.as_ref().filter(|_| self.side.outcome == RequestOutcome::Answered)
    }
}

fn total(before: Option<Usage>, now: Option<Usage>) -> Option<Usage> {
    match (before, now) {
        (Some(before), Some(now)) => Some(before + now),
        (before, now) => before.or(now),
    }
}
