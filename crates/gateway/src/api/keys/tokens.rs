//! Callers with a token of an identity provider.
//!
//! The first token of a caller makes a key of it, `oidc:` and its name, which stays: so its rates, caps and objects are
//! the caller's own, whichever token it shows. Of two tokens the one that was issued later says what the caller may. A
//! key of that name in the file or the store decides in place of the tokens.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Map, Value};
use steadfast::layers::budget::KeyGroup;
use steadfast_internal::recent::Recent;
use steadfast_oidc::{Claims, Issuer, TokenError, TokenVerifier};
use steadfast_stack::{Budget, Config, Oidc, OidcClaims};
use tokio::time::{Instant, timeout};

use super::{
    Key, Keys,
    denial::Denial,
    entry::{KeyEntry, KeyRecord},
    set::KeySet,
    teams::Teams,
};
use crate::{error::ServeError, lock::lock};

/// The most tokens whose callers are remembered, so that their next requests cost no signature.
const MOST_SEEN: usize = 100_000;
/// The most callers.
const MOST_CALLERS: usize = 100_000;
/// The longest name of a caller, in bytes.
const LONGEST_NAME: usize = 256;
/// The time for which a start waits for the identity provider: callers with keys need it not.
const START_WAIT: Duration = Duration::from_secs(2);
/// The limits of tokens that name no others.
const DEFAULT: &str = "default";

/// The identity provider, and what its tokens' callers may do.
pub(super) struct Tokens {
    pub(super) verifier: Arc<TokenVerifier>,
    claims: OidcClaims,
    limits: HashMap<Box<str>, Limits>,
    callers: Arc<Callers>,
    /// Tokens that were verified, by their hashes.
    seen: Mutex<Recent<[u8; 32], SeenToken>>,
}

/// Limits by name.
struct Limits {
    record: KeyRecord,
    /// The callers that have them, each with the whole budget.
    group: KeyGroup,
}

/// The callers that have shown a token, by name.
type Callers = Mutex<HashMap<Arc<str>, Caller>>;

/// A caller by token.
struct Caller {
    key: Arc<Key>,
    /// The name of its limits, if it has any.
    limits: Option<Box<str>>,
    /// The time at which the token was issued that says so, since 1970.
    issued: Duration,
}

/// A token that was verified.
#[derive(Clone)]
struct SeenToken {
    /// Its end, since 1970.
    ends: Duration,
    /// The reading of the keys that verified it: it ends with its key.
    read: Option<Instant>,
    caller: Arc<str>,
}

impl Tokens {
    /// Reads the configuration's part.
    ///
    /// # Errors
    ///
    /// The issuer or one of the limits is wrong, or the configuration lacks a name of theirs.
    fn new(oidc: &Oidc, config: &Config) -> Result<Self, ServeError> {
        let mut issuer = Issuer::new(&oidc.issuer, &oidc.audience).map_err(wrong)?;
        if let Some(jwks) = &oidc.jwks {
            issuer = issuer.keys_at(jwks).map_err(wrong)?;
        }
        if let Some(names) = &oidc.algorithms {
            issuer = issuer.algorithms(names.iter().map(String::as_str)).map_err(wrong)?;
        }
        let callers = Arc::<Callers>::default();
        let limits = oidc.limits.iter().map(|(name, fields)| {
            let record = limits(name, fields).map_err(|problem| wrong(format!("limits.{name}: {problem}")))?;
            if let Some(problem) = record.unknown_names(config).first() {
                return Err(wrong(format!("limits.{name}: {problem}")));
            }
            let (all, own) = (callers.clone(), Box::<str>::from(name.as_str()));
            let group = KeyGroup::new(move |key| {
                lock(&all).get(key).is_some_and(|caller| caller.limits.as_deref() == Some(&*own))
            });
            Ok((name.as_str().into(), Limits { record, group }))
        });
        let limits = limits.collect::<Result<_, ServeError>>()?;
        let (verifier, claims) = (Arc::new(TokenVerifier::new(issuer)), oidc.claims.clone());
        Ok(Self { verifier, claims, limits, callers, seen: Mutex::new(Recent::new(MOST_SEEN)) })
    }

