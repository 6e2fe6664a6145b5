//! The ids in an answer, on their way to the caller.

use std::{
    collections::{BTreeSet, HashSet},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Collected};
use memchr::{memchr, memmem};
use steadfast::Dialect;

use super::{Names, Ownership, Scope};

/// The ids that an answer in pieces gives.
pub(crate) struct AnswerIds {
    ownership: Ownership,
    scope: Scope,
    tier: String,
    /// True if the provider keeps the answer's response.
    is_lasting: bool,
    given: HashSet<String>,
}

/// The largest number of ids of one answer.
const MAX_IDS: usize = 10_000;

impl AnswerIds {
    pub(crate) fn new(ownership: Ownership, scope: Scope, is_lasting: bool) -> Self {
        Self { ownership, scope, tier: String::new(), is_lasting, given: HashSet::new() }
    }

    /// Notes the tier that answers.
    pub(crate) fn served(&mut self, tier: Option<&str>) {
        tier.unwrap_or_default().clone_into(&mut self.tier);
    }

    /// Gives the ids of a whole answer to its caller.
    pub(crate) async fn give_all(mut self, json: &[u8]) {
        let ids = self.new_ids(json);
        self.ownership.give(ids, self.scope, &self.tier, self.is_lasting).await;
    }

    /// Gives the ids of a whole answer to its caller, and returns the answer. Its body is there already.
    pub(crate) async fn give_whole(self, answer: Response<axum::body::Body>) -> Response<axum::body::Body> {
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        self.give_all(&body).await;
        Response::from_parts(head, body.into())
    }

    /// Gives the ids of events to their caller. Memory has them when this returns; the durable store gets them beside.
    pub(crate) fn give(&mut self, events: &[u8]) {
        if !self.may_have_ids(events) {
            return;
        }
        let mut ids = BTreeSet::new();
        for line in events.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if let Some(data) = line.strip_prefix(b"data:") {
                ids.append(&mut self.new_ids(data));
            }
        }
        if ids.is_empty() {
            return;
        }
        tokio::spawn(self.ownership.give(ids, self.scope, &self.tier, self.is_lasting));
    }

    /// Returns false for events that have none: nearly all are pieces of a text.
    fn may_have_ids(&self, events: &[u8]) -> bool {
        let has = |words: &[&str]| words.iter().any(|word| memmem::find(events, word.as_bytes()).is_some());
        match self.scope {
            Scope::Conversation(Dialect::Anthropic) => has(&["container", "file_id"]),
            Scope::Conversation(Dialect::OpenAi) => has(&["\"audio\"", "file_id"]),
            Scope::Conversation(Dialect::Responses) => has(&["\"response\"", "output_item.", "annotation."]),
            Scope::Conversation(_) => false,
            Scope::Object(_) | Scope::Unknown => has(&["id\""]),
        }
    }

    fn new_ids(&mut self, json: &[u8]) -> BTreeSet<String> {
        let mut ids = match self.scope {
            // Its answers give none.
            Scope::Conversation(Dialect::Gemini) => BTreeSet::new(),
            scope => Names::given(scope, json, false),
        };
        if self.scope == Scope::Conversation(Dialect::Responses) {
            ids.append(&mut Names::items(json));
        }
        ids.retain(|id| self.given.len() < MAX_IDS && self.given.insert(id.clone()));
        ids
    }
}

/// A body whose events give ids. It passes as it comes.
pub(crate) struct NotedBody<B> {
    inner: B,
    ids: AnswerIds,
    /// The beginning of a line that is not complete.
    line: Vec<u8>,
}

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 1 << 20;

impl<B> NotedBody<B> {
    pub(crate) fn new(inner: B, ids: AnswerIds) -> Self {
        Self { inner, ids, line: Vec::new() }
    }

    fn note(&mut self, mut data: &[u8]) {
        while let Some(end) = memchr(b'\n', data) {
            let (rest, next) = data.split_at(end + 1);
            if self.line.is_empty() {
                self.ids.give(rest);
            } else {
                self.line.extend_from_slice(rest);
                self.ids.give(&std::mem::take(&mut self.line));
            }
            data = next;
        }
        if self.line.len() + data.len() <= MAX_LINE {
            self.line.extend_from_slice(data);
        }
    }
}

impl<B> Body for NotedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.note(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
