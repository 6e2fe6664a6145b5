//! A stream with which another call goes on when it breaks.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;

use super::{failover::Failover, seam::Seam};
use crate::{
    ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    body::Continued,
    chat::{FinishReason, Part, Usage},
    estimate,
    layers::{call::BoxedCall, fallback::serve::KeptText},
    prices::Price,
    request::GoOn,
};

/// The calls that may go on with one stream.
const HOPS: u16 = 2;

/// The frames of one call and, when its stream breaks, the rest of the answer from others.
///
/// Only text is gone on with: a call of a tool that has begun, or a thought with a signature, belongs to the answer of
/// one model. The provider's own bytes pass until the stream breaks.
pub(super) struct Continuation {
    body: LlmBody,
    /// The provider and model that answer, and that model's price.
    names: Names,
    price: Option<Price>,
    failover: Failover,
    shown: Shown,
    asking: Option<Box<Asking>>,
    /// The rest that another call gives.
    rest: Option<Rest>,
    hops: u16,
}

type Names = (Option<Arc<str>>, Option<Arc<str>>);

/// The next call, and the failure that broke the stream before.
struct Asking {
    call: BoxedCall,
    reason: ErrorKind,
    way: GoOn,
}

/// The part of the answer that its reader has.
struct Shown {
    text: KeptText,
    /// The index of its last text, and the first index that is free.
    index: u32,
    free: u32,
    begun_as: (Option<String>, Option<String>),
    /// The tokens of the calls that broke, and of the present one.
    before: Usage,
    used: Option<Usage>,
    /// The bytes that the present call has said.
    said: usize,
    /// True once it has more than text, or an end.
    is_closed: bool,
}

impl Shown {
    fn nothing(text: KeptText) -> Self {
        let before = Usage::default();
        Self { text, index: 0, free: 0, begun_as: (None, None), before, used: None, said: 0, is_closed: false }
    }

    fn add(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Start { id, model } => {
                let (known_id, known_model) = &mut self.begun_as;
                *known_id = known_id.take().or_else(|| id.clone());
                *known_model = known_model.take().or_else(|| model.clone());
            }
            StreamEvent::Usage(usage) => self.used = Some(*usage),
            StreamEvent::Text { index, text } => {
                self.note(*index, text.len());
                if !self.is_closed {
                    self.is_closed = !self.text.push(text);
                    self.index = *index;
                }
            }
            StreamEvent::Reasoning { index, text } => self.note(*index, text.len()),
            StreamEvent::Part { part: Part::Extra { .. }, .. } | StreamEvent::KeepAlive | StreamEvent::Other => {}
            _ => self.is_closed = true,
        }
    }

    fn note(&mut self, index: u32, said: usize) {
        self.said += said;
        self.free = self.free.max(index.saturating_add(1));
    }

    /// Closes the account of a call whose stream broke.
    fn broke(&mut self, prompt: u32, price: Option<&Price>) {
        let said = estimate::said(self.said as u64);
        let mut used = self.used.take().unwrap_or_else(|| Usage::new(prompt.into(), 0));
        used.output = used.output.max(said);
        used.cost = used.cost_at(price);
        self.before = self.before + used;
        self.said = 0;
    }
}

/// The rest of a text that another call gives.
struct Rest {
    seam: Seam,
    /// The event that says so, until there is something to show.
    continued: Option<Box<Continued>>,
    /// The index of its first text, and the first index of what follows.
    first: Option<u32>,
    base: u32,
    stops: Stops,
}

impl Continuation {
    /// Returns a body with which the rest of the chain goes on.
    pub(super) fn body(body: LlmBody, (names, price): (Names, Option<Price>), failover: Failover) -> LlmBody {
        let shown = Shown::nothing(failover.kept_text());
        LlmBody::from_frames(Self { body, names, price, failover, shown, asking: None, rest: None, hops: 0 })
    }

