use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::time::Instant;

use super::lifetime::Lifetime;
use crate::{
    Degradation, DegradedReason, Dialect, Frame, LlmBody, LlmRequest, LlmResponse,
    body::Accumulator,
    chat::{FinishReason, Message, Part},
    response::{CacheOrigin, CacheReason},
};

/// A kept answer, with who gave it and when.
///
/// Its times are of tokio's clock.
pub struct Answer {
    pub(super) message: Message,
    pub(super) form: Form,
    pub(super) facts: Facts,
    size: u64,
}

/// The form in which an answer arrived.
pub(super) enum Form {
    /// A whole message, with the provider's own bytes if there were any.
    Whole(Option<(Dialect, Bytes)>),
    Stream(Arc<[Frame]>),
}

/// The facts about an answer besides its text.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(super) provider: Option<Arc<str>>,
    pub(super) model: Option<Arc<str>>,
    pub(super) notes: Arc<[Cow<'static, str>]>,
    pub(super) degraded: Option<Degradation>,
    pub(super) feature: Option<Arc<str>>,
    /// The request's tenant, by which the answer can be forgotten.
    pub(super) tenant: Option<Arc<str>>,
    pub(super) session: Option<Arc<str>>,
    /// The task that stands for the answer, if people were to give it.
    pub(super) task: Option<Arc<str>>,
    pub(super) made_at: Instant,
    /// The age of the answer at `made_at`. An answer of an earlier process may be older than this machine's clock
    /// can express.
    pub(super) older_by: Duration,
    pub(super) fresh_for: Duration,
    pub(super) stale_for: Duration,
}

impl Facts {
    pub(super) fn of(response: &LlmResponse, requester: Requester, life: Lifetime) -> Self {
        Self::kept_for(response, requester, life.fresh_for, life.stale_for)
    }

    pub(crate) fn kept_for(
        response: &LlmResponse,
        requester: Requester,
        fresh_for: Duration,
        stale_for: Duration,
    ) -> Self {
        let (provider, model) = response.names();
        let (notes, degraded) = (response.notes().into(), response.degraded());
        let Requester { feature, tenant, session } = requester;
        let task = response.task_id().map(Into::into);
        let (made_at, older_by) = (Instant::now(), Duration::ZERO);
        Self {
            provider,
            model,
            notes,
            degraded,
            feature,
            tenant,
            session,
            task,
            made_at,
            older_by,
            fresh_for,
            stale_for,
        }
    }

    /// Adds these facts to a response. It is served by the cache unless a call is shared, so that a provider's
    /// figures do not count an answer that it never gave.
    pub(crate) fn put(&self, mut response: LlmResponse, why: CacheReason, now: Instant) -> LlmResponse {
        static CACHED: LazyLock<Arc<str>> = LazyLock::new(|| "cached".into());
        static REPLAYED: LazyLock<Arc<str>> = LazyLock::new(|| "replayed".into());
        let age = self.age(now);
        response = match (why, &self.provider, &self.model) {
            (CacheReason::Shared, Some(provider), Some(model)) => response.with_model(provider.clone(), model.clone()),
            (CacheReason::Shared, _, _) => response,
            (CacheReason::Replayed, _, model) => {
                response.with_model(REPLAYED.clone(), model.as_ref().unwrap_or(&REPLAYED).clone())
            }
            (_, _, model) => response.with_model(CACHED.clone(), model.as_ref().unwrap_or(&CACHED).clone()),
        };
        for note in self.notes.iter() {
            response = response.with_note(note.clone());
        }
        if let Some(degraded) = self.degraded {
            response = response.with_degraded(degraded);
        }
        if let Some(task) = &self.task {
            response = response.with_task_id(&**task);
        }
        response.with_cached(CacheOrigin::new(why, age))
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made_at).saturating_add(self.older_by)
    }

    /// Returns whether the answer is good enough for a request that accepts nothing worse than this level.
    pub(super) fn is_within(&self, worst_level: u8) -> bool {
        self.degraded.is_none_or(|degraded| degraded.level <= worst_level)
    }

    fn size(&self) -> usize {
        let names = [&self.provider, &self.model, &self.feature, &self.tenant, &self.session, &self.task];
        let names: usize = names.into_iter().flatten().map(|name| name.len()).sum();
        names + self.notes.iter().map(|note| note.len() + size_of_val(note)).sum::<usize>()
    }
}

