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
use steadfast_internal::recent::Recent;
use steadfast_oidc::{Claims, Issuer, TokenError, TokenVerifier};
use steadfast_stack::{Budget, Config, Oidc, OidcClaims};

use super::{
    Key, Keys,
    denial::Denial,
    entry::{KeyEntry, KeyRecord},
    set::KeySet,
};
use crate::{error::ServeError, lock::lock};

/// The most tokens whose callers are remembered, so that their next requests cost no signature.
const MOST_SEEN: usize = 100_000;
/// The most callers.
const MOST_CALLERS: usize = 100_000;
/// The longest name of a caller, in bytes.
const LONGEST_NAME: usize = 256;
/// The limits of tokens that name no others.
const DEFAULT: &str = "default";

/// The identity provider, and what its tokens' callers may do.
pub(super) struct Tokens {
    pub(super) verifier: Arc<TokenVerifier>,
    claims: OidcClaims,
    limits: HashMap<Box<str>, KeyRecord>,
    /// Tokens that were verified, by their hashes.
    seen: Mutex<Recent<[u8; 32], SeenToken>>,
}

/// A token that was verified.
#[derive(Clone)]
struct SeenToken {
    /// Its end, since 1970.
    ends: Duration,
    caller: Arc<str>,
}

/// A caller by token.
#[derive(Debug)]
pub(super) struct TokenCaller {
    pub(super) record: Arc<KeyRecord>,
    /// The time at which the token was issued that says so, since 1970.
    issued: Duration,
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
        if !oidc.algorithms.is_empty() {
            issuer = issuer.algorithms(oidc.algorithms.iter().map(String::as_str)).map_err(wrong)?;
        }
        let limits = oidc.limits.iter().map(|(name, fields)| {
            let record = limits(name, fields).map_err(|problem| wrong(format!("limits.{name}: {problem}")))?;
            match record.unknown_names(config).first() {
                Some(problem) => Err(wrong(format!("limits.{name}: {problem}"))),
                None => Ok((name.as_str().into(), record)),
            }
        });
        let limits = limits.collect::<Result<_, ServeError>>()?;
        let verifier = Arc::new(TokenVerifier::new(issuer));
        Ok(Self { verifier, claims: oidc.claims.clone(), limits, seen: Mutex::new(Recent::new(MOST_SEEN)) })
    }

    /// Returns the reason for which no token can be verified yet.
    pub(super) fn missing(&self) -> Option<&'static str> {
        self.verifier.is_unread().then_some("the identity provider's keys cannot be read")
    }

    /// Returns the caps of the limits, each for a caller of their name.
    fn caps(&self) -> Vec<Budget> {
        self.limits.values().filter_map(KeyRecord::cap).collect()
    }

    /// Returns the caller of a token that was seen before and goes on.
    fn seen(&self, digest: &[u8; 32], now: Duration) -> Option<Arc<str>> {
        let token = lock(&self.seen).get(digest)?;
        (now < token.ends).then_some(token.caller)
    }

    /// Returns the record of a caller by its claims.
    fn record(&self, claims: &Claims) -> Result<KeyRecord, Denial> {
        let name = claims.text(&self.claims.name).filter(|name| name.len() <= LONGEST_NAME);
        let name = name.ok_or(Denial::Token(TokenError::Claim))?;
        let named = self.claims.limits.iter().flat_map(|claim| claims.texts(claim));
        let limits = named.chain([DEFAULT]).find_map(|name| self.limits.get(name));
        let mut record = match limits {
            Some(limits) => limits.clone(),
            None if self.limits.is_empty() => KeyRecord::default(),
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
        Ok(record)
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
        if let Some(tokens) = &self.tokens
            && let Err(problem) = tokens.verifier.read_keys().await
        {
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
        if let Some(name) = tokens.seen(digest, now)
            && let Some(key) = current.named(&name)
        {
            return KeySet::admit(key, now).map(Some);
        }
        let claims = tokens.verifier.verify(shown).map_err(|error| match error {
            TokenError::KeysAway => Denial::KeysAway,
            error => Denial::Token(error),
        })?;
        let record = tokens.record(&claims)?;
        let name: Arc<str> = (*record.entry.name).into();
        self.admit_caller(record, claims.issued())?;
        lock(&tokens.seen).insert(*digest, SeenToken { ends: claims.ends(), caller: name.clone() });
        match self.current.load().named(&name) {
            Some(key) => KeySet::admit(key, now).map(Some),
            None => Err(Denial::NoLimits),
        }
    }

    /// Makes a caller known, unless a later token has said what it may.
    fn admit_caller(&self, record: KeyRecord, issued: Duration) -> Result<(), Denial> {
        {
            let mut sources = lock(&self.sources);
            if let Some(known) = sources.tokens.get_mut(&record.entry.name) {
                if *known.record == record {
                    known.issued = known.issued.max(issued);
                    return Ok(());
                }
                if known.issued > issued {
                    return Ok(());
                }
            } else if sources.tokens.len() >= MOST_CALLERS {
                return Err(Denial::KeysAway);
            }
        }
        let caller = TokenCaller { record: Arc::new(record), issued };
        let published = self.publish(|sources| {
            let name = caller.record.entry.name.clone();
            if sources.tokens.get(&name).is_none_or(|known| known.issued <= caller.issued) {
                sources.tokens.insert(name, caller);
            }
        });
        published.map(drop).map_err(|problem| {
            tracing::warn!(%problem, "a caller by token cannot be admitted");
            Denial::NoLimits
        })
    }
}
