//! The response.

mod degradation;
mod extra;
mod future;
mod origin;

use std::{borrow::Cow, fmt, sync::Arc};

use tokio::time::Instant;

use self::extra::{Extra, Extras, RouteChoice};
use crate::{
    LlmBody, LlmError,
    body::{AnswerEnd, FailedAnswer, admission::Permit},
    chat::{Message, Usage},
    error::Attempt,
    internal::sharded::{Shard, ShardedArc},
    prices::{Price, PriceTable, PricedNames, Usd},
    request::BEST_LEVEL,
};

pub use self::future::ResponseFuture;
pub use self::{
    degradation::{Degradation, DegradedReason},
    origin::{AnswerSource, CacheOrigin, CacheReason},
};

/// An answer, or its beginning: a response exists once its first token is here.
// Small: every layer moves it on. In this order the tier's name, which is written last, is copied as a word of its own:
// a load across two stores waits for both.
#[repr(C)]
pub struct LlmResponse {
    body: LlmBody,
    deployment: Option<Name>,
    extra: Extras,
    tier: Option<Name>,
}

/// A name that answers share. It is one word wide, where an `Arc<str>` is two.
#[doc(hidden)]
pub type Name = Arc<Shard<str>>;

/// A name with a count of references for each thread.
#[doc(hidden)]
pub type ShardedName = ShardedArc<str>;

impl LlmResponse {
    /// Creates a response with this body.
    #[inline]
    pub fn new(body: LlmBody) -> Self {
        Self { body, deployment: None, extra: Extras::default(), tier: None }
    }

