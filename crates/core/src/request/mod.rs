//! A caller's request, and the context that layers add on the way down.

mod begun;
mod estimate;
mod known_failures;
mod owner;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Extensions, StatusCode};
use tokio::time::Instant;

#[doc(hidden)]
pub use self::begun::GoOn;
#[doc(hidden)]
pub use self::estimate::{LONGEST_ANSWER, longest_answer, unseen_answer};
#[doc(hidden)]
pub use self::owner::UNNAMED;
pub use self::{
    known_failures::KnownFailures,
    owner::{BudgetKey, Team, Tenant},
};
use crate::{
    CommitPoint, LlmError,
    chat::{Chat, Message, Thinking},
    error::OmittedParameter,
};
#[doc(no_inline)]
pub use crate::{
    dialect::Dialect,
    wire::{OpaqueCall, Wire, WireLimits},
};

/// A request to a language model.
///
/// Cloning is cheap: the caller's part is behind one `Arc`, the layers' part is a small `Copy` [`Context`]. A clone
/// allocates nothing and is a request of its own: a change to one does not show in the other.
///
/// `with_x` sets `x` and returns the request; `x` (`is_x` for a flag) reads it. [`explain`](Self::explain) and
/// [`no_fallback`](Self::no_fallback) take no value.
///
/// ```
/// use steadfast::LlmRequest;
///
/// let request = LlmRequest::prompt("Explain closures.").with_feature("chat").with_session("user-17");
/// assert_eq!(request.feature(), Some("chat"));
/// ```
#[derive(Clone)]
pub struct LlmRequest {
    caller: Arc<CallerPart>,
    context: Context,
}

/// The caller's part. Layers do not change it.
#[derive(Clone)]
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct CallerPart {
    content: Content,
    pub feature: Option<Arc<str>>,
    session: Option<Arc<str>>,
    /// See [`LlmRequest::caller_number`].
    number: u64,
    idempotency_key: Option<Arc<str>>,
    pub id: Option<Arc<str>>,
    /// The function from a failure to the caller's HTTP status.
    pub status_of: Option<fn(&LlmError) -> StatusCode>,
    explain: bool,
    first_tier_only: bool,
    requires_human: bool,
    waits_for_rate_limits: bool,
    compaction: bool,
    opaque: bool,
    /// See [`LlmRequest::awaits_whole_answer`].
    awaits_whole: bool,
    shadow: bool,
    left_out: Vec<OmittedParameter>,
    known_failures: Option<Arc<KnownFailures>>,
    extensions: Extensions,
}

#[derive(Clone)]
enum Content {
    Chat(Chat),
    Wire(Wire),
    Opaque(OpaqueCall),
}

impl CallerPart {
    fn set_content(&mut self, content: Content) {
        self.awaits_whole = content.awaits_whole();
        self.content = content;
    }

    /// Returns the name of the caller's key.
    pub fn key(&self) -> Option<&Arc<str>> {
        self.extensions.get::<BudgetKey>().map(|key| &key.0)
    }

    /// Returns the name of the team that pays.
    pub fn team(&self) -> Option<&Arc<str>> {
        self.extensions.get::<Team>().map(|team| &team.0)
    }

    /// Returns the caller's session.
    pub fn session(&self) -> Option<&Arc<str>> {
        self.session.as_ref()
    }
}

impl Content {
    fn awaits_whole(&self) -> bool {
        match self {
            Self::Chat(chat) => !chat.stream,
            Self::Wire(wire) => !wire.is_stream(),
            Self::Opaque(_) => false,
        }
    }
}

impl LlmRequest {
    /// Creates a request with one user's turn.
    pub fn prompt(text: impl Into<String>) -> Self {
        Self::from(Chat::new([Message::user(text)]))
    }

