//! What a caller asks, and what the layers add to it on the way down.

use std::{fmt, sync::Arc, time::Duration};

use http::{Extensions, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use crate::wire::{Wire, WireLimits};
use crate::{
    CommitPoint, LlmError,
    chat::{Chat, Message, Thinking},
};

/// The wire formats that the crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dialect {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Chat Completions.
    OpenAi,
    /// Google's Gemini `generateContent`.
    Gemini,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        })
    }
}

/// A request to a language model.
///
/// It is cheap to clone: what the caller said stands behind one `Arc`, what the layers add is a small `Copy`
/// [`Context`]. A clone allocates nothing, and is a request of its own: what happens to the one does not show in the
/// other.
///
/// ```
/// use steadfast::LlmRequest;
///
/// let request = LlmRequest::prompt("Explain closures.").feature("chat").session("user-17");
/// assert_eq!(request.feature_name(), Some("chat"));
/// ```
#[derive(Clone)]
pub struct LlmRequest {
    said: Arc<Said>,
    context: Context,
}

/// What the caller said. Layers do not change it.
#[derive(Clone)]
struct Said {
    content: Content,
    feature: Option<Arc<str>>,
    session: Option<Arc<str>>,
    idempotency_key: Option<Arc<str>>,
    id: Option<Arc<str>>,
    status_of: Option<fn(&LlmError) -> StatusCode>,
    explain: bool,
    first_tier_only: bool,
    requires_human: bool,
    shadow: bool,
    left_out: Vec<LeftOut>,
    extensions: Extensions,
}

/// A parameter that a request goes without from here on, since its model refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Where it stands in a body of the provider's dialect.
    pub(crate) path: &'static str,
    /// Whether the model takes none of it from anybody.
    pub(crate) lasting: bool,
}

#[derive(Clone)]
enum Content {
    Chat(Chat),
    Wire(Wire),
}

impl LlmRequest {
    /// A request with one user's turn.
    pub fn prompt(text: impl Into<String>) -> Self {
        Self::from(Chat::new([Message::user(text)]))
    }

    fn new(content: Content) -> Self {
        Self {
            said: Arc::new(Said {
                content,
                feature: None,
                session: None,
                idempotency_key: None,
                id: None,
                status_of: None,
                explain: false,
                first_tier_only: false,
                requires_human: false,
                shadow: false,
                left_out: Vec::new(),
                extensions: Extensions::new(),
            }),
            context: Context::default(),
        }
    }

