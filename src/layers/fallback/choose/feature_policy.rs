//! The policy of a fallback for each feature.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{AllOpen, StreamBreak};
use crate::{
    LlmRequest,
    request::{BEST_LEVEL, WORST_LEVEL},
};

/// The policy of a fallback for a feature's requests: which tiers serve them, and how far down they may go.
///
/// [`FallbackLayer::feature`](crate::FallbackLayer::feature) applies it to one feature, and
/// [`FallbackLayer::default_policy`](crate::FallbackLayer::default_policy) to all other requests. A feature's policy
/// takes each setting that it leaves out from the default policy. An array of names is a policy of these tiers.
///
/// # Example
///
/// Code is better late than bad, while background work goes to the small model alone:
///
/// ```
/// use std::time::Duration;
///
/// use steadfast::{
///     ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse,
///     layers::fallback::{AllOpen, FeaturePolicy, Tier},
///     provider_fn,
///     providers::Canned,
/// };
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), steadfast::InvalidConfig> {
/// let code = FeaturePolicy::new().worst_level(1).all_open(AllOpen::Queue(Duration::from_secs(600)));
/// let layer = FallbackLayer::new("large")
///     .push(Tier::new("small", Canned::text("in short")).level(2))
///     .feature("code", code)
///     .feature("background", ["small"])
///     .checked()?;
///
/// let down = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(ErrorKind::Server, "down")) });
/// let llm = ServiceBuilder::new().layer(layer).service(down);
/// let ask = |feature: &str| llm.clone().oneshot(LlmRequest::prompt("Why?").with_feature(feature));
/// assert_eq!(ask("chat").await.unwrap().attempts().len(), 1, "the large model is asked first");
/// assert_eq!(ask("background").await.unwrap().attempts().len(), 0, "the small one at once");
/// assert_eq!(ask("code").await.unwrap_err().kind(), ErrorKind::Server, "after ten minutes without the large one");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeaturePolicy {
    pub(crate) tiers: Option<Vec<Arc<str>>>,
    pub(crate) terms: PolicyTerms,
}

impl FeaturePolicy {
    /// Creates a policy that leaves out every setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which tiers serve the requests, in order; the primary is one of them, by its name. A chain of one never
    /// falls back. Default: all, in their order.
    #[must_use]
    pub fn tiers<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.tiers = Some(names.into_iter().map(Arc::from).collect());
        self
    }

    /// Sets the worst [level](super::TierSettings::level) of service that the requests accept: with 1, code
    /// generation fails rather than fall to a small model. Default: 5, any. A number out of range counts as the
    /// nearest level.
    #[must_use]
    pub fn worst_level(mut self, level: u8) -> Self {
        self.terms.worst_level = Some(level.clamp(BEST_LEVEL, WORST_LEVEL));
        self
    }

    /// Sets whether a [step-down](crate::Context::min_level) is final: if no tier further down can answer, the
    /// requests fail. Default: false, so that the better tiers then serve, since an expensive answer is better than
    /// none.
    #[must_use]
    pub fn stays_down(mut self, stays: bool) -> Self {
        self.terms.stays_down = Some(stays);
        self
    }

    /// Sets whether a level that an operator has [pinned](crate::FallbackHandle::pin_level) is final, while other
    /// step-downs are not. Use it if another chain serves the requests that fail here, such as the default chain
    /// of a [`RouteLayer`](crate::RouteLayer). Default: false.
    #[must_use]
    pub fn pins_are_final(mut self, are_final: bool) -> Self {
        self.terms.pins_are_final = Some(are_final);
        self
    }

    /// Sets the policy for a stream that breaks in the middle. Default: [`StreamBreak::Fail`].
    #[must_use]
    pub fn stream_break(mut self, policy: StreamBreak) -> Self {
        self.terms.stream_break = Some(policy);
        self
    }

    /// Sets whether models that cannot [go on with an answer](super::TierSettings::goes_on) are told to, in a turn of
    /// the user's, where the policy for a broken stream is [`StreamBreak::Continue`]. It never is where the request has
    /// tools: a call would become prose. Default: false.
    #[must_use]
    pub fn goes_on_by_instruction(mut self, does: bool) -> Self {
        self.terms.by_instruction = Some(does);
        self
    }

    /// Sets the policy for the case that every circuit is open. Default: [`AllOpen::Fail`].
    #[must_use]
    pub fn all_open(mut self, policy: AllOpen) -> Self {
        self.terms.all_open = Some(policy);
        self
    }

    /// Sets the least time before the deadline that makes it worth beginning a further tier, unless the tier has a
    /// [time of its own](super::TierSettings::min_useful) or answers at once. Default: 100 ms.
    #[must_use]
    pub fn min_useful(mut self, time: Duration) -> Self {
        self.terms.min_useful = Some(time);
        self
    }
}