/// The requester of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requester {
    pub(super) feature: Option<Arc<str>>,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) session: Option<Arc<str>>,
}

impl Requester {
    pub(crate) fn of(request: &LlmRequest) -> Self {
        let (feature, session) = (request.shared_feature(), request.shared_session());
        Self { feature, tenant: request.tenant().cloned(), session }
    }
}

/// The owner whose answers are forgotten: a tenant, a session, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnswerOwner {
    /// The tenant, or the budget key that paid. `None` matches any.
    pub tenant: Option<Arc<str>>,
    /// The session. `None` matches any session, and none. Callers name their sessions themselves.
    pub session: Option<Arc<str>>,
}

impl AnswerOwner {
    /// Matches all answers of a tenant, or of the budget key that paid.
    pub fn tenant(name: impl Into<Arc<str>>) -> Self {
        Self { tenant: Some(name.into()), session: None }
    }

    /// Matches all answers of a session.
    pub fn session(name: impl Into<Arc<str>>) -> Self {
        Self { tenant: None, session: Some(name.into()) }
    }

    /// Restricts the match to this tenant.
    #[must_use]
    pub fn of_tenant(mut self, name: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(name.into());
        self
    }
}

/// The level of service of a cached answer that is not fresh.
pub(crate) const CACHED_LEVEL: u8 = 4;

impl Answer {
    /// Creates an answer from a complete message.
    pub(crate) fn whole(message: Message, wire: Option<(Dialect, &Bytes)>, facts: Facts) -> Self {
        // Copy: the bytes may be a slice of something larger, which they would keep in memory.
        let wire = wire.map(|(dialect, raw)| (dialect, Bytes::copy_from_slice(raw)));
        let bytes = wire.as_ref().map_or(0, |(_, raw)| raw.len());
        Self::new(message, Form::Whole(wire), bytes, facts)
    }

    /// Creates an answer from a program's own text, to be kept among the answers.
    #[cfg(feature = "idempotency")]
    pub fn of_text(text: String, kept_for: Duration) -> Self {
        let life = Lifetime { fresh_for: kept_for, stale_for: Duration::ZERO };
        Self::whole(Message::assistant(text), None, Facts::of(&LlmResponse::from_text(""), Requester::default(), life))
    }

    /// Creates an answer from the frames of a whole stream.
    pub(super) fn stream(frames: Arc<[Frame]>, facts: Facts) -> Self {
        let mut whole = Accumulator::default();
        frames.iter().flat_map(Frame::events).for_each(|event| whole.push(event));
        let bytes = frames.iter().map(Frame::size).sum();
        Self::new(whole.finish(), Form::Stream(frames), bytes, facts)
    }

    fn new(message: Message, form: Form, bytes: usize, facts: Facts) -> Self {
        let said = message.content.iter().map(Part::size).sum::<usize>() + size_of_val(&*message.content);
        let size = (said + bytes + facts.size() + size_of::<Self>()) as u64;
        Self { message, form, facts, size }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(message: Message) -> Self {
        let life = Lifetime { fresh_for: Duration::MAX, stale_for: Duration::ZERO };
        let response = LlmResponse::from_message(message.clone());
        Self::whole(message, None, Facts::of(&response, Requester::default(), life))
    }

    /// Returns the feature that asked.
    pub fn feature(&self) -> Option<&str> {
        self.facts.feature.as_deref()
    }

    /// Returns whether the answer was made for a request of this owner. An owner with neither field set owns no
    /// answer.
    pub fn is_of(&self, owner: &AnswerOwner) -> bool {
        let is = |asked: &Option<Arc<str>>, has: &Option<Arc<str>>| asked.is_none() || asked == has;
        let AnswerOwner { tenant, session } = owner;
        (tenant.is_some() || session.is_some()) && is(tenant, &self.facts.tenant) && is(session, &self.facts.session)
    }

    /// Returns the provider and the model that answered.
    pub fn names(&self) -> (Option<&str>, Option<&str>) {
        (self.facts.provider.as_deref(), self.facts.model.as_deref())
    }

    /// Returns the approximate size in memory, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the answer's age.
    pub fn age(&self, now: Instant) -> Duration {
        self.facts.age(now)
    }

    /// Returns whether the answer is given to any request that asks the same.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.facts.fresh_for
    }

