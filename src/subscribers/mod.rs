//! Subscribers of [events](crate::events): logs, metrics, spans, alerts, a status page.

pub mod alerts;
mod away;
#[cfg(any(feature = "metrics", feature = "otel"))]
mod conventions;
mod logs;
#[cfg(feature = "metrics")]
pub mod metrics;
mod stack;
mod status;
#[cfg(test)]
mod testing;
#[cfg(feature = "otel")]
pub mod traces;
mod window;

pub use self::{
    logs::Logs,
    stack::StackView,
    status::{
        CacheStatus, Latency, RecentRequests, ServingState, Status, StatusBoard, Switch, TierHealth, TierStatus,
        TimeOnFallback,
    },
};
