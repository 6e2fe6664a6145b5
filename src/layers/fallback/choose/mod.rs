//! The settings of a fallback, and the choice of the tiers that a request may go to.

mod capabilities;
mod chain;
mod config;
mod exclusion;
mod feature_policy;
mod known_chains;
mod known_failures;
mod models;
mod names;
mod policy;
mod tier;
mod tier_settings;
mod way;

pub use self::{
    capabilities::Capabilities,
    feature_policy::FeaturePolicy,
    known_chains::ChainInfo,
    models::model_fit,
    policy::{AllOpen, SessionPolicy, SessionSettings, StreamBreak},
    tier::Tier,
    tier_settings::TierSettings,
};
pub(super) use self::{
    chain::{Chain, Tiers},
    config::Config,
    exclusion::{ExcludedTier, ExclusionReason, exclusions},
    feature_policy::{Policies, Policy, PolicyTerms},
    known_chains::{KnownChain, KnownChains},
    models::Models,
    names::Names,
    tier::TierFacts,
    way::{Detour, Finish},
};
