use std::{fmt, sync::Arc};

use super::CircuitState;

/// An operator's change to a running stack, as in [`Event::Operated`](super::Event::Operated).
///
/// Its `Display` describes it in a few words: `drained sonnet`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A circuit was forced open or closed.
    CircuitForced {
        /// The circuit's name.
        circuit: Arc<str>,
        /// The forced state until release: open or closed.
        to: CircuitState,
    },
    /// A circuit judges on its own again.
    CircuitReleased {
        /// The circuit's name.
        circuit: Arc<str>,
    },
    /// A tier takes no new requests.
    TierDrained {
        /// The tier's name.
        tier: Arc<str>,
    },
    /// A tier takes requests again.
    TierUndrained {
        /// The tier's name.
        tier: Arc<str>,
    },
    /// A deployment of a tier takes no new requests.
    DeploymentDrained {
        /// The tier's name.
        tier: Arc<str>,
        /// The deployment's name.
        deployment: Arc<str>,
    },
    /// A deployment of a tier takes requests again.
    DeploymentUndrained {
        /// The tier's name.
        tier: Arc<str>,
        /// The deployment's name.
        deployment: Arc<str>,
    },
    /// Only tiers of this level of service or a worse one serve requests.
    LevelPinned {
        /// The level, from 1 to 5.
        level: u8,
        /// The feature whose requests are affected; `None` means all.
        feature: Option<Arc<str>>,
    },
    /// Tiers of any level serve requests again.
    LevelUnpinned {
        /// The feature whose requests are affected; `None` means all.
        feature: Option<Arc<str>>,
    },
    /// The cache's answers were deleted.
    AnswersForgotten {
        /// The feature whose answers were deleted; `None` means all.
        feature: Option<Arc<str>>,
    },
    /// The answers for a tenant or a session were deleted, in the cache and under idempotency keys.
    OwnerForgotten {
        /// The tenant, or the gateway's key; `None` means any.
        tenant: Option<Arc<str>>,
        /// The session; `None` means any.
        session: Option<Arc<str>>,
    },
}

impl Operation {
    /// A stable name in `snake_case`, for logs and metric labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CircuitForced { to: CircuitState::Open, .. } => "force_open",
            Self::CircuitForced { .. } => "force_close",
            Self::CircuitReleased { .. } => "release",
            Self::TierDrained { .. } | Self::DeploymentDrained { .. } => "drain",
            Self::TierUndrained { .. } | Self::DeploymentUndrained { .. } => "undrain",
            Self::LevelPinned { .. } => "pin_level",
            Self::LevelUnpinned { .. } => "unpin_level",
            Self::AnswersForgotten { .. } => "forget",
            Self::OwnerForgotten { .. } => "forget_owner",
        }
    }

    /// Returns the owner of the deleted answers: the tenant, or else the session.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::OwnerForgotten { tenant, session } => tenant.as_deref().or(session.as_deref()),
            _ => None,
        }
    }

    /// Returns the affected tier or circuit.
    pub fn tier(&self) -> Option<&Arc<str>> {
        match self {
            Self::CircuitForced { circuit: tier, .. }
            | Self::CircuitReleased { circuit: tier }
            | Self::TierDrained { tier }
            | Self::TierUndrained { tier }
            | Self::DeploymentDrained { tier, .. }
            | Self::DeploymentUndrained { tier, .. } => Some(tier),
            Self::LevelPinned { .. }
            | Self::LevelUnpinned { .. }
            | Self::AnswersForgotten { .. }
            | Self::OwnerForgotten { .. } => None,
        }
    }

    /// Returns the affected deployment of the [tier](Self::tier).
    pub fn deployment(&self) -> Option<&Arc<str>> {
        match self {
            Self::DeploymentDrained { deployment, .. } | Self::DeploymentUndrained { deployment, .. } => {
                Some(deployment)
            }
            _ => None,
        }
    }

    /// Returns the affected feature.
    pub fn feature(&self) -> Option<&Arc<str>> {
        match self {
            Self::LevelPinned { feature, .. }
            | Self::LevelUnpinned { feature }
            | Self::AnswersForgotten { feature } => feature.as_ref(),
            _ => None,
        }
    }

    /// Returns the pinned level.
    pub fn level(&self) -> Option<u8> {
        match self {
            Self::LevelPinned { level, .. } => Some(*level),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.feature().map_or("all requests", |feature| feature);
        match self {
            Self::CircuitForced { circuit, to } => write!(f, "forced {circuit} {to}"),
            Self::CircuitReleased { circuit } => write!(f, "released {circuit}"),
            Self::TierDrained { tier } => write!(f, "drained {tier}"),
            Self::TierUndrained { tier } => write!(f, "undrained {tier}"),
            Self::DeploymentDrained { tier, deployment } => write!(f, "drained {tier}/{deployment}"),
            Self::DeploymentUndrained { tier, deployment } => write!(f, "undrained {tier}/{deployment}"),
            Self::LevelPinned { level, .. } => write!(f, "pinned {of} to level {level}"),
            Self::LevelUnpinned { .. } => write!(f, "unpinned {of}"),
            Self::OwnerForgotten { tenant, session } => {
                f.write_str("forgot the answers")?;
                tenant.iter().try_for_each(|tenant| write!(f, " of {tenant}"))?;
                session.iter().try_for_each(|session| write!(f, " in the session {session}"))
            }
            Self::AnswersForgotten { feature: None } => f.write_str("forgot all cached answers"),
            Self::AnswersForgotten { .. } => write!(f, "forgot the cached answers of {of}"),
        }
    }
}