    fn new(content: Content) -> Self {
        let compaction = matches!(&content, Content::Wire(wire) if wire.is_compaction());
        let opaque = matches!(&content, Content::Opaque(_));
        Self {
            caller: Arc::new(CallerPart {
                awaits_whole: content.awaits_whole(),
                content,
                feature: None,
                session: None,
                number: UNNAMED,
                idempotency_key: None,
                id: None,
                status_of: None,
                explain: false,
                first_tier_only: false,
                requires_human: false,
                waits_for_rate_limits: false,
                compaction,
                opaque,
                shadow: false,
                left_out: Vec::new(),
                known_failures: None,
                extensions: Extensions::new(),
            }),
            context: Context::default(),
        }
    }

    /// Sets the product's feature, such as `chat` or `summary`, by which places, chains, budgets and metrics are kept.
    /// Default: none, which shares the places of all requests without one.
    #[must_use]
    pub fn with_feature(mut self, feature: impl Into<Arc<str>>) -> Self {
        self.caller_mut().feature = Some(feature.into());
        self
    }

    /// Sets the session of the request, for fallbacks that do not switch models within one
    /// (`SessionPolicy`). Default: none.
    #[must_use]
    pub fn with_session(mut self, session: impl Into<Arc<str>>) -> Self {
        self.caller_mut().session = Some(session.into());
        self.numbered()
    }

