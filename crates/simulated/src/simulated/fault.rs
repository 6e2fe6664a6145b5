//! Faults of a provider, and their probabilities.

use std::{fmt, time::Duration};

/// One way in which a provider fails a call.
///
/// The simulated provider acts each out as the real one does: with its status, headers and body, if it answers at all.
///
/// In process, a request may carry one as an [extension](crate::LlmRequest::with_extension): every call for that
/// request then fails so, in place of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Status 500, the provider's own error body.
    ServerError,
    /// Status 502 from the edge before the provider, in the form seen on 2023-11-08.
    BadGateway,
    /// Status 503 with the provider's own error body.
    Unavailable,
    /// The provider reports too much load: 529 from Anthropic, 503 from the others.
    Overloaded,
    /// Status 429, with the provider's way of naming a wait, or without one.
    RateLimited {
        /// The wait to ask for. `None`: the answer names none.
        retry_after: Option<Duration>,
    },
    /// Status 429 with a body of no known shape, like an edge that slowly lets traffic back in.
    ComeBackLater,
    /// Status 429 that reports an account without money, true or not.
    InsufficientQuota,
    /// Status 401: the provider refuses the key, even a good one.
    Unauthorized,
    /// Status 400: the provider refuses the request, even a good one.
    BadRequest,
    /// The prompt is longer than the model's context.
    ContextLength,
    /// Status 400 (Gemini: a 200 without candidates): the request is against the provider's policy.
    ContentFilter,
    /// Status 400 for a conversation that ends with a turn of the model's, for it to continue. Every other is answered.
    NoPrefill,
    /// Any other status, with an HTML page like an edge's (530, 522, ..).
    Status(u16),
    /// No connection. A server that is up cannot refuse, so over HTTP this is a connection reset before the first byte
    /// of the answer.
    Refused,
    /// The provider takes the request and never answers.
    Hang,
    /// The answer is healthy, but later by this much.
    Slow(Duration),
    /// A well-formed answer without content.
    Empty,
    /// The connection breaks after this many tokens.
    CutAfter(u32),
    /// The answer ends in good order after this many tokens, but without its end mark.
    TruncatedAfter(u32),
    /// The answer is whole and ends in good order, but without its end mark: no `[DONE]`, no `message_stop`, and in
    /// Gemini's protocol no finish reason. Without streaming nothing is missing.
    NoEndMark,
    /// An event that is no JSON after this many tokens, and then the rest. Without streaming the body is no JSON.
    MalformedAfter(u32),
    /// Silence after this many tokens; the connection stays open.
    StallAfter(u32),
    /// Keep-alives without content and without an end.
    KeepAlivesOnly {
        /// The time between two of them, at least 1 ms.
        every: Duration,
    },
    /// Status 200, and after this many tokens an error event inside the stream. Without streaming, an error body under
    /// status 200.
    ErrorEventAfter(u32),
    /// Status 200 with an HTML page.
    HtmlPage,
}

impl Fault {
    /// Returns a short name for counting, without the fault's numbers: `server_error`, `cut`, ..
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ServerError => "server_error",
            Self::BadGateway => "bad_gateway",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::RateLimited { .. } => "rate_limited",
            Self::ComeBackLater => "come_back_later",
            Self::InsufficientQuota => "insufficient_quota",
            Self::Unauthorized => "unauthorized",
            Self::BadRequest => "bad_request",
            Self::ContextLength => "context_length",
            Self::ContentFilter => "content_filter",
            Self::NoPrefill => "no_prefill",
            Self::Status(_) => "status",
            Self::Refused => "refused",
            Self::Hang => "hang",
            Self::Slow(_) => "slow",
            Self::Empty => "empty",
            Self::CutAfter(_) => "cut",
            Self::TruncatedAfter(_) => "truncated",
            Self::NoEndMark => "no_end_mark",
            Self::MalformedAfter(_) => "malformed",
            Self::StallAfter(_) => "stall",
            Self::KeepAlivesOnly { .. } => "keep_alives_only",
            Self::ErrorEventAfter(_) => "error_event",
            Self::HtmlPage => "html_page",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The faults of a provider, each with its probability.
///
/// The remaining probability is healthy. Probabilities with a sum above 1 are scaled down to 1; a negative one or NaN
/// counts as 0.
///
/// ```
/// use steadfast::providers::simulated::{Fault, FaultMix};
///
/// // one call in four fails, mostly with a 500
/// let grey = FaultMix::new().with(0.20, Fault::ServerError).with(0.05, Fault::Overloaded);
/// assert_eq!(grey.pick(0.10), Some(&Fault::ServerError));
/// assert_eq!(grey.pick(0.22), Some(&Fault::Overloaded));
/// assert_eq!(grey.pick(0.90), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultMix {
    faults: Vec<(f64, Fault)>,
}