    /// Asks another call to go on, or returns the error that ends the body.
    fn broke(&mut self, mut error: LlmError) -> Result<(), LlmError> {
        // The error of a limit on silence does not name the provider.
        if let (Some(provider), model) = &self.names {
            error = error.or_model(provider, model.as_ref());
        }
        let asked = self.asking.take();
        let reason = asked.as_ref().map_or_else(|| error.kind(), |asking| asking.reason);
        self.rest = None;
        let can_go_on = !self.shown.text.as_str().trim().is_empty() && !self.shown.is_closed && self.hops < HOPS;
        let Some(ways) = (if can_go_on { self.failover.ways_to_go_on() } else { None }) else {
            // The first break is told as it came: no other call was made.
            return Err(if self.hops == 0 { error } else { self.failover.give_up_to_go_on(error) });
        };
        match asked {
            Some(asking) if asking.way == GoOn::Prefill => error = self.failover.refused_to_go_on(error),
            Some(_) => {}
            // A call that has not answered has said nothing.
            None => self.shown.broke(self.failover.whole_request().glanced_prompt(), self.price.as_ref()),
        }
        if self.hops == 0 {
            self.failover.plan_to_go_on(ways);
        }
        // Release the broken stream before the next call is made.
        self.body = LlmBody::from_text("");
        self.failover.leave_for_body(error)?;
        self.hops += 1;
        let (way, call) = self.failover.ask_to_go_on(self.shown.text.as_str().trim_end(), ways, self.hops);
        self.asking = Some(Box::new(Asking { call, reason, way }));
        Ok(())
    }

    /// Takes the answer of the call that goes on.
    fn answered(&mut self, mut response: LlmResponse) {
        let Some(Asking { reason, way, .. }) = self.asking.take().map(|asking| *asking) else { return };
        self.failover.answered(&mut response);
        (self.names, self.price) = (response.names(), response.price().cloned());
        self.failover.keep_for_body(&response);
        let so_far: Arc<str> = self.shown.text.as_str().into();
        let mut continued = Continued::new(reason, so_far.clone(), self.shown.index);
        continued.tier = response.tier();
        continued.model = self.names.1.clone();
        continued.begun_as = self.shown.begun_as.clone();
        let tail = so_far.len() - so_far.trim_end().len();
        let least = match way {
            GoOn::Prefill => LEAST_OVERLAP,
            GoOn::Instruction => LEAST_REPEATED,
        };
        self.rest = Some(Rest {
            seam: Seam::new(so_far, tail, least),
            continued: Some(Box::new(continued)),
            first: None,
            base: self.shown.free,
            stops: Stops::new(self.failover.whole_request(), self.shown.text.as_str()),
        });
        self.body = response.into_body();
    }

    /// Returns the events of the rest that a frame of it stands for.
    fn follow(&mut self, frame: &Frame) -> Result<Vec<StreamEvent>, LlmError> {
        let mut events = Vec::new();
        for event in frame.events() {
            self.follow_event(event, &mut events)?;
        }
        Ok(events)
    }

    fn follow_event(&mut self, event: &StreamEvent, to: &mut Vec<StreamEvent>) -> Result<(), LlmError> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let anew = |_| broken("the model that was to go on began anew");
        // An index behind those that its reader has.
        let base = rest.base;
        let moved = |index: u32| base.saturating_add(index);
        let text = match event {
            StreamEvent::Text { index, text } if *rest.first.get_or_insert(*index) == *index => {
                self.shown.said += text.len();
                rest.seam.push(text.clone()).map_err(anew)?
            }
            StreamEvent::KeepAlive => {
                to.push(StreamEvent::KeepAlive);
                return Ok(());
            }
            StreamEvent::Usage(usage) => {
                self.shown.used = Some(*usage);
                return Ok(());
            }
            StreamEvent::Reasoning { text, .. } => {
                self.shown.said += text.len();
                return Ok(());
            }
            // Its thoughts belong to no answer that anybody could send back.
            StreamEvent::Signature { .. } | StreamEvent::Part { part: Part::Extra { .. }, .. } => return Ok(()),
            StreamEvent::Start { .. } | StreamEvent::Other => return Ok(()),
            _ => rest.seam.finish().map_err(anew)?,
        };
        let says_nothing = matches!(event, StreamEvent::Refusal { .. } | StreamEvent::Finish(_) | StreamEvent::End);
        if rest.continued.is_some() && text.is_empty() && says_nothing {
            return Err(broken("the model that was to go on said nothing more"));
        }
        if !text.is_empty() {
            let (text, is_over) = rest.stops.cut(text);
            self.begin(to);
            // With the last call's rest nothing goes on.
            if self.hops < HOPS && !self.shown.is_closed {
                self.shown.is_closed = !self.shown.text.push(&text);
            }
            to.push(StreamEvent::Text { index: self.shown.index, text });
            if is_over {
                to.extend([StreamEvent::Usage(self.used()), StreamEvent::Finish(FinishReason::Stop), StreamEvent::End]);
                self.shown.is_closed = true;
                self.rest = None;
                return Ok(());
            }
        }
        let mut event = match event {
            StreamEvent::Text { index, .. } if self.rest.as_ref().and_then(|rest| rest.first) == Some(*index) => {
                return Ok(());
            }
            event => event.clone(),
        };
        match &mut event {
            StreamEvent::Text { index, .. }
            | StreamEvent::Refusal { index, .. }
            | StreamEvent::ToolCall { index, .. }
            | StreamEvent::Arguments { index, .. }
            | StreamEvent::Part { index, .. } => *index = moved(*index),
            StreamEvent::End => to.push(StreamEvent::Usage(self.used())),
            _ => {}
        }
        self.begin(to);
        self.shown.add(&event);
        to.push(event);
        Ok(())
    }

    /// Says that another call goes on, once there is something to show.
    fn begin(&mut self, to: &mut Vec<StreamEvent>) {
        if let Some(continued) = self.rest.as_mut().and_then(|rest| rest.continued.take()) {
            // Its cost is known at the end: until then more is said than is counted.
            let mut used = self.used();
            used.cost = None;
            to.extend([StreamEvent::Continued(continued), StreamEvent::Usage(used)]);
        }
    }

    /// The tokens of all calls so far, with what each part costs at its own model.
    fn used(&self) -> Usage {
        let mut used = self.shown.used.unwrap_or_default();
        used.cost = used.cost_at(self.price.as_ref());
        self.shown.before + used
    }
}