    /// Sets the key that identifies repeats of this request: an `IdempotencyLayer` (feature `idempotency`) makes one
    /// call for it. Default: none.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.caller_mut().idempotency_key = Some(key.into());
        self
    }

    /// Sets a name for the request, such as its id in the caller's log. The [request's
    /// end](crate::events::RequestEnded) reports it; no decision depends on it. Default: none.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.caller_mut().id = Some(id.into());
        self
    }

    /// Sets the function from a failure to the HTTP status that a server sends its caller. The [request's
    /// end](crate::events::RequestEnded) reports the status. Default: none.
    #[must_use]
    pub fn with_status_of(mut self, status_of: fn(&LlmError) -> StatusCode) -> Self {
        self.caller_mut().status_of = Some(status_of);
        self
    }

    /// Asks for the whole decision record on the response too, including the attempt that answered.
    #[must_use]
    pub fn explain(mut self) -> Self {
        self.caller_mut().explain = true;
        self
    }

    /// Limits the request to the first tier that may serve it: that tier answers or the request fails, also within a
    /// stream.
    #[must_use]
    pub fn no_fallback(mut self) -> Self {
        self.caller_mut().first_tier_only = true;
        self
    }

    /// Hands the request to a person, even if models work. A `Fallback` sends it to its tiers of
    /// people only; without one the request fails.
    #[must_use]
    pub fn with_human_required(mut self, required: bool) -> Self {
        self.caller_mut().requires_human = required;
        self
    }

    /// Waits for rate limits, as far as the request's deadline allows, for a caller that never repeats a request by
    /// itself. A `Fallback` whose first tier was rate limited, and whose other tiers failed too,
    /// starts over once a tier may work again. A request without a deadline does not wait.
    #[must_use]
    pub fn wait_for_rate_limits(mut self) -> Self {
        self.caller_mut().waits_for_rate_limits = true;
        self
    }

    /// Sets the tiers where the caller's requests have failed a moment ago, such as the one that broke this very
    /// request's stream: a `Fallback` begins at another model. Default: none.
    #[must_use]
    pub fn with_known_failures(mut self, known: KnownFailures) -> Self {
        self.caller_mut().known_failures = (!known.is_empty()).then(|| Arc::new(known));
        self
    }

    /// Asks for the answer as a stream. Default: the request's own setting, which for a [`prompt`](Self::prompt) is no.
    /// In a request in wire form only that field changes, in its place. An [opaque call](OpaqueCall) does not change.
    #[must_use]
    pub fn with_stream(mut self, stream: bool) -> Self {
        let caller = self.caller_mut();
        match &mut caller.content {
            Content::Chat(chat) => chat.stream = stream,
            Content::Wire(wire) => wire.set_stream(stream),
            Content::Opaque(_) => {}
        }
        caller.awaits_whole = caller.content.awaits_whole();
        self
    }

    /// Sets the longest answer, in tokens. Default: the provider's; Anthropic requires a number, and gets 4,096. In a
    /// request in wire form only that field changes, in its place. An [opaque call](OpaqueCall) does not change.
    #[must_use]
    pub fn with_max_tokens(mut self, tokens: u32) -> Self {
        match &mut self.caller_mut().content {
            Content::Chat(chat) => chat.max_tokens = Some(tokens),
            Content::Wire(wire) => wire.set_max_tokens(tokens),
            Content::Opaque(_) => {}
        }
        self
    }

    /// Adds a value for your own layers and leaves, which read it with [`extensions`](Self::extensions). A second value
    /// of a type replaces the first.
    #[must_use]
    pub fn with_extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.caller_mut().extensions.insert(value);
        if Tenant::is_named_by::<T>() { self.numbered() } else { self }
    }

    /// Returns the request with the number of the caller that it now names.
    fn numbered(mut self) -> Self {
        self.caller_mut().number = owner::number(self.tenant().map(|tenant| &**tenant).or_else(|| self.session()));
        self
    }

    /// Replaces the content with these bytes. Everything else stays: the headers, the settings of layers, the context.
    /// For a layer that gives one provider another form of the same request. Does nothing to a request that is not in
    /// wire form.
    ///
    /// # Errors
    ///
    /// Those of [`Wire::new`].
    pub fn with_wire_body(mut self, body: impl Into<Bytes>) -> Result<Self, LlmError> {
        if let Content::Wire(wire) = &self.caller.content {
            let changed = wire.with_body(body)?;
            self.caller_mut().set_content(Content::Wire(changed));
        }
        Ok(self)
    }

    /// Bounds the request: no attempt begins after `timeout` from now, and none waits past it. The nearest bound wins.
    ///
    /// The outermost of `Timeout`, `Bulkhead`, `Fallback`,
    /// `Hedge`, `RetryWithJitter` and
    /// `CircuitBreaker` ends the request then. A stack with none of them does not.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        let before = self.context.deadline;
        self.context.limit_deadline(Instant::now().checked_add(timeout));
        if self.context.deadline != before {
            self.context.prospects.note_callers_deadline();
        }
        self
    }

    /// Limits the attempts of the request in all, below the layers' own limits. Default: 9, three for each of three
    /// tiers. Refusals on this side cost none, and the first attempt is always made.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u16) -> Self {
        self.context.attempts_left = attempts;
        self
    }

    /// Sets the worst level of service for the answer, from 1 (full) to 5 (a fixed sentence). Default: 5, any. See
    /// `Tier::level`.
    #[must_use]
    pub fn with_worst_level(mut self, level: u8) -> Self {
        self.context.worst_level = level.clamp(BEST_LEVEL, WORST_LEVEL);
        self
    }

    /// Sets the commit point of the request's stream, in place of the leaves' and layers' own. Default: theirs.
    #[must_use]
    pub fn with_commit(mut self, point: CommitPoint) -> Self {
        self.context.commit = Some(point);
        self
    }

    /// Returns the conversation, decoded from the caller's bytes if need be (at most once for all clones).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) if the bytes are not a request of their dialect;
    /// [`ErrorKind::UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature) for a [compaction](Wire::compaction)
    /// and for an [opaque call](OpaqueCall).
    pub fn chat(&self) -> Result<&Chat, LlmError> {
        match &self.caller.content {
            Content::Chat(chat) => Ok(chat),
            Content::Wire(wire) => wire.chat(),
            Content::Opaque(call) => Err(call.no_chat()),
        }
    }

    /// Decodes a large request ahead, off the threads that serve requests, so that [`chat`](Self::chat) costs them
    /// nothing later. Does nothing for a request under 256 KiB, or one that is not in wire form.
    ///
    /// Dropping the future stops the work. Outside of a tokio runtime it is done at once.
    ///
    /// # Errors
    ///
    /// Those of [`chat`](Self::chat), and [`ErrorKind::Deadline`](crate::ErrorKind::Deadline) if the request's time is
    /// over first.
    pub async fn decode_ahead(&self) -> Result<(), LlmError> {
        match self.wire() {
            Some(wire) if wire.is_large() && !wire.is_decoded() => {}
            _ => return Ok(()),
        }
        let request = self.clone();
        let decode = move |stop| request.wire().map_or(Ok(()), |wire| wire.chat_until(&stop).map(drop));
        crate::wire::offload(self.context.deadline, decode).await
    }

    /// The caller's own bytes, if the request came in wire form.
    pub fn wire(&self) -> Option<&Wire> {
        match &self.caller.content {
            Content::Chat(_) | Content::Opaque(_) => None,
            Content::Wire(wire) => Some(wire),
        }
    }

    /// The call that is no conversation, if the request is one.
    #[inline]
    pub fn opaque(&self) -> Option<&OpaqueCall> {
        match &self.caller.content {
            Content::Opaque(call) => Some(call),
            Content::Chat(_) | Content::Wire(_) => None,
        }
    }

    /// Returns true for a body that comes in pieces, at the pace of its sender.
    #[inline]
    #[doc(hidden)]
    pub fn is_upload(&self) -> bool {
        self.opaque().is_some_and(OpaqueCall::is_upload)
    }

    /// Returns true for a request to [compact](Wire::compaction) a conversation.
    #[inline]
    pub fn is_compaction(&self) -> bool {
        self.caller.compaction
    }

    /// The model that the caller names. A leaf with a model of its own sends that one.
    #[inline]
    pub fn model(&self) -> Option<&str> {
        match &self.caller.content {
            Content::Chat(chat) => chat.model.as_deref(),
            Content::Wire(wire) => wire.model(),
            Content::Opaque(call) => call.model(),
        }
    }

    /// Returns true if the caller asks for a stream.
    pub fn is_stream(&self) -> bool {
        match &self.caller.content {
            Content::Chat(chat) => chat.stream,
            Content::Wire(wire) => wire.is_stream(),
            Content::Opaque(call) => call.is_stream(),
        }
    }

    /// Returns true if the caller waits for the whole answer, and sees nothing of one that comes as a stream. Sound,
    /// say, is heard as it comes.
    #[inline]
    #[doc(hidden)]
    pub fn awaits_whole_answer(&self) -> bool {
        self.caller.awaits_whole
    }

    /// Returns true if the request names stop texts, so that an answer may end before it begins.
    pub(crate) fn names_stops(&self) -> bool {
        match &self.caller.content {
            Content::Chat(chat) => !chat.stop.is_empty(),
            Content::Wire(wire) => wire.names_stops(),
            Content::Opaque(_) => false,
        }
    }

    /// The request's [id](Self::with_id), if it has one.
    pub fn id(&self) -> Option<&str> {
        self.caller.id.as_deref()
    }

    /// The same, shared.
    #[doc(hidden)]
    pub fn shared_id(&self) -> Option<Arc<str>> {
        self.caller.id.clone()
    }

    /// The caller's part by itself, for a report.
    #[inline]
    #[doc(hidden)]
    pub fn caller_part(&self) -> Arc<CallerPart> {
        self.caller.clone()
    }

    /// Returns true if the request plainly asks the model to reason before it answers: such answers begin late.
    #[doc(hidden)]
    pub fn asks_to_reason(&self) -> bool {
        match &self.caller.content {
            Content::Chat(chat) => chat.thinking.is_some_and(|thinking| thinking != Thinking::Off),
            Content::Wire(wire) => wire.asks_to_reason(),
            Content::Opaque(_) => false,
        }
    }

    /// The product's feature.
    #[inline]
    pub fn feature(&self) -> Option<&str> {
        self.caller.feature.as_deref()
    }

    /// The same, shared.
    #[inline]
    #[doc(hidden)]
    pub fn shared_feature(&self) -> Option<Arc<str>> {
        self.caller.feature.clone()
    }

    /// The owner of the request: its tenant for the cache, or else that of the key that pays for it.
    pub fn tenant(&self) -> Option<&Arc<str>> {
        Tenant::of(self)
    }

    /// Returns a number for the caller: its tenant or the key that pays for it, else its session. Returns 0 if the
    /// request names neither.
    #[inline]
    #[doc(hidden)]
    pub fn caller_number(&self) -> u64 {
        self.caller.number
    }

    /// The session of the request.
    pub fn session(&self) -> Option<&str> {
        self.caller.session.as_deref()
    }

    /// The key that identifies repeats of this request.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.caller.idempotency_key.as_deref()
    }

    /// Returns true if the caller asks for the whole decision record.
    #[inline]
    pub fn is_explained(&self) -> bool {
        self.caller.explain
    }

    /// Returns true if only the first tier may serve the request.
    pub fn is_first_tier_only(&self) -> bool {
        self.caller.first_tier_only
    }

    /// Returns true if only a person may answer the request.
    pub fn is_human_required(&self) -> bool {
        self.caller.requires_human
    }

    /// Returns true if the request waits for rate limits.
    pub fn waits_for_rate_limits(&self) -> bool {
        self.caller.waits_for_rate_limits
    }

    /// Returns true for a copy that a `Mirror` sends to its candidate. No caller waits for its answer,
    /// so a layer that acts on answers must not act on this one.
    pub fn is_shadow(&self) -> bool {
        self.caller.shadow
    }

    /// The tiers where the caller's requests have failed a moment ago.
    #[inline]
    #[doc(hidden)]
    pub fn known_failures(&self) -> Option<&KnownFailures> {
        self.caller.known_failures.as_deref()
    }

    /// Returns true if the request may go to any tier.
    #[inline]
    #[doc(hidden)]
    pub fn goes_anywhere(&self) -> bool {
        !(self.caller.first_tier_only | self.caller.requires_human | self.caller.compaction | self.caller.opaque)
    }

    /// The values that the caller added.
    pub fn extensions(&self) -> &Extensions {
        &self.caller.extensions
    }

    /// The context that the layers have added so far.
    #[inline]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The layers' context, mutably.
    #[inline]
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Returns the same request in another context.
    pub fn with_context(&self, context: Context) -> Self {
        Self { caller: self.caller.clone(), context }
    }

    /// Returns a copy for a candidate, in another context and without the idempotency key: the call under the key
    /// belongs to the request itself.
    #[doc(hidden)]
    pub fn shadow(&self, context: Context) -> Self {
        let mut caller = CallerPart::clone(&self.caller);
        (caller.shadow, caller.idempotency_key) = (true, None);
        Self { caller: Arc::new(caller), context }
    }

    /// Returns the same request without parameters that its model refused.
    #[doc(hidden)]
    pub fn without_parameters(&self, parameters: &[OmittedParameter]) -> Self {
        let mut request = self.clone();
        request.caller_mut().left_out.extend_from_slice(parameters);
        request
    }

    /// The parameters that its model has refused so far.
    #[doc(hidden)]
    pub fn omitted_parameters(&self) -> &[OmittedParameter] {
        &self.caller.left_out
    }

    /// The session, shared.
    #[doc(hidden)]
    pub fn shared_session(&self) -> Option<Arc<str>> {
        self.caller.session.clone()
    }

    /// Returns the same request with another conversation, asked again for the `time`th time. Layers that identify
    /// requests by key must not take it for the first one, so its key differs.
    #[doc(hidden)]
    pub fn asked_again(&self, chat: Chat, time: u16, context: Context) -> Self {
        let mut caller = CallerPart::clone(&self.caller);
        caller.set_content(Content::Chat(chat));
        caller.idempotency_key = caller.idempotency_key.map(|key| format!("{key}-again-{time}").into());
        Self { caller: Arc::new(caller), context }
    }

    /// The caller's part, mutably; copied first if another clone shares it.
    fn caller_mut(&mut self) -> &mut CallerPart {
        Arc::make_mut(&mut self.caller)
    }
}

