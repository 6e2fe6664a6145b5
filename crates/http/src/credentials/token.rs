//! Tokens: what a source of credentials gives.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::internal::wall_clock;

/// A token, or a pair of AWS keys, with the time at which it ends.
///
/// `Debug` shows neither the token nor the keys.
///
/// ```
/// use std::time::Duration;
/// use steadfast::providers::credentials::Token;
///
/// let token = Token::bearer("eyJhbGciOi..").expires_in(Duration::from_secs(3600));
/// assert!(!format!("{token:?}").contains("eyJ"));
/// ```
#[derive(Clone)]
pub struct Token {
    pub(crate) identity: Identity,
    pub(crate) expires: Option<SystemTime>,
    /// The project that Google bills, for the header `x-goog-user-project`.
    pub(crate) quota_project: Option<Arc<str>>,
}

/// The secret of a token.
#[derive(Clone)]
pub(crate) enum Identity {
    /// Goes into a header as it is.
    Bearer(Arc<str>),
    /// Signs requests.
    Aws(AwsKeys),
}

/// A pair of AWS keys, with the session that it belongs to.
#[derive(Clone)]
pub(crate) struct AwsKeys {
    pub(crate) id: Arc<str>,
    pub(crate) secret: Arc<str>,
    pub(crate) session: Option<Arc<str>>,
}

impl Token {
    /// Creates a bearer token, without the white space around it. It does not end.
    pub fn bearer(text: impl Into<Arc<str>>) -> Self {
        Self { identity: Identity::Bearer(trimmed(text.into())), expires: None, quota_project: None }
    }

    /// Creates a pair of AWS keys, with the session token of temporary keys. It does not end.
    pub fn aws(key_id: impl Into<Arc<str>>, secret: impl Into<Arc<str>>, session: Option<Arc<str>>) -> Self {
        let session = session.map(trimmed).filter(|session| !session.is_empty());
        let keys = AwsKeys { id: trimmed(key_id.into()), secret: trimmed(secret.into()), session };
        Self { identity: Identity::Aws(keys), expires: None, quota_project: None }
    }

    /// Sets the time at which it ends, by this machine's clock.
    #[must_use]
    pub fn expires_at(mut self, end: SystemTime) -> Self {
        self.expires = Some(end);
        self
    }

    /// Sets the time for which it holds from now. A clock that is wrong does no harm here.
    #[must_use]
    pub fn expires_in(mut self, life: Duration) -> Self {
        // An end beyond the clock's range is none.
        self.expires = wall_clock::now().checked_add(life);
        self
    }

    /// Sets the project whose quota Google counts and which it bills (`x-goog-user-project`). Default: the project of
    /// the credentials themselves, which a user's have none of.
    ///
    /// Source: <https://cloud.google.com/docs/quotas/set-quota-project>
    #[must_use]
    pub fn quota_project(mut self, project: impl Into<Arc<str>>) -> Self {
        self.quota_project = Some(project.into());
        self
    }

    /// Returns the time for which it still holds; `None` if it does not end.
    pub(crate) fn life(&self) -> Option<Duration> {
        Some(self.expires?.duration_since(wall_clock::now()).unwrap_or_default())
    }

    /// Returns the problem of a token that no header can carry, if it is one.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let is_sendable = |text: &str| !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
        match &self.identity {
            Identity::Bearer(text) if text.is_empty() => Some("the token is empty"),
            Identity::Bearer(text) if !is_sendable(text) => Some("the token has characters that no token has"),
            Identity::Aws(keys) if !is_sendable(&keys.id) => Some("the access key id is empty, or no key id"),
            Identity::Aws(keys) if keys.secret.is_empty() => Some("the secret access key is empty"),
            Identity::Aws(AwsKeys { session: Some(session), .. }) if !is_sendable(session) => {
                Some("the session token has characters that no token has")
            }
            _ => None,
        }
    }
}

fn trimmed(text: Arc<str>) -> Arc<str> {
    let inner = text.trim();
    if inner.len() == text.len() { text } else { inner.into() }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.life();
        f.debug_struct("Token").field("identity", &self.identity).field("ends_in", &life).finish()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer(_) => f.write_str("Bearer(..)"),
            Self::Aws(_) => f.write_str("Aws(..)"),
        }
    }
}

impl fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsKeys(..)")
    }
}
