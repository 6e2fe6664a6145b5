//! Requests handed over to people. Feature `handoff`.
//!
//! # When to use it, and when not
//!
//! Use it as the last tier of a [`Fallback`](crate::Fallback) if a request must not be lost when every model is down,
//! and for requests that [require a person](crate::LlmRequest::requires_human). The
//! [`Handoff`](crate::providers::Handoff) leaf writes the request down as a task and answers *pending*, or waits for
//! the answer. People find the tasks at a [`Desk`] and answer them. Do not use it as a queue for work that a model is
//! to do anyway: a feature can be [queued](crate::layers::fallback::AllOpen::Queue) without a person.
//!
//! # A task's life
//!
//! A task waits, is claimed by a person (or by a redrive, which calls a model again), and is answered once, or expires.
//! A claim expires after its *visibility*: a person who leaves does not block a task, and two people never answer the
//! same one. Messages about a task (a notification for people, a callback for the caller) are written down with the
//! change that they report, and sent until they arrive.
//!
//! # The store
//!
//! Tasks are in a [`TaskStore`]: SQLite or PostgreSQL. [`MemoryTasks`] end with the process, so the leaf refuses to
//! answer *pending* for them.

mod callbacks;
mod caller;
mod deliver;
mod delivery;
mod desk;
mod error;
pub(crate) mod head;
mod id;
mod limits;
mod list;
mod memory;
mod notify;
mod prior_attempt;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod record;
pub(crate) mod redrive;
pub(crate) mod request;
pub mod signature;
mod store;
mod task;

pub use self::{
    callbacks::{CallbackUrl, Callbacks},
    caller::CallerTask,
    deliver::{Deliveries, DeliveriesHandle},
    delivery::{Delivery, DeliveryKind, DeliveryState},
    desk::{Desk, PersonAnswer},
    error::DeskError,
    id::{InvalidTaskId, TaskId},
    limits::{TaskLimit, TaskLimits},
    list::{TaskFilter, TaskStats, TaskSummary},
    memory::MemoryTasks,
    notify::Notify,
    prior_attempt::PriorAttempt,
    redrive::{Redrive, RedriveHandle},
    request::StoredRequest,
    signature::{VerifyError, WebhookSecret},
    store::{DeliveryOutcome, RedriveScope, Release, TaskFuture, TaskScope, TaskStore},
    task::{
        Callback, Claimant, ClaimantKind, NewAnswer, NewTask, PREVIEW, Task, TaskAnswer, TaskClaim, TaskResult,
        TaskState,
    },
};

pub(crate) use self::{
    limits::{TaskUsage, UsageTotals},
    memory::SWEEP_LIMIT,
    task::PERSON,
};

/// Returns a duration in whole milliseconds.
pub(crate) fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