impl From<Chat> for LlmRequest {
    fn from(chat: Chat) -> Self {
        Self::new(Content::Chat(chat))
    }
}

impl From<Wire> for LlmRequest {
    fn from(wire: Wire) -> Self {
        Self::new(Content::Wire(wire))
    }
}

impl From<OpaqueCall> for LlmRequest {
    /// Creates a request of this call. One whose body comes in pieces has one attempt: its body is sent once.
    fn from(call: OpaqueCall) -> Self {
        let is_upload = call.is_upload();
        let request = Self::new(Content::Opaque(call));
        if is_upload { request.with_max_attempts(1) } else { request }
    }
}

impl fmt::Debug for LlmRequest {
    /// Writes nothing of the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmRequest")
            .field("model", &self.model())
            .field("feature", &self.caller.feature)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// The layers' part of a request. Small and `Copy`.
// In this order, the fields that layers leave unchanged lie together and end with a word. The compiler copies them in
// pieces that do not overlap: a load across two stores waits for both.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[repr(C)]
pub struct Context {
    /// The deadline for the request's answer (a stream: its first token). No attempt begins after it. Bring it nearer
    /// with [`limit_deadline`](Self::limit_deadline): then a layer further in ends the request at it.
    pub deadline: Option<Instant>,
    /// The moment at which the request entered the outermost layer that reads the clock, or was last sent on after a
    /// wait. It saves the other layers a reading.
    #[doc(hidden)]
    pub begun: Option<Instant>,
    /// The identity of the retry budget that has counted this request. Each budget counts a request once on its way
    /// down, however many layers share it; at another tier it counts again.
    #[doc(hidden)]
    pub counted_in: u32,
    /// The number of tiers left to a `Fallback` further out if this one fails.
    pub tiers_left: u8,
    /// True if this is the last resort: a circuit breaker lets it through in any state.
    pub last_resort: bool,
    /// The best level of service at which a `Fallback` begins: tiers of a better one are left out. 1 (the default)
    /// leaves out none. A used-up budget steps requests down with it.
    pub min_level: u8,
    /// The worst level of service that the caller accepts: tiers of a worse one are left out. 5 (the default) leaves
    /// out none.
    pub worst_level: u8,
    /// The actions that layers further out take for the request, or can still take.
    #[doc(hidden)]
    pub prospects: Prospects,
    /// The number of attempts left, this one included.
    pub attempts_left: u16,
    /// The number of attempts made before this one.
    pub attempts_made: u16,
    /// The commit point of the stream; `None`: the leaves' and layers' own. A
    /// `CommitOnFirstToken` that holds more back leaves the leaf at the first token.
    pub commit: Option<CommitPoint>,
}

/// The actions that layers further out take for a request, or can still take. They are one field: a field that layers
/// change by itself is copied by itself wherever a context moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct Prospects(u16);

impl Prospects {
    /// A `Fallback` could still turn to a tier with a model: no layer need wait long here.
    const CAN_GO_ON: u16 = 1;
    /// A layer acts on a model's refusal: a refusal without a word becomes an error.
    const ACTS_ON_REFUSALS: u16 = 2;
    /// None ends the request at its deadline: the next layer that waits does.
    const LEAVES_DEADLINE: u16 = 4;
    /// One has turned to another tier or chain than the primary.
    const LEFT_PRIMARY: u16 = 8;