impl FaultMix {
    /// Creates a mix without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault with its probability, from 0 to 1.
    #[must_use]
    pub fn with(mut self, probability: f64, fault: Fault) -> Self {
        let probability = if probability > 0.0 { probability.min(1.0) } else { 0.0 };
        self.faults.push((probability, fault));
        self
    }

    /// Returns the fault for a number from 0 (included) to 1 (excluded), or `None` if the call is healthy.
    #[must_use]
    pub fn pick(&self, roll: f64) -> Option<&Fault> {
        let total: f64 = self.faults.iter().map(|(p, _)| p).sum();
        let mut left = roll * total.max(1.0);
        for (probability, fault) in &self.faults {
            if left < *probability {
                return Some(fault);
            }
            left -= probability;
        }
        None
    }
}

impl From<Fault> for FaultMix {
    /// Creates a mix of this fault on every call.
    fn from(fault: Fault) -> Self {
        Self::new().with(1.0, fault)
    }
}

/// A period in which a provider fails.
///
/// The times count from the creation of the [`Simulated`](super::Simulated) provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    from: Duration,
    to: Duration,
    faults: FaultMix,
    ramp_in: Duration,
}

impl Outage {
    /// Creates an outage from `from` (included) to `to` (excluded). A single [`Fault`] hits every call; a [`FaultMix`]
    /// makes the outage partial.
    #[must_use]
    pub fn new(from: Duration, to: Duration, faults: impl Into<FaultMix>) -> Self {
        Self { from, to, faults: faults.into(), ramp_in: Duration::ZERO }
    }

    /// Lets the probability of a fault rise linearly over the first part of the outage, like caches that run out one
    /// after the other. Default: all at once.
    #[must_use]
    pub fn ramp_in(mut self, over: Duration) -> Self {
        self.ramp_in = over;
        self
    }

    /// Returns the fault at `since_start` for a number from 0 to 1, or `None` if the call is healthy.
    #[must_use]
    pub fn pick(&self, since_start: Duration, roll: f64) -> Option<&Fault> {
        if since_start < self.from || since_start >= self.to {
            return None;
        }
        let into = since_start - self.from;
        let severity = if into < self.ramp_in { into.as_secs_f64() / self.ramp_in.as_secs_f64() } else { 1.0 };
        if roll >= severity {
            return None;
        }
        // Below the severity the roll is again uniform, so that the shares of the mix stay the same.
        self.faults.pick(roll / severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_beyond_one_are_scaled_down() {
        let mix = FaultMix::new().with(1.0, Fault::ServerError).with(1.0, Fault::Hang);
        assert_eq!(mix.pick(0.49), Some(&Fault::ServerError));
        assert_eq!(mix.pick(0.51), Some(&Fault::Hang));
        assert_eq!(mix.pick(0.999_999), Some(&Fault::Hang));
    }

    #[test]
    fn nonsense_probabilities_never_fault() {
        let mix = FaultMix::new().with(f64::NAN, Fault::ServerError).with(-1.0, Fault::Hang);
        assert_eq!(mix.pick(0.0), None);
        assert_eq!(FaultMix::new().pick(0.0), None);
    }

    #[test]
    fn an_outage_starts_and_ends_on_time() {
        let second = Duration::from_secs(1);
        let outage = Outage::new(10 * second, 20 * second, Fault::Unavailable);
        assert_eq!(outage.pick(9 * second, 0.5), None);
        assert_eq!(outage.pick(10 * second, 0.5), Some(&Fault::Unavailable));
        assert_eq!(outage.pick(19 * second, 0.999), Some(&Fault::Unavailable));
        assert_eq!(outage.pick(20 * second, 0.0), None);
    }

    #[test]
    fn an_outage_that_ramps_in_grows_in_a_straight_line() {
        let second = Duration::from_secs(1);
        let outage = Outage::new(Duration::ZERO, 100 * second, Fault::Hang).ramp_in(10 * second);
        assert_eq!(outage.pick(Duration::ZERO, 0.0), None);
        assert_eq!(outage.pick(5 * second, 0.49), Some(&Fault::Hang));
        assert_eq!(outage.pick(5 * second, 0.51), None);
        assert_eq!(outage.pick(11 * second, 0.99), Some(&Fault::Hang));
    }

    #[test]
    fn a_partial_outage_keeps_its_shares_while_it_ramps_in() {
        let second = Duration::from_secs(1);
        let mix = FaultMix::new().with(0.5, Fault::Hang).with(0.25, Fault::Empty);
        let outage = Outage::new(Duration::ZERO, 100 * second, mix).ramp_in(10 * second);
        let count = |fault: &Fault| {
            (0..1000).filter(|i| outage.pick(5 * second, f64::from(*i) / 1000.0) == Some(fault)).count()
        };
        assert_eq!(count(&Fault::Hang), 250);
        assert_eq!(count(&Fault::Empty), 125);
    }
}
