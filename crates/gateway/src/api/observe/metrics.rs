//! `GET /metrics`, as Prometheus reads it.

use axum::{Router, extract::State, routing::get};
use http::{HeaderName, HeaderValue, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use steadfast::{
    StackHandle,
    events::metrics::{METRICS, Metrics, MetricsHandle},
};

use super::task_gauges::TaskGauges;
use crate::{api::unknown_paths::UnknownPaths, error::ServeError};

/// The metrics of a stack, and the page that they are on. The recorder is their own: nothing of the process's is changed.
pub(super) fn of(stack: &StackHandle) -> Result<(Metrics, MetricsPage), ServeError> {
    let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
    for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
        builder = builder
            .set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets)
            .map_err(|error| ServeError::Invalid(format!("{}: {error}", metric.name)))?;
    }
    let recorder = builder.build_recorder();
    let text = recorder.handle();
    let metrics = Metrics::with_recorder(recorder).stack(stack.clone());
    let sampler = metrics.handle();
    Ok((metrics, MetricsPage { stack: stack.clone(), text, sampler }))
}

/// The page. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct MetricsPage {
    stack: StackHandle,
    text: PrometheusHandle,
    sampler: MetricsHandle,
}

impl MetricsPage {
    /// What has to be done now and then where nobody scrapes: without it, the recorder keeps every single value.
    pub(super) fn upkeep(&self) {
        self.sample();
        self.text.run_upkeep();
    }

    fn sample(&self) {
        // The keys' change without a reload of the configuration.
        self.sampler.set_budgets(self.stack.budgets());
        self.sampler.sample();
    }
}

pub(super) fn router(page: MetricsPage, waiting: TaskGauges, unknown: UnknownPaths) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state((page, waiting, unknown))
}

async fn scrape(
    State((page, waiting, unknown)): State<(MetricsPage, TaskGauges, UnknownPaths)>,
) -> ([(HeaderName, HeaderValue); 1], String) {
    page.sample();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], page.text.render() + &waiting.metrics() + &unknown.metrics())
}
