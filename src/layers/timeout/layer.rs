use std::time::Duration;

use tower::Layer;

use super::Timeout;
use crate::body::IdleLimits;

/// Applies [`Timeout`]. See the [module docs](super).
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) total: Duration,
    pub(super) first_token: Option<Duration>,
    pub(super) idle: IdleLimits,
}

/// The default idle limit: as long as most proxies keep a silent connection.
const IDLE: Duration = Duration::from_secs(60);
/// The default ceiling while keep-alives come: the longest silent reasoning seen in practice is some minutes.
const CEILING: Duration = Duration::from_secs(300);

impl TimeoutLayer {
    /// The response must be there within `total`: a whole answer, or a stream's first token. A stream may then be
    /// silent for at most 60 s, or go 300 s without content while keep-alives come; see [`idle`](Self::idle) and
    /// [`progress`](Self::progress).
    ///
    /// `Duration::ZERO` refuses whatever is not ready at once; `Duration::MAX` is no limit.
    pub fn new(total: Duration) -> Self {
        let idle = IdleLimits { bytes: Some(IDLE), progress: Some(IDLE), ceiling: Some(CEILING) };
        Self { limits: Limits { total, first_token: None, idle } }
    }

    /// Sets the limit for the first token of a streaming request. It has no meaning for others. Default: the total.
    #[must_use]
    pub fn first_token(mut self, limit: Duration) -> Self {
        self.limits.first_token = Some(limit);
        self
    }

    /// Sets how long a stream may go without anything at all, keep-alives included. Default: 60 s.
    #[must_use]
    pub fn idle(mut self, limit: Duration) -> Self {
        self.limits.idle.bytes = Some(limit);
        self
    }

    /// Sets how long a stream may go without content: `silent` when nothing else comes either, `ceiling` in all while
    /// keep-alives do come. Keep-alives do not re-arm either. Default: 60 s and 300 s.
    #[must_use]
    pub fn progress(mut self, silent: Duration, ceiling: Duration) -> Self {
        self.limits.idle.progress = Some(silent);
        self.limits.idle.ceiling = Some(ceiling.max(silent));
        self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout::new(inner, self.limits)
    }
}
