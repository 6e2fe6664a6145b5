//! The reasons for which a caller is refused.

use std::{error, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use steadfast::{LlmError, error::ReachedLimit, layers::bulkhead::CallerLimitReached};
use steadfast_oidc::TokenError;

/// The reason for which a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// No key was shown.
    NoKey,
    /// The key is unknown.
    UnknownKey(KeyHash),
    /// The key of this name has expired.
    Expired(Arc<str>),
    /// The key of this name is paused.
    Paused(Arc<str>),
    /// The gateway could not read the keys of its store or of the identity provider yet.
    KeysAway,
    /// The identity provider's token does not count.
    Token(TokenError),
    /// The token names none of the limits for callers by token.
    NoLimits,
    /// The key is for these features alone.
    Feature(Arc<[Box<str>]>),
    /// The key is for these models alone.
    Model(Arc<[Box<str>]>),
    /// The gateway has no keys, and the request comes from a foreign web page.
    Origin,
    /// The gateway has no keys, and the request calls it by a name that is not this machine's.
    Host,
    /// Only an administrator's key would do for this path.
    NotAdmin(Box<str>),
    /// Only a reviewer's key would do for this path.
    NotReviewer(Box<str>),
    /// The key is for no objects.
    Objects,
    /// Only a key with `pass_through` would do for this path, which the gateway does not know.
    NotPassed(Box<str>),
    /// The key's rate is used up for this long; the number is its limit.
    Rate(Duration, NonZeroU32),
    /// The key's tokens are used up for this long, or are always too few; the number is their limit, if it is known.
    Tokens(Option<Duration>, Option<NonZeroU32>),
    /// The key has as many requests in flight as it may: this number, if it is known.
    InFlight(Option<NonZeroU32>),
    /// The key has its share of such a limit, and other keys want the rest.
    Share(Box<Self>),
    /// The same of a limit of the key's team.
    Team(Arc<str>, Box<Self>),
}

/// The beginning of a key's hash. It finds the key's entry in a file, and does not give the key away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash([u8; 4]);

impl KeyHash {
    pub(crate) fn of(shown: &str) -> Self {
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(shown).into();
        Self([a, b, c, d])
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{:08x}", u32::from_be_bytes(self.0))
    }
}

impl Denial {
    /// Returns the denial in an error, if it is about the caller's key.
    pub(crate) fn of(error: &LlmError) -> Option<Self> {
        let source = error::Error::source(error)?;
        match source.downcast_ref::<CallerLimitReached>() {
            None => source.downcast_ref().cloned(),
            Some(_) => Some(match error.reached_limit().map(ReachedLimit::whole) {
                Some(ReachedLimit::Tokens) => Self::Tokens(error.retry_after(), None),
                _ => Self::InFlight(None),
            }),
        }
    }

    /// Returns the time after which the key may ask again, if it is known.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Rate(wait, _) => Some(*wait),
            Self::Tokens(wait, _) => *wait,
            Self::KeysAway => Some(Duration::from_secs(1)),
            Self::Share(denied) | Self::Team(_, denied) => denied.wait(),
            _ => None,
        }
    }

    /// Makes it one of a share, if it is.
    pub(super) fn of_share(self, is_share: bool) -> Self {
        if is_share { Self::Share(self.into()) } else { self }
    }

    /// Returns true if no time lets the same request pass.
    pub(crate) fn is_for_good(&self) -> bool {
        match self {
            Self::Share(denied) | Self::Team(_, denied) => denied.is_for_good(),
            denied => matches!(denied, Self::Tokens(None, _)),
        }
    }

    /// Returns the key's limit and its value, as the file of keys spells them.
    pub(crate) fn limit(&self) -> Option<String> {
        match self {
            Self::Feature(allowed) => Some(format!("features: {}", allowed.join(", "))),
            Self::Model(allowed) => Some(format!("models: {}", allowed.join(", "))),
            Self::Rate(_, limit) => Some(format!("requests_per_minute: {limit}")),
            Self::Tokens(_, limit) => Some(format!("tokens_per_minute: {}", (*limit)?)),
            Self::InFlight(limit) => Some(format!("concurrency: {}", (*limit)?)),
            Self::Share(denied) => denied.limit(),
            Self::Team(team, denied) => Some(format!("gateway.teams.{team}.{}", denied.limit()?)),
            Self::NotAdmin(path) => Some(format!("admin: true, for {path}")),
            Self::NotReviewer(path) => Some(format!("handoff: true, for {path}")),
            Self::Objects => Some("objects: false".to_owned()),
            Self::NotPassed(path) => Some(format!("pass_through: true, for {path}")),
            Self::Paused(_) => Some("paused: true".to_owned()),
            Self::Token(problem) => Some(format!("gateway.oidc: {problem}")),
            Self::NoLimits => Some("gateway.oidc.limits".to_owned()),
            Self::NoKey | Self::UnknownKey(_) | Self::Expired(_) | Self::KeysAway | Self::Origin | Self::Host => None,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(problem) => return problem.fmt(f),
            Self::Share(denied) => return write!(f, "other keys want the rest: {denied}"),
            Self::Team(_, denied) => match &**denied {
                Self::Share(_) => "other keys of this key's team want the rest of its limit",
                Self::Rate(..) => "the requests per minute of this key's team are used up",
                Self::Tokens(None, _) => "the request alone is over the tokens per minute of this key's team",
                Self::Tokens(..) => "the tokens per minute of this key's team are used up",
                _ => "this key's team has reached its limit of requests in flight",
            },
            Self::NoLimits => "the gateway has no limits for the callers of this token: ask who runs it",
            Self::NoKey => {
                "no key: send one of the gateway's in `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or `api-key`"
            }
            Self::UnknownKey(_) => "the gateway does not know this key",
            Self::Expired(_) => "this key has expired",
            Self::Paused(_) => "this key is paused: ask who runs the gateway",
            Self::KeysAway => "the gateway cannot read its keys at the moment: try again",
            Self::Feature(_) => "this key is not for this feature",
            Self::Model(_) => "this key is not for this model",
            Self::Origin => {
                "web pages may only call a gateway that has keys, or that lists their origin under `gateway.cors`"
            }
            Self::Host => {
                "without keys this gateway answers only to names of this machine, such as localhost or its address: give it \
                 keys, list the origin under `gateway.cors`, or start it with --insecure-no-auth"
            }
            Self::NotAdmin(_) => "only an administrator's key may see this",
            Self::NotReviewer(_) => "only a reviewer's key may see this",
            Self::Objects => "this key is not for files, batches and other objects",
            Self::NotPassed(_) => {
                "this key is not for paths that the gateway does not know: it needs `pass_through: true`, or the path \
                 under `lane.other`"
            }
            Self::Rate(..) => "this key's requests per minute are used up",
            Self::Tokens(None, _) => "the request alone is over this key's tokens per minute",
            Self::Tokens(..) => "this key's tokens per minute are used up",
            Self::InFlight(_) => "this key has reached its limit of requests in flight",
        })
    }
}

impl error::Error for Denial {}
