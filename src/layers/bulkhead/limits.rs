use std::time::Duration;

use super::{Adaptive, Rate};

/// The limits of one feature. See the [module docs](super).
///
/// A number converts into it: so many requests in flight, with the layer's settings for the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub(super) concurrency: usize,
    pub(super) queue: Option<usize>,
    pub(super) max_wait: Option<Duration>,
    pub(super) requests: Option<Rate>,
    pub(super) tokens: Option<Rate>,
    pub(super) adaptive: Option<Adaptive>,
}

impl Limits {
    /// Limits the requests in flight at once. 0 is closed; more than 4,194,303 counts as that.
    pub fn new(concurrency: usize) -> Self {
        Self { concurrency, queue: None, max_wait: None, requests: None, tokens: None, adaptive: None }
    }

    /// Sets how many requests may wait, up to 1,048,575. Default: the [layer's](super::BulkheadLayer::queue).
    #[must_use]
    pub fn queue(mut self, len: usize) -> Self {
        self.queue = Some(len);
        self
    }

    /// Sets how long a request may wait. Default: the [layer's](super::BulkheadLayer::max_wait).
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    /// Sets how many requests may be sent in a minute. Default: any number.
    ///
    /// Without a queue, a request over the rate is refused, and the error's
    /// [`retry_after`](crate::LlmError::retry_after) is the exact time until it would pass. With one it waits for
    /// that time, in its place, if the maximum wait and the deadline allow it.
    #[must_use]
    pub fn requests_per_minute(mut self, rate: impl Into<Rate>) -> Self {
        self.requests = Some(rate.into());
        self
    }

    /// Sets how many tokens may be sent and received in a minute. Default: any number.
    ///
    /// A request's tokens are known only afterwards, so the layer charges an estimate when it sends the request:
    /// its `max_tokens` (1,024 without, and at most the model's longest answer) and a token for each four bytes of its
    /// text. When its answer ends and reports its tokens, the charge is corrected, both ways. A request that breaks, or
    /// whose caller leaves, is charged for its prompt and the text that came. A request that was never sent is
    /// refunded. One that failed at the provider is not, since providers count it too (OpenAI, "Rate limits"), but for
    /// the answer of one that the provider refused as wrong.
    #[must_use]
    pub fn tokens_per_minute(mut self, rate: impl Into<Rate>) -> Self {
        self.tokens = Some(rate.into());
        self
    }

    /// Lets the number in flight follow the provider's capacity. Default: it stays as it is set.
    #[must_use]
    pub fn adaptive(mut self, bounds: Adaptive) -> Self {
        self.adaptive = Some(bounds);
        self
    }
}

impl From<usize> for Limits {
    fn from(concurrency: usize) -> Self {
        Self::new(concurrency)
    }
}
