use steadfast::layers::{budget::CapSpend, bulkhead::RateLevel};

/// The part of a key's limits that is left.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    pub(crate) requests: Option<RateLevel>,
    pub(crate) tokens: Option<RateLevel>,
    /// The caps under which a call counts.
    pub(crate) caps: Vec<CapSpend>,
}

impl Allowance {
    /// Returns whether the key has no limits.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none() && self.caps.is_empty()
    }
}