/// Creates a policy of these tiers, as [`FeaturePolicy::tiers`] sets them.
impl<'a, const N: usize> From<[&'a str; N]> for FeaturePolicy {
    fn from(tiers: [&'a str; N]) -> Self {
        Self::new().tiers(tiers)
    }
}

/// The settings of a policy, the tiers aside; `None` where the policy leaves one out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PolicyTerms {
    worst_level: Option<u8>,
    stays_down: Option<bool>,
    pins_are_final: Option<bool>,
    stream_break: Option<StreamBreak>,
    by_instruction: Option<bool>,
    all_open: Option<AllOpen>,
    min_useful: Option<Duration>,
}

/// The default of [`FeaturePolicy::min_useful`].
const MIN_USEFUL: Duration = Duration::from_millis(100);

impl PolicyTerms {
    pub(crate) fn worst_level(&self) -> u8 {
        self.worst_level.unwrap_or(WORST_LEVEL)
    }

    /// Returns the worst level that is accepted, if there is a limit.
    #[inline]
    pub(crate) fn accepts(&self) -> Option<u8> {
        self.worst_level.filter(|worst| *worst < WORST_LEVEL)
    }

    pub(crate) fn stays_down(&self) -> bool {
        self.stays_down.unwrap_or_default()
    }

    pub(crate) fn pins_are_final(&self) -> bool {
        self.pins_are_final.unwrap_or_default()
    }

    pub(crate) fn stream_break(&self) -> StreamBreak {
        self.stream_break.unwrap_or_default()
    }

    pub(crate) fn goes_on_by_instruction(&self) -> bool {
        self.by_instruction.unwrap_or_default()
    }

    pub(crate) fn all_open(&self) -> AllOpen {
        self.all_open.unwrap_or_default()
    }

    pub(crate) fn min_useful(&self) -> Duration {
        self.min_useful.unwrap_or(MIN_USEFUL)
    }

    /// Takes the settings that these terms leave out from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            worst_level: self.worst_level.or(other.worst_level),
            stays_down: self.stays_down.or(other.stays_down),
            pins_are_final: self.pins_are_final.or(other.pins_are_final),
            stream_break: self.stream_break.or(other.stream_break),
            by_instruction: self.by_instruction.or(other.by_instruction),
            all_open: self.all_open.or(other.all_open),
            min_useful: self.min_useful.or(other.min_useful),
        }
    }
}

/// A policy whose tiers are found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// The tiers in order; 0 is the primary. `None`: all.
    pub(crate) tiers: Option<Arc<[usize]>>,
    pub(crate) terms: PolicyTerms,
}

/// The policies of a fallback.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    pub(crate) default: Policy,
    pub(crate) features: HashMap<Arc<str>, Policy>,
}

impl Policies {
    /// Completes each feature's policy with the default policy's settings.
    pub(crate) fn complete(&mut self) {
        for policy in self.features.values_mut() {
            policy.tiers = policy.tiers.take().or_else(|| self.default.tiers.clone());
            policy.terms = policy.terms.or(self.default.terms);
        }
    }

    /// Returns the policy of a request.
    pub(crate) fn of(&self, request: &LlmRequest) -> &Policy {
        request.feature().and_then(|feature| self.features.get(feature)).unwrap_or(&self.default)
    }

    /// Returns whether any policy fulfils a condition.
    pub(crate) fn any(&self, condition: impl Fn(&Policy) -> bool) -> bool {
        std::iter::once(&self.default).chain(self.features.values()).any(condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_takes_from_the_default_policy_what_it_leaves_out() {
        let wait = AllOpen::Wait(Duration::from_secs(1));
        let common = FeaturePolicy::new().worst_level(3).stays_down(true).pins_are_final(true).all_open(wait);
        let common = common.min_useful(Duration::ZERO).stream_break(StreamBreak::Buffer);
        let own = FeaturePolicy::new().worst_level(1).stays_down(false).stream_break(StreamBreak::Fail);
        let policy = |tiers: Option<Arc<[usize]>>, policy: FeaturePolicy| Policy { tiers, terms: policy.terms };
        let mut policies = Policies { default: policy(Some([1, 0].into()), common.clone()), ..Policies::default() };
        policies.features.insert("own".into(), policy(Some([2].into()), own));
        policies.features.insert("none".into(), Policy::default());
        policies.complete();
        let of = |feature| policies.of(&LlmRequest::prompt("hello").with_feature(feature)).clone();
        for feature in ["none", "unknown"] {
            assert_eq!((of(feature).tiers.as_deref(), of(feature).terms), (Some([1, 0].as_slice()), common.terms));
        }
        let terms = of("own").terms;
        assert_eq!(of("own").tiers.as_deref(), Some([2].as_slice()));
        assert_eq!((terms.worst_level(), terms.stays_down(), terms.stream_break()), (1, false, StreamBreak::Fail));
        assert_eq!((terms.pins_are_final(), terms.all_open(), terms.min_useful()), (true, wait, Duration::ZERO));
    }
}