/// The least overlap that is left out, in bytes, of a model that was given the text as its own; it knows where to go
/// on.
const LEAST_OVERLAP: usize = 16;
/// The same of a model that was told to go on: it likes to say the last words once more.
const LEAST_REPEATED: usize = 8;

fn broken(what: &'static str) -> LlmError {
    LlmError::new(ErrorKind::StreamBroken, what)
}

impl Stream for Continuation {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let error = match &mut this.asking {
                Some(asking) => match ready!(Pin::new(&mut asking.call).poll(cx)) {
                    Ok(response) => {
                        this.answered(response);
                        continue;
                    }
                    Err(error) => error,
                },
                None => match ready!(this.body.poll_frame(cx)) {
                    Some(Ok(frame)) if this.rest.is_some() => match this.follow(&frame) {
                        Ok(events) if events.is_empty() => continue,
                        Ok(events) => return Poll::Ready(Some(Ok(Frame::events_of(events)))),
                        Err(error) => error,
                    },
                    Some(Ok(frame)) => {
                        frame.events().iter().for_each(|event| this.shown.add(event));
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    Some(Err(error)) => error,
                    None => return Poll::Ready(None),
                },
            };
            if let Err(error) = this.broke(error) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// The longest stop text that is looked for across the seam, in bytes, and the number of them.
const LONGEST_STOP: usize = 256;
const MOST_STOPS: usize = 16;

/// The request's stop texts, of which one may lie across the seam: no provider sees it.
struct Stops {
    texts: Vec<String>,
    /// The end of the text before the seam, and the beginning behind it.
    around: String,
    before: usize,
    longest: usize,
}

impl Stops {
    fn new(request: &LlmRequest, so_far: &str) -> Self {
        let texts = request.chat().map(|chat| chat.stop.as_slice()).unwrap_or_default();
        // The rest is searched again with each piece: no more and no longer ones than providers take.
        let texts = texts.iter().filter(|text| (1..=LONGEST_STOP).contains(&text.len())).take(MOST_STOPS);
        let texts: Vec<String> = texts.cloned().collect();
        let longest = texts.iter().map(String::len).max().unwrap_or_default();
        let mut from = so_far.len().saturating_sub(longest);
        while !so_far.is_char_boundary(from) {
            from += 1;
        }
        let around = so_far[from..].to_owned();
        Self { texts, before: around.len(), around, longest }
    }

    /// Returns a piece of the rest, and whether a stop text lies across the seam: then nothing of it is shown.
    fn cut(&mut self, piece: String) -> (String, bool) {
        if self.around.len() - self.before >= self.longest {
            return (piece, false);
        }
        self.around.push_str(&piece);
        let lies_across = |(from, text): (usize, &str)| from < self.before && from + text.len() > self.before;
        // A stop text is no part of the answer, and what of it is there already can't be taken back.
        match self.texts.iter().any(|text| self.around.match_indices(text.as_str()).any(lies_across)) {
            true => (String::new(), true),
            false => (piece, false),
        }
    }
}