    /// A `Fallback` has nowhere else to go: an open circuit lets single calls through.
    const NOTHING_LEFT: u16 = 16;
    /// The deadline, or that of which it is a share, is the caller's, and no limit of the stack's is nearer.
    const CALLERS_DEADLINE: u16 = 32;
    /// The request has its own policy for a broken stream, among its extensions.
    const OWN_STREAM_BREAK: u16 = 64;
    /// One asks anew where a stream breaks in the middle.
    const ACTS_ON_BREAKS: u16 = 128;

    /// Returns true if a layer asks anew where a stream breaks in the middle.
    #[inline]
    pub fn acts_on_breaks(self) -> bool {
        self.0 & Self::ACTS_ON_BREAKS != 0
    }

    /// Notes that a layer asks anew where a stream breaks.
    #[inline]
    pub fn note_acts_on_breaks(&mut self) {
        self.0 |= Self::ACTS_ON_BREAKS;
    }

    /// Returns true if the deadline is the caller's.
    #[inline]
    pub fn is_callers_deadline(self) -> bool {
        self.0 & Self::CALLERS_DEADLINE != 0
    }

    /// Notes that the caller set the deadline.
    #[inline]
    pub fn note_callers_deadline(&mut self) {
        self.0 |= Self::CALLERS_DEADLINE;
    }

