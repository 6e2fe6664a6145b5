//! `GET /metrics`, as Prometheus reads it.

use std::sync::Arc;

use axum::{Router, extract::State, middleware::from_fn_with_state, routing::get};
use http::{HeaderName, HeaderValue, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use steadfast_stack::StackHandle;
use steadfast_subscribers::metrics::{METRICS, Metrics, MetricsHandle};

use super::{
    recent::{Recent, reuse},
    task_gauges::TaskGauges,
};
use crate::{api::GatewayState, error::ServeError};

/// Creates the metrics of a stack, and their page. The recorder is private: the process's own stays untouched.
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

/// The metrics page. Clones share the recorder.
#[derive(Clone, Debug)]
pub(super) struct MetricsPage {
    stack: StackHandle,
    text: PrometheusHandle,
    sampler: MetricsHandle,
}

impl MetricsPage {
    /// Does the recorder's periodic work: without scrapes, it would keep every single value.
    pub(super) fn upkeep(&self) {
        self.sample();
        self.text.run_upkeep();
    }

    fn sample(&self) {
        // Keys and their caps change without a reload of the configuration.
        self.sampler.set_budgets(self.stack.budgets());
        self.sampler.sample();
    }
}

pub(super) fn router(page: MetricsPage, waiting: TaskGauges, gateway: Arc<GatewayState>) -> Router {
    let scrape = get(scrape).layer(from_fn_with_state(Recent::default(), reuse));
    Router::new().route("/metrics", scrape).with_state((page, waiting, gateway))
}

async fn scrape(
    State((page, waiting, gateway)): State<(MetricsPage, TaskGauges, Arc<GatewayState>)>,
) -> ([(HeaderName, HeaderValue); 1], String) {
    page.sample();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], page.text.render() + &waiting.metrics() + &gateway.counters())
}
