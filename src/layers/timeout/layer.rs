use std::{sync::Arc, time::Duration};

use tower::Layer;

use super::{Timeout, silence::Silence};
use crate::{body::IdleLimits, request::Prospects};

/// Applies [`Timeout`]. See the [module docs](super).
///
/// Clones, and all services that one layer makes, share the observations of an [adaptive](Self::adaptive) one.
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    limits: Limits,
    silence: Option<Arc<Silence>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) total: Duration,
    pub(super) first_token: Option<Duration>,
    pub(super) thinking: Option<Duration>,
    /// The longest limit of a whole answer that may be long.
    pub(super) long_answers: Option<Duration>,
    pub(super) patience: Patience,
    /// The limits on silence that were set.
    pub(super) idle: IdleLimits,
}

/// The limits in place of the others if no other tier is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) whole: Option<Duration>,
    pub(super) streams: Option<Duration>,
}

/// The default idle limit: as long as most proxies keep a silent connection.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// The default ceiling while keep-alives come: the longest silent reasoning seen in practice is some minutes. Where
/// nobody else would answer, the limit of all silence: Claude Code and Codex wait as long by themselves.
pub(super) const CEILING: Duration = Duration::from_secs(300);

/// Returns the limits on silence of an answer's body: those that were set, and the defaults.
// Out of the way of whole answers, which need none.
#[inline(never)]
pub(super) fn idle_limits(mut set: IdleLimits, prospects: Prospects, is_whole: bool) -> IdleLimits {
    // A whole answer that falls silent is asked for anew: its caller has seen nothing of it.
    let waits = prospects.is_nothing_left() && !prospects.acts_on_breaks() && !is_whole;
    let silent = if waits { CEILING } else { IDLE };
    let without_content = set.ceiling.map_or(silent, |ceiling| silent.min(ceiling));
    set.bytes = set.bytes.or(Some(silent));
    set.progress = set.progress.or(Some(without_content));
    set
}

impl TimeoutLayer {
    /// Creates a layer that limits the time to the response: a whole answer, or a stream's first token. A stream
    /// may then be silent for at most 60 s, or go 300 s without content while keep-alives come; see
    /// [`idle`](Self::idle) and [`progress`](Self::progress).
    ///
    /// `Duration::ZERO` refuses a call that is not ready at once; `Duration::MAX` is no limit.
    pub fn new(total: Duration) -> Self {
        let mut idle = IdleLimits::default();
        idle.ceiling = Some(CEILING);
        Self {
            limits: Limits {
                total,
                first_token: None,
                thinking: None,
                long_answers: None,
                patience: Patience::default(),
                idle,
            },
            silence: None,
        }
    }

    /// Sets the limit for the first token of a streaming request. Other requests ignore it. Default: the total.
    #[must_use]
    pub fn first_token(mut self, limit: Duration) -> Self {
        self.limits.first_token = Some(limit);
        self.limits.patience.streams = None;
        self
    }

    /// Sets the limit for the first token of a stream whose request asks the model to reason, in place of the others.
    /// It may be longer than the total. Default: as for other streams.
    #[must_use]
    pub fn thinking(mut self, limit: Duration) -> Self {
        self.limits.thinking = Some(limit);
        self.limits.patience.streams = None;
        self
    }

    /// Gives a whole answer that may be long more than the total, up to this limit: an hour for each 128,000 tokens
    /// that its request allows, as Anthropic's SDKs reckon, and all of it for thought, pictures and sound.
    /// Without `max_tokens` the total holds. Streams ignore it. Default: the total for all; the tiers of
    /// `steadfast_stack::Stack` have 5 min, unless their file sets the limit.
    #[must_use]
    pub fn long_answers(mut self, most: Duration) -> Self {
        self.limits.long_answers = Some(most);
        self
    }

    /// Sets the limit of a call for which a [`Fallback`](crate::Fallback) further out has no other tier left. The call
    /// then waits for a provider that needs long, and does not buy its answer twice. `Duration::MAX` is all the time
    /// until the request's deadline. A limit for streams that is set after this one holds all the same. Default: as for
    /// other calls; the tiers of `steadfast_stack::Stack` wait, unless their file sets the limit.
    #[must_use]
    pub fn patient(mut self, limit: Duration) -> Self {
        self.limits.patience = Patience { whole: Some(limit), streams: Some(limit) };
        self
    }

    /// Leaves a silent call before its limit if a [`Fallback`](crate::Fallback) further out could still ask another
    /// model. Default: no; the tiers of `steadfast_stack::Stack` do.
    ///
    /// Put it around one model. A call is late after five times the time in which nine in ten of the last calls
    /// like it were answered (for a stream, their first token), and not before 5 s. Streams and whole answers, with
    /// reasoning and without, and features are observed separately, once 30 have answered. If eight of the last two
    /// hundred were late, as in no healthy hour, calls are left after four fifths of that time. One in sixteen is
    /// not, so that a model that has become slow for good is known as such in time. If several
    /// [callers](crate::layers::circuit_breaker#what-counts) are answered, at most four of the eight count for one.
    #[must_use]
    pub fn adaptive(self) -> Self {
        self.leaving(Arc::default())
    }

    /// Uses an earlier layer's observations.
    pub fn leaving(mut self, silence: Arc<Silence>) -> Self {
        self.silence = Some(silence);
        self
    }

    /// Sets how long a stream may go without any bytes, keep-alives included. Default: 60 s, and 300 s where a
    /// [`Fallback`](crate::Fallback) further out has no other tier left and does not act on a
    /// [broken stream](crate::layers::fallback::StreamBreak).
    #[must_use]
    pub fn idle(mut self, limit: Duration) -> Self {
        self.limits.idle.bytes = Some(limit);
        self
    }

    /// Sets how long a stream may go without content: `silent` without keep-alives, `ceiling` in all with them.
    /// Keep-alives do not re-arm either. Default: as [`idle`](Self::idle), and 300 s.
    #[must_use]
    pub fn progress(mut self, silent: Duration, ceiling: Duration) -> Self {
        self.limits.idle.progress = Some(silent);
        self.limits.idle.ceiling = Some(ceiling.max(silent));
        self
    }

    /// Sets the second of the limits of [`progress`](Self::progress) alone.
    #[cfg(feature = "schema")]
    pub(super) fn ceiling(mut self, limit: Duration) -> Self {
        self.limits.idle.ceiling = Some(self.limits.idle.progress.unwrap_or_default().max(limit));
        self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout::new(inner, self.limits, self.silence.clone())
    }
}