    /// Returns the reason for which no token can be verified yet.
    pub(super) fn missing(&self) -> Option<&'static str> {
        self.verifier.is_unread().then_some("the identity provider's keys cannot be read")
    }

    /// Returns the caps of the limits.
    pub(super) fn caps(&self) -> Vec<Budget> {
        let budgets = self.limits.iter().filter_map(|(name, limits)| {
            let budget = limits.record.entry.budget.as_ref()?;
            Some(budget.cap_of_each(name, &limits.group))
        });
        budgets.collect()
    }

    /// Returns the key of a caller that has shown a token.
    pub(super) fn caller(&self, name: &str) -> Option<Arc<Key>> {
        lock(&self.callers).get(name).map(|caller| caller.key.clone())
    }

    /// Forgets the callers for whom keys decide.
    pub(super) fn forget(&self, keys: &KeySet) {
        lock(&self.callers).retain(|name, _| keys.named(name).is_none());
    }

    /// Returns the caller of a token that was seen before and goes on.
    fn seen(&self, digest: &[u8; 32], now: Duration) -> Option<Arc<str>> {
        let token = lock(&self.seen).get(digest)?;
        (now < token.ends && token.read == self.verifier.read_at()).then_some(token.caller)
    }

    /// Returns the record of a caller by its claims, and the name of its limits.
    fn record(&self, claims: &Claims) -> Result<(KeyRecord, Option<Box<str>>), Denial> {
        let name = claims.text(&self.claims.name).filter(|name| name.len() <= LONGEST_NAME);
        let name = name.ok_or(Denial::Token(TokenError::Claim))?;
        let named = self.claims.limits.iter().flat_map(|claim| claims.texts(claim));
        let limits = named.chain([DEFAULT]).find_map(|name| self.limits.get_key_value(name));
        let (mut record, limits) = match limits {
            Some((name, limits)) => (limits.record.clone(), Some(name.clone())),
            None if self.limits.is_empty() => (KeyRecord::default(), None),
            None => return Err(Denial::NoLimits),
        };
        record.entry.name = format!("oidc:{name}").into();
        if let Some(claim) = &self.claims.team {
            record.entry.team = claims.texts(claim).first().map(|team| (*team).into()).or(record.entry.team);
        }
        if let Some(claim) = &self.claims.features {
            let allowed = record.entry.features.take();
            let is_allowed = |feature: &&str| allowed.iter().flatten().any(|allowed| **allowed == **feature);
            let named = claims.texts(claim).into_iter().filter(|feature| allowed.is_none() || is_allowed(feature));
            record.entry.features = Some(named.map(Into::into).collect());
        }
        Ok((record, limits))
    }

    /// Makes a caller known, and returns its key: what the latest of its tokens says.
    fn admit(
        &self,
        record: KeyRecord,
        limits: Option<Box<str>>,
        issued: Duration,
        teams: &Teams,
    ) -> Result<Arc<Key>, Denial> {
        let mut callers = lock(&self.callers);
        if let Some(caller) = callers.get_mut(&*record.entry.name)
            && (caller.issued > issued || (&*caller.key.record, &caller.limits) == (&record, &limits))
        {
            caller.issued = caller.issued.max(issued);
            return Ok(caller.key.clone());
        }
        let known = callers.get(&*record.entry.name);
        if known.is_none() && callers.len() >= MOST_CALLERS {
            return Err(Denial::KeysAway);
        }
        let key = Arc::new(Key::new(Arc::new(record), known.map(|caller| &*caller.key), teams));
        callers.insert(key.name.clone(), Caller { key: key.clone(), limits, issued });
        Ok(key)
    }
}

