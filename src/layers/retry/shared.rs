use super::policy::Policy;
use crate::layers::call::Spare;

/// The state that all clones and their futures share.
pub(super) struct Shared<S> {
    pub(super) policy: Policy,
    pub(super) spare: Spare<S>,
}
