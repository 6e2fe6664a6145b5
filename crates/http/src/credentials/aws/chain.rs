//! The places where AWS's SDKs look for credentials, in their order.

use super::{
    environment::{self, WebIdentity},
    metadata::{Container, InstanceMetadata},
    profile::Profile,
};
use crate::{
    InvalidConfig,
    credentials::{Machine, Source, SourceError, Token, TokenFuture},
};

/// The default chain.
pub(super) struct DefaultChain {
    machine: Machine,
    profile: Profile,
}

impl DefaultChain {
    /// Checks what can be known without a server: half a pair, a named profile that is not there, a wrong address.
    pub(super) fn new(machine: &Machine) -> Result<Self, InvalidConfig> {
        let profile = Profile::new(machine, None)?;
        let has_keys = environment::token(machine)?.is_some();
        if !has_keys
            && let Err(error) = profile.check()
            && !error.is_absent
        {
            return Err(InvalidConfig::new("AWS_PROFILE", error.to_string()));
        }
        WebIdentity::of(machine)?;
        Container::new(machine).address()?;
        InstanceMetadata::new(machine).address()?;
        Ok(Self { machine: machine.clone(), profile })
    }

    async fn token(&self) -> Result<Token, SourceError> {
        let machine = &self.machine;
        if let Some(token) = environment::token(machine)? {
            return Ok(token);
        }
        let mut reasons = vec!["AWS_ACCESS_KEY_ID is not set".to_owned()];
        let mut passed = |outcome: Result<Token, SourceError>| match outcome {
            Err(error) if error.is_absent => {
                reasons.push(error.to_string());
                None
            }
            outcome => Some(outcome),
        };
        if let Some(outcome) = passed(self.profile.keys().await) {
            return outcome.map_err(|error| error.within(self.profile.name()));
        }
        if let Some(identity) = WebIdentity::of(machine)? {
            return identity.keys().await.map_err(|error| error.within(identity.name()));
        }
        let container = Container::new(machine);
        if let Some(outcome) = passed(container.keys().await) {
            return outcome.map_err(|error| error.within(container.name()));
        }
        let instance = InstanceMetadata::new(machine);
        if let Some(outcome) = passed(instance.keys().await) {
            return outcome.map_err(|error| error.within(instance.name()));
        }
        Err(SourceError::new(format!("there are none: {}", reasons.join("; "))))
    }
}

impl Source for DefaultChain {
    fn name(&self) -> String {
        "the default credentials of AWS".to_owned()
    }

    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(self.token())
    }
}
