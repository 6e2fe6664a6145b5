//! What can go wrong, and how often.

use std::{fmt, time::Duration};

/// One way in which a provider fails a call.
///
/// Each is acted out as the provider itself does it: with its status, headers and body where it
/// answers at all.
///
/// In process, a request may bring one as an [extension](crate::LlmRequest::extension): then every call that is made for it fails
/// so, whatever the script says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Status 500, the provider's own error body.
    ServerError,
    /// Status 502 from the edge before the provider, in the form it took on 2023-11-08.
    BadGateway,
    /// Status 503 with the provider's own error body.
    Unavailable,
    /// The provider says that it has too much load: 529 from Anthropic, 503 from the others.
    Overloaded,
    /// Status 429, with the provider's way of naming a wait, or without one.
    RateLimited {
        /// The wait to ask for. `None`: an answer that says nothing about it.
        retry_after: Option<Duration>,
    },
    /// Status 429 with a body of no known shape, as an edge sends it while it lets traffic back in.
    ComeBackLater,
    /// Status 429 that says the account has no money left, whether or not that is so.
    InsufficientQuota,
    /// Status 401: the key is not accepted, whether or not it is good.
    Unauthorized,
    /// Status 400: the request is not accepted, whether or not it is good.
    BadRequest,
    /// The prompt is longer than the model's context.
    ContextLength,
    /// Status 400 (Gemini: a 200 without candidates): what was asked is against the provider's policy.
    ContentFilter,
    /// Status 400 for a conversation that ends with a turn of the model's, for it to go on from. Every other is answered.
    NoPrefill,
    /// Any other status, with an HTML page as an edge sends it (530, 522, ..).
    Status(u16),
    /// No connection. A server that is up cannot refuse, so over HTTP this is a connection reset
    /// before the first byte of the answer.
    Refused,
    /// The request is taken, and nothing ever comes back.
    Hang,
    /// The answer is healthy, but so much later.
    Slow(Duration),
    /// A well-formed answer without content.
    Empty,
    /// The connection breaks after this many tokens.
    CutAfter(u32),
    /// The answer ends in good order after this many tokens, but without its end mark.
    TruncatedAfter(u32),
    /// The answer is whole and ends in good order, but for the end mark: no `[DONE]`, no `message_stop`, and in Gemini's
    /// protocol no reason for the end. Without streaming nothing is missing.
    NoEndMark,
    /// After this many tokens comes an event that is no JSON, and then the rest. Without streaming the body is no JSON.
    MalformedAfter(u32),
    /// Silence after this many tokens; the connection stays open.
    StallAfter(u32),
    /// Signs of life and no content, without an end.
    KeepAlivesOnly {
        /// The time between two of them, at least 1 ms.
        every: Duration,
    },
    /// Status 200, and after this many tokens an error event inside the stream. Without streaming,
    /// an error body under status 200.
    ErrorEventAfter(u32),
    /// Status 200 with an HTML page.
    HtmlPage,
}

impl Fault {
    /// A short name for counting, without the fault's numbers: `server_error`, `cut`, ..
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

/// Which faults occur, and with what probability each.
///
/// What the probabilities leave over is healthy. Where they add up to more than 1 they are scaled
/// down to 1; a probability that is negative or not a number counts as 0.
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
    /// No faults.
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

    /// The fault for a number from 0 (included) to 1 (excluded), or `None` where the call is healthy.
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
    /// This fault on every call.
    fn from(fault: Fault) -> Self {
        Self::new().with(1.0, fault)
    }
}

/// A stretch of time in which a provider fails.
///
/// The times count from the moment the [`Simulated`](super::Simulated) provider was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    from: Duration,
    to: Duration,
    faults: FaultMix,
    ramp_in: Duration,
}

impl Outage {
    /// Faults from `from` (included) to `to` (excluded). A single [`Fault`] means every call; a
    /// [`FaultMix`] makes the outage partial.
    #[must_use]
    pub fn new(from: Duration, to: Duration, faults: impl Into<FaultMix>) -> Self {
        Self { from, to, faults: faults.into(), ramp_in: Duration::ZERO }
    }

    /// Lets the probability of a fault grow in a straight line over the first part of the outage,
    /// as when caches run out one after the other. Default: all at once.
    #[must_use]
    pub fn ramp_in(mut self, over: Duration) -> Self {
        self.ramp_in = over;
        self
    }

    /// The fault at `since_start` for a number from 0 to 1, or `None` where the call is healthy.
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
        // Below the severity the roll is again uniform, so the shares of the mix stay the same.
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