    /// Sets the product's feature that asks, such as `chat` or `summary`: places, chains, budgets and metrics go by it.
    /// Default: none, so that it shares the places of all that have none.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<Arc<str>>) -> Self {
        self.said_mut().feature = Some(feature.into());
        self
    }

    /// Sets the session that the request belongs to, for fallbacks that do not switch models in the middle of one
    /// ([`SessionPolicy`](crate::layers::fallback::SessionPolicy)). Default: none.
    #[must_use]
    pub fn session(mut self, session: impl Into<Arc<str>>) -> Self {
        self.said_mut().session = Some(session.into());
        self
    }

    /// Sets the key by which repeats of this request are known to be the same: an `IdempotencyLayer` (feature `idempotency`)
    /// makes one call for it. Default: none.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.said_mut().idempotency_key = Some(key.into());
        self
    }

    /// Gives the request a name of its own, such as that under which the caller's log has it: it is told with the
    /// [request's end](crate::events::RequestEnded), and nothing goes by it. Default: none.
    #[must_use]
    pub fn id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.said_mut().id = Some(id.into());
        self
    }

    /// Says which HTTP status the caller gets for a failure, where it is one of a server's: the status is told with the
    /// [request's end](crate::events::RequestEnded). Default: none is known.
    #[must_use]
    pub fn status_of(mut self, status_of: fn(&LlmError) -> StatusCode) -> Self {
        self.said_mut().status_of = Some(status_of);
        self
    }

    /// Asks for the whole decision record on the response too, the attempt that answered included.
    #[must_use]
    pub fn explain(mut self) -> Self {
        self.said_mut().explain = true;
        self
    }

    /// Keeps the request to the first tier that may serve it: it is answered from there or fails, in the middle of a
    /// stream too.
    #[must_use]
    pub fn no_fallback(mut self) -> Self {
        self.said_mut().first_tier_only = true;
        self
    }

    /// Hands the request to a person, whatever works: a [`Fallback`](crate::Fallback) sends it to its
    /// [tiers of people](crate::layers::fallback::Tier::human) and to no other, and it fails where there are none.
    #[must_use]
    pub fn requires_human(mut self, required: bool) -> Self {
        self.said_mut().requires_human = required;
        self
    }

    /// Asks for the answer as a stream. Default: what the request says, which for a [`prompt`](Self::prompt) is no. In a
    /// request in wire form that field alone is changed, in its place.
    #[must_use]
    pub fn stream(mut self, stream: bool) -> Self {
        match &mut self.said_mut().content {
            Content::Chat(chat) => chat.stream = stream,
            Content::Wire(wire) => wire.set_stream(stream),
        }
        self
    }

    /// Sets the longest answer, in tokens. Default: the provider's; Anthropic wants a number, and gets 4,096. In a request in wire
    /// form that field alone is changed, in its place.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        match &mut self.said_mut().content {
            Content::Chat(chat) => chat.max_tokens = Some(tokens),
            Content::Wire(wire) => wire.set_max_tokens(tokens),
        }
        self
    }

    /// Adds a value of your own, for your own layers and leaves; of each type one, the last. They read it with
    /// [`extensions`](Self::extensions).
    #[must_use]
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.said_mut().extensions.insert(value);
        self
    }

    /// Bounds the request: no attempt begins after `timeout` from now, and none waits past it. The nearest bound wins.
    ///
    /// The outermost of [`Timeout`](crate::Timeout), [`Bulkhead`](crate::Bulkhead), [`Fallback`](crate::Fallback),
    /// [`Hedge`](crate::Hedge), [`RetryWithJitter`](crate::RetryWithJitter) and [`CircuitBreaker`](crate::CircuitBreaker) ends
    /// the request then. A stack with none of them does not.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.context.limit_deadline(Instant::now().checked_add(timeout));
        self
    }

    /// Sets how many attempts the request may take in all, whatever the layers allow. Default: 9, three for each of three tiers. Refusals on this
    /// side cost none, and the first attempt is always made.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.context.attempts_left = attempts;
        self
    }

    /// Sets the worst level of service that the answer may be of, from 1 (full) to 5 (a fixed sentence). Default: 5,
    /// any. See [`Tier::level`](crate::layers::fallback::Tier::level).
    #[must_use]
    pub fn worst_level(mut self, level: u8) -> Self {
        self.context.worst_level = level.clamp(BEST_LEVEL, WORST_LEVEL);
        self
    }

    /// Sets how far its stream must have come before the caller sees it, whatever leaves and layers have. Default: theirs.
    #[must_use]
    pub fn commit(mut self, point: CommitPoint) -> Self {
        self.context.commit = Some(point);
        self
    }

    /// What is asked, decoded from the caller's bytes if need be (at most once for all clones).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when the bytes are not a request of their dialect.
    pub fn chat(&self) -> Result<&Chat, LlmError> {
        match &self.said.content {
            Content::Chat(chat) => Ok(chat),
            Content::Wire(wire) => wire.chat(),
        }
    }

    /// Decodes a large request ahead, beside the threads that serve requests, so that [`chat`](Self::chat) costs them nothing
    /// then. It does nothing for a small one, of less than 256 KiB, and for one that came in no wire form.
    ///
    /// To drop the future stops the work. Outside of a tokio runtime it is done at once.
    ///
    /// # Errors
    ///
    /// Those of [`chat`](Self::chat), and [`ErrorKind::Deadline`](crate::ErrorKind::Deadline) when the request's time is over
    /// before.
    pub async fn decode_ahead(&self) -> Result<(), LlmError> {
        match self.wire() {
            Some(wire) if wire.is_large() && !wire.is_decoded() => {}
            _ => return Ok(()),
        }
        let request = self.clone();
        let decode = move |stop| request.wire().map_or(Ok(()), |wire| wire.chat_until(&stop).map(drop));
        crate::wire::offload(self.context.deadline, decode).await
    }

    /// The caller's own bytes, if the request came as such.
    pub fn wire(&self) -> Option<&Wire> {
        match &self.said.content {
            Content::Chat(_) => None,
            Content::Wire(wire) => Some(wire),
        }
    }

    /// The model that the caller names. A leaf with a model of its own sends that one.
    #[inline]
    pub fn model(&self) -> Option<&str> {
        match &self.said.content {
            Content::Chat(chat) => chat.model.as_deref(),
            Content::Wire(wire) => wire.model(),
        }
    }

    /// Whether the answer is asked for as a stream.
    pub fn is_stream(&self) -> bool {
        match &self.said.content {
            Content::Chat(chat) => chat.stream,
            Content::Wire(wire) => wire.is_stream(),
        }
    }

    /// Whether it names texts at which the model stops, so that an answer may end before it begins.
    pub(crate) fn names_stops(&self) -> bool {
        match &self.said.content {
            Content::Chat(chat) => !chat.stop.is_empty(),
            Content::Wire(wire) => wire.names_stops(),
        }
    }

    /// The request's [id](Self::id), where it was given one.
    pub fn request_id(&self) -> Option<&str> {
        self.said.id.as_deref()
    }

    /// The same, to keep.
    pub(crate) fn id_kept(&self) -> Option<Arc<str>> {
        self.said.id.clone()
    }

    /// Which HTTP status its caller gets for a failure.
    pub(crate) fn status_known(&self) -> Option<fn(&LlmError) -> StatusCode> {
        self.said.status_of
    }

    /// Whether it asks the model to reason before it answers, as far as that is plain to see: such answers begin late.
    pub(crate) fn asks_to_reason(&self) -> bool {
        match &self.said.content {
            Content::Chat(chat) => chat.thinking.is_some_and(|thinking| thinking != Thinking::Off),
            Content::Wire(wire) => wire.asks_to_reason(),
        }
    }

    /// The product's feature that asks.
    pub fn feature_name(&self) -> Option<&str> {
        self.said.feature.as_deref()
    }

    /// The same, to keep.
    pub(crate) fn feature_kept(&self) -> Option<Arc<str>> {
        self.said.feature.clone()
    }

    /// Whose request it is: its tenant's, as the cache knows them, or else that of the key that pays for it.
    pub(crate) fn tenant(&self) -> Option<&Arc<str>> {
        #[cfg(feature = "cache")]
        let tenant = crate::layers::cache::Tenant::of(self);
        #[cfg(not(feature = "cache"))]
        let tenant = self.extensions().get::<crate::layers::budget::BudgetKey>().map(|key| &key.0);
        tenant
    }

    /// The session that the request belongs to.
    pub fn session_id(&self) -> Option<&str> {
        self.said.session.as_deref()
    }

    /// The key by which repeats of this request are known to be the same.
    pub fn idempotency(&self) -> Option<&str> {
        self.said.idempotency_key.as_deref()
    }

    /// Whether the whole decision record is asked for.
    pub fn is_explained(&self) -> bool {
        self.said.explain
    }

    /// Whether only the first tier may serve it.
    pub fn is_first_tier_only(&self) -> bool {
        self.said.first_tier_only
    }

    /// Whether only a person may answer it.
    pub fn is_human_required(&self) -> bool {
        self.said.requires_human
    }

    /// Whether it is a copy that a [`Mirror`](crate::Mirror) sends to its candidate: nobody waits for its answer, so that what
    /// acts on answers must not act on this one's.
    pub fn is_shadow(&self) -> bool {
        self.said.shadow
    }

    /// Whether it may go to whatever tiers there are.
    pub(crate) fn goes_anywhere(&self) -> bool {
        !(self.said.first_tier_only | self.said.requires_human)
    }

    /// The values that the caller added.
    pub fn extensions(&self) -> &Extensions {
        &self.said.extensions
    }

    /// What the layers have added so far.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What the layers have added so far, to change it.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
    }

    /// The same request in another context.
    pub(crate) fn with_context(&self, context: Context) -> Self {
        Self { said: self.said.clone(), context }
    }

    /// A copy for a candidate, in another context. It has no idempotency key: what is made once under that is the answer to
    /// the request itself.
    pub(crate) fn shadow(&self, context: Context) -> Self {
        let mut said = Said::clone(&self.said);
        (said.shadow, said.idempotency_key) = (true, None);
        Self { said: Arc::new(said), context }
    }

    /// The same request without a parameter that its model refused.
    pub(crate) fn leaving_out(&self, parameter: LeftOut) -> Self {
        let mut request = self.clone();
        request.said_mut().left_out.push(parameter);
        request
    }

    /// The parameters that its model has refused so far.
    #[cfg(feature = "http")]
    pub(crate) fn left_out(&self) -> &[LeftOut] {
        &self.said.left_out
    }

    /// The session, to keep.
    pub(crate) fn session_kept(&self) -> Option<Arc<str>> {
        self.said.session.clone()
    }

    /// The same request with another conversation, asked for the `time`th time again. It is not the same in the eyes of
    /// who knows requests by their key, so that its key is another.
    #[cfg(feature = "validate")]
    pub(crate) fn asked_again(&self, chat: Chat, time: u16, context: Context) -> Self {
        let mut said = Said::clone(&self.said);
        said.content = Content::Chat(chat);
        said.idempotency_key = said.idempotency_key.map(|key| format!("{key}-again-{time}").into());
        Self { said: Arc::new(said), context }
    }

    /// What the caller said, to change it: copied first if somebody else holds it too.
    fn said_mut(&mut self) -> &mut Said {
        Arc::make_mut(&mut self.said)
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

impl fmt::Debug for LlmRequest {
    /// Shows nothing of what is asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmRequest")
            .field("model", &self.model())
            .field("feature", &self.said.feature)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// What the layers add to a request on its way down. Small and `Copy`.
// In this order: whatever layers leave alone together is copied in one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[repr(C)]
pub struct Context {
    /// When the request must have its answer (a stream: its first token). No attempt begins after it. Bring it nearer with
    /// [`limit_deadline`](Self::limit_deadline): then a layer further in ends the request at it.
    pub deadline: Option<Instant>,
    /// When the request entered the outermost layer that reads the clock, or was last sent on after a wait: saves the
    /// others a reading.
    pub(crate) begun: Option<Instant>,
    /// The retry budget that this request has been counted in, by its identity: each counts a request once on its way down,
    /// however many layers there share it. At another tier it is counted again.
    pub(crate) counted_in: u32,
    /// How many attempts may still be made, this one included.
    pub attempts_left: u16,
    /// How many attempts were made before this one.
    pub attempts_made: u16,
    /// How many tiers a `Fallback` further out could still turn to if this one fails.
    pub tiers_left: u8,
    /// Whether this is the last resort: a circuit breaker lets it through whatever its state.
    pub last_resort: bool,
    /// The least level of service at which a `Fallback` begins: tiers of a better one are left out. 1 (the default) leaves
    /// out none. A budget that is used up steps requests down with it.
    pub min_level: u8,
    /// The worst level of service that is accepted: tiers of a worse one are left out. 5 (the default) leaves out none.
    pub worst_level: u8,
    /// What layers further out do for it, and can still do.
    pub(crate) prospects: Prospects,
    /// How far its stream must have come before who called sees it; `None`: as far as leaves and layers have it. A
    /// [`CommitOnFirstToken`](crate::CommitOnFirstToken) that holds more back leaves the leaf the first token.
    pub commit: Option<CommitPoint>,
}

/// What layers further out do for a request, and can still do. In one piece: each that layers change by itself is copied by
/// itself wherever a context moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prospects(u16);

impl Prospects {
    /// A `Fallback` could still turn to a tier that asks a model: nobody need wait long here.
    const CAN_GO_ON: u16 = 1;
    /// A layer does something about a model's refusal: one without a word is told as an error.
    const ACTS_ON_REFUSALS: u16 = 2;
    /// None ends the request at its deadline: the next layer that waits does.
    const LEAVES_DEADLINE: u16 = 4;

    pub(crate) fn can_go_on(self) -> bool {
        self.0 & Self::CAN_GO_ON != 0
    }

    /// Notes that a fallback can go on, if it can.
    pub(crate) fn note_can_go_on(&mut self, can: bool) {
        self.0 |= u16::from(can) * Self::CAN_GO_ON;
    }

    pub(crate) fn acts_on_refusals(self) -> bool {
        self.0 & Self::ACTS_ON_REFUSALS != 0
    }

    /// Notes that a layer acts on refusals, if it does.
    pub(crate) fn note_acts_on_refusals(&mut self, acts: bool) {
        self.0 |= u16::from(acts) * Self::ACTS_ON_REFUSALS;
    }

    pub(crate) fn leaves_deadline(self) -> bool {
        self.0 & Self::LEAVES_DEADLINE != 0
    }

    /// Notes whether the deadline is left to the next layer.
    pub(crate) fn note_leaves_deadline(&mut self, leaves: bool) {
        let flag = u16::from(leaves) * Self::LEAVES_DEADLINE;
        self.0 = (self.0 & !Self::LEAVES_DEADLINE) | flag;
    }
}

/// The level of full service.
pub(crate) const BEST_LEVEL: u8 = 1;
/// The level of a fixed sentence.
pub(crate) const WORST_LEVEL: u8 = 5;

/// The default of [`LlmRequest::max_attempts`].
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
    /// Brings the deadline nearer. A farther one changes nothing.
    pub fn limit_deadline(&mut self, deadline: Option<Instant>) {
        let Some(nearer) = deadline.filter(|nearer| self.deadline.is_none_or(|known| *nearer < known)) else { return };
        self.deadline = Some(nearer);
        self.prospects.note_leaves_deadline(true);
    }

    /// Steps the request down to tiers of this level or a worse one, unless it is further down already.
    pub fn step_down(&mut self, level: u8) {
        self.min_level = self.min_level.max(level.clamp(BEST_LEVEL, WORST_LEVEL));
    }

    /// The time left before the deadline; `None` without one.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloning_allocates_nothing() {
        let request = LlmRequest::prompt("hello").feature("chat").session("s").idempotency_key("k");
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
        let one = LlmRequest::prompt("hello").feature("chat");
        let mut two = one.clone().feature("summary");
        two.context_mut().attempts_left = 1;
        assert_eq!(one.feature_name(), Some("chat"));
        assert_eq!(one.context().attempts_left, DEFAULT_ATTEMPTS);
    }

    #[test]
    fn the_nearest_deadline_wins() {
        let request = LlmRequest::prompt("hello").timeout(Duration::from_secs(5)).timeout(Duration::from_secs(50));
        assert!(request.context().time_left(Instant::now()).is_some_and(|left| left <= Duration::from_secs(5)));
    }

    #[test]
    fn a_deadline_beyond_the_clock_is_none() {
        let request = LlmRequest::prompt("hello").timeout(Duration::MAX);
        assert_eq!(request.context().deadline, None);
    }

    #[test]
    fn the_typed_request_says_what_was_set() {
        let request = LlmRequest::from(Chat::new([Message::user("hello")]).model("gpt-4o"))
            .session("s")
            .idempotency_key("k")
            .explain()
            .stream(true)
            .max_attempts(3)
            .extension(7_u8);
        assert_eq!(
            (request.model(), request.session_id(), request.idempotency()),
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
