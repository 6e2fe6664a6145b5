//! The gateway's reports on itself: [`logs`], [`metrics`] at `/metrics`, the [`status`] at `/status` and on a [`page`]
//! at `/`, and the file's alerts.
//!
//! All of it follows the stack's events, in a task beside the requests. None of the paths needs a key: scrapers and
//! badges have none, and nothing there is a prompt, an answer or a key.

mod ledger;
mod logs;
mod metrics;
pub(crate) mod page;
mod recent;
mod status;
mod task_gauges;
#[cfg(feature = "otlp")]
mod traces;

use std::{fmt, sync::Arc, time::Duration};

use axum::Router;
use steadfast::events::Subscription;
use steadfast_stack::{AlertTask, StackHandle};
use tokio::{task::AbortHandle, time::sleep};

pub use self::logs::LogFormat;
pub(crate) use self::logs::{Log, LogOptions};
use self::{ledger::Ledger, metrics::MetricsPage, task_gauges::TaskGauges};
use super::GatewayState;
use crate::error::ServeError;

/// The options of the log and the traces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    pub(crate) log: LogOptions<'a>,
    /// The OpenTelemetry collector that takes a trace of each request.
    pub(crate) otlp_endpoint: Option<&'a str>,
}

/// A follower of a stack's events, until it is dropped.
pub(crate) struct Observer {
    stack: StackHandle,
    page: MetricsPage,
    ledger: Ledger,
    waiting: TaskGauges,
    _subscription: Subscription,
    _alerting: AlertTask,
    #[cfg(feature = "otlp")]
    _tracing: Option<traces::TraceExporter>,
    sampling: AbortHandle,
}

/// The interval at which values without events are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

impl Observer {
    /// Starts to follow this stack.
    pub(crate) fn begin(stack: &StackHandle, options: Options<'_>) -> Result<Self, ServeError> {
        #[cfg(not(feature = "otlp"))]
        if options.otlp_endpoint.is_some_and(|url| !url.trim().is_empty()) {
            tracing::warn!("no traces: this build lacks the feature `otlp`; `cargo build --features otlp` has it");
        }
        let (metrics, page) = metrics::of(stack)?;
        // The first look starts the status board.
        let _ = stack.status();
        let ledger = Ledger::new();
        let subscription = stack.events().follow((options.log.subscriber(stack), metrics, ledger.clone()));
        let waiting = TaskGauges::of(stack);
        let sampled = (page.clone(), waiting.clone());
        let sampling = tokio::spawn(async move {
            let (page, waiting) = sampled;
            loop {
                page.upkeep();
                waiting.look().await;
                sleep(SAMPLE_INTERVAL).await;
            }
        });
        let (alerting, sampling) = (stack.alert(), sampling.abort_handle());
        Ok(Self {
            stack: stack.clone(),
            page,
            ledger,
            waiting,
            _subscription: subscription,
            _alerting: alerting,
            #[cfg(feature = "otlp")]
            _tracing: traces::TraceExporter::begin(options.otlp_endpoint, stack.events())?,
            sampling,
        })
    }

    /// Returns the paths of the metrics, the status and the page.
    pub(crate) fn router(&self, gateway: Arc<GatewayState>) -> Router {
        let status = status::router(self.stack.clone(), self.ledger.clone(), self.waiting.clone());
        metrics::router(self.page.clone(), self.waiting.clone(), gateway).merge(status).merge(page::router())
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.sampling.abort();
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}
