use super::shared::Shared;
use crate::{internal::sharded::ShardedArc, layers::call::Spare};

/// The parts that all clones and their futures share. They are one, so that a call owns one reference.
pub(crate) struct Core<S> {
    /// The part that the layer's other services share too.
    pub(super) shared: ShardedArc<Shared>,
    /// The primary once more, for a request that comes back to it after a rate limit.
    pub(super) spare: Spare<S>,
}
