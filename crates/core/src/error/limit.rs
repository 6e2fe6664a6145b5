//! The limit on this side that refused a request.

use std::sync::Arc;

/// A limit on this side that refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReachedLimit {
    /// The requests in flight, and the queue behind them.
    Concurrency,
    /// The rate of requests.
    Requests,
    /// The rate of tokens.
    Tokens,
    /// A cap on spending.
    Spending {
        /// The cap's name.
        cap: Arc<str>,
        /// True if the cap counts a single key's requests.
        of_key: bool,
        /// True if the cap counts a single feature's requests.
        of_feature: bool,
        /// True if the cap counts a single team's requests.
        of_team: bool,
    },
    /// The memory that the program around the stack has for [answers](crate::body::AnswerMemory).
    Memory,
    /// A cap that has room, but for what requests in flight have reserved: it is free
    /// again as they end.
    Reserved {
        /// The cap's name.
        cap: Arc<str>,
        /// True if the cap counts a single key's requests.
        of_key: bool,
        /// True if the cap counts a single feature's requests.
        of_feature: bool,
        /// True if the cap counts a single team's requests.
        of_team: bool,
    },
    /// The share of the request's key of this limit, while other keys want the rest.
    Share(Box<Self>),
}

impl ReachedLimit {
    /// Returns the limit of which a share was reached; of no share the limit itself.
    pub fn whole(&self) -> &Self {
        if let Self::Share(of) = self { of } else { self }
    }

    /// Returns true if the limit has room again as soon as others' requests end, though it is about money.
    pub fn is_momentary_cap(&self) -> bool {
        match self {
            Self::Reserved { .. } => true,
            Self::Share(of) => matches!(**of, Self::Spending { .. }),
            _ => false,
        }
    }
}
