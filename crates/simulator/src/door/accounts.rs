//! The accounts that doors know: keys, tokens, grants, and models that nobody was given access to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ring::{rsa::KeyPair, signature::KeyPair as _};
use steadfast_internal::{base64, wall_clock};

use super::sigv4::Pair;
use crate::protocol::BAD_KEY;
use crate::refusal::Denial;

/// A cloud whose doors the simulator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    /// Bedrock: `bedrock-runtime` and `bedrock-mantle`.
    Aws,
    /// Azure OpenAI and Foundry.
    Azure,
    /// Vertex AI.
    Google,
}

/// A fault of the token servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenFault {
    /// Status 503.
    Unavailable,
    /// Status 200 with an HTML page, like a captive portal's.
    Html,
    /// No answer at all.
    Hang,
    /// A refusal of the grant, in the token server's own words.
    Refused,
}

/// The accounts that the doors of a simulated provider know, and its token servers.
///
/// Without accounts ([`default`](Self::default)) a door takes each credential of the right form but `bad-key`. With
/// [`new`](Self::new) it takes only what was added here, or issued by a token server: signatures are verified, tokens
/// end. Clones are the same accounts, so that a test changes them while the server runs.
///
/// ```
/// use std::time::Duration;
/// use steadfast_simulator::{Accounts, Cloud};
///
/// let accounts = Accounts::new()
///     .aws_keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
///     .token(Cloud::Azure, "an api-key")
///     .token_for(Cloud::Google, "ya29.first", Duration::from_secs(60));
/// accounts.revoke(Cloud::Azure);
/// assert_eq!(accounts.issued(Cloud::Google), 0);
/// ```
#[derive(Clone)]
pub struct Accounts(Arc<Mutex<State>>);

pub(crate) struct State {
    /// True if the doors take every credential of the right form.
    open: bool,
    only: Option<Cloud>,
    pairs: BTreeMap<String, Pair>,
    tokens: BTreeMap<(Cloud, String), Option<SystemTime>>,
    revoked: BTreeSet<Cloud>,
    closed_models: BTreeSet<(Cloud, String)>,
    /// The seconds by which the server's clock is ahead of this machine's.
    pub(crate) clock: i64,
    pub(crate) life: Duration,
    pub(crate) fault: Option<TokenFault>,
    issued: BTreeMap<Cloud, u64>,
    /// The public keys of service accounts, by their address.
    pub(crate) service_accounts: BTreeMap<String, Vec<u8>>,
    /// Refresh tokens, client secrets, assertions, container tokens: what a token server takes.
    grants: BTreeSet<(Cloud, String)>,
    /// Tokens of sessions with AWS's instance metadata.
    pub(crate) sessions: BTreeSet<String>,
}