    /// Returns true if the request has its own policy for a broken stream.
    #[inline]
    pub fn has_stream_break(self) -> bool {
        self.0 & Self::OWN_STREAM_BREAK != 0
    }

    /// Notes that the request has its own policy for a broken stream.
    #[inline]
    pub fn note_stream_break(&mut self) {
        self.0 |= Self::OWN_STREAM_BREAK;
    }

    /// Returns true if no other model is left.
    #[inline]
    pub fn is_nothing_left(self) -> bool {
        self.0 & (Self::NOTHING_LEFT | Self::CAN_GO_ON) == Self::NOTHING_LEFT
    }

    /// Notes that a fallback has nowhere else to go, if so.
    #[inline]
    pub fn note_nothing_left(&mut self, is: bool) {
        self.0 |= u16::from(is) * Self::NOTHING_LEFT;
    }

    /// Returns true if a fallback can go on to another model.
    #[inline]
    pub fn can_go_on(self) -> bool {
        self.0 & Self::CAN_GO_ON != 0
    }

    /// Notes that a fallback can go on, if it can.
    #[inline]
    pub fn note_can_go_on(&mut self, can: bool) {
        self.0 |= u16::from(can) * Self::CAN_GO_ON;
    }

    /// Returns true if a layer acts on a model's refusal.
    #[inline]
    pub fn acts_on_refusals(self) -> bool {
        self.0 & Self::ACTS_ON_REFUSALS != 0
    }

