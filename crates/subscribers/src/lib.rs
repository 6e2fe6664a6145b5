//! Subscribers of [events](steadfast::events): logs, metrics, spans, alerts, a status page.

pub mod alerts;
mod chains;
#[cfg(any(feature = "metrics", feature = "otel"))]
mod conventions;
mod line_limit;
mod logs;
#[cfg(feature = "metrics")]
pub mod metrics;
mod setup;
mod stack;
mod status;
#[cfg(test)]
mod testing;
#[cfg(feature = "otel")]
pub mod traces;
mod window;

pub use self::{
    line_limit::LineLimit,
    logs::Logs,
    stack::StackView,
    status::{
        CacheStatus, ChainSetup, ChainStatus, DeploymentStatus, LastFailure, Latency, RecentRequests, ServingState,
        Status, StatusBoard, Switch, TierHealth, TierSetup, TierStatus, TimeOnFallback,
    },
};

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
