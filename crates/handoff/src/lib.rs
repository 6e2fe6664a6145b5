//! Requests handed over to people.
//!
//! # When to use it, and when not
//!
//! Use it as the last tier of a [`Fallback`](steadfast::Fallback) if a request must not be lost when every model is
//! down, and for requests that [require a person](steadfast::LlmRequest::with_human_required). The [`Handoff`] leaf
//! writes the request down as a task and answers *pending*, or waits for the answer. People find the tasks at a
//! [`Desk`] and answer them. Do not use it as a queue for work that a model is to do anyway: a feature can be
//! [queued](steadfast::layers::fallback::AllOpen::Queue) without a person.
//!
//! # A task's life
//!
//! A task waits, is claimed by a person (or by a redrive, which calls a model again), and is answered once, or expires.
//! A claim expires after its *visibility*: a person who leaves does not block a task, and two people never answer the
//! same one. Messages about a task (a notification for people, a callback for the caller) are written down with the
//! change that they report, and sent until they arrive.
//!
//! # Design
//!
//! A tier of people is a tier like any other, with three differences that `Tier::human` stands for. A request that
//! requires a person has a chain of such tiers only. A request that comes there brings the record of earlier failures
//! as an extension (`ledger::PriorAttempts`), from which the task has its reason. No session stays with the tier. The
//! leaf (`leaf.rs`) writes a task and says *pending*, or waits at the [`Desk`], which learns of its own answers at once
//! and looks for those of other processes once a second.
//!
//! [`TaskStore`] decides everything, one transaction for each method, by the store's own clock. One place decides for
//! all stores what a task's head alone decides (`head.rs`: who may claim, answer, give back), and one place reads rows
//! (`record.rs`). No state is written that follows from time: a task's columns and the clock say that it is waiting,
//! claimed or expired, so that nothing must run for a claim to lapse. Messages about a task are an outbox: a row beside
//! the task, in the same transaction, leased to its sender (`deliver.rs`), with an id that is the same each time. A
//! redrive is a claim like a person's, so that the two exclude each other. The sender makes the bodies, so that neither
//! the preview's text nor an address of the settings is kept.
//!
//! A feature that is queued (`AllOpen::Queue`) waits in memory, in its own future. Where tasks have a place, a request
//! that no tier answered in that time becomes a task (the stack's `queue.rs`, around the chains of tiers): no tier of
//! people, no notification, and redriven unasked. The store is not written while a caller waits: if the process ends
//! meanwhile, a caller with an idempotency key asks again.
//!
//! Nothing runs unasked: `StackHandle::hand_over` starts the background work, as `alert` does for alerts.
//!
//! # The store
//!
//! Tasks are in a [`TaskStore`]: SQLite or PostgreSQL. [`MemoryTasks`] end with the process, so the leaf refuses to
//! answer *pending* for them.

mod callbacks;
mod caller;
mod claimant;
mod deliver;
mod delivery;
mod desk;
mod error;
mod head;
mod id;
mod leaf;
mod limits;
mod list;
mod memory;
mod notify;
mod prior_attempt;
mod redrive;
pub(crate) mod request;
pub mod signature;
mod store;
mod task;
mod task_limit;

pub use self::{
    callbacks::{CallbackUrl, Callbacks},
    caller::CallerTask,
    claimant::{Claimant, ClaimantKind},
    deliver::{Deliveries, DeliveriesHandle},
    delivery::{Delivery, DeliveryKind, DeliveryState},
    desk::{Desk, PersonAnswer},
    error::DeskError,
    head::TaskHead,
    id::{InvalidTaskId, TaskId},
    leaf::Handoff,
    limits::{TaskLimits, TaskUsage, UsageTotals},
    list::{TaskFilter, TaskStats, TaskSummary},
    memory::{MemoryTasks, SWEEP_LIMIT},
    notify::Notify,
    prior_attempt::PriorAttempt,
    redrive::{Redrive, RedriveHandle, RedriveMarker},
    request::StoredRequest,
    signature::{VerifyError, WebhookSecret},
    store::{DeliveryOutcome, RedriveScope, Release, TaskFuture, TaskScope, TaskStore},
    task::{Callback, NewAnswer, NewTask, PREVIEW, Task, TaskAnswer, TaskClaim, TaskResult, TaskState},
    task_limit::TaskLimit,
};

pub use steadfast::response::ResponseFuture;

pub(crate) use self::task::PERSON;

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