    /// Notes that a layer acts on refusals, if it does.
    #[inline]
    pub fn note_acts_on_refusals(&mut self, acts: bool) {
        self.0 |= u16::from(acts) * Self::ACTS_ON_REFUSALS;
    }

    /// Returns true if the request has left its first model.
    #[inline]
    pub fn has_left_primary(self) -> bool {
        self.0 & Self::LEFT_PRIMARY != 0
    }

    /// Notes that the request goes to another tier or chain.
    #[inline]
    pub fn note_left_primary(&mut self) {
        self.0 |= Self::LEFT_PRIMARY;
    }

    /// Returns true if the next layer that waits keeps the deadline.
    #[inline]
    pub fn leaves_deadline(self) -> bool {
        self.0 & Self::LEAVES_DEADLINE != 0
    }

    /// Notes that a layer keeps the deadline: the one that it was given, or a nearer one of its own. Returns true if
    /// the deadline is the caller's.
    #[inline]
    pub fn keep_deadline(&mut self, is_given: bool) -> bool {
        let gone = Self::LEAVES_DEADLINE | (u16::from(!is_given) * Self::CALLERS_DEADLINE);
        self.0 &= !gone;
        self.is_callers_deadline()
    }

    /// Notes whether the deadline is left to the next layer.
    #[inline]
    pub fn note_leaves_deadline(&mut self, leaves: bool) {
        let flag = u16::from(leaves) * Self::LEAVES_DEADLINE;
        self.0 = (self.0 & !Self::LEAVES_DEADLINE) | flag;
    }
}

/// The level of full service.
#[doc(hidden)]
pub const BEST_LEVEL: u8 = 1;
/// The level of a fixed sentence.
pub const WORST_LEVEL: u8 = 5;

/// The default of [`LlmRequest::with_max_attempts`].
const DEFAULT_ATTEMPTS: u16 = 9;

impl Default for Context {
    fn default() -> Self {
        Self {
            deadline: None,
            attempts_left: DEFAULT_ATTEMPTS,
            attempts_made: 0,
            tiers_left: 0,
            last_resort: false,
            min_level: BEST_LEVEL,
            worst_level: WORST_LEVEL,
            commit: None,
            counted_in: 0,
            prospects: Prospects::default(),
            begun: None,
        }
    }
}

impl Context {
    /// Moves the deadline nearer. A later one changes nothing.
    #[inline]
    pub fn limit_deadline(&mut self, deadline: Option<Instant>) {
        let Some(nearer) = deadline.filter(|nearer| self.deadline.is_none_or(|known| *nearer < known)) else { return };
        self.deadline = Some(nearer);
        self.prospects.note_leaves_deadline(true);
    }

