//! The subject token of a workload in AWS: a signed request for its identity, which Google sends on to AWS.

use super::{State, key::Fields};
use crate::{InvalidConfig, providers::credentials::SourceError};

/// A request for the identity of AWS keys, for one pool.
pub(super) struct AwsSubject;

impl AwsSubject {
    pub(super) fn parse(fields: &Fields<'_>, _audience: &str) -> Result<Self, InvalidConfig> {
        Err(fields.wrong("environment_id", "`aws1` cannot be used yet; use a `file` or a `url` as the source"))
    }

    pub(super) async fn read(&self, _state: &State) -> Result<String, SourceError> {
        Err(SourceError::setup("`aws1` cannot be used yet"))
    }
}
