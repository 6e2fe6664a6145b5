use steadfast::{ErrorKind, LlmError, error::ReachedLimit};
use steadfast_oidc::TokenError;

use crate::api::{
    body_error::BodyError,
    keys::{Denial, KeyHash},
};

/// The limit or the permission for which the gateway refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RefusalReason {
    KeyMissing,
    KeyUnknown,
    KeyExpired,
    KeyPaused,
    /// The identity provider's token does not count.
    Token,
    /// The store of the keys could not be read yet.
    KeysAway,
    /// A page of a foreign web site calls a gateway without keys, by its origin or by a name of its own.
    Origin,
    /// The path is for administrators or reviewers.
    Permission,
    Feature,
    Model,
    RequestsPerMinute,
    TokensPerMinute,
    Concurrency,
    Budget,
    /// The key's share of a feature's rate or places, or of a cap of money, while other keys want the rest.
    RequestsShare,
    TokensShare,
    ConcurrencyShare,
    BudgetShare,
    /// The cap has room, but for what requests in flight have reserved.
    BudgetReserved,
    /// The caller's own time is over.
    Deadline,
    Memory,
    BodySize,
    Connections,
}

impl RefusalReason {
    /// Returns the name in metrics, logs and records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KeyMissing => "key_missing",
            Self::KeyUnknown => "key_unknown",
            Self::KeyExpired => "key_expired",
            Self::KeyPaused => "key_paused",
            Self::Token => "token",
            Self::KeysAway => "keys_away",
            Self::Origin => "origin",
            Self::Permission => "permission",
            Self::Feature => "feature",
            Self::Model => "model",
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::Concurrency => "concurrency",
            Self::Budget => "budget",
            Self::RequestsShare => "requests_share",
            Self::TokensShare => "tokens_share",
            Self::ConcurrencyShare => "concurrency_share",
            Self::BudgetShare => "budget_share",
            Self::BudgetReserved => "budget_reserved",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::BodySize => "body_size",
            Self::Connections => "connections",
        }
    }

    /// Returns true if the key was refused for its share.
    pub(super) fn is_of_share(self) -> bool {
        matches!(self, Self::RequestsShare | Self::TokensShare | Self::ConcurrencyShare | Self::BudgetShare)
    }

    /// Returns the reason of a limit's share.
    fn of_share(self) -> Self {
        match self {
            Self::RequestsPerMinute => Self::RequestsShare,
            Self::TokensPerMinute => Self::TokensShare,
            Self::Concurrency => Self::ConcurrencyShare,
            Self::Budget => Self::BudgetShare,
            other => other,
        }
    }
}

/// The owner of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RefusalScope {
    /// The caller's key.
    Key,
    /// The team of the caller's key.
    Team,
    /// The request's feature.
    Feature,
    /// A tier of the chain; no other could serve.
    Tier,
    /// The caller: the time that its headers give.
    Caller,
    /// The gateway as a whole.
    Gateway,
}

impl RefusalScope {
    /// Returns the name in metrics, logs and records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Team => "team",
            Self::Feature => "feature",
            Self::Tier => "tier",
            Self::Caller => "caller",
            Self::Gateway => "gateway",
        }
    }
}

/// A refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: RefusalReason,
    pub(crate) scope: RefusalScope,
    /// The limit with its value, as the operator's file spells it.
    pub(crate) limit: Option<Box<str>>,
    /// The beginning of the hash of a key that is unknown.
    pub(crate) shown: Option<KeyHash>,
}

impl Refusal {
    fn new(reason: RefusalReason, scope: RefusalScope) -> Self {
        Self { reason, scope, limit: None, shown: None }
    }

