//! What the gateway tells of itself: [`logs`], [`metrics`] at `/metrics`, the [`status`] at `/status` and
//! on a [`page`] at `/`, the alerts that the file asks for.
//!
//! All of it follows the stack's events, in a task beside the requests. None of the paths asks for a key: who scrapes and
//! who shows a badge has none, and nothing there is a prompt, an answer or a key.

mod ledger;
mod logs;
mod metrics;
pub(crate) mod page;
mod status;
#[cfg(feature = "otlp")]
mod traces;
mod waiting;

use std::{fmt, time::Duration};

use axum::Router;
use clap::Args;
use steadfast::{StackHandle, config::AlertTask, events::Following};
use tokio::{task::AbortHandle, time::sleep};

pub(crate) use self::logs::Log;
use self::{ledger::Ledger, metrics::Page, waiting::Waiting};
use super::unknown::UnknownPaths;
use crate::exit::Failure;

/// How the server tells of itself.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    log: logs::LogOptions,
    #[cfg(feature = "otlp")]
    #[command(flatten)]
    traces: traces::TraceOptions,
}

impl Options {
    /// Begins the log, for the whole process. Its last lines are written when what it gives is dropped.
    pub(crate) fn begin_log(&self) -> Result<Log, Failure> {
        self.log.begin()
    }
}

/// Follows a stack until it is dropped.
pub(crate) struct Observing {
    stack: StackHandle,
    page: Page,
    ledger: Ledger,
    waiting: Waiting,
    _following: Following,
    _alerting: AlertTask,
    #[cfg(feature = "otlp")]
    _tracing: Option<traces::Tracing>,
    sampling: AbortHandle,
}

/// How often is read what nobody tells of, where nobody asks.
const SAMPLED: Duration = Duration::from_secs(5);

impl Observing {
    /// Follows this stack from now on.
    pub(crate) fn begin(stack: &StackHandle, options: &Options) -> Result<Self, Failure> {
        let (metrics, page) = metrics::of(stack)?;
        // The board keeps itself from the first look on.
        let _ = stack.status();
        let ledger = Ledger::new();
        let following = stack.events().follow((options.log.subscriber(stack), metrics, ledger.clone()));
        let waiting = Waiting::of(stack);
        let sampled = (page.clone(), waiting.clone());
        let sampling = tokio::spawn(async move {
            let (page, waiting) = sampled;
            loop {
                page.upkeep();
                waiting.look().await;
                sleep(SAMPLED).await;
            }
        });
        let (alerting, sampling) = (stack.alert(), sampling.abort_handle());
        Ok(Self {
            stack: stack.clone(),
            page,
            ledger,
            waiting,
            _following: following,
            _alerting: alerting,
            #[cfg(feature = "otlp")]
            _tracing: options.traces.begin(stack.events())?,
            sampling,
        })
    }

    /// The paths at which it can be asked.
    pub(crate) fn router(&self, unknown: &UnknownPaths) -> Router {
        let status = status::router(self.stack.clone(), self.ledger.clone(), self.waiting.clone());
        metrics::router(self.page.clone(), self.waiting.clone(), unknown.clone()).merge(status).merge(page::router())
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        self.sampling.abort();
    }
}

impl fmt::Debug for Observing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observing").finish_non_exhaustive()
    }
}
