use std::{
    borrow::Cow,
    collections::VecDeque,
    task::{Context, Poll, ready},
};

use super::{EventSource, Interruption};
use crate::{sse::SseEvent, surrogates};

/// A source whose events have whole characters only: a half that two events have divided is joined, and one that stays
/// alone becomes U+FFFD. An event that ends with a half waits for the next one with data; all others pass as they come.
pub(crate) struct WholeCharacters<S> {
    source: S,
    /// The event that ends with a half, and the blocks without data behind it.
    held: VecDeque<SseEvent>,
    /// The events that are next.
    ready: VecDeque<SseEvent>,
    interruption: Option<Interruption>,
    is_over: bool,
}

impl<S: EventSource> WholeCharacters<S> {
    pub(crate) fn new(source: S) -> Self {
        Self { source, held: VecDeque::new(), ready: VecDeque::new(), interruption: None, is_over: false }
    }

    /// Returns an event at once, or holds it.
    fn pass(&mut self, event: SseEvent) -> Option<SseEvent> {
        if self.held.is_empty() {
            if !surrogates::has_escape(event.data()) {
                return Some(event);
            }
            if !surrogates::is_divided(event.data()) {
                return Some(mended(event));
            }
            self.held.push_back(event);
            return None;
        }
        if !event.has_data() {
            self.held.push_back(event);
            return None;
        }
        let before = self.held.pop_front()?;
        let (before, event) = match surrogates::joined(before.data(), event.data()) {
            Some((first, second)) => (with_data(&before, &first), with_data(&event, &second)),
            None => (before, event),
        };
        self.ready.push_back(mended(before));
        self.ready.append(&mut self.held);
        let last = self.pass(event);
        self.ready.extend(last);
        self.ready.pop_front()
    }
}

impl<S: EventSource> EventSource for WholeCharacters<S> {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<SseEvent, Interruption>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(interruption) = self.interruption.take() {
                return Poll::Ready(Some(Err(interruption)));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            match ready!(self.source.poll_event(cx)) {
                Some(Ok(event)) => {
                    if let Some(event) = self.pass(event) {
                        return Poll::Ready(Some(Ok(event)));
                    }
                }
                end => {
                    if self.held.is_empty() {
                        return Poll::Ready(end);
                    }
                    // Not every source may be polled behind its end.
                    self.is_over = end.is_none();
                    self.interruption = end.and_then(Result::err);
                    self.ready.extend(self.held.drain(..).map(mended));
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.source.is_drained()
    }

    fn has_begun(&self) -> bool {
        self.source.has_begun()
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll_close(cx)
    }
}

/// Returns an event without halves.
fn mended(event: SseEvent) -> SseEvent {
    match surrogates::mended(event.data()) {
        Cow::Borrowed(_) => event,
        Cow::Owned(data) => with_data(&event, &data),
    }
}

/// Returns an event of the same name with other data.
fn with_data(event: &SseEvent, data: &[u8]) -> SseEvent {
    let name = std::str::from_utf8(event.event()).ok().filter(|name| !name.is_empty());
    SseEvent::of_data(name, data)
}
