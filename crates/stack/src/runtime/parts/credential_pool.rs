//! The credentials for clouds that tiers share.

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
};

use crate::{Cloud, Credential};
use steadfast::{InvalidConfig, providers::credentials::Credentials};
use steadfast_internal::sync::lock;

/// Credentials of all tiers with the same settings.
#[derive(Clone, Debug)]
pub(crate) struct SharedCredentials(Arc<(CredentialSettings, Credentials)>);

impl SharedCredentials {
    pub(crate) fn credentials(&self) -> Credentials {
        self.0.1.clone()
    }

    /// Returns everything that says whose credentials they are, without a secret.
    pub(crate) fn account(&self) -> String {
        format!("{:?}", self.0.0)
    }

    pub(crate) fn secrets(&self) -> &[String] {
        &self.0.0.secrets
    }
}

impl PartialEq for SharedCredentials {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The settings by which credentials are the same. `Debug` shows no secret.
#[derive(PartialEq)]
pub(crate) struct CredentialSettings {
    pub(crate) cloud: Cloud,
    pub(crate) credential: Credential,
    /// The values of the variables that hold the source's secrets.
    pub(crate) secrets: Vec<String>,
    /// The scope of the token, at Azure.
    pub(crate) scope: Option<&'static str>,
}

impl fmt::Debug for CredentialSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cloud.name(), self.credential)
    }
}

/// The credentials that some tier uses, so that tiers with the same settings share one refresh, and a reload keeps it.
#[derive(Default)]
pub(crate) struct CredentialPool(Mutex<Vec<Weak<(CredentialSettings, Credentials)>>>);

impl CredentialPool {
    /// Returns the known credentials of these settings, or new ones.
    pub(crate) fn get(
        &self,
        settings: CredentialSettings,
        new: impl FnOnce(&CredentialSettings) -> Result<Credentials, InvalidConfig>,
    ) -> Result<SharedCredentials, InvalidConfig> {
        let find = |known: &Vec<Weak<(CredentialSettings, Credentials)>>| {
            known.iter().filter_map(Weak::upgrade).find(|known| known.0 == settings).map(SharedCredentials)
        };
        if let Some(known) = find(&lock(&self.0)) {
            return Ok(known);
        }
        // Without the lock: a source may read a file.
        let credentials = new(&settings)?;
        let mut known = lock(&self.0);
        known.retain(|known| known.strong_count() > 0);
        if let Some(known) = find(&known) {
            return Ok(known);
        }
        let new = Arc::new((settings, credentials));
        known.push(Arc::downgrade(&new));
        Ok(SharedCredentials(new))
    }
}