/// Reads limits: the fields of a key's entry without a name and hashes.
fn limits(name: &str, fields: &Map<String, Value>) -> Result<KeyRecord, String> {
    for field in ["name", "hash", "hashes", "expires", "paused"] {
        if fields.contains_key(field) {
            return Err(format!("`{field}` is for a key, and a token has its own"));
        }
    }
    let mut fields = fields.clone();
    fields.insert("name".to_owned(), name.into());
    let entry: KeyEntry = serde_json::from_value(fields.into()).map_err(|error| error.to_string())?;
    entry.check()?;
    Ok(KeyRecord { entry, hashes: Vec::new() })
}

fn wrong(problem: impl std::fmt::Display) -> ServeError {
    ServeError::invalid(format_args!("gateway.oidc: {problem}"))
}

/// Returns whether a secret is a token by its form.
fn is_token(shown: &str) -> bool {
    shown.starts_with("eyJ") && shown.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Keys {
    /// Checks the configuration's part for callers by token, and returns its caps.
    ///
    /// # Errors
    ///
    /// The issuer or one of the limits is wrong.
    pub(crate) fn check_tokens(config: &Config) -> Result<Vec<Budget>, ServeError> {
        config.gateway.oidc.as_ref().map_or(Ok(Vec::new()), |oidc| Ok(Tokens::new(oidc, config)?.caps()))
    }

    /// Adds the callers of an identity provider, whose keys the first [turn](TokenVerifier::follow) reads.
    ///
    /// # Errors
    ///
    /// The configuration's part is wrong.
    pub(crate) fn with_tokens(mut self, oidc: &Oidc, config: &Config) -> Result<Self, ServeError> {
        self.tokens = Some(Tokens::new(oidc, config)?);
        Ok(self)
    }

    /// Reads the identity provider's keys at a start. Without them its callers are told to come again.
    pub(super) async fn read_issuer(&self) {
        let Some(tokens) = &self.tokens else { return };
        let read =
            timeout(START_WAIT, tokens.verifier.read_keys()).await.unwrap_or_else(|_| Err("no answer yet".to_owned()));
        if let Err(problem) = read {
            tracing::error!(
                problem,
                "the identity provider's keys cannot be read: callers by token are refused until then"
            );
        }
    }

    /// Returns the key of a token's caller; `None` for a secret that is no token.
    ///
    /// # Errors
    ///
    /// The token does not count, or its caller is paused.
    pub(super) fn of_token(
        &self,
        shown: &str,
        digest: &[u8; 32],
        current: &KeySet,
        now: Duration,
    ) -> Result<Option<Arc<Key>>, Denial> {
        let Some(tokens) = self.tokens.as_ref().filter(|_| is_token(shown)) else { return Ok(None) };
        // A key of the caller's name decides in place of its tokens.
        let known = |name: &str| match current.named(name) {
            Some(key) => Some(KeySet::admit(key, now).cloned()),
            None => tokens.caller(name).map(Ok),
        };
        if let Some(key) = tokens.seen(digest, now).and_then(|name| known(&name)) {
            return key.map(Some);
        }
        let read = tokens.verifier.read_at();
        let claims = tokens.verifier.verify(shown).map_err(|error| match error {
            TokenError::KeysAway => Denial::KeysAway,
            error => Denial::Token(error),
        })?;
        let (record, limits) = tokens.record(&claims)?;
        let caller: Arc<str> = (*record.entry.name).into();
        let key = match current.named(&caller) {
            Some(key) => KeySet::admit(key, now).cloned(),
            None => tokens.admit(record, limits, claims.issued(), &current.teams),
        };
        lock(&tokens.seen).insert(*digest, SeenToken { ends: claims.ends(), read, caller });
        key.map(Some)
    }

    /// Returns the keys of callers by token, by name.
    pub(super) fn callers(&self) -> Vec<Arc<Key>> {
        let of = |tokens: &Tokens| lock(&tokens.callers).values().map(|caller| caller.key.clone()).collect();
        let mut keys: Vec<Arc<Key>> = self.tokens.as_ref().map(of).unwrap_or_default();
        keys.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        keys
    }
}