impl Default for Accounts {
    fn default() -> Self {
        let accounts = Self::new();
        accounts.lock().open = true;
        accounts
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Accounts").field("open", &state.open).field("revoked", &state.revoked).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Creates accounts that know nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            open: false,
            only: None,
            pairs: BTreeMap::new(),
            tokens: BTreeMap::new(),
            revoked: BTreeSet::new(),
            closed_models: BTreeSet::new(),
            clock: 0,
            life: Duration::from_secs(3600),
            fault: None,
            issued: BTreeMap::new(),
            service_accounts: BTreeMap::new(),
            grants: BTreeSet::new(),
            sessions: BTreeSet::new(),
        })))
    }

    /// Makes the server a door of this cloud only.
    ///
    /// Some paths are those of several clouds (`/anthropic/v1/messages`, `/openai/v1/responses`). Without this setting
    /// the host, the form of the credential and the model's id decide. With it, the paths of other clouds are unknown.
    #[must_use]
    pub fn only(self, cloud: Cloud) -> Self {
        self.lock().only = Some(cloud);
        self
    }

    /// Adds a pair of AWS keys without an end.
    #[must_use]
    pub fn aws_keys(self, key_id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.lock().pairs.insert(key_id.into(), Pair { secret: secret.into(), session: None, expires: None });
        self
    }

    /// Adds a pair of AWS keys with its session token, which ends after this time.
    #[must_use]
    pub fn aws_session(
        self,
        key_id: impl Into<String>,
        secret: impl Into<String>,
        session_token: impl Into<String>,
        life: Duration,
    ) -> Self {
        let expires = Some(wall_clock::now() + life);
        let pair = Pair { secret: secret.into(), session: Some(session_token.into()), expires };
        self.lock().pairs.insert(key_id.into(), pair);
        self
    }

    /// Adds a bearer token or an API key without an end.
    #[must_use]
    pub fn token(self, cloud: Cloud, token: impl Into<String>) -> Self {
        self.lock().tokens.insert((cloud, token.into()), None);
        self
    }

    /// Adds a bearer token that ends after this time.
    #[must_use]
    pub fn token_for(self, cloud: Cloud, token: impl Into<String>, life: Duration) -> Self {
        self.lock().tokens.insert((cloud, token.into()), Some(wall_clock::now() + life));
        self
    }

    /// Adds what a token server takes for a token: a refresh token, a client secret, an assertion of a workload, the
    /// token of a container.
    #[must_use]
    pub fn grant(self, cloud: Cloud, secret: impl Into<String>) -> Self {
        self.lock().grants.insert((cloud, secret.into()));
        self
    }

    /// Adds a Google service account, whose grants are signed with this private key (PKCS#8, PEM).
    ///
    /// # Panics
    ///
    /// If the text is no RSA key in that form: it is a test's.
    #[must_use]
    pub fn service_account(self, email: impl Into<String>, private_key: &str) -> Self {
        let inside: String = private_key.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::decode(inside.trim()).expect("base64 between the lines of the PEM");
        let pair = KeyPair::from_pkcs8(&der).expect("an RSA key in PKCS#8");
        self.lock().service_accounts.insert(email.into(), pair.public_key().as_ref().to_vec());
        self
    }

    /// Sets how long the tokens hold that are issued from now on. Default: an hour.
    #[must_use]
    pub fn token_life(self, life: Duration) -> Self {
        self.lock().life = life;
        self
    }

    /// Sets the fault of the token servers; `None` heals them.
    pub fn token_fault(&self, fault: Option<TokenFault>) {
        self.lock().fault = fault;
    }

    /// Refuses all credentials of this cloud from now on; its token servers issue no more.
    pub fn revoke(&self, cloud: Cloud) {
        self.lock().revoked.insert(cloud);
    }

    /// Takes the credentials of this cloud again.
    pub fn restore(&self, cloud: Cloud) {
        self.lock().revoked.remove(&cloud);
    }

    /// Ends all tokens and sessions of this cloud that have an end. Its token servers issue others.
    pub fn expire(&self, cloud: Cloud) {
        let mut state = self.lock();
        let now = wall_clock::now() - Duration::from_secs(1);
        if cloud == Cloud::Aws {
            state.pairs.values_mut().for_each(|pair| pair.expires = pair.expires.map(|_| now));
        }
        let tokens = state.tokens.iter_mut().filter(|((of, _), _)| *of == cloud);
        tokens.for_each(|(_, expires)| *expires = expires.map(|_| now));
    }

    /// Refuses this model: the account has no access to it.
    pub fn close_model(&self, cloud: Cloud, model: impl Into<String>) {
        self.lock().closed_models.insert((cloud, model.into()));
    }

    /// Sets the seconds by which the doors' clock is ahead of this machine's, or behind it if negative.
    pub fn clock_ahead(&self, seconds: i64) {
        self.lock().clock = seconds;
    }

    /// Returns the number of tokens that the token servers of this cloud have issued.
    #[must_use]
    pub fn issued(&self, cloud: Cloud) -> u64 {
        self.lock().issued.get(&cloud).copied().unwrap_or(0)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn restriction(&self) -> Option<Cloud> {
        self.lock().only
    }

    /// Returns the date by the doors' clock.
    pub(crate) fn now(&self) -> SystemTime {
        self.lock().now()
    }

    /// Judges a bearer token or an API key.
    pub(super) fn judge(&self, cloud: Cloud, token: Option<&str>) -> Result<(), Denial> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Err(Denial::Missing) };
        let state = self.lock();
        if token == BAD_KEY || state.revoked.contains(&cloud) {
            return Err(Denial::Unknown);
        }
        match state.tokens.get(&(cloud, token.to_owned())) {
            Some(Some(end)) if *end <= state.now() => Err(Denial::Expired),
            Some(_) => Ok(()),
            None if state.open => Ok(()),
            None => Err(Denial::Unknown),
        }
    }

    /// Returns the pair with this id; `None` where no account is known.
    pub(super) fn pair(&self, key_id: &str) -> Result<Option<Pair>, Denial> {
        let state = self.lock();
        if key_id == BAD_KEY || state.revoked.contains(&Cloud::Aws) {
            return Err(Denial::Unknown);
        }
        match state.pairs.get(key_id) {
            None if state.open => Ok(None),
            pair => pair.cloned().map(Some).ok_or(Denial::Unknown),
        }
    }

    /// Refuses a model that the account may not use.
    pub(super) fn judge_model(&self, cloud: Cloud, model: &str) -> Result<(), Denial> {
        let closed = self.lock().closed_models.contains(&(cloud, model.to_owned()));
        if closed { Err(Denial::Model(model.to_owned())) } else { Ok(()) }
    }
}

impl State {
    pub(crate) fn now(&self) -> SystemTime {
        let off = Duration::from_secs(self.clock.unsigned_abs());
        if self.clock < 0 { wall_clock::now() - off } else { wall_clock::now() + off }
    }

    /// Returns true if a token server takes this secret.
    pub(crate) fn takes(&self, cloud: Cloud, secret: &str) -> bool {
        let known = self.open || self.grants.contains(&(cloud, secret.to_owned()));
        !secret.is_empty() && secret != BAD_KEY && known && !self.revoked.contains(&cloud)
    }

    pub(crate) fn is_revoked(&self, cloud: Cloud) -> bool {
        self.revoked.contains(&cloud)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Issues a bearer token of this cloud.
    pub(crate) fn issue(&mut self, cloud: Cloud, prefix: &str) -> String {
        let number = self.count(cloud);
        let token = format!("{prefix}simulated-{number}");
        let expires = self.now() + self.life;
        self.tokens.insert((cloud, token.clone()), Some(expires));
        token
    }

    /// Issues a pair of AWS keys: id, secret and session token.
    pub(crate) fn issue_pair(&mut self) -> [String; 3] {
        let number = self.count(Cloud::Aws);
        let [id, secret, session] = [
            format!("ASIASIMULATED{number:07}"),
            format!("secret/simulated+{number}"),
            format!("session/simulated+{number}=="),
        ];
        let expires = Some(self.now() + self.life);
        self.pairs.insert(id.clone(), Pair { secret: secret.clone(), session: Some(session.clone()), expires });
        [id, secret, session]
    }

    fn count(&mut self, cloud: Cloud) -> u64 {
        let number = self.issued.entry(cloud).or_default();
        *number += 1;
        *number
    }
}