    /// Returns whether the answer is given when no better one exists.
    pub fn is_usable(&self, now: Instant) -> bool {
        self.age(now) < self.facts.fresh_for.saturating_add(self.facts.stale_for)
    }

    /// Returns how long the answer is of use, from when it was made.
    pub fn usable_for(&self) -> Duration {
        self.facts.fresh_for.saturating_add(self.facts.stale_for)
    }

    /// Returns whether the answer is good enough for a request that accepts nothing worse than this level.
    pub(super) fn is_within(&self, worst_level: u8) -> bool {
        self.facts.is_within(worst_level)
    }

    #[cfg(feature = "idempotency")]
    pub(crate) fn is_degraded(&self) -> bool {
        self.facts.degraded.is_some()
    }

    /// Returns the answer as a response to another request.
    pub fn response(&self, as_stream: bool, why: CacheReason, now: Instant) -> LlmResponse {
        let message = || self.message.clone();
        let body = match &self.form {
            Form::Whole(Some((dialect, raw))) if !as_stream => LlmBody::from_wire(*dialect, raw.clone(), message()),
            Form::Stream(frames) if as_stream => replayed(frames.clone()),
            Form::Whole(_) | Form::Stream(_) => LlmBody::from_message(message()),
        };
        self.facts.put(LlmResponse::new(body), why, now)
    }

    /// Returns the answer as a last resort, marked as degraded.
    pub(crate) fn last_resort(&self, as_stream: bool, why: CacheReason, now: Instant) -> LlmResponse {
        let age = self.age(now).as_secs();
        let note = match why {
            CacheReason::Similar { .. } => None,
            _ => Some(format!("cache: a kept answer, {age} s old (level {CACHED_LEVEL}, cached only)")),
        };
        let response =
            self.response(as_stream, why, now).with_degraded(Degradation::new(CACHED_LEVEL, DegradedReason::Order));
        match note {
            Some(note) => response.with_note(note),
            None => response,
        }
    }

    /// Returns whether the answer is complete, and so worth keeping.
    pub(super) fn is_worth_keeping(&self) -> bool {
        self.facts.degraded.is_none() && is_good(&self.message)
    }
}

/// Returns whether the message is neither cut, declined nor empty.
fn is_good(message: &Message) -> bool {
    let ended = matches!(message.finish, None | Some(FinishReason::Stop | FinishReason::ToolUse));
    ended && !message.is_empty() && !message.content.iter().any(|part| matches!(part, Part::Refusal(_)))
}

/// Returns a body that replays the frames as they came.
fn replayed(frames: Arc<[Frame]>) -> LlmBody {
    let mut next = 0;
    LlmBody::from_frames(stream::poll_fn(move |_| {
        let frame = frames.get(next).cloned();
        next += 1;
        std::task::Poll::Ready(frame.map(Ok))
    }))
}

/// Copies the frames' bytes into one piece. Each was a slice of a connection's buffer, all of which would be kept
/// with it.
pub(super) fn compacted(frames: impl IntoIterator<Item = Frame>) -> Arc<[Frame]> {
    let frames: Vec<Frame> = frames.into_iter().collect();
    let mut bytes = BytesMut::with_capacity(frames.iter().filter_map(Frame::raw).map(|(_, raw)| raw.len()).sum());
    frames.iter().filter_map(Frame::raw).for_each(|(_, raw)| bytes.extend_from_slice(raw));
    let mut bytes = bytes.freeze();
    let own = frames.into_iter().map(|frame| match frame.raw().map(|(dialect, raw)| (dialect, raw.len())) {
        Some((dialect, length)) => frame.with_raw(dialect, bytes.split_to(length)),
        None => frame,
    });
    own.collect()
}

impl fmt::Debug for Answer {
    /// Omits the text of the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("feature", &self.facts.feature)
            .field("model", &self.facts.model)
            .field("stream", &matches!(self.form, Form::Stream(_)))
            .field("bytes", &self.size)
            .finish_non_exhaustive()
    }
}