    fn limit(mut self, limit: &str) -> Self {
        let end = limit.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_LIMIT);
        self.limit = Some(end.map_or_else(|| limit.into(), |end| format!("{}…", &limit[..end]).into()));
        self
    }

    /// Returns the refusal of a denied caller.
    pub(crate) fn of_denial(denied: &Denial) -> Self {
        let (reason, scope) = match denied {
            Denial::NoKey => (RefusalReason::KeyMissing, RefusalScope::Key),
            Denial::UnknownKey(_) => (RefusalReason::KeyUnknown, RefusalScope::Key),
            Denial::Expired(_) | Denial::Token(TokenError::Expired) => (RefusalReason::KeyExpired, RefusalScope::Key),
            Denial::Token(_) => (RefusalReason::Token, RefusalScope::Key),
            Denial::Paused(_) => (RefusalReason::KeyPaused, RefusalScope::Key),
            Denial::KeysAway => (RefusalReason::KeysAway, RefusalScope::Gateway),
            Denial::Feature(_) => (RefusalReason::Feature, RefusalScope::Key),
            Denial::Model(_) => (RefusalReason::Model, RefusalScope::Key),
            Denial::Origin | Denial::Host => (RefusalReason::Origin, RefusalScope::Gateway),
            Denial::NotAdmin(_)
            | Denial::NotReviewer(_)
            | Denial::Objects
            | Denial::NotPassed(_)
            | Denial::NoLimits => (RefusalReason::Permission, RefusalScope::Key),
            Denial::Rate(..) => (RefusalReason::RequestsPerMinute, RefusalScope::Key),
            Denial::Tokens(..) => (RefusalReason::TokensPerMinute, RefusalScope::Key),
            Denial::InFlight(_) => (RefusalReason::Concurrency, RefusalScope::Key),
            Denial::Share(denied) => {
                let Self { reason, scope, .. } = Self::of_denial(denied);
                (reason.of_share(), scope)
            }
            Denial::Team(_, denied) => (Self::of_denial(denied).reason, RefusalScope::Team),
        };
        let refusal = Self::new(reason, scope);
        let refusal = match denied.limit() {
            Some(limit) => refusal.limit(&limit),
            None => refusal,
        };
        match denied {
            Denial::UnknownKey(hash) => Self { shown: Some(*hash), ..refusal },
            _ => refusal,
        }
    }

    /// Returns the refusal that an error is; `None` for a failure.
    pub(crate) fn of(error: &LlmError, own_time: OwnTime) -> Option<Self> {
        if let Some(denied) = Denial::of(error) {
            return Some(Self::of_denial(&denied));
        }
        let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref());
        if let Some(body) = cause {
            let reason = match body {
                BodyError::TooLarge => RefusalReason::BodySize,
                BodyError::OutOfMemory(_) => RefusalReason::Memory,
                BodyError::TooSlow | BodyError::Broken | BodyError::Damaged | BodyError::Stopping => return None,
            };
            return Some(Self::new(reason, RefusalScope::Gateway).limit(error.message()));
        }
        if error.reached_limit() == Some(&ReachedLimit::Memory) {
            return Some(Self::new(RefusalReason::Memory, RefusalScope::Gateway).limit(error.message()));
        }
        let by_caller = match error.kind() {
            ErrorKind::Deadline => own_time != OwnTime::Unset,
            ErrorKind::Timeout => own_time == OwnTime::Over,
            _ => false,
        };
        if by_caller {
            return Some(Self::new(RefusalReason::Deadline, RefusalScope::Caller).limit(error.message()));
        }
        // The chain failed, and no single limit, if several tiers refused or failed.
        if !matches!(error.kind(), ErrorKind::BulkheadFull | ErrorKind::Budget)
            || error.attempts().iter().any(|step| !step.is_local())
        {
            return None;
        }
        let (reason, scope) = Self::of_limit(error.reached_limit()?)?;
        let of_tier = error.attempts().last().is_some_and(|step| step.tier.is_some());
        let scope = if of_tier { RefusalScope::Tier } else { scope };
        Some(Self::new(reason, scope).limit(error.message()))
    }
}

impl Refusal {
    /// Returns the reason and the scope of a limit on this side.
    fn of_limit(limit: &ReachedLimit) -> Option<(RefusalReason, RefusalScope)> {
        let whose = |of_key: bool, of_feature: bool, of_team: bool| match (of_key, of_team, of_feature) {
            (true, ..) => RefusalScope::Key,
            (_, true, _) => RefusalScope::Team,
            (.., true) => RefusalScope::Feature,
            _ => RefusalScope::Gateway,
        };
        Some(match limit {
            ReachedLimit::Concurrency => (RefusalReason::Concurrency, RefusalScope::Feature),
            ReachedLimit::Requests => (RefusalReason::RequestsPerMinute, RefusalScope::Feature),
            ReachedLimit::Tokens => (RefusalReason::TokensPerMinute, RefusalScope::Feature),
            ReachedLimit::Spending { of_key, of_feature, of_team, .. } => {
                (RefusalReason::Budget, whose(*of_key, *of_feature, *of_team))
            }
            ReachedLimit::Reserved { of_key, of_feature, of_team, .. } => {
                (RefusalReason::BudgetReserved, whose(*of_key, *of_feature, *of_team))
            }
            ReachedLimit::Share(of) => {
                let (reason, scope) = Self::of_limit(of)?;
                (reason.of_share(), scope)
            }
            _ => return None,
        })
    }
}

/// The time that a caller gives its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnTime {
    /// The caller set none.
    Unset,
    Running,
    Over,
}

/// The longest text of a limit, in bytes: a key may list many models.
const MAX_LIMIT: usize = 300;