    /// Steps the request down to tiers of this level or a worse one, unless it is further down already.
    pub fn step_down(&mut self, level: u8) {
        self.min_level = self.min_level.max(level.clamp(BEST_LEVEL, WORST_LEVEL));
    }

    /// Returns true if a layer has turned to another tier or chain than the primary.
    #[inline]
    #[doc(hidden)]
    pub fn has_left_primary(&self) -> bool {
        self.prospects.has_left_primary()
    }

    /// Returns the time left before the deadline; `None` without one.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloning_allocates_nothing() {
        let request = LlmRequest::prompt("hello").with_feature("chat").with_session("s").with_idempotency_key("k");
        let measured = allocation_counter::measure(|| {
            std::hint::black_box(request.clone());
        });
        assert_eq!(measured.count_total, 0);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_context_is_small_for_every_layer_copies_it() {
        assert_eq!(size_of::<Context>(), 48);
    }

    #[test]
    fn a_request_only_steps_down() {
        let mut context = Context::default();
        for (to, is) in [(0, 1), (3, 3), (2, 3), (9, 5)] {
            context.step_down(to);
            assert_eq!(context.min_level, is);
        }
    }

    #[test]
    fn a_clone_is_a_request_of_its_own() {
        let one = LlmRequest::prompt("hello").with_feature("chat");
        let mut two = one.clone().with_feature("summary");
        two.context_mut().attempts_left = 1;
        assert_eq!(one.feature(), Some("chat"));
        assert_eq!(one.context().attempts_left, DEFAULT_ATTEMPTS);
    }

    #[test]
    fn the_nearest_deadline_wins() {
        let request =
            LlmRequest::prompt("hello").with_timeout(Duration::from_secs(5)).with_timeout(Duration::from_secs(50));
        assert!(request.context().time_left(Instant::now()).is_some_and(|left| left <= Duration::from_secs(5)));
    }

    #[test]
    fn a_deadline_beyond_the_clock_is_none() {
        let request = LlmRequest::prompt("hello").with_timeout(Duration::MAX);
        assert_eq!(request.context().deadline, None);
    }

    #[test]
    fn the_typed_request_says_what_was_set() {
        let request = LlmRequest::from(Chat::new([Message::user("hello")]).model("gpt-4o"))
            .with_session("s")
            .with_idempotency_key("k")
            .explain()
            .with_stream(true)
            .with_max_attempts(3)
            .with_extension(7_u8);
        assert_eq!(
            (request.model(), request.session(), request.idempotency_key()),
            (Some("gpt-4o"), Some("s"), Some("k"))
        );
        assert!(request.is_explained() && request.is_stream() && request.chat().unwrap().stream);
        assert_eq!(request.context().attempts_left, 3);
        assert_eq!(request.extensions().get::<u8>(), Some(&7));
    }

    #[test]
    fn debug_shows_no_prompt() {
        let request = LlmRequest::prompt("secret plans");
        assert!(!format!("{request:?}").contains("secret"));
    }
}