    /// Creates a complete answer of this text. A `&'static str` allocates nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let response = steadfast::LlmResponse::from_text("hello");
    /// assert_eq!(response.text().await.unwrap(), "hello");
    /// # }
    /// ```
    pub fn from_text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(LlmBody::from_text(text))
    }

    /// Creates a complete answer of this message, with its tool calls and usage.
    pub fn from_message(message: Message) -> Self {
        Self::new(LlmBody::from_message(message))
    }

    /// Returns the provider's own answer, which counts as this failure: it has no content, or a filter took all of it.
    /// A layer that asks no other model can give it to its caller, as the gateway does; the attempts on record are
    /// those before it.
    ///
    /// # Errors
    ///
    /// The error itself, if it stands for no such answer.
    pub fn from_failed_answer(mut error: LlmError) -> Result<Self, LlmError> {
        let Some(answer) = error.take_answer::<FailedAnswer>() else { return Err(error) };
        let mut response = Self::new(answer.into_body());
        let mut attempts = error.take_attempts();
        let is_own =
            |step: &Attempt| step.failure == Some(error.kind()) && step.provider.as_deref() == error.provider();
        if let Some(place) = attempts.iter().rposition(is_own) {
            let own = attempts.remove(place);
            if let Some(tier) = own.tier {
                response.name_tier(&ShardedName::new(tier));
            }
        }
        if let (Some(provider), Some(model)) = error.names() {
            response = response.with_model(provider, model);
        }
        if let Some(id) = error.request_id() {
            response = response.with_request_id(id);
        }
        if !attempts.is_empty() {
            response.prepend_attempts(attempts);
        }
        Ok(response)
    }

    /// The provider, model and tier that answered, and the number of attempts.
    pub fn served_by(&self) -> AnswerSource<'_> {
        let PricedNames { provider, asked, served } = self.priced_names();
        AnswerSource {
            provider,
            model: asked,
            served_model: served,
            tier: self.tier.as_deref().map(|name| &**name),
            deployment: self.deployment.as_deref().map(|name| &**name),
            attempts: 1 + self.attempts().iter().filter(|step| step.is_wasted()).count(),
        }
    }

    /// The level and reason of an answer that is less than the caller asked for: from a tier of a worse level of
    /// service than the first (a smaller model, a cached answer, a fixed sentence). `None` for an answer of full
    /// service.
    pub fn degraded(&self) -> Option<Degradation> {
        self.extra.as_ref()?.degraded
    }

    /// The origin of an answer from a cache; `None` for one that was made for this request.
    pub fn cached(&self) -> Option<CacheOrigin> {
        self.extra.as_ref()?.cached
    }

    /// The id of the task that stands for a request [handed to people](crate::LlmRequest::with_human_required). The
    /// caller can ask for the answer by it later, if this is not yet the answer.
    pub fn task_id(&self) -> Option<&str> {
        self.extra.as_ref()?.task_id.as_deref()
    }

    /// Returns true if a cache was asked before the call and had no answer that would do. False without a cache, or if
    /// the request passed it by.
    pub fn is_cache_miss(&self) -> bool {
        self.cached().is_none() && self.extra.as_ref().is_some_and(|extra| extra.missed)
    }

    /// Returns the time since which this process's requests are answered in place of the tier that they begin at, where
    /// another tier answers. `None` where none of a `Fallback`'s earlier tiers failed.
    pub fn away_since(&self) -> Option<Instant> {
        self.extra.as_ref()?.away_since
    }

    /// Sets the time since which requests are answered in place of the tier that they begin at.
    #[doc(hidden)]
    pub fn set_away_since(&mut self, since: Instant) {
        self.extra().away_since = Some(since);
    }

    /// Returns true if the second call of a `Hedge` answered, and not the first.
    #[inline]
    pub fn is_hedged(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.hedged)
    }

    /// Returns true if the call under the request's [idempotency key](crate::LlmRequest::with_idempotency_key) may be a
    /// second one: no store can rule out an earlier call.
    pub fn is_possible_repeat(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.possible_repeat)
    }

    /// The tokens used: known at once for a complete answer, and for a stream as far as the provider has reported them.
    /// For a [cached](Self::cached) answer, the tokens used when it was made.
    pub fn usage(&self) -> Option<Usage> {
        self.body.usage()
    }

    /// The cost of the answer: the provider's [own figure](Usage::cost), or else by the built-in [`PriceTable`] unless
    /// [another](Self::with_prices) was set. Known once the usage is. `None` if the model has no price. Earlier
    /// attempts are not included: one that used tokens and failed has them in its [`usage`](Attempt::usage). A
    /// [cached](Self::cached) answer costs nothing.
    pub fn cost(&self) -> Option<Usd> {
        if self.cached().is_some() {
            return Some(Usd::ZERO);
        }
        self.usage()?.cost_at(self.price())
    }

    /// The price of the model that answers, for a stream, whose usage comes at its end:
    /// [`Usage::cost_at`] gives its cost then. The model is the [served](AnswerSource::served_model) one, or else the
    /// one that was asked for. `None` for a [cached](Self::cached) answer.
    pub fn price(&self) -> Option<&Price> {
        if self.cached().is_some() {
            return None;
        }
        let prices = self.extra.as_ref().and_then(|extra| extra.prices.as_ref());
        let prices = prices.unwrap_or_else(|| PriceTable::builtin_ref());
        prices.place_of(self.priced_names()).map(|place| prices.at(place))
    }

    /// The name of the `Route`'s rule whose cheaper chain answers; `None` if the default chain does.
    pub fn route(&self) -> Option<&str> {
        self.route_choice().map(|taken| &*taken.rule)
    }

    /// The cost of the same tokens at the model that a [route](Self::route) replaced; the saving is this less
    /// [`cost`](Self::cost). `None` without a route, or if the route does not know that model.
    pub fn cost_without_route(&self) -> Option<Usd> {
        Some(self.price_without_route()?.cost(&self.usage()?))
    }

    /// The price of the model that a [route](Self::route) replaced, for a stream, whose usage comes at its end.
    pub fn price_without_route(&self) -> Option<&Price> {
        self.route_choice()?.instead_of.as_ref()
    }

    fn route_choice(&self) -> Option<&RouteChoice> {
        self.extra.as_ref()?.route.as_ref()
    }

    /// The decision record: the steps that failed before this answer and, if the caller asked to have the request
    /// [explained](crate::LlmRequest::explain), the one that answered.
    #[inline]
    pub fn attempts(&self) -> &[Attempt] {
        self.extra.as_ref().map_or(&[], |extra| &extra.attempts)
    }

    /// Takes the [decision record](Self::attempts) out, to keep it without a copy.
    pub fn take_attempts(&mut self) -> Vec<Attempt> {
        self.extra.as_mut().map_or_else(Vec::new, |extra| std::mem::take(&mut extra.attempts))
    }

    /// The parts that were dropped or changed to fit the provider that answered.
    pub fn notes(&self) -> &[Cow<'static, str>] {
        self.extra.as_ref().map_or(&[], |extra| &extra.notes)
    }

    /// The provider's id of the request, for its support.
    pub fn request_id(&self) -> Option<&str> {
        self.extra.as_ref()?.request_id.as_deref()
    }

    /// The provider's response headers; `None` if there were none.
    pub fn headers(&self) -> Option<&http::HeaderMap> {
        self.extra.as_ref()?.headers.as_ref()
    }

    /// The body, by reference; the permits in it (a place, a probe) stay held.
    #[inline]
    pub fn body(&self) -> &LlmBody {
        &self.body
    }

    /// The body, mutably, to read it.
    #[inline]
    pub fn body_mut(&mut self) -> &mut LlmBody {
        &mut self.body
    }

    /// Returns the body, to read it or pass it on. It does not contain the provider or the record: read them before.
    pub fn into_body(self) -> LlmBody {
        self.body
    }

    /// Reads the whole message.
    ///
    /// # Errors
    ///
    /// The failure that broke a stream.
    pub async fn collect(self) -> Result<Message, LlmError> {
        self.body.collect().await
    }

    /// Reads the whole text, without reasoning.
    ///
    /// # Errors
    ///
    /// The failure that broke a stream.
    pub async fn text(self) -> Result<String, LlmError> {
        self.body.text().await
    }

    /// Replaces the body, for example by this one with a wrapper.
    #[must_use]
    pub fn map_body(mut self, map: impl FnOnce(LlmBody) -> LlmBody) -> Self {
        self.body = map(self.body);
        self
    }

    /// Sets the provider and model that answer.
    #[must_use]
    pub fn with_model(mut self, provider: impl Into<Arc<str>>, model: impl Into<Arc<str>>) -> Self {
        let extra = self.extra();
        extra.provider = Some(provider.into());
        extra.model = Some(model.into());
        self
    }

    /// Sets the model by the answer's own word, where that differs from the one that was asked for.
    #[must_use]
    pub fn with_served_model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.extra().served_model = Some(model.into());
        self
    }

    /// Sets the provider's id of the request.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.extra().request_id = Some(id.into());
        self
    }

    /// Sets the provider's response headers.
    #[must_use]
    pub fn with_headers(mut self, headers: http::HeaderMap) -> Self {
        self.extra().headers = Some(headers);
        self
    }

    /// Marks the answer as less than the caller asked for. A leaf that knows only its level leaves the reason to the
    /// layer around it: a `Fallback` replaces [`DegradedReason::Order`] by its own.
    #[must_use]
    pub fn with_degraded(mut self, degraded: Degradation) -> Self {
        self.extra().degraded = Some(degraded);
        self
    }

    /// Sets the prices for [`cost`](Self::cost). Default: the built-in ones, for which nothing is stored.
    #[must_use]
    pub fn with_prices(mut self, prices: &PriceTable) -> Self {
        self.set_prices(prices);
        self
    }

    /// Marks the answer as not made for this request. Its [cost](Self::cost) is zero then.
    #[must_use]
    pub fn with_cached(mut self, cached: CacheOrigin) -> Self {
        self.extra().cached = Some(cached);
        self
    }

    /// Sets the id of the task that stands for the request.
    #[must_use]
    pub fn with_task_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.extra().task_id = Some(id.into());
        self
    }

    /// Marks the call as a [possible repeat](Self::is_possible_repeat).
    #[must_use]
    pub fn with_possible_repeat(mut self) -> Self {
        self.extra().possible_repeat = true;
        self
    }

    /// Marks the answer as one for which a cache was asked in vain. Without meaning for a [cached](Self::cached)
    /// answer.
    #[must_use]
    pub fn with_cache_miss(mut self) -> Self {
        self.extra().missed = true;
        self
    }

    /// Adds a note about a part that was dropped or changed to fit the provider.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<Cow<'static, str>>) -> Self {
        self.extra().notes.push(note.into());
        self
    }

    /// Marks the answer as a tier's of this level, unless a layer further in set a worse one, and sets the reason if
    /// none is set.
    #[doc(hidden)]
    pub fn degrade(&mut self, level: u8, reason: impl FnOnce() -> DegradedReason) {
        let said = self.degraded();
        if level <= BEST_LEVEL && said.is_none() {
            return;
        }
        let reason =
            said.map(|said| said.reason).filter(|reason| *reason != DegradedReason::Order).unwrap_or_else(reason);
        let level = said.map_or(level, |said| said.level.max(level));
        self.extra().degraded = Some(Degradation::new(level, reason));
    }

    /// Sets the prices, unless a layer further in has set them.
    #[doc(hidden)]
    pub fn set_prices(&mut self, prices: &PriceTable) {
        if !prices.is_builtin() {
            self.extra().prices.get_or_insert_with(|| prices.clone());
        }
    }

    /// Sets the rule that chose a cheaper chain.
    #[doc(hidden)]
    pub fn set_route(&mut self, rule: &Arc<str>, instead_of: Option<Price>) {
        self.extra().route = Some(RouteChoice { rule: rule.clone(), instead_of });
    }

    /// Records that this answer stands in for a call that failed: the failed steps come before its own, and the request
    /// took the same chain.
    pub fn follow(&mut self, error: &LlmError) {
        self.prepend_attempts(error.attempts().to_vec());
        if let Some(chain) = error.chain() {
            self.set_chain(chain);
        }
    }

    /// Sets the chain that the request took.
    #[cold]
    #[doc(hidden)]
    pub fn set_chain(&mut self, chain: &Arc<str>) {
        self.extra().chain = Some(chain.clone());
    }

    /// The chain that the request took, if the tier that it asked first does not tell.
    #[inline]
    #[doc(hidden)]
    pub fn chain(&self) -> Option<&Arc<str>> {
        self.extra.as_ref()?.chain.as_ref()
    }

    /// Sets the worst level that the request's feature accepts.
    #[doc(hidden)]
    pub fn set_accepts(&mut self, worst_level: u8) {
        self.extra().accepts = Some(worst_level);
    }

    /// The worst level that the request's feature accepts, if a fallback set it.
    #[doc(hidden)]
    pub fn accepts(&self) -> Option<u8> {
        self.extra.as_ref().and_then(|extra| extra.accepts)
    }

    /// Marks the answer as that of a hedge's second call.
    #[doc(hidden)]
    pub fn set_hedged(&mut self) {
        self.extra().hedged = true;
    }

    /// Sets the tier's name, unless a layer further in has set one, also on the steps before the answer, such as
    /// retries.
    #[inline]
    #[doc(hidden)]
    pub fn name_tier(&mut self, tier: &ShardedName) {
        if !self.attempts().is_empty() {
            self.name_attempts(tier.value());
        }
        if self.tier.is_none() {
            self.tier = Some(tier.shard());
        }
    }

    /// Sets the deployment's name, also on the steps before the answer.
    #[inline]
    #[doc(hidden)]
    pub fn name_deployment(&mut self, deployment: &Name) {
        self.deployment = Some(deployment.clone());
        if let Some(extra) = &mut *self.extra {
            for attempt in &mut extra.attempts {
                attempt.deployment.get_or_insert_with(|| deployment.value().clone());
            }
        }
    }

    #[cold]
    fn name_attempts(&mut self, tier: &Arc<str>) {
        for attempt in &mut self.extra().attempts {
            attempt.tier.get_or_insert_with(|| tier.clone());
        }
    }

    /// The tier that answers.
    #[doc(hidden)]
    pub fn tier(&self) -> Option<Arc<str>> {
        self.tier.as_ref().map(|tier| tier.value().clone())
    }

    /// The rule of a route, shared.
    #[doc(hidden)]
    pub fn shared_route(&self) -> Option<Arc<str>> {
        self.route_choice().map(|taken| taken.rule.clone())
    }

    /// The provider and model that answer.
    #[doc(hidden)]
    pub fn names(&self) -> (Option<Arc<str>>, Option<Arc<str>>) {
        self.extra.as_ref().map_or((None, None), |extra| (extra.provider.clone(), extra.model.clone()))
    }

    /// The model by the answer's own word, if that is another.
    #[doc(hidden)]
    pub fn served_model(&self) -> Option<Arc<str>> {
        self.extra.as_ref()?.served_model.clone()
    }

    /// The names by which the answer's price is found.
    #[doc(hidden)]
    pub fn priced_names(&self) -> PricedNames<'_> {
        self.extra.as_deref().map_or_else(PricedNames::default, |extra| {
            PricedNames::of([&extra.provider, &extra.model, &extra.served_model])
        })
    }

    /// Puts earlier steps in front of the steps of a layer further in.
    pub fn prepend_attempts(&mut self, mut before: Vec<Attempt>) {
        let attempts = &mut self.extra().attempts;
        before.append(attempts);
        *attempts = before;
    }

    /// Puts the step that answered behind the steps before it.
    #[doc(hidden)]
    pub fn append_attempt(&mut self, after: Attempt) {
        let attempts = &mut self.extra().attempts;
        // No other follows.
        attempts.reserve_exact(1);
        attempts.push(after);
    }

    /// Calls `ended` once, when the answer ends: at its provider's end mark, when it breaks, or when the caller drops
    /// it. For a layer of your own that holds something for as long as the provider works; what `ended` owns is dropped
    /// then.
    ///
    /// A whole answer has ended already, so that `ended` is called at once. It runs where the body is polled or
    /// dropped: it must not block.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
    /// use steadfast::{LlmRequest, body::AnswerEnd, providers::Simulated};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), steadfast::LlmError> {
    /// let running = Arc::new(AtomicUsize::new(1));
    /// let mut answer = Simulated::new("sonnet").oneshot(LlmRequest::prompt("Hello").with_stream(true)).await?;
    /// let ends = running.clone();
    /// answer.hold(move |end| {
    ///     assert!(matches!(end, AnswerEnd::Complete));
    ///     ends.fetch_sub(1, Ordering::Relaxed);
    /// });
    /// assert_eq!(running.load(Ordering::Relaxed), 1);
    /// answer.text().await?;
    /// assert_eq!(running.load(Ordering::Relaxed), 0);
    /// # Ok(()) }
    /// ```
    pub fn hold(&mut self, ended: impl FnOnce(AnswerEnd<'_>) + Send + 'static) {
        self.body.hold(ended);
    }

    /// Holds a permit until the answer ends.
    #[inline(always)]
    #[doc(hidden)]
    pub fn hold_permit(&mut self, permit: &mut Permit) {
        self.body.hold_permit(permit);
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
}

impl fmt::Debug for LlmResponse {
    /// Writes nothing of the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmResponse")
            .field("served_by", &self.served_by())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{ErrorKind, ledger::Next};

    fn step(failure: Option<ErrorKind>) -> Attempt {
        Attempt {
            tier: None,
            deployment: None,
            provider: None,
            model: None,
            begun: Instant::now(),
            took: Duration::ZERO,
            failure,
            status: None,
            message: "".into(),
            retry_after: None,
            timeout: None,
            usage: None,
            next: Next::default(),
        }
    }

    #[test]
    fn served_by_reads_as_a_name_and_what_it_took() {
        let mut response = LlmResponse::from_text("hello");
        assert_eq!(response.served_by().to_string(), "an unnamed provider (1 attempt)");
        response = response.with_model("anthropic", "claude");
        assert_eq!(response.served_by().to_string(), "anthropic (claude, 1 attempt)");
        for name in ["sonnet", "outer"] {
            response.name_tier(&ShardedName::new(name.into()));
        }
        response.prepend_attempts(vec![step(Some(ErrorKind::Server))]);
        assert_eq!(response.served_by().to_string(), "sonnet (anthropic claude, 2 attempts)");
    }

    #[test]
    fn only_failures_that_were_sent_count_as_attempts() {
        let steps =
            [Some(ErrorKind::CircuitOpen), Some(ErrorKind::Timeout), Some(ErrorKind::BulkheadFull), None].map(step);
        let mut response = LlmResponse::from_text("hello");
        response.prepend_attempts(steps.into());
        assert_eq!((response.served_by().attempts, response.attempts().len()), (2, 4));
    }

    #[test]
    fn headers_are_none_when_there_were_none() {
        let fixed = Degradation::new(5, DegradedReason::Order);
        let response =
            LlmResponse::from_text("hello").with_degraded(fixed).with_request_id("r").with_note("dropped seed");
        assert_eq!(response.headers(), None);
        assert_eq!(response.degraded(), Some(fixed));
        assert_eq!((response.request_id(), response.notes()), (Some("r"), &["dropped seed".into()][..]));
        let headers = http::HeaderMap::from_iter([(http::header::AGE, 1.into())]);
        assert_eq!(response.with_headers(headers.clone()).headers(), Some(&headers));
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn an_answer_is_small_for_every_layer_moves_it() {
        assert_eq!(size_of::<LlmResponse>(), 56);
    }

    #[test]
    fn what_is_rarely_said_of_an_answer_is_freed_with_it() {
        let measured = allocation_counter::measure(|| {
            let said = LlmResponse::from_text("hello").with_request_id("r").with_note("n".to_owned());
            assert_eq!((said.request_id(), said.notes().len()), (Some("r"), 1));
        });
        assert!(measured.count_total > 2 && measured.count_current == 0, "{measured:?}");
    }

    #[test]
    fn a_plain_response_allocates_nothing() {
        let measured = allocation_counter::measure(|| {
            let response = LlmResponse::from_text("hello");
            assert!(response.degraded().is_none() && response.attempts().is_empty() && response.headers().is_none());
        });
        assert_eq!(measured.count_total, 0);
    }

    #[test]
    fn an_answer_says_what_it_cost() {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(1000, 200));
        let said = || LlmResponse::from_message(message.clone());
        assert_eq!(said().cost(), None, "nobody says which model it was");
        assert_eq!(LlmResponse::from_text("hi").with_model("openai", "gpt-4o").cost(), None, "no usage is known");
        let builtin = said().with_model("openai", "gpt-4o-2024-08-06").with_prices(&PriceTable::builtin());
        assert_eq!(builtin.cost(), Usd::from_dollars(0.0045));
        assert!(
            builtin.extra.as_ref().is_some_and(|extra| extra.prices.is_none()),
            "the built-in prices are not carried along"
        );
        let mine = PriceTable::builtin().with("gpt-4o", Price::dollars(1.0, 1.0).unwrap());
        assert_eq!(builtin.with_prices(&mine).cost(), Usd::from_dollars(0.0012));
    }

    #[test]
    fn debug_shows_nothing_of_the_answer() {
        assert!(!format!("{:?}", LlmResponse::from_text("secret")).contains("secret"));
    }
}
